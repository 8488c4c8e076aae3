# shellcheck shell=bash
# What checks found, collected and shown: a level, a name, what was seen, what to do.
#
# Rules: (1) levels are OK, WARN and FAIL; (2) a WARN or FAIL has a remedy; (3) the table and the JSON say the same.

[[ -z "${FINDINGS_SH:-}" ]] || return 0
FINDINGS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

FINDINGS_LEVEL=() FINDINGS_NAME=() FINDINGS_TEXT=() FINDINGS_REMEDY=()

finding() { # finding LEVEL NAME TEXT [REMEDY]
    FINDINGS_LEVEL+=("$1")
    FINDINGS_NAME+=("$2")
    FINDINGS_TEXT+=("$3")
    FINDINGS_REMEDY+=("${4:-}")
}

at_least() { # at_least VERSION WANTED: compares numbers between dots; what follows them does not count
    local have want index
    IFS=.-+~ read -r -a have <<<"${1#v}"
    IFS=. read -r -a want <<<"$2"
    for index in "${!want[@]}"; do
        [[ "${have[index]:-0}" =~ ^[0-9]+ ]] || return 1
        ((10#${BASH_REMATCH[0]} == 10#${want[index]})) || { ((10#${BASH_REMATCH[0]} > 10#${want[index]})) && return 0 || return 1; }
    done
}

checks_failed() { # -> REPLY: how many; status 1 when none
    local level
    REPLY=0
    for level in "${FINDINGS_LEVEL[@]}"; do [[ "$level" != FAIL ]] || REPLY=$((REPLY + 1)); done
    ((REPLY > 0))
}

checks_table() { # on stdout
    local index
    for index in "${!FINDINGS_LEVEL[@]}"; do
        revealed "${FINDINGS_TEXT[index]}"
        printf '%-4s  %-17s  %s\n' "${FINDINGS_LEVEL[index]}" "${FINDINGS_NAME[index]}" "$REVEALED"
        [[ "${FINDINGS_LEVEL[index]}" == OK || -z "${FINDINGS_REMEDY[index]}" ]] || printf '%-4s  %-17s  -> %s\n' '' '' "${FINDINGS_REMEDY[index]}"
    done
}

checks_json() { # -> REPLY: the findings as a JSON array
    local index out='' separator=''
    for index in "${!FINDINGS_LEVEL[@]}"; do
        json "${FINDINGS_LEVEL[index]}" && out+="$separator{\"level\": $REPLY"
        json "${FINDINGS_NAME[index]}" && out+=", \"check\": $REPLY"
        json "${FINDINGS_TEXT[index]}" && out+=", \"found\": $REPLY"
        json "${FINDINGS_REMEDY[index]}" && out+=", \"remedy\": $REPLY}"
        separator=', '
    done
    REPLY="[$out]"
}
