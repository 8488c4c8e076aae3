"""What all pods of a kit have in common.

Rules: Pod Security "restricted": unprivileged, no capability, seccomp, a read-only root; no token of the cluster's API, no
variables of other Services (``VLLM_...`` would mean something to an engine), no name server that an air gap does not answer;
images by digest, so that what is there need not be asked for. Pure, standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from .site import Target, label_value

USER = 10001
CODE = "/opt/offline-kit"


def template(
    target: Target, component: str, containers: List[Dict[str, Any]], volumes: List[Dict[str, Any]], **more: Any
) -> Dict[str, Any]:
    """The template of a pod. ``more``: further fields of its specification."""
    system, _, machine = target.kit.platform.partition("/")
    spec: Dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "nodeSelector": {"kubernetes.io/os": system, "kubernetes.io/arch": machine.partition("/")[0]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"imagePullSecrets": [{"name": target.site.pull_secret}]} if target.site.pull_secret else {}),
        **more,
        "containers": containers,
        "volumes": volumes,
    }
    version = {"app.kubernetes.io/version": label_value(target.kit.version)}
    return {"metadata": {"labels": {**target.labels(component), **version}}, "spec": spec}


def container(name: str, image: str, **more: Any) -> Dict[str, Any]:
    """A container without privileges."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        **more,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def no_names() -> Dict[str, Any]:
    """Fields of a pod that asks nobody for names: an unknown one is refused at once, as in Compose."""
    return {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}


def scratch(name: str, *, memory: bool = False, limit: str = "") -> Dict[str, Any]:
    """An empty folder that ends with its pod; ``memory``: in memory, which counts as that of the pod."""
    made: Dict[str, Any] = {**({"medium": "Memory"} if memory else {}), **({"sizeLimit": limit} if limit else {})}
    return {"name": name, "emptyDir": made}


def code_volume(config_map: str, items: List[Dict[str, str]]) -> Dict[str, Any]:
    """The runtime, as the ConfigMap ``config_map`` has it."""
    return {"name": "code", "configMap": {"name": config_map, "items": items}}


def mount(name: str, path: str, *, read_only: bool = True, sub_path: Optional[str] = None) -> Dict[str, Any]:
    """A volume inside a container."""
    made: Dict[str, Any] = {"name": name, "mountPath": path}
    return {**made, **({"subPath": sub_path} if sub_path else {}), **({"readOnly": True} if read_only else {})}


def variables(values: Dict[str, str]) -> List[Dict[str, str]]:
    """Environment variables; no value of a kit's configuration holds a ``$``, which would mean something here."""
    return [{"name": name, "value": value} for name, value in values.items()]


def literal(text: str) -> str:
    """``text`` so that Kubernetes, which expands ``$(NAME)`` and makes ``$`` of ``$$``, puts it into a command as it stands."""
    return text.replace("$", "$$")
