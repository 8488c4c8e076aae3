"""The folder from which ``docker build`` makes the unified image: a Dockerfile, and every file that it copies.

Rules: the image's /app is a kit's folder without images and scripts, so that the same reader reads it; a file of weights is a
layer of its own, since a layer that did not change is neither pushed nor pulled again; Docker allows 127 layers, so that many
files share them; no syntax that needs BuildKit; the bytes of a blob are a hard link where they can be; SHA256SUMS in /app names
every file of /app, for the proof of the finished image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.entries import Entry, small_entry, sums_text
from offline_kit.bundle.write.archive import PathOf
from offline_kit.bundle.write.kit_folder import lay_kit
from offline_kit.spec.lock import LockedImage
from offline_kit.spec.names import ImageReference, Source

SHARD = 64 << 20  # a smaller file shares the first layer
LAYERS = 64  # of weights at most: the engine image has its own
_CARRIED = (paths.BUNDLE, paths.LOCK, paths.KIT_ENV)
_DOCKERFILE = """\
# Written by offline-kit: one image that serves every model of config/models.json, alone.
# docker build --tag NAME:TAG .        another engine image: --build-arg BASE=IMAGE
ARG BASE={base}
FROM ${{BASE}}
LABEL org.opencontainers.image.title="offline-kit unified" \\
      org.opencontainers.image.version="{version}" \\
      io.offline-kit.models="{models}"
USER root
RUN mkdir -p /app/models /var/lib/offline-kit/cache && chmod 1777 /var/lib/offline-kit/cache \\
 && {{ rmdir /models 2>/dev/null || true; }} && ln -s /app/models /models
{copies}COPY lib/ /opt/offline-kit/
COPY app/ /app/
ENV PYTHONPATH=/opt/offline-kit
# Also as any other user, on a read-only root with a tmpfs on /tmp.
USER 10001:10001
WORKDIR /
EXPOSE {ports}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --retries=3 --start-period=3600s CMD \\
    python3 -I -S /opt/offline-kit/offline_kit/runtime/healthcheck.py 127.0.0.1 "${{VLLM_ROUTER_PORT:-8000}}" /health
ENTRYPOINT ["python3", "-m", "offline_kit.unified"]
"""


def lay_context(
    entries: Sequence[Entry],
    program: Mapping[str, bytes],
    path_of: PathOf,
    folder: Path,
    base: str,
    version: str,
    ports: Sequence[int],
    *,
    models: bool,
) -> None:
    """Writes the build context into ``folder``, which is made. Raises DiskError.

    ``entries``: those of the bundle; ``program``: what runs inside, by path below /opt/offline-kit; ``base``: the engine image.
    """
    weights = [entry for entry in entries if models and entry.path.startswith(f"{paths.MODELS}/")]
    small = [entry for entry in entries if entry.path in _CARRIED or _is_config(entry.path)]
    sums = small_entry(paths.SUMS, sums_text((entry.path, entry.digest) for entry in (*small, *weights)))
    layers = layers_of(weights)
    text = _DOCKERFILE.format(
        base=base,
        version=version,
        models="carried" if models else "none",
        copies="".join(f"COPY models/{number:03}/ /app/models/\n" for number in range(len(layers))),
        ports=" ".join(map(str, ports)),
    )
    laid = [small_entry("Dockerfile", text.encode())]
    laid += [replace(entry, path=f"app/{entry.path}") for entry in (*small, sums)]
    laid += [small_entry(f"lib/{path}", content) for path, content in program.items()]
    for number, layer in enumerate(layers):
        laid += [replace(entry, path=f"models/{number:03}/{entry.path.partition('/')[2]}") for entry in layer]
    lay_kit(laid, path_of, folder)


def layers_of(weights: Sequence[Entry]) -> list[list[Entry]]:
    """The files of the models by the layer that they are in: the small ones, then each large one, or several."""
    small = [entry for entry in weights if entry.size < SHARD]
    large = [entry for entry in weights if entry.size >= SHARD]
    number = min(len(large), LAYERS)
    shares = [large[len(large) * at // number : len(large) * (at + 1) // number] for at in range(number)]
    return [layer for layer in (small, *shares) if layer]


def base_of(image: LockedImage) -> str:
    """The engine image as ``FROM`` names it: by digest where a registry has it."""
    source = Source.parse(image.source, "image")
    if source.scheme != "docker":
        return source.rest
    reference = ImageReference.parse(source.rest)
    return f"{reference.registry}/{reference.repository}@{image.manifest.digest}"


def _is_config(path: str) -> bool:
    return path.startswith(f"{paths.CONFIG}/") and path.count("/") == 1
