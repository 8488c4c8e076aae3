"""A claim for weights, and the Job that brings them from the site's registry.

Rules: what is fetched is the ModelPack artifact's blobs, which are the files of the model under the sha256 of the lock; the Job
is named for what it brings, since a Job cannot be changed; a model has its name in the claim when it is whole. Pure, standard
library only.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

from . import pods, weights
from .gateway import config_map
from .names import suffix
from .site import Target

_SPARE = 1.1  # of a file system, and for files under way


def objects(target: Target, keys: List[str], code: Tuple[str, List[Dict[str, str]]]) -> List[Dict[str, Any]]:
    """The claim, the list of files of the models ``keys``, and the Job."""
    site = target.site
    wanted = {
        weights.content_name(key, target.kit.models[key]): {
            "repository": "/".join([*site.registry.split("/")[1:], "models", key]),
            "files": [[path, size, sha256] for path, size, sha256 in target.kit.models[key].files],
        }
        for key in keys
    }
    data = {"models.json": json.dumps(wanted, indent=1, sort_keys=True) + "\n"}
    listed = f"weights-{suffix(data)}"
    scheme = "http" if site.insecure else "https"
    command = ["python3", "-m", "runtime.fetch_models", "--registry", f"{scheme}://{site.registry.split('/')[0]}"]
    command += ["--list", "/etc/weights/models.json", "--into", "/claim"]
    volumes = [
        pods.code_volume(*code),
        {"name": "list", "configMap": {"name": listed}},
        {"name": weights.CLAIM, "persistentVolumeClaim": {"claimName": weights.CLAIM}},
    ]
    mounts = [pods.mount("code", f"{pods.CODE}/runtime"), pods.mount("list", "/etc/weights")]
    mounts.append(pods.mount(weights.CLAIM, "/claim", read_only=False))
    if site.pull_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append({"name": "login", "secret": {"secretName": site.pull_secret, "items": items, "defaultMode": 0o440}})
        mounts.append(pods.mount("login", "/etc/login"))
        command += ["--login", "/etc/login/config.json"]
    fetching = pods.container(
        "weights",
        target.image("engine"),
        command=command,
        workingDir="/",
        env=pods.variables({"PYTHONPATH": pods.CODE, "NVIDIA_VISIBLE_DEVICES": "void"}),
        resources={"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        volumeMounts=mounts,
    )
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": target.metadata(listed, "weights"),
        "spec": {
            "backoffLimit": 20,
            "template": pods.template(target, "weights", [fetching], volumes, restartPolicy="OnFailure"),
        },
    }
    return [_claim(target, keys), config_map(target, listed, "weights", data), job]


def _claim(target: Target, keys: List[str]) -> Dict[str, Any]:
    site = target.site
    gib = -(-int(sum(target.kit.models[key].size for key in keys) * _SPARE) // (1 << 30)) + 1
    spec: Dict[str, Any] = {"accessModes": [site.access_mode], "resources": {"requests": {"storage": f"{gib}Gi"}}}
    if site.storage_class:
        spec["storageClassName"] = site.storage_class
    metadata = target.metadata(weights.CLAIM, "weights")
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
