"""The configuration rehearsal: every model of a kit, read by the vLLM of its own engine image.

Rules: what is decided is decided inside (``runtime.rehearsal.configuration``), here it is run and told; every finding is
told, a line each with a remedy; a model of which nothing was heard is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import docker

from offline_kit.common.errors import RehearsalFailed
from offline_kit.common.progress import Progress
from offline_kit.rehearsal.answers import Answer, Failed, read_lines
from offline_kit.rehearsal.attempts import places, tell
from offline_kit.rehearsal.containers import RUNTIME, Ran, captured
from offline_kit.rehearsal.engine_image import WHERE
from offline_kit.rehearsal.reasons import reason

_COMMAND = ("python3", "-m", "runtime.rehearsal.configuration")
_REMEDY = "correct the model's entry in models.json, or carry an engine image that takes it"
_FIRST, _EACH = 600.0, 300.0  # seconds: to load vLLM, and for each model


def rehearse_configuration(
    engine: docker.DockerClient, image: str, kit: Path, keys: Sequence[str], work: Path, progress: Progress
) -> dict[str, dict[str, str]]:
    """Model -> step -> what came of it. ``work``: a folder that Docker can see. Raises RehearsalFailed with every finding."""
    resolver = work / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n", encoding="ascii")
    resolver.chmod(0o644)
    seen = {
        "models": ("/models", "/app/models", "/kit/models"),
        "runtime": (RUNTIME,),
        **{name: (f"/kit/{name}",) for name in ("config", "deploy", "bundle.json")},
    }
    mounts = [f"{kit}/{name}:{inside}:ro" for name, folders in seen.items() for inside in folders]
    environment = {
        "PYTHONPATH": str(Path(RUNTIME).parent), "PYTHONDONTWRITEBYTECODE": "1",
        "NVIDIA_VISIBLE_DEVICES": "void",
    }  # fmt: skip
    progress.note(f"rehearsing the configuration of {', '.join(keys)}")
    with captured(engine, image, kit, resolver) as running:
        ran = running.run(_COMMAND, mounts=mounts, environment=environment, seconds=_FIRST + _EACH * len(keys))
    answers = read_lines(ran.output, Answer)
    heard = {answer.model: answer for answer in answers if answer.model in keys}
    models = {answer.pid: key for key, answer in heard.items()}
    found = [*_failures(heard, keys, ran), *tell(running.attempts, places(answers), models, "engine")]
    if found:
        raise RehearsalFailed("\n".join(["found what would not work on the host:", *found]), where=WHERE)
    return {key: heard[key].done for key in keys}


def _failures(heard: Mapping[str, Answer], keys: Sequence[str], ran: Ran) -> Iterator[str]:
    for key in keys:
        failed = heard[key].failed if key in heard else Failed(step="start", error=_last(ran), log=ran.errors)
        if failed:
            known = reason(f"{failed.log}\n{failed.error}")
            yield f"{key}: {failed.step}: {f'{known} ({failed.error})' if known else f'{failed.error} -> {_REMEDY}'}"


def _last(ran: Ran) -> str:
    lines = [line.strip() for line in ran.errors.splitlines() if line.strip()]
    return f"exit code {ran.code}: {lines[-1][:300] if lines else 'it said nothing'}"
