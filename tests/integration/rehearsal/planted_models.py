"""Models and an engine image that download something, each at another time: what a rehearsal has to find.

Rules: each is the tiny chat model, or the engine image of the testbed, with one thing added; names end in .invalid and
addresses are of documentation (RFC 5737): nobody can answer.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

CODE_NAME, TOKENIZER_ADDRESS, REQUEST_ADDRESS, START_NAME = (
    "weights.invalid",
    "198.51.100.7:443",
    "203.0.113.8:80",
    "kernels.invalid",
)
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
        @ENCODE@
        return super().encode(*words, **named)
"""
INIT = """try:
            socket.create_connection(("198.51.100.7", 443), 20)
        except OSError:
            pass"""
# a program of its own, as code does that calls git, curl or a compiler
ENCODE = """subprocess.run([sys.executable, "-c", "import socket; socket.create_connection(('203.0.113.8', 80), 20)"])"""
SITECUSTOMIZE = f"""
import socket
try:
    socket.getaddrinfo("{START_NAME}", 443)
except OSError:
    pass
"""


def with_code(chat: Path, folder: Path) -> Path:
    """The chat model whose configuration asks for a name when it is imported."""
    return _planted(chat, folder, "config.json", {"AutoConfig": "configuration_planted.PlantedConfig"}, CONFIGURATION)


def with_tokenizer(chat: Path, folder: Path) -> Path:
    """The chat model whose tokenizer connects to an address when it is made."""
    text = TOKENIZER.replace("@INIT@", INIT).replace("@ENCODE@", "pass")
    return _with_tokenizer(chat, folder, text)


def with_request(chat: Path, folder: Path) -> Path:
    """The chat model whose tokenizer starts a program that connects, at the first text."""
    text = TOKENIZER.replace("@INIT@", "pass").replace("@ENCODE@", ENCODE)
    return _with_tokenizer(chat, folder, text)


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
    (folder / f"{module}.py").write_text(text)
    return folder
