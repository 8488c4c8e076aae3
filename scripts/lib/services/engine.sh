# shellcheck shell=bash
# The engine image, used for one command: configuration to files, and one question to each service.
#
# Rules: (1) what needs Python runs here, in a container without network unless it asks the services; (2) the image is not trusted:
# it sees the folders of the kit that it needs, read-only, and no secret but the key of the smoke test; what it answers is checked
# (applied.sh) before anything of the host reads it; (3) a container that was killed before it ran is swept by the next.

[[ -z "${ENGINE_SH:-}" ]] || return 0
ENGINE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/state.sh
. "${BASH_SOURCE[0]%/*}/state.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/failure_reasons.sh
. "${BASH_SOURCE[0]%/*}/failure_reasons.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/applied.sh
. "${BASH_SOURCE[0]%/*}/applied.sh"

PROJECT='' GIVEN='' GIVEN_MOUNTS=()

gpu_memory() { # gpu_memory [FIELD] -> REPLY: INDEX=MiB,... of the GPUs that say it (memory.total, memory.free), of a GB10 that of the host; empty when none does
    local rows index total name shared=MemTotal
    device
    [[ "$REPLY" == nvidia ]] || { REPLY='' && return 0; }
    REPLY=''
    [[ "${1:-}" != memory.free ]] || shared=MemAvailable
    rows=$(at_most 30 nvidia-smi --query-gpu="index,${1:-memory.total},name" --format=csv,noheader,nounits 2>/dev/null) || return 0
    while IFS=', ' read -r index total name; do
        [[ "$total" =~ ^[0-9]+$ || "$name" != *GB10* ]] || total=$(awk -v name="$shared:" '$1 == name { printf "%d", $2 / 1024 }' /proc/meminfo 2>/dev/null) || total=''
        [[ "$index" =~ ^[0-9]+$ && "$total" =~ ^[0-9]+$ ]] && REPLY+="${REPLY:+,}$index=$total"
    done <<<"$rows"
    return 0
}

runtime() { # runtime MODULE DOCKER-OPTION... -- ARGUMENT...: runs a module of runtime/ inside the engine image; $WORK/runtime-says: its stderr
    local module=$1 options=() label name="offline-kit-once-$$-${BASHPID:-0}" status=0
    shift
    while [[ "$1" != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    once_label
    label=$REPLY
    image_tag engine
    work_folder
    { at_most 1800 docker run --rm --name "$name" --label "$label" --pull never --read-only --security-opt no-new-privileges --cap-drop ALL \
        --user "$(id -u):$(id -g)" --pids-limit 512 --memory 4g --ulimit core=0 --log-driver none ${options[@]+"${options[@]}"} \
        -v "$KIT/runtime:/opt/offline-kit/runtime:ro" -e PYTHONPATH=/opt/offline-kit -e PYTHONDONTWRITEBYTECODE=1 \
        --entrypoint python3 "$REPLY" -m "$module" --kit /kit "$@" 2>&1 >&3 | head -c 1048576 | reveal_controls | tee "$WORK/runtime-says" >&2; } 3>&1 || status=$?
    # One that says too much or takes too long loses its reader, and would go on without one.
    ((status == 0)) || docker rm --force "$name" >/dev/null 2>&1 || true
    return "$status"
}

run_failed() { # run_failed STATUS TEXT WHAT [IMAGE]: the end: what `docker run` was to do for WHAT ended so, and said TEXT
    # One that lost its Docker ends with 1 as well as with 125.
    ! docker_silent || die "$EXIT_LOAD" 'Docker does not answer' "${REPLY#*: }"
    service_reason "$2"
    (($1 != 125)) || die "$EXIT_LOAD" "Docker could not run the ${4:-engine} image: see above" "${REPLY:-scripts/load_images.sh loads it, if it is not there}"
    die 1 "$3 (exit $1)" "$REPLY"
}

given() { # given [ENV CONFIG STATE] -> GIVEN_MOUNTS: the kit as one container may see it, without secrets; given_end takes it away
    local env=${1:-$KIT/.env} config=${2:-$KIT/config} state=${3:-$STATE}
    # Where Docker is sure to see it.
    GIVEN="$STATE/given.$$"
    withheld_settings "$env" "$state" "$GIVEN"
    mkdir "$GIVEN/config" "$GIVEN/deploy" "$GIVEN/models"
    GIVEN_MOUNTS=(-v "$GIVEN:/kit:ro" -v "$config:/kit/config:ro" -v "$KIT/deploy:/kit/deploy:ro" -v "$KIT/models:/kit/models:ro")
    [[ ! -f "$KIT/bundle.json" ]] || cp "$KIT/bundle.json" "$GIVEN/bundle.json"
}

given_end() { [[ -z "$GIVEN" ]] || rm -rf -- "$GIVEN"; }

certificate_conf() { # the least that nginx reads a certificate with: on a read-only root, without rights
    local name
    [[ "${EUID:-1}" != 0 ]] || printf 'user root;\n'
    printf '%s\n' 'pid /tmp/nginx.pid;' 'events { }' 'http {' 'access_log off;'
    for name in client_body proxy fastcgi uwsgi scgi; do printf '%s_temp_path /tmp/%s;\n' "$name" "$name"; done
    printf '%s\n' 'server { listen 8443 ssl; ssl_certificate /tls/server.crt; ssl_certificate_key /tls/server.key; }' '}'
}

certificate_check() { # certificate_check FOLDER: nginx of the gateway would start with server.crt and server.key in it, or the end
    local said status
    wanted_with
    [[ ",$REPLY," == *,nginx,* && -f "$1/server.crt" && -f "$1/server.key" ]] || return 0
    certificate_conf >"$GIVEN/nginx.conf"
    once_label
    said=$REPLY
    image_tag gateway
    said=$(docker run --rm --label "$said" --pull never --network none --read-only --tmpfs /tmp:mode=1777 --security-opt no-new-privileges --cap-drop ALL \
        --cap-add DAC_OVERRIDE --user "$(id -u):$(id -g)" -v "$1:/tls:ro" -v "$GIVEN/nginx.conf:/nginx.conf:ro" --entrypoint nginx "$REPLY" \
        -e stderr -t -q -c /nginx.conf 2>&1 </dev/null) && return 0
    status=$?
    given_end
    if docker_silent || ((status == 125)); then run_failed 125 "$said" '' gateway; fi
    said=$(grep -m 1 -o '\[emerg\].*' <<<"$said" | cut -c 1-300) || said=''
    die "$EXIT_CONFIG" ".state/tls/server.crt: cannot be used with server.key: ${said:-nginx does not start with them}" \
        'give a certificate and its key as PEM files, the key without a password; running services were not touched'
}

engine_memory() { # -> REPLY: what an engine may take at most where memory_limit is not given: the host's memory less a sixteenth, at least 1 GiB of it
    local total rest
    total=$(awk '$1 == "MemTotal:" { printf "%d", $2 / 1024 }' /proc/meminfo 2>/dev/null) || total=''
    REPLY=''
    [[ "$total" =~ ^[0-9]+$ ]] && ((total > 2048)) || return 0
    rest=$((total / 16 > 1024 ? total / 16 : 1024))
    # in steps, so that another kernel's few megabytes make no other engine
    REPLY="$(((total - rest) / 256 * 256))m"
}

service_apply() { # configuration to files -> APPLIED: what changed. Dies with 3 when the configuration is wrong, with 22 when the engine image is.
    local status=0 arguments=()
    APPLIED=''
    if [[ -n "$DRY_RUN" ]]; then
        say 'would run: runtime.apply in the engine image (configuration to .state/)'
        return 0
    fi
    [[ -f "$KIT/.env" ]] || die "$EXIT_CONFIG" "there is no $KIT/.env yet" 'run ./install.sh first'
    secrets_unpublished "$KIT/.env"
    mkdir -p "$STATE"
    work_folder # here, not in the subshell below
    once_sweep || true
    rm -rf -- "$STATE"/given.*
    gpu_memory memory.total
    if [[ -n "$REPLY" ]]; then
        arguments=(--gpu-memory "$REPLY")
        project
        if ! kit_has_containers; then # else they hold memory that is theirs
            gpu_memory memory.free
            [[ -z "$REPLY" ]] || arguments+=(--gpu-free "$REPLY")
        fi
    fi
    engine_memory
    [[ -z "$REPLY" ]] || arguments+=(--memory "$REPLY")
    services_user
    given
    certificate_check "$STATE/tls"
    # Reading alone: a configuration of another user, which root may read. No folder of the host can be written.
    runtime runtime.apply --network none --cap-add DAC_OVERRIDE "${GIVEN_MOUNTS[@]}" -- --user "$SERVICES_USER" \
        ${arguments[@]+"${arguments[@]}"} | head -c "$APPLIED_LARGEST" >"$WORK/answer" || status=${PIPESTATUS[0]}
    given_end
    (($(wc -c <"$WORK/answer") < APPLIED_LARGEST)) || untrusted "an answer of more than $APPLIED_LARGEST bytes"
    case "$status" in
        0) ;;
        3) die "$EXIT_CONFIG" 'the configuration is wrong: see above; running services were not touched' \
            "config.orig in $STATE has the files as they came" ;;
        *) run_failed "$status" "$(cat "$WORK/runtime-says")" 'the configuration could not be applied' ;;
    esac
    applied_take "$WORK/answer"
    indented '    ' "$APPLIED"
}

service_smoke() { # service_smoke [ARGUMENT...]: one question to each service; status 7 when an answer is wrong
    local key status=0
    project
    value_of "$KIT/.env" VLLM_API_KEY || true
    key=$REPLY
    given
    runtime runtime.smoke --interactive --network "${PROJECT}_internal" "${GIVEN_MOUNTS[@]}" -- --key-file /dev/stdin "$@" <<<"$key" |
        head -c 1048576 || status=${PIPESTATUS[0]}
    given_end
    return "$status"
}

smoke_has_form() { # smoke_has_form TEXT: it is what runtime.smoke --json writes, and no other JSON: it goes into the receipt as it is
    local text='"([^"\\[:cntrl:]]|\\(["\\/bfnrt]|u[0-9a-f]{4}))*"' check
    check="\\{\"able\": (true|false), \"name\": $text, \"ok\": (true|false), \"seconds\": [0-9.]+, \"detail\": $text\\}"
    [[ "$1" != *$'\n'* ]] && LC_ALL=C grep -qE "^\\{\"ok\": (true|false), \"checks\": \\[($check(, $check)*)?\\]\\}\$" <<<"$1"
}
