"""What an image holds, put together from its layers in order: packages, distribution, what vLLM knows.

Rules: a layer's own part is made once, from its plain tar, and kept as a note under its diff ID; a later layer replaces and
removes what earlier ones had; nothing here needs Docker. ``whole``: every layer could be read: what is not named is absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from offline_kit.common.digest import Digest
from offline_kit.intake.images import packages, rpm, vllm_source
from offline_kit.intake.images.layer_scan import LayerScan
from offline_kit.spec.image_contents import ImageContents, Package

VERSION = 2  # of the notes
# kind of a file -> where it lies
_PLACES = {
    "dpkg": r"var/lib/dpkg/status(?:\.d/[^/]+(?<!\.md5sums))?",
    "copyright": r"usr/share/doc/[^/]+/copyright",
    "apk": r"(?:usr/)?lib/apk/db/installed",
    "python": r"(?:.*/)?(?:site|dist)-packages/[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)",
    "os-release": r"(?:etc|usr/lib)/os-release",
    "rpm-sqlite": r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)/rpmdb\.sqlite",
    "rpm-ndb": r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)/Packages\.db",
    "rpm-bdb": r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)/Packages",
    "architectures": r"(?:.*/)?vllm/model_executor/models/registry\.py",
    "tool parsers": r"(?:.*/)?vllm/(?:entrypoints/openai/)?tool_parsers/__init__\.py",
    "reasoning parsers": r"(?:.*/)?vllm/reasoning/__init__\.py",
    "quantizations": r"(?:.*/)?vllm/model_executor/layers/quantization/__init__\.py",
}
_FITTING = [(kind, re.compile(pattern)) for kind, pattern in _PLACES.items()]
# Most files of a layer are none of these: told by their last part.
_NAMES = frozenset(
    ("status", "copyright", "installed", "METADATA", "PKG-INFO", "os-release", "rpmdb.sqlite", "Packages.db", "Packages")
) | {"registry.py", "__init__.py"}
# kind of a file -> what reads it
_READERS: dict[str, Callable[[bytes], Any]] = {
    "dpkg": packages.read_dpkg,
    "copyright": packages.read_copyright,
    "apk": packages.read_apk,
    "python": packages.read_python,
    "os-release": packages.read_os_release,
    "rpm-sqlite": rpm.read_sqlite,
    "rpm-ndb": rpm.read_ndb,
    "rpm-bdb": lambda data: [],
    "architectures": vllm_source.read_architectures,
    "tool parsers": vllm_source.read_parsers,
    "reasoning parsers": vllm_source.read_parsers,
    "quantizations": vllm_source.read_quantizations,
}
_DATABASES = ("dpkg", "apk", "python", "rpm-sqlite", "rpm-ndb")


def kind_of(path: str) -> str | None:
    """What a file of an image says, by its path; None: nothing that counts here."""
    name = path.rpartition("/")[2]
    if name not in _NAMES and not name.endswith(".egg-info") and not path.startswith("var/lib/dpkg/status.d/"):
        return None
    return next((kind for kind, pattern in _FITTING if pattern.fullmatch(path)), None)


def new_scan() -> LayerScan:
    """Reads from a layer what counts here."""
    return LayerScan(lambda path: kind_of(path) is not None)


def memo_key(diff_id: Digest) -> str:
    """Under which the store keeps what a layer holds."""
    return f"contents:{VERSION}:{diff_id}"


def read_layer(scan: LayerScan) -> dict[str, Any]:
    """What one layer says, as JSON: ``found`` (path -> what was read), ``removed``, ``whole``."""
    scan.close()
    found = {path: _READERS[kind](data) for path, data in scan.files.items() if (kind := kind_of(path)) is not None}
    return {"found": found, "removed": scan.removed, "whole": scan.whole}


def read_image(layers: Iterable[Any]) -> ImageContents:
    """What the layers of an image, each as ``read_layer`` gave it, make together."""
    files: dict[str, Any] = {}
    whole = True
    for layer in layers:
        whole = whole and bool(layer["whole"])
        for gone in layer["removed"]:
            start = f"{gone}/" if gone else ""
            files = {path: value for path, value in files.items() if path != gone and not path.startswith(start)}
        files.update(layer["found"])
    by_kind: dict[str, list[tuple[str, Any]]] = {}
    for path, value in files.items():
        by_kind.setdefault(kind_of(path) or "", []).append((path, value))
    return ImageContents(
        packages=_packages(by_kind),
        distribution=next((value for _, value in sorted(by_kind.get("os-release", [])) if value), {}),
        architectures=_names(by_kind, "architectures"),
        tool_parsers=_names(by_kind, "tool parsers"),
        reasoning_parsers=_names(by_kind, "reasoning parsers"),
        quantizations=_names(by_kind, "quantizations"),
        unread=tuple(path for path, _ in by_kind.get("rpm-bdb", [])),
        whole=whole,
    )


def _packages(by_kind: dict[str, list[tuple[str, Any]]]) -> tuple[Package, ...]:
    licences = {path.split("/")[3]: value for path, value in by_kind.get("copyright", [])}
    found: dict[tuple[str, str, str, str], Package] = {}
    for kind in _DATABASES:
        for _, records in by_kind.get(kind, []):
            for record in records:
                package: Package = record
                if kind == "dpkg" and licences.get(package["name"]):
                    package = {**package, "licences": licences[package["name"]]}
                identity = (package["kind"], package["name"], package["version"], package.get("architecture", ""))
                found.setdefault(identity, package)
    return tuple(found[identity] for identity in sorted(found))


def _names(by_kind: dict[str, list[tuple[str, Any]]], kind: str) -> tuple[str, ...]:
    return tuple(sorted({name for _, names in by_kind.get(kind, []) for name in names}))
