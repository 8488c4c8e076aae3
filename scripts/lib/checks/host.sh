# shellcheck shell=bash
# The host itself: its shell and programs, processor, kernel, clock, SELinux, memory.
#
# Rules: (1) what is read is what every Linux has (/proc, uname, date); (2) a limit is one that something is known to fail
# at, and the finding says what.

[[ -z "${HOST_SH:-}" ]] || return 0
HOST_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/docker.sh
. "${BASH_SOURCE[0]%/*}/docker.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/models.sh
. "${BASH_SOURCE[0]%/*}/models.sh"

check_bash() {
    if at_least "$BASH_VERSION" 4.2; then
        finding OK bash "$BASH_VERSION"
    else
        finding FAIL bash "$BASH_VERSION is too old" 'install bash 4.2 or later'
    fi
}

check_programs() {
    local program missing=''
    for program in awk cat cmp cut date df find grep gzip head ls mktemp nproc od readlink sed sort stat sync tail tar tr uname wc xargs; do
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
        check_processor "$machine"
    else
        finding FAIL architecture "this host is linux/$machine, the kit is for $wanted" "build the bundle for linux/$machine (platform in the manifest)"
    fi
}

check_processor() { # vLLM's kernels for a CPU are made for AVX2 at least
    device
    [[ "$REPLY" == cpu && "$1" == amd64 ]] || return 0
    if grep -qsw avx2 /proc/cpuinfo; then
        finding OK processor 'has AVX2'
    else
        finding WARN processor "it has no AVX2, which vLLM's kernels for a CPU are made for" 'use a processor of 2015 or later; in a virtual machine, pass the host processor through'
    fi
}

check_kernel() {
    local release overcommit=''
    release=$(uname -r)
    if at_least "$release" 4.0; then
        finding OK kernel "$release"
    elif at_least "$release" 3.10; then
        finding WARN kernel "$release: Docker runs on it with reservations (overlay2 needs 4.0, or the kernel of RHEL 7)" 'use Linux 4.0 or later'
    else
        finding FAIL kernel "$release is too old for Docker" 'use Linux 4.0 or later'
    fi
    read -r overcommit 2>/dev/null </proc/sys/vm/overcommit_memory || true
    [[ "$overcommit" != 2 ]] || finding WARN kernel 'vm.overcommit_memory is 2: CUDA and PyTorch reserve far more than they use, and may be refused' 'sysctl -w vm.overcommit_memory=0'
}

check_clock() { # against the calendar, and against the moment at which the kit was unpacked here
    local now year unpacked
    now=$(date +%s) year=$(date +%Y)
    unpacked=$(stat -c %Z -- "$KIT/SHA256SUMS" 2>/dev/null) || unpacked=''
    if ((year < 2025 || year > 2060)); then
        finding WARN clock "the clock says $year" 'set the clock: logs, receipts and certificates go by it (date -s, hwclock --systohc)'
    elif [[ "$unpacked" =~ ^[0-9]+$ ]] && ((now + 300 < unpacked)); then
        finding WARN clock "$(date -u '+%Y-%m-%d %H:%M UTC') is $(((unpacked - now) / 3600)) hours before this kit was unpacked" 'set the clock: it was turned back since, or was wrong then'
    else
        finding OK clock "$(date -u '+%Y-%m-%d %H:%M UTC')"
    fi
}

check_selinux() { # where it is enforcing and Docker uses it, containers may read only what has their label
    local mode='' label
    if type -P getenforce >/dev/null; then
        mode=$(getenforce 2>/dev/null) || mode=''
    elif [[ -r /sys/fs/selinux/enforce ]]; then
        [[ "$(</sys/fs/selinux/enforce)" != 1 ]] || mode=Enforcing
    fi
    if [[ "$mode" != Enforcing ]]; then
        finding OK SELinux "${mode:-not there}"
        return 0
    fi
    if [[ " $DOCKER_SECURITY " != *'name=selinux'* ]]; then
        finding OK SELinux 'Enforcing; Docker does not confine containers by it'
        return 0
    fi
    label=$(stat -c %C -- "$KIT" 2>/dev/null) || label=''
    if [[ "$label" == *:container_file_t:* || "$label" == *:svirt_sandbox_file_t:* ]]; then
        finding OK SELinux "Enforcing; the kit has the label $label"
    else
        finding FAIL SELinux "Enforcing, and the kit has the label ${label:-unknown}: containers could not read its files" \
            "chcon -R -t container_file_t '$KIT' (lasting: semanage fcontext -a -t container_file_t '$KIT(/.*)?' and restorecon -R '$KIT')"
    fi
}

meminfo() { awk -v name="$1:" '$1 == name { printf "%.0f", $2 * 1024 }' /proc/meminfo 2>/dev/null; }

check_memory() {
    local total available need=$GIB key ranks=0 limits=0 shared='' shown wanted
    total=$(meminfo MemTotal) || total=''
    available=$(meminfo MemAvailable) || available=''
    if [[ -z "$total" ]]; then
        finding WARN memory 'cannot be found out (/proc/meminfo)' 'look yourself: free -g'
        return 0
    fi
    for key in ${MODEL_KEYS[@]+"${MODEL_KEYS[@]}"}; do
        model_ranks "$key" && ranks=$((ranks + REPLY))
        model_number "$key" tensor_parallel_size 1
        ((REPLY < 2)) || shared=yes
        model_field "$key" memory_limit 0
        if bytes_of "$REPLY"; then limits=$((limits + REPLY)); fi
    done
    device
    if [[ "$REPLY" == cpu ]]; then
        fact KIT_MODELS_BYTES 0
        need=$((need + REPLY + ranks * GIB / 2))
    else
        need=$((need + ranks * GIB))
        check_shared "$shared" "$total"
    fi
    human "$total" && shown=$REPLY
    human "$need" && wanted=$REPLY
    if ((total < need)); then
        finding FAIL memory "$shown; the models and their engines need $wanted or more" 'add memory, or leave models out of config/models.json'
    elif [[ -n "$available" ]] && ((available < need)) && ! kit_runs; then
        human "$available"
        finding WARN memory "$shown, of which only $REPLY are available; $wanted are needed" 'end what uses the memory'
    else
        finding OK memory "$shown"
    fi
    if ((limits > total)); then
        human "$limits"
        finding WARN memory "the engines may take $REPLY together (memory_limit), this host has $shown" 'lower memory_limit in config/models.json, or add memory'
    fi
    if ((limits > 0)) && [[ "$DOCKER_LIMITS" == false ]]; then
        finding WARN memory 'Docker cannot limit memory on this host: memory_limit has no effect' 'boot with cgroup_enable=memory (docker info says more)'
    fi
}

check_shared() { # check_shared yes|'' TOTAL: processes of one engine on several GPUs exchange tensors through /dev/shm
    [[ -n "$1" ]] || { finding OK 'shared memory' 'no engine uses several GPUs' && return 0; }
    human "$2"
    if (($2 < 32 * GIB)); then
        finding WARN 'shared memory' "an engine on several GPUs may take up to 16 GiB as /dev/shm, of $REPLY in all" 'add memory, or use fewer GPUs an engine (tensor_parallel_size)'
    else
        finding OK 'shared memory' 'up to 16 GiB as /dev/shm for each engine on several GPUs'
    fi
}
