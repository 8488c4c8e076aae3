"""A kit as it lies on the host: its configuration, and what the plan may know of its models.

Rules: what bundle.json carries is taken as it is, so that a refusal costs no reading of weights; a model that the operator
added is looked at itself, headers and config.json only; a model that cannot be read is planned without facts, and that is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from . import parsers
from .gpu_plan import architecture, tensor_table
from .gpu_plan.engine_memory import Facts
from .gpu_plan.evaluate import Image
from .gpu_plan.vllm_version import Vllm
from .settings import load, parse
from .settings.json_text import parse_json
from .settings.model import DOTENV, ENGINE_YAML, ENVIRONMENT_YAML, KEYS, MODELS_JSON, Mistake, Settings
from .settings.text_file import AT_MOST, read_text


def read(
    kit: Path, *, need_key: bool = True, need_models: bool = True, dotenv: Optional[str] = None
) -> Tuple[Settings, Dict[str, str]]:
    """The settings of the kit in the folder ``kit``, and its deploy/kit.env. ``need_key``, ``need_models``: whether these have
    to be there already; ``dotenv``: in place of its .env.

    Raises ConfigError, OSError.
    """
    mistakes: List[Mistake] = []
    facts = parse.dotenv(read_text(kit, "deploy/kit.env"), mistakes)
    if dotenv is None:
        dotenv = read_text(kit, DOTENV) if (kit / DOTENV).exists() else ""
    settings = load.load_settings(
        read_text(kit, MODELS_JSON),
        read_text(kit, ENGINE_YAML),
        dotenv,
        folders=sorted(entry.name for entry in (kit / "models").iterdir() if entry.is_dir()) if need_models else None,
        device=facts.get("KIT_ACCELERATOR", "nvidia"),
        need_key=need_key,
        named_keys=read_text(kit, KEYS) if (kit / KEYS).exists() else "",
        images=facts["KIT_IMAGES"].split(",") if "KIT_IMAGES" in facts else None,
        environment_yaml=read_text(kit, ENVIRONMENT_YAML) if (kit / ENVIRONMENT_YAML).exists() else "",
    )
    return parsers.with_parsers(settings, plan_of(kit).get("parsers") or {}), facts


def plan_of(kit: Path) -> Mapping[str, Any]:
    """The field ``plan`` of bundle.json; empty where there is none. Raises OSError."""
    if not (kit / "bundle.json").is_file():
        return {}
    try:
        record = parse_json(read_text(kit, "bundle.json"), at_most=AT_MOST)
    except ValueError:
        return {}
    plan = record.get("plan") if isinstance(record, dict) else None
    return plan if isinstance(plan, dict) else {}


def facts_of(kit: Path, settings: Settings) -> Dict[str, Facts]:
    """Facts by the key of the model in models.json. Raises OSError."""
    carried = plan_of(kit).get("models") or {}
    result = {}
    for model in settings.models:
        record = carried.get(model.folder)
        if record is None:
            record = facts_from_folder(kit / "models" / model.folder)
        result[model.key] = Facts.of(record)
    return result


def facts_from_folder(folder: Path) -> Dict[str, Any]:
    """The facts of the model in ``folder``, from its own files. Raises OSError."""
    record: Dict[str, Any] = {"config": {}, "tensors": []}
    if not folder.is_dir():
        return record
    try:
        if (folder / "config.json").is_file():
            record["config"] = architecture.subset(parse_json(read_text(folder, "config.json"), at_most=AT_MOST, infinite=True))
    except (ValueError, AttributeError):
        # No engine can load that either, and it says so better than a plan can.
        record["config"] = {}
    record["tensors"] = tensor_table.of_folder(folder)
    return record


def image_of(plan: Mapping[str, Any]) -> Image:
    """What bundle.json says of the engine image: the major version of its CUDA, its vLLM, and its kernels."""
    version = str(plan.get("cuda") or "").partition(".")[0]
    kernels = tuple(str(item) for item in plan.get("kernels") or ())
    return Image(int(version) if version.isdigit() else None, Vllm.parse(str(plan.get("vllm") or "")), kernels)
