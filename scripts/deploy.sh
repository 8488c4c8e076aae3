#!/usr/bin/env bash
# Operates the services of an installed kit. What each verb does is in lib/: this is the list of them.
if ! test -n "${BASH_VERSION:-}" || shopt -qo posix; then # started by sh: it is bash that reads the rest
    unset POSIXLY_CORRECT
    command -v bash >/dev/null || { echo 'error: bash 4.2 or later is needed, and this host has none' >&2 && exit 4; }
    exec bash "$0" "$@"
fi
LIB=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/lib
# shellcheck source-path=SCRIPTDIR source=lib/verbs/keys.sh
. "$LIB/verbs/keys.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/backup.sh
. "$LIB/verbs/backup.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/restore.sh
. "$LIB/verbs/restore.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/receive.sh
. "$LIB/verbs/receive.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/switch_receipt.sh
. "$LIB/verbs/switch_receipt.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/upgrade.sh
. "$LIB/verbs/upgrade.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/attest.sh
. "$LIB/verbs/attest.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/support_bundle.sh
. "$LIB/verbs/support_bundle.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/remove.sh
. "$LIB/verbs/remove.sh"
# shellcheck source-path=SCRIPTDIR source=lib/verbs/everyday.sh
. "$LIB/verbs/everyday.sh"

help() {
    cat <<HELP
Usage: $0 VERB [WORD...] [--dry-run]

Every day
  status [--json]      state, health, model, memory, uptime and requests of each service; the exit code says whether all are healthy
  start                apply the configuration, start what is not running, wait until all is healthy; after a crash or an interrupted
                       upgrade, this is the verb that puts things right. --in-order: what Docker started by itself is stopped first.
                       In a kit that is not installed yet: ./install.sh --yes
  stop [SERVICE]       stop all services, or one
  restart [SERVICE]    apply the configuration and start all services anew, or one; a wrong configuration is refused before anything stops
  logs [SERVICE]       their logs; -f follows, --since 1h (or a time), --tail N lines, --errors: only lines that tell of errors
  smoke [--json]       ask each service one question and check the answer; --full: also for each feature of the API, and say what an
                       engine cannot do
  attest               is what serves what was approved? Signature, files, images, services and configuration against SHA256SUMS. --full: every
                       byte anew; --json; --allow-edits: yours of config/ and models/ are no reason; --metrics FILE: for Prometheus

Keys of clients
  keys list            their names
  keys add NAME        make one and print it, this once; no request is dropped
  keys revoke NAME     it is refused from then on; no request is dropped

Versions
  upgrade FOLDER       go over to the version unpacked in FOLDER: made ready while this one serves, asked, undone by itself when it fails.
                       --key FILE: must have signed it (again for more; --threshold N of them); --allow-downgrade: an older version
  rollback             back to the version before

Keeping
  backup [FILE]        settings, keys, certificate, configuration, Grafana's data; --models: models of your own, too
  restore FILE         back from there
  support-bundle [FILE]  logs, versions, plan and configuration for whoever helps; no secrets
  enable-boot          start at boot (systemd), in order
  disable-boot         no more
  clean --force        remove containers, networks, images and .state/ of this kit; .env, keys and config/ stay
  uninstall --force    remove all that the installation made; this folder stays as it was unpacked

A SERVICE is named as status shows it, or by its key in config/models.json. OFFLINE_KIT_START_TIMEOUT (seconds, 1800) bounds the wait.
  --dry-run            say what would be done
  --help               this text

Exit codes: 0 done, healthy; 1 not covered below; 2 wrong usage; 3 configuration wrong; 4 the new version would not run on this host;
5 an image was not loaded; 6 a service is not healthy; 7 the smoke test failed; 8 what serves is not what was approved;
20 a file is damaged; 22 not signed as demanded, or an engine image that is not to be trusted; 130 interrupted.
HELP
}

verb_help() { # verb_help VERB: what the help says of it
    printf 'Usage: %s %s [WORD...] [--dry-run]\n\n' "$0" "$1"
    help | awk -v verb="$1" '/^  [a-z-]/ { ours = ($1 == verb) } /^[^ ]/ || /^$/ { ours = 0 } ours; /^Exit codes/ { ends = 1; print "" } ends'
}

dispatch() {
    local verb=${1:-} word
    (($# == 0)) || shift
    for word in "$@"; do
        if [[ "$word" == --help || "$word" == -h ]] && [[ "$verb" =~ ^[a-z] ]]; then
            declare -F "verb_${verb//-/_}" >/dev/null || usage_error "unknown verb '$verb'"
            verb_help "$verb"
            return 0
        fi
    done
    case "$verb" in
        start | restart) state_told ;;
        upgrade | rollback | enable-boot) state_trusted ;;
        *) ;;
    esac
    case "$verb" in
        start | stop | restart | status | logs | smoke | attest | keys | upgrade | rollback | backup | restore | support-bundle | enable-boot | disable-boot)
            journal_follow "$verb" "$@"
            "verb_${verb//-/_}" "$@"
            ;;
        clean | uninstall | receive | receipt) "verb_$verb" "$@" ;;
        --help | -h | help) help ;;
        '') usage_error 'a verb is missing' ;;
        *) usage_error "unknown verb '$verb'" ;;
    esac
}

split_options "$@"
flags ${WORDS[@]+"${WORDS[@]}"}
open_kit "${BASH_SOURCE[0]}"
state_look
dispatch ${WORDS[@]+"${WORDS[@]}"}
