# shellcheck shell=bash
# Is a Compose file what this kit writes? Asked of every file that the engine image wrote, before Docker Compose reads it.
#
# Rules: (1) default deny: a line of another form, a service, key or value that compose_table.sh does not name, a key twice or one
# that is missing is refused; (2) the form is that of runtime/render/plain_yaml.py, in which a line has one reading: no tags,
# anchors, flow style, escapes, variables, further documents or comments; (3) the first fault is told in one line; (4) only
# awk and what every host has; nothing of the file is executed or expanded.

[[ -z "${COMPOSE_GRAMMAR_SH:-}" ]] || return 0
COMPOSE_GRAMMAR_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/compose_table.sh
. "${BASH_SOURCE[0]%/*}/compose_table.sh"

COMPOSE_SERVICES=() COMPOSE_FACTS='' COMPOSE_LARGEST=1048576
COMPOSE_HEADER='# Written by offline-kit from config/models.json, config/vllm_config.yaml and .env: do not edit, edit those.
# By hand: docker compose -p PROJECT --project-directory KIT -f THIS-FILE ps'

compose_bytes() { # compose_bytes FILE: what is wrong with it as a file -> REPLY; status 1 when nothing is
    local size
    REPLY='it is no file of its own'
    [[ -f "$1" && ! -L "$1" && -r "$1" ]] || return 0
    size=$(wc -c <"$1")
    REPLY='it is empty'
    ((size > 0)) || return 0
    REPLY="it has $size bytes, more than $COMPOSE_LARGEST"
    ((size <= COMPOSE_LARGEST)) || return 0
    REPLY='it has characters that this kit never writes'
    (($(tr -d '\n -~' <"$1" | wc -c) == 0)) || return 0
    REPLY='its last line has no end'
    [[ -z "$(tail -c 1 "$1")" ]] || return 0
    return 1
}

compose_check() { # compose_check FILE: held against the table and COMPOSE_FACTS (`NAME VALUE` lines) -> COMPOSE_SERVICES; status 1 and the fault in REPLY when it differs
    COMPOSE_SERVICES=()
    ! compose_bytes "$1" || return 1
    REPLY=$(TABLE=$COMPOSE_TABLE FACTS=$COMPOSE_FACTS HEADER=$COMPOSE_HEADER VARIABLES=$ENGINE_VARIABLES NO_VARIABLES=$ENGINE_VARIABLES_REFUSED awk "$COMPOSE_PROGRAM" "$1") || return 1
    read -r -a COMPOSE_SERVICES <<<"$REPLY"
}

# The records of a file: a scalar, a list of texts, or one object of a list; each is looked up when it is complete.
# shellcheck disable=SC2016 # awk expands
COMPOSE_PROGRAM='
function fail(what) { printf "%s\n", what; failed = 1; exit 1 }
function at_line(what) { fail("line " NR ": " what) }
function swap(text, name, value,  at) { # each NAME in TEXT by VALUE
    while ((at = index(text, name)) > 0) text = substr(text, 1, at - 1) value substr(text, at + length(name))
    return text
}
function kind_of(service) {
    if (service ~ /^engine-[a-z0-9][a-z0-9_-]*$/) return "engine"
    if (service ~ /^(monitoring|nginx)-off$/) return "off"
    if (service ~ /^(router|gateway|nginx-exporter|node-exporter|dcgm-exporter|prometheus|grafana)$/) return service
    at_line("a service \"" service "\", which this kit does not have")
}
function network_of(name) {
    if (name == "edge") return "edge"
    if (name ~ /^(internal|engines|model-[a-z0-9][a-z0-9_-]*)$/) return "network"
    at_line("a network \"" name "\", which this kit does not have")
}
function listed(list, word) { return index(" " list " ", " " word " ") > 0 }
function published(service, value,  item, count, i) { # every item is ADDRESS:PORT:INSIDE, quoted, as facts say for the service
    count = split(value, item, " ")
    for (i = 1; i <= count; i++) {
        if (item[i] !~ /^"[^"]+:[0-9]+"$/) return 0
        sub(/:[0-9]+"$/, "", item[i])
        if (!listed(fact["ports:" service], substr(item[i], 2))) return 0
    }
    return count > 0
}
function fits(service, kind, expected, value,  name) { # VALUE is what the row expects
    if (expected == "@ports") return published(service, value)
    if (expected == "@user") return value ~ /^"[0-9]+:[0-9]+"$/ && listed(fact["user"], substr(value, 2, length(value) - 2))
    if (substr(expected, 1, 1) == "~") return value ~ ("^(" substr(expected, 2) ")$")
    expected = swap(expected, "@key", substr(service, 8))
    expected = swap(expected, "@image", fact["image:" (kind == "engine" || kind == "router" ? "engine" : kind == "off" ? "gateway" : kind)])
    expected = swap(swap(swap(expected, "@kit", fact["kit"]), "@version", fact["version"]), "@device", fact["device"])
    return value == expected && value != "\"\""
}
function given(name) { return name ~ ("^(" ENVIRON["VARIABLES"] ")$") && name !~ ("^(" ENVIRON["NO_VARIABLES"] ")$") }
function look_up(service, kind, key, value,  row, known) { # the record is one that the table names, and comes once
    if (key ~ /^depends_on\/engine-[a-z0-9][a-z0-9_-]*\/condition$/) key = "depends_on/@engine/condition"
    else if (key !~ /\[\]$/ && ((service, key) in once)) at_line(service ": " key " is given twice")
    once[service, key] = 1
    if (kind == "engine" && key ~ /^environment\// && given(substr(key, 13))) key = "environment/@variable"
    for (row = 1; row <= rows; row++) {
        if (row_key[row] != key || !listed(row_services[row], kind) && row_services[row] != "*") continue
        if (row_services[row] == "*" && kind ~ /^(network|edge)$/) continue
        known = 1
        if (!fits(service, kind, row_value[row], value)) continue
        if (key ~ /\[\]$/ && ((service, row) in used)) at_line(service ": " key ": " substr(value, 1, 80) " is given twice")
        used[service, row] = 1
        return
    }
    at_line(service ": " key (known ? ": " substr(value, 1, 80) " is not what this kit writes" : " is not a key that this kit writes"))
}
function flush(  scope) { # the record that is complete
    if (record == "") return
    split(record_path, scope, "/")
    if (scope[1] == "services") look_up(scope[2], kind_of(scope[2]), substr(record_path, length(scope[1] scope[2]) + 3), record)
    else look_up("network " scope[2], network_of(scope[2]), substr(record_path, length(scope[1] scope[2]) + 3), record)
    record = ""
}
function path_to(depth,  i, text) { # the names above DEPTH
    text = ""
    for (i = 0; i < depth; i++) text = text (i ? "/" : "") name[i]
    return text
}
function enter(depth, type) { # a line at DEPTH follows what may stand before it
    if (waiting != "" && depth != waiting_depth + 1) nothing_below()
    else if (waiting == "" && depth > last) at_line("it is indented too far")
    waiting = ""
    if (holds[depth] == "") holds[depth] = type
    if (holds[depth] != type) at_line("items and keys are mixed")
}
function nothing_below() { # only the network edge is a key with nothing behind it
    if (waiting != "networks/edge") at_line("\"" waiting "\" has nothing behind it")
    look_up("network edge", "edge", "-", "-")
    waiting = ""
}
function key_line(depth, key, value,  path) {
    name[depth] = key; last = depth; holds[depth + 1] = ""
    path = path_to(depth + 1)
    if ((path, item[depth]) in met) at_line("\"" path "\" is given twice")
    met[path, item[depth]] = 1
    if (depth == 0 && key !~ /^(services|networks)$/) at_line("\"" key "\" at the top")
    if (depth == 1 && name[0] == "services") { kind_of(key); services = services (services == "" ? "" : " ") key }
    if (depth == 1 && name[0] == "networks") network_of(key)
    if (value == "" && depth > 8) at_line("it is nested too deeply")
    if (in_item) { record = record (record == "" ? "" : " ") key (value == "" ? "[]=" : "=" value); if (value == "") { waiting = path; waiting_depth = depth } return }
    if (value == "") { waiting = path; waiting_depth = depth; return }
    if (depth < 2) at_line("\"" key "\" is no object")
    record_path = path; record = value; flush()
}
BEGIN {
    count = split(ENVIRON["TABLE"], line, "\n")
    for (i = 1; i <= count; i++) {
        if (split(line[i], word, " ") < 4) continue
        rows++
        row_mark[rows] = word[1]; row_services[rows] = word[2]; gsub(/,/, " ", row_services[rows]); row_key[rows] = word[3]
        text = line[i]
        for (j = 1; j <= 3; j++) { sub(/^ */, "", text); sub(/^[^ ]* */, "", text) }
        row_value[rows] = text
    }
    count = split(ENVIRON["FACTS"], line, "\n")
    for (i = 1; i <= count; i++) if ((at = index(line[i], " ")) > 0) fact[substr(line[i], 1, at - 1)] = substr(line[i], at + 1)
    split(ENVIRON["HEADER"], header, "\n")
}
NR <= 2 { if ($0 != header[NR]) at_line("it does not begin as this kit begins it"); next }
$0 !~ /^ *(- )?[A-Za-z0-9][A-Za-z0-9_.-]*:( ("[^"\\$]*"|[0-9]+|true|false))?$/ && $0 !~ /^ *- "[^"\\$]*"$/ { at_line("it is not of a form that this kit writes") }
{
    match($0, /^ */)
    if (RLENGTH % 2) at_line("it is indented by an odd number")
    depth = RLENGTH / 2; rest = substr($0, RLENGTH + 1); dash = substr(rest, 1, 2) == "- "
    if (dash) rest = substr(rest, 3)
    if (!in_item || depth < item_depth) { if (!(dash && in_texts && depth == item_depth)) { flush(); in_item = 0; in_texts = 0 } }
    enter(depth, dash ? "item" : "key")
    if (dash && depth < 3) at_line("a list where this kit has none")
}
dash && rest ~ /^"/ {
    last = depth
    if (in_item) { record = record (record ~ /=$/ ? "" : " ") rest; next }
    if (in_texts) { record = record " " rest; next }
    in_texts = 1; item_depth = depth; record_path = path_to(depth) "[]"; record = rest
    next
}
dash {
    if (in_item) at_line("an object in a list of an object")
    if (in_texts) at_line("texts and objects are mixed")
    in_item = 1; item_depth = depth + 1; item[depth + 1] = ++items; record_path = path_to(depth) "[]"; record = ""
    name[depth] = "[]"; holds[depth + 1] = "key"; depth++
}
{
    colon = index(rest, ":")
    if (!in_item) item[depth] = 0
    else if (depth > item_depth) item[depth] = items
    key_line(depth, substr(rest, 1, colon - 1), substr(rest, colon + 2))
}
END {
    if (failed) exit 1
    flush()
    if (waiting != "") nothing_below()
    if (NR < 3) fail("it ends before it begins")
    count = split(services, service, " ")
    for (i = 1; i <= count; i++) for (row = 1; row <= rows; row++) {
        kind = kind_of(service[i])
        if (row_mark[row] == "+" && (row_services[row] == "*" || listed(row_services[row], kind)) && !((service[i], row) in used))
            fail(service[i] ": " row_key[row] " is missing, or not what this kit writes")
    }
    for (place in met) { # networks too
        split(place, part, SUBSEP)
        if (split(part[1], scope, "/") != 2 || scope[1] != "networks") continue
        kind = network_of(scope[2])
        for (row = 1; row <= rows; row++)
            if (listed(row_services[row], kind) && !(("network " scope[2], row) in used)) fail("network " scope[2] ": " row_key[row] " is missing")
    }
    if (!listed(services, "gateway")) fail("it has no gateway")
    for (i = 1; i <= count; i++) if (kind_of(service[i]) != "off") started = started (started == "" ? "" : " ") service[i]
    print started
}'
