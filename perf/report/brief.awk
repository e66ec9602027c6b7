# brief.awk: a Markdown table of the figures that count, one line per workload, for a README. See read.awk.

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
        printf "| `%s` | %s |", workload, unit[workload]
        for (c = 1; c <= names_count; c++) {
            if (!has(workload, contenders[c], unit[workload])) { printf " |"; continue }
            measure(workload, contenders[c], unit[workload])
            printf " %s", figure_text(median)
            times = c == 1 ? "" : ratio(workload, contenders[c], unit[workload])
            printf "%s |", (times == "" ? "" : " (" ratio_text(times) ")")
        }
        print ""
    }
    for (c = 1; c <= names_count; c++)
        if (contenders[c] in version)
            versions = versions (versions == "" ? "" : ", ") contenders[c] " " version[contenders[c]]
    print "\nMedians of " pairs " interleaved pair(s)" (quick ? " (quick)" : "") ", seed " seed ", on " \
        machine ". In brackets: how many times better toolring is. " versions "."
}
