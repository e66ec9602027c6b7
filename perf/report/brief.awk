# brief.awk: a Markdown table of the figures that count, one line per workload, for a README. See read.awk.

# One line; `own`: the figure of toolring's, which the peers' `figure` is compared with.
function row(workload, figure, own,    c, shown, times) {
    printf "| `%s` | %s |", workload, own
    for (c = 1; c <= names_count; c++) {
        shown = c == 1 ? own : figure
        if (!has(workload, contenders[c], shown)) { printf " |"; continue }
        measure(workload, contenders[c], shown)
        printf " %s", figure_text(median)
        times = c == 1 ? "" : ratio(workload, contenders[c], figure, own)
        printf "%s |", (times == "" ? "" : " (" ratio_text(times) ")")
    }
    print ""
}

END {
    prepare()
    printf "| workload | figure | toolring |"
    for (c = 2; c <= names_count; c++) printf " %s |", contenders[c]
    printf "\n|---|---|---:|"
    for (c = 2; c <= names_count; c++) printf "---:|"
    print ""
    for (w = 1; w <= workloads_count; w++) {
        workload = workloads[w]
        if (!((workload, "toolring") in seen)) continue
        row(workload, unit[workload], unit[workload])
        if (has(workload, "toolring", "by workers " unit[workload]))
            row(workload, unit[workload], "by workers " unit[workload])
    }
    for (c = 1; c <= names_count; c++)
        if (contenders[c] in version)
            versions = versions (versions == "" ? "" : ", ") contenders[c] " " version[contenders[c]]
    print "\nMedians of " pairs " interleaved pair(s)" (quick ? " (quick)" : "") ", seed " seed ", on " \
        machine ". In brackets: how many times better toolring is. " versions "."
}
