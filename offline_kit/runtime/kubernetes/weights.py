"""Where an engine's pod finds weights: an image volume, a claim that a Job fills, or a folder of the node.

Rules: an engine sees the models that its arguments name and no other, read-only, where Compose has them; in a claim a model
lies under a name that says its content, so that a new version never changes the files of a running engine. Pure, standard
library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Dict, List, Mapping, Tuple

from . import pods
from .names import dns_label
from .site import Carried, Target

CLAIM = "models"
_NAMED = re.compile(r"(?:/app)?/models/[A-Za-z0-9._-]+")


def folders(target: Target, arguments: List[str]) -> List[str]:
    """The folders that the ``arguments`` of an engine name: ``/models/KEY`` of each model of the kit among them."""
    named = sorted(set(_NAMED.findall(json.dumps(arguments))))
    return [path for path in named if path.rpartition("/")[2] in target.kit.models]


def named_keys(words: List[str], models: Mapping[str, Any]) -> Tuple[str, ...]:
    """The keys of ``models`` that ``words`` of commands name."""
    found = {path.rpartition("/")[2] for path in _NAMED.findall(json.dumps(words))}
    return tuple(sorted(found & set(models)))


def content_name(key: str, model: Carried) -> str:
    """The folder of the model in a claim."""
    listed = json.dumps(sorted(model.files), separators=(",", ":"))
    return f"{key}-{hashlib.sha256(listed.encode('utf-8')).hexdigest()[:12]}"


def volumes(target: Target, named: List[str]) -> Tuple[List[Dict[str, Any]], List[Dict[str, Any]]]:
    """Volumes of a pod, and mounts of its engine, for the folders ``named``."""
    site = target.site
    found: Dict[str, Dict[str, Any]] = {}
    mounts = []
    for path in named:
        key = path.rpartition("/")[2]
        if site.weights == "image":
            name = f"model-{dns_label(key.lower())}"[:63].rstrip("-")
            reference = f"{site.registry}/models/{key}@{target.kit.models[key].image}"
            found[name] = {"name": name, "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}
            mounts.append(pods.mount(name, path, sub_path="models"))
        elif site.weights == "pvc":
            found[CLAIM] = {"name": CLAIM, "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}}
            mounts.append(pods.mount(CLAIM, path, sub_path=content_name(key, target.kit.models[key])))
        else:
            name = f"model-{dns_label(key.lower())}"[:63].rstrip("-")
            found[name] = {"name": name, "hostPath": {"path": f"{site.host_path}/{key}", "type": "Directory"}}
            mounts.append(pods.mount(name, path))
    return list(found.values()), mounts


def waiting(target: Target, named: List[str]) -> List[Dict[str, Any]]:
    """Containers that run before the engine: where a Job brings the weights, one that waits until they are whole."""
    if target.site.weights != "pvc":
        return []
    keys = sorted({path.rpartition("/")[2] for path in named})
    whole = [f"/claim/{content_name(key, target.kit.models[key])}" for key in keys]
    wait = pods.container(
        "weights",
        target.image("engine"),
        command=["python3", "-m", "runtime.fetch_models", "--wait", *whole],
        workingDir="/",
        env=pods.variables({"PYTHONPATH": pods.CODE}),
        resources={"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        volumeMounts=[pods.mount("code", f"{pods.CODE}/runtime"), pods.mount(CLAIM, "/claim")],
    )
    return [wait]
