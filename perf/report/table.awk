# table.awk: the table for a terminal, with what was counted below it. See read.awk.

# Pads by characters, not bytes: µ and × take two bytes and one column.
function pad(text, width,    plain_text) {
    plain_text = text
    gsub(/µ|×|–/, "u", plain_text)
    while (length(plain_text) < width) { plain_text = plain_text " "; text = text " " }
    return text
}
function pad_left(text, width,    plain_text) {
    plain_text = text
    gsub(/µ|×|–/, "u", plain_text)
    while (length(plain_text) < width) { plain_text = " " plain_text; text = " " text }
    return text
}

END {
    prepare()
    print pad("workload", 24) pad("figure", 26) pad("contender", 14) pad_left("median", 12) \
        "  " pad("min – max", 22) pad_left("ratio", 8)
    for (w = 1; w <= workloads_count; w++) {
        workload = workloads[w]
        count = split(figures[workload], list, "|")
        label = workload
        for (f = 1; f <= count; f++) {
            for (c = 1; c <= names_count; c++) {
                if (!has(workload, contenders[c], list[f])) continue
                measure(workload, contenders[c], list[f])
                line = pad(label, 24) pad(list[f], 26) pad(contenders[c], 14) \
                    pad_left(figure_text(median), 12) "  " \
                    pad(rounds > 1 ? figure_text(least) " – " figure_text(most) : "", 22)
                if (c > 1) line = line pad_left(ratio_text(ratio(workload, contenders[c], list[f])), 8)
                sub(/ +$/, "", line)
                print line
                label = ""
            }
        }
        if (workload in counts) print pad("", 24) "per call: " plain(counts[workload])
    }
    print "\n" machine "; seed " seed "; " pairs " pair(s)" (quick ? ", quick" : "")
    for (w = 1; w <= workloads_count; w++)
        if ((workloads[w], "toolring") in seen)
            print "  " workloads[w] ": " plain(parameters[workloads[w], "toolring"])
}
