# shellcheck shell=bash
# The ports that the kit wants to publish, and who else has them.
#
# Rules: (1) the operator's .env comes before config/models.json; (2) a port that this kit itself holds is no finding.

[[ -z "${PORTS_SH:-}" ]] || return 0
PORTS_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=findings.sh
. "${BASH_SOURCE[0]%/*}/findings.sh"

DOCKER_VERSION='' PROJECT=''

model_ports() { # KEY PORT of each model in config/models.json, a line each; what is no JSON is for runtime.apply to say
    awk '{ text = text $0 "\n" }
        END {
            while (match(text, /"([^"\\]|\\.)*"|[{}:,]|[-+.0-9a-zA-Z]+/)) {
                token = substr(text, RSTART, RLENGTH); text = substr(text, RSTART + RLENGTH)
                if (token == "{") { depth++; is_key = 1; continue }
                if (token == "}") { depth--; is_key = 0; continue }
                if (token == ",") { is_key = 1; continue }
                if (token == ":") { is_key = 0; continue }
                if (is_key) { gsub(/"/, "", token); name[depth] = token; continue }
                if (depth == 3 && name[1] == "models" && name[3] == "port" && token ~ /^[0-9]+$/) print name[2], token
            }
        }' "$KIT/config/models.json" 2>/dev/null
}

wanted_ports() { # SETTING PORT of each port that the gateway will publish, a line each
    local key port name
    setting VLLM_ROUTER_PORT 8000
    printf 'VLLM_ROUTER_PORT %s\n' "$REPLY"
    while read -r key port; do
        name=$(tr '[:lower:]' '[:upper:]' <<<"$key" | tr -c 'A-Z0-9\n' '_')
        setting "VLLM_${name}_PORT" "$port"
        printf 'VLLM_%s_PORT %s\n' "$name" "$REPLY"
    done < <(model_ports)
}

port_owner() { # port_owner PORT -> REPLY: who listens there; status 1 when nobody does
    local port=$1 line
    REPLY=''
    if [[ -n "$DOCKER_VERSION" ]]; then
        line=$(docker ps --filter "publish=$port" --format '{{.Names}} {{.Label "com.docker.compose.project"}}' 2>/dev/null | head -n 1) || line=''
        if [[ -n "$line" ]]; then
            [[ "${line#* }" == "$PROJECT" ]] && REPLY=ours || REPLY="the container ${line%% *}"
            return 0
        fi
    fi
    if type -P ss >/dev/null; then
        line=$(ss -Hltnp "sport = :$port" 2>/dev/null | head -n 1) || line=''
        [[ -n "$line" ]] || return 1
        [[ "$line" =~ users:\(\(\"([^\"]+)\",pid=([0-9]+) ]] && REPLY="${BASH_REMATCH[1]} (pid ${BASH_REMATCH[2]})" || REPLY='another program'
        return 0
    fi
    # shellcheck disable=SC2016 # the inner shell expands
    at_most 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0"' "$port" 2>/dev/null || return 1
    REPLY='another program'
}

check_ports() {
    local name port free='' ours='' fine=yes
    local -A seen=()
    while read -r name port; do
        if [[ ! "$port" =~ ^[0-9]+$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
            finding FAIL ports "$name is '$port'" 'a port is a number from 1 to 65535'
            fine=''
        elif [[ -n "${seen[$port]:-}" ]]; then
            finding FAIL ports "$port is both $name and ${seen[$port]}" 'give each a port of its own in .env'
            fine=''
        elif port_owner "$port"; then
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
}

kit_runs() { # a container of this kit is up
    [[ -n "$DOCKER_VERSION" && -n "$(docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" 2>/dev/null)" ]]
}
