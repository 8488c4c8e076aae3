# shellcheck shell=bash
# Can this host give its GPUs to the engines: driver, memory, selection, container runtime.
#
# Rules: (1) fields that nvidia-smi cannot fill ([N/A], [Not Supported]) are a WARN; (2) CUDA is not tried here:
# that needs the loaded image.

[[ -z "${GPUS_SH:-}" ]] || return 0
GPUS_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=ports.sh
. "${BASH_SOURCE[0]%/*}/ports.sh"

GPU_COUNT=0

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
