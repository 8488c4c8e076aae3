"""The start rehearsal alone, of the kit in a folder: ``python -m tests.integration.rehearsal.start_kit KIT WORK``.

A process of its own, because it has to run in the network namespace of the Docker that it uses.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from offline_kit.bundle.read.configuration import read_configuration
from offline_kit.bundle.read.inspect import read_head
from offline_kit.common.docker_engine import docker_engine
from offline_kit.common.progress import Silent
from offline_kit.host.validate import check_services
from offline_kit.rehearsal.engine_image import engine_image
from offline_kit.rehearsal.start import rehearse_start
from offline_kit.rehearsal.throwaway import make_throwaway


def main(kit: Path, work: Path) -> None:
    lock = read_head(kit).lock
    contents, config = read_configuration(kit)
    services = check_services(config, contents.models, lock.accelerator)
    (work / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    with docker_engine("test", "") as engine, engine_image(engine, kit, lock.images["engine"], Silent()) as tag:
        throwaway = make_throwaway(kit, lock, services, work, work / "resolv.conf")
        print(json.dumps(rehearse_start(engine, tag, throwaway, lock, services, work, Silent())))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
