"""What an engine of vLLM says of its memory while it starts, read from its log.

Rules: only the lines that are looked for are read, whatever stands before them (Compose, a worker's name, colours); several
ranks say the same of themselves: of weights and graphs the largest counts, of the KV cache the smallest, for that one
decides; of a container that was started again the last start counts, and ``names`` has all whose starts are in the text; what
is not there is None; ``v0``: it is that of the engine before V1, whose numbers have another meaning. The wording is that of
vLLM 0.8 to 0.33 (``v1/worker/gpu_worker.py``, ``gpu_model_runner.py``, ``v1/core/kv_cache_utils.py``,
``kv_cache_planning.py``, ``config/compilation.py``).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

_DIGITS = r"[0-9][0-9,]{0,23}(?:\.[0-9]{1,9})?(?![0-9,])"  # what is longer is no number of a log
_NUMBER, _SIGNED = rf"({_DIGITS})", rf"(-?{_DIGITS})"
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_VERSION = re.compile(r"(?:version|LLM engine \(v)\s*v?([0-9]{1,3}\.[0-9]{1,5}(?:\.[0-9]{1,5}|\.?(?:rc|dev|post)[0-9]{1,9})*)")
_START = re.compile(r"vLLM API server version|█ +version ")
_NAME = re.compile(r"served_model_name=\[?'?([A-Za-z0-9._:/@+-]+)")
_REFUSALS = (
    re.compile(r"To serve at least one request with .* max seq len .*? GiB\)"),
    re.compile(r"max_num_seqs \([0-9]+\) exceeds available Mamba cache blocks \([0-9]+\)"),
    re.compile(r"Free memory on device .*? is less than desired GPU memory utilization"),
    re.compile(r"No available memory for the cache blocks"),
    re.compile(r"CUDA out of memory"),
)
_V0 = re.compile(r"Initializing a V0 LLM engine|model weights take [0-9.]+ ?GiB; non_torch_memory takes|# cuda blocks: [0-9]+")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # as PowerShell's > writes it


@dataclass(frozen=True)
class StartLog:
    """GiB and counts as they were logged. ``refused``: why it did not start; ``started``: None where the log ends before."""

    version: str
    name: str
    weights: float | None
    graphs_estimate: float | None
    graphs: float | None
    kv: float | None
    tokens: float | None
    concurrency: float | None
    need: float | None
    state_blocks: float | None
    refused: str
    started: bool | None
    names: tuple[str, ...] = ()
    card: float | None = None
    activations: float | None = None
    libraries: float | None = None
    v0: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the text was of an engine's start."""
        reported = (self.weights, self.kv, self.tokens, self.need, self.state_blocks, self.graphs_estimate)
        return not self.refused and all(part is None for part in reported)


def decode_log(data: bytes) -> str:
    """The text of a log file. Raises ValueError where it is no text."""
    if data.startswith(_UTF16):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:4096]:
        raise ValueError("is no text in UTF-8, or in UTF-16 with its mark")
    return data.decode("utf-8", "replace")


def parse_log(text: str) -> StartLog:
    """What ``text`` says."""
    text = _COLOURS.sub("", text)
    names = tuple(sorted(set(_NAME.findall(text))))
    starts = [match.start() for match in _START.finditer(text)]
    last = _parsed(text[starts[-1] :] if starts else text)
    # Several API servers of one engine say their version after it has started.
    return dataclasses.replace(_parsed(text) if last.is_empty else last, names=names)


def _parsed(text: str) -> StartLog:
    """What the text of one start says."""
    refused = next((match.group() for pattern in _REFUSALS if (match := pattern.search(text))), "")
    ready = "Application startup complete" in text or re.search(r"Maximum concurrency for", text) is not None
    version, name = _VERSION.search(text), _NAME.search(text)
    return StartLog(
        version=version.group(1) if version else "",
        name=name.group(1) if name else "",
        weights=_found(text, rf"Model loading took {_NUMBER} (?:GiB|GB)", max),
        graphs_estimate=_found(text, rf"Estimated CUDA graph memory: {_NUMBER} GiB", max),
        graphs=_found(text, rf"Graph capturing finished in .*? took {_NUMBER} GiB", max),
        kv=_found(text, rf"(?:Available KV cache memory: |available KV cache memory \(){_SIGNED} GiB", min),
        tokens=_found(text, rf"KV cache size: {_NUMBER} tokens", min),
        concurrency=_found(text, rf"Maximum concurrency for [0-9,]+ tokens per request: {_NUMBER}x", min),
        need=_found(text, rf"\(?{_NUMBER} GiB KV cache is needed", max),
        state_blocks=_found(text, r"exceeds available Mamba cache blocks \(([0-9]+)\)", min),
        refused=refused,
        started=False if refused else True if ready else None,
        card=_found(text, rf"Free memory on device [^\n]*?\({_NUMBER}/{_NUMBER} GiB\)", min, 1),
        activations=_found(text, rf"{_NUMBER} GiB for peak activation", max),
        libraries=_found(text, rf"{_SIGNED} GiB for non-torch memory", max),
        v0=_V0.search(text) is not None,
    )


def _found(text: str, pattern: str, choose: Callable[[list[float]], float], group: int = 0) -> float | None:
    """The number that ``choose`` takes of all that ``pattern`` finds, in its group ``group``."""
    found = [match if isinstance(match, str) else match[group] for match in re.findall(pattern, text)]
    numbers = [float(number.replace(",", "")) for number in found]
    return choose(numbers) if numbers else None
