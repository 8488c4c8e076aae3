"""Single programs of later Debian suites, unpacked beside, installed nowhere; the rules of `engines` hold."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.testbed import cache, engines
from tests.testbed.process import run


def unpacked(suite: str, package: str, program: str) -> Path:
    """The file `program` (its path in the package) of a package of a suite; fetched when the cache lacks it."""

    def make(target: Path) -> None:
        work = target / "work"
        apt = engines.apt(suite, work)
        run(["apt-get", "update", "-qq", "--error-on=any"], env=apt)
        run(["apt-get", "download", "-qq", package], env=apt, cwd=work)
        (found,) = work.glob("*.deb")
        run(["dpkg-deb", "--extract", str(found), str(work / "root")])
        shutil.copy2(work / "root" / program, target / Path(program).name)
        shutil.rmtree(work)

    return cache.entry(f"program-{package}-{suite}", cache.key_of("1", suite, package, program), make) / Path(program).name
