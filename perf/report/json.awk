# json.awk: the figures as JSON. See read.awk. Also needs: processor, processors, memory_gib, kernel.

function quoted(text) {
    gsub(/[\\"]/, "\\\\&", text)
    return "\"" text "\""
}

function three(workload, contender, figure) {
    measure(workload, contender, figure)
    return sprintf("\"median\":%.6g,\"min\":%.6g,\"max\":%.6g", median, least, most)
}

function side(workload, contender, list, count,    f, text, r, separator) {
    text = three(workload, contender, unit[workload])
    r = contender == "toolring" ? "" : ratio(workload, contender, unit[workload])
    if (r != "") text = text sprintf(",\"ratio\":%.4g", r)
    text = text ",\"also\":{"
    separator = ""
    for (f = 1; f <= count; f++) {
        if (list[f] == unit[workload] || !has(workload, contender, list[f])) continue
        text = text separator "\"" list[f] "\":{" three(workload, contender, list[f])
        r = contender == "toolring" ? "" : ratio(workload, contender, list[f])
        text = text (r == "" ? "" : sprintf(",\"ratio\":%.4g", r)) "}"
        separator = ","
    }
    text = text "},\"parameters\":{" parameters[workload, contender] "}"
    if (contender == "toolring" && workload in counts)
        text = text ",\"counts\":{" counts[workload] "}"
    return "{" text "}"
}

END {
    prepare()
    printf "{\"machine\":{\"processor\":%s,\"processors\":%d,\"memory_gib\":%d,\"kernel\":%s},", \
        quoted(processor), processors, memory_gib, quoted(kernel)
    printf "\"seed\":%d,\"pairs\":%d,\"quick\":%s,\"versions\":{", seed, pairs, quick ? "true" : "false"
    separator = ""
    for (c = 1; c <= names_count; c++) {
        if (!(contenders[c] in version)) continue
        printf "%s%s:%s", separator, quoted(contenders[c]), quoted(version[contenders[c]])
        separator = ","
    }
    printf "},\"workloads\":["
    next_workload = ""
    for (w = 1; w <= workloads_count; w++) {
        workload = workloads[w]
        if (!((workload, "toolring") in seen)) continue
        count = split(figures[workload], list, "|")
        printf "%s\n{\"name\":\"%s\",\"unit\":\"%s\",\"toolring\":%s,\"peers\":{", next_workload, \
            workload, unit[workload], side(workload, "toolring", list, count)
        next_workload = ","
        separator = ""
        for (c = 2; c <= names_count; c++) {
            if (!((workload, contenders[c]) in seen)) continue
            printf "%s\"%s\":%s", separator, contenders[c], side(workload, contenders[c], list, count)
            separator = ","
        }
        printf "}}"
    }
    print "\n]}"
}
