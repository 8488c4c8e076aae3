# shellcheck shell=bash
# What could make an installation fail on this host: every finding at once, before anything is changed.
#
# Rules: (1) checks look and never change; (2) each adds at least one finding: OK, WARN or FAIL, what was seen, and for the
# last two what to do; (3) a check whose ground is missing (no Docker, say) adds nothing of its own; (4) what cannot be
# found out is a WARN, never an OK.

[[ -z "${CHECKS_SH:-}" ]] || return 0
CHECKS_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=images.sh
. "${BASH_SOURCE[0]%/*}/images.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=gpus.sh
. "${BASH_SOURCE[0]%/*}/gpus.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=ports.sh
. "${BASH_SOURCE[0]%/*}/ports.sh"

DOCKER_ROOT='' COMPOSE_VERSION=''
GIB=1073741824

# ---- the host itself

check_bash() {
    if at_least "$BASH_VERSION" 4.2; then
        finding OK bash "$BASH_VERSION"
    else
        finding FAIL bash "$BASH_VERSION is too old" 'install bash 4.2 or later'
    fi
}

check_programs() {
    local program missing=''
    for program in awk cat cmp df find grep gzip head mktemp nproc od readlink sed sort stat tail tar tr wc xargs; do
        type -P "$program" >/dev/null || missing+=" $program"
    done
    if [[ -z "$missing" ]]; then
        finding OK programs 'all that the scripts use are there'
    else
        finding FAIL programs "not found:$missing" "install the distribution's coreutils, findutils, tar, gzip, gawk or mawk, sed, grep, diffutils"
    fi
}

check_architecture() {
    local machine wanted
    machine=$(uname -m)
    fact KIT_PLATFORM
    wanted=$REPLY
    case "$machine" in
        x86_64 | amd64) machine=amd64 ;;
        aarch64 | arm64) machine=arm64 ;;
        *) ;;
    esac
    if [[ "linux/$machine" == "$wanted" || "$wanted" == "linux/$machine/"* ]]; then
        finding OK architecture "linux/$machine"
    else
        finding FAIL architecture "this host is linux/$machine, the kit is for $wanted" "build the bundle for linux/$machine (platform in the manifest)"
    fi
}

check_clock() {
    local year
    year=$(date +%Y)
    if ((year >= 2025)); then
        finding OK clock "$(date -u '+%Y-%m-%d %H:%M UTC')"
    else
        finding WARN clock "the clock says $year" 'set the clock: logs and receipts carry its time'
    fi
}

check_memory() {
    local total available need
    total=$(awk '$1 == "MemTotal:" { printf "%.0f", $2 * 1024 }' /proc/meminfo 2>/dev/null) || total=''
    available=$(awk '$1 == "MemAvailable:" { printf "%.0f", $2 * 1024 }' /proc/meminfo 2>/dev/null) || available=''
    if [[ -z "$total" ]]; then
        finding WARN memory 'cannot be found out (/proc/meminfo)'
        return 0
    fi
    fact KIT_MODELS_BYTES 0
    need=$((2 * GIB))
    device
    if [[ "$REPLY" == cpu ]]; then
        fact KIT_MODELS_BYTES 0
        need=$((need + REPLY))
    fi
    human "$total"
    local shown=$REPLY
    human "$need"
    if ((total < need)); then
        finding FAIL memory "$shown; the models and their engines need $REPLY or more" 'add memory, or leave models out of config/models.json'
    elif [[ -n "$available" ]] && ((available < need)) && ! kit_runs; then
        human "$available"
        finding WARN memory "$shown, of which only $REPLY are available" 'end what uses the memory'
    else
        finding OK memory "$shown"
    fi
}

# ---- Docker

check_docker() {
    local said version
    if ! type -P docker >/dev/null; then
        finding FAIL docker 'Docker is not installed (no docker in PATH)' 'install Docker Engine 20.10 or later with the Compose plug-in'
        return 0
    fi
    if [[ "${DOCKER_HOST:-}" == tcp:* || "${DOCKER_HOST:-}" == ssh:* ]]; then
        finding FAIL docker "DOCKER_HOST is $DOCKER_HOST: another machine's Docker cannot see this kit's files" 'unset DOCKER_HOST'
        return 0
    fi
    if ! said=$(at_most 30 docker version --format '{{.Server.Version}}' 2>&1); then
        said=${said//$'\n'/ }
        if [[ "$said" == *'ermission denied'* ]]; then
            finding FAIL docker "Docker does not let this user in: ${said:0:200}" "run as root, or add the user to the group docker and log in anew"
        else
            finding FAIL docker "Docker does not answer: ${said:0:200}" 'start it: systemctl start docker'
        fi
        return 0
    fi
    version=${said##*$'\n'}
    if ! at_least "$version" 20.10; then
        finding FAIL docker "Docker $version is too old" 'install Docker Engine 20.10 or later'
        return 0
    fi
    DOCKER_VERSION=$version
    DOCKER_ROOT=$(at_most 30 docker info --format '{{.DockerRootDir}}' 2>/dev/null) || DOCKER_ROOT=''
    finding OK docker "Docker $version"
    said=$(at_most 30 docker info --format '{{.Driver}}' 2>/dev/null) || said=''
    if [[ "$said" == vfs ]]; then
        finding WARN 'storage driver' 'vfs: every layer is a full copy, images take many times their size' 'use overlay2'
    else
        finding OK 'storage driver' "${said:-unknown}"
    fi
}

check_compose() {
    local version
    type -P docker >/dev/null || return 0
    if ! version=$(at_most 30 docker compose version --short 2>/dev/null) || [[ -z "$version" ]]; then
        finding FAIL compose 'the Compose plug-in of Docker is missing' "install docker-compose-plugin (Compose 2.0 or later) into Docker's cli-plugins"
        return 0
    fi
    if ! at_least "$version" 2.0; then
        finding FAIL compose "Compose $version is too old" 'install Compose 2.0 or later'
        return 0
    fi
    COMPOSE_VERSION=${version#v}
    finding OK compose "Compose $COMPOSE_VERSION"
}

# ---- disks

free_bytes() { # free_bytes FOLDER -> REPLY; status 1 when it cannot be found out
    REPLY=$(df -Pk -- "$1" 2>/dev/null | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')
    [[ "$REPLY" =~ ^[0-9]+$ ]]
}

device_of() { REPLY=$(df -Pk -- "$1" 2>/dev/null | awk 'NR == 2 { print $1 }') || REPLY=''; }

check_disks() {
    local key need=0 kit_need=$GIB free shown same
    if [[ -n "$DOCKER_VERSION" ]]; then
        images
        for key in "${KEYS[@]}"; do
            image_expect "$key"
            if image_differs; then need=$((need + 3 * EXPECT[SIZE])); fi
        done
    fi
    device_of "$KIT" && same=$REPLY
    if [[ -n "$DOCKER_ROOT" ]]; then
        device_of "$DOCKER_ROOT"
        [[ "$REPLY" != "$same" || -z "$same" ]] || kit_need=$((kit_need + need))
        check_disk "disk of Docker" "$DOCKER_ROOT" "$need" "the images need up to three times their size while they are loaded" \
            'make room there (docker system df shows what is used), or move data-root in /etc/docker/daemon.json'
    fi
    check_disk 'disk of the kit' "$KIT" "$kit_need" 'logs, caches and settings are kept there' "make room on the disk of $KIT"
    if [[ ! -w "$KIT" ]]; then
        finding FAIL 'folder of the kit' "$KIT cannot be written by this user" 'run as root or as the owner of that folder'
    fi
}

check_disk() { # check_disk NAME FOLDER NEED WHY REMEDY
    local free
    if ! free_bytes "$2"; then
        finding WARN "$1" "the free space on $2 cannot be found out" 'look yourself: df -h'
        return 0
    fi
    free=$REPLY
    human "$free"
    local shown=$REPLY
    human "$3"
    if ((free < $3)); then
        finding FAIL "$1" "$shown free on $2, $REPLY needed: $4" "$5"
    else
        finding OK "$1" "$shown free on $2"
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

# ---- all of them

checks_run() {
    fact KIT_NAME
    PROJECT=${REPLY//./-}
    check_bash
    check_programs
    check_architecture
    check_clock
    check_docker
    check_compose
    check_memory
    check_disks
    check_modes
    check_ports
    device
    if [[ "$REPLY" == nvidia ]]; then
        check_driver
        check_visible
        check_toolkit
    fi
}
