"""One engine: models.json and vllm_config.yaml to the command line of ``vllm serve``, which this process then becomes.

Rules: ``argv`` and ``environment`` are pure; the more particular wins (parsers found at build < vllm_config.yaml < fields of
the model < its engine_args); nothing may ask a network; what vLLM would report in a misleading way is checked before it starts.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from . import code_repositories, parsers
from .settings import load
from .settings.model import ConfigError, Model, Settings

CONFIG = "/etc/offline-kit/config"
CACHE = "/var/lib/offline-kit/cache"
PORT = 8000
VOCABULARY = "o200k_base.tiktoken"
_BY_TYPE: Dict[str, Dict[str, Any]] = {
    "chat": {},
    "embedding": {"runner": "pooling", "convert": "embed"},
    "rerank": {"runner": "pooling", "convert": "classify"},
}
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "FLASHINFER_NO_DOWNLOAD": "1",
}


def argv(settings: Settings, key: str, socket: Optional[str] = None) -> List[str]:
    """The command that serves the model ``key``, on all addresses or on the Unix socket ``socket``. Raises KeyError."""
    model = settings.model(key)
    place = ["--uds", socket] if socket else ["--host", "0.0.0.0", "--port", str(PORT)]
    words = ["vllm", "serve", model.path, *place, "--served-model-name", model.name]
    for flag, value in merged(settings, model).items():
        words += _words(flag, value)
    return words


def merged(settings: Settings, model: Model) -> Dict[str, Any]:
    """All engine arguments of ``model`` by kebab-case name, sorted."""
    fields = {
        "tensor-parallel-size": model.tensor_parallel_size,
        "gpu-memory-utilization": model.gpu_memory_utilization,
        "max-model-len": model.max_model_len,
        "dtype": model.dtype,
    }
    every = parsers.with_defaults(model, {**_BY_TYPE[model.type], **settings.common, **fields, **model.engine_args})
    return {flag: every[flag] for flag in sorted(every)}


def _words(flag: str, value: Any) -> List[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, list):
        return [f"--{flag}", *map(_word, value)] if value else []
    if isinstance(value, dict):
        return [f"--{flag}", _word(value)]
    # One word, so that a value that begins with a dash is not taken for a flag.
    return [f"--{flag}={value}"]


def _word(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)


def environment(base: Mapping[str, str], device: str, cache: str = CACHE, *, compiler: bool = True) -> Dict[str, str]:
    """``base`` with what an engine needs: offline, and everything that it writes below ``cache``.

    ``compiler``: whether the image has one for C++.
    """
    result = {**base, **_OFFLINE, "HOME": cache, "VLLM_CACHE_ROOT": f"{cache}/vllm"}
    result.update({"XDG_CACHE_HOME": f"{cache}/xdg", "TRITON_CACHE_DIR": f"{cache}/triton", "HF_HOME": f"{cache}/huggingface"})
    # An image may have set it: other repositories' code is put there.
    result["HF_HUB_CACHE"] = f"{cache}/{code_repositories.CACHE}"
    # getpass fails for a user without an entry in /etc/passwd, and torch asks it.
    result.update({"USER": "engine", "LOGNAME": "engine"})
    if device == "cpu":
        # One process instead of two: on a CPU the second costs memory and start time, and isolates nothing.
        result.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        if not compiler:
            # Whatever torch would compile at its first use (log probabilities, sampling), and die of, runs as it is written.
            result.setdefault("TORCH_COMPILE_DISABLE", "1")
    # It led python3 to this package; vLLM shall not see the kit's folders as modules.
    result.pop("PYTHONPATH", None)
    return result


def vocabularies(folder: str) -> Dict[str, str]:
    """Where openai_harmony (gpt-oss) finds its vocabulary instead of fetching it: beside the model that needs it."""
    return {"TIKTOKEN_ENCODINGS_BASE": folder} if (Path(folder) / VOCABULARY).is_file() else {}


def seed(source: Optional[str], target: Path) -> None:
    """Copies what the image prepared in its own cache folder into the writable one, file by file where missing."""
    if not source or not Path(source).is_dir() or Path(source) == target:
        return
    for path in sorted(Path(source).rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(path), str(copy))


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.serve", description="Become the engine of one model.")
    parser.add_argument("key", metavar="KEY", help="the model's key in models.json")
    parser.add_argument(
        "--config", default=CONFIG, metavar="DIR", help="folder of models.json and vllm_config.yaml (%(default)s)"
    )
    parser.add_argument("--socket", metavar="PATH", help="listen on this Unix socket alone")
    parser.add_argument("--cache", default=CACHE, metavar="DIR", help="folder that it may write (%(default)s)")
    parser.add_argument("--print", action="store_true", help="print the command and exit")
    parser.add_argument("--command", nargs=argparse.REMAINDER, help="this command instead of that of the configuration")
    options = parser.parse_args(arguments)
    if options.command:
        return become(options.key, options.command, options.cache)
    try:
        folder = Path(options.config)
        settings = load.load_settings(
            (folder / "models.json").read_text("utf-8"), (folder / "vllm_config.yaml").read_text("utf-8")
        )
        settings = parsers.of_container(settings, options.key, os.environ)
        command = argv(settings, options.key, options.socket)
        model = settings.model(options.key)
        if not options.print:
            code_repositories.provide(model, Path(options.cache, code_repositories.CACHE))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    except KeyError:
        print(
            f"config/models.json: models: there is no '{options.key}' -> run deploy.sh restart after an edit", file=sys.stderr
        )
        return 3
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    if options.print:
        print(shlex.join(command))
        return 0
    return become(options.key, command, options.cache)


def become(key: str, command: List[str], cache: str) -> int:
    """Replaces this process by ``command`` (``vllm serve PATH ...``), the engine ``key``; returns only where it cannot."""
    path = command[2]
    if not any((Path(path) / name).is_file() for name in ("config.json", "params.json")):
        what = "has no config.json" if Path(path).is_dir() else "does not exist"
        print(f"{path[1:]}: the folder of '{key}' {what} or cannot be read -> unpack the bundle again", file=sys.stderr)
        return 3
    compiler = any(shutil.which(name) for name in ("g++", "clang++"))
    device = os.environ.get("OFFLINE_KIT_DEVICE", "nvidia")
    env = environment({**vocabularies(path), **os.environ}, device, cache, compiler=compiler)
    seed(os.environ.get("VLLM_CACHE_ROOT"), Path(env["VLLM_CACHE_ROOT"]))
    print(f"serving {key}: {shlex.join(command)}", file=sys.stderr, flush=True)
    try:
        os.execvpe(command[0], command, env)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}: this image has no vLLM", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
