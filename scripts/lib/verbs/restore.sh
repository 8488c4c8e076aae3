# shellcheck shell=bash
# What `backup` wrote, back into the kit.
#
# Rules: (1) what the list of the backup does not name, what is no plain file and what would not fit here is refused before anything
# is unpacked; a damaged file before anything changes; owners and modes are those of an installation; (2) what it would bring is
# applied to the side first, so that a configuration that cannot run is refused while the running services stay; (3) what is
# replaced is kept in .state/before-restore/.

[[ -z "${RESTORE_SH:-}" ]] || return 0
RESTORE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/lock.sh
. "${BASH_SOURCE[0]%/*}/../core/lock.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/operator_files.sh
. "${BASH_SOURCE[0]%/*}/../kit/operator_files.sh"

RESTORE_FILE=''

restore_list() { # the list in RESTORE_FILE -> $WORK/SUMS: nothing but files that a backup can have, each once
    local within
    # It is the first member; in files of earlier versions it lies behind Grafana's data.
    for within in 134217728 8589934592; do
        gzip -dc <"$RESTORE_FILE" 2>/dev/null | head -c "$within" | tar -xOf - --occurrence=1 ./SUMS 2>/dev/null | head -c 67108864 >"$WORK/SUMS" || true
        [[ ! -s "$WORK/SUMS" ]] || break
    done
    awk '/[\001-\037\177\\]/ || !/^[0-9a-f]+  \.\// || index($0, " ") != 65 { exit 1 }
        { path = substr($0, 69) }
        path ~ /(^|\/)\.?\.?(\/|$)/ || path !~ /^(\.env|backup\.env|state\/keys|(config|grafana|state\/tls|models\/[^\/]+)\/.+)$/ || seen[path]++ { exit 1 }
        END { if (!(".env" in seen) || !("backup.env" in seen)) exit 1 }' "$WORK/SUMS" ||
        die "$EXIT_DAMAGED" "$RESTORE_FILE is damaged, or is not a backup of a kit: its list cannot be read"
}

restore_listing() { # the members of RESTORE_FILE, each told as soon as its header was read
    local at_once=()
    ! type -P stdbuf >/dev/null || at_once=(stdbuf -oL)
    gzip -dc <"$RESTORE_FILE" | ${at_once[@]+"${at_once[@]}"} tar --numeric-owner -tvf -
}

restore_members() { # RESTORE_FILE has the files of its list and folders, nothing else, once each, and fits here -> $WORK/members; or the end
    local free wrong
    free=$(df -Pk -- "$KIT" | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')
    mkfifo -m 600 "$WORK/listing"
    set -m
    restore_listing >"$WORK/listing" 2>/dev/null &
    CHILD=$!
    set +m
    wrong=$(FREE=$free awk -v out="$WORK/members" '
        function bad(text) { print text; failed = 1; exit }
        function plain(name,   out, at) { # without the escapes of tar
            while (at = match(name, /\\[0-3][0-7][0-7]/)) {
                out = out substr(name, 1, at - 1) sprintf("%c", substr(name, at + 1, 1) * 64 + substr(name, at + 2, 1) * 8 + substr(name, at + 3, 1))
                name = substr(name, at + 4)
            }
            return out name
        }
        FILENAME == ARGV[1] { want[substr($0, 69)]; next }
        ++members > 200000 { bad("it has more than 200,000 entries") }
        !match($0, /^[^ ]+ +[^ ]+ +[0-9,]+ +[0-9]+-[0-9][0-9]-[0-9][0-9] [0-9:]+ /) { bad("it has an entry that cannot be read: " substr($0, 1, 80)) }
        {
            name = plain(substr($0, RLENGTH + 1)); type = substr($0, 1, 1); path = name
            sub(/^\.\//, "", path)
            if (type == "d") { sub(/\/+$/, "", path); folders[path]; next }
            if (type != "-") bad("it has what is neither a file nor a folder: " name)
            if (path == "SUMS" && !lists++) next
            if (!(path in want) || path in have) bad("its list does not name, or it has twice: " path)
            have[path]; bytes += $3; print name > out
            if (bytes > ENVIRON["FREE"] + 0) bad("it needs more than the " ENVIRON["FREE"] " bytes that are free here")
        }
        END {
            if (failed) exit
            for (path in want) {
                if (!(path in have)) { print "it lacks " path; exit }
                while (sub(/\/[^\/]*$/, "", path)) parent[path]
            }
            for (path in folders) if (path != "" && path != "." && !(path in parent) && path !~ /^(state|(config|grafana|state\/tls|models)(\/.*)?)$/) {
                print "its list names nothing in the folder " path; exit
            }
        }' "$WORK/SUMS" "$WORK/listing") || true
    # What is too much is not read to its end.
    kill -KILL -- "-$CHILD" 2>/dev/null || true
    wait "$CHILD" 2>/dev/null || true
    CHILD=''
    [[ -z "$wrong" ]] || die "$EXIT_DAMAGED" "$RESTORE_FILE is not a backup as deploy.sh makes it: $wrong; nothing was unpacked"
    [[ -s "$WORK/members" ]] || die "$EXIT_DAMAGED" "$RESTORE_FILE cannot be read: it is damaged, or no backup"
}

restore_read() { # unpacks RESTORE_FILE into the folder $1 and proves it, or the end
    local strange
    [[ -f "$RESTORE_FILE" && -r "$RESTORE_FILE" ]] || usage_error "'$RESTORE_FILE' is not a file that can be read"
    restore_list
    restore_members
    mkdir -m 700 "$1"
    tar -xzf "$RESTORE_FILE" -C "$1" --no-same-owner --no-same-permissions -T "$WORK/members" 2>"$WORK/trouble" ||
        die "$EXIT_DAMAGED" "$RESTORE_FILE cannot be unpacked: it is damaged"
    strange=$(find "$1" ! -type f ! -type d)
    [[ -z "$strange" && -f "$1/.env" && -d "$1/config" ]] || die "$EXIT_DAMAGED" "$RESTORE_FILE is not a backup of a kit"
    (cd "$1" && sha256sum --check --strict --quiet "$WORK/SUMS" >&2) || die "$EXIT_DAMAGED" "$RESTORE_FILE is damaged: see above; nothing was changed"
    restore_modes "$1"
    value_of "$1/backup.env" KIT_NAME || true
    [[ "$REPLY" == "${KIT_FACT[KIT_NAME]}" ]] || die "$EXIT_USAGE" "$RESTORE_FILE is of the kit '$REPLY', this is '${KIT_FACT[KIT_NAME]}'"
    value_of "$1/backup.env" KIT_VERSION || true
    [[ "$REPLY" == "${KIT_FACT[KIT_VERSION]}" ]] || warn "the backup is of version $REPLY, this is ${KIT_FACT[KIT_VERSION]}"
}

restore_modes() { # modes are those of an installation, not those of the file: nothing for others to write, secrets for this user alone
    mkdir -p "$1/state"
    find "$1" -type d -exec chmod 755 {} +
    find "$1" -type f -exec chmod 644 {} +
    chmod 600 "$1/.env"
    [[ ! -f "$1/state/keys" ]] || chmod 600 "$1/state/keys"
    [[ ! -d "$1/state/tls" ]] || find "$1/state/tls" -type f ! -name '*.crt' -exec chmod 600 {} +
    [[ ! -d "$1/grafana" ]] || chmod -R go= "$1/grafana"
    chmod 700 "$1"
}

restore_owner() { # Grafana's data belongs to the user that its folder was given to
    ((EUID == 0)) && [[ -d "$STATE/grafana" ]] || return 0
    chown -R "$(stat -c %u:%g -- "$STATE/grafana")" "$STATE/grafana"
}

restore_models() { # the operator's own models in the folder $1 come first: the configuration names them
    local folder
    for folder in "$1"/models/*/; do
        [[ -d "$folder" ]] || continue
        folder=$(basename -- "$folder")
        if [[ -e "$KIT/models/$folder" || -L "$KIT/models/$folder" ]]; then
            say "    models/$folder: is there, stays"
        else
            rm -rf -- "$STATE/model.partial"
            cp -R "$1/models/$folder" "$STATE/model.partial" && mv "$STATE/model.partial" "$KIT/models/$folder"
            say "    models/$folder: restored"
        fi
    done
}

restore_end() { # also on the way out: what was unpacked holds keys
    rm -rf -- "$STATE/restoring"
}

restore_check() { # what is in the folder $1 could run, or the end
    local status=0
    given "$1/.env" "$1/config" "$1/state"
    certificate_check "$1/state/tls"
    runtime runtime.apply --network none "${GIVEN_MOUNTS[@]}" -- --check | head -c 1048576 | reveal_controls >&2 || status=${PIPESTATUS[0]}
    given_end
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
    RESTORE_FILE=$1
    installed
    need tar gzip sha256sum find awk
    lock_kit
    work_folder
    # Beside what it becomes, and where Docker is sure to see it.
    local folder="$STATE/restoring"
    if [[ -n "$DRY_RUN" ]]; then folder="$WORK/restoring"; fi
    rm -rf -- "$folder"
    [[ -n "$DRY_RUN" ]] || AT_EXIT=restore_end
    restore_read "$folder"
    secrets_unpublished "$folder/.env" "the .env in $RESTORE_FILE" 'unpack it elsewhere with tar -xzf, and take by hand what you need of it'
    if [[ -n "$DRY_RUN" ]]; then say "would restore from $RESTORE_FILE: settings, keys, configuration" && return 0; fi
    restore_models "$folder"
    restore_check "$folder"
    look_at grafana
    [[ ! -d "$folder/grafana" || "$LOOK_STATE" != running ]] || docker stop "$LOOK_ID" >/dev/null
    restore_swap "$folder"
    rm -rf -- "$folder"
    service_apply
    restore_owner
    service_start keep
    say "    restored; what was there before is in $STATE/before-restore"
}
