#!/usr/bin/env bash
# Reads every file of the kit again and holds it against SHA256SUMS.
if ! test -n "${BASH_VERSION:-}" || shopt -qo posix; then # started by sh: it is bash that reads the rest
    unset POSIXLY_CORRECT
    command -v bash >/dev/null || { echo 'error: bash 4.2 or later is needed, and this host has none' >&2 && exit 4; }
    exec bash "$0" "$@"
fi
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/kit/delta.sh
. "$LIB/kit/delta.sh"

MODE=full

help() {
    cat <<HELP
Usage: $0 [--quick]

Reads every file of the kit and holds it against SHA256SUMS: what is missing, changed or extra is named. At any time, also while
the services run. The operator's own files (.env, .state/, and after the installation config/ and folders of their own under models/)
are no damage.

  --quick  read only what has changed, by size and times, since it was proven
  --help   this text

Exit codes: 0 the kit is whole; 2 wrong usage; 4 no bash here; 20 the kit is damaged; 130 interrupted.
HELP
}

options() {
    while (($# > 0)); do
        case "$1" in
            --quick) MODE=remember ;;
            --help | -h) help && exit 0 ;;
            *) usage_error "unknown option '$1'" ;;
        esac
        shift
    done
}

options "$@"
open_kit "${BASH_SOURCE[0]}"
state_look
step "Files of $KIT"
base_part
sums_check "$MODE"
