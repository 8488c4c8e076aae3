# shellcheck shell=bash
# Where the kit lies, and who installs it: the name of its folder, the kind of its file system, what this user may do.
#
# Rules: (1) nothing is tried out: what a file system can is known by its kind and by how it is mounted; (2) whatever Docker
# cannot mount, or the services could not use, is a FAIL before anything is loaded.

[[ -z "${FOLDER_SH:-}" ]] || return 0
FOLDER_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/findings.sh
. "${BASH_SOURCE[0]%/*}/../core/findings.sh"

readonly READ_ONLY_REMEDY='copy the kit to a disk of this host (cp -R) and install it there: a medium that is only read holds no settings and logs'

mount_options() { # mount_options FOLDER -> REPLY: how its file system is mounted, with commas; empty when that cannot be seen
    REPLY=$(FOLDER=$1 awk '
        { point = $5; gsub(/\\040/, " ", point); for (i = 7; i <= NF && $i != "-"; i++); }
        point == "/" || index(ENVIRON["FOLDER"] "/", point "/") == 1 { if (length(point) >= length(best)) { best = point; options = $6 "," $(i + 3) } }
        END { print options }' /proc/self/mountinfo 2>/dev/null) || REPLY=''
}

check_folder() {
    check_path
    check_file_system
    check_cleaned
    check_owner
}

check_path() { # Docker splits what it is to mount at colons, and passes names on as UTF-8
    revealed "$KIT"
    if [[ "$KIT" == *:* ]]; then
        finding FAIL 'folder of the kit' "$KIT has a colon in its path, which Docker cannot mount" 'move the kit to a folder without a colon, and install it there'
    elif [[ "$REVEALED" != "$KIT" ]]; then
        finding FAIL 'folder of the kit' "$KIT has characters in its path that Docker cannot mount (controls, or bytes that are no UTF-8)" 'move the kit to a folder with plain letters, and install it there'
    fi
}

check_file_system() {
    local type level=FAIL
    type=$(stat -f -c %T -- "$KIT" 2>/dev/null) || type=''
    mount_options "$KIT"
    if [[ ",$REPLY," == *,ro,* ]]; then
        finding FAIL 'folder of the kit' "$KIT lies on a file system that is mounted read-only" "$READ_ONLY_REMEDY"
        return 0
    fi
    if [[ ",$REPLY," == *,noexec,* ]]; then
        device
        [[ "$REPLY" == nvidia ]] || level=WARN
        finding "$level" 'folder of the kit' "$KIT lies on a file system mounted noexec: engines cannot load what they compile into .state/cache" "mount -o remount,exec it, or move the kit"
    fi
    case "$type" in
        msdos | vfat | exfat | ntfs | fuseblk | smb* | cifs | v9fs | vboxsf | prl_fs)
            finding FAIL 'folder of the kit' "$KIT lies on $type, which keeps no owners and modes: .env could not be private, nor .state/ the services'" 'copy the kit to a disk of this host with ext4 or XFS (cp -R), and install it there'
            ;;
        tmpfs | ramfs)
            finding WARN 'folder of the kit' "$KIT lies in memory ($type): it is gone when the host restarts" 'move the kit to a disk, unless this is meant'
            ;;
        nfs*)
            finding WARN 'folder of the kit' "$KIT lies on $type: root may be nobody there (root_squash), and engines wait for the network when it stops" 'use a disk of this host, or export it with no_root_squash'
            ;;
        *) ;;
    esac
}

check_cleaned() { # folders that systemd-tmpfiles clears: of what was not touched for an AGE, or (D) whenever the host starts
    local folder file type path age names=' ' cleared=''
    [[ -d /run/systemd/system ]] || return 0
    for folder in /etc/tmpfiles.d /run/tmpfiles.d /usr/lib/tmpfiles.d; do # a file hides those of its name in later folders
        for file in "$folder"/*.conf; do
            [[ -f "$file" && -r "$file" && "$names" != *" ${file##*/} "* ]] || continue
            names+="${file##*/} "
            while read -r type path _ _ _ age _ || [[ -n "$type" ]]; do
                # shellcheck disable=SC2053 # what x and X name are patterns
                case "$type" in
                    [xX]*) [[ "$KIT" != $path && "$KIT" != $path/* ]] || return 0 ;;
                    [dDevqQ]*)
                        [[ "$KIT" == "${path%/}"/* ]] || continue
                        if [[ "$age" == [0-9~]* ]]; then
                            cleared="what lies below $path is removed when nobody touched it for $age"
                        elif [[ "$type" == D* ]]; then
                            cleared="what lies below $path is removed when the host starts"
                        fi
                        ;;
                    *) ;;
                esac
            done <"$file"
        done
    done
    [[ -z "$cleared" ]] || finding WARN 'folder of the kit' "$cleared (systemd-tmpfiles): weights and settings of this kit, too" 'move the kit to a folder of its own, such as /srv or /opt'
}

check_owner() { # what an operator without root cannot do
    if [[ ! -w "$KIT" ]]; then
        mount_options "$KIT"
        [[ ",$REPLY," == *,ro,* ]] ||
            finding FAIL 'folder of the kit' "$KIT cannot be written by this user" 'run as root or as the owner of that folder'
    elif [[ -e "$KIT/.env" && ! -r "$KIT/.env" ]]; then
        finding FAIL 'folder of the kit' "$KIT/.env is another user's: this user cannot read it" 'run as root, or as the user who installed the kit'
    else
        finding OK 'folder of the kit' "$KIT"
    fi
    ((EUID != 0)) || return 0
    finding WARN operator "not root (user $EUID): the services run as this user; enable-boot and disable-boot cannot be done; who holds a port is not named" 'run as root, where one of these is needed; else nothing'
}
