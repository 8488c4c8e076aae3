"""What of an engine image's contents the lock keeps: versions that decide about serving and memory, and what its vLLM knows.

Rules: pure; of packages only those that are asked about, so that a lock stays short; an image without vLLM has no such facts.
"""

from __future__ import annotations

from offline_kit.spec.image_contents import ImageContents
from offline_kit.spec.lock import EngineFacts

PACKAGES = ("vllm", "torch", "transformers", "flashinfer-python", "flashinfer-cubin", "flashinfer-jit-cache", "bitsandbytes")


def engine_facts(contents: ImageContents) -> EngineFacts | None:
    """The facts of an engine image, or None where it holds no vLLM that was seen."""
    found = {package["name"]: package["version"] for package in contents.packages if package["kind"] == "pypi"}
    kept = {name: found[name] for name in PACKAGES if name in found}
    # Versions alone: that a package is not there is not said, for a layer may hold it in a form that is not read.
    if "vllm" not in kept:
        return None
    return EngineFacts(
        packages=kept,
        architectures=contents.architectures,
        tool_parsers=contents.tool_parsers,
        reasoning_parsers=contents.reasoning_parsers,
        whole=False,
    )
