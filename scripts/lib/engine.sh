# shellcheck shell=bash
# The engine image, used for one command: configuration to files, and one question to each service.
#
# Rules: (1) what needs Python runs here, in a container without network unless it asks the services; (2) what such a
# container may write is named with each command; (3) one that was killed before it ran is swept by the next.

[[ -z "${ENGINE_SH:-}" ]] || return 0
ENGINE_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

APPLIED='' PROJECT=''

project() { # -> PROJECT
    fact KIT_NAME
    PROJECT=${REPLY//./-}
}

gpu_memory() { # gpu_memory [FIELD] -> REPLY: INDEX=MiB,... of the GPUs that say it (memory.total, memory.free); empty when none does
    local rows index total
    device
    [[ "$REPLY" == nvidia ]] || { REPLY='' && return 0; }
    REPLY=''
    rows=$(at_most 30 nvidia-smi --query-gpu="index,${1:-memory.total}" --format=csv,noheader,nounits 2>/dev/null) || return 0
    while IFS=', ' read -r index total; do
        [[ "$index" =~ ^[0-9]+$ && "$total" =~ ^[0-9]+$ ]] && REPLY+="${REPLY:+,}$index=$total"
    done <<<"$rows"
    return 0
}

runtime() { # runtime MODULE DOCKER-OPTION... -- ARGUMENT...: runs a module of runtime/ inside the engine image
    local module=$1 options=() label
    shift
    while [[ "$1" != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    once_label
    label=$REPLY
    image_tag engine
    docker run --rm --label "$label" --pull never --read-only --security-opt no-new-privileges --cap-drop ALL --user "$(id -u):$(id -g)" \
        ${options[@]+"${options[@]}"} -v "$KIT:/kit:ro" -v "$KIT/runtime:/opt/offline-kit/runtime:ro" \
        -e PYTHONPATH=/opt/offline-kit -e PYTHONDONTWRITEBYTECODE=1 --entrypoint python3 "$REPLY" -m "$module" --kit /kit "$@"
}

service_apply() { # configuration to files -> APPLIED: what changed. Dies with 3 when the configuration is wrong.
    local status=0 arguments=()
    APPLIED=''
    if [[ -n "$DRY_RUN" ]]; then
        say 'would run: runtime.apply in the engine image (configuration to .state/)'
        return 0
    fi
    [[ -f "$KIT/.env" ]] || die "$EXIT_CONFIG" "there is no $KIT/.env yet" 'run ./install.sh first'
    mkdir -p "$STATE"
    once_sweep
    gpu_memory memory.total
    if [[ -n "$REPLY" ]]; then
        arguments=(--gpu-memory "$REPLY")
        project
        if ! kit_has_containers; then # else they hold memory that is theirs
            gpu_memory memory.free
            [[ -z "$REPLY" ]] || arguments+=(--gpu-free "$REPLY")
        fi
    fi
    APPLIED=$(runtime runtime.apply --network none --cap-add CHOWN --cap-add DAC_OVERRIDE --cap-add FOWNER \
        -v "$STATE:/kit/.state" -- ${arguments[@]+"${arguments[@]}"}) || status=$?
    case "$status" in
        0) ;;
        3) die "$EXIT_CONFIG" 'the configuration is wrong: see above; running services were not touched' \
            "config.orig in $STATE has the files as they came" ;;
        125) die "$EXIT_LOAD" 'Docker could not run the engine image: see above' 'scripts/load_images.sh loads it' ;;
        *) die 1 "the configuration could not be applied (exit $status)" ;;
    esac
    indented '    ' "$APPLIED"
}

service_smoke() { # service_smoke [ARGUMENT...]: one question to each service; status 7 when an answer is wrong
    project
    runtime runtime.smoke --network "${PROJECT}_internal" -- "$@"
}
