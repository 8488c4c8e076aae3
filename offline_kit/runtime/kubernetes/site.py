"""What a site says of its cluster, and what the kit's images and models are called in its registry.

Rules: every image is named by digest below the site's registry, and nothing else is ever named; frozen. Pure, standard library
only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Tuple

from .names import dns_label

WEIGHTS = ("image", "pvc", "hostpath")


@dataclass(frozen=True)
class Carried:
    """A model of the kit. ``files``: path below its folder, bytes, sha256 (hex); ``image``: digest of its image, if used."""

    files: Tuple[Tuple[str, int, str], ...]
    image: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self.files)


@dataclass(frozen=True)
class Kit:
    """Name, version and platform (``linux/amd64``) of the kit; digests of its images by key; its models by folder."""

    name: str
    version: str
    platform: str
    images: Mapping[str, str]
    models: Mapping[str, Carried]


@dataclass(frozen=True)
class Site:
    """Where the kit runs. ``registry``: ``HOST[:PORT][/PREFIX]``; ``weights``: one of WEIGHTS.

    ``host_path``: the folder with one folder a model on each node; ``storage_class``, ``access_mode``: of the claim;
    ``pull_secret``: a Secret with the login of the registry; ``monitoring``: the namespace that Prometheus runs in;
    ``insecure``: the registry speaks plain HTTP.
    """

    registry: str
    namespace: str
    weights: str = "image"
    host_path: str = ""
    storage_class: str = ""
    access_mode: str = "ReadWriteMany"
    pull_secret: str = ""
    runtime_class: str = ""
    monitoring: str = ""
    insecure: bool = False


@dataclass(frozen=True)
class Target:
    """A kit at a site: what every object needs."""

    kit: Kit
    site: Site
    keys: str = field(default="", repr=False)  # keys.conf of the gateway

    def image(self, key: str) -> str:
        """The reference of an image of the kit, by digest."""
        return f"{self.site.registry}/images/{key}@{self.kit.images[key]}"

    def labels(self, component: str) -> Dict[str, str]:
        """The labels that select the pods of a component; they never change."""
        return {
            "app.kubernetes.io/name": dns_label(self.kit.name.lower()),
            "app.kubernetes.io/component": component,
        }

    def metadata(self, name: str, component: str, **more: Any) -> Dict[str, Any]:
        """The metadata of an object of the kit."""
        about = {"app.kubernetes.io/part-of": "offline-kit", "app.kubernetes.io/version": label_value(self.kit.version)}
        return {"name": name, "namespace": self.site.namespace, "labels": {**self.labels(component), **about}, **more}


def label_value(text: str) -> str:
    """``text`` as the value of a label, which begins and ends with a letter or digit."""
    return text.strip("._-")[:63].strip("._-") or "0"


def files_of(contents: Mapping[str, str]) -> Tuple[Dict[str, str], List[Dict[str, str]]]:
    """Path -> text, as the data of a ConfigMap (whose keys hold no ``/``) and the items that give each its path again."""
    keys = {path: path.replace("/", "..") for path in sorted(contents)}
    return {keys[path]: contents[path] for path in keys}, [{"key": keys[path], "path": path} for path in keys]
