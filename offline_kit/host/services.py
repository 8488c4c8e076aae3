"""The configuration that a bundle will carry, checked before anything is downloaded.

Rules: the same code checks it here and on the host (``runtime.config``, ``runtime.plan``); every mistake is one line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from offline_kit.errors import SpecError
from offline_kit.runtime import config, plan
from offline_kit.runtime.records import ConfigError, Mistake, Settings
from offline_kit.runtime.replicas import spread
from offline_kit.spec.manifest import Accelerator


def check_services(files: Mapping[str, bytes], models: Collection[str], accelerator: Accelerator) -> Settings:
    """The settings in ``files`` (models.json, vllm_config.yaml) for a kit with these ``models``. Raises SpecError."""
    try:
        settings = config.load(
            _text(files, "models.json"), _text(files, "vllm_config.yaml"), folders=models, device=accelerator
        )
        asked, mistakes = spread(settings)
        mistakes = mistakes or plan.place(asked)[1]
        if mistakes:
            raise ConfigError(mistakes)
    except ConfigError as error:
        raise SpecError(str(error)) from error
    return settings


def _text(files: Mapping[str, bytes], name: str) -> str:
    try:
        return files[name].decode("utf-8")
    except UnicodeDecodeError as error:
        line = files[name][: error.start].count(b"\n") + 1
        raise ConfigError([Mistake(f"config/{name}, line {line}", "", "is not UTF-8 text", "save it as UTF-8")]) from error
