# shellcheck shell=bash
# What the services are doing, for people and for programs.
#
# Rules: (1) looking changes nothing and takes no lock; (2) a service that is configured and has no container is shown, as
# absent; (3) healthy means: every configured service is.

[[ -z "${STATUS_SH:-}" ]] || return 0
STATUS_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=services.sh
. "${BASH_SOURCE[0]%/*}/services.sh"

ROW_SERVICE=() ROW_STATE=() ROW_HEALTH=() ROW_RESTARTS=() ROW_SINCE=() ROW_PORT=()

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
    done
}

status_healthy() {
    local health
    for health in "${ROW_HEALTH[@]}"; do [[ "$health" == healthy ]] || return 1; done
}

status_table() {
    local index
    printf '%-24s %-11s %-10s %-6s %-9s %s\n' SERVICE STATE HEALTH PORT RESTARTS 'SINCE (UTC)'
    for index in "${!ROW_SERVICE[@]}"; do
        printf '%-24s %-11s %-10s %-6s %-9s %s\n' "${ROW_SERVICE[index]}" "${ROW_STATE[index]}" "${ROW_HEALTH[index]}" \
            "${ROW_PORT[index]:--}" "${ROW_RESTARTS[index]}" "${ROW_SINCE[index]:--}"
    done
}

status_rows() { # -> REPLY: a JSON array
    local index out='' separator=''
    for index in "${!ROW_SERVICE[@]}"; do
        json "${ROW_SERVICE[index]}" && out+="$separator{\"service\": $REPLY"
        json "${ROW_STATE[index]}" && out+=", \"state\": $REPLY"
        json "${ROW_HEALTH[index]}" && out+=", \"health\": $REPLY"
        json "${ROW_SINCE[index]}" && out+=", \"since\": $REPLY"
        out+=", \"restarts\": ${ROW_RESTARTS[index]:-0}, \"port\": ${ROW_PORT[index]:-null}}"
        separator=', '
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
    printf '"services": %s}\n' "$REPLY"
}
