# shellcheck shell=bash
# What was tried out of this kit before it was packed, as its own record says.
#
# Rules: (1) the record is a file of the kit like every other: whether it is whole, SHA256SUMS says; (2) a kit without one was not
# rehearsed, and nothing is said.

[[ -z "${REHEARSAL_SH:-}" ]] || return 0
REHEARSAL_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/findings.sh
. "${BASH_SOURCE[0]%/*}/../core/findings.sh"

check_rehearsal() {
    local said
    [[ -f "$KIT/evidence/rehearsal.json" && -r "$KIT/evidence/rehearsal.json" ]] || return 0
    said=$(sed -n 's/^  "summary": "\([^"\\]*\)",\{0,1\}$/\1/p' "$KIT/evidence/rehearsal.json" | head -n 1) || said=''
    [[ -z "$said" ]] || finding OK rehearsal "$said"
}
