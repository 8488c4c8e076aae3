"""What the containers of a kit have in common.

Rules: an image by the kit's own tag, never pulled; unprivileged, without capabilities, on a read-only root; processes, memory
and core dumps are limited; logs that cannot fill a disk.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, Mapping


@dataclass(frozen=True)
class Kit:
    """What the bundle says about itself, whom its services run as, and what on the host decides about them."""

    name: str
    version: str
    images: Mapping[str, str]  # key -> tag, of all images that the kit carries
    user: str = "10001:10001"
    certificate: bool = False
    watched: str = ""  # a digest of config/monitoring/, so that an edit there recreates what reads it
    memory: str = ""  # what an engine may take at most, as Docker writes it, where the operator says nothing


def common(kit: Kit, image: str, memory: str, pids: int = 512) -> Dict[str, Any]:
    """The part of a service that all have.

    ``image``: its key in the kit; ``memory``: what it may take at most, as Docker writes it; empty: what the host has.
    """
    return {
        "image": kit.images[image],
        "pull_policy": "never",
        "user": kit.user,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        # No fault or client of one service may take what the others of the host live on.
        "pids_limit": pids,
        "ulimits": {"core": 0},
        **({"mem_limit": memory} if memory else {}),
        # Without this, an unknown name is asked of the host's name servers, which an air gap answers with a long silence.
        "dns": ["127.0.0.1"],
        "logging": {"driver": "json-file", "options": {"max-size": "50m", "max-file": "5"}},
        "labels": {"offline-kit.kit": kit.name, "offline-kit.version": kit.version},
    }


def bind(source: str, target: str, *, read_only: bool = True) -> Dict[str, Any]:
    """A folder of the host (``./`` is the kit) inside a container."""
    return {"type": "bind", "source": source, "target": target, "read_only": read_only}


def publish(address: str, port: int, inside: int) -> str:
    """A port of a container (``inside``) as the host publishes it."""
    return f"{f'[{address}]' if ':' in address else address}:{port}:{inside}"


def digest(data: Any) -> str:
    """Twelve digits that change when ``data`` does: as a label they make Compose recreate a service."""
    return hashlib.sha256(json.dumps(data).encode("utf-8")).hexdigest()[:12]
