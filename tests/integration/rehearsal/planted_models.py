"""Models and an engine image that download something, each at another time: what a rehearsal has to find.

Rules: each is the tiny chat model, or the engine image of the testbed, with one thing added; names end in .invalid and
addresses are of documentation (RFC 5737): nobody can answer.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.testbed.dockerd import Dockerd

CODE_NAME, TOKENIZER_ADDRESS, REQUEST_ADDRESS, START_NAME = (
    "weights.invalid",
    "198.51.100.7:443",
    "203.0.113.8:80",
    "kernels.invalid",
)
REPOSITORY, ELSEWHERE_NAME = "acme/Planted-1.5", "elsewhere.invalid"
CONFIGURATION = f"""
import urllib.request
from transformers import Qwen2Config
try:
    urllib.request.urlopen("http://{CODE_NAME}/more", timeout=20)
except OSError:
    pass
class PlantedConfig(Qwen2Config):
    pass
"""
TOKENIZER = """
import socket, subprocess, sys
from transformers import PreTrainedTokenizerFast
class PlantedTokenizer(PreTrainedTokenizerFast):
    def __init__(self, *words, **named):
        super().__init__(*words, **named)
        @INIT@
    def encode(self, *words, **named):
        self.ask()
        return super().encode(*words, **named)
    def __call__(self, *words, **named):
        self.ask()
        return super().__call__(*words, **named)
    def ask(self):
        @ASK@
"""
INIT = """try:
            socket.create_connection(("198.51.100.7", 443), 20)
        except OSError:
            pass"""
# a program of its own, as code does that calls git, curl or a compiler
ASK = """subprocess.run([sys.executable, "-c", "import socket; socket.create_connection(('203.0.113.8', 80), 20)"])"""
# by the engine alone, not by whoever tries its configuration
ASK_SERVED = f"if sys.argv[0].endswith('/vllm'): {ASK}"
SITECUSTOMIZE = f"""
import socket
try:
    socket.getaddrinfo("{START_NAME}", 443)
except OSError:
    pass
"""


# by vllm itself, not by every Python
AT_START = f"if b'/vllm' in open('/proc/self/cmdline', 'rb').read():{SITECUSTOMIZE.replace(chr(10), chr(10) + '    ')}\n"


def with_code(chat: Path, folder: Path) -> Path:
    """The chat model whose configuration asks for a name when it is imported."""
    return _planted(chat, folder, "config.json", {"AutoConfig": "configuration_planted.PlantedConfig"}, CONFIGURATION)


def with_code_elsewhere(chat: Path, folder: Path) -> tuple[Path, Path]:
    """The same from another repository, acme/Planted-1.5: the model's folder, and that of the repository."""
    text = CONFIGURATION.replace(CODE_NAME, ELSEWHERE_NAME).replace("PlantedConfig", "ElsewhereConfig")
    _planted(chat, folder / "model", "config.json", {"AutoConfig": f"{REPOSITORY}--configuration_far.ElsewhereConfig"}, "")
    (folder / "code").mkdir()
    (folder / "code/configuration_far.py").write_text(f"from .helpers import NOTHING{text}")
    (folder / "code/helpers.py").write_text("NOTHING = None\n")
    return folder / "model", folder / "code"


def with_tokenizer(chat: Path, folder: Path) -> Path:
    """The chat model whose tokenizer connects to an address when it is made."""
    text = TOKENIZER.replace("@INIT@", INIT).replace("@ASK@", "pass")
    return _with_tokenizer(chat, folder, text)


def with_request(chat: Path, folder: Path) -> Path:
    """The chat model whose tokenizer starts a program that connects, at the first text."""
    text = TOKENIZER.replace("@INIT@", "pass").replace("@ASK@", ASK)
    return _with_tokenizer(chat, folder, text)


def with_served_request(chat: Path, folder: Path) -> Path:
    """The same in a running engine alone."""
    return _with_tokenizer(chat, folder, TOKENIZER.replace("@INIT@", "pass").replace("@ASK@", ASK_SERVED))


def build_image(dockerd: Dockerd, base: str, image: str, text: str, folder: Path) -> None:
    """The image ``base`` with ``text`` as what Python runs when it starts, pushed as ``image``."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(text)
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY sitecustomize.py /etc/python3.11/sitecustomize.py\n")
    dockerd.docker("build", "--quiet", "--tag", image, str(folder))
    dockerd.docker("push", "--quiet", image)


def _with_tokenizer(chat: Path, folder: Path, text: str) -> Path:
    return _planted(
        chat, folder, "tokenizer_config.json", {"AutoTokenizer": [None, "tokenization_planted.PlantedTokenizer"]}, text
    )


def _planted(chat: Path, folder: Path, name: str, auto_map: dict[str, Any], text: str) -> Path:
    shutil.copytree(chat, folder)
    data = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**data, "auto_map": auto_map}))
    module = next(iter(auto_map.values()))
    module = (module if isinstance(module, str) else module[1]).partition(".")[0]
    if text:
        (folder / f"{module}.py").write_text(text)
    return folder
