"""A kit as it lies on the host: its configuration, and what the plan may know of its models.

Rules: what bundle.json carries is taken as it is, so that a refusal costs no reading of weights; a model that the operator
added is looked at itself, headers and config.json only; a model that cannot be read is planned without facts, and that is said.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from . import arch, config, reading, tensors
from .demand import Facts
from .records import KEYS, Mistake, Settings


def read(kit: Path, *, need_key: bool = True) -> Tuple[Settings, Dict[str, str]]:
    """The settings of the kit in the folder ``kit``, and its deploy/kit.env. Raises ConfigError, OSError."""
    mistakes: List[Mistake] = []
    facts = reading.dotenv((kit / "deploy/kit.env").read_text("utf-8"), mistakes)
    dotenv = (kit / ".env").read_text("utf-8") if (kit / ".env").exists() else ""
    settings = config.load(
        (kit / "config/models.json").read_text("utf-8"),
        (kit / "config/vllm_config.yaml").read_text("utf-8"),
        dotenv,
        folders=sorted(entry.name for entry in (kit / "models").iterdir() if entry.is_dir()),
        device=facts.get("KIT_ACCELERATOR", "nvidia"),
        need_key=need_key,
        named_keys=(kit / KEYS).read_text("utf-8") if (kit / KEYS).exists() else "",
        images=facts["KIT_IMAGES"].split(",") if "KIT_IMAGES" in facts else None,
    )
    return settings, facts


def plan_of(kit: Path) -> Mapping[str, Any]:
    """The field ``plan`` of bundle.json; empty where there is none. Raises OSError."""
    path = kit / "bundle.json"
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text("utf-8"))
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
            record = look(kit / "models" / model.folder)
        result[model.key] = Facts.of(record)
    return result


def look(folder: Path) -> Dict[str, Any]:
    """The facts of the model in ``folder``, from its own files. Raises OSError."""
    record: Dict[str, Any] = {"config": {}, "tensors": []}
    if not folder.is_dir():
        return record
    try:
        if (folder / "config.json").is_file():
            record["config"] = arch.subset(json.loads((folder / "config.json").read_text("utf-8")))
    except (ValueError, AttributeError):
        # No engine can load that either, and it says so better than a plan can.
        record["config"] = {}
    record["tensors"] = tensors.of_folder(folder)
    return record


def cuda_of(plan: Mapping[str, Any]) -> Optional[int]:
    """The major version of the engine image's CUDA, where bundle.json says it."""
    version = str(plan.get("cuda") or "").partition(".")[0]
    return int(version) if version.isdigit() else None
