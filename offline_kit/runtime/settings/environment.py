"""Environment variables of engines: of one model (``environment`` in models.json), of all (config/environment.yaml).

Rules: only families of variables that engines and their libraries read, by name; of these, none that opens a network, loads
code or moves the folders of an engine, whatever its value; a value is one line of plain characters. Both expressions stand in
``scripts/lib/services/compose_table.sh`` too, by which the host judges what the engine image answers.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from .model import ENVIRONMENT_YAML, MODELS_JSON, Mistake
from .parse import yaml_mapping

# Extended expressions that awk reads alike: no intervals, no classes of Python's own.
FAMILIES = (
    "(NCCL|GLOO|UCX|VLLM|HF|TOKENIZERS|TIKTOKEN|SAFETENSORS|XGRAMMAR|FLASHINFER|TRITON|TORCH|TORCHDYNAMO|TORCHINDUCTOR|PYTORCH"
    "|CUDA|CUBLAS|CUDNN|OMP|KMP|MKL|MALLOC)_[A-Z0-9_]+"
)
_REFUSED: Tuple[Tuple[str, str], ...] = (
    ("LD_.*|PYTHON.*|PATH", "it would load other code than was carried"),
    (
        ".*(PLUGIN|_SO_PATH|LIBRAR|TRUST_REMOTE|INSECURE|WEIGHTS_ONLY|AUTOLOAD|CACHE_MANAGER|LOGGING_CONFIG|DEV_MODE).*",
        "it would load other code than was carried",
    ),
    (".*_PROXY|.*_proxy", "engines reach no network"),
    (
        ".*(OFFLINE|NO_DOWNLOAD|NO_USAGE|DO_NOT_TRACK|USAGE_S|MODELSCOPE|ENDPOINT|REPOSITOR).*",
        "the kit sets it: engines reach no network",
    ),
    (".*(_TOKEN|API_KEY|SECRET|PASSWORD)(_.*)?", "a secret does not belong into config/"),
    (".*_(PATH|DIR|DIRECTORY|HOME|ROOT|CACHE|WORKSPACE_BASE)", "the kit decides where an engine reads and writes"),
    ("CUDA_VISIBLE_DEVICES|NVIDIA_.*", "set the field 'gpus' of the model, or CUDA_VISIBLE_DEVICES in .env"),
    ("OFFLINE_KIT_.*|HOME|USER|LOGNAME", "the kit sets it"),
)
REFUSED = "|".join(expression for expression, _ in _REFUSED)
_VALUE = re.compile(r"[ !#%-\[\]-~]{0,1024}")  # printable, without " $ and backslash, which Compose reads in its own way
_VALUES_AT_MOST = 100


def refusal(name: str) -> str:
    """Why engines are not given the variable ``name``; empty where they are."""
    for expression, reason in _REFUSED:
        if re.fullmatch(expression, name):
            return reason
    if re.fullmatch(FAMILIES, name):
        return ""
    return "is not one that engines read"


def variables(entries: Mapping[str, Any], key: str, mistakes: List[Mistake]) -> Dict[str, str]:
    """Name -> value as text; ``key``: the model that they belong to, empty for those of environment.yaml."""
    file, prefix = (MODELS_JSON, f"models.{key}.environment.") if key else (ENVIRONMENT_YAML, "")
    if len(entries) > _VALUES_AT_MOST:
        mistakes.append(Mistake(file, prefix[:-1], f"has more than {_VALUES_AT_MOST} variables", "keep those that are needed"))
        return {}
    result: Dict[str, str] = {}
    for name, value in entries.items():
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        reason = refusal(name)
        if reason:
            known = "known are " + ", ".join(f"{family}_" for family in FAMILIES[1:].partition(")")[0].split("|"))
            remedy = known if reason.startswith("is not") else "take it out"
            mistakes.append(Mistake(file, prefix + name[:100], f"cannot be set here: {reason}", remedy))
        elif not isinstance(text, str) or not _VALUE.fullmatch(text):
            what = (
                f"{str(value)[:60]!r} is not usable"
                if isinstance(value, str)
                else f"{value!r} is neither text nor a whole number"
            )
            mistakes.append(Mistake(file, prefix + name, what, 'write one line of plain characters in quotes, without " $ \\'))
        else:
            result[name] = text
    return result


def common(text: str, mistakes: List[Mistake]) -> Dict[str, str]:
    """The variables in the text of environment.yaml; an empty file has none."""
    return variables(yaml_mapping(text, ENVIRONMENT_YAML, ("variables", "NAME: value"), mistakes), "", mistakes)
