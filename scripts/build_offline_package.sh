#!/usr/bin/env bash
# `offline-kit build` under the name that a well-known guide gives it. No kit carries it.
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/core/options.sh
. "$LIB/core/options.sh"

VERSION='' OUTPUT=. MORE=()

help() {
    cat <<HELP
Usage: $0 --version VERSION [--output DIR] [OPTION of offline-kit build ...] [--dry-run]

Builds the bundle NAME-VERSION.tar.gz: offline-kit build --version VERSION --output DIR OPTION...

  --version VERSION  such as v1.0.0
  --output DIR       where it goes, made if it is not there; default: the current folder
  --dry-run          print the command only
  --help             this text; offline-kit build --help has the other options

Exit codes: 0 built; 2 wrong usage; 4 offline-kit is not installed; else those of offline-kit build.
HELP
}

options() {
    split_options "$@"
    set -- ${WORDS[@]+"${WORDS[@]}"}
    while (($# > 0)); do
        case "$1" in
            --version) argument "$@" && VERSION=$REPLY && shift ;;
            --output) argument "$@" && OUTPUT=$REPLY && shift ;;
            --dry-run) DRY_RUN=yes ;;
            --help | -h) help && exit_intended 0 ;;
            *) MORE+=("$1") ;;
        esac
        shift
    done
    [[ -n "$VERSION" ]] || usage_error '--version is missing: a bundle has a version, such as --version v1.0.0'
}

program() { # -> REPLY: offline-kit, of this checkout or of the PATH, or the end
    REPLY="${LIB%/scripts/lib}/.venv/bin/offline-kit"
    [[ -x "$REPLY" ]] || REPLY=$(type -P offline-kit) || die "$EXIT_PREFLIGHT" 'offline-kit is not installed' 'python3 -m venv .venv && .venv/bin/pip install .'
}

options "$@"
program
run mkdir -p -- "$OUTPUT"
run "$REPLY" build --version "$VERSION" --output "$OUTPUT" ${MORE[@]+"${MORE[@]}"} || exit_intended $?
