# shellcheck shell=bash
# Can this host give its GPUs to the engines: driver, count, compute capability, memory, selection, container runtime.
#
# Rules: (1) a field that the driver refuses or cannot fill ([N/A], [Not Supported]) is a WARN; (2) only the GPUs that the engines may use are judged; (3) CUDA itself is tried later, in the loaded image (cuda.sh).

[[ -z "${GPUS_SH:-}" ]] || return 0
GPUS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/docker.sh
. "${BASH_SOURCE[0]%/*}/docker.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/host.sh
. "${BASH_SOURCE[0]%/*}/host.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/models.sh
. "${BASH_SOURCE[0]%/*}/models.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/nvidia.sh
. "${BASH_SOURCE[0]%/*}/nvidia.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/images.sh
. "${BASH_SOURCE[0]%/*}/../kit/images.sh"

GPU_USED=() SLICES_USED=() GPU_WRONG=() GPU_KERNELS=''

check_gpus() {
    local said id
    check_toolkit
    if ! type -P nvidia-smi >/dev/null; then
        finding FAIL driver 'no NVIDIA driver (nvidia-smi is not there)' 'install the NVIDIA driver; or use --device cpu with an image for it'
        return 0
    fi
    if ! gpu_query; then
        said=${REPLY//$'\n'/ }
        finding FAIL driver "nvidia-smi fails: ${said:0:200}" 'the driver is not loaded, or has no GPU, or lost one: see dmesg; after an update of the driver, restart the host'
        return 0
    fi
    check_driver
    check_visible
    for id in ${GPU_USED[@]+"${GPU_USED[@]}"}; do check_gpu "$id"; done
}

check_driver() { # against the CUDA of the engine image: major versions need a driver, minor ones want one
    local version needed='' better='' cuda
    gpu_fact "${GPU_IDS[0]}" driver_version
    version=$REPLY
    image_expect engine
    cuda=${EXPECT[CUDA]} GPU_KERNELS=${EXPECT[KERNELS]}
    case "$cuda" in
        11.*) needed=450 ;;
        12.*) needed=525 ;;
        13.*) needed=580 ;;
        *) ;;
    esac
    case "$cuda" in
        12.1 | 12.1.*) better=530 ;;
        12.2 | 12.2.*) better=535 ;;
        12.3 | 12.3.*) better=545 ;;
        12.4 | 12.4.*) better=550 ;;
        12.5 | 12.5.*) better=555 ;;
        12.6 | 12.6.*) better=560 ;;
        12.8 | 12.8.*) better=570 ;;
        12.9 | 12.9.*) better=575 ;;
        13.1 | 13.1.*) better=590 ;;
        *) ;;
    esac
    if [[ -n "$needed" ]] && ! at_least "$version" "$needed"; then
        finding FAIL driver "NVIDIA driver $version is too old: CUDA $cuda of the engine image needs $needed or later" 'update the driver, or build the bundle with an image of an older CUDA'
    elif [[ -n "$better" ]] && ! at_least "$version" "$better"; then
        finding WARN driver "NVIDIA driver $version is older than CUDA $cuda of the engine image ($better); data centre GPUs run it, others may refuse" "update the driver to $better or later"
    elif [[ -z "$needed" ]]; then
        if at_least "$version" 525; then
            finding OK driver "NVIDIA driver $version (the image does not say which CUDA it has)"
        else
            finding WARN driver "NVIDIA driver $version is old, and the image does not say which CUDA it has" 'update the driver to 525 or later (580 for CUDA 13)'
        fi
    else
        finding OK driver "NVIDIA driver $version for CUDA $cuda"
    fi
}

visible_ids() { # -> what CUDA_VISIBLE_DEVICES names: GPU_USED, as nvidia-smi numbers them; SLICES_USED (MIG); GPU_WRONG: what is not there
    local name id found names=()
    GPU_USED=() SLICES_USED=() GPU_WRONG=()
    setting CUDA_VISIBLE_DEVICES
    if [[ -z "$REPLY" || "$REPLY" == all ]]; then
        GPU_USED=("${GPU_IDS[@]}")
        return 0
    fi
    IFS=', ' read -r -a names <<<"$REPLY"
    gpu_slices
    for name in ${names[@]+"${names[@]}"}; do
        found=''
        if [[ " ${GPU_SLICES[*]-} " == *" $name "* ]]; then
            SLICES_USED+=("$name")
            continue
        fi
        for id in "${GPU_IDS[@]}"; do
            gpu_fact "$id" uuid
            [[ "$name" == "$id" || ("$name" == GPU-* && "$REPLY" == "$name"*) ]] || continue
            GPU_USED+=("$id")
            found=yes
        done
        [[ -n "$found" ]] || GPU_WRONG+=("$name")
    done
}

check_visible() { # CUDA_VISIBLE_DEVICES names GPUs that are there, and as many as each model takes
    local key short='' needed used
    visible_ids
    used=$((${#GPU_USED[@]} + ${#SLICES_USED[@]}))
    if [[ " ${GPU_WRONG[*]-}" == *' MIG-'* ]]; then
        finding FAIL 'GPUs used' "CUDA_VISIBLE_DEVICES names ${GPU_WRONG[*]}; this host has ${#GPU_SLICES[@]} MIG slice(s): ${GPU_SLICES[*]-}" 'name MIG slices in .env as nvidia-smi -L does (they change when a GPU is divided anew), or make them: nvidia-smi mig -cgi PROFILE -C'
    elif ((${#GPU_WRONG[@]} > 0)); then
        finding FAIL 'GPUs used' "CUDA_VISIBLE_DEVICES names ${GPU_WRONG[*]}; this host has ${#GPU_IDS[@]} GPU(s): ${GPU_IDS[*]}" 'correct CUDA_VISIBLE_DEVICES in .env'
    fi
    for key in ${MODEL_KEYS[@]+"${MODEL_KEYS[@]}"}; do
        model_ranks "$key"
        needed=$REPLY
        ((needed <= used + ${#GPU_WRONG[@]})) || short+="${short:+, }$key takes $needed"
    done
    if [[ -n "$short" ]]; then
        finding FAIL 'GPUs used' "$short GPUs, but $used may be used" 'name more GPUs in CUDA_VISIBLE_DEVICES, or lower tensor_parallel_size in config/models.json'
    elif ((${#SLICES_USED[@]} > 0)); then
        finding WARN 'GPUs used' "${#SLICES_USED[@]} MIG slice(s): the memory plan does not know how much each has" 'set gpu_memory_utilization and max_model_len for the slice (nvidia-smi shows its memory)'
    elif ((${#GPU_WRONG[@]} == 0)); then
        finding OK 'GPUs used' "${GPU_USED[*]-} of ${#GPU_IDS[@]}"
    fi
}

gpu_share() { # gpu_share INDEX -> REPLY: thousandths of its memory that the models with a fixed place on it take together
    local key list ranks id place sum=0
    for key in ${MODEL_KEYS[@]+"${MODEL_KEYS[@]}"}; do
        model_field "$key" gpus
        list=$REPLY
        model_ranks "$key"
        ranks=$REPLY place=0
        if [[ -z "$list" ]]; then
            for id in ${GPU_USED[@]+"${GPU_USED[@]}"}; do
                if ((place < ranks)); then list+="${list:+,}$id"; fi
                place=$((place + 1))
            done
        fi
        [[ ",$list," == *",$1,"* ]] || continue
        model_field "$key" gpu_memory_utilization 0.92
        sum=$((sum + $(awk -v share="$REPLY" 'BEGIN { printf "%d", share * 1000 }')))
    done
    REPLY=$sum
}

check_gpu() { # check_gpu INDEX
    local id=$1 name total used free capability share bad=''
    gpu_fact "$id" name && name=$REPLY
    gpu_fact "$id" memory.total && total=$REPLY
    gpu_fact "$id" memory.used && used=$REPLY
    gpu_fact "$id" memory.free && free=$REPLY
    gpu_fact "$id" compute_cap && capability=$REPLY
    if [[ "$name$total$used" == *[Ee]rror* || "$total" == *'requires reset'* || "$total" == *'is lost'* ]]; then
        finding FAIL "GPU $id" "$name: the driver cannot talk to it ($total)" 'see dmesg (Xid); restart the host, and have the card looked at when it comes back'
        return 0
    fi
    if [[ "$capability" =~ ^[0-9]+\.[0-9]+$ ]]; then
        at_least "$capability" 7.5 || { bad=yes && finding FAIL "GPU $id" "$name has compute capability $capability; vLLM's images have code for 7.5 and later" 'use a newer GPU (Turing or later)'; }
        [[ -n "$bad" ]] || has_kernels "$capability" || { bad=yes && finding FAIL "GPU $id" "$name has compute capability $capability; the engine image has kernels for $GPU_KERNELS" 'use another GPU, or build the bundle with an engine image for this one'; }
    else
        bad=yes
        finding WARN "GPU $id" "$name: this driver does not say the compute capability" 'look it up: vLLM needs 7.5 or later; the test in the loaded image will tell'
    fi
    gpu_fact "$id" ecc.errors.uncorrected.volatile.total
    [[ ! "$REPLY" =~ ^[1-9][0-9]*$ ]] || { bad=yes && finding FAIL "GPU $id" "$name: $REPLY memory error(s) that ECC could not correct since the driver was loaded" "reset it (nvidia-smi --gpu-reset -i $id) or restart the host; if they come back, the card is broken (nvidia-smi -q -d ECC,ROW_REMAPPER)"; }
    gpu_fact "$id" compute_mode
    [[ "$REPLY" != Prohibited && "$REPLY" != Exclusive* ]] || { bad=yes && finding FAIL "GPU $id" "$name: its compute mode is $REPLY" "nvidia-smi -i $id --compute-mode=DEFAULT"; }
    gpu_fact "$id" mig.mode.current
    [[ "$REPLY" != Enabled ]] || { bad=yes && finding WARN "GPU $id" "$name: it is divided (MIG): an engine gets one slice of it, not all" "name slices in CUDA_VISIBLE_DEVICES in .env (nvidia-smi -L), or undo the division: nvidia-smi -i $id -mig 0"; }
    if [[ ! "$total" =~ ^[0-9]+$ ]]; then
        if [[ "$name" == *GB10* ]]; then
            finding WARN "GPU $id" "$name: it does not report its memory (${total:-nothing}): it shares the host's, $(($(meminfo MemTotal) >> 20)) MiB, of which $(($(meminfo MemAvailable) >> 20)) MiB are available" "plan it with 'offline-kit plan ... --gpu GB10' beforehand, and leave the host some of it (gpu_memory_utilization)"
        else
            finding WARN "GPU $id" "$name: it does not report its memory (${total:-nothing})" 'set gpu_memory_utilization with care: the plan cannot be checked'
        fi
        return 0
    fi
    [[ "$free" =~ ^[0-9]+$ ]] || { [[ ! "$used" =~ ^[0-9]+$ ]] || free=$((total - used)); }
    gpu_share "$id"
    share=$((REPLY * total / 1000))
    if [[ "$free" =~ ^[0-9]+$ ]] && ((free < share)) && ! kit_runs; then
        gpu_holders "$id"
        finding FAIL "GPU $id" "$name: $free of $total MiB are free, the engines take $share MiB of it; held by $REPLY" 'end what holds it, use another GPU (CUDA_VISIBLE_DEVICES), or lower gpu_memory_utilization'
    elif [[ "$used" =~ ^[0-9]+$ ]] && ((used * 20 > total)) && ! kit_runs; then
        gpu_holders "$id"
        finding WARN "GPU $id" "$name: $total MiB, of which $used MiB are in use, held by $REPLY" 'end what uses it, unless you know that it stays as it is'
    elif [[ -z "$bad" ]]; then
        finding OK "GPU $id" "$name: $total MiB${free:+, $free MiB free}${capability:+, compute capability $capability}"
    fi
}

has_kernels() { # has_kernels CAPABILITY: the image names kernels that run on it, or none at all; those for 8.0 run on 8.6, those for 9.0a on 9.0 alone
    local kernel form='^([0-9]+)[.]([0-9])([af]?)([+]PTX)?$'
    [[ -n "$GPU_KERNELS" ]] || return 0
    for kernel in $GPU_KERNELS; do
        [[ "$kernel" =~ $form ]] || return 0
        if [[ -n "${BASH_REMATCH[4]}" ]]; then
            ! at_least "$1" "${BASH_REMATCH[1]}.${BASH_REMATCH[2]}" || return 0
        elif [[ "${BASH_REMATCH[3]}" == a ]]; then
            [[ "$1" != "${BASH_REMATCH[1]}.${BASH_REMATCH[2]}" ]] || return 0
        elif [[ "${1%.*}" == "${BASH_REMATCH[1]}" ]] && ((${1#*.} >= BASH_REMATCH[2])); then
            return 0
        fi
    done
    return 1
}

check_toolkit() { # Docker can give GPUs to containers
    local spec
    [[ -n "$DOCKER_VERSION" ]] || return 0
    if [[ " $DOCKER_RUNTIMES " == *' nvidia '* ]]; then
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
    finding FAIL 'container runtime' "Docker has no runtime nvidia (it has: ${DOCKER_RUNTIMES% })" \
        "install nvidia-container-toolkit, run 'nvidia-ctk runtime configure --runtime=docker', restart Docker"
}
