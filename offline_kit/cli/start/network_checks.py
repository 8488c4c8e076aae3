"""Whether the registries and hubs of a manifest answer from here, who we are to them, and whether this clock is right.

Rules: one question each, with no second try and short patience; what a build would fail of is a failure with its exit code.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import get_token

from offline_kit.cli.start.machine_checks import FAILED, OK, WARNING, Check
from offline_kit.common.errors import AccessDenied, KitError, NetworkError
from offline_kit.common.files import read_plain_file
from offline_kit.common.json_text import AT_MOST, parse_json
from offline_kit.intake.sources import hub, modelscope
from offline_kit.intake.sources.credentials import login_files
from offline_kit.intake.sources.registry_api import Repository
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.http_errors import RetryableError
from offline_kit.spec.manifest import ImageSpec, Manifest, ModelSpec

_CLOCK = 300.0  # seconds
_DEFAULTS = (ImageSpec(source="docker://docker.io/library/nginx:latest"), ModelSpec(source="hf://any/any"))


def check_network(manifest: Manifest | None, client: HttpClient) -> Iterator[Check]:
    """All checks that ask somebody; without a manifest the public registry and hub are asked."""
    offsets: list[float] = []
    images = list(manifest.images.values()) if manifest else [_DEFAULTS[0]]
    models = list(manifest.models.values()) if manifest else [_DEFAULTS[1]]
    places: dict[str, str] = {}
    for image in images:
        if image.scheme == "docker":
            registry = image.reference.registry
            if f"registry {registry}" not in places:
                places[f"registry {registry}"] = Repository(image.reference, client, insecure=image.insecure).api
    for model in models:
        try:
            if model.scheme == "hf":
                places.setdefault(f"hub {hub.hub_url(model)}", hub.hub_url(model))
            elif model.scheme == "modelscope":
                places.setdefault(f"hub {modelscope.hub_url(model)}", modelscope.hub_url(model))
        except KitError as error:
            yield Check.of("hub", error)
    for name, url in places.items():
        yield _ask(name, url, client, offsets)
    yield from _clock(offsets)
    yield _logins()
    yield _hub_tokens()


def _ask(name: str, url: str, client: HttpClient, offsets: list[float]) -> Check:
    remedy = "check the network, HTTPS_PROXY and --registry-mirror; an internal one: its name in the manifest"
    started = time.monotonic()
    try:
        with client.get(url, {}) as response:
            status, date = response.status_code, response.headers.get("Date", "")
    except RetryableError as error:
        return Check(name, FAILED, f"{url}: {error.reason}", error.remedy or remedy, NetworkError.exit_code)
    except KitError as error:
        return Check.of(name, error)
    took = time.monotonic() - started
    with contextlib.suppress(TypeError, ValueError, OverflowError):  # a server may say any date
        offsets.append(email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    if status == 403:
        return Check(
            name, FAILED, f"{url}: answers 403", "a proxy or its firewall refuses this machine", AccessDenied.exit_code
        )
    return Check(name, OK, f"{url} answers ({status}, {took:.1f} s)")


def _clock(offsets: list[float]) -> Iterator[Check]:
    if not offsets:
        return
    off = sorted(offsets)[len(offsets) // 2]
    if abs(off) > _CLOCK:
        which = "behind" if off > 0 else "ahead of"
        what = f"this clock is {abs(off):.0f} s {which} that of the servers"
        yield Check("clock", WARNING, what, "set it (timedatectl set-ntp true): certificates and tokens are judged by it")
    else:
        yield Check("clock", OK, f"within {max(abs(off), 1):.0f} s of the servers")


def _logins() -> Check:
    """The registries to which ``docker login``, ``podman login`` or ``skopeo login`` left credentials."""
    docker = str(Path(os.environ.get("DOCKER_CONFIG") or "~/.docker") / "config.json")
    hosts: set[str] = set()
    for path in (name or docker for name in login_files()):
        try:
            config = parse_json(read_plain_file(Path(path).expanduser(), AT_MOST, follow=True))
            hosts |= {*map(str, config.get("auths", {})), *map(str, config.get("credHelpers", {}))}
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError, TypeError, RuntimeError) as error:  # the last: nobody's home is known
            return Check("registry logins", WARNING, f"{path} cannot be read: {error}", "correct it, or 'docker login' again")
    if not hosts:
        example = base64.b64encode(b"NAME:PASSWORD").decode()
        remedy = f"where one asks for it: 'docker login HOST' (podman, skopeo), or by hand {docker}: "
        return Check("registry logins", OK, "none", remedy + json.dumps({"auths": {"HOST": {"auth": example}}}))
    return Check("registry logins", OK, ", ".join(sorted(hosts)))


def _hub_tokens() -> Check:
    names = [name for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN", "OFFLINE_KIT_HUB_TOKENS") if os.environ.get(name)]
    try:
        if not names and get_token():
            names = ["that of 'hf auth login'"]
    except (OSError, ValueError) as error:
        return Check("hub tokens", WARNING, f"cannot be read: {error}", "'hf auth login' again")
    return Check("hub tokens", OK, ", ".join(names) or "none", "" if names else "gated models need HF_TOKEN")
