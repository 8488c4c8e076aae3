# shellcheck shell=bash
# One script at a time may change a kit: a lock in .state/, given back by the end of the process.
#
# Rules: (1) nothing is opened through a link, and nothing is emptied; (2) where there is no flock, a folder with the owner's
# process ID is the lock; (3) a lock that nobody holds any more keeps nobody out, but where there is no flock.

[[ -z "${LOCK_SH:-}" ]] || return 0
LOCK_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

lock_kit() { # one script at a time may change a kit
    [[ -z "$DRY_RUN" ]] || return 0
    [[ ! -L "$STATE" ]] || die "$EXIT_DAMAGED" "$STATE is a link, not a folder" "look who put it there; then: rm '$STATE'"
    local said owner=''
    [[ ! -e "$STATE/lock" && ! -L "$STATE/lock" ]] || [[ -f "$STATE/lock" && ! -L "$STATE/lock" ]] ||
        die "$EXIT_DAMAGED" "$STATE/lock is not a plain file" "look who put it there; then: rm '$STATE/lock'"
    if ! said=$(mkdir -p "$STATE" 2>&1) || ! said=$( (: >>"$STATE/lock") 2>&1); then
        [[ "$said" != *[Rr]ead-only* ]] || die "$EXIT_PREFLIGHT" "$KIT lies on a file system that is mounted read-only" 'copy the kit to a disk of this host (cp -R) and install it there'
        [[ "$said" != *[Nn]o\ space* ]] || die "$EXIT_PREFLIGHT" "no space left on the disk of $KIT" "make room there: df -h '$KIT' and df -i '$KIT'"
        die 1 "cannot write in $KIT" 'run as the user who owns that folder, or as root'
    fi
    if type -P flock >/dev/null; then
        exec 9>>"$STATE/lock"
        flock -n 9 || die 1 "another script is at work on this kit" "wait until it is done (lock: $STATE/lock)"
        return 0
    fi
    [[ ! -L "$STATE/lock.d" ]] || die "$EXIT_DAMAGED" "$STATE/lock.d is a link" "look who put it there; then: rm '$STATE/lock.d'"
    if ! mkdir "$STATE/lock.d" 2>/dev/null; then
        [[ ! -f "$STATE/lock.d/pid" || ! -r "$STATE/lock.d/pid" ]] || owner=$(<"$STATE/lock.d/pid")
        if [[ -z "$owner" ]] || kill -0 "$owner" 2>/dev/null; then
            die 1 "another script is at work on this kit (pid ${owner:-unknown})" "if none is: rm -r '$STATE/lock.d'"
        fi
    fi
    write_file "$STATE/lock.d/pid" 644 <<<"$$"
    LOCK_FOLDER="$STATE/lock.d"
}

unlock_kit() { # so that a script called from here can work on this kit
    exec 9>&-
    [[ -z "$LOCK_FOLDER" ]] || rm -rf -- "$LOCK_FOLDER"
    LOCK_FOLDER=''
}

lock_free() { # lock_free KIT: waits, two minutes at most, until no script is at work there
    local until=$((SECONDS + 120)) owner
    while ((SECONDS < until)); do
        if type -P flock >/dev/null; then
            [[ -e "$1/.state/lock" ]] || return 0
            ! flock -n "$1/.state/lock" true || return 0
        else
            owner=$(cat "$1/.state/lock.d/pid" 2>/dev/null) || return 0
            kill -0 "$owner" 2>/dev/null || return 0
        fi
        sleep 0.5
    done
    die 1 "a script is still at work in $1" 'wait until it is done, then start again'
}
