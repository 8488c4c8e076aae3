# shellcheck shell=bash
# Looking at services: which there are, what Docker says of each, and whether the gateway answers.
#
# Rules: nothing is changed here; a service is what .state/start-order names.

[[ -z "${STATE_SH:-}" ]] || return 0
STATE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"

SERVICES=() START_GROUPS=()
LOOK_STATE='' LOOK_HEALTH='' LOOK_RESTARTS=0 LOOK_EXIT='' LOOK_OOM='' LOOK_SINCE='' LOOK_ID=''
GATEWAY_HOST='' GATEWAY_PORT=''

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
    if tls_only; then REPLY=127.0.0.1; else setting OFFLINE_KIT_BIND 0.0.0.0; fi
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

kit_has_containers() { # some are up
    container_ids
    [[ -n "$REPLY" ]]
}

container_ids() { # -> REPLY: the IDs of all containers of the kit, in one line
    REPLY=$(docker ps --no-trunc --filter "label=com.docker.compose.project=$PROJECT" --format '{{.ID}}' 2>/dev/null | sort | tr '\n' ' ') || REPLY=''
}

project() { # -> PROJECT
    fact KIT_NAME
    PROJECT=${REPLY//./-}
}

installed() { # or the end
    [[ -f "$STATE/compose.yaml" && -f "$KIT/.env" ]] || die "$EXIT_CONFIG" 'this kit is not installed yet' 'run ./install.sh first'
    need docker
    project
}
