#!/usr/bin/env bash
# Operates the services of an installed kit.
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/status.sh
. "$LIB/status.sh"

help() {
    cat <<HELP
Usage: $0 start | stop | restart [SERVICE] | status [--json] | logs [SERVICE] [-f] [--since TIME] [--tail N] | smoke [--json]

  start              apply the configuration, start what is not running, wait until all is healthy
  stop [SERVICE]     stop all services, or one
  restart [SERVICE]  apply the configuration and start all services anew, or one; a wrong configuration is refused before anything stops
  status [--json]    state and health of each service; the exit code says whether all are healthy
  logs [SERVICE]     their logs; -f follows, --since 1h (or a time), --tail N lines
  smoke [--json]     ask each service one question and check the answer

A SERVICE is named as status shows it, or by its key in config/models.json. OFFLINE_KIT_START_TIMEOUT (seconds, 1800) bounds the wait.
  --dry-run          with start, stop, restart: say what would be done
  --help             this text

Exit codes: 0 done, healthy; 2 wrong usage; 3 configuration wrong; 6 a service is not healthy; 7 the smoke test failed; 130 interrupted.
HELP
}

installed() {
    [[ -f "$STATE/compose.yaml" && -f "$KIT/.env" ]] || die "$EXIT_CONFIG" 'this kit is not installed yet' 'run ./install.sh first'
    need docker
    project
}

no_more() { (($# == 0)) || usage_error "unknown option or word '$1'"; }

flags() { # takes --dry-run out of the words -> WORDS
    local word words=()
    for word in "$@"; do
        if [[ "$word" == --dry-run ]]; then DRY_RUN=yes; else words+=("$word"); fi
    done
    WORDS=(${words[@]+"${words[@]}"})
    local first=${WORDS[0]:-}
    [[ "$first" != -* || "$first" == --help || "$first" == -h ]] || usage_error "unknown option '$first'"
}

start() {
    no_more "$@"
    installed
    lock_kit
    service_apply
    service_start keep
}

stop() {
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

restart() {
    (($# < 2)) || no_more "${@:2}"
    [[ "${1:-}" != -* ]] || usage_error "unknown option '$1'"
    installed
    lock_kit
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

status() {
    local form=table
    if [[ "${1:-}" == --json ]]; then
        form=json
        shift
    fi
    no_more "$@"
    installed
    status_read
    "status_$form"
    status_healthy || leave "$EXIT_START"
}

logs() {
    local options=() services=()
    while (($# > 0)); do
        case "$1" in
            -f | --follow) options+=(--follow) ;;
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
    compose logs ${options[@]+"${options[@]}"} ${services[@]+"${services[@]}"}
}

smoke() {
    local options=() status=0
    if [[ "${1:-}" == --json ]]; then
        options=(--json)
        shift
    fi
    no_more "$@"
    installed
    service_smoke ${options[@]+"${options[@]}"} || status=$?
    case "$status" in
        0) ;;
        3 | 7) leave "$status" ;;
        *) die "$EXIT_SMOKE" "the smoke test could not be run (exit $status)" 'scripts/deploy.sh status shows whether the services are up' ;;
    esac
}

dispatch() {
    local verb=${1:-}
    (($# == 0)) || shift
    case "$verb" in
        start | stop | restart | status | logs | smoke) "$verb" "$@" ;;
        --help | -h | help) help ;;
        '') usage_error 'a verb is missing' ;;
        *) usage_error "unknown verb '$verb'" ;;
    esac
}

split_options "$@"
flags ${WORDS[@]+"${WORDS[@]}"}
open_kit "${BASH_SOURCE[0]}"
dispatch ${WORDS[@]+"${WORDS[@]}"}
