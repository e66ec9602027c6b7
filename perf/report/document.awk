# document.awk: the whole report, in Markdown or as one HTML file that needs nothing else. See read.awk and
# prose.awk.
#
# Also needs: html (empty: Markdown), targets (the file targets.txt), peers (a file: NAME <tab> why it is
# fair), plots (SVG files, separated by spaces), left_out (a file: what was not run, and why), made (a date),
# reasons and scale (the files TARGETS.md and SCALE.md).
#
# A table is opened with its heads, gets rows, and is closed; cells are separated by "|".

function escape(text) {
    gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text)
    return text
}

function heading(level, text) {
    if (html) printf "<h%d>%s</h%d>\n", level, escape(text), level
    else printf "%s %s\n\n", substr("######", 1, level), text
}

function paragraph(text) {
    if (html) printf "<p>%s</p>\n", escape(text)
    else printf "%s\n\n", text
}

function open_table(heads, left_columns,    n, cell, i) {
    lefts = left_columns
    n = split(heads, cell, "|")
    if (html) {
        printf "<table><thead><tr>"
        for (i = 1; i <= n; i++)
            printf "<th%s>%s</th>", i <= lefts ? " class=\"l\"" : "", escape(cell[i])
        print "</tr></thead><tbody>"
        return
    }
    print "| " join(cell, n) " |"
    for (i = 1; i <= n; i++) printf "|%s", i <= lefts ? "---" : "---:"
    print "|"
}

function join(cell, n,    i, text) {
    text = cell[1]
    for (i = 2; i <= n; i++) text = text " | " cell[i]
    return text
}

function table_row(cells,    n, cell, i) {
    n = split(cells, cell, "|")
    if (!html) { print "| " join(cell, n) " |"; return }
    printf "<tr>"
    for (i = 1; i <= n; i++)
        printf "<td%s>%s</td>", i <= lefts ? " class=\"l\"" : "", escape(cell[i])
    print "</tr>"
}

function close_table() { print html ? "</tbody></table>\n" : "" }

# ---- targets ----

function compare(value, relation, limit) { return relation == "<=" ? value <= limit : value >= limit }

# The greatest median of a family's sizes over the least, "" with fewer than two.
function flatness(family, figure,    w, n, low, high) {
    for (w = 1; w <= workloads_count; w++) {
        if (family_of(workloads[w]) != family || !has(workloads[w], "toolring", figure)) continue
        measure(workloads[w], "toolring", figure)
        if (median <= 0) continue
        low = n == 0 || median < low ? median : low
        high = n == 0 || median > high ? median : high
        n++
    }
    return n < 2 ? "" : high / low
}

function quotient(workload, figure, other, other_figure,    over) {
    if (!has(workload, "toolring", figure) || !has(other, "toolring", other_figure)) return ""
    measure(other, "toolring", other_figure)
    over = median
    measure(workload, "toolring", figure)
    return over > 0 ? median / over : ""
}

# What the target's line measures: "" if that was not run.
function target_value(part) {
    if (part[2] == "value") {
        if (!has(part[3], "toolring", part[4])) return ""
        measure(part[3], "toolring", part[4])
        return median
    }
    if (part[2] == "ratio") return ratio(part[3], part[5], part[4])
    if (part[2] == "flat") return flatness(part[3], part[4])
    if (part[2] == "own") return quotient(part[3], part[4], part[5], part[4])
    return quotient(part[3], part[4], part[3], part[5]) # "own-figures"
}

function print_targets(    line, part, value, verdict, shown) {
    heading(2, "Targets")
    open_table("target|measured|limit|verdict", 1)
    while ((getline line < targets) > 0) {
        if (line ~ /^(#|$)/) continue
        split(line, part, / *; */)
        value = target_value(part)
        shown = value == "" ? "" : figure_text(value) (part[2] == "value" ? "" : " ×")
        verdict = value == "" ? "not measured" : compare(value, part[6], part[7] + 0) ? "met" : "NOT MET"
        table_row(part[1] "|" shown "|" (part[6] == "<=" ? "≤ " : "≥ ") figure_text(part[7] + 0) "|" verdict)
    }
    close(targets)
    close_table()
}

# ---- figures ----

function print_figures(    w, f, c, count, list, workload, label, times) {
    heading(2, "Figures")
    paragraph("Ratio: the median over the pairs of how many times better toolring is; above 1 it wins, " \
        "whatever the unit. Spread: (max - min) / median over the runs.")
    open_table("workload|figure|contender|median|min|max|spread|ratio", 3)
    for (w = 1; w <= workloads_count; w++) {
        workload = workloads[w]
        label = workload
        count = split(figures[workload], list, "|")
        for (f = 1; f <= count; f++)
            for (c = 1; c <= names_count; c++) {
                if (!has(workload, contenders[c], list[f])) continue
                times = c > 1 ? ratio_text(ratio(workload, contenders[c], list[f])) : ""
                measure(workload, contenders[c], list[f])
                table_row(label "|" list[f] "|" contenders[c] "|" figure_text(median) "|" \
                    figure_text(least) "|" figure_text(most) "|" spread_text() "|" times)
                label = ""
            }
    }
    close_table()
}

function print_counts(    w, i, n, list, any, colon) {
    for (w = 1; w <= workloads_count; w++) any = any || workloads[w] in counts
    if (!any) return
    heading(2, "Counted, per call")
    paragraph("Of toolring's process alone, children left out. System calls where the kernel lets them " \
        "be counted, in a run of its own.")
    open_table("workload|what|per call", 2)
    for (w = 1; w <= workloads_count; w++) {
        n = split(counts[workloads[w]], list, ",")
        for (i = 1; i <= n; i++) {
            colon = index(list[i], "\":")
            table_row((i == 1 ? workloads[w] : "") "|" substr(list[i], 2, colon - 2) "|" \
                figure_text(substr(list[i], colon + 2) + 0))
        }
    }
    close_table()
}

function print_flatness(    w, family, done, value, any) {
    heading(2, "Cost as the work grows")
    open_table("family|figure|greatest / least median over the sizes", 2)
    for (w = 1; w <= workloads_count; w++) {
        family = family_of(workloads[w])
        if (family == "" || family in done) continue
        done[family] = 1
        value = flatness(family, unit[workloads[w]])
        if (value != "") table_row(family "|" unit[workloads[w]] "|" ratio_text(value))
    }
    close_table()
}

function print_plots(    n, list, i, line) {
    n = split(plots, list, " ")
    if (n == 0) return
    heading(2, "Cost against size")
    for (i = 1; i <= n; i++) {
        if (!html) { printf "![%s](%s)\n\n", list[i], list[i]; continue }
        while ((getline line < list[i]) > 0) print line
        close(list[i])
    }
}

function print_method(    line, part, w, c) {
    heading(2, "How it was measured")
    paragraph("perf/run, " made ", on " machine ". Seed " seed ", " pairs " pair(s)" \
        (quick ? ", quick" : "") ", every run a process of its own, contenders taking turns (A B A B …). " \
        "A run verifies every result before it prints its figure. All programs are release builds, " \
        "with link-time optimisation where their compiler has it, and allocate through mimalloc but for Go.")
    open_table("contender|version|why it is fair", 3)
    table_row("toolring|" version["toolring"] "|")
    while ((getline line < peers) > 0) {
        split(line, part, "\t")
        gsub(/\|/, "/", part[2])
        if (part[1] in version) table_row(part[1] "|" version[part[1]] "|" part[2])
    }
    close(peers)
    close_table()
    open_table("workload|contender|parameters", 3)
    for (w = 1; w <= workloads_count; w++)
        for (c = 1; c <= names_count; c++)
            if ((workloads[w], contenders[c]) in seen)
                table_row(workloads[w] "|" contenders[c] "|" plain(parameters[workloads[w], contenders[c]]))
    close_table()
    while ((getline line < left_out) > 0) paragraph(line)
    close(left_out)
}

END {
    prepare()
    if (html) {
        print "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>toolring: benchmarks</title>"
        print "<style>body{font:15px/1.45 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}" \
            "table{border-collapse:collapse;margin:1em 0}td,th{padding:.15em .7em;text-align:right;" \
            "border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums;vertical-align:top}" \
            ".l{text-align:left}code{font-size:.92em}svg{max-width:48em;display:block;margin:1em 0}</style></head><body>"
    }
    heading(1, "toolring: benchmarks")
    print_targets()
    print_prose(reasons)
    print_figures()
    print_counts()
    print_flatness()
    print_plots()
    print_method()
    print_prose(scale)
    if (html) print "</body></html>"
}
