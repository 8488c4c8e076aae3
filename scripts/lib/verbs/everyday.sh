# shellcheck shell=bash
# The verbs of every day: start, stop, restart, status, logs, smoke.
#
# Rules: (1) the command line is judged before anything is looked at; (2) what changes a kit holds its lock; (3) `start` is the
# one verb for every kind of recovery.

[[ -z "${EVERYDAY_SH:-}" ]] || return 0
EVERYDAY_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/lock.sh
. "${BASH_SOURCE[0]%/*}/../core/lock.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=verbs/upgrade_state.sh
. "${BASH_SOURCE[0]%/*}/upgrade_state.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/status.sh
. "${BASH_SOURCE[0]%/*}/../services/status.sh"

readonly LOG_ERRORS='(^|[^a-z])(error|critical|fatal|panic|emerg|alert|exception|traceback)|"status": ?"?5[0-9][0-9]'

flags() { # takes --dry-run out of the words -> WORDS
    local word words=()
    for word in "$@"; do
        if [[ "$word" == --dry-run ]]; then DRY_RUN=yes; else words+=("$word"); fi
    done
    WORDS=(${words[@]+"${words[@]}"})
    local first=${WORDS[0]:-}
    [[ "$first" != -* || "$first" == --help || "$first" == -h ]] || usage_error "unknown option '$first'"
}

verb_start() { # start [--in-order]
    local in_order=''
    if [[ "${1:-}" == --in-order ]]; then
        in_order=yes
        shift
    fi
    no_more "$@"
    if [[ -z "$in_order" && ! -e "$STATE/compose.yaml" ]]; then # the first start of a kit is its installation
        say '    not installed yet: ./install.sh --yes does it'
        bash "$KIT/install.sh" --yes ${DRY_RUN:+--dry-run} || exit_intended $?
        return 0
    fi
    installed
    journal_alone
    lock_kit
    if [[ -n "$DRY_RUN" ]]; then journal_settled; else recover; fi
    [[ -z "$in_order" || -n "$DRY_RUN" ]] || rest_unless_healthy
    service_apply
    service_start keep
    recovered
}

rest_unless_healthy() { # after a power loss Docker starts all containers at once: they rest, to be started one after another
    status_read
    status_healthy || (compose stop) >/dev/null 2>&1 || true # a file that Docker must not have is written anew, not the end
}

verb_stop() { # stop [SERVICE]
    (($# < 2)) || no_more "${@:2}"
    [[ "${1:-}" != -* ]] || usage_error "unknown option '$1'"
    installed
    lock_kit
    local services=()
    if (($# == 1)); then
        service_named "$1"
        services=("$REPLY")
    fi
    run compose stop ${services[@]+"${services[@]}"}
}

verb_restart() { # restart [SERVICE]
    (($# < 2)) || no_more "${@:2}"
    [[ "${1:-}" != -* ]] || usage_error "unknown option '$1'"
    installed
    lock_kit
    journal_settled
    others_none
    service_apply
    if (($# == 0)); then
        service_start anew
        return 0
    fi
    start_timeout
    service_named "$1"
    if [[ -n "$DRY_RUN" ]]; then say "would restart: $REPLY" && return 0; fi
    bring_up --force-recreate -- "$REPLY"
    gateway_reload
}

verb_status() { # status [--json]
    local form=table
    if [[ "${1:-}" == --json ]]; then
        form=json
        shift
    fi
    no_more "$@"
    installed
    journal_read
    [[ "$PHASE" != switch ]] || warn "a switch to $PHASE_TO is under way, or was interrupted: scripts/deploy.sh start goes back to this version"
    status_read
    status_requests
    "status_$form" | reveal_controls
    status_healthy || exit_intended "$EXIT_START"
}

verb_logs() { # logs [SERVICE] [-f] [--since TIME] [--tail N] [--errors]
    local options=() services=() errors='' status=0
    while (($# > 0)); do
        case "$1" in
            -f | --follow) options+=(--follow) ;;
            --errors) errors=yes ;;
            --since | --tail)
                argument "$@"
                options+=("$1" "$REPLY")
                shift
                ;;
            -*) usage_error "unknown option '$1'" ;;
            *) services+=("$1") ;;
        esac
        shift
    done
    installed
    ((${#services[@]} < 2)) || usage_error 'logs takes one service'
    if ((${#services[@]} == 1)); then
        service_named "${services[0]}"
        services=("$REPLY")
    fi
    secrets_ready
    if [[ -z "$errors" ]]; then
        compose logs ${options[@]+"${options[@]}"} ${services[@]+"${services[@]}"} 2>&1 | redact | reveal_controls
        return 0
    fi
    compose logs --no-color ${options[@]+"${options[@]}"} ${services[@]+"${services[@]}"} 2>&1 | grep --line-buffered -iE -- "$LOG_ERRORS" | redact | reveal_controls || status=$?
    ((status <= 1)) || exit_intended 1
    ((status == 0)) || say '    no line tells of an error'
}

verb_smoke() { # smoke [--full] [--json]
    local options=() status=0
    while [[ "${1:-}" == --json || "${1:-}" == --full ]]; do
        options+=("$1")
        shift
    done
    no_more "$@"
    installed
    service_smoke ${options[@]+"${options[@]}"} | reveal_controls || status=$?
    case "$status" in
        0) ;;
        3 | 7) exit_intended "$status" ;;
        *) die "$EXIT_SMOKE" "the smoke test could not be run (exit $status)" 'scripts/deploy.sh status shows whether the services are up' ;;
    esac
}
