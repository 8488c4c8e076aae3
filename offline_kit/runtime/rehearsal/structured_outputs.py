"""The backends of structured outputs that the image's vLLM has, each tried with the model's own tokenizer.

Rules: an engine makes the one that its configuration names, at the first request that wants it: what that lacks (a package, a
compiler, a file to fetch) is found by nothing else before; where vLLM chooses (``auto``), its first choice must work, of the
others it is said, for not every tokenizer goes with each. One schema becomes a grammar and its first mask, as for a request;
no engine, no weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from typing import Any, Dict, List, Optional

_PLACE = "vllm.v1.structured_output"
_BACKENDS = {
    "xgrammar": ("backend_xgrammar", "XgrammarBackend"),
    "guidance": ("backend_guidance", "GuidanceBackend"),
    "outlines": ("backend_outlines", "OutlinesBackend"),
    "lm-format-enforcer": ("backend_lm_format_enforcer", "LMFormatEnforcerBackend"),
}
_FIRST = "xgrammar"  # of auto, but for what it cannot express: sampling_params.py _validate_structured_outputs
_SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def try_backends(config: Any, tokenizer: Any) -> str:
    """Those that work, and those that do not, in one line; ``config``: vLLM's configuration of the engine.

    Raises RuntimeError where one that the engine may use does not work.
    """
    configured = _configured(config)
    known = [name for name, (module, _) in _BACKENDS.items() if _is_there(module)]
    if not known:
        return "not tried: this vLLM has none where they are looked for"
    tried = {name: _try(name, config, tokenizer) for name in known if configured in ("auto", name)}
    needed = _FIRST if configured == "auto" else configured
    if tried.get(needed):
        raise RuntimeError(f"structured outputs: {needed}: {tried[needed]}")
    return _line(tried)


def _line(tried: Dict[str, Optional[str]]) -> str:
    works: List[str] = [name for name, error in tried.items() if error is None]
    not_able = [f"not {name} ({error})" for name, error in tried.items() if error]
    return "; ".join([", ".join(works), *not_able])


def _configured(config: Any) -> str:
    """The backend that the engine is told; newer vLLM first."""
    for field in ("structured_outputs_config", "decoding_config"):
        backend = getattr(getattr(config, field, None), "backend", None)
        if backend:
            return str(backend).partition(":")[0]
    return "auto"


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(f"{_PLACE}.{module}") is not None
    except ModuleNotFoundError:
        return False


def _try(name: str, config: Any, tokenizer: Any) -> Optional[str]:
    """What went wrong, in one line, or None."""
    module, kind = _BACKENDS[name]
    try:
        options = importlib.import_module(f"{_PLACE}.backend_types").StructuredOutputOptions
        make = getattr(importlib.import_module(f"{_PLACE}.{module}"), kind)
        backend = make(config, tokenizer=tokenizer, vocab_size=config.model_config.get_vocab_size())
        grammar = backend.compile_grammar(options.JSON, json.dumps(_SCHEMA))
        grammar.fill_bitmask(backend.allocate_token_bitmask(1), 0)
    except Exception as error:  # noqa: BLE001  whatever an image's code raises is what is asked for
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return None
