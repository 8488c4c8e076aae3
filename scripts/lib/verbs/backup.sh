# shellcheck shell=bash
# What is the operator's and in no bundle, into one file: settings, keys, certificate, configuration, Grafana's data.
#
# Rules: (1) the file is this user's and mode 0600 from its first byte, written beside, read again, and named last; (2) SUMS, its
# first member, names every other file; (3) models that the bundle has are never in it, the operator's own only with --models.

[[ -z "${BACKUP_SH:-}" ]] || return 0
BACKUP_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/lock.sh
. "${BASH_SOURCE[0]%/*}/../core/lock.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/operator_files.sh
. "${BASH_SOURCE[0]%/*}/../kit/operator_files.sh"

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

backup_grafana() { # Grafana's data into the folder $1, at rest for as long as that takes
    [[ -d "$STATE/grafana" ]] || return 0
    look_at grafana
    [[ "$LOOK_STATE" != running ]] || docker pause "$LOOK_ID" >/dev/null
    cp -Rp "$STATE/grafana" "$1/grafana" || { docker unpause "$LOOK_ID" >/dev/null 2>&1 && die 1 "Grafana's data could not be read" 'run as the user who installed'; }
    [[ "$LOOK_STATE" != running ]] || docker unpause "$LOOK_ID" >/dev/null
}

backup_gather() { # what goes into a backup, into the folder $1; SUMS names it all
    local name version strange
    mkdir -p "$1/state"
    cp -p "$KIT/.env" "$1/.env"
    cp -Rp "$KIT/config" "$1/config"
    for name in keys tls; do
        [[ ! -e "$STATE/$name" ]] || cp -Rp "$STATE/$name" "$1/state/$name"
    done
    backup_grafana "$1"
    strange=$(find "$1" ! -type f ! -type d)
    if [[ -n "$strange" ]]; then
        warn "left out, as they are no plain files: ${strange//$1\//}"
        find "$1" ! -type f ! -type d -exec rm -f -- {} +
    fi
    fact KIT_NAME && name=$REPLY
    fact KIT_VERSION
    version=$REPLY && now
    printf 'BACKUP_FORMAT=1\nKIT_NAME=%s\nKIT_VERSION=%s\nMADE=%s\n' "$name" "$version" "$REPLY" >"$1/backup.env"
    # shellcheck disable=SC2094  # find leaves SUMS out by its name
    (cd "$1" && find . -type f ! -path ./SUMS -exec sha256sum {} + | sort -k 2 >SUMS)
    [[ -z "$BACKUP_MODELS" ]] || backup_models >>"$1/SUMS"
    awk '{ if ($0 !~ /^[0-9a-f]+  \.\/[^\\]+$/ || /[\001-\037\177]/) exit 1 }' "$1/SUMS" ||
        die 1 'a file has a name with a line break or a backslash: it cannot be in a backup' 'rename it'
}

backup_models() { # lines of SUMS for the operator's own models
    local folder
    own_models "$KIT"
    for folder in ${OWN_MODELS[@]+"${OWN_MODELS[@]}"}; do
        (cd "$KIT/models" && find "./$folder" -type f -exec sha256sum {} +) | sed 's|  \./|  ./models/|'
    done
}

backup_stream() { # the backup that lies in the folder $1, its list first, and the models that the list names
    cut -c 67- "$1/SUMS" | grep '^\./models/' >"$WORK/models" || true
    (cd "$1" && find . -type d | sed 's|$|/|' && cut -c 67- SUMS | grep -v '^\./models/') >"$WORK/files"
    tar -czf - --hard-dereference -C "$1" --no-recursion ./SUMS -T "$WORK/files" -C "$KIT" -T "$WORK/models"
}

verb_backup() {
    backup_options "$@"
    installed
    need tar gzip sha256sum find sort awk
    now
    new_file "${BACKUP_FILE:-${KIT}-backup-${REPLY//[:-]/}.tar.gz}"
    BACKUP_FILE=$REPLY
    if [[ -n "$DRY_RUN" ]]; then say "would write: $BACKUP_FILE" && return 0; fi
    lock_kit
    work_folder
    backup_gather "$WORK/backup"
    publish "$BACKUP_FILE" backup_stream "$WORK/backup" || die 1 "the backup could not be written to $BACKUP_FILE"
    say "    written, mode 0600: it holds the keys of this installation"
    printf '%s\n' "$BACKUP_FILE"
}
