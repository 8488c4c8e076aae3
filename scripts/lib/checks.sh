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
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

FINDINGS_LEVEL=() FINDINGS_NAME=() FINDINGS_TEXT=() FINDINGS_REMEDY=()
DOCKER_VERSION='' DOCKER_ROOT='' COMPOSE_VERSION='' GPU_COUNT=0
GIB=1073741824

finding() { # finding LEVEL NAME TEXT [REMEDY]
    FINDINGS_LEVEL+=("$1")
    FINDINGS_NAME+=("$2")
    FINDINGS_TEXT+=("$3")
    FINDINGS_REMEDY+=("${4:-}")
}

at_least() { # at_least VERSION WANTED: compares numbers between dots; what follows them does not count
    local have want index
    IFS=.-+~ read -r -a have <<<"${1#v}"
    IFS=. read -r -a want <<<"$2"
    for index in "${!want[@]}"; do
        [[ "${have[index]:-0}" =~ ^[0-9]+ ]] || return 1
        ((10#${BASH_REMATCH[0]} == 10#${want[index]})) || { ((10#${BASH_REMATCH[0]} > 10#${want[index]})) && return 0 || return 1; }
    done
}

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

# ---- ports

port_owner() { # port_owner PORT -> REPLY: who listens there; status 1 when nobody does
    local port=$1 line
    REPLY=''
    if [[ -n "$DOCKER_VERSION" ]]; then
        line=$(docker ps --filter "publish=$port" --format '{{.Names}} {{.Label "com.docker.compose.project"}}' 2>/dev/null | head -n 1) || line=''
        if [[ -n "$line" ]]; then
            [[ "${line#* }" == "$PROJECT" ]] && REPLY=ours || REPLY="the container ${line%% *}"
            return 0
        fi
    fi
    if type -P ss >/dev/null; then
        line=$(ss -Hltnp "sport = :$port" 2>/dev/null | head -n 1) || line=''
        [[ -n "$line" ]] || return 1
        [[ "$line" =~ users:\(\(\"([^\"]+)\",pid=([0-9]+) ]] && REPLY="${BASH_REMATCH[1]} (pid ${BASH_REMATCH[2]})" || REPLY='another program'
        return 0
    fi
    # shellcheck disable=SC2016 # the inner shell expands
    at_most 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0"' "$port" 2>/dev/null || return 1
    REPLY='another program'
}

check_ports() {
    local name port free='' ours='' fine=yes
    local -A seen=()
    while read -r name port; do
        if [[ ! "$port" =~ ^[0-9]+$ ]] || ((10#$port < 1 || 10#$port > 65535)); then
            finding FAIL ports "$name is '$port'" 'a port is a number from 1 to 65535'
            fine=''
        elif [[ -n "${seen[$port]:-}" ]]; then
            finding FAIL ports "$port is both $name and ${seen[$port]}" 'give each a port of its own in .env'
            fine=''
        elif port_owner "$port"; then
            if [[ "$REPLY" == ours ]]; then
                ours+=" $port"
            else
                finding FAIL ports "$port ($name) is taken by $REPLY" "end that program, or set another $name in .env"
                fine=''
            fi
        else
            free+=" $port"
        fi
        seen[$port]=$name
    done < <(wanted_ports)
    [[ -z "$fine" ]] || finding OK ports "${free:+free:$free}${free:+${ours:+; }}${ours:+held by this kit:$ours}"
}

kit_runs() { # a container of this kit is up
    [[ -n "$DOCKER_VERSION" && -n "$(docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" 2>/dev/null)" ]]
}

# ---- NVIDIA

check_driver() { # -> GPU_COUNT
    local said index name driver total used
    if ! type -P nvidia-smi >/dev/null; then
        finding FAIL driver 'no NVIDIA driver (nvidia-smi is not there)' 'install the NVIDIA driver; or use --device cpu with an image for it'
        return 0
    fi
    if ! said=$(at_most 60 nvidia-smi --query-gpu=index,name,driver_version,memory.total,memory.used --format=csv,noheader,nounits 2>&1) ||
        [[ -z "$said" || "$said" == *'No devices were found'* ]]; then
        said=${said//$'\n'/ }
        finding FAIL driver "nvidia-smi fails: ${said:0:200}" 'the driver is not loaded or has no GPU: see dmesg; after an update of the driver, restart the host'
        return 0
    fi
    while IFS=, read -r index name driver total used; do
        index=${index// /} name=${name# } driver=${driver// /} total=${total# } used=${used# }
        [[ "$index" =~ ^[0-9]+$ ]] || continue
        GPU_COUNT=$((GPU_COUNT + 1))
        ((GPU_COUNT > 1)) || check_driver_version "$driver"
        if [[ ! "$total" =~ ^[0-9]+$ ]]; then
            finding WARN "GPU $index" "$name: it does not report its memory ($total)" 'set gpu_memory_utilization with care: the plan cannot be checked'
        elif [[ "$used" =~ ^[0-9]+$ ]] && ((used * 20 > total)) && ! kit_runs; then
            finding WARN "GPU $index" "$name: $total MiB, of which $used MiB are in use" 'end what uses it (nvidia-smi shows it), or lower gpu_memory_utilization'
        else
            finding OK "GPU $index" "$name: $total MiB"
        fi
    done <<<"$said"
    ((GPU_COUNT > 0)) || finding FAIL driver "nvidia-smi prints no GPU: ${said:0:200}" 'see dmesg for what the driver says'
}

check_driver_version() {
    fact KIT_CUDA_DRIVER 525
    if at_least "$1" "$REPLY"; then
        finding OK driver "NVIDIA driver $1"
    else
        finding FAIL driver "NVIDIA driver $1 is too old: the image needs $REPLY or later" 'update the driver'
    fi
}

check_visible() { # CUDA_VISIBLE_DEVICES names GPUs that are there
    local name wrong='' listed=''
    ((GPU_COUNT > 0)) || return 0
    setting CUDA_VISIBLE_DEVICES
    [[ -n "$REPLY" && "$REPLY" != all ]] || { finding OK 'GPUs used' 'all' && return 0; }
    local names=()
    IFS=', ' read -r -a names <<<"$REPLY"
    for name in "${names[@]}"; do
        if [[ "$name" =~ ^[0-9]+$ ]]; then
            ((10#$name < GPU_COUNT)) || wrong+=" $name"
        else
            [[ -n "$listed" ]] || listed=$(at_most 60 nvidia-smi -L 2>/dev/null) || listed=none
            [[ "$listed" == *"$name"* ]] || wrong+=" $name"
        fi
    done
    if [[ -n "$wrong" ]]; then
        finding FAIL 'GPUs used' "CUDA_VISIBLE_DEVICES names$wrong; this host has $GPU_COUNT GPU(s), from 0 to $((GPU_COUNT - 1))" 'correct CUDA_VISIBLE_DEVICES in .env'
    else
        finding OK 'GPUs used' "${names[*]} of $GPU_COUNT"
    fi
}

check_toolkit() { # Docker can give GPUs to containers
    local runtimes spec
    [[ -n "$DOCKER_VERSION" ]] || return 0
    # shellcheck disable=SC2016 # a template of Docker, not of the shell
    runtimes=$(at_most 30 docker info --format '{{range $name, $_ := .Runtimes}}{{$name}} {{end}}' 2>/dev/null) || runtimes=''
    if [[ " $runtimes " == *' nvidia '* ]]; then
        finding OK 'container runtime' 'Docker has the runtime nvidia'
        return 0
    fi
    if type -P nvidia-container-runtime-hook >/dev/null; then
        finding OK 'container runtime' 'the hook of the NVIDIA container toolkit is there'
        return 0
    fi
    for spec in /etc/cdi/*nvidia* /var/run/cdi/*nvidia*; do
        [[ -e "$spec" ]] || continue
        if at_least "$DOCKER_VERSION" 28.2; then
            finding OK 'container runtime' "CDI: $spec"
        else
            finding WARN 'container runtime' "only CDI ($spec), which Docker $DOCKER_VERSION does not use for Compose's GPUs" "install the NVIDIA container toolkit: nvidia-ctk runtime configure --runtime=docker, then restart Docker"
        fi
        return 0
    done
    finding FAIL 'container runtime' "Docker has no runtime nvidia (it has: ${runtimes% })" \
        "install nvidia-container-toolkit, run 'nvidia-ctk runtime configure --runtime=docker', restart Docker"
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

checks_failed() { # -> REPLY: how many; status 1 when none
    local level
    REPLY=0
    for level in "${FINDINGS_LEVEL[@]}"; do [[ "$level" != FAIL ]] || REPLY=$((REPLY + 1)); done
    ((REPLY > 0))
}

checks_table() { # on stdout
    local index
    for index in "${!FINDINGS_LEVEL[@]}"; do
        printf '%-4s  %-17s  %s\n' "${FINDINGS_LEVEL[index]}" "${FINDINGS_NAME[index]}" "${FINDINGS_TEXT[index]}"
        [[ "${FINDINGS_LEVEL[index]}" == OK || -z "${FINDINGS_REMEDY[index]}" ]] || printf '%-4s  %-17s  -> %s\n' '' '' "${FINDINGS_REMEDY[index]}"
    done
}

checks_json() { # -> REPLY: the findings as a JSON array
    local index out='' separator=''
    for index in "${!FINDINGS_LEVEL[@]}"; do
        json "${FINDINGS_LEVEL[index]}" && out+="$separator{\"level\": $REPLY"
        json "${FINDINGS_NAME[index]}" && out+=", \"check\": $REPLY"
        json "${FINDINGS_TEXT[index]}" && out+=", \"found\": $REPLY"
        json "${FINDINGS_REMEDY[index]}" && out+=", \"remedy\": $REPLY}"
        separator=', '
    done
    REPLY="[$out]"
}
