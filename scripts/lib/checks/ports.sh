# shellcheck shell=bash
# The ports that the kit wants to publish, and who else has them.
#
# Rules: (1) the operator's .env comes before config/models.json; (2) a port that this kit itself holds is no finding;
# (3) the same ports as runtime.apply writes into .state/ports, known before it has run.

[[ -z "${PORTS_SH:-}" ]] || return 0
PORTS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/docker.sh
. "${BASH_SOURCE[0]%/*}/docker.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/models.sh
. "${BASH_SOURCE[0]%/*}/models.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/listeners.sh
. "${BASH_SOURCE[0]%/*}/listeners.sh"

wanted_port() { # wanted_port SETTING DEFAULT: a line for wanted_ports
    setting "$1" "$2"
    printf '%s %s\n' "$1" "${REPLY:-$2}"
}

wanted_ports() { # SETTING PORT of each port that will be published, a line each
    local key field port name
    wanted_port VLLM_ROUTER_PORT 8000
    while IFS=$'\t' read -r key field port; do
        [[ "$field" == port ]] || continue
        name=$(tr '[:lower:]' '[:upper:]' <<<"$key" | tr -c 'A-Z0-9\n' '_')
        wanted_port "VLLM_${name}_PORT" "$port"
    done < <(model_fields)
    wanted_with
    if [[ ",$REPLY," == *,nginx,* ]]; then
        wanted_port OFFLINE_KIT_HTTP_PORT 80
        [[ -z "$TLS" && ! -e "$STATE/tls/server.crt" ]] || wanted_port OFFLINE_KIT_HTTPS_PORT 443
    fi
    wanted_with
    if [[ ",$REPLY," == *,monitoring,* ]]; then
        ! carries prometheus || wanted_port PROMETHEUS_PORT 9090
        ! carries grafana || wanted_port GRAFANA_PORT 3000
    fi
}

port_address() { # port_address SETTING -> REPLY: the address that it is published on
    case "$1" in
        PROMETHEUS_PORT) setting OFFLINE_KIT_MONITORING_BIND 127.0.0.1 && REPLY=${REPLY:-127.0.0.1} ;;
        *)
            if [[ "$1" != OFFLINE_KIT_HTTPS_PORT ]] && tls_only; then REPLY=127.0.0.1 && return 0; fi
            setting OFFLINE_KIT_BIND 0.0.0.0 && REPLY=${REPLY:-0.0.0.0}
            ;;
    esac
}

port_owner() { # port_owner PORT ADDRESS -> REPLY: who listens there (ours: this kit); status 1 when nobody does
    local line
    REPLY=''
    if [[ -n "$DOCKER_VERSION" ]]; then
        line=$(docker ps --filter "publish=$1" --format '{{.Names}} {{.Label "com.docker.compose.project"}}' 2>/dev/null | head -n 1) || line=''
        if [[ -n "$line" ]]; then
            [[ "${line#* }" == "$PROJECT" ]] && REPLY=ours || REPLY="the container ${line%% *}"
            return 0
        fi
    fi
    listener "$1" "$2" || return 1
    socket_owner "$REPLY"
}

check_ports() {
    local name port free='' ours='' fine=yes
    local -A seen=()
    while read -r name port; do
        if [[ ! "$port" =~ ^[0-9]{1,6}$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
            finding FAIL ports "$name is '$port'" 'a port is a number from 1 to 65535'
            fine=''
            continue
        fi
        port_address "$name"
        if [[ -n "${seen[$port]:-}" ]]; then
            finding FAIL ports "$port is both $name and ${seen[$port]}" 'give each a port of its own in .env'
            fine=''
        elif port_owner "$port" "$REPLY"; then
            if [[ "$REPLY" == ours ]]; then
                ours+=" $port"
            else
                finding FAIL ports "$port ($name) is taken by $REPLY" "end that program, or set another $name in .env"
                fine=''
            fi
        else
            free+=" $port"
        fi
        seen[$port]=$name
    done < <(wanted_ports)
    [[ -z "$fine" ]] || finding OK ports "${free:+free:$free}${free:+${ours:+; }}${ours:+held by this kit:$ours}"
    check_with
}

check_with() { # what is switched on is in the kit
    wanted_with
    [[ ",$REPLY," == *,monitoring,* ]] && ! carries prometheus || return 0
    finding FAIL monitoring "this kit does not carry the image 'prometheus', which monitoring needs" 'leave monitoring out, or build the bundle with that image'
}
