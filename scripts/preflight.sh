#!/usr/bin/env bash
# Finds every reason for which an installation would fail on this host, and changes nothing.
if ! test -n "${BASH_VERSION:-}" || shopt -qo posix; then # started by sh: it is bash that reads the rest
    unset POSIXLY_CORRECT
    command -v bash >/dev/null || { echo 'error: bash 4.2 or later is needed, and this host has none' >&2 && exit 4; }
    exec bash "$0" "$@"
fi
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/checks/all.sh
. "$LIB/checks/all.sh"
# shellcheck source-path=SCRIPTDIR source=lib/core/options.sh
. "$LIB/core/options.sh"

JSON=''

help() {
    cat <<HELP
Usage: $0 [--device nvidia|cpu] [--with monitoring,nginx] [--env-file FILE] [--json]

Finds every reason for which an installation would fail on this host, and changes nothing.

  --device nvidia|cpu  check for this accelerator, whatever .env and the kit say
  --with LIST          check for these, too: monitoring, nginx or both
  --env-file FILE      take ports and GPUs from FILE, as install.sh --env-file would
  --json               findings as JSON on stdout
  --help               this text

Exit codes: 0 nothing fails; 2 wrong usage; 4 something would fail; 20 the kit is damaged; 130 interrupted.
HELP
}

options() {
    split_options "$@"
    set -- ${WORDS[@]+"${WORDS[@]}"}
    while (($# > 0)); do
        case "$1" in
            --device) device_argument "$@" && shift ;;
            --with) with_argument "$@" && shift ;;
            --env-file) env_file_argument "$@" && shift ;;
            --json) JSON=yes ;;
            --help | -h) help && exit 0 ;;
            *) usage_error "unknown option '$1'" ;;
        esac
        shift
    done
}

answer() {
    local ok=true
    if checks_failed; then ok=false; fi
    if [[ -n "$JSON" ]]; then
        checks_json
        printf '{"ok": %s, "findings": %s}\n' "$ok" "$REPLY"
    else
        checks_table
    fi
    if checks_failed; then die "$EXIT_PREFLIGHT" "$REPLY reason(s) to fail: see above"; fi
}

options "$@"
open_kit "${BASH_SOURCE[0]}"
checks_run
answer
