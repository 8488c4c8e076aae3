# shellcheck shell=bash
# Which version of a kit serves: one small file in each version's .state/, and what follows from it.
#
# .state/upgrade   absent: this version is the current one; else PHASE, TO, SINCE, and PID, the process that is at it
#   PHASE=prepare  another version (TO) is being made ready; nothing that serves was touched
#   PHASE=switch   the services are being handed over to TO: not decided yet, so this version is still the current one
#   PHASE=done     TO is the current version: verbs called here go on there
#
# Rules: (1) the file changes by rename, and is on the disk before what it announces begins; (2) a switch that nobody works on
# any more ends with this version: `start` does that; (3) a folder that is gone cannot be current.

[[ -z "${UPGRADE_STATE_SH:-}" ]] || return 0
UPGRADE_STATE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/start.sh
. "${BASH_SOURCE[0]%/*}/../services/start.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/host_record.sh
. "${BASH_SOURCE[0]%/*}/../kit/host_record.sh"

PHASE='' PHASE_TO=''

journal_read() { # -> PHASE, PHASE_TO
    PHASE='' PHASE_TO=''
    [[ -r "$STATE/upgrade" ]] || return 0
    value_of "$STATE/upgrade" PHASE || true
    PHASE=$REPLY
    value_of "$STATE/upgrade" TO || true
    PHASE_TO=$REPLY
}

journal_write() { # journal_write KIT PHASE TO: in the .state of KIT
    now
    printf 'PHASE=%s\nTO=%s\nSINCE=%s\nPID=%s\n' "$2" "$3" "$REPLY" "$$" | write_file "$1/.state/upgrade" 644
    sync
}

journal_alone() { # after a kill, what the killed process had started may be at work for a while: not longer than that
    [[ -r "$STATE/upgrade" && -z "$DRY_RUN" ]] && value_of "$STATE/upgrade" PID || return 0
    kill -0 "$REPLY" 2>/dev/null || lock_free "$KIT"
}

journal_clear() { # journal_clear KIT
    rm -f -- "$1/.state/upgrade"
    sync
}

version_at() { # version_at KIT -> REPLY
    value_of "$1/deploy/kit.env" KIT_VERSION || REPLY='an unknown version'
}

journal_follow() { # journal_follow VERB WORD...: where another version is the current one, the verb goes on there
    [[ -z "${OFFLINE_KIT_FOR:-}" ]] || return 0
    journal_read
    [[ "$PHASE" == 'done' ]] || return 0
    state_trusted
    if [[ ! -x "$PHASE_TO/scripts/deploy.sh" || ! -r "$PHASE_TO/deploy/kit.env" ]]; then
        warn "$PHASE_TO, which this version was replaced by, is gone: this version is the current one again"
        [[ -n "$DRY_RUN" ]] || journal_clear "$KIT"
        return 0
    fi
    version_at "$PHASE_TO"
    say "note: $REPLY is the current version: $PHASE_TO/scripts/deploy.sh $1"
    exec "$PHASE_TO/scripts/deploy.sh" "$@"
}

journal_settled() { # verbs other than start wait until an interrupted upgrade is settled
    [[ -z "${OFFLINE_KIT_FOR:-}" ]] || return 0
    journal_read
    [[ "$PHASE" != switch ]] || die 1 "a switch to $PHASE_TO was interrupted" 'scripts/deploy.sh start goes back to this version'
}

others() { # containers of the project that another version's folder made, but the gateway: ID FOLDER a line
    docker ps --filter "label=com.docker.compose.project=$PROJECT" \
        --format '{{.ID}} {{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.project.working_dir"}}' |
        while read -r id service folder; do
            [[ "$service" == gateway || "$folder" == "$KIT" ]] || printf '%s %s\n' "$id" "$folder"
        done
}

others_stop() { # they hold memory and names that this version's services need; the gateway says 503 meanwhile
    local id folder ids=()
    while read -r id folder; do ids+=("$id"); done < <(others)
    ((${#ids[@]} == 0)) || docker stop "${ids[@]}" >/dev/null
}

others_none() { # no other version serves, or the end
    local id folder
    [[ -z "${OFFLINE_KIT_FOR:-}" ]] || return 0
    while read -r id folder; do
        [[ ! -f "$folder/deploy/kit.env" ]] || die 1 "another folder serves under the name ${KIT_FACT[KIT_NAME]}: $folder" \
            "to replace it: $folder/scripts/deploy.sh upgrade $KIT; to end it: $folder/scripts/deploy.sh stop"
    done < <(others)
}

data_move() { # data_move FROM TO: Prometheus' data, where it lies on one file system and TO has none yet
    [[ -d "$1/.state/prometheus" && "$(stat -c %d "$1/.state")" == "$(stat -c %d "$2/.state")" ]] || return 0
    rmdir "$2/.state/prometheus" 2>/dev/null || [[ ! -e "$2/.state/prometheus" ]] || return 0
    mv "$1/.state/prometheus" "$2/.state/prometheus"
}

recover() { # first part of `start`: settles what an interrupted upgrade left
    journal_read
    case "$PHASE" in
        prepare)
            version_at "$PHASE_TO"
            say "    the upgrade to $REPLY was interrupted before anything was switched"
            journal_clear "$KIT"
            ;;
        switch)
            version_at "$PHASE_TO"
            say "    the switch to $REPLY did not come to its end: ${KIT_FACT[KIT_VERSION]} stays the current version"
            [[ ! -d "$PHASE_TO/.state" ]] || lock_free "$PHASE_TO"
            others_stop
            data_move "$PHASE_TO" "$KIT"
            # Where this was a rollback, the other version goes on pointing here.
            [[ ! -f "$PHASE_TO/.state/was" ]] || journal_write "$PHASE_TO" 'done' "$KIT"
            ;;
        *) others_none ;;
    esac
}

recovered() { # last part of `start`: everything is healthy, the switch is history
    if [[ "$PHASE" == switch ]]; then
        rm -f -- "$PHASE_TO/.state/was"
        journal_clear "$KIT"
    fi
}
