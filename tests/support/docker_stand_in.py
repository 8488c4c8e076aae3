"""A stand-in for the docker command where a script only asks it to run a module of the kit: the module runs on this machine.

Rules: it is a program in PATH; what is mounted is found where it would be mounted, below a folder of its own; nothing else is
mounted, so that what the module cannot see in a container it cannot see here; every other command of docker answers nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAM = f"""#!{sys.executable}
import os, shutil, subprocess, sys, tempfile
from pathlib import Path
words = sys.argv[1:]
with open({{log!r}}, "a") as log:
    print(*words, file=log)
if words[:1] != ["run"] or "-m" not in words:
    sys.exit(0)
if {{instead!r}}:
    sys.exit(subprocess.run([{{instead!r}}, *words], stdin=subprocess.DEVNULL).returncode)
mounts = [words[at + 1].split(":") for at, word in enumerate(words) if word == "-v"]
with tempfile.TemporaryDirectory() as root:
    for source, target, *_ in sorted(mounts, key=lambda mount: mount[1]):
        place = Path(root + target)
        if place.is_dir():
            place.rmdir()
        place.parent.mkdir(parents=True, exist_ok=True)
        if target == "/kit":
            shutil.copytree(source, place)
        else:
            place.symlink_to(source)
    targets = ["/kit", *(mount[1] for mount in mounts)]
    module = [root + word if word in targets else word for word in words[words.index("-m"):]]
    env = {{{{"PYTHONPATH": root + "/opt/offline-kit", "PYTHONDONTWRITEBYTECODE": "1"}}}}
    done = subprocess.run([sys.executable, *module], env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
Path({{answer!r}}).write_bytes(done.stdout)
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
"""


def docker(folder: Path, instead: str = "") -> Path:
    """Puts the program into ``folder``, which goes into PATH; ``folder``/docker.log gets its arguments, a line a call,
    ``folder``/docker.answer what the last module printed.

    ``instead``: a program that plays a hostile image; it gets the arguments of docker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "docker"
    program.write_text(PROGRAM.format(log=str(folder / "docker.log"), answer=str(folder / "docker.answer"), instead=instead))
    program.chmod(0o755)
    return program
