# shellcheck shell=bash
# What a failing engine or Docker says, in one line that says what to do.
#
# Rules: (1) the first pattern that fits counts, so the particular ones come first; (2) lines that a log itself calls
# INFO, WARNING or DEBUG do not count: they warn of much that never happens; (3) what is not known stays untranslated.

[[ -z "${REASONS_SH:-}" ]] || return 0
REASONS_SH=yes

service_reason() { # service_reason TEXT -> REPLY: what a known failure in TEXT means and what to do; empty when none is known
    local text line pattern
    REPLY=''
    text=$(grep -vE '(^|[^A-Za-z])(INFO|WARNING|DEBUG)[: ]' <<<"$1") || return 0
    while IFS= read -r line; do
        pattern=${line%% => *}
        if grep -qiE -- "$pattern" <<<"$text"; then
            REPLY=${line#* => }
            return 0
        fi
    done <<'KNOWN'
is less than desired GPU memory utilization => the GPU has less free memory than this engine's gpu_memory_utilization asks for: see nvidia-smi for who holds it, or lower the value in config/models.json
is less than desired CPU memory utilization => this host has less free memory than this engine's gpu_memory_utilization asks for: end what uses it, or set kv_cache_memory_bytes in engine_args in config/models.json
no available memory for the cache blocks|larger than the (maximum number of tokens|available kv cache) => no memory is left for the KV cache: raise gpu_memory_utilization or lower max_model_len in config/models.json
Error in memory profiling => another program on that GPU ended or grew while this engine measured its memory: start again with nothing else on it
/dev/shm|shared memory segment => the shared memory of the container (/dev/shm) is full: the host has too little memory for an engine on several GPUs
uncorrectable ECC|error 214 => the memory of a GPU is faulty (ECC): reset it (nvidia-smi --gpu-reset) or restart the host; if it comes back, the card is broken
busy or unavailable|error 46: => a GPU takes no further program: nvidia-smi --compute-mode=DEFAULT, and see nvidia-smi for who is on it
out ?of ?memory|cannot allocate memory|std::bad_alloc => memory ran out while starting: lower gpu_memory_utilization or max_model_len in config/models.json, or give more GPUs (tensor_parallel_size)
no kernel image is available|is not compatible with the current PyTorch => this image has no code for this GPU: it is too old or too new for it
Bfloat16 is only supported on GPUs => this GPU has no bfloat16: set "dtype": "float16" in config/models.json
driver version is insufficient|driver.*too old|unsatisfied condition: cuda|system has unsupported display driver|system not yet initialized|forward compatibility|error (35|802|803|804): => the NVIDIA driver does not fit the CUDA of the image: update the driver (with NVSwitch also start nvidia-fabricmanager of the same version), then restart the host
driver not loaded|driver/library version mismatch|couldn't communicate with the NVIDIA driver|failed to initialize NVML => the NVIDIA driver of the host does not work: after an update of it restart the host, otherwise see dmesg
could not select device driver|unknown or invalid runtime name|unknown runtime specified|failed to discover GPU vendor from CDI => Docker cannot give out GPUs: install the NVIDIA container toolkit, run 'nvidia-ctk runtime configure --runtime=docker' and restart Docker
unknown device|device error: .*: unknown => CUDA_VISIBLE_DEVICES in .env names a GPU that this host does not have: nvidia-smi -L shows them
no CUDA-capable device|no CUDA GPUs are available|finds no GPU|libcuda\.so|nvidia-smi is not in the container|Failed to infer device type => the container sees no GPU: is the NVIDIA container toolkit whole (nvidia-ctk --version), and does nvidia-smi on the host show the GPUs
safetensors.*(error|incomplete|too large|too small|invalid)|HeaderTooLarge|MetadataIncompleteBuffer|file not fully covered|unexpected EOF|PytorchStreamReader failed|not a valid JSON file => a model file is truncated or damaged: scripts/verify.sh finds which
cannot find any model weights|no such file or directory: .*/models/|error no file named => a file of the model is missing: scripts/verify.sh finds which
repo id must be in the form|the folder of '[^']*' (has no|does not exist)|/models/[^ ]* (is not there|does not exist|is missing|not found) => the model's folder is not there: compare "path" in config/models.json with the folders in models/
port is already allocated|address already in use|failed to bind|bind for .* failed => a port is taken by another program: change it in .env (ss -ltnp shows by whom)
read-only file system|permission denied => a file or folder cannot be read or written by the services' user: files below models/ must be readable for all, .state/cache must be theirs
no space left on device|disk quota exceeded => a disk is full
No such image|pull access denied|image .* not found => an image is not loaded: scripts/load_images.sh
KNOWN
}
