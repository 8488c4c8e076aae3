#!/usr/bin/env bash
# Turns an unpacked kit into running services: checks, loads, configures, starts, asks. Run it again at any time.
if ! test -n "${BASH_VERSION:-}" || shopt -qo posix; then # started by sh: it is bash that reads the rest
    unset POSIXLY_CORRECT
    command -v bash >/dev/null || { echo 'error: bash 4.2 or later is needed, and this host has none' >&2 && exit 4; }
    exec bash "$0" "$@"
fi
HERE=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# ---- signatures: this block stands in install.sh too, which must not source a file of a kit that is not trusted yet

KEYS_FOLDER=/etc/offline-kit/keys.d THRESHOLD_FILE=/etc/offline-kit/threshold

key_id() { # key_id KEY: the key ID of a public key in PEM form, on stdout; nothing when it is none, or more than one: openssl reads the first alone. One key has one ID, in whatever form its point is written
    [[ "$(grep -c -e '^-----BEGIN ' -- "$1" 2>/dev/null)" == 1 ]] || return 0
    openssl pkey -pubin -in "$1" -noout >/dev/null 2>&1 || return 0
    { openssl ec -pubin -in "$1" -conv_form uncompressed -param_enc named_curve -outform DER 2>/dev/null ||
        openssl pkey -pubin -in "$1" -outform DER 2>/dev/null; } | openssl dgst -sha256 -r 2>/dev/null | cut -c 1-16
}

# ---- one signature: this block stands in verify-kit.sh too, which no kit brings

verifies() { # verifies KEY SIGNATURE FILE: the signature of the file is by this key
    openssl dgst -sha256 -verify "$1" -signature "$2" "$3" >/dev/null 2>&1
}

# ---- end of one signature

is_signed_by() { # is_signed_by KEY KIT: one of the signatures in the kit or beside its folder is by this key
    local signature
    for signature in "$2"/SHA256SUMS*.sig "$2".SHA256SUMS*.sig; do
        [[ -f "$signature" ]] || continue
        ! verifies "$1" "$signature" "$2/SHA256SUMS" || return 0
    done
    return 1
}

harmless() { # harmless TEXT: without what a terminal would obey, on stdout: this block has nothing else to show it with
    printf '%s' "$1" | LC_ALL=C sed $'s/[\x01-\x09\x0b-\x1f\x7f]/?/g; s/\xc2[\x80-\x9f]/?/g; s/\xe2\x80[\x8b-\x8f\xa8-\xae]/?/g; s/\xe2\x81[\xa0-\xaf]/?/g'
}

demand_signers() { # demand_signers KIT LEAST KEY...: LEAST of the keys signed the kit, all when it is empty; else says who did not and fails
    local kit=$1 least=$2 key id counted=' ' absent='' signed=0 total=0
    shift 2
    type -P openssl >/dev/null || { printf 'error: keys are demanded, and openssl, which checks signatures, is missing\n' >&2 && return 1; }
    for key in "$@"; do
        id=$(key_id "$key")
        [[ "$id" =~ ^[0-9a-f]{16}$ ]] || { printf 'error: %s is not one public key in PEM form\n' "$(harmless "$key")" >&2 && return 1; }
        [[ "$counted" != *" $id "* ]] || continue
        counted+="$id " total=$((total + 1))
        if is_signed_by "$key" "$kit"; then signed=$((signed + 1)); else absent+=" $key"; fi
    done
    least=${least:-$total}
    [[ "$least" =~ ^[1-9][0-9]{0,3}$ ]] || { printf 'error: %s is no number of signers\n' "$(harmless "$least")" >&2 && return 1; }
    ((signed < least)) || return 0
    printf 'error: %s is not signed as demanded: %d of %d keys, %s wanted; not by:%s\n' "$(harmless "$kit")" "$signed" "$total" "$least" "$(harmless "$absent")" >&2
    return 1
}

demand_host_keys() { # demand_host_keys KIT: what the host demands, if it demands anything: every file in KEYS_FOLDER is a key
    local keys=() key least='' home=${KEYS_FOLDER%/*}
    [[ -e "$KEYS_FOLDER" || -L "$KEYS_FOLDER" || (-e "$home" && ! -x "$home") ]] || return 0
    if [[ ! -d "$KEYS_FOLDER" || ! -r "$KEYS_FOLDER" || ! -x "$KEYS_FOLDER" ]]; then
        printf 'error: this host may demand keys, and %s cannot be listed by this user\n' "$KEYS_FOLDER" >&2
        return 1
    fi
    for key in "$KEYS_FOLDER"/* "$KEYS_FOLDER"/.[!.]* "$KEYS_FOLDER"/..?*; do
        [[ ! -e "$key" && ! -L "$key" ]] || keys+=("$key")
    done
    ((${#keys[@]} > 0)) || return 0
    [[ ! -e "$THRESHOLD_FILE" ]] || read -r least <"$THRESHOLD_FILE" || true
    demand_signers "$1" "$least" "${keys[@]}"
}

# ---- end of signatures

trusted() { # trusted WORD...: the kit is signed as the host and the options demand; else an end before anything of it is read
    local keys=() least='' previous='' word
    for word in "$@"; do
        case "$previous" in
            --key) keys+=("$word") ;;
            --threshold) least=$word ;;
            *) ;;
        esac
        case "$word" in
            --key=*) keys+=("${word#*=}") ;;
            --threshold=*) least=${word#*=} ;;
            *) ;;
        esac
        previous=$word
    done
    demand_host_keys "$HERE" || return 1
    ((${#keys[@]} == 0)) || demand_signers "$HERE" "$least" "${keys[@]}"
}

plain() { # what is read before anything is trusted: plain files, so that no pipe is waited for and no device read
    local strange
    [[ -f "$HERE/SHA256SUMS" && ! -L "$HERE/SHA256SUMS" ]] || { printf 'SHA256SUMS: missing, or not a plain file\n' >&2 && return 1; }
    strange=$(find "$HERE/install.sh" "$HERE/scripts" ! -type f ! -type d 2>&1)
    [[ -z "$strange" ]] || { printf 'not a plain file: %s\n' "$(harmless "$strange")" >&2 && return 1; }
}

damaged() {
    printf 'error: the kit is damaged: its own scripts are not as SHA256SUMS says; nothing was started\n' >&2
    printf '  unpack the bundle again: tar -xzf NAME-VERSION.tar.gz\n' >&2
    exit 20
}

plain || damaged
if ! trusted "$@"; then
    printf '  nothing of the kit was run; ask who built it, or put its .sig file beside SHA256SUMS\n' >&2
    exit 22
fi
# Damaged scripts cannot judge themselves: their sums are checked before any line of theirs is read.
if ! (cd -- "$HERE" && LC_ALL=C grep -E '^[0-9a-f]{64}  (install\.sh|scripts/.*)$' SHA256SUMS | LC_ALL=C sha256sum -c 2>&1 |
    LC_ALL=C awk '$0 == "install.sh: OK" { seen = 1 } !/: OK$/ { gsub(/[^ -~]/, "?"); print; bad = 1 } END { exit bad || !seen }') >&2; then
    damaged
fi
LIB="$HERE/scripts/lib"
# shellcheck source-path=SCRIPTDIR source=lib/kit/receipt.sh
. "$LIB/kit/receipt.sh"
# shellcheck source-path=SCRIPTDIR source=lib/kit/delta.sh
. "$LIB/kit/delta.sh"
# shellcheck source-path=SCRIPTDIR source=lib/kit/certificate.sh
. "$LIB/kit/certificate.sh"
# shellcheck source-path=SCRIPTDIR source=lib/checks/cuda.sh
. "$LIB/checks/cuda.sh"

# shellcheck source-path=SCRIPTDIR source=lib/core/lock.sh
. "$LIB/core/lock.sh"

ASK=yes START=yes

help() {
    cat <<HELP
Usage: $0 [--dry-run] [--yes] [--device nvidia|cpu] [--with monitoring,nginx] [--no-start]
       [--tls self-signed|FILE] [--tls-only] [--env-file FILE] [--base KIT] [--adopt] [--json-receipt FILE]
       [--key FILE ...] [--threshold N]

Installs this kit here, where it was unpacked: checks every file, looks for reasons to fail, loads the images, tries CUDA in one of
them, writes .env (settings and a new API key; one that is there stays), applies the configuration, starts the services, waits until
they are healthy, asks each one question, and writes .state/receipt.json. Run again, it changes only what is not yet as it should be.

  --dry-run            check files and host, say what would be done, change nothing
  --yes                do not ask before the first change
  --device nvidia|cpu  run on this accelerator, whatever the kit was made for; kept in .env
  --with LIST          run monitoring (Prometheus, Grafana), nginx (ports 80 and 443) or both besides; kept in .env; '' for neither
  --tls self-signed    run nginx with a certificate that is made here, unless there is one (needs openssl)
  --tls FILE           the same with this certificate (PEM, chain and key in it, or the key beside it as NAME.key)
  --tls-only           publish what is not encrypted on this host's loopback alone; kept in .env
  --no-start           load and configure, start nothing
  --env-file FILE      settings for a new .env, before those of .env.example
  --base KIT           of a delta: the folder of the earlier kit, which has the files that are not in this one
  --adopt              .env, .state/ and edits of config/ in this folder are yours: you moved it here from another disk or host
  --key FILE           a public key that must have signed this kit; can be given again; beside those of /etc/offline-kit/keys.d
  --threshold N        how many of these keys must have signed; all, when it is not given
  --json-receipt FILE  write the receipt there, too; also after a failure or a dry run, with what was seen by then
  --help               this text

Exit codes: 0 installed, healthy; 2 wrong usage; 3 configuration wrong; 4 a reason to fail was found; 5 an image was not loaded; 6 a service
did not get healthy; 7 a wrong answer in the smoke test; 20 the kit is damaged; 22 it is not signed as demanded, or the engine image
is not to be trusted; 130 interrupted.
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
            --tls) tls_argument "$@" && shift ;;
            --tls-only) TLS_ONLY=yes ;;
            --json-receipt) receipt_argument "$@" && shift ;;
            --no-start) START='' ;;
            --adopt) ADOPT=yes ;;
            --env-file) env_file_argument "$@" && shift ;;
            --key | --threshold) argument "$@" && shift ;; # asked above, before this line was read
            --base) base_argument "$@" && shift ;;
            --help | -h) help && exit 0 ;;
            *) usage_error "unknown option '$1'" ;;
        esac
        shift
    done
}

check_files() {
    step 'Files'
    state_demand
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
    certificate_take
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
    if [[ -n "$SMOKE" || "$status" == 0 ]] && ! smoke_has_form "$SMOKE"; then
        SMOKE=''
        die "$EXIT_UNTRUSTED" 'the engine image answers the smoke test as this kit never does' \
            'scripts/deploy.sh stop; do not use this image: scripts/verify.sh says whether the kit is as it was built'
    fi
    smoke_lines
    ((status == 0)) || die "$EXIT_SMOKE" 'the smoke test failed: see above' 'scripts/deploy.sh logs shows what the services say'
}

record() {
    [[ -z "$DRY_RUN" ]] || return 0
    if [[ -n "$START" ]]; then status_read; fi
    receipt_changes
    RECEIPT_RESULT=installed
    receipt_text >"$WORK/receipt"
    receipt_keep
    write_file "$STATE/receipt.json" 600 <"$WORK/receipt"
    sync # the images, too
    [[ -e "$STATE/installed" ]] || printf '%s\n' "${KIT_FACT[KIT_VERSION]:-}" | write_file "$STATE/installed" 644
}

options "$@"
open_kit "${BASH_SOURCE[0]}"
state_look
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
