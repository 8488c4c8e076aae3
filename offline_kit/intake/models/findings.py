"""What keeps a model from being served, told before its weights are fetched.

Rules: a finding is refused where no engine can start with it, warned of where only somebody who knows the model can tell; each
has its remedy; nothing is said of what is not known (a lock of an earlier version, an engine image that was not read). Each
service is held against its model's files and needs, and against the engine image. vLLM's rules are those of 0.33:
``config/model.py`` (suffixes of architectures), ``transformers_utils/repo_utils.py`` (forms of weights).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from offline_kit.intake.models import adapter_findings, code_findings, engine_findings, file_findings, type_findings
from offline_kit.intake.models.engine_findings import Finding
from offline_kit.intake.models.service import Service
from offline_kit.spec.lock import Lock

__all__ = ["Finding", "Service", "empty_images", "find", "unserved"]


def find(lock: Lock, services: Iterable[Service]) -> list[Finding]:
    """Everything that speaks against serving these services from this lock."""
    engine = lock.images["engine"].engine if "engine" in lock.images else None
    found = list(engine_findings.of_image(engine, lock.accelerator))
    served = list(services)
    for service in served:
        model = lock.models.get(service.model)
        if model is not None:
            needs = service.needs(model)
            where = f"{service.key} ({model.source})"
            files = service.files(model)
            found += file_findings.of_files(where, files, needs, service.args)
            found += engine_findings.of_forms(service.key, {file.path for file in files}, service.args, engine)
            found += engine_findings.of_service(service.key, service.args, needs, engine)
            found += adapter_findings.of_named(service.key, service.args, lock, model)
            draft = adapter_findings.draft_of(service.args, lock)
            if draft is not None and draft.needs is not None:
                found += engine_findings.of_draft(service.key, draft.needs, engine)
            if needs is not None:
                found += code_findings.of_code(service, model, needs, lock)
                found += type_findings.of_configuration(service, model, needs)
                found += type_findings.of_type(service, model, needs)
    found += unserved(lock.models, served)
    return found


def empty_images(lock: Lock) -> Iterator[Finding]:
    """Images without layers: a configuration alone, which the host's check refuses."""
    for key, image in sorted(lock.images.items()):
        if not image.layers:
            remedy = "name the image that was meant: this one cannot be installed"
            yield Finding(False, f"images.{key} ({image.source})", "has no layers, and so no program", remedy)


def unserved(models: Iterable[str], services: Sequence[Service]) -> Iterator[Finding]:
    """Those of the models, by key, that travel and are neither served nor named by one that is."""
    named = " ".join(str(service.args) for service in services)
    for key in sorted(set(models) - {key for service in services for key in (service.model, *service.code_models)}):
        if f"/models/{key}" not in named:
            entry = f'"{key}": {{"name": "{key}", "path": "/models/{key}", "type": "chat", "port": PORT, ...}}'
            remedy = f"add {entry} to models.json (docs/models.md has the fields), or take it out of the manifest"
            yield Finding(False, key, "is carried, and no entry of models.json serves it", remedy)
