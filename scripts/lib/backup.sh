# shellcheck shell=bash
# What is the operator's and in no bundle, into one file and back: settings, keys, certificate, configuration, Grafana's data.
#
# Rules: (1) the file is mode 0600 from its first byte, written beside and renamed, read again before that; (2) it holds the
# sums of its own members: a damaged one is refused before anything changes; (3) what it would bring is applied to the side
# first, so that a configuration that cannot run is refused while the running services stay; (4) what restore replaces is kept
# in .state/before-restore/; (5) models that the bundle has are never in it, the operator's own only with --models.

[[ -z "${BACKUP_SH:-}" ]] || return 0
BACKUP_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=own.sh
. "${BASH_SOURCE[0]%/*}/own.sh"

BACKUP_MODELS='' BACKUP_FILE=''

backup_options() { # [FILE] [--models] -> BACKUP_FILE, BACKUP_MODELS
    while (($# > 0)); do
        case "$1" in
            --models) BACKUP_MODELS=yes ;;
            -*) usage_error "unknown option '$1'" ;;
            *)
                [[ -z "$BACKUP_FILE" ]] || usage_error "unknown word '$1'"
                BACKUP_FILE=$1
                ;;
        esac
        shift
    done
}

backup_target() { # -> BACKUP_FILE: an absolute path outside the kit, that is not there yet
    local folder
    if [[ -z "$BACKUP_FILE" ]]; then
        now
        BACKUP_FILE="${KIT}-backup-${REPLY//[:-]/}.tar.gz"
    fi
    folder=$(readlink -f -- "$(dirname -- "$BACKUP_FILE")") || folder=''
    [[ -d "$folder" ]] || usage_error "'${BACKUP_FILE%/*}' is not a folder"
    BACKUP_FILE="$folder/${BACKUP_FILE##*/}"
    [[ "$BACKUP_FILE" != "$KIT/"* ]] || usage_error 'inside the kit it would be an extra file: give a place outside'
    [[ ! -e "$BACKUP_FILE" ]] || usage_error "$BACKUP_FILE is there already"
    [[ -w "$folder" ]] || die 1 "$folder cannot be written by this user" 'give another file: deploy.sh backup FILE'
}

backup_grafana() { # Grafana's data into the folder $1, at rest for as long as that takes
    [[ -d "$STATE/grafana" ]] || return 0
    look_at grafana
    [[ "$LOOK_STATE" != running ]] || docker pause "$LOOK_ID" >/dev/null
    cp -Rp "$STATE/grafana" "$1/grafana" || { docker unpause "$LOOK_ID" >/dev/null 2>&1 && die 1 "Grafana's data could not be read" 'run as the user who installed'; }
    [[ "$LOOK_STATE" != running ]] || docker unpause "$LOOK_ID" >/dev/null
}

backup_gather() { # what goes into a backup, into the folder $1
    local name folder
    mkdir -p "$1/state"
    cp -p "$KIT/.env" "$1/.env"
    cp -Rp "$KIT/config" "$1/config"
    for name in keys tls; do
        [[ ! -e "$STATE/$name" ]] || cp -Rp "$STATE/$name" "$1/state/$name"
    done
    backup_grafana "$1"
    fact KIT_NAME && name=$REPLY
    fact KIT_VERSION
    now_version=$REPLY && now
    printf 'BACKUP_FORMAT=1\nKIT_NAME=%s\nKIT_VERSION=%s\nMADE=%s\n' "$name" "$now_version" "$REPLY" >"$1/backup.env"
    # shellcheck disable=SC2094  # find leaves SUMS out by its name
    (cd "$1" && find . -type f ! -name SUMS -exec sha256sum {} + | sort -k 2 >SUMS)
    [[ -n "$BACKUP_MODELS" ]] || return 0
    own_models "$KIT"
    for folder in ${OWN_MODELS[@]+"${OWN_MODELS[@]}"}; do
        (cd "$KIT/models" && find "./$folder" -type f -exec sha256sum {} +) | sed 's|  \./|  ./models/|' >>"$1/SUMS"
    done
}

verb_backup() {
    local now_version name names=()
    backup_options "$@"
    installed
    need tar gzip sha256sum find sort
    backup_target
    if [[ -n "$DRY_RUN" ]]; then say "would write: $BACKUP_FILE" && return 0; fi
    lock_kit
    work_folder
    backup_gather "$WORK/backup"
    for name in ${OWN_MODELS[@]+"${OWN_MODELS[@]}"}; do names+=("models/$name"); done
    if ! (umask 077 && tar -czf "$BACKUP_FILE.partial" -C "$WORK/backup" . ${names[@]+-C "$KIT" "${names[@]}"}) ||
        ! gzip -t "$BACKUP_FILE.partial" || ! sync; then
        rm -f -- "$BACKUP_FILE.partial"
        die 1 "the backup could not be written to $BACKUP_FILE"
    fi
    mv -- "$BACKUP_FILE.partial" "$BACKUP_FILE"
    say "    written, mode 0600: it holds the keys of this installation"
    printf '%s\n' "$BACKUP_FILE"
}

restore_read() { # unpacks BACKUP_FILE into the folder $1 and proves it, or the end
    local wrong
    [[ -f "$BACKUP_FILE" && -r "$BACKUP_FILE" ]] || usage_error "'$BACKUP_FILE' is not a file that can be read"
    tar -tzf "$BACKUP_FILE" >"$WORK/names" 2>/dev/null || die "$EXIT_DAMAGED" "$BACKUP_FILE cannot be read: it is damaged, or no backup"
    ! grep -qE '^/|(^|/)\.\.(/|$)' "$WORK/names" || die "$EXIT_DAMAGED" "$BACKUP_FILE names paths outside of itself: not a backup"
    mkdir -m 700 "$1"
    tar -xzf "$BACKUP_FILE" -C "$1" || die "$EXIT_DAMAGED" "$BACKUP_FILE cannot be unpacked"
    wrong=$(find "$1" ! -type f ! -type d)
    [[ -z "$wrong" && -f "$1/SUMS" && -f "$1/.env" && -d "$1/config" ]] || die "$EXIT_DAMAGED" "$BACKUP_FILE is not a backup of a kit"
    (cd "$1" && sha256sum --check --strict --quiet SUMS >&2) || die "$EXIT_DAMAGED" "$BACKUP_FILE is damaged: see above; nothing was changed"
    value_of "$1/backup.env" KIT_NAME || true
    [[ "$REPLY" == "${KIT_FACT[KIT_NAME]}" ]] || die "$EXIT_USAGE" "$BACKUP_FILE is of the kit '$REPLY', this is '${KIT_FACT[KIT_NAME]}'"
    value_of "$1/backup.env" KIT_VERSION || true
    [[ "$REPLY" == "${KIT_FACT[KIT_VERSION]}" ]] || warn "the backup is of version $REPLY, this is ${KIT_FACT[KIT_VERSION]}"
}

restore_models() { # the operator's own models in the folder $1 come first: the configuration names them
    local folder
    for folder in "$1"/models/*/; do
        [[ -d "$folder" ]] || continue
        folder=$(basename -- "$folder")
        if [[ -e "$KIT/models/$folder" ]]; then
            say "    models/$folder: is there, stays"
        else
            cp -R "$1/models/$folder" "$STATE/model.partial" && mv "$STATE/model.partial" "$KIT/models/$folder"
            say "    models/$folder: restored"
        fi
    done
}

restore_check() { # what is in the folder $1 could run, or the end
    local status=0
    runtime runtime.apply --network none -v "$1/.env:/kit/.env:ro" -v "$1/config:/kit/config:ro" -v "$1/state:/kit/.state:ro" -- --check ||
        status=$?
    ((status == 0)) || die "$EXIT_CONFIG" 'the configuration in the backup cannot run here: see above; nothing was changed'
}

restore_swap() { # the folder $1 becomes what the kit runs with; what it replaces goes to .state/before-restore
    local name
    rm -rf -- "$STATE/before-restore"
    mkdir -m 700 "$STATE/before-restore"
    cp -p "$KIT/.env" "$STATE/before-restore/.env"
    cp -Rp "$KIT/config" "$STATE/before-restore/config"
    own_config "$1/config"
    for name in keys tls grafana; do
        [[ "$name" == grafana && ! -d "$1/grafana" ]] && continue
        [[ ! -e "$STATE/$name" ]] || mv "$STATE/$name" "$STATE/before-restore/$name"
        [[ "$name" != grafana ]] || mv "$1/grafana" "$1/state/grafana"
        [[ ! -e "$1/state/$name" ]] || cp -Rp "$1/state/$name" "$STATE/$name"
    done
    write_file "$KIT/.env" 600 <"$1/.env"
}

verb_restore() { # restore FILE
    (($# > 0)) || usage_error 'restore needs a file'
    [[ "$1" != -* ]] || usage_error "unknown option '$1'"
    no_more "${@:2}"
    BACKUP_FILE=$1
    installed
    need tar gzip sha256sum find
    lock_kit
    work_folder
    # Beside what it becomes, and where Docker is sure to see it.
    local folder="$STATE/restoring"
    if [[ -n "$DRY_RUN" ]]; then folder="$WORK/restoring"; fi
    rm -rf -- "$folder"
    restore_read "$folder"
    if [[ -n "$DRY_RUN" ]]; then say "would restore from $BACKUP_FILE: settings, keys, configuration" && return 0; fi
    restore_models "$folder"
    restore_check "$folder"
    look_at grafana
    [[ ! -d "$folder/grafana" || "$LOOK_STATE" != running ]] || docker stop "$LOOK_ID" >/dev/null
    restore_swap "$folder"
    rm -rf -- "$folder"
    service_apply
    service_start keep
    say "    restored; what was there before is in $STATE/before-restore"
}
