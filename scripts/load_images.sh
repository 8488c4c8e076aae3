#!/usr/bin/env bash
# Loads the kit's images into Docker, each held against what the kit says of it.
if ! test -n "${BASH_VERSION:-}" || shopt -qo posix; then # started by sh: it is bash that reads the rest
    unset POSIXLY_CORRECT
    command -v bash >/dev/null || { echo 'error: bash 4.2 or later is needed, and this host has none' >&2 && exit 4; }
    exec bash "$0" "$@"
fi
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/kit/images.sh
. "$LIB/kit/images.sh"
# shellcheck source-path=SCRIPTDIR source=lib/kit/signature.sh
. "$LIB/kit/signature.sh"

WANTED=()

help() {
    cat <<HELP
Usage: $0 [--dry-run] [IMAGE...]

Loads the kit's images into Docker (all, or those named by their key: engine, gateway, ...). An image that is there already, with
the right ID and layers, is skipped. One that fails is named and leaves no tag behind.

  --dry-run  say what would be loaded
  --help     this text

Exit codes: 0 all are there; 2 wrong usage; 4 no bash here; 5 an image was not loaded; 20 the kit is damaged; 22 it is not signed as this host demands; 130 interrupted.
HELP
}

options() {
    while (($# > 0)); do
        case "$1" in
            --dry-run) DRY_RUN=yes ;;
            --help | -h) help && exit 0 ;;
            -*) usage_error "unknown option '$1'" ;;
            *) WANTED+=("$1") ;;
        esac
        shift
    done
}

known_images() { # a name that is no image's is wrong usage
    local key
    images
    for key in ${WANTED[@]+"${WANTED[@]}"}; do
        [[ " ${KEYS[*]} " == *" $key "* ]] || usage_error "no image '$key'; there are: ${KEYS[*]}"
    done
}

options "$@"
open_kit "${BASH_SOURCE[0]}"
known_images
demand_host_keys "$KIT" || die "$EXIT_UNTRUSTED" 'this kit is not signed as this host demands; nothing was loaded' "ask who built it; trusted keys lie in $KEYS_FOLDER"
state_look
lock_kit
images_load ${WANTED[@]+"${WANTED[@]}"}
