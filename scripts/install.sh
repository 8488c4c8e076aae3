#!/usr/bin/env bash
# Turns an unpacked kit into running services: checks, loads, configures, starts, asks. Run it again at any time.
HERE=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# Damaged scripts cannot judge themselves: their sums are checked before any line of theirs is read.
if ! (cd -- "$HERE" && LC_ALL=C grep -E '^[0-9a-f]{64}  (install\.sh|scripts/.*)$' SHA256SUMS | LC_ALL=C sha256sum -c 2>&1 |
    awk '$0 == "install.sh: OK" { seen = 1 } !/: OK$/ { print; bad = 1 } END { exit bad || !seen }') >&2; then
    printf 'error: the kit is damaged: its own scripts are not as SHA256SUMS says; nothing was started\n' >&2
    printf '  unpack the bundle again: tar -xzf NAME-VERSION.tar.gz\n' >&2
    exit 20
fi
LIB="$HERE/scripts/lib"
# shellcheck source-path=SCRIPTDIR source=lib/receipt.sh
. "$LIB/receipt.sh"
# shellcheck source-path=SCRIPTDIR source=lib/base.sh
. "$LIB/base.sh"
# shellcheck source-path=SCRIPTDIR source=lib/cuda.sh
. "$LIB/cuda.sh"

ASK=yes START=yes

help() {
    cat <<HELP
Usage: $0 [--dry-run] [--yes] [--device nvidia|cpu] [--with monitoring,nginx] [--no-start]
       [--env-file FILE] [--base KIT] [--json-receipt FILE]

Installs this kit here, where it was unpacked: checks every file, looks for reasons to fail, loads the images, tries CUDA in one of
them, writes .env (settings and a new API key; one that is there stays), applies the configuration, starts the services, waits until
they are healthy, asks each one question, and writes .state/receipt.json. Run again, it changes only what is not yet as it should be.

  --dry-run            check files and host, say what would be done, change nothing
  --yes                do not ask before the first change
  --device nvidia|cpu  run on this accelerator, whatever the kit was made for; kept in .env
  --with LIST          run monitoring (Prometheus, Grafana), nginx (ports 80 and 443) or both besides; kept in .env; '' for neither
  --no-start           load and configure, start nothing
  --env-file FILE      settings for a new .env, before those of .env.example
  --base KIT           of a delta: the folder of the earlier kit, which has the files that are not in this one
  --json-receipt FILE  write the receipt there, too; also after a failure or a dry run, with what was seen by then
  --help               this text

Exit codes: 0 installed, healthy; 2 wrong usage; 3 configuration wrong; 4 a reason to fail was found; 5 an image was not loaded; 6 a service
did not get healthy; 7 a wrong answer in the smoke test; 20 the kit is damaged; 130 interrupted.
HELP
}

options() {
    split_options "$@"
    set -- ${WORDS[@]+"${WORDS[@]}"}
    while (($# > 0)); do
        case "$1" in
            --dry-run) DRY_RUN=yes ;;
            --yes | -y) ASK='' ;;
            --device) device_argument "$@" && shift ;;
            --with) with_argument "$@" && shift ;;
            --json-receipt) receipt_argument "$@" && shift ;;
            --no-start) START='' ;;
            --env-file) env_file_argument "$@" && shift ;;
            --base) base_argument "$@" && shift ;;
            --help | -h) help && exit 0 ;;
            *) usage_error "unknown option '$1'" ;;
        esac
        shift
    done
}

check_files() {
    step 'Files'
    base_complete
    [[ -z "$BASE_PENDING" ]] || return 0
    sums_check remember
}

check_host() {
    step 'Host'
    checks_run
    checks_table >&2
    if checks_failed; then die "$EXIT_PREFLIGHT" "$REPLY reason(s) to fail, each with its remedy above; nothing was changed"; fi
    container_ids
    BEFORE=$REPLY
}

ask() {
    local answer
    [[ -n "$ASK" && -z "$DRY_RUN" && -t 0 && -t 2 && ! -e "$STATE/installed" ]] || return 0
    printf 'Install %s %s in %s? [Y/n] ' "${KIT_FACT[KIT_NAME]}" "${KIT_FACT[KIT_VERSION]:-}" "$KIT" >&2
    read -r answer || answer=n
    [[ -z "$answer" || "$answer" == [Yy]* ]] || die "$EXIT_INTERRUPTED" 'not installed, as you wished'
}

load() {
    step 'Images'
    images_load
    cuda_check
}

configure() {
    step 'Settings'
    if [[ -n "$ENV_SOURCE" ]]; then env_check "$ENV_SOURCE"; fi
    env_write
    config_originals
    service_apply
}

start() {
    [[ -n "$START" ]] || return 0
    step 'Services'
    service_start keep
}

smoke() {
    local status=0
    [[ -n "$START" ]] || return 0
    step 'Smoke test'
    if [[ -n "$DRY_RUN" ]]; then say 'would ask each service one question' && return 0; fi
    SMOKE=$(service_smoke --json) || status=$?
    smoke_lines
    ((status == 0)) || die "$EXIT_SMOKE" 'the smoke test failed: see above' 'scripts/deploy.sh logs shows what the services say'
}

record() {
    [[ -z "$DRY_RUN" ]] || return 0
    if [[ -n "$START" ]]; then status_read; fi
    receipt_changes
    RECEIPT_RESULT=installed
    receipt_text | write_file "$STATE/receipt.json" 600
    [[ -e "$STATE/installed" ]] || printf '%s\n' "${KIT_FACT[KIT_VERSION]:-}" | write_file "$STATE/installed" 644
}

options "$@"
open_kit "${BASH_SOURCE[0]}"
lock_kit
receipt_begin
check_files
check_host
ask
load
configure
start
smoke
record
summary
