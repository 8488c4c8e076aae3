# shellcheck shell=bash
# The services of a kit: their configuration applied, started group by group, waited for, looked at.
#
# Rules: (1) `runtime.apply` decides what is run, here it is only carried out; a configuration that it refuses leaves
# running services alone; (2) one group of .state/start-order at a time, the next when all of it is healthy; (3) the
# wait ends at once when a container exits, restarts or turns unhealthy, and says why in one line where the reason is
# a known one; (4) what is healthy and unchanged is not touched.

[[ -z "${SERVICES_SH:-}" ]] || return 0
SERVICES_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=reasons.sh
. "${BASH_SOURCE[0]%/*}/reasons.sh"

SERVICE_FAULTS=() SERVICES=() START_GROUPS=()
LOOK_STATE='' LOOK_HEALTH='' LOOK_RESTARTS=0 LOOK_EXIT='' LOOK_OOM='' LOOK_SINCE='' LOOK_ID=''
GATEWAY_HOST='' GATEWAY_PORT=''
APPLIED='' PROJECT='' START_TIMEOUT=1800 BRINGING_UP=0

project() { # -> PROJECT
    fact KIT_NAME
    PROJECT=${REPLY//./-}
}

compose() {
    # no variable is meant in compose.yaml: what .env holds is for runtime.apply to read
    docker compose -p "$PROJECT" --project-directory "$KIT" --env-file /dev/null -f "$STATE/compose.yaml" "$@"
}

# ---- the engine image, one-off

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

# ---- looking

start_order() { # -> START_GROUPS: the lines of .state/start-order; SERVICES: all of them, in that order
    local group members
    START_GROUPS=() SERVICES=()
    [[ -r "$STATE/start-order" ]] || die "$EXIT_CONFIG" "no $STATE/start-order: nothing was applied yet" 'run ./install.sh first'
    while IFS= read -r group || [[ -n "$group" ]]; do
        IFS=', ' read -r -a members <<<"$group"
        ((${#members[@]} > 0)) || continue
        START_GROUPS+=("$group")
        SERVICES+=("${members[@]}")
    done <"$STATE/start-order"
    ((${#SERVICES[@]} > 0)) || die "$EXIT_CONFIG" "$STATE/start-order names no service"
}

service_named() { # service_named NAME -> REPLY: NAME or engine-NAME, whichever is a service; usage error otherwise
    local service
    start_order
    for service in "${SERVICES[@]}"; do
        [[ "$service" == "$1" || "$service" == "engine-$1" ]] && REPLY=$service && return 0
    done
    usage_error "no service '$1'; there are: ${SERVICES[*]}"
}

container_of() { # container_of SERVICE -> REPLY: ID of its container; status 1 when it has none
    REPLY=$(docker ps --all --no-trunc --format '{{.ID}}' --filter "label=com.docker.compose.project=$PROJECT" \
        --filter "label=com.docker.compose.service=$1" --filter 'label=com.docker.compose.oneoff=False' | head -n 1)
    [[ -n "$REPLY" ]]
}

look_at() { # look_at SERVICE -> LOOK_STATE LOOK_HEALTH LOOK_RESTARTS LOOK_EXIT LOOK_OOM LOOK_SINCE LOOK_ID
    LOOK_STATE=absent LOOK_HEALTH='' LOOK_RESTARTS=0 LOOK_EXIT='' LOOK_OOM=false LOOK_SINCE='' LOOK_ID=''
    container_of "$1" || return 0
    LOOK_ID=$REPLY
    REPLY=$(docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.RestartCount}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.StartedAt}}' \
        "$LOOK_ID" 2>/dev/null) || { LOOK_ID='' && return 0; }
    # shellcheck disable=SC2034 # LOOK_SINCE is shown by status.sh
    read -r LOOK_STATE LOOK_HEALTH LOOK_RESTARTS LOOK_EXIT LOOK_OOM LOOK_SINCE <<<"$REPLY"
    if [[ "$LOOK_HEALTH" == none && "$LOOK_STATE" == running ]]; then
        LOOK_HEALTH=starting
        if [[ "$1" != gateway ]] || gateway_answers; then LOOK_HEALTH=healthy; fi
    fi
    [[ "$LOOK_STATE" == running ]] || LOOK_HEALTH=''
}

gateway_address() { # -> GATEWAY_HOST, GATEWAY_PORT: where this host reaches the gateway
    setting OFFLINE_KIT_BIND 0.0.0.0
    case "$REPLY" in
        '' | 0.0.0.0) GATEWAY_HOST=127.0.0.1 ;;
        :: | '[::]') GATEWAY_HOST=::1 ;;
        *) GATEWAY_HOST=${REPLY//[\[\]]/} ;;
    esac
    setting VLLM_ROUTER_PORT 8000
    GATEWAY_PORT=$REPLY
}

gateway_answers() { # GET /health on the published port says 200
    local answer=''
    gateway_address
    # shellcheck disable=SC2016 # the inner shell expands
    answer=$(at_most 6 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET /health HTTP/1.0\r\nHost: gateway\r\n\r\n" >&3 && IFS= read -r -t 5 line <&3 && printf "%s" "$line"' \
        "$GATEWAY_HOST" "$GATEWAY_PORT" 2>/dev/null) || return 1
    [[ "$answer" =~ ^HTTP/1\.[01]\ 200 ]]
}

# ---- starting

service_failed() { # service_failed SERVICE WHAT: its last lines, the reason where known; noted for the end
    local service=$1 what=$2 log='' reason=''
    progress ''
    [[ -z "$LOOK_ID" ]] || log=$(docker logs --since "$BRINGING_UP" --tail 200 "$LOOK_ID" 2>&1) || true
    say "    $service $what; its last lines:"
    indented '      | ' "$(tail -n 20 <<<"$log" | cut -c 1-200)"
    service_reason "$log"
    reason=$REPLY
    [[ "$LOOK_OOM" != true ]] || reason="it was killed for memory: raise memory_limit in config/models.json, or give the host more memory"
    [[ -z "$reason" ]] || say "    $service: $reason"
    SERVICE_FAULTS+=("$service $what${reason:+: $reason}")
    # it would start again and again, and hold what others need
    docker stop -t 10 "$LOOK_ID" >/dev/null 2>&1 || true
}

parent_lives() { # the upgrade that this works for is still there, or the end: its answer would reach nobody
    [[ -z "${OFFLINE_KIT_FOR:-}" ]] || kill -0 "$OFFLINE_KIT_FOR" 2>/dev/null ||
        die "$EXIT_INTERRUPTED" 'the upgrade that this belongs to is gone'
}

wait_for() { # wait_for SERVICE...: until all are healthy. Status 1 when one failed.
    local service began=$SECONDS shown=0 waiting=("$@") still line
    local -A restarts=()
    for service in "$@"; do
        look_at "$service"
        restarts[$service]=$LOOK_RESTARTS
    done
    while true; do
        parent_lives
        still=()
        for service in "${waiting[@]}"; do
            look_at "$service"
            if [[ "$LOOK_HEALTH" == healthy ]]; then
                progress ''
                say "    $service: healthy after $((SECONDS - began)) s"
            elif [[ "$LOOK_STATE" == absent || "$LOOK_STATE" == exited || "$LOOK_STATE" == dead || "$LOOK_STATE" == restarting ]]; then
                service_failed "$service" "came down while starting (state $LOOK_STATE, exit code ${LOOK_EXIT:-unknown})"
                return 1
            elif ((LOOK_RESTARTS > ${restarts[$service]})); then
                service_failed "$service" "came down while starting ($LOOK_RESTARTS restarts)"
                return 1
            elif [[ "$LOOK_HEALTH" == unhealthy ]]; then
                service_failed "$service" 'does not get healthy'
                return 1
            elif ((SECONDS - began >= START_TIMEOUT)); then
                service_failed "$service" "is not healthy after $START_TIMEOUT s (OFFLINE_KIT_START_TIMEOUT)"
                return 1
            else
                still+=("$service")
            fi
        done
        ((${#still[@]} > 0)) || return 0
        waiting=("${still[@]}")
        if [[ -n "$PROGRESS" ]]; then
            look_at "${waiting[0]}"
            line=$(docker logs --tail 1 "$LOOK_ID" 2>&1 | tr -d '\r\033' | tail -n 1) || line=''
            line="    ${waiting[*]}: $((SECONDS - began)) s  $line"
            progress "${line:0:${COLUMNS:-100}}"
        elif ((SECONDS - began >= shown + 15)); then
            shown=$((SECONDS - began))
            say "    ${waiting[*]}: $shown s"
        fi
        sleep 1
    done
}

bring_up() { # bring_up OPTION... -- SERVICE...: one group, up and healthy, or the end
    local options=() said status=0 service force=()
    while [[ "$1" != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    for service in "$@"; do # one that turned unhealthy is no better for being left alone
        look_at "$service"
        [[ "$LOOK_HEALTH" != unhealthy ]] || force=(--force-recreate)
    done
    parent_lives
    say "    $*: starting"
    BRINGING_UP=$(date +%s)
    said=$(compose up --detach --no-deps --no-build ${options[@]+"${options[@]}"} ${force[@]+"${force[@]}"} "$@" 2>&1 </dev/null) || status=$?
    if ((status != 0)); then
        indented '      | ' "$said"
        service_reason "$said"
        die "$EXIT_START" "$* did not start${REPLY:+: $REPLY}"
    fi
    wait_for "$@" || die "$EXIT_START" "${SERVICE_FAULTS[0]}" "scripts/deploy.sh logs ${1} shows all of its log; start again with scripts/deploy.sh start"
}

start_timeout() {
    START_TIMEOUT=${OFFLINE_KIT_START_TIMEOUT:-}
    if [[ -z "$START_TIMEOUT" ]]; then
        setting OFFLINE_KIT_START_TIMEOUT 1800
        START_TIMEOUT=${REPLY:-1800}
    fi
    [[ "$START_TIMEOUT" =~ ^[1-9][0-9]*$ ]] || die "$EXIT_CONFIG" "OFFLINE_KIT_START_TIMEOUT is '$START_TIMEOUT'; it is a number of seconds"
}

service_start() { # service_start keep|anew: all groups, one after another; what runs and is unchanged is kept, or not
    local group members options=()
    [[ "$1" == keep ]] || options=(--force-recreate)
    if [[ -n "$DRY_RUN" ]]; then
        say 'would start: the services, group by group as .state/start-order says, each waited for'
        return 0
    fi
    project
    start_timeout
    start_order
    for group in "${START_GROUPS[@]}"; do
        IFS=', ' read -r -a members <<<"$group"
        bring_up ${options[@]+"${options[@]}"} -- "${members[@]}"
    done
    gateway_reload
    compose_orphans
}

gateway_state() { # -> REPLY: the gateway's container and the files that it is to have read
    container_of gateway || return 1
    REPLY+=" $(find "$STATE/gateway" -type f -exec stat -c '%n %s %y' {} + 2>/dev/null | sort | cksum)" || true
}

gateway_reload() { # a gateway that kept running while its files changed reads them again, be it that an earlier run was cut off in between
    local read=''
    gateway_state || return 0
    [[ ! -r "$STATE/gateway.read" ]] || read=$(<"$STATE/gateway.read")
    [[ "$read" != "$REPLY" || "$APPLIED" == *.state/gateway/* ]] || return 0
    compose exec -T gateway nginx -e stderr -c /etc/offline-kit/nginx.conf -s reload </dev/null >/dev/null 2>&1 ||
        bring_up --force-recreate -- gateway
    ! gateway_state || write_file "$STATE/gateway.read" 644 <<<"$REPLY"
}

compose_orphans() { # containers of this project that the configuration no longer names
    local id service
    start_order
    while read -r id service; do
        [[ -n "$id" && " ${SERVICES[*]} " != *" $service "* ]] || continue
        say "    $service: no longer configured, removed"
        docker rm --force "$id" >/dev/null 2>&1 || true
    done < <(docker ps --all --filter "label=com.docker.compose.project=$PROJECT" --format '{{.ID}} {{.Label "com.docker.compose.service"}}')
}

kit_has_containers() { # some are up
    container_ids
    [[ -n "$REPLY" ]]
}

container_ids() { # -> REPLY: the IDs of all containers of the kit, in one line
    REPLY=$(docker ps --no-trunc --filter "label=com.docker.compose.project=$PROJECT" --format '{{.ID}}' 2>/dev/null | sort | tr '\n' ' ') || REPLY=''
}
