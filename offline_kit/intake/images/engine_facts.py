"""What of an engine image's contents the lock keeps: versions that decide about serving and memory, and what its vLLM knows.

Rules: pure; of packages only those that are asked about, so that a lock stays short; a package that is not named is absent
where every layer was read (``whole``).
"""

from __future__ import annotations

from offline_kit.spec.image_contents import ImageContents
from offline_kit.spec.lock import CUDA_RUNTIMES
from offline_kit.spec.lock_facts import EngineFacts

PACKAGES = (
    *("vllm", "torch", "transformers", "triton", "kernels", "bitsandbytes", "mistral-common", "vllm-gguf-plugin"),
    *("flashinfer-python", "flashinfer-cubin", "flashinfer-jit-cache", "openai-harmony", "oss-harmony"),
    *CUDA_RUNTIMES,
)


def engine_facts(contents: ImageContents) -> EngineFacts | None:
    """The facts of an engine image; None where nothing can be said of it: no vLLM was seen, and not all of it could be read."""
    found = {package["name"]: package["version"] for package in contents.packages if package["kind"] == "pypi"}
    kept = {name: found[name] for name in PACKAGES if name in found}
    if "vllm" not in kept and not (contents.whole and contents.packages):
        return None
    return EngineFacts(
        packages=kept,
        architectures=contents.architectures,
        tool_parsers=contents.tool_parsers,
        reasoning_parsers=contents.reasoning_parsers,
        quantizations=contents.quantizations,
        whole=contents.whole,
    )
