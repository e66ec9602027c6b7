# prose.awk: what was written by hand about the figures, for document.awk: Markdown as TARGETS.md and SCALE.md
# use it (headings, paragraphs, lists, tables, `code`, **bold**), each heading one level further down.

function inline_marks(text) {
    text = escape(text)
    while (match(text, /`[^`]*`/))
        text = substr(text, 1, RSTART - 1) "<code>" substr(text, RSTART + 1, RLENGTH - 2) "</code>" \
            substr(text, RSTART + RLENGTH)
    while (match(text, /\*\*[^*]*\*\*/))
        text = substr(text, 1, RSTART - 1) "<b>" substr(text, RSTART + 2, RLENGTH - 4) "</b>" \
            substr(text, RSTART + RLENGTH)
    return text
}

# Ends the paragraph, list item or table that is open; `next_block` is what follows.
function end_block(next_block) {
    if (block == "p") print "<p>" inline_marks(gathered) "</p>"
    if (block == "ol" || block == "ul") print "<li>" inline_marks(gathered) "</li>"
    if (block != next_block && (block == "ol" || block == "ul")) print "</" block ">"
    if (block == "table" && next_block != "table") print "</tbody></table>"
    if (block != next_block && (next_block == "ol" || next_block == "ul")) print "<" next_block ">"
    gathered = ""
    block = next_block
}

function prose_row(line,    n, cell, i, tag) {
    tag = block == "table" ? "td" : "th"
    if (block != "table") {
        end_block("table")
        printf "<table><tbody>"
    }
    n = split(line, cell, / *\| */)
    printf "<tr>"
    for (i = 2; i < n; i++) printf "<%s class=\"l\">%s</%s>", tag, inline_marks(cell[i]), tag
    print "</tr>"
}

function prose_line(line,    length_of_mark) {
    if (match(line, /^#+ /)) {
        length_of_mark = RLENGTH # one more than the heading's level
        end_block("")
        printf "<h%d>%s</h%d>\n", length_of_mark, inline_marks(substr(line, length_of_mark + 1)), \
            length_of_mark
    } else if (line ~ /^\|[-:|]+$/) {
        return
    } else if (line ~ /^\|/) {
        prose_row(line)
    } else if (line == "") {
        end_block("")
    } else if (match(line, /^([0-9]+\.|-) /)) {
        length_of_mark = RLENGTH
        end_block(line ~ /^-/ ? "ul" : "ol")
        gathered = substr(line, length_of_mark + 1)
    } else {
        if (block == "" || block == "table") end_block("p")
        sub(/^ +/, "", line)
        gathered = gathered (gathered == "" ? "" : " ") line
    }
}

function print_prose(file,    line) {
    while ((getline line < file) > 0) {
        if (html) prose_line(line)
        else print (line ~ /^#/ ? "#" : "") line
    }
    close(file)
    if (html) end_block("")
    else print ""
}
