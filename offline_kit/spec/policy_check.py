"""Whether a lock may pass a policy.

Rules: pure; what a policy does not name it does not judge; "not known" never passes a rule; every breach is told with its place
and its rule, so that one run shows all. The same function is asked when a lock is made, when a bundle is built and when one is
verified.
"""

from __future__ import annotations

import datetime
import fnmatch
import urllib.parse
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath

from offline_kit.common.errors import PolicyRefused
from offline_kit.spec.lock import Lock, LockedModel
from offline_kit.spec.names import PICKLES, ImageReference, Source
from offline_kit.spec.policy import Policy
from offline_kit.spec.rehearsal import Extent

_DEFAULT_HUBS = {"hf": "huggingface.co", "modelscope": "www.modelscope.cn"}


def check_policy(lock: Lock, policy: Policy, name: str) -> None:
    """Raises PolicyRefused that tells every breach; ``name``: of the policy."""
    if found := breaches(lock, policy):
        text = "\n".join(found)
        raise PolicyRefused(f"{name} forbids this:\n{text}", remedy="carry something else, or ask who owns the policy")


def check_scanners(asked: Collection[str], policy: Policy, name: str) -> None:
    """Raises PolicyRefused where a scanner that the policy demands is not among those that were asked."""
    if missing := [scanner for scanner in policy.scanners if scanner not in asked]:
        breach = f"'scanners' demands {_shown(policy.scanners)}, and the payload was scanned by {_shown(sorted(asked))}"
        remedy = f"name {missing[0]} under 'scan' of the manifest and build again"
        raise PolicyRefused(f"{name} forbids this:\n{breach}", remedy=remedy)


def check_rehearsal(extent: Extent | None, policy: Policy, name: str) -> None:
    """Raises PolicyRefused where less was tried out than the policy demands (``extent``: None, nothing was)."""
    if policy.rehearsal is None or extent in (policy.rehearsal, "start"):
        return
    breach = f"'rehearsal' demands {policy.rehearsal}, and {f'the {extent} alone' if extent else 'nothing'} was tried out"
    how = "--rehearse start" if policy.rehearsal == "start" else "--rehearse"
    raise PolicyRefused(f"{name} forbids this:\n{breach}", remedy=f"build it with {how}")


def check_base(image: str, policy: Policy, name: str) -> None:
    """Raises PolicyRefused where an image may not be built on ``image``, of which nothing is known but its name."""
    reference = ImageReference.parse(image)
    place, found = f"{reference.registry}/{reference.repository}", list[str]()
    if policy.registries is not None and not _allowed(place, policy.registries):
        found.append(f"base: comes from {place}, and 'registries' allows {_shown(policy.registries)}")
    if policy.oldest_image is not None:
        found.append(f"base: {image} was not looked into, and 'oldest_image' is {policy.oldest_image}")
    if found:
        remedy = "leave --base out: the manifest's engine image is held to all of the policy"
        raise PolicyRefused("\n".join([f"{name} forbids this:", *found]), remedy=remedy)


def breaches(lock: Lock, policy: Policy) -> list[str]:
    """What of the lock the policy forbids, a line each; empty: it may pass."""
    return [*_of_images(lock, policy), *_of_models(lock, policy), *_of_size(lock, policy)]


def _of_images(lock: Lock, policy: Policy) -> Iterator[str]:
    for key, image in lock.images.items():
        source = Source.parse(image.source, "image")
        reference = ImageReference.parse(source.rest)
        place = f"{reference.registry}/{reference.repository}" if source.scheme == "docker" else "a local engine"
        if policy.registries is not None and not _allowed(place, policy.registries):
            yield f"images.{key}: comes from {place}, and 'registries' allows {_shown(policy.registries)}"
        if policy.oldest_image is not None:
            made = _day(image.created)
            if made is None:
                yield f"images.{key}: does not say when it was made, and 'oldest_image' is {policy.oldest_image}"
            elif made < policy.oldest_image:
                yield f"images.{key}: was made on {made}, before 'oldest_image', {policy.oldest_image}"


def _of_models(lock: Lock, policy: Policy) -> Iterator[str]:
    for key, model in lock.models.items():
        place = _hub(model)
        if policy.hubs is not None and not any(fnmatch.fnmatchcase(place, hub.lower()) for hub in policy.hubs):
            yield f"models.{key}: comes from {place}, and 'hubs' allows {_shown(policy.hubs)}"
        if policy.licences is not None:
            named = model.card.licences if model.card else ()
            allowed = {name.lower() for name in policy.licences}
            if not named:
                yield f"models.{key}: its card names no licence, and 'licences' allows {_shown(policy.licences)}"
            elif not all(name.lower() in allowed for name in named):
                yield f"models.{key}: has the licence {', '.join(named)}, and 'licences' allows {_shown(policy.licences)}"
        names = [file.path for file in model.files]
        pickles = [name for name in names if PurePosixPath(name).suffix.lower() in PICKLES]
        if not policy.pickles and pickles:
            yield f"models.{key}: {_few(pickles)} can run code when loaded, and 'pickles' is false"
        code = [name for name in names if name.endswith((".py", ".pyc", ".so"))]
        code += [f"auto_map: {item}" for item in (model.needs.code if model.needs else ())]
        if not policy.repository_code and code:
            yield f"models.{key}: brings code of its own ({_few(code)}), and 'repository_code' is false"


def _of_size(lock: Lock, policy: Policy) -> Iterator[str]:
    total = sum(blob.size for blob in lock.image_blobs().values())
    total += sum(model.size for model in lock.models.values()) + sum(extra.size for extra in lock.files.values())
    if policy.largest is not None and total > policy.largest:
        yield f"has {total} bytes, and 'largest' is {policy.largest}"


def _allowed(place: str, patterns: Sequence[str]) -> bool:
    """A pattern without a path is a host; one with a path covers what is below it."""
    return any(
        fnmatch.fnmatchcase(place, pattern) or fnmatch.fnmatchcase(place, f"{pattern.rstrip('/')}/*") for pattern in patterns
    )


def _hub(model: LockedModel) -> str:
    scheme = Source.parse(model.source, "model").scheme
    if scheme == "dir":
        return "dir"
    return (urllib.parse.urlsplit(model.endpoint).hostname if model.endpoint else None) or _DEFAULT_HUBS.get(scheme, scheme)


def _day(created: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(created[:10])
    except ValueError:
        return None


def _shown(texts: Sequence[str]) -> str:
    return ", ".join(texts) or "none"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
