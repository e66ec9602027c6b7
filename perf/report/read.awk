# read.awk: reads the lines of the runs; medians, ratios, spreads. The other files of this folder print.
#
# Input: ROUND <tab> LINE <tab> MILLISECONDS, where LINE is the JSON of measure.h: flat but for "also", "counts" and
# "parameters", names without quotes in them, every value a number, a word or a plain string. ROUND is a
# number, or "counts" for the run that only counted; the milliseconds are for whoever trims --quick.
#
# Variables: machine, seed, pairs, quick, wanted (workloads in order), names (contenders in order, toolring
# first).

BEGIN { FS = "\t" }

# text_of("…", "unit"): the string value of a field of the line.
function text_of(line, field,    at) {
    if (!match(line, "\"" field "\":\"[^\"]*\"")) return ""
    at = RSTART + length(field) + 4
    return substr(line, at, RSTART + RLENGTH - 1 - at)
}

function number_of(line, field) {
    if (!match(line, "\"" field "\":[-+.0-9e]+")) return ""
    return substr(line, RSTART + length(field) + 3, RLENGTH - length(field) - 3) + 0
}

# The inside of "field":{…}.
function object_of(line, field) {
    if (!match(line, "\"" field "\":{[^}]*}")) return ""
    return substr(line, RSTART + length(field) + 4, RLENGTH - length(field) - 5)
}

function note(workload, contender, figure, round, value) {
    runs[workload, contender, figure] = runs[workload, contender, figure] " " value
    at_round[workload, contender, figure, round] = value
    if (!((workload, figure) in known)) {
        known[workload, figure] = 1
        figures[workload] = figures[workload] (figures[workload] == "" ? "" : "|") figure
    }
}

{
    workload = text_of($2, "workload")
    contender = text_of($2, "contender")
    if (contender == "toolring" && object_of($2, "counts") != "")
        counts[workload] = object_of($2, "counts") # the counting run comes last
    if ($1 == "counts") next
    seen[workload, contender] = 1
    unit[workload] = text_of($2, "unit")
    version[contender] = text_of($2, "version")
    parameters[workload, contender] = object_of($2, "parameters")
    note(workload, contender, unit[workload], $1, number_of($2, "value"))
    count = split(object_of($2, "also"), list, ",")
    for (i = 1; i <= count; i++) {
        colon = index(list[i], "\":")
        note(workload, contender, substr(list[i], 2, colon - 2), $1, substr(list[i], colon + 2) + 0)
    }
    if ($1 > rounds) rounds = $1
}

# Before anything is printed.
function prepare() {
    workloads_count = split(wanted, workloads, " ")
    names_count = split(names, contenders, " ")
}

# Sorts the numbers of a text into sorted[1 … n]; returns n.
function sort_numbers(text,    n, i, j, key) {
    n = split(text, sorted, " ")
    for (i = 1; i <= n; i++) sorted[i] += 0
    for (i = 2; i <= n; i++) {
        key = sorted[i]
        for (j = i - 1; j >= 1 && sorted[j] > key; j--) sorted[j + 1] = sorted[j]
        sorted[j + 1] = key
    }
    return n
}

function middle(n) { return n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2 }

function has(workload, contender, figure) { return (workload, contender, figure) in runs }

# median, least, most of one figure, as globals.
function measure(workload, contender, figure,    n) {
    n = sort_numbers(runs[workload, contender, figure])
    median = middle(n); least = sorted[1]; most = sorted[n]
}

# So many of something in a second: more is better; of anything else: less.
function is_rate(figure) { return figure ~ /\/s( |$)/ }

# Median over the rounds of "how many times better is toolring"; "" if there is none. `own`: the figure of toolring's
# that is compared, if it is another one.
function ratio(workload, contender, figure, own,    r, text, ours, theirs, n) {
    own = own == "" ? figure : own
    for (r = 1; r <= rounds; r++) {
        if (!((workload, "toolring", own, r) in at_round)) continue
        if (!((workload, contender, figure, r) in at_round)) continue
        ours = at_round[workload, "toolring", own, r]
        theirs = at_round[workload, contender, figure, r]
        if (ours <= 0 || theirs <= 0) continue
        text = text " " (is_rate(figure) ? ours / theirs : theirs / ours)
    }
    if (text == "") return ""
    n = sort_numbers(text)
    return middle(n)
}

# Three digits that count, large ones with spaces between the thousands.
function figure_text(value,    text, out) {
    if (value != 0 && value < 0.0995) return sprintf("%.3g", value)
    if (value < 9.995) return sprintf("%.2f", value)
    if (value < 99.95) return sprintf("%.1f", value)
    text = sprintf("%.0f", value)
    while (length(text) > 3) {
        out = " " substr(text, length(text) - 2) out
        text = substr(text, 1, length(text) - 3)
    }
    return text out
}

function ratio_text(value) { return value == "" ? "" : figure_text(value) " ×" }

# (most - least) / median, of what measure has left.
function spread_text() {
    return rounds < 2 || median == 0 ? "" : sprintf("%.0f %%", (most - least) / median * 100)
}

function plain(text) {
    gsub(/"/, "", text); gsub(/:/, " ", text); gsub(/,/, ", ", text)
    return text
}

# "background" of "background-1000", "shell-2gib" of "shell-8-2gib"; "" if the name has no size.
function family_of(workload,    family) {
    if (workload !~ /-[0-9]+(-2gib)?$/) return ""
    family = workload
    sub(/-[0-9]+$/, "", family)
    sub(/-[0-9]+-2gib$/, "-2gib", family)
    return family
}

function size_of(workload) {
    sub(/-2gib$/, "", workload)
    sub(/.*-/, "", workload)
    return workload + 0
}
