# shellcheck shell=bash
# What a failing engine or Docker says, in one line that says what to do.
#
# Rules: (1) the first pattern that fits counts, so the particular ones come first; (2) what is not known stays untranslated.

[[ -z "${REASONS_SH:-}" ]] || return 0
REASONS_SH=yes

service_reason() { # service_reason TEXT -> REPLY: what a known failure in TEXT means and what to do; empty when none is known
    local text=$1 line pattern
    REPLY=''
    while IFS= read -r line; do
        pattern=${line%% => *}
        if grep -qiE -- "$pattern" <<<"$text"; then
            REPLY=${line#* => }
            return 0
        fi
    done <<'KNOWN'
free memory on device .* is less than desired => the GPU has less free memory than this engine's gpu_memory_utilization asks for: see nvidia-smi for who holds it, or lower the value in config/models.json
no available memory for the cache blocks|larger than the (maximum number of tokens|available kv cache) => no memory is left for the KV cache: raise gpu_memory_utilization or lower max_model_len in config/models.json
out ?of ?memory|cannot allocate memory|std::bad_alloc => memory ran out while starting: lower gpu_memory_utilization or max_model_len in config/models.json, or give more GPUs (tensor_parallel_size)
no kernel image is available => this image has no code for this GPU: it is too old or too new for it
driver version is insufficient|driver.*too old|system has unsupported display driver|forward compatibility => the NVIDIA driver does not fit the CUDA of the image: update the driver
could not select device driver|unknown or invalid runtime name|unknown runtime specified => Docker cannot give out GPUs: install the NVIDIA container toolkit, run 'nvidia-ctk runtime configure --runtime=docker' and restart Docker
safetensors.*(error|incomplete|too large|invalid)|HeaderTooLarge|MetadataIncompleteBuffer|unexpected EOF|PytorchStreamReader failed => a model file is truncated or damaged: scripts/verify.sh finds which
repo id must be in the form|the folder of '[^']*' (has no|does not exist)|/models/[^ ]* (is not there|does not exist|is missing|not found) => the model's folder is not there: compare "path" in config/models.json with the folders in models/
port is already allocated|address already in use|failed to bind|bind for .* failed => a port is taken by another program: change it in .env (ss -ltnp shows by whom)
read-only file system|permission denied => a file or folder cannot be read or written by the services' user: files below models/ must be readable for all, .state/cache must be theirs
no space left on device => a disk is full
No such image|pull access denied|image .* not found => an image is not loaded: scripts/load_images.sh
KNOWN
}
