# shellcheck shell=bash
# CUDA, tried for good: a container of the loaded engine image lists the GPUs, starts CUDA on each and computes something.
#
# Rules: (1) the same way to the GPUs as the engines have (Docker's device requests); (2) while engines of this kit run,
# they are the proof, and their memory is left alone; (3) what fails is a finding with its remedy, like those before; (4) kernels
# that are missing are found here, before gigabytes of weights are read: code for the GPUs, and what would compile it where there is none.

[[ -z "${CUDA_SH:-}" ]] || return 0
CUDA_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/failure_reasons.sh
. "${BASH_SOURCE[0]%/*}/../services/failure_reasons.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/docker.sh
. "${BASH_SOURCE[0]%/*}/docker.sh"

cuda_script() { # on stdout: lines "OK ..." for what works, "WARN ... => REMEDY"; the first that does not work is "FAIL ..." and exit code 1
    cat <<'PYTHON'
import ctypes, importlib.util, os, shutil, subprocess, sys
def fail(text):
    print("FAIL", " ".join(str(text).split())[:400])
    sys.exit(1)
try:
    done = subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=60)
except Exception as error:
    fail("nvidia-smi is not in the container: %s" % error)
if done.returncode != 0 or "GPU" not in done.stdout:
    fail("nvidia-smi -L in the container: " + done.stdout)
print("OK the container sees", len(done.stdout.strip().splitlines()), "GPU(s)")
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    fail("the driver's library is not in the container: %s" % error)
def call(name, *arguments):
    code = getattr(driver, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        fail("%s: error %d: %s" % (name, code, (text.value or b"unknown").decode()))
call("cuInit", 0)
count = ctypes.c_int()
call("cuDeviceGetCount", ctypes.byref(count))
if count.value == 0:
    fail("CUDA finds no GPU in the container")
for number in range(count.value):
    device, context, name = ctypes.c_int(), ctypes.c_void_p(), ctypes.create_string_buffer(100)
    call("cuDeviceGet", ctypes.byref(device), number)
    call("cuDeviceGetName", name, 100, device)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuDevicePrimaryCtxRelease_v2", device)
    print("OK CUDA starts on", name.value.decode())
def runs_on(capability, code):
    """Whether one of PyTorch's names (sm_90, sm_90a, compute_120) is code that a GPU of this capability runs."""
    for name in code:
        kind, _, number = name.partition("_")
        exact, number = number.endswith("a"), number.rstrip("af")
        had = (int(number[:-1]), int(number[-1]))
        if exact and had == capability or not exact and (had <= capability if kind == "compute" else had[0] == capability[0] and had <= capability):
            return True
    return False
def version(name):
    try:
        from importlib.metadata import version
        return version(name).partition("+")[0]
    except Exception:
        return ""
def absent(*programs):
    return [program for program in programs if shutil.which(program) is None]
try:
    import torch
except ImportError:
    sys.exit(0)
try:
    for number in range(count.value):
        capability, code = tuple(torch.cuda.get_device_capability(number)), torch.cuda.get_arch_list()
        if code and not runs_on(capability, code):
            fail("no kernel image is available for GPU %d: it has compute capability %d.%d, PyTorch of this image has %s" % ((number,) + capability + (" ".join(code),)))
    for number in range(count.value):
        ones = torch.ones(8, device="cuda:%d" % number)
        if float((ones + ones).sum()) != 16:
            fail("GPU %d computes wrongly" % number)
except Exception as error:
    fail(error)
print("OK PyTorch", torch.__version__, "computes on", count.value, "GPU(s)")
flashinfer, carried = version("flashinfer-python"), version("flashinfer-cubin") or version("flashinfer-jit-cache")
if flashinfer and carried != flashinfer:
    if carried and subprocess.call([sys.executable, "-c", "import flashinfer"], stderr=subprocess.STDOUT):
        fail("flashinfer-python is version %s, and its kernels in the image are of %s: it cannot be loaded" % (flashinfer, carried))
    missing = absent(os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin/nvcc") if not shutil.which("nvcc") else "nvcc", "ninja", "c++")
    if missing:
        print("WARN the image has no kernels of FlashInfer %s, and lacks what compiles them: %s => name an attention_backend of another kind in engine_args if an engine does not start, or build the bundle with an image that has flashinfer-cubin of that version" % (flashinfer, " ".join(missing)))
if importlib.util.find_spec("triton") and not os.environ.get("CC") and len(absent("cc", "gcc", "clang")) == 3:
    print("WARN the image has Triton, which compiles while an engine starts, and no C compiler => set enforce_eager in engine_args in config/models.json if an engine does not start, or build the bundle with the full engine image")
PYTHON
}

cuda_try() { # -> REPLY: what the container said; status of it
    local wanted=all tag label
    setting CUDA_VISIBLE_DEVICES
    [[ -z "$REPLY" || "$REPLY" == all ]] || wanted="\"device=${REPLY// /}\""
    image_tag engine
    tag=$REPLY
    once_label
    label=$REPLY
    REPLY=$(cuda_script | at_most 300 docker run --rm --label "$label" --interactive --pull never --network none --read-only --tmpfs /tmp --cap-drop ALL \
        --security-opt no-new-privileges --gpus "$wanted" --entrypoint python3 "$tag" - 2>&1)
}

cuda_check() { # findings of its own; dies with 4 when the GPUs cannot be used
    local said status=0 line reason
    device
    [[ "$REPLY" == nvidia ]] || return 0
    step 'GPUs'
    if kit_runs; then
        finding OK CUDA 'engines of this kit run: not tried anew'
        say '    engines of this kit run on them: not tried anew'
        return 0
    fi
    if [[ -n "$DRY_RUN" ]]; then
        say 'would run: CUDA on each GPU, in a container of the engine image'
        return 0
    fi
    cuda_try || status=$?
    said=$REPLY
    if ((status == 0)); then
        while IFS= read -r line; do
            [[ "$line" != 'OK '* ]] || finding OK CUDA "${line#OK }"
            [[ "$line" != 'WARN '*' => '* ]] || finding WARN CUDA "$(cut -c 6- <<<"${line%% => *}")" "${line##* => }"
        done <<<"$said"
        indented '    ' "${said// => / -> }"
        return 0
    fi
    line=$(grep '^FAIL ' <<<"$said" | head -n 1) || line=''
    [[ -n "$line" ]] || line=$(tail -n 3 <<<"$said" | tr '\n' ' ')
    line=${line#FAIL }
    service_reason "$said"
    reason=${REPLY:-'the container that failed: docker run --rm --gpus all --entrypoint nvidia-smi IMAGE; dmesg says what the driver has to say'}
    finding FAIL CUDA "a container of the engine image cannot use the GPUs: ${line:0:400}" "$reason"
    die "$EXIT_PREFLIGHT" "a container of the engine image cannot use the GPUs: ${line:0:400}" "$reason"
}
