# report.awk: from the lines of the runs to a table, Markdown or JSON.
#
# Input: ROUND <tab> LINE, where LINE is the JSON of measure.h: flat but for "also" and "parameters", names
# without quotes in them, every value a number, a word or a plain string.
#
# Variables: form (table, markdown, json; brief: Markdown with the figure that counts alone), machine, seed, pairs, quick, wanted (workloads in order), names
# (contenders in order, toolring first).

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

# median, least, most of one figure, as globals.
function measure(workload, contender, figure,    n) {
    n = sort_numbers(runs[workload, contender, figure])
    median = middle(n); least = sorted[1]; most = sorted[n]
}

# Median over the rounds of "how many times better is toolring"; "" if there is none.
function ratio(workload, contender, figure,    r, text, ours, theirs, n) {
    for (r = 1; r <= rounds; r++) {
        if (!((workload, "toolring", figure, r) in at_round)) continue
        if (!((workload, contender, figure, r) in at_round)) continue
        ours = at_round[workload, "toolring", figure, r]
        theirs = at_round[workload, contender, figure, r]
        if (ours <= 0 || theirs <= 0) continue
        # So many of something in a second: more is better; of anything else: less.
        text = text " " (figure ~ /\/s( |$)/ ? ours / theirs : theirs / ours)
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

# Pads by characters, not bytes: µ and × take two bytes and one column.
function pad(text, width,    plain) {
    plain = text
    gsub(/µ|×|–/, "u", plain)
    while (length(plain) < width) { plain = plain " "; text = text " " }
    return text
}
function pad_left(text, width,    plain) {
    plain = text
    gsub(/µ|×|–/, "u", plain)
    while (length(plain) < width) { plain = " " plain; text = " " text }
    return text
}

function table(    w, c, f, count, list, label) {
    print pad("workload", 24) pad("figure", 26) pad("contender", 14) pad_left("median", 12) \
        "  " pad("min – max", 22) pad_left("ratio", 8)
    for (w = 1; w <= workloads_count; w++) {
        count = split(figures[workloads[w]], list, "|")
        label = workloads[w]
        for (f = 1; f <= count; f++) {
            for (c = 1; c <= names_count; c++) {
                if (!((workloads[w], contenders[c], list[f]) in runs)) continue
                measure(workloads[w], contenders[c], list[f])
                print pad(label, 24) pad(list[f], 26) pad(contenders[c], 14) \
                    pad_left(figure_text(median), 12) "  " \
                    pad(rounds > 1 ? figure_text(least) " – " figure_text(most) : "", 22) \
                    pad_left(c > 1 ? ratio_text(ratio(workloads[w], contenders[c], list[f])) : "", 8)
                label = ""
            }
        }
    }
    print "\n" machine "; seed " seed "; " pairs " pair(s)" (quick ? ", quick" : "")
    for (w = 1; w <= workloads_count; w++)
        if ((workloads[w], "toolring") in seen)
            print "  " workloads[w] ": " plain_parameters(workloads[w], "toolring")
}

function plain_parameters(workload, contender,    text) {
    text = parameters[workload, contender]
    gsub(/"/, "", text); gsub(/:/, " ", text); gsub(/,/, ", ", text)
    return text
}

function markdown(    w, c, f, count, list, times, versions) {
    printf "| workload | figure | toolring |"
    for (c = 2; c <= names_count; c++) printf " %s |", contenders[c]
    printf "\n|---|---|---:|"
    for (c = 2; c <= names_count; c++) printf "---:|"
    print ""
    for (w = 1; w <= workloads_count; w++) {
        count = split(figures[workloads[w]], list, "|")
        for (f = 1; f <= (form == "brief" && count > 1 ? 1 : count); f++) {
            printf "| %s | %s |", f == 1 ? "`" workloads[w] "`" : "", list[f]
            for (c = 1; c <= names_count; c++) {
                if (!((workloads[w], contenders[c], list[f]) in runs)) { printf " |"; continue }
                measure(workloads[w], contenders[c], list[f])
                printf " %s", figure_text(median)
                times = c == 1 ? "" : ratio(workloads[w], contenders[c], list[f])
                printf "%s |", (times == "" ? "" : " (" ratio_text(times) ")")
            }
            print ""
        }
    }
    for (c = 1; c <= names_count; c++)
        if (contenders[c] in version)
            versions = versions (versions == "" ? "" : ", ") contenders[c] " " version[contenders[c]]
    print "\nMedians of " pairs " interleaved pair(s)" (quick ? " (quick)" : "") ", seed " seed ", on " \
        machine ". In brackets: how many times better toolring is. " versions "."
}

function three(workload, contender, figure) {
    measure(workload, contender, figure)
    return sprintf("\"median\":%.6g,\"min\":%.6g,\"max\":%.6g", median, least, most)
}

function side(workload, contender, list, count,    f, text, r, sep) {
    text = three(workload, contender, unit[workload])
    r = contender == "toolring" ? "" : ratio(workload, contender, unit[workload])
    if (r != "") text = text sprintf(",\"ratio\":%.4g", r)
    text = text ",\"also\":{"
    sep = ""
    for (f = 1; f <= count; f++) {
        if (list[f] == unit[workload] || !((workload, contender, list[f]) in runs)) continue
        text = text sep "\"" list[f] "\":{" three(workload, contender, list[f]) "}"
        sep = ","
    }
    return "{" text "},\"parameters\":{" parameters[workload, contender] "}}"
}

function json(    w, c, count, list, sep_w, sep_c) {
    gsub(/["\\]/, "", machine)
    printf "{\"machine\":{\"description\":\"%s\"},\"seed\":%d,\"pairs\":%d,\"quick\":%s,\"workloads\":[", \
        machine, seed, pairs, quick ? "true" : "false"
    for (w = 1; w <= workloads_count; w++) {
        if (!((workloads[w], "toolring") in seen)) continue
        count = split(figures[workloads[w]], list, "|")
        printf "%s\n{\"name\":\"%s\",\"unit\":\"%s\",\"toolring\":%s,\"peers\":{", sep_w, workloads[w], \
            unit[workloads[w]], side(workloads[w], "toolring", list, count)
        sep_w = ","
        sep_c = ""
        for (c = 2; c <= names_count; c++) {
            if (!((workloads[w], contenders[c]) in seen)) continue
            printf "%s\"%s\":%s", sep_c, contenders[c], side(workloads[w], contenders[c], list, count)
            sep_c = ","
        }
        printf "}}"
    }
    print "\n]}"
}

END {
    workloads_count = split(wanted, workloads, " ")
    names_count = split(names, contenders, " ")
    if (form == "table") table()
    else if (form == "json") json()
    else markdown()
}
