"""The programs of a Kubernetes 1.20 node, built once from Debian's source and kept in the cache.

Rules: as in tests.testbed.engines: apt of our own, signatures checked, nothing installed; what is built follows from build.sh.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.testbed import cache
from tests.testbed.engines import apt
from tests.testbed.process import run

BUILD = Path(__file__).with_name("build.sh")
SUITE = "bookworm"
MINUTES = 60


def programs() -> Path:
    """The folder with ``bin/``, ``cni/`` and ``pause.tar``; made when the cache lacks it, in five minutes or more."""
    return cache.entry("kubernetes", cache.key_of(BUILD), _make)


def _make(target: Path) -> None:
    work = target / "work"
    environment = apt(SUITE, work)
    sources = work / "sources.list"
    sources.write_text(sources.read_text() + sources.read_text().replace("deb ", "deb-src ", 1))
    run(["apt-get", "update", "-qq", "--error-on=any"], env=environment)
    run(["nice", "-n", "19", "bash", str(BUILD), str(target), str(work / "go")], env=environment, timeout=MINUTES * 60)
    run(["chmod", "-R", "u+w", str(work)])  # Go makes its folders read-only
    shutil.rmtree(work)
