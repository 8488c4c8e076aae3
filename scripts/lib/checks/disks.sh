# shellcheck shell=bash
# Room on the disks: for the kit, and for the images in Docker, several times their size while they are loaded.
#
# Rules: (1) needs of places on one file system add up; (2) an image that is in Docker already needs nothing; (3) with the
# containerd image store, images lie below containerd's root, which may be on another disk.

[[ -z "${DISKS_SH:-}" ]] || return 0
DISKS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/findings.sh
. "${BASH_SOURCE[0]%/*}/../core/findings.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/images.sh
. "${BASH_SOURCE[0]%/*}/../kit/images.sh"

PLACE_NAME=() PLACE_FOLDER=() PLACE_NEED=() PLACE_WHY=() PLACE_REMEDY=()

place() { # place NAME FOLDER NEED WHY REMEDY: one more folder in which room is needed
    PLACE_NAME+=("$1")
    PLACE_FOLDER+=("$2")
    PLACE_NEED+=("$3")
    PLACE_WHY+=("$4")
    PLACE_REMEDY+=("$5")
}

existing() { # existing FOLDER -> REPLY: it, or the first above it that is there
    REPLY=$1
    while [[ ! -e "$REPLY" && "$REPLY" == */?* ]]; do REPLY=${REPLY%/*}; done
    [[ -e "$REPLY" ]] || REPLY=/
}

free_bytes() { # free_bytes FOLDER -> REPLY; status 1 when it cannot be found out
    REPLY=$(df -Pk -- "$1" 2>/dev/null | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')
    [[ "$REPLY" =~ ^[0-9]+$ ]]
}

device_of() { # device_of FOLDER -> REPLY: its file system, as a number
    REPLY=$(stat -c %d -- "$1" 2>/dev/null) || REPLY=''
}

containerd_root() { # -> REPLY: where containerd keeps images; status 1 when Docker keeps them itself
    local address
    [[ "$DOCKER_STATUS" == *io.containerd.snapshotter* ]] || return 1
    address=$(at_most 30 docker info --format '{{.Containerd.Address}}' 2>/dev/null) || address=''
    REPLY="$DOCKER_ROOT/containerd/daemon"
    [[ "$address" != /run/containerd/* ]] || REPLY=$(sed -n "s/^root *= *[\"']\(.*\)[\"'].*/\1/p" /etc/containerd/config.toml 2>/dev/null | head -n 1) || REPLY=''
    [[ -n "$REPLY" ]] || REPLY=/var/lib/containerd
}

images_need() { # -> REPLY: bytes that loading takes for a while: the archive once, the unpacked layers, the copy in between
    local key need=0
    images
    for key in "${KEYS[@]}"; do
        image_expect "$key"
        if image_differs; then need=$((need + 3 * EXPECT[SIZE])); fi
    done
    REPLY=$need
}

check_disks() {
    local need index why='the images need up to three times their size while they are loaded'
    PLACE_NAME=() PLACE_FOLDER=() PLACE_NEED=() PLACE_WHY=() PLACE_REMEDY=()
    place 'disk of the kit' "$KIT" "$GIB" 'logs, caches and settings are kept there' "make room on the disk of $KIT"
    if [[ -n "$DOCKER_ROOT" ]]; then
        images_need
        need=$REPLY
        if containerd_root; then
            existing "$REPLY"
            place 'disk of containerd' "$REPLY" "$need" "$why" 'make room there (docker system df shows what is used), or set root in /etc/containerd/config.toml'
            need=$((GIB / 4)) why='containers and their logs are kept there'
        fi
        existing "$DOCKER_ROOT"
        place 'disk of Docker' "$REPLY" "$need" "$why" \
            'make room there (docker system df shows what is used), or move data-root in /etc/docker/daemon.json'
    fi
    for index in "${!PLACE_NAME[@]}"; do check_place "$index"; done
}

check_place() { # check_place INDEX
    local index=$1 other own need=0 free shown shared='' folder=${PLACE_FOLDER[$1]} inodes
    device_of "$folder"
    own=$REPLY
    for other in "${!PLACE_NAME[@]}"; do
        device_of "${PLACE_FOLDER[other]}"
        if ((other == index)); then
            need=$((need + PLACE_NEED[other]))
        elif [[ -n "$own" && "$REPLY" == "$own" ]]; then
            need=$((need + PLACE_NEED[other]))
            shared+="${shared:+, }the ${PLACE_NAME[other]}"
        fi
    done
    shared=${shared:+ (one file system with $shared)}
    if ! free_bytes "$folder"; then
        finding WARN "${PLACE_NAME[index]}" "the free space on $folder cannot be found out" 'look yourself: df -h'
        return 0
    fi
    free=$REPLY
    human "$free" && shown=$REPLY
    human "$need"
    if ((free < need)); then
        finding FAIL "${PLACE_NAME[index]}" "$shown free on $folder, $REPLY needed: ${PLACE_WHY[index]}$shared" "${PLACE_REMEDY[index]}"
        return 0
    fi
    inodes=$(df -Pi -- "$folder" 2>/dev/null | awk 'NR == 2 && $2 + 0 > 0 { print $4 }') || inodes=''
    if [[ "$inodes" =~ ^[0-9]+$ ]] && ((inodes < 20000 && need > GIB)); then
        finding FAIL "${PLACE_NAME[index]}" "only $inodes files more can be made on $folder (inodes); images have tens of thousands" "${PLACE_REMEDY[index]}"
    else
        finding OK "${PLACE_NAME[index]}" "$shown free on $folder, $REPLY needed$shared"
    fi
}

check_modes() { # services of root's kit run as another user, who must be able to read it
    local hidden
    ((EUID == 0)) || return 0
    hidden=$(find "$KIT/models" "$KIT/runtime" "$KIT/config" \( -type f ! -perm -004 -o -type d ! -perm -005 \) -print 2>/dev/null | head -n 1) || true
    if [[ -n "$hidden" ]]; then
        finding FAIL 'file modes' "not readable for the services' user: ${hidden#"$KIT"/}" "chmod -R o+rX '$KIT/models' '$KIT/runtime' '$KIT/config'"
    else
        finding OK 'file modes' "models, runtime and config are readable for the services' user"
    fi
}
