# shellcheck shell=bash
# Completing a delta: what an earlier kit on this host has comes from there, by hard links.
#
# Rules: (1) every file that is taken is read first and is as this kit's SHA256SUMS says, or nothing is taken at all; (2) where
# no hard link can be made (another file system), and where somebody else could change the file behind it (of another user, or
# writable by others), the file is copied, and read again with all others; (3) the earlier kit is never changed, and nothing
# outside of this one; (4) run again after an interruption, it goes on; (5) `delta/` goes last: while it is there, the kit is not
# complete.

[[ -z "${DELTA_SH:-}" ]] || return 0
DELTA_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/private_files.sh
. "${BASH_SOURCE[0]%/*}/private_files.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/checksums.sh
. "${BASH_SOURCE[0]%/*}/checksums.sh"

BASE='' BASE_PENDING='' BASE_FILES=0 BASE_BYTES=0

base_argument() { # base_argument OPTION [FOLDER...] -> BASE
    argument "$@"
    [[ -d "$REPLY" ]] || usage_error "--base: '$REPLY' is not a folder"
    [[ -f "$REPLY/SHA256SUMS" && -f "$REPLY/deploy/kit.env" ]] || usage_error "--base: '$REPLY' is not an unpacked kit"
    BASE=$(readlink -f -- "$REPLY")
}

base_wanted() { # -> REPLY: the earlier kit that bundle.json names
    REPLY=$(awk '/^  "base": \{/ { inside = 1; next } /^  \}/ { inside = 0 } !inside { next }
        match($0, /^    "(name|version)": "/) { split($0, part, "\""); value[part[2]] = part[4] }
        END { print value["name"] (value["version"] == "" ? "" : "-" value["version"]) }' "$KIT/bundle.json" 2>/dev/null) || REPLY=''
    [[ -n "$REPLY" ]] || REPLY='the earlier kit'
}

base_list() { # delta/needs with the digests of SHA256SUMS -> $WORK/needs: hex, size, path in the base, path here, by tabs
    awk -F '\t' '
        FILENAME == ARGV[1] { sum[substr($0, 67)] = substr($0, 1, 64); next }
        function safe(path) { return path ~ /^(images\/blobs\/sha256|models|files)\// && path !~ /(^|\/)\.?\.?(\/|$)/ && path !~ /[\001-\037\177\\]/ }
        NF != 3 || $1 !~ /^[0-9]+$/ || !safe($2) || !safe($3) || !($3 in sum) { exit 1 }
        { print sum[$3] "\t" $0 }' "$KIT/SHA256SUMS" "$KIT/delta/needs" >"$WORK/needs" ||
        die "$EXIT_DAMAGED" 'the kit is damaged: delta/needs cannot be read' 'unpack the bundle again'
    BASE_FILES=$(wc -l <"$WORK/needs")
    BASE_FILES=$((BASE_FILES))
    BASE_BYTES=$(awk -F '\t' '{ sum += $2 } END { printf "%.0f", sum }' "$WORK/needs")
}

base_check() { # reads every file that is to be taken; dies with 20 when one is missing or not as it should be
    local count name wanted
    base_wanted
    wanted=$REPLY
    for name in big small hashed trouble findings; do : >"$WORK/$name"; done
    cut -f 3 "$WORK/needs" | sort -u | tr '\n' '\0' |
        (cd "$BASE" && TZ=UTC0 xargs -0 -r stat -c '%F	%s:%y:%i	%n' 2>/dev/null) >"$WORK/there" || true
    awk -F '\t' -v work="$WORK" '
        FILENAME == ARGV[1] { kind[$3] = $1; size[$3] = $2 + 0; next }
        !($3 in kind) { print "missing: " $3 >> (work "/findings"); next }
        kind[$3] !~ /^regular( empty)? file$/ { print "not a plain file: " $3 >> (work "/findings"); next }
        size[$3] != $2 { print "of another size: " $3 >> (work "/findings"); next }
        !(seen[$3]++) { print $3 >> (work ($2 > 1048576 ? "/big" : "/small")) }' "$WORK/there" "$WORK/needs"
    rm -rf "$WORK/batches"
    sums_tool
    SUMS_TO_READ=$(cat "$WORK/big" "$WORK/small" | wc -l)
    run_foreground sums_tick sums_hash "$BASE"
    cat "$WORK/big" "$WORK/small" >"$WORK/reading"
    awk -F '\t' -v work="$WORK" '
        FILENAME == ARGV[1] { found[substr($0, 67)] = substr($0, 1, 64); next }
        FILENAME == ARGV[2] { reading[$0] = 1; next }
        !($3 in reading) || ($3 in found && found[$3] == $1) { next }
        { print (($3 in found) ? "changed: " : "unreadable: ") $3 >> (work "/findings") }' "$WORK/hashed" "$WORK/reading" "$WORK/needs"
    [[ -s "$WORK/findings" ]] || return 0
    sort -u "$WORK/findings" | reveal_controls >&2
    count=$(sort -u "$WORK/findings" | wc -l)
    die "$EXIT_DAMAGED" "$BASE is not $wanted as this delta needs it: $((count)) finding(s), named above; nothing was taken" \
        "name the folder of $wanted, unpack that again, or use the full bundle"
}

base_space() { # the copies fit, or the end
    local free
    free=$(df -Pk -- "$KIT" | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')
    ((free > BASE_BYTES)) || die "$EXIT_PREFLIGHT" "no hard links from $BASE, and copies need $BASE_BYTES bytes: $free are free" \
        'unpack this delta on the file system of the earlier kit, or free space'
}

base_take() { # links, or else copies, every file; what was linked -> $WORK/linked: hex and path
    local hex _ from path copied=0
    : >"$WORK/linked"
    while IFS=$'\t' read -r hex _ from path; do
        mkdir -p -- "$KIT/${path%/*}"
        if { [[ "$KIT/$path" -ef "$BASE/$from" ]] || ln -f -- "$BASE/$from" "$KIT/$path" 2>/dev/null; } && own_inode "$KIT/$path"; then
            printf '%s\t%s\t%s\n' "$hex" "$path" "$from" >>"$WORK/linked"
            continue
        fi
        ((copied > 0)) || base_space
        copied=$((copied + 1))
        [[ -f "$BASE/$from" && ! -L "$BASE/$from" ]] || die "$EXIT_DAMAGED" "$BASE/$from is not a plain file any more"
        rm -f -- "$KIT/delta/copy"
        cp -- "$BASE/$from" "$KIT/delta/copy" || die 1 "cannot copy $BASE/$from"
        mv -f -- "$KIT/delta/copy" "$KIT/$path"
    done <"$WORK/needs"
    human "$BASE_BYTES"
    say "    $BASE_FILES files ($REPLY) from $BASE: $((BASE_FILES - copied)) linked, $copied copied"
}

base_remember() { # a link to what was just read is proven: the same inode, size and time as before it was read
    sums_present >"$WORK/present"
    awk -F '\t' '
        FILENAME == ARGV[1] { split($2, part, ":"); before[$3] = $2; next }
        FILENAME == ARGV[2] { hex[$2] = $1; from[$2] = $3; next }
        { path = substr($3, 3); if (!(path in hex)) next
          # SIZE:MTIME:CTIME:INODE without CTIME, which a new link changes; times have colons of their own
          inode = $2; sub(/.*:/, "", inode); count = split($2, part, ":"); start = part[1] ":" part[2] ":" part[3] ":" part[4]
          if (before[from[path]] == start ":" inode) print hex[path] "\t" $2 "\t" path }' \
        "$WORK/there" "$WORK/linked" "$WORK/present" >"$WORK/known"
    if [[ -r "$STATE/proven" ]]; then
        awk -F '\t' 'FILENAME == ARGV[1] { new[$3] = 1; next } !($3 in new)' "$WORK/known" "$STATE/proven" >"$WORK/older"
        cat "$WORK/older" >>"$WORK/known"
    fi
    sums_remember
}

base_is_known() { # the earlier kit was installed, or checked before anything lay in it, on this host: its .env is not one that came with it
    local KIT=$BASE STATE="$BASE/.state" STATE_IS_OURS='' STATE_FOREIGN=()
    state_look
    [[ -n "$STATE_IS_OURS" ]]
}

base_settings() { # the settings and the API key of the earlier kit go on to a new .env
    [[ -n "$BASE" && ! -e "$KIT/.env" && -z "$ENV_SOURCE" && -f "$BASE/.env" && ! -L "$BASE/.env" && -r "$BASE/.env" ]] || return 0
    own_inode "$BASE/.env" || { warn "$BASE/.env is another user's, or others can write it: its settings and key are not taken (--env-file takes them)" && return 0; }
    base_is_known || { warn "$BASE/.env was not made by an installation on this host: its settings and key are not taken (--env-file takes them)" && return 0; }
    ENV_SOURCE="$BASE/.env"
    say "    settings and API key come from $BASE/.env"
}

base_plain() { # what is taken is written below these folders: a link among them would lead out of the kit
    local strange
    strange=$(find "$KIT" -path "$STATE" -prune -o ! -type f ! -type d -print 2>&1 | head -n 5)
    [[ -z "$strange" ]] || die "$EXIT_DAMAGED" "the kit is damaged, there is a link or a device in it: $strange; nothing was taken" \
        'unpack the bundle again; if that ends the same way, carry it over again'
}

base_complete() { # takes what a delta lacks from --base; -> BASE_PENDING: under --dry-run, that it still lacks it
    base_settings
    if [[ ! -d "$KIT/delta" ]]; then
        [[ -z "$BASE" ]] || say '    this kit is complete: no file is taken from --base'
        return 0
    fi
    base_plain
    work_folder
    base_wanted
    [[ -n "$BASE" ]] || die "$EXIT_USAGE" "this is a delta: it needs files of $REPLY, which must lie unpacked on this host" \
        "$0 --base ../$REPLY"
    [[ ! "$BASE" -ef "$KIT" ]] || usage_error '--base: that is this kit itself'
    need awk cut df find ln mv sort stat tr xargs
    if [[ -f "$KIT/delta/needs" ]]; then
        base_list
        base_check
        if [[ -n "$DRY_RUN" ]]; then
            human "$BASE_BYTES"
            say "would take $BASE_FILES files ($REPLY) from $BASE; the files of the kit are checked when it is complete"
            # shellcheck disable=SC2034 # install.sh reads it
            BASE_PENDING=yes
            return 0
        fi
        base_take
        base_remember
    fi
    [[ ! -e "$KIT/delta/bundle.json" ]] || mv -f -- "$KIT/delta/bundle.json" "$KIT/bundle.json"
    rm -f -- "$KIT/delta/copy" "$KIT/delta/needs"
    rmdir -- "$KIT/delta"
}

base_part() { # what is here of a delta that is not complete is checked: then the end with 20, which says what is missing
    [[ -f "$KIT/delta/needs" && ! -L "$KIT/delta/needs" && -f "$KIT/SHA256SUMS" && ! -L "$KIT/SHA256SUMS" ]] || return 0
    work_folder
    base_list
    awk -F '\t' 'FILENAME == ARGV[1] { needed[$4]; next }
        { path = substr($0, 67); if (path in needed) next }
        path == "bundle.json" { path = "delta/bundle.json" }
        { print substr($0, 1, 66) path }' "$WORK/needs" "$KIT/SHA256SUMS" >"$WORK/partial"
    # shellcheck disable=SC2034 # checksums.sh reads it
    SUMS_PARTIAL="$WORK/partial"
    sums_check full
    base_wanted
    die "$EXIT_DAMAGED" "this kit is a delta and not complete: $BASE_FILES files are to come from $REPLY" "$KIT/install.sh --base FOLDER-OF-$REPLY"
}
