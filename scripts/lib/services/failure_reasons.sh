# shellcheck shell=bash
# What a failing engine or Docker says, in one line that says what it means and what to do.
#
# Rules: (1) the first row that fits counts, so the particular ones come first; (2) lines that a log itself calls
# INFO, WARNING or DEBUG do not count: they warn of much that never happens; (3) what is not known stays untranslated;
# (4) the table is the only one: docs/host-checks.md has each row with a text that was really seen, and a test holds both together.

[[ -z "${FAILURE_REASONS_SH:-}" ]] || return 0
FAILURE_REASONS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"

service_reason() { # service_reason TEXT -> REPLY: what a known failure in TEXT means and what to do; empty when none is known
    REPLY=$(LC_ALL=C awk '
        NR == FNR {
            at = index($0, " => "); pattern[++rows] = tolower(substr($0, 1, at - 1)); $0 = substr($0, at + 4)
            at = index($0, " -> "); reason[rows] = substr($0, 1, at - 1) ": " substr($0, at + 4); first = rows + 1; next
        }
        /(^|[^A-Za-z_=])(INFO|WARNING|DEBUG)[: ]/ { next }
        { line = tolower($0); for (row = 1; row < first; row++) if (line ~ pattern[row]) first = row }
        END { if (first in reason) print reason[first] }' <(failure_table) - <<<"$1")
}

docker_silent() { # Docker does not answer -> REPLY: what that means and what to do; status 1: it answers
    local said
    ! said=$(at_most 30 docker version --format '{{.Server.Version}}' 2>&1) || return 1
    service_reason "$said"
    [[ -n "$REPLY" ]] || service_reason 'cannot connect to the Docker daemon'
}

failure_table() { # on stdout: PATTERN => REASON -> REMEDY, a row each
    cat <<'TABLE'
OOMKilled true => it was killed for memory -> raise memory_limit in config/models.json, or give the host more memory
is less than desired GPU memory utilization|is less than the engine's budget|exceed the desired GPU memory => the GPU has less free memory than this engine's gpu_memory_utilization asks for -> see nvidia-smi for who holds it, or lower the value in config/models.json
is less than desired CPU memory utilization => this host has less free memory than this engine's gpu_memory_utilization asks for -> end what uses it, or set kv_cache_memory_bytes in engine_args in config/models.json
exceeds available Mamba cache => more requests at once (max_num_seqs) than the model's state cache holds -> lower max_num_seqs in engine_args in config/models.json to the number that the log names
no available memory for the cache blocks => no memory is left for the KV cache -> raise gpu_memory_utilization, or give the engine more GPUs (tensor_parallel_size) in config/models.json
larger than the (maximum number of tokens|available kv cache) => the KV cache is too small for one request of max_model_len tokens -> lower max_model_len in config/models.json to what the log estimates, or raise gpu_memory_utilization
is greater than the derived max_model_len => max_model_len is longer than this model can be -> lower it in config/models.json to the number that the log names
max_num_batched_tokens .*(max_model_len|max_num_seqs) => max_num_batched_tokens does not fit max_model_len or max_num_seqs -> leave max_num_batched_tokens out of engine_args in config/models.json
Error in memory profiling => another program on that GPU ended or grew while this engine measured its memory -> start again with nothing else on it
World size .* is larger than the number of available GPUs|invalid device ordinal => the engine was given fewer GPUs than tensor_parallel_size says -> name more in CUDA_VISIBLE_DEVICES in .env, or lower tensor_parallel_size in config/models.json
must be divisible by tensor parallel size|not divisible by weight quantization|too large tensor parallel size => the model cannot be divided over so many GPUs -> set tensor_parallel_size in config/models.json to a number that divides its attention heads (1, 2, 4 ...)
quantization method .* is not supported for the current GPU|no compiled cutlass_scaled_mm|failed to find a kernel that can implement => this GPU cannot compute with weights in that quantization -> build the bundle with other weights of the model (bfloat16, AWQ), or use a newer GPU
is not supported for quantization method => dtype does not fit the model's quantization -> set "dtype": "auto" in config/models.json
quantization method specified in the model config|unknown quantization method|cannot find the config file for => the quantization in engine_args is not the model's -> leave quantization out of engine_args in config/models.json: the model names its own
Bfloat16 is only supported on GPUs => this GPU has no bfloat16 -> set "dtype": "float16" in config/models.json
kv_cache_dtype.*(not supported|incompatible)|fp8.*(KV cache|kv-cache).*(not supported|requires|only supported) => this GPU or image has no KV cache of that type -> leave kv_cache_dtype out of engine_args in config/models.json
no valid attention backend found|FlashAttention only supports|out of resource: shared memory|selected backend .* is not valid for this configuration => no attention kernel of this image fits this GPU, head size and dtype -> leave attention_backend and kv_cache_dtype out of engine_args, set "dtype": "auto"; else another engine image
no kernel image is available|is not compatible with the current PyTorch|is not defined for option 'gpu-name'|invalid device function|device kernel image is invalid => this image has no code for this GPU: it is too old or too new for it -> build the bundle with an engine image for this GPU's compute capability (nvidia-smi --query-gpu=compute_cap --format=csv)
failed to find C compiler|could not find nvcc|nvcc: (command )?not found|CUDA_HOME environment variable is not set|Python\.h: No such file|No such file or directory: '(gcc|g\+\+|ninja|nvcc)'|/gcc.*returned non-zero exit status => the engine wants to compile code while starting, and its image has no compiler -> set "enforce_eager": true in engine_args in config/models.json, or build the bundle with the full engine image
flashinfer.*(cubin|download|version)|BatchedGemmEnums\.h => FlashInfer wants to download its kernels: the image came without them -> build the bundle with an image that has them (flashinfer-cubin of the same version), or name another attention_backend in engine_args
(permission denied|read-only file system).*(\.cache|/cache|\.triton|inductor|torch_compile) => the engine cannot write what it compiles -> scripts/deploy.sh restart gives .state/cache to the services' user; on a disk that is full or mounted read-only it cannot
failed to map segment from shared object => code that the engine compiled cannot be loaded: the kit lies on a file system mounted noexec -> mount -o remount,exec it, or unpack the kit elsewhere
/dev/shm|shared memory segment|bus error|SIGBUS => the shared memory of the container (/dev/shm) is full -> several GPUs: the host has too little memory, add some, or lower tensor_parallel_size in config/models.json; one GPU has 64 MiB: leave mm_processor_cache_type out of engine_args
uncorrectable ECC|error 214 => the memory of a GPU is faulty (ECC) -> reset it (nvidia-smi --gpu-reset) or restart the host; if it comes back, the card is broken
fallen off the bus|GPU is lost|unable to determine the device handle|Xid.*: (79|119|120) => the host lost a GPU -> restart the host; if it comes back: power, heat, riser and firmware of the card (dmesg has the Xid)
illegal memory access|unspecified launch failure|device-side assert|illegal instruction was encountered => a kernel of the engine failed on the GPU -> start again; if it comes back, set "enforce_eager": true in engine_args, and see dmesg for an Xid
busy or unavailable|error 46: => a GPU takes no further program -> nvidia-smi --compute-mode=DEFAULT, and see nvidia-smi for who is on it
Duplicate GPU detected => two processes of one engine are on one GPU: it is named twice, or divided (MIG), and its slices cannot work together -> name whole GPUs in CUDA_VISIBLE_DEVICES in .env, each once; on slices, set tensor_parallel_size to 1 in config/models.json
custom_all_reduce\.cu => vLLM's own way of exchanging data between GPUs does not work on this host -> set "disable_custom_all_reduce": true in engine_args in config/models.json
watchdog caught collective operation timeout|ncclUnhandledCudaError|ncclSystemError|ncclInternalError|NCCL error|unhandled (cuda|system) error|peer access is not supported => the GPUs of one engine cannot exchange data -> in a virtual machine, pass GPUs through with peer access (ACS off); else keep the engine on one GPU (tensor_parallel_size 1)
CUDA out of memory|CUDA error: out of memory|OutOfMemoryError|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED) => memory of the GPU ran out while starting -> lower gpu_memory_utilization, max_model_len or max_num_seqs in config/models.json, or give more GPUs (tensor_parallel_size)
cannot allocate memory|std::bad_alloc|DefaultCPUAllocator|MemoryError$ => memory of the host ran out while starting -> end what uses it, raise memory_limit in config/models.json, or add memory: weights pass through it
can't start new thread|pthread_create failed|Thread creation failed|clone3.*not permitted => the container may not make (more) threads -> update Docker to 20.10.10 or later with its libseccomp; see ulimit -u and TasksMax of docker.service
too many open files|inotify (watch|instance)|no space left on device.*inotify => a limit of open files or watches is reached -> raise LimitNOFILE of docker.service, and sysctl fs.inotify.max_user_instances and fs.inotify.max_user_watches
Failed to initialize NVML: Unknown Error => the container lost its GPUs while it ran: systemd reloaded its units (systemctl daemon-reload) and took them away -> scripts/deploy.sh restart gives them back; to last: nvidia-ctk system create-dev-char-symlinks --create-all, or "exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json
CUDA unknown error => CUDA does not start: the module nvidia-uvm is not loaded, or the host was suspended -> nvidia-modprobe -u -c=0 (after a suspend: rmmod nvidia_uvm, then modprobe nvidia_uvm), then scripts/deploy.sh restart
system not yet initialized|error 802 => a host with NVSwitch whose fabric manager does not run -> systemctl start nvidia-fabricmanager, of the driver's own version
driver version is insufficient|driver.*too old|unsatisfied condition: cuda|system has unsupported display driver|forward compatibility|error (35|803|804):|unsupported toolchain => the NVIDIA driver does not fit the CUDA of the image -> update the driver (and nvidia-fabricmanager with it), then restart the host
unresolvable CDI devices|CDI device injection failed|failed to inject CDI => the list of GPUs for containers (CDI) names one that is gone -> nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, then restart Docker
mount error: (open|file creation) failed: .*\.so\.[0-9.]+ => the NVIDIA toolkit looks for files of an older driver -> run ldconfig as root, write /etc/cdi/nvidia.yaml anew where there is one (nvidia-ctk cdi generate), then restart Docker
ldcache error => the NVIDIA toolkit is set up for another distribution: it does not find ldconfig -> set ldconfig = "@/sbin/ldconfig" in /etc/nvidia-container-runtime/config.toml
cgroup subsystem devices not found => the NVIDIA toolkit is too old for the control groups of this host (version 2) -> update nvidia-container-toolkit to 1.8 or later, then restart Docker
nvml error: insufficient permissions => the NVIDIA toolkit may not use the device files of the GPUs -> ls -l /dev/nvidia* shows them: all users need to read and write them (nvidia-modprobe makes them so), in a container they have to be given to it
bpf_prog_query|device filters attached to the cgroup|failed to add device rules => the NVIDIA toolkit may not set device rules: Docker runs rootless -> no-cgroups = true in /etc/nvidia-container-runtime/config.toml, then restart Docker
driver/library version mismatch => the NVIDIA driver was updated under a running one -> restart the host (or unload and load the modules nvidia, nvidia_uvm)
driver not loaded|couldn't communicate with the NVIDIA driver|failed to initialize NVML|load library failed: libnvidia-ml => the NVIDIA driver of the host does not work -> install it or load it (modprobe nvidia); dmesg says why it does not come up (Secure Boot, another kernel)
could not select device driver|unknown or invalid runtime name|unknown runtime specified|failed to discover GPU vendor from CDI => Docker cannot give out GPUs -> install the NVIDIA container toolkit, run 'nvidia-ctk runtime configure --runtime=docker' and restart Docker
unknown device|device error: .*: unknown => CUDA_VISIBLE_DEVICES in .env names a GPU or a MIG slice that this host does not have -> nvidia-smi -L shows them
invalid literal for int\(\) with base 10: '(MIG|GPU)- => this engine image knows GPUs by number only -> name them by number in CUDA_VISIBLE_DEVICES in .env; of a divided GPU (MIG), an image that takes slices
/dev/nvidia[^ ]*: no such file|stat failed: /dev/nvidia => a device file of a GPU is not there -> nvidia-modprobe -c=0 -u makes them; start nvidia-persistenced at boot
not compiled with CUDA enabled => the engine image is one for the CPU, and this kit gives it GPUs -> build the bundle with vLLM's image for GPUs, or set OFFLINE_KIT_DEVICE=cpu in .env
no CUDA-capable device|no CUDA GPUs are available|CUDA driver initialization failed|finds no GPU|libcuda\.so|nvidia-smi is not in the container|Failed to infer device type|0 active drivers|Device string must not be empty => the container sees no GPU -> is the NVIDIA container toolkit whole (nvidia-ctk --version), and does nvidia-smi on the host show the GPUs
pass the argument .?trust_remote_code|contains custom code|option .?trust_remote_code=True|requires you to execute => the model brings Python code of its own, which runs only when you allow it -> read its *.py, then set "trust_remote_code": true in engine_args in config/models.json
tiktoken.*(blob|vocab|encoding)|openaipublic|HarmonyError|error downloading or loading vocab => the engine wants to download a vocabulary (tiktoken): the image came without it -> build the bundle with an engine image that has it
no tokenizer file found|can't load tokenizer|couldn't instantiate the backend tokenizer|unable to load vocabulary|tokenizer class .* does not exist => the model has no tokenizer that the engine can read -> build the bundle with the model's tokenizer files (tokenizer.json, tokenizer_config.json; look at include and exclude)
default chat template is no longer allowed|chat_template is not set|does not (have|define) a chat template => the model has no chat template: it is no chat model, or the template was left out -> build the bundle with it (chat_template.jinja), or set chat_template in engine_args in config/models.json
couldn't connect to 'https://|LocalEntryNotFoundError|outgoing traffic has been disabled|OfflineModeIsEnabled|offline mode is enabled|cannot reach https://|GatedRepoError|RepositoryNotFoundError|gated repo|max retries exceeded with url|modelscope.*(connect|resolve) => the engine wants something from a hub that is not in the bundle (a tokenizer, drafter, adapter or code of another repository) -> carry it as a model of the manifest and name its folder (/models/...) in config/models.json
LoRA rank .* is greater than max_lora_rank => the adapter is larger than max_lora_rank -> raise max_lora_rank in engine_args in config/models.json to the adapter's rank
no adapter found|loading lora .* failed|unexpected modules in|adapter_config\.json.*not found => an adapter (lora_modules) cannot be loaded -> compare its path in config/models.json with the folders in models/, and its base model with the engine's
does not recognize this architecture|are not supported for now|has no vLLM implementation|architectures .* failed to be inspected|did not match any variant of untagged enum => the engine image is older than this kind of model -> build the bundle with a newer engine image
unrecognized model in|does not contain .?model_type|should have a .?model_type => the model's config.json does not say what model it is -> build the bundle with the whole model: an adapter or a part of one is none
invalid (tool call|reasoning) parser|auto tool choice requires|enable-auto-tool-choice => the tool or reasoning parser in engine_args is not one of this image's vLLM, or one half of the setting is missing -> set enable_auto_tool_choice and tool_call_parser together, with a parser that the log names, in engine_args in config/models.json
unrecognized arguments|invalid choice: |got an unexpected keyword argument|expected one argument => an argument in engine_args or config/vllm_config.yaml is not one of this image's vLLM -> take it out, or correct it; scripts/deploy.sh logs ENGINE shows which
cannot find any model weights => the model's folder has no weights that the engine can read -> scripts/verify.sh shows whether files of the bundle are gone; if none is, the weights were never carried (a GGUF file or an adapter alone is none): build the bundle again
has no config\.json|does not appear to have a file named config\.json|invalid repository ID or local directory => the model's folder has no config.json that the services' user can read -> scripts/verify.sh shows what is gone; a GGUF file or an adapter alone is no model: build the bundle with the model itself
chat template (string )?\(?.*(doesn't exist|failed to be opened) => chat_template in engine_args names a file that is not there -> build the bundle with it in the model's folder, or leave chat_template out of engine_args in config/models.json
no such file or directory: .*/models/|error no file named|does not appear to have a file named|can't load (the )?(image|feature|video|audio)? ?processor => a file of the model is missing -> scripts/verify.sh finds which; when it finds none, the file was never carried: look at include and exclude, and build the bundle again
no such device \(os error 19\)|\[Errno 19\] No such device => the file system below models/ cannot be mapped into memory -> move the kit to a disk of this host with ext4 or XFS (folders that a virtual machine shares cannot be mapped)
safetensors.*(error|incomplete|too large|too small|invalid)|HeaderTooLarge|MetadataIncompleteBuffer|file not fully covered|PytorchStreamReader failed|file might be corrupted|not a valid JSON file|could not parse ModelProto => a model file is truncated or damaged -> scripts/verify.sh finds which; when it finds none, the file was carried like that (a git-LFS pointer?): build the bundle again
size mismatch for|KeyError: '(model\.|language_model\.|base_model\.)*(layers|embed_tokens|model|lm_head)\.|no module or parameter named|weights were not initialized from checkpoint|attempted to load weight .* into parameter => the weights do not fit the model's config.json: files of two models are mixed, or some are missing -> build the bundle again with the whole model from one source
repo id must be in the form|the folder of '[^']*' does not exist|/models/[^ ]* (is not there|does not exist|is missing|not found) => the model's folder is not there -> compare "path" in config/models.json with the folders in models/
cannot connect to the docker daemon|is the docker daemon running|error during connect: [a-z]+ "?http[^ ]+ ((unexpected )?eof|dial|read|write|context|net/http)|error waiting for container: .*EOF => Docker does not answer -> systemctl start docker; journalctl -u docker says why it does not start
after loading, its (layers|ID)|invalid (tar header|diffID)|wrong diff id|layers from manifest don't match|archive/tar: |gzip: invalid|unexpected EOF => a layer of an image is damaged, or is not the one that the image names -> scripts/verify.sh reads the kit again; when it is whole, the image is wrong since the bundle was built: build it again
invalid mode: |invalid volume specification|too many colons => the kit lies below a folder with a colon in its name, which Docker cannot mount -> move the kit to a folder without one
creating mount source path|bind source path does not exist|mounts denied|not shared from the host|error mounting "[^"]*" to rootfs at "/kit/.*read-only file system|no module named '?runtime([^a-z_]|$) => this Docker does not see the kit's folder (one of the snap store, in a virtual machine, or outside of the container that this runs in) -> move the kit below /home, or install Docker Engine from the distribution's packages; in a container: install the kit on the machine itself
mount a directory (onto|to) a file|not a directory.*mount => a file of the kit is gone, and Docker put a folder in its place -> scripts/verify.sh finds which
predefined address pools|non-overlapping IPv4 address pool => Docker has no range of addresses left for the kit's networks -> docker network prune removes those that nothing uses; or add default-address-pools to /etc/docker/daemon.json and restart Docker
pool overlaps with other|networks have (overlapping|same) => a network of Docker has the addresses that the kit's would get -> docker network ls, and remove the one that is not used; or set default-address-pools in /etc/docker/daemon.json
No chain/target/match by that name|Chain '?DOCKER[^ ]* does not exist|Couldn't load target .?DOCKER => Docker's firewall rules are gone: a firewall was reloaded or emptied -> restart Docker, which writes them anew (systemctl restart docker), then scripts/deploy.sh start
unknown option "?--dport|RULE_(INSERT|APPEND) failed|Extension [a-z]+ revision [0-9]+ not supported|Chain .DNAT. does not exist => the iptables program of this host does not fit its kernel, or a module of it is missing -> update-alternatives --set iptables /usr/sbin/iptables-nft (or iptables-legacy, whichever is not in use), modprobe xt_set ip_set xt_addrtype, then restart Docker; after an update of the kernel: restart the host
xtables lock => another program holds the lock of the firewall -> scripts/deploy.sh start again; if it comes back, see which program sets rules all the time (fail2ban, kube-proxy)
can't initialize iptables table|failed to create NAT chain|iptables.*executable file not found|modprobe: .*(ip_tables|iptable_nat|xt_)|rule set generation id => Docker cannot use the firewall of this host -> install iptables and modprobe ip_tables iptable_nat iptable_raw xt_addrtype xt_conntrack (after an update of the kernel: restart the host), then restart Docker
pair interfaces: operation not supported|failed to add the host .*veth => the running kernel has lost its modules (veth, bridge): it was updated -> restart the host
open sysctl .*permission denied|mount(ing)? .?proc.?.? to rootfs .*not permitted => Docker runs in a container (LXC), which forbids what starting a container needs -> update LXC and its AppArmor profile on the machine around it (nesting=1), or install the kit on the machine itself, or in a virtual machine
cannot expose privileged port|bind: permission denied => a Docker without root may not publish a port below 1024 -> sysctl -w net.ipv4.ip_unprivileged_port_start=80, or a port above 1023 in .env
cannot assign requested address => OFFLINE_KIT_BIND or OFFLINE_KIT_MONITORING_BIND is no address of this host -> correct it in .env (ip address shows them)
port is already allocated|address already in use|failed to bind|bind for .* failed => a port is taken by another program -> change it in .env (ss -ltnp shows by whom)
network .* not found|network .* needs to be recreated|incorrect label com\.docker\.compose => a network of the kit was removed or is another's -> scripts/deploy.sh restart
\[emerg\] unknown directive => the gateway image has an nginx that is too old for what the kit writes, or lacks a part of it -> build the bundle with nginx's own image, 1.22 or later, as 'gateway'
host not found in upstream => the gateway was started without its engines -> scripts/deploy.sh start
(cannot be mapped to a host id|lchown [^ ]*: invalid argument|insufficient UIDs or GIDs) => this user has too few ids for the image's files: Docker or Podman runs rootless -> give the user 65536 of them in /etc/subuid and /etc/subgid, restart that Docker, then scripts/load_images.sh
container name .* is already in use => another container has a name of this kit's -> docker ps --all shows it; docker rm it if it is not needed
does not match the specified platform|no matching manifest|exec format error => an image is for another processor, or DOCKER_DEFAULT_PLATFORM asks for another -> unset DOCKER_DEFAULT_PLATFORM; else build the bundle for this host's platform
exec: .?(docker-|containerd|runc|crun|nvidia-)[^ ]*: executable file not found|fork/exec [^ ]*: no such file => a program of Docker or of the NVIDIA toolkit is not there, or not in the PATH of dockerd -> install the package that has what the line names (Docker Engine, containerd.io or runc, nvidia-container-toolkit), then restart Docker
executable file not found in|exec [^ ]+: no such file or directory|exec user process caused.*no such file => the image has no such program: it is not an image for this -> build the bundle with vLLM's own image as 'engine' (nginx as 'gateway')
client version .* is too (new|old)|maximum supported API version => the docker client and the engine are too far apart -> update the older of both; until then: export DOCKER_API_VERSION with the version that the message names
authorization denied by plugin => a plug-in of Docker on this host forbids it -> ask whoever administers Docker here: the line names the plug-in and what it refused
unable to resolve docker endpoint|unable to parse docker host|context "[^"]*"(: context)? (is )?not found => the docker client is set up for a Docker that is not there -> unset DOCKER_HOST DOCKER_CONTEXT DOCKER_TLS_VERIFY; docker context use default
connect to the docker (daemon|API).*permission denied|permission denied.*docker (daemon|API)|docker\.sock: connect: permission denied => this user may not talk to Docker -> run as root, or join the group docker and log in anew
apparmor.*(fail|not found|unable|error|no such)|(unable|failed).*apparmor => AppArmor keeps the container from starting -> install apparmor (apparmor_parser), then restart apparmor and Docker
cgroup.*(mountpoint|mounted|no such file|not supported|invalid|permission denied)|(unable|failed).*cgroup => Docker cannot use the control groups of this host -> mount them (systemd does), boot with cgroup_enable=memory; a nested container needs its own cgroup namespace
additional propert|unsupported config option|unknown attribute => Compose is too old for compose.yaml -> install Compose 2.0 or later
error mounting "overlay"|driver not supported: overlay|operation not permitted.*overlay => Docker cannot use overlay2 on this host -> modprobe overlay; in a nested container or on NFS, give Docker a disk of its own (data-root)
dial tcp: lookup|toomanyrequests|registry-1\.docker\.io => Docker asked a registry for an image that is not loaded -> scripts/load_images.sh
no such image|pull access denied|image .* not found => an image is not loaded -> scripts/load_images.sh
no space left on device|disk quota exceeded|thin pool has .* free data blocks => a disk is full -> df -h and df -i on the folder of the kit and of Docker; docker system df shows what could go
file too large => the file system takes no file of that size (FAT: 4 GiB), or a limit (ulimit -f) is set -> use ext4 or XFS, or ulimit -f unlimited
input/output error|stale file handle|structure needs cleaning => the disk or the network folder below the kit or Docker fails -> see dmesg; mend or remount it, then scripts/verify.sh
cannot load certificate|key values mismatch|PEM_read_bio => the certificate or its key in .state/tls is wrong -> put both again (PEM, the chain in server.crt, server.key without a passphrase), then scripts/deploy.sh restart gateway
read-only file system|permission denied => a file or folder cannot be read or written by the services' user -> files below models/ must be readable for all, .state/cache must be theirs; with SELinux enforcing: chcon -R -t container_file_t on the kit (ausearch -m avc shows what was refused)
Timed out waiting for engine core|engine core.*(did not start|startup).*timed? ?out => the engine took longer to load than vLLM waits -> is the disk slow or busy (dd if=FILE of=/dev/null on a file of models/)? then scripts/deploy.sh start again: what was read is in memory
context deadline exceeded => Docker took too long to answer -> wait until the disk is quiet (images still loading?), then scripts/deploy.sh start
undefined symbol|ModuleNotFoundError|cannot import name|lib[A-Za-z0-9_.+-]*: cannot open shared object|packages that were not found in your environment => the engine image lacks a library or Python package that this model needs -> build the bundle with an image that has it
illegal instruction|exit code 132$ => the image's code needs instructions that this processor does not have -> another engine image; in a virtual machine, pass the host processor through
segmentation fault|exit code 139$ => the engine crashed in code of its image -> see dmesg; set "enforce_eager": true in engine_args, or build the bundle with another version of the image
signal: killed|died with .*SIGKILL|exit code 137$ => it was killed from outside, mostly by the kernel because the host's memory ran out -> dmesg shows it (Out of memory: Killed process); end what uses the memory, or add some: weights pass through it
TABLE
}
