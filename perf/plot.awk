# plot.awk: one SVG per family of workloads that has sizes: cost against size, both axes logarithmic.
#
# Input as report.awk's. Variables: folder (where the files go), names (contenders in order). A family is a
# workload's name without its number: "turns", "shell-2gib". The points are medians of the runs.

BEGIN {
    FS = "\t"
    split("#d1495b #30638e #00798c #edae49 #5c4d7d #6a994e #8d99ae #b56576 #444444", colors, " ")
    left = 70; right = 190; top = 40; bottom = 50; width = 760; height = 420
}

function text_of(line, field,    at) {
    if (!match(line, "\"" field "\":\"[^\"]*\"")) return ""
    at = RSTART + length(field) + 4
    return substr(line, at, RSTART + RLENGTH - 1 - at)
}

function number_of(line, field) {
    if (!match(line, "\"" field "\":[-+.0-9e]+")) return ""
    return substr(line, RSTART + length(field) + 3, RLENGTH - length(field) - 3) + 0
}

{
    workload = text_of($2, "workload")
    if (!match(workload, /-[0-9]+(-2gib)?$/)) next
    family = workload
    sub(/-[0-9]+$/, "", family)
    sub(/-[0-9]+-2gib$/, "-2gib", family)
    size = workload
    sub(/-2gib$/, "", size)
    sub(/.*-/, "", size)
    contender = text_of($2, "contender")
    unit[family] = text_of($2, "unit")
    if (!(family in sizes)) families[++families_count] = family
    if (!((family, size) in known)) {
        known[family, size] = 1
        sizes[family] = sizes[family] " " size
    }
    runs[family, contender, size] = runs[family, contender, size] " " number_of($2, "value")
}

function sort_numbers(text, out,    n, i, j, key) {
    n = split(text, out, " ")
    for (i = 2; i <= n; i++) {
        key = out[i] + 0
        for (j = i - 1; j >= 1 && out[j] + 0 > key; j--) out[j + 1] = out[j]
        out[j + 1] = key
    }
    return n
}

function median(text,    n, list) {
    n = sort_numbers(text, list)
    return n % 2 ? list[(n + 1) / 2] + 0 : (list[n / 2] + list[n / 2 + 1]) / 2
}

function log10(value) { return log(value) / log(10) }
function floor(value,    whole) { whole = int(value); return whole > value ? whole - 1 : whole }
function x_of(size) {
    return left + (x_most == x_least ? 0.5 : (log10(size) - x_least) / (x_most - x_least)) * \
        (width - left - right)
}
function y_of(value) {
    return height - bottom - (log10(value) - y_least) / (y_most - y_least) * (height - top - bottom)
}
function short(value) {
    if (value >= 1000000) return value / 1000000 " M"
    if (value >= 1000) return value / 1000 " k"
    return value ""
}

function label(x, y, anchor, text) {
    printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text > file
}

function axes(family, list, count,    i, decade) {
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" " \
        "font-family=\"sans-serif\" font-size=\"12\">\n", width, height > file
    printf "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height > file
    label(left, 22, "start", family ": " unit[family] " against size")
    for (decade = y_least; decade <= y_most; decade++) {
        printf "<path d=\"M%d %.1fH%d\" stroke=\"#dddddd\"/>\n", left, y_of(10 ^ decade), \
            width - right > file
        label(left - 8, y_of(10 ^ decade) + 4, "end", short(10 ^ decade))
    }
    for (i = 1; i <= count; i++) label(x_of(list[i]), height - bottom + 20, "middle", short(list[i]))
}

function curve(family, contender, color, row, list, count,    i, path, value) {
    for (i = 1; i <= count; i++) {
        if (!((family, contender, list[i]) in runs)) continue
        value = median(runs[family, contender, list[i]])
        if (value <= 0) continue
        path = path sprintf("%s%.1f %.1f", path == "" ? "M" : "L", x_of(list[i]), y_of(value))
        printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x_of(list[i]), \
            y_of(value), color > file
    }
    if (path == "") return 0
    printf "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%d\"/>\n", path, color, \
        contender == "toolring" ? 3 : 1.5 > file
    printf "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", \
        width - right + 20, top + 20 * row, color > file
    label(width - right + 38, top + 20 * row + 11, "start", contender)
    return 1
}

function plot(family,    list, count, i, c, value, least, most, row) {
    count = sort_numbers(sizes[family], list)
    for (i = 1; i <= count; i++)
        for (c = 1; c <= names_count; c++) {
            if (!((family, contenders[c], list[i]) in runs)) continue
            value = median(runs[family, contenders[c], list[i]])
            if (value <= 0) continue
            least = least == "" || value < least ? value : least
            most = most == "" || value > most ? value : most
        }
    if (least == "") return
    y_least = floor(log10(least)); y_most = floor(log10(most)) + 1
    x_least = log10(list[1]); x_most = log10(list[count])
    file = folder "/" family ".svg"
    axes(family, list, count)
    for (c = 1; c <= names_count; c++) row += curve(family, contenders[c], colors[c], row, list, count)
    print "</svg>" > file
    close(file)
}

END {
    names_count = split(names, contenders, " ")
    for (f = 1; f <= families_count; f++) plot(families[f])
}
