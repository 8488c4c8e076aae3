# shellcheck shell=bash
# Files that nobody else can change or read: whose inode it is, a stage beside a target, and its end under the final name.
#
# Rules: (1) nothing is written through a link or over something that is there; (2) what holds secrets is of this user, mode 0600,
# from its first byte to its last name, or it is not there at all; (3) in a folder that others can write, only what lies in a folder
# of this run's own is opened by name.

[[ -z "${PRIVATE_FILES_SH:-}" ]] || return 0
PRIVATE_FILES_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"

STAGE=''

own_inode() { # own_inode PATH: a plain file that nobody but root and this user can change, by whatever name. Status 1: somebody else can
    local owner mode kind
    read -r owner mode kind < <(stat -c '%u %a %F' -- "$1")
    [[ "$kind" == regular* ]] && ((owner == 0 || owner == EUID)) && (((8#$mode & 8#22) == 0))
}

new_file() { # new_file FILE -> REPLY: its absolute path: outside of the kit, in a folder that is there; nothing may be there yet
    local folder
    folder=$(readlink -f -- "$(dirname -- "$1")") || folder=''
    [[ -d "$folder" ]] || usage_error "the folder of '$1' is not there"
    REPLY="${folder%/}/${1##*/}"
    [[ "$REPLY" != "$KIT/"* ]] || usage_error 'inside the kit it would be an extra file: give a place outside'
    [[ ! -e "$REPLY" && ! -L "$REPLY" ]] || usage_error "$REPLY is there already"
    [[ -w "$folder" ]] || die 1 "$folder cannot be written by this user" 'name another file'
}

publish() { # publish FILE COMMAND...: what COMMAND writes to stdout becomes FILE, a gzip file of this user, mode 0600; status 1 when it cannot be
    local target=$1 state
    shift
    STAGE=$(mktemp -d "${target%/*}/.offline-kit.XXXXXXXX") || return 1
    AT_EXIT=stage_remove
    # Opened inside: whoever renames the folder away has nothing to put in its place that is written to.
    (
        cd -- "$STAGE" && [[ -O . ]] && umask 077 && set -o noclobber && "$@" >file && gzip -t <file && chmod 600 file && sync || exit 1
        # Some file systems have no links: a name that has come meanwhile stays there too.
        ln -n -- file "$target" 2>/dev/null || { mv -n -- file "$target" && [[ ! -e file ]]; }
    ) || return 1
    stage_remove
    make_last "${target%/*}"
    state=$(stat -c '%a %u %F' -- "$target") || return 1
    [[ "$state" == "600 $EUID regular file" ]] && return 0
    rm -f -- "$target"
    say "error: on this file system a file cannot be kept from others (it got: $state)"
    return 1
}

stage_remove() { # also on the way out
    [[ -z "$STAGE" ]] || rm -rf -- "$STAGE"
    STAGE=''
}
