"""The rehearsal of a kit: what is carried is tried out here, with the network cut, and what was found refuses it.

Rules: the kit as it would be unpacked, its own configuration and its own engine image; a record is made only where nothing was
found; what needs a GPU and has none here is left out and said so.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.bundle.extract import extract
from offline_kit.bundle.read.configuration import read_configuration
from offline_kit.bundle.read.inspect import read_head
from offline_kit.bundle.verify.verify import verify
from offline_kit.common.digest import Digest
from offline_kit.common.docker_engine import docker_engine
from offline_kit.common.errors import BundleDamaged, SpecError
from offline_kit.common.progress import Progress
from offline_kit.host.validate import check_services
from offline_kit.rehearsal.configuration import rehearse_configuration
from offline_kit.rehearsal.engine_image import WHERE, engine_image
from offline_kit.rehearsal.start import rehearse_start
from offline_kit.rehearsal.throwaway import make_throwaway
from offline_kit.spec.lock import Lock
from offline_kit.spec.rehearsal import Extent, RehearsalRecord, summarize

_REMEDY = "start Docker, or set DOCKER_HOST to that of Docker or Podman on this machine; or leave the rehearsal out"


def rehearse_kit(
    kit: Path, lock: Lock, extent: Extent, work: Path, progress: Progress, *, dummy: bool = False
) -> RehearsalRecord:
    """Tries out the kit in the folder ``kit``; ``work``: an empty folder that Docker can see; ``extent``: start is both.

    ``dummy``: engines are started with random numbers for weights, as vLLM's load_format ``dummy`` makes them.

    Raises RehearsalFailed with every finding, DockerError, SpecError and DiskError.
    """
    engine = lock.images.get("engine")
    if engine is None:
        raise SpecError("has no engine image that could be tried", where="images.engine", remedy="name one in the manifest")
    if not (kit / "runtime/rehearsal").is_dir():
        what = "was made by an earlier offline-kit, and has nothing in it that a rehearsal runs"
        raise SpecError(what, where=str(kit), remedy="build it again, or rehearse its manifest")
    contents, config = read_configuration(kit)
    services = check_services(config, contents.models, lock.accelerator)
    keys = [model.key for model in services.settings.models]
    started: dict[str, str] = {}
    with docker_engine(WHERE, _REMEDY) as docker, engine_image(docker, kit, engine, progress) as tag:
        models = rehearse_configuration(docker, tag, kit, keys, work, progress)
        if extent == "start":
            throwaway = make_throwaway(kit, lock, services, work, work / "resolv.conf", dummy=dummy)
            started = rehearse_start(docker, tag, throwaway, lock, services, work, progress)
    partly = any("GPU" in steps.get("configuration", "") for steps in models.values())
    return RehearsalRecord(
        lock=Digest.of(lock.text().encode()),
        engine=engine.config.digest,
        vllm=engine.vllm or "",
        models=models,
        services=started,
        summary=summarize(len(models), engine.vllm or "", services=len(started), partly=partly, dummy=dummy),
    )


def kit_of(source: Path, work: Path, progress: Progress) -> tuple[Path, Lock]:
    """The kit in the folder or bundle ``source``, and its lock; a bundle is unpacked into ``work``.

    Raises BundleUnreadable, BundleDamaged, SpecError and DiskError.
    """
    if source.is_dir():
        kit = source.resolve()
        report = verify(kit, quick=True, progress=progress)
        if report.findings:
            first = report.findings[0]
            raise BundleDamaged(f"{first.where}: {first.what}", where=str(source), remedy="unpack the bundle again")
    else:
        kit, report = extract(source, work, progress=progress)
    if report.base:
        what = f"is a delta: without {report.base} there is nothing to try"
        raise SpecError(what, where=str(source), remedy="rehearse the manifest, or the kit that it completes to")
    return kit, read_head(kit).lock
