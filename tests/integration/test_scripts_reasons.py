"""What engines and Docker say when they fail is translated into one line that says what to do."""

from __future__ import annotations

import subprocess

import pytest

from tests.testbed.cache import REPOSITORY

FAILURES = [
    (
        "Free memory on device cuda:0 (1.0/44.9 GiB) on startup is less than desired GPU memory utilization (0.9, 40 GiB).",
        "the GPU has less free memory than this engine's gpu_memory_utilization asks for",
    ),
    (
        "Available memory on node 0 (9.8/23.5 GiB) on startup is less than desired CPU memory utilization (0.92, 21.6 GiB).",
        "this host has less free memory",
    ),
    (
        "AssertionError: Error in memory profiling. Initial free memory 40 GiB, current free memory 44 GiB.",
        "another program on that GPU ended or grew",
    ),
    (
        "torch.distributed.DistBackendError: NCCL error: Error while creating shared memory segment /dev/shm/nccl-AbCd",
        "the shared memory of the container",
    ),
    (
        "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        "the memory of a GPU is faulty",
    ),
    (
        "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "a GPU takes no further program",
    ),
    (
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has ...",
        "this GPU has no bfloat16",
    ),
    (
        "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver",
        "the NVIDIA driver does not fit",
    ),
    (
        "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
        "the NVIDIA driver of the host does not work",
    ),
    (
        "nvidia-container-cli: device error: 7: unknown device: unknown",
        "CUDA_VISIBLE_DEVICES in .env names a GPU",
    ),
    (
        "RuntimeError: No CUDA GPUs are available",
        "the container sees no GPU",
    ),
    (
        "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`",
        "the container sees no GPU",
    ),
    (  # vLLM 0.32, a file whose end is gone
        "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
        "a model file is truncated or damaged",
    ),
    (
        "OSError: It looks like the config file at '/models/chat/config.json' is not a valid JSON file.",
        "a model file is truncated or damaged",
    ),
    (
        "RuntimeError: Cannot find any model weights with `/models/chat`",
        "a file of the model is missing",
    ),
    (
        'FileNotFoundError: No such file or directory: "/models/chat/model-00002-of-00002.safetensors"',
        "a file of the model is missing",
    ),
    (
        "WARNING 11-24 09:30:19 [system_utils.py:255] This can cause errors like `OSError: [Errno 12] Cannot allocate memory`",
        "",
    ),
    (
        "ValueError: No available memory for the cache blocks. Try increasing gpu_memory_utilization.",
        "no memory is left for the KV cache",
    ),
    (
        "The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV cache (1264).",
        "no memory is left for the KV cache",
    ),
    (
        "To serve at least one request (8 GiB KV cache is needed), which is larger than the available KV cache memory (4 GiB).",
        "no memory is left for the KV cache",
    ),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "memory ran out while starting",
    ),
    (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: std::bad_alloc",
        "memory ran out while starting",
    ),
    (
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "no code for this GPU",
    ),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
        "the NVIDIA driver does not fit",
    ),
    (
        "Error 803: system has unsupported display driver / cuda driver combination",
        "the NVIDIA driver does not fit",
    ),
    (
        'could not select device driver "nvidia" with capabilities: [[gpu]]',
        "Docker cannot give out GPUs",
    ),
    (
        "Error response from daemon: unknown or invalid runtime name: nvidia",
        "Docker cannot give out GPUs",
    ),
    (
        "Error response from daemon: Unknown runtime specified nvidia",
        "Docker cannot give out GPUs",
    ),
    (
        "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
        "a model file is truncated or damaged",
    ),
    (
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory",
        "a model file is truncated or damaged",
    ),
    (
        "HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/chat'.",
        "the model's folder is not there",
    ),
    (
        "models/chat: the folder of 'chat' does not exist or cannot be read -> unpack the bundle again",
        "the model's folder is not there",
    ),
    (
        "Bind for 0.0.0.0:8000 failed: port is already allocated",
        "a port is taken by another program",
    ),
    (
        "driver failed programming external connectivity: listen tcp4 0.0.0.0:8000: bind: address already in use",
        "a port is taken by another program",
    ),
    (
        "PermissionError: [Errno 13] Permission denied: '/var/lib/offline-kit/cache/vllm'",
        "cannot be read or written by the services' user",
    ),
    (
        "OSError: [Errno 30] Read-only file system: '/root/.cache'",
        "cannot be read or written by the services' user",
    ),
    (
        "OSError: [Errno 28] No space left on device",
        "a disk is full",
    ),
    (
        "Error response from daemon: No such image: localhost/offline-kit/engine:0123456789ab",
        "an image is not loaded",
    ),
    (
        "KeyError: something nobody has seen before",
        "",
    ),
]


@pytest.mark.parametrize("said, reason", FAILURES, ids=[said[:40] for said, _ in FAILURES])
def test_a_known_failure_is_translated(said: str, reason: str) -> None:
    script = '. "$0/scripts/lib/services.sh"; service_reason "$1"; printf %s "$REPLY"'
    done = subprocess.run(
        ["bash", "-c", script, REPOSITORY, f"INFO loading\n{said}\nINFO exit"], capture_output=True, text=True, check=True
    )
    assert (reason in done.stdout) if reason else done.stdout == ""
