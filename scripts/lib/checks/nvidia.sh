# shellcheck shell=bash
# What nvidia-smi says of this host's GPUs.
#
# Rules: (1) a field that the driver refuses is asked no more: older drivers know fewer; (2) nothing is judged here.

[[ -z "${NVIDIA_SH:-}" ]] || return 0
NVIDIA_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"

GPU_FIELDS='index uuid name driver_version memory.total memory.used memory.free compute_cap ecc.errors.uncorrected.volatile.total compute_mode mig.mode.current'
GPU_IDS=() GPU_SLICES=()
declare -A GPU=() # "INDEX FIELD" -> what nvidia-smi says

gpu_query() { # -> GPU_IDS, GPU; status 1 when nvidia-smi fails: what it said -> REPLY
    local said fields=() field row values=() column unknown='Field "?([a-z_.]+)"? is not a valid field'
    GPU_IDS=() GPU=()
    IFS=' ' read -r -a fields <<<"$GPU_FIELDS"
    while true; do
        said=$(IFS=, && at_most 60 nvidia-smi --query-gpu="${fields[*]}" --format=csv,noheader,nounits 2>&1) && break
        REPLY=$said
        [[ "$said" =~ $unknown && " ${fields[*]} " == *" ${BASH_REMATCH[1]} "* ]] || return 1
        field=${BASH_REMATCH[1]} said=" ${fields[*]} "
        IFS=' ' read -r -a fields <<<"${said/" $field "/ }"
        [[ "${fields[0]-}" == index ]] || return 1
    done
    REPLY=$said
    while IFS= read -r row; do
        IFS=, read -r -a values <<<"$row"
        [[ "${values[0]-}" =~ ^\ *[0-9]+\ *$ ]] || continue
        GPU_IDS+=("${values[0]// /}")
        for column in "${!fields[@]}"; do
            field=${values[column]-} && field=${field# } && field=${field%"${field##*[![:space:]]}"}
            GPU["${values[0]// /} ${fields[column]}"]=$field
        done
    done <<<"$said"
    ((${#GPU_IDS[@]} > 0))
}

gpu_slices() { # -> GPU_SLICES: the MIG slices of this host, by UUID
    local line
    GPU_SLICES=()
    while IFS= read -r line; do
        [[ ! "$line" =~ UUID:\ (MIG-[A-Za-z0-9-]+) ]] || GPU_SLICES+=("${BASH_REMATCH[1]}")
    done < <(at_most 60 nvidia-smi -L 2>/dev/null || true)
}

gpu_fact() { REPLY=${GPU["$1 $2"]-}; } # gpu_fact INDEX FIELD -> REPLY

gpu_holders() { # gpu_holders INDEX -> REPLY: the programs that hold its memory
    local uuid gpu pid name held
    gpu_fact "$1" uuid && uuid=$REPLY
    REPLY=''
    while IFS=, read -r gpu pid name held; do
        [[ "${gpu// /}" == "$uuid" && "$pid" =~ ^\ *[0-9]+\ *$ ]] || continue
        name=${name##*/}
        REPLY+="${REPLY:+, }${name# } (pid ${pid// /}, ${held# } MiB)"
    done < <(at_most 60 nvidia-smi --query-compute-apps=gpu_uuid,pid,process_name,used_memory --format=csv,noheader,nounits 2>/dev/null || true)
    [[ -n "$REPLY" ]] || REPLY='programs that nvidia-smi does not name (a display, or another container)'
}
