# shellcheck shell=bash
# What the services are doing, for people and for programs.
#
# Rules: (1) looking changes nothing and takes no lock; (2) a service that is configured and has no container is shown, as
# absent; (3) healthy means: every configured service is; (4) a figure that cannot be had is -, or null in JSON.

[[ -z "${STATUS_SH:-}" ]] || return 0
STATUS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/start.sh
. "${BASH_SOURCE[0]%/*}/start.sh"

ROW_SERVICE=() ROW_STATE=() ROW_HEALTH=() ROW_RESTARTS=() ROW_SINCE=() ROW_PORT=() ROW_ID=()
ROW_MODEL=() ROW_MEMORY=() ROW_BUSY=() GPUS=()

port_of() { # port_of SERVICE -> REPLY
    REPLY=$(awk -v service="$1" '$2 == service { print $1; exit }' "$STATE/ports" 2>/dev/null) || REPLY=''
}

status_read() { # -> ROW_*
    local service
    start_order
    for service in "${SERVICES[@]}"; do
        look_at "$service"
        port_of "$service"
        ROW_SERVICE+=("$service")
        ROW_STATE+=("$LOOK_STATE")
        ROW_HEALTH+=("${LOOK_HEALTH:--}")
        ROW_RESTARTS+=("$LOOK_RESTARTS")
        ROW_SINCE+=("${LOOK_SINCE%%.*}")
        ROW_PORT+=("$REPLY")
        ROW_ID+=("$LOOK_ID")
    done
}

status_healthy() {
    local health
    for health in "${ROW_HEALTH[@]}"; do [[ "$health" == healthy ]] || return 1; done
}

status_requests() { # -> ROW_MODEL, ROW_MEMORY, ROW_BUSY (running, waiting, finished requests), GPUS: what takes longer to find out
    local index id memory stats='' model busy
    stats=$(at_most 30 docker stats --no-stream --no-trunc --format '{{.ID}} {{.MemUsage}}' ${ROW_ID[@]+$(printf '%s ' "${ROW_ID[@]}")} 2>/dev/null) || stats=''
    for index in "${!ROW_SERVICE[@]}"; do
        id=${ROW_ID[index]} model='' busy='' memory=''
        if [[ -n "$id" ]]; then
            model=$(docker inspect --format '{{with index .Config.Labels "offline-kit.model"}}{{.}}{{end}}' "$id" 2>/dev/null) || model=''
            memory=$(awk -v id="$id" '$1 == id { print $2 }' <<<"$stats")
            if [[ "$memory" == 0B || -z "$memory" ]]; then status_memory "$id" && memory=$REPLY; fi
        fi
        if [[ "${ROW_SERVICE[index]}" == engine-* && "${ROW_HEALTH[index]}" == healthy ]]; then
            busy=$(at_most 10 docker exec "$id" python3 -I -S /opt/offline-kit/runtime/engine_stats.py 2>/dev/null) || busy=''
            [[ "$busy" =~ ^([0-9.]+|-)(\ ([0-9.]+|-)){2}$ ]] || busy=''
        fi
        [[ "${ROW_STATE[index]}" == running ]] || memory=''
        ROW_MODEL+=("$model")
        ROW_MEMORY+=("$memory")
        ROW_BUSY+=("${busy:-- - -}")
    done
    device
    [[ "$REPLY" == nvidia ]] || return 0
    while IFS= read -r model; do [[ -z "$model" ]] || GPUS+=("$model"); done < <(
        at_most 30 nvidia-smi --query-gpu=index,name,memory.used,memory.total,utilization.gpu --format=csv,noheader,nounits 2>/dev/null || true
    )
}

status_memory() { # status_memory ID -> REPLY: what its processes hold, where Docker does not count it
    local kib
    kib=$(docker top "$1" -eo pid,rss 2>/dev/null | awk 'NR > 1 { sum += $2 } END { printf "%.0f", sum }') || kib=0
    REPLY=''
    ((kib == 0)) || REPLY="$((kib / 1024))MiB"
}

status_uptime() { # status_uptime START -> REPLY, such as 3d04h
    local seconds
    seconds=$(($(date +%s) - $(date -u -d "${1/T/ }" +%s 2>/dev/null || echo 0)))
    if ((seconds < 3600)); then
        REPLY="$((seconds / 60))m$((seconds % 60))s"
    elif ((seconds < 86400)); then
        REPLY="$((seconds / 3600))h$((seconds % 3600 / 60))m"
    else
        REPLY="$((seconds / 86400))d$((seconds % 86400 / 3600))h"
    fi
}

status_table() {
    local index up busy gpu
    local -a figure
    printf '%-20s %-11s %-10s %-20s %-6s %-8s %-10s %-24s %s\n' SERVICE STATE HEALTH MODEL PORT UP MEMORY 'REQUESTS' RESTARTS
    for index in "${!ROW_SERVICE[@]}"; do
        up=-
        if [[ "${ROW_STATE[index]}" == running ]]; then status_uptime "${ROW_SINCE[index]}" && up=$REPLY; fi
        read -r -a figure <<<"${ROW_BUSY[index]}"
        busy="${figure[0]} now, ${figure[1]} wait, ${figure[2]} done"
        [[ "${ROW_BUSY[index]}" != '- - -' ]] || busy=-
        printf '%-20s %-11s %-10s %-20s %-6s %-8s %-10s %-24s %s\n' "${ROW_SERVICE[index]}" "${ROW_STATE[index]}" "${ROW_HEALTH[index]}" \
            "${ROW_MODEL[index]:--}" "${ROW_PORT[index]:--}" "$up" "${ROW_MEMORY[index]:--}" "$busy" "${ROW_RESTARTS[index]}"
    done
    for gpu in ${GPUS[@]+"${GPUS[@]}"}; do
        IFS=',' read -r -a figure <<<"$gpu"
        printf 'GPU %s:%s,%s of%s MiB used,%s %% busy\n' "${figure[@]:0:5}"
    done
}

status_rows() { # -> REPLY: a JSON array
    local index out='' separator='' figure name place
    for index in "${!ROW_SERVICE[@]}"; do
        json "${ROW_SERVICE[index]}" && out+="$separator{\"service\": $REPLY"
        json "${ROW_STATE[index]}" && out+=", \"state\": $REPLY"
        json "${ROW_HEALTH[index]}" && out+=", \"health\": $REPLY"
        json "${ROW_SINCE[index]}" && out+=", \"since\": $REPLY"
        if ((${#ROW_MODEL[@]} > 0)); then
            status_text "${ROW_MODEL[index]}" && out+=", \"model\": $REPLY"
            status_text "${ROW_MEMORY[index]}" && out+=", \"memory\": $REPLY"
            read -r -a figure <<<"${ROW_BUSY[index]}"
            place=0
            for name in running waiting finished; do
                out+=", \"requests_$name\": ${figure[place]/#-/null}"
                place=$((place + 1))
            done
        fi
        out+=", \"restarts\": ${ROW_RESTARTS[index]:-0}, \"port\": ${ROW_PORT[index]:-null}}"
        separator=', '
    done
    REPLY="[$out]"
}

status_text() { # status_text TEXT -> REPLY
    REPLY=null
    [[ -z "$1" ]] || json "$1"
}

status_gpus() { # -> REPLY: a JSON array; a figure that a GPU does not tell is null
    local gpu out='' separator='' part
    local -a figure
    for gpu in ${GPUS[@]+"${GPUS[@]}"}; do
        IFS=',' read -r -a figure <<<"$gpu"
        json "${figure[1]# }" && out+="$separator{\"index\": ${figure[0]}, \"name\": $REPLY"
        for part in 'memory_used_mib 2' 'memory_total_mib 3' 'utilization_percent 4'; do
            REPLY=${figure[${part#* }]# }
            [[ "$REPLY" =~ ^[0-9]+$ ]] || REPLY=null
            out+=", \"${part% *}\": $REPLY"
        done
        out+='}' separator=', '
    done
    REPLY="[$out]"
}

status_json() {
    local healthy=true name
    status_healthy || healthy=false
    fact KIT_NAME
    json "$REPLY" && name=$REPLY
    fact KIT_VERSION
    json "$REPLY"
    printf '{"kit": %s, "version": %s, "healthy": %s, ' "$name" "$REPLY" "$healthy"
    status_rows
    printf '"services": %s, ' "$REPLY"
    status_gpus
    printf '"gpus": %s}\n' "$REPLY"
}
