# plot.awk: one SVG per family of workloads that has sizes: cost against size, both axes logarithmic. See
# read.awk. Also needs: folder, where the files go. Prints their names.
#
# A family is a workload's name without its number: "turns", "shell-2gib". The points are medians.

BEGIN {
    split("#d1495b #30638e #00798c #edae49 #5c4d7d #6a994e #8d99ae #b56576 #444444", colors, " ")
    left = 70; right = 190; top = 40; bottom = 50; width = 760; height = 420
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
    label(left, 22, "start", family ": " family_unit " against size")
    for (decade = y_least; decade <= y_most; decade++) {
        printf "<path d=\"M%d %.1fH%d\" stroke=\"#dddddd\"/>\n", left, y_of(10 ^ decade), \
            width - right > file
        label(left - 8, y_of(10 ^ decade) + 4, "end", short(10 ^ decade))
    }
    for (i = 1; i <= count; i++) label(x_of(list[i]), height - bottom + 20, "middle", short(list[i]))
}

function curve(family, contender, color, row, list, count,    i, path, workload) {
    for (i = 1; i <= count; i++) {
        workload = name_of[family, list[i]]
        if (!has(workload, contender, family_unit)) continue
        measure(workload, contender, family_unit)
        if (median <= 0) continue
        path = path sprintf("%s%.1f %.1f", path == "" ? "M" : "L", x_of(list[i]), y_of(median))
        printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x_of(list[i]), \
            y_of(median), color > file
    }
    if (path == "") return 0
    printf "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%d\"/>\n", path, color, \
        contender == "toolring" ? 3 : 1.5 > file
    printf "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", \
        width - right + 20, top + 20 * row, color > file
    label(width - right + 38, top + 20 * row + 11, "start", contender)
    return 1
}

function plot(family,    list, count, i, c, least_value, most_value, row, workload) {
    count = sort_numbers(sizes[family])
    for (i = 1; i <= count; i++) list[i] = sorted[i]
    family_unit = unit[name_of[family, list[1]]]
    for (i = 1; i <= count; i++)
        for (c = 1; c <= names_count; c++) {
            workload = name_of[family, list[i]]
            if (!has(workload, contenders[c], family_unit)) continue
            measure(workload, contenders[c], family_unit)
            if (median <= 0) continue
            least_value = least_value == "" || median < least_value ? median : least_value
            most_value = most_value == "" || median > most_value ? median : most_value
        }
    if (least_value == "") return
    y_least = floor(log10(least_value)); y_most = floor(log10(most_value)) + 1
    x_least = log10(list[1]); x_most = log10(list[count])
    file = folder "/" family ".svg"
    axes(family, list, count)
    for (c = 1; c <= names_count; c++) row += curve(family, contenders[c], colors[c], row, list, count)
    print "</svg>" > file
    close(file)
    print file
}

END {
    prepare()
    for (w = 1; w <= workloads_count; w++) {
        family = family_of(workloads[w])
        if (family == "" || !((workloads[w], "toolring") in seen)) continue
        if (!(family in sizes)) families[++families_count] = family
        sizes[family] = sizes[family] " " size_of(workloads[w])
        name_of[family, size_of(workloads[w])] = workloads[w]
    }
    for (f = 1; f <= families_count; f++) plot(families[f])
}
