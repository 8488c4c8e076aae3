# shellcheck shell=bash
# The services of a kit: their configuration started group by group, and waited for.
#
# Rules: (1) `runtime.apply` decides what is run, here it is only carried out; a configuration that it refuses leaves
# running services alone; (2) one group of .state/start-order at a time, the next when all of it is healthy; (3) the
# wait ends at once when a container exits, restarts or turns unhealthy, and says why in one line where the reason is
# a known one; (4) what is healthy and unchanged is not touched.

[[ -z "${START_SH:-}" ]] || return 0
START_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/engine.sh
. "${BASH_SOURCE[0]%/*}/engine.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/failure_reasons.sh
. "${BASH_SOURCE[0]%/*}/failure_reasons.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/host_record.sh
. "${BASH_SOURCE[0]%/*}/../kit/host_record.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/secrets.sh
. "${BASH_SOURCE[0]%/*}/../kit/secrets.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/host_record.sh
. "${BASH_SOURCE[0]%/*}/../kit/host_record.sh"

SERVICE_FAULTS=() START_TIMEOUT=1800 BRINGING_UP=0

compose() {
    [[ -n "$COMPOSE_CHECKED" ]] || state_trusted # who brought .state/ brought the note of what was checked, too
    compose_noted || die "$EXIT_UNTRUSTED" "$STATE/compose.yaml is not what these scripts checked and wrote" 'write it again: scripts/deploy.sh restart'
    # no variable is meant in compose.yaml: what .env holds is for runtime.apply to read
    docker compose -p "$PROJECT" --project-directory "$KIT" --env-file /dev/null -f "$STATE/compose.yaml" "$@"
}

service_failed() { # service_failed SERVICE WHAT: its last lines, the reason where known; noted for the end
    local service=$1 what=$2 log='' reason=''
    progress ''
    ! docker_silent || die "$EXIT_START" "Docker stopped answering while $service started" "${REPLY#*: }; then scripts/deploy.sh start"
    [[ -z "$LOOK_ID" ]] || log=$(docker logs --since "$BRINGING_UP" --tail 200 "$LOOK_ID" 2>&1) || true
    redacted "$log"
    log=$REPLY
    say "    $service $what; its last lines:"
    indented '      | ' "$(tail -n 20 <<<"$log" | cut -c 1-200)"
    service_reason "$log"$'\n'"exit code $LOOK_EXIT"$'\n'"OOMKilled $LOOK_OOM"
    reason=$REPLY
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
            line=$(docker logs --tail 1 "$LOOK_ID" 2>&1 | tr '\r' '\n' | tail -n 1) || line=''
            redacted "$line"
            line=$REPLY
            line="    ${waiting[*]}: $((SECONDS - began)) s  $line"
            progress "${line:0:${COLUMNS:-100}}"
        elif ((SECONDS - began >= shown + 15)); then
            shown=$((SECONDS - began))
            say "    ${waiting[*]}: $shown s"
        fi
        sleep 1
    done
}

task_left() { # task_left TEXT: removes the container whose task containerd kept while Docker, which was starting it, died; status 1: TEXT names none
    [[ "$1" =~ task\ ([0-9a-f]{64}):\ already\ exists ]] || return 1
    local id=${BASH_REMATCH[1]}
    [[ -n "$(docker ps --all --quiet --filter "id=$id" --filter "label=com.docker.compose.project=$PROJECT")" ]] || return 1
    say '    a container that Docker had half started when it ended: made anew'
    docker rm --force "$id" >/dev/null
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
    for service in "$@" last; do # one such container is told of at a time
        status=0
        said=$(compose up --detach --no-deps --no-build ${options[@]+"${options[@]}"} ${force[@]+"${force[@]}"} "$@" 2>&1 </dev/null) || status=$?
        ((status != 0)) || break
        task_left "$said" || break
    done
    if ((status != 0)); then
        redacted "$said"
        said=$REPLY
        indented '      | ' "$said"
        docker_silent || service_reason "$said"
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
        ((${#members[@]} > 0)) || continue
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
    local read='' before
    gateway_state || return 0
    [[ ! -r "$STATE/gateway.read" ]] || read=$(<"$STATE/gateway.read")
    [[ "$read" != "$REPLY" || "$APPLIED" == *.state/gateway/* ]] || return 0
    gateway_workers
    before=$REPLY
    if compose exec -T gateway nginx -e stderr -c /etc/offline-kit/nginx.conf -s reload </dev/null >/dev/null 2>&1; then
        gateway_replaced "$before"
    else
        bring_up --force-recreate -- gateway
    fi
    ! gateway_state || write_file "$STATE/gateway.read" 644 <<<"$REPLY"
}

gateway_workers() { # -> REPLY: the process IDs of the gateway's workers that take new requests, in one line
    # shellcheck disable=SC2016 # the inner shell expands
    REPLY=$(compose exec -T gateway sh -c 'for file in /proc/[0-9]*/cmdline; do
        [ "$(tr -d "\\0" <"$file" 2>/dev/null)" != "nginx: worker process" ] || echo "${file%/cmdline}"
    done' </dev/null 2>/dev/null | tr -cd '0-9\n' | tr '\n' ' ') || REPLY=''
}

gateway_replaced() { # gateway_replaced PIDS: waits, 10 s at most, until none of these workers takes a request: they know the old keys
    local until=$((SECONDS + 10)) pid
    while ((SECONDS < until)); do
        gateway_workers
        for pid in $1; do
            [[ " $REPLY" != *" $pid "* ]] || { sleep 0.2 && continue 2; }
        done
        return 0
    done
    warn 'the gateway still serves as before, 10 s after it was told to read its files again: scripts/deploy.sh logs gateway'
}

compose_orphans() { # containers and networks of this project that the configuration no longer names
    local id service
    start_order
    while read -r id service; do
        [[ -n "$id" && " ${SERVICES[*]} " != *" $service "* ]] || continue
        say "    $service: no longer configured, removed"
        docker rm --force "$id" >/dev/null 2>&1 || true
    done < <(docker ps --all --filter "label=com.docker.compose.project=$PROJECT" --format '{{.ID}} {{.Label "com.docker.compose.service"}}')
    while read -r id service; do # and networks of models that are gone; one that is in use stays
        [[ "$service" == model-* ]] || continue
        ! grep -qxF "  $service:" "$STATE/compose.yaml" || continue
        docker network rm "$id" >/dev/null 2>&1 || true
    done < <(docker network ls --filter "label=com.docker.compose.project=$PROJECT" --format '{{.ID}} {{.Label "com.docker.compose.network"}}')
}
