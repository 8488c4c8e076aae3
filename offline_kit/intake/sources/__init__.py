"""Where images and models come from: one module a source, one table by scheme."""

from __future__ import annotations

from offline_kit.intake.sources.base import ImageSource, ModelSource
from offline_kit.intake.sources.daemon import DaemonSource
from offline_kit.intake.sources.hub import HubSource
from offline_kit.intake.sources.local import FolderSource
from offline_kit.intake.sources.modelscope import ModelScopeSource
from offline_kit.intake.sources.registry import RegistrySource

IMAGES: dict[str, ImageSource] = {"docker": RegistrySource(), "docker-daemon": DaemonSource()}
MODELS: dict[str, ModelSource] = {"hf": HubSource(), "modelscope": ModelScopeSource(), "dir": FolderSource()}
