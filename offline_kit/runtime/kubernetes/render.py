"""All objects of a kit at a site, as files for ``kubectl apply -k``.

Rules: the same input gives the same text; nothing is named but the site's registry; everything is in one namespace, which this
makes. Pure but for reading the runtime's own files, standard library only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

from ..settings.model import Settings
from ..settings.routes import needs_router
from . import claim, engines, gateway, monitoring, names, network, weights, yaml_text
from .site import Target, files_of

HEADER = "# Written by offline-kit: do not edit, render it again; changes of yours belong into an overlay.\n"
KEYS_FILE = "gateway-keys.yaml"
LIST = "kustomization.yaml"
_RUNTIME = Path(__file__).resolve().parents[1]
_CARRIED = ("__init__.py", "serve.py", "router.py", "parsers.py", "code_repositories.py", "fetch_models.py", "settings/*.py")


def objects(target: Target, settings: Settings, dashboards: Mapping[str, str]) -> Dict[str, List[Dict[str, Any]]]:
    """File name -> its objects. ``settings``: checked, each engine with GPUs of its own. Raises ConfigError, OSError."""
    engines.check_code(settings)
    settings = names.renamed(settings)
    data, items = files_of(runtime_files())
    code = (f"runtime-{names.suffix(data)}", items)
    made = {
        "namespace.yaml": [_namespace(target)],
        "network.yaml": network.objects(target, settings),
        "runtime.yaml": [gateway.config_map(target, code[0], "runtime", data)],
        KEYS_FILE: [gateway.secret(target)],
        "gateway.yaml": gateway.objects(target, settings),
    }
    if needs_router(settings):
        made["router.yaml"] = gateway.router(target, settings, code)
    keys: List[str] = []
    for model in settings.models:
        arguments = engines.arguments_of(settings, model)
        made[f"{model.service}.yaml"] = engines.objects(target, settings, model, arguments, code)
        keys += [path.rpartition("/")[2] for path in weights.folders(target, arguments)]
    if target.site.weights == "pvc":
        made["weights.yaml"] = claim.objects(target, sorted(set(keys)), code)
    if target.site.monitoring:
        made["monitoring.yaml"] = monitoring.objects(target, settings, dashboards)
    return made


def files(made: Mapping[str, List[Dict[str, Any]]]) -> Dict[str, str]:
    """File name -> text, with the list that kustomize reads."""
    listed = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(made),
    }
    texts = {name: HEADER + yaml_text.documents(found) for name, found in made.items()}
    return {**texts, LIST: HEADER + yaml_text.document(listed)}


def models_used(settings: Settings, folders: Mapping[str, Any]) -> Tuple[str, ...]:
    """The keys of ``folders`` (models of the kit) that an engine reads."""
    words = [word for model in settings.models for word in engines.arguments_of(settings, model)]
    return weights.named_keys(words, folders)


def runtime_files() -> Dict[str, str]:
    """Path below runtime/ -> text, of what pods run of it. Raises OSError."""
    paths = sorted(path for pattern in _CARRIED for path in _RUNTIME.glob(pattern))
    return {path.relative_to(_RUNTIME).as_posix(): path.read_text("utf-8") for path in paths}


def _namespace(target: Target) -> Dict[str, Any]:
    # Folders of a node are no volumes of the levels "restricted" and "baseline"; all else of the pods is.
    level = "privileged" if target.site.weights == "hostpath" else "restricted"
    metadata = target.metadata(target.site.namespace, "namespace")
    del metadata["namespace"]
    metadata["labels"].update({"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/audit": "restricted"})
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
