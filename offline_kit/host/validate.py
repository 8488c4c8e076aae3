"""The configuration that a bundle will carry, checked before anything is downloaded.

Rules: the same code checks it here and on the host (``runtime.settings``); every mistake is one line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from offline_kit.common.errors import SpecError
from offline_kit.runtime.settings import load, placement
from offline_kit.runtime.settings.model import ConfigError, Mistake, Settings
from offline_kit.runtime.settings.replicas import expand_replicas
from offline_kit.spec.manifest import Accelerator


@dataclass(frozen=True)
class Services:
    """What a configuration says, and where each of its engines runs."""

    settings: Settings
    placement: placement.Placement


def check_services(files: Mapping[str, bytes], models: Collection[str], accelerator: Accelerator) -> Services:
    """The services in ``files`` (models.json, vllm_config.yaml, environment.yaml) of a kit with these ``models``.

    Raises SpecError.
    """
    try:
        settings = load.load_settings(
            _text(files, "models.json"),
            _text(files, "vllm_config.yaml"),
            folders=models,
            device=accelerator,
            environment_yaml=_text(files, "environment.yaml") if "environment.yaml" in files else "",
        )
        asked, mistakes = expand_replicas(settings)
        _refuse(mistakes)  # where shares of GPUs are missing already, a placement can only say so once more
        placed, mistakes = placement.place(asked)
        _refuse(mistakes)
    except ConfigError as error:
        raise SpecError(str(error)) from error
    return Services(settings, placed)


def _refuse(mistakes: Sequence[Mistake]) -> None:
    if mistakes:
        raise ConfigError(mistakes)


def _text(files: Mapping[str, bytes], name: str) -> str:
    try:
        return files[name].decode("utf-8")
    except UnicodeDecodeError as error:
        line = files[name][: error.start].count(b"\n") + 1
        raise ConfigError([Mistake(f"config/{name}, line {line}", "", "is not UTF-8 text", "save it as UTF-8")]) from error
