# shellcheck shell=bash
# Who listens on a TCP port of this host: read from /proc, so that no program is needed for it.
#
# Rules: (1) a listener counts when its address and the wanted one overlap; (2) who it is can be seen by root, or by the
# user whose program it is; for others it is "another program".

[[ -z "${LISTENERS_SH:-}" ]] || return 0
LISTENERS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"

listener() { # listener PORT ADDRESS -> REPLY: inode of a socket that listens there; status 1 when none does
    local hex wanted=''
    printf -v hex '%04X' "$((10#$1))"
    # /proc has IPv4 addresses as four bytes in the machine's order: on what Docker runs on, the last one first
    [[ ! "$2" =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$ ]] ||
        printf -v wanted '%02X%02X%02X%02X' "${BASH_REMATCH[4]}" "${BASH_REMATCH[3]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}"
    REPLY=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$hex" -v wanted="$wanted" '
        $4 != "0A" { next }
        { split($2, local, ":"); address = local[1]; sub(/^0000000000000000FFFF0000/, "", address) }
        local[2] != port { next }
        wanted == "" || wanted == "00000000" || address ~ /^0+$/ || address == wanted { print $10; exit }') || true
    [[ -n "$REPLY" ]]
}

socket_owner() { # socket_owner INODE -> REPLY: NAME (pid PID), or another program
    local pid name=''
    # shellcheck disable=SC2012 # no name of a file is read, only where its link goes to
    pid=$(ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v socket="socket:[$1]" '
        /^\/proc\/[0-9]+\/fd:$/ { split($0, part, "/"); pid = part[3] }
        $NF == socket { print pid; exit }') || true
    [[ -z "$pid" ]] || read -r name 2>/dev/null <"/proc/$pid/comm" || true
    REPLY='another program'
    [[ -z "$name" ]] || REPLY="$name (pid $pid)"
}
