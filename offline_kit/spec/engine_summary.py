"""What an engine image is, for people: in a line, and whole as data.

Rules: of what was not read nothing is said; "no cubins" is said only where every layer was read.
"""

from __future__ import annotations

from typing import Any

from offline_kit.spec.lock import LockedImage

_SHOWN = ("torch", "transformers", "triton", "kernels", "bitsandbytes")


def summary(image: LockedImage | None) -> str:
    """vLLM, CUDA and what else decides about serving; empty where nothing is known."""
    if image is None:
        return ""
    facts = image.engine
    packages = facts.packages if facts else {}
    parts = [f"vLLM {image.vllm}"] if image.vllm else []
    parts += [f"CUDA {image.cuda}"] if image.cuda else []
    parts += [f"{name} {packages[name]}" for name in _SHOWN if name in packages]
    if facts and "flashinfer-python" in packages:
        absent = "none" if facts.whole else "not seen"
        beside = ", ".join(
            f"{title} {packages.get(f'flashinfer-{name}', absent)}"
            for name, title in (("cubin", "cubins"), ("jit-cache", "cache"))
        )
        parts.append(f"flashinfer {packages['flashinfer-python']} ({beside})")
    parts += [f"kernels for {' '.join(image.kernels)}"] if image.kernels else []
    if facts and facts.architectures:
        parsers = f"{len(facts.tool_parsers)} tool-call and {len(facts.reasoning_parsers)} reasoning parsers"
        parts.append(f"{len(facts.architectures)} architectures, {parsers}")
    return ", ".join(parts)


def describe(image: LockedImage | None) -> dict[str, Any] | None:
    """All of it, for JSON; None without an engine image."""
    if image is None:
        return None
    facts = image.engine.model_dump(mode="json") if image.engine else None
    return {"source": image.source, "vllm": image.vllm, "cuda": image.cuda, "kernels": list(image.kernels), "facts": facts}
