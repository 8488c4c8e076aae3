"""A kit as objects of Kubernetes: what the bundle says, what the site says, and the files that come of it.

Rules: every object follows from the kit and the options alone; the keys of clients lie in a file of the output folder, which is
made once and kept; files of an earlier run that are no more are removed, others are never touched; the list that kubectl reads
comes last.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from offline_kit.bundle.format import paths
from offline_kit.bundle.read.inspect import Head, read_head, read_texts
from offline_kit.bundle.read.payload import Payload
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, SpecError
from offline_kit.common.files import disk_errors, read_plain_file, replace_file
from offline_kit.common.progress import Progress
from offline_kit.host import assets
from offline_kit.host.validate import Services, check_services
from offline_kit.publish import artifacts
from offline_kit.publish.model_layers import read_layers
from offline_kit.runtime.kubernetes import engines, names, render
from offline_kit.runtime.kubernetes.site import Carried, Kit, Site, Target
from offline_kit.runtime.parsers import with_parsers
from offline_kit.runtime.settings import api_keys
from offline_kit.runtime.settings.model import KEYS, ConfigError, Mistake, Settings
from offline_kit.spec.names import ImageReference
from offline_kit.spec.parsers import parsers_of

KEYS_NAME = "keys"
_CONFIG = ("models.json", "vllm_config.yaml")
_OPTIONAL = "config/environment.yaml"
_BOARDS = "config/monitoring/grafana/boards/"
_OF_CLUSTER = ("engine.json",)  # the others show the host, the gateway and GPUs, which a site's own exporters tell
_KEYS_HEAD = "# Keys of clients: NAME KEY a line. After a change: render again, apply, and restart the gateway.\n"


def write_objects(path: Path, site: Site, output: Path, *, jobs: int, progress: Progress) -> tuple[str, ...]:
    """Writes the objects of the bundle or kit at ``path`` into ``output``; answers the names of its files.

    Raises SpecError, BundleUnreadable, BundleDamaged and DiskError.
    """
    check_site(site)
    head = read_head(path)
    settings = _settings(path, head)
    digests = _images(path, head, settings, jobs, progress) if site.weights == "image" else {}
    target = Target(_kit(head, digests), site, _keys_conf(output))
    made = _objects(target, settings)
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    texts = render.files(made)
    for name, text in texts.items():
        replace_file(output / name, text.encode(), 0o600 if name == render.KEYS_FILE else 0o644, lasting=False)
    _remove_old(output, texts)
    return tuple(texts)


def check_site(site: Site) -> None:
    """Raises SpecError where a name cannot be one of the cluster or the registry."""
    try:
        ImageReference.parse(f"{site.registry}/kit:v1")
        if not any(mark in site.registry.partition("/")[0] for mark in ".:"):
            raise ValueError(f"{site.registry.partition('/')[0]!r} is no host: give HOST:PORT, or a host with a dot")
    except ValueError as error:
        raise SpecError(str(error), where="--registry", remedy="HOST[:PORT][/PREFIX], as for push") from error
    for option, name in (("--namespace", site.namespace), ("--monitoring", site.monitoring or "x")):
        if not names.is_dns_label(name):
            raise SpecError(f"'{name}' is no name of a namespace", where=option, remedy="use a-z 0-9 - (at most 63)")
    if site.weights == "hostpath" and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", site.host_path):
        what = f"'{site.host_path}' is no absolute folder of a node" if site.host_path else "--weights hostpath needs it"
        raise SpecError(what, where="--host-path", remedy="name the folder with one folder a model, the same on each node")


def _settings(path: Path, head: Head) -> Settings:
    """The settings of the kit. Raises SpecError, BundleUnreadable and BundleDamaged."""
    if head.contents is None:
        raise BundleUnreadable("is a lock: name a bundle or the folder of a kit", where=str(path))
    if head.contents.base is not None:
        remedy = "install it with --base and name the kit's folder"
        raise BundleUnreadable("is a delta: it does not hold all that it names", where=str(path), remedy=remedy)
    if (head.sums or {}).get(paths.LOCK) != head.digest:
        raise BundleDamaged(
            "is not the file of the sums", where=f"{path}: {paths.LOCK}", remedy="'offline-kit verify' tells all"
        )
    wanted = (paths.SUMS, *(f"{paths.CONFIG}/{name}" for name in _CONFIG))
    texts = read_texts(path, wanted, if_listed=(_OPTIONAL,))
    config = {name.partition("/")[2]: text for name, text in texts.items() if name.startswith(f"{paths.CONFIG}/")}
    services = check_services(config, head.lock.models.keys(), head.lock.accelerator)
    _check_shared(services)
    return with_parsers(services.settings, parsers_of(head.lock))


def _check_shared(services: Services) -> None:
    try:
        engines.check_shared(services.placement.gpus)
    except ConfigError as error:
        raise SpecError(str(error)) from error


def _objects(target: Target, settings: Settings) -> dict[str, list[dict[str, object]]]:
    boards = {
        name.removeprefix(_BOARDS): text.decode()
        for name, text in (assets.monitoring() if target.site.monitoring else {}).items()
        if name.removeprefix(_BOARDS) in _OF_CLUSTER
    }
    try:
        return render.objects(target, settings, boards)
    except ConfigError as error:
        raise SpecError(str(error)) from error


def _kit(head: Head, digests: Mapping[str, Digest]) -> Kit:
    assert head.contents is not None
    lock = head.lock
    models = {
        key: Carried(
            tuple((file.path, file.size, file.sha256.hex) for file in model.files),
            str(digests[key]) if key in digests else "",
        )
        for key, model in lock.models.items()
    }
    images = {key: str(image.manifest.digest) for key, image in lock.images.items()}
    return Kit(lock.name, head.contents.version, lock.platform, images, models)


def _images(path: Path, head: Head, settings: Settings, jobs: int, progress: Progress) -> dict[str, Digest]:
    """The digest that each model's image has in the registry: its layers are read for it, as push does."""
    lock, version = head.lock, head.version or ""
    used = {key: lock.models[key] for key in render.models_used(settings, lock.models)}
    with Payload(path) as payload:
        layers = read_layers(used, payload, jobs, progress)
    return {key: artifacts.modelcar(key, used[key], layers[key], lock.platform, version).digest for key in used}


def _keys_conf(output: Path) -> str:
    """The keys in the output folder's file, which gets one of its own where there is none. Raises SpecError, DiskError."""
    file = output / KEYS_NAME
    if not file.exists():
        with disk_errors(output):
            output.mkdir(parents=True, exist_ok=True)
        replace_file(file, f"{_KEYS_HEAD}first {secrets.token_urlsafe(32)}\n".encode(), 0o600)
    with disk_errors(file):
        text = read_plain_file(file, 1 << 20).decode("utf-8", "replace")
    mistakes: list[Mistake] = []
    pairs = api_keys.parse(text, "", mistakes)
    if not pairs and not mistakes:
        mistakes.append(Mistake(KEYS, "", "has no key", "write NAME KEY a line"))
    if mistakes:
        raise SpecError("\n".join(str(replace(item, file=item.file.replace(KEYS, str(file)))) for item in mistakes))
    return api_keys.keys_conf(pairs)


def _remove_old(output: Path, texts: Mapping[str, str]) -> None:
    """Removes what an earlier run wrote and this one did not."""
    head = render.HEADER.encode()
    with disk_errors(output):
        for file in output.glob("*.yaml"):
            if file.name not in texts and file.is_file() and not file.is_symlink():
                with file.open("rb") as stream:
                    ours = stream.read(len(head)) == head
                if ours:
                    file.unlink()
