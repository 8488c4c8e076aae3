# shellcheck shell=bash
# Is the kit, byte for byte, what SHA256SUMS says? Nothing missing, changed or extra; every finding is named, then one end.
#
# Rules: (1) SHA256SUMS itself must be strict: lower-case hex, sorted, no path twice; (2) only plain files may lie in a kit;
# (3) `.env` and `.state/` are the operator's; once this host installed the kit (.state/installed, host_record.sh), changes under
# config/ and folders of their own under models/ are notes, not damage; (4) what was proven is remembered in .state/proven with
# size, mtime, ctime and inode, so that only `full` reads it again; (5) what is not a plain file is a finding, and never opened;
# (6) files are read by as many processes as there are processors, with
# openssl where it is there: on older distributions it is five times as fast as sha256sum.

[[ -z "${CHECKSUMS_SH:-}" ]] || return 0
CHECKSUMS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/host_record.sh
. "${BASH_SOURCE[0]%/*}/host_record.sh"

SUMS_FILES=0 SUMS_READ=0 SUMS_BYTES=0 SUMS_SECONDS=0 SUMS_TOOL='' SUMS_DIGEST='' SUMS_TO_READ=0 SUMS_RESULT='not checked' SUMS_PARTIAL=''
SUMS_NOTES=()

sums_tool() { # -> SUMS_TOOL
    if type -P openssl >/dev/null && printf '' | openssl dgst -sha256 -r >/dev/null 2>&1; then
        SUMS_TOOL='openssl dgst -sha256 -r'
    else
        SUMS_TOOL='sha256sum'
    fi
}

sums_shape() { # complains, on stdout, of each line of SHA256SUMS that is not as the format demands
    awk '
        { shown = substr($0, 1, 100) }
        length($0) < 67 || substr($0, 65, 2) != "  " || substr($0, 1, 64) ~ /[^0-9a-f]/ || /[\001-\037\177\\]/ {
            print "SHA256SUMS: line " NR " is not \"<64 lower-case hex>  <path>\": " shown; next }
        { path = substr($0, 67) "" }
        path ~ /^[\/~-]/ || path ~ /(^|\/)\.?\.?(\/|$)/ || path == "SHA256SUMS" || path == ".env" || path ~ /^\.state\// {
            print "SHA256SUMS: line " NR ": not a path that it may name: " shown; next }
        path == last { print "SHA256SUMS: line " NR ": named twice: " path }
        path < last { print "SHA256SUMS: line " NR ": not sorted: " path }
        { last = path }
        END { if (NR == 0) print "SHA256SUMS: empty" }' "$KIT/SHA256SUMS"
    [[ -z "$(tail -c 1 "$KIT/SHA256SUMS")" ]] || printf 'SHA256SUMS: does not end with a line end\n'
}

sums_present() { # what lies in the kit, on stdout: TYPE, SIZE:MTIME:CTIME:INODE and path, by tabs
    (cd "$KIT" && TZ=UTC0 find . \( -path ./.state -o -path ./.env -o -path ./SHA256SUMS \) -prune -o ! -type d \
        -exec stat -c '%F	%s:%y:%z:%i	%n' {} +)
}

sums_installed() { # -> REPLY: yes when this host installed the kit, so that config/ and further models are the operator's
    REPLY=''
    [[ -z "$STATE_IS_OURS" || ! -f "$STATE/installed" ]] || REPLY=yes
}

sums_foreign() { # what a carrier may have put beside the kit's files, before an installation: findings, on stdout
    local entry
    [[ ! -L "$STATE" && (! -e "$STATE" || -d "$STATE") ]] || printf 'not a folder: .state\n'
    [[ ! -L "$KIT/.env" && (! -e "$KIT/.env" || -f "$KIT/.env") ]] || printf 'not a plain file: .env\n'
    [[ -n "$STATE_DEMANDED" && -z "$STATE_IS_OURS" ]] || return 0
    for entry in ${STATE_FOREIGN[@]+"${STATE_FOREIGN[@]}"}; do printf 'not made on this host: %s\n' "$entry"; done
}

# Joins SHA256SUMS (of a delta that is not complete: what is here of it, in the file SUMS_PARTIAL), .state/proven and what is present. Adds to files in $WORK: findings, notes, big and small (what is to
# be read, a path a line), known (lines for the next .state/proven), wanted (the same of all files) and counts.
sums_join() { # sums_join full|remember
    local installed proven=/dev/null
    sums_installed && installed=$REPLY
    [[ "$1" == full || -z "$STATE_IS_OURS" || ! -f "$STATE/proven" || ! -r "$STATE/proven" ]] || proven="$STATE/proven"
    awk -v installed="$installed" -v work="$WORK" -v partial="$SUMS_PARTIAL" '
        function of_operator(path) { # may differ once installed
            if (installed == "") return 0
            if (path ~ /^config\//) return 1
            if (path !~ /^models\/[^\/]+\//) return 0
            split(path, part, "/")
            return !(part[2] in shipped)
        }
        function report(kind, path) {
            if (of_operator(path)) print kind ": " path >> (work "/notes")
            else print kind ": " path >> (work "/findings")
        }
        FILENAME == ARGV[1] { path = substr($0, 67); want[path] = substr($0, 1, 64); order[++files] = path
            if (path ~ /^models\//) { split(path, part, "/"); shipped[part[2]] = 1 }
            next }
        FILENAME == ARGV[2] { split($0, field, "\t"); proven[field[3]] = field[1] "\t" field[2]; next }
        { count = split($0, field, "\t")
          if (count != 3 || substr(field[3], 1, 2) != "./") {
              print "extra (a name with a line break or a tab): " $0 >> (work "/findings"); next }
          path = substr(field[3], 3); have[path] = field[2]
          if (field[1] !~ /^regular( empty)? file$/) { special[path]; print "not a plain file (" field[1] "): " path >> (work "/findings") }
          else if (!(path in want) && path !~ /^SHA256SUMS(\.[0-9a-f]+)?\.(sig|sigstore\.json)$/ &&
              !(partial != "" && (path == "bundle.json" || path == "delta/needs"))) report("extra", path) }
        END {
            for (i = 1; i <= files; i++) {
                path = order[i]
                if (!(path in have)) { report("missing", path); continue }
                if (path in special) continue
                line = want[path] "\t" have[path]
                print line "\t" path > (work "/wanted")
                if (proven[path] == line) { print line "\t" path >> (work "/known"); continue }
                size = have[path] + 0; bytes += size; read++
                print path > (work (size > 1048576 ? "/big" : "/small"))
            }
            printf "%d %d %.0f\n", files, read, bytes > (work "/counts")
        }' "${SUMS_PARTIAL:-$KIT/SHA256SUMS}" "$proven" "$WORK/present"
}

sums_hash() { # hashes the files that $WORK/big and small name, relative to the folder $1, into $WORK/hashed
    local parallel
    parallel=$(nproc 2>/dev/null || echo 2)
    mkdir -p "$WORK/batches"
    # shellcheck disable=SC2016 # the inner shell expands; each batch has its own file, so that no lines mix
    local batch='cd -- "$0" && out=$1 && tool=$2 && shift 2 && exec $tool "$@" >>"$out/$$"' name count=1
    for name in big small; do # a file that cannot be read leaves no line: that is how it is found
        tr '\n' '\0' <"$WORK/$name" | xargs -0 -r -n "$count" -P "$parallel" \
            bash -c "$batch" "$1" "$WORK/batches" "$SUMS_TOOL" 2>>"$WORK/trouble" || true
        count=50
    done
    find "$WORK/batches" -type f -exec cat {} + >"$WORK/hashed"
}

sums_tick() {
    local part done=0
    part=$(find "$WORK/batches" -type f -exec cat {} + 2>/dev/null | wc -l) || part=0
    done=$((part))
    progress "    $done of $SUMS_TO_READ files"
}

sums_compare() { # holds $WORK/hashed against $WORK/wanted: findings, notes, and what is proven now into $WORK/known
    local installed
    sums_installed && installed=$REPLY
    cat "$WORK/big" "$WORK/small" >"$WORK/reading"
    awk -v installed="$installed" -v work="$WORK" '
        FILENAME == ARGV[1] { found[substr($0, 67)] = substr($0, 1, 64); next }
        FILENAME == ARGV[2] { reading[$0] = 1; next }
        { split($0, field, "\t"); path = field[3] }
        !(path in reading) { next }
        path in found && found[path] == field[1] { print >> (work "/known"); next }
        { text = (path in found) ? "changed: " path : "unreadable: " path
          print text >> (work ((installed != "" && path ~ /^config\//) ? "/notes" : "/findings")) }
        ' "$WORK/hashed" "$WORK/reading" "$WORK/wanted"
}

sums_remember() { # keeps what is proven, if this user may write here
    [[ -z "$DRY_RUN$SUMS_PARTIAL" ]] || return 0
    state_claim && [[ -w "$STATE" ]] || return 0
    sort -t '	' -k 3 "$WORK/known" | write_file "$STATE/proven" 600 ||
        warn "what was proven cannot be noted in $STATE/proven: the next run reads those files again"
}

sums_check() { # sums_check full|remember: dies with 20 when anything is wrong; fills SUMS_*
    sums_find "$1"
    sums_report
}

sums_find() { # sums_find full|remember: what is wrong -> $WORK/findings, what is the operator's -> $WORK/notes; fills SUMS_*
    local began=$SECONDS
    need awk find stat sort xargs tr
    work_folder
    sums_tool
    [[ -f "$KIT/SHA256SUMS" && ! -L "$KIT/SHA256SUMS" && -r "$KIT/SHA256SUMS" ]] ||
        die "$EXIT_DAMAGED" 'the kit is damaged: SHA256SUMS is missing' 'unpack the bundle again; if that ends the same way, carry it over again'
    rm -rf "$WORK/batches"
    local name
    for name in big small known wanted hashed trouble notes; do : >"$WORK/$name"; done
    sums_shape >"$WORK/findings"
    if [[ ! -s "$WORK/findings" ]]; then
        sums_foreign >>"$WORK/findings"
        sums_present >"$WORK/present" 2>"$WORK/trouble" || sed 's/^/cannot look at: /' "$WORK/trouble" >>"$WORK/findings"
        sums_join "$1"
        read -r SUMS_FILES SUMS_READ SUMS_BYTES <"$WORK/counts"
        SUMS_TO_READ=$SUMS_READ
        run_foreground sums_tick sums_hash "$KIT"
        sums_compare
    fi
    SUMS_DIGEST=$($SUMS_TOOL <"$KIT/SHA256SUMS")
    SUMS_DIGEST=${SUMS_DIGEST:0:64}
    SUMS_SECONDS=$((SECONDS - began))
}

fingerprint() { # -> REPLY: the first 96 bits of the digest of SHA256SUMS, in groups: what two people read to each other
    local at
    REPLY=''
    for at in 0 4 8 12 16 20; do REPLY+="${REPLY:+ }${SUMS_DIGEST:at:4}"; done
}

sums_report() {
    local line count remedy='unpack the bundle again; if that ends the same way, carry it over again'
    SUMS_NOTES=()
    while IFS= read -r line; do
        SUMS_NOTES+=("$line")
        say "note: $line (the operator's)"
    done < <(sort "$WORK/notes")
    [[ -n "$STATE_DEMANDED" || "${STATE_FOREIGN[*]-}" != *.state/installed* ]] ||
        say "note: .state/installed was not made on this host, and is not believed (./install.sh --adopt takes a folder that you moved)"
    if [[ -n "$STATE_DEMANDED" && -z "$STATE_IS_OURS" ]] && ((${#STATE_FOREIGN[@]} > 0)); then
        remedy="nothing of it was believed; is it of somebody else, remove it and look at the rest: rm -r '$STATE' '$KIT/.env'; a folder that you moved here: ./install.sh --adopt; settings that you wrote: --env-file $KIT/.env"
    fi
    if [[ -s "$WORK/findings" ]]; then
        count=$(wc -l <"$WORK/findings") SUMS_RESULT=damaged
        sort -u "$WORK/findings" | reveal_controls >&2
        sed 's/^/  /' "$WORK/trouble" | reveal_controls >&2
        die "$EXIT_DAMAGED" "the kit is damaged: $((count)) finding(s), named above; nothing was started" "$remedy"
    fi
    # shellcheck disable=SC2034  # the receipt tells it
    SUMS_RESULT=ok
    sums_remember
    fingerprint && say "    fingerprint $REPLY"
    human "$SUMS_BYTES"
    if [[ -n "$SUMS_PARTIAL" ]]; then
        say "    $SUMS_FILES files are here and as SHA256SUMS says ($REPLY read in $SUMS_SECONDS s)"
    elif ((SUMS_READ == SUMS_FILES)); then
        say "    all $SUMS_FILES files are as SHA256SUMS says ($REPLY read in $SUMS_SECONDS s)"
    else
        say "    all $SUMS_FILES files are as SHA256SUMS says: $SUMS_READ read ($REPLY), $((SUMS_FILES - SUMS_READ)) proven earlier and unchanged since"
    fi
}
