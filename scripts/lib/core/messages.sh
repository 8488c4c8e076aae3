# shellcheck shell=bash
# What the scripts tell on stderr, and the one place where others' text is made harmless for a terminal.
#
# Rules: (1) whatever is shown goes through `reveal_controls`, by way of the functions here: logs of engines, words of Docker
# and names out of a kit may hold sequences that rewrite what an operator has read; (2) a control is shown as its number, so
# that nothing is lost; (3) letters of every language stay as they are.

[[ -z "${MESSAGES_SH:-}" ]] || return 0
MESSAGES_SH=yes

PROGRESS='' BOLD='' RED='' GREEN='' YELLOW='' PLAIN='' CONTROL_RULES='' REVEALED='' SED=(sed)

colours() { # when stderr is a terminal that wants them
    [[ -t 2 ]] || return 0
    PROGRESS=yes
    [[ -z "${NO_COLOR:-}" && "${TERM:-dumb}" != dumb ]] || return 0
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
}

control_rule() { # control_rule CODE BYTE...: one more line of CONTROL_RULES: these bytes (as \xNN) become \uCODE
    local bytes
    printf -v bytes '%b' "$2"
    printf -v CONTROL_RULES '%ss/%s/\\\\u%04x/g\n' "$CONTROL_RULES" "$bytes" "$1"
}

control_rules() { # -> CONTROL_RULES, for sed; -> SED, which writes each line at once where that can be asked for
    local code bytes tail=$'[\x80-\xbf]' letter
    [[ -z "$CONTROL_RULES" ]] || return 0
    CONTROL_RULES=$'/[^ -~\t]/!b\ns/\r*$//\n'
    for code in {1..8} {11..31} 127; do
        printf -v bytes '\\x%02x' "$code"
        control_rule "$code" "$bytes"
    done
    # A byte above 127 that is no part of a letter in UTF-8: a terminal may take it for a control, too.
    letter=$'[\xc2-\xdf]'$tail$'|\xe0[\xa0-\xbf]'$tail$'|[\xe1-\xef]'$tail$tail$'|\xf0[\x90-\xbf]'$tail$tail$'|[\xf1-\xf4]'$tail$tail$tail
    CONTROL_RULES+="s/($letter)|"$'[\x80-\xff]/\\1\x02/g\ns/('"$tail"$')\x02/\\1/g\ns/\x02/?/g\n'
    for code in {128..159}; do
        printf -v bytes '\\xc2\\x%02x' "$code"
        control_rule "$code" "$bytes"
    done
    # What turns the direction of reading, breaks a line or cannot be seen: U+200B, 200E, 200F, 2028 to 202E, 2060 to 2069
    for code in 8203 8206 8207 {8232..8238} {8288..8297}; do
        printf -v bytes '\\xe2\\x%02x\\x%02x' "$((0x80 + (code >> 6 & 63)))" "$((0x80 + (code & 63)))"
        control_rule "$code" "$bytes"
    done
    control_rule 0x061c '\xd8\x9c'
    control_rule 0xfeff '\xef\xbb\xbf'
    ! sed -u -n p </dev/null >/dev/null 2>&1 || SED=(sed -u)
}

reveal_controls() { # stdin to stdout, line by line: controls as \u001b, bytes that are no UTF-8 as ?
    control_rules
    LC_ALL=C "${SED[@]}" -E "$CONTROL_RULES"
}

revealed() { # revealed TEXT -> REVEALED
    REVEALED=$1
    [[ "$1" == *[!$'\n'$'\t'\ -~]* ]] || return 0
    REVEALED=$(printf '%s\n' "$1" | reveal_controls)
}

say() {
    revealed "$*"
    printf '%s\n' "$REVEALED" >&2
}

indented() { # indented PREFIX TEXT: each line of TEXT with PREFIX; an empty TEXT says nothing
    local line
    [[ -n "$2" ]] || return 0
    revealed "$2"
    while IFS= read -r line; do printf '%s%s\n' "$1" "$line" >&2; done <<<"$REVEALED"
}

labelled() { # labelled COLOUR LABEL TEXT
    revealed "$3"
    printf '%s%s%s %s\n' "$1" "$2" "$PLAIN" "$REVEALED" >&2
}

step() { labelled "$BOLD$GREEN" '==>' "$*"; }
warn() { labelled "$YELLOW" 'warning:' "$*"; }

progress() { # one line that the next one overwrites; on terminals only
    [[ -n "$PROGRESS" ]] || return 0
    revealed "$*"
    printf '\r\e[K%s' "$REVEALED" >&2
}
