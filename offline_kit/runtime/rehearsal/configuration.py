"""What vLLM makes of each model's command line and of one request, without a GPU and without weights.

Rules: everything is asked of the image's own vLLM, with the command that ``serve`` would run; a process of its own for each
model, so that one cannot spoil the next; the answer is a line of JSON a model on the stdout that this began with (vLLM writes
logs on stdout, too); what cannot be done here (an engine's whole configuration needs its GPU) is said, and nothing is called
done that was not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from .. import code_repositories, kit, serve
from ..settings.model import ConfigError, Model, Settings
from ..smoke import DOCUMENTS
from .attempts import Attempts
from .structured_outputs import try_backends

QUESTION = "What is the capital of France?"
_LOG_KEPT = 20_000  # bytes of what vLLM said, passed on after a failure
# Where vLLM has had these, newest first.
_PLACES = {
    "make_arg_parser": ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"),
    "FlexibleArgumentParser": ("vllm.utils.argparse_utils", "vllm.utils"),
    "validate_parsed_serve_args": ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"),
    "validate_api_server_args": ("vllm.entrypoints.launchers.launcher", "vllm.entrypoints.openai.api_server"),
    "AsyncEngineArgs": ("vllm.engine.arg_utils",),
    "UsageContext": ("vllm.usage.usage_lib",),
    "current_platform": ("vllm.platforms",),
    "cached_tokenizer_from_config": ("vllm.tokenizers.registry", "vllm.tokenizers", "vllm.transformers_utils.tokenizer"),
    "init_tokenizer_from_configs": ("vllm.transformers_utils.tokenizer",),
    "MULTIMODAL_REGISTRY": ("vllm.multimodal",),
    "load_chat_template": ("vllm.renderers.chat_utils", "vllm.entrypoints.chat_utils"),
    "resolve_chat_template": ("vllm.renderers.hf",),
    "get_encoding": ("vllm.entrypoints.openai.parser.harmony_utils", "vllm.entrypoints.harmony_utils"),
}


class Rehearsal:
    """One model; ``done``: step -> what came of it, in the order of the steps."""

    def __init__(self, settings: Settings, model: Model, attempts: Attempts) -> None:
        self._settings, self._model, self._attempts = settings, model, attempts
        self._engine: Any = None  # vLLM's configuration of the whole engine, where it could be made
        self.done: Dict[str, str] = {}

    def run(self) -> None:
        """Every step up to the first that fails, with its exception."""
        self._step("arguments")
        arguments = self._arguments()
        self.done["arguments"] = "accepted"
        self._step("configuration")
        config = self._configure(arguments)
        self._step("tokenizer")
        tokenizer = self._tokenizer(config)
        self.done["tokenizer"] = type(tokenizer).__name__ if tokenizer is not None else "none, as the arguments say"
        if getattr(config, "is_multimodal_model", False):
            self._step("processor")
            self.done["processor"] = type(_vllm("MULTIMODAL_REGISTRY").create_processor(config)).__name__
        if tokenizer is None:
            return
        text: Any = DOCUMENTS[0]
        if self._model.type == "chat":
            self._step("template")
            text = self._render(config, tokenizer, arguments)
            self.done["template"] = "rendered"
        self._step("request")
        self.done["request"] = f"{_count(tokenizer, text, config.max_model_len)} tokens"
        if self._model.type == "chat" and self._engine is not None:
            self._step("structured outputs")
            self.done["structured outputs"] = try_backends(self._engine, tokenizer)

    def _step(self, name: str) -> None:
        self._attempts.step = name

    def _arguments(self) -> Any:
        parser = _vllm("make_arg_parser")(_vllm("FlexibleArgumentParser")(prog="vllm serve"))
        arguments = parser.parse_args(serve.argv(self._settings, self._model.key)[2:])
        arguments.model = arguments.model_tag
        for name in ("validate_parsed_serve_args", "validate_api_server_args"):
            check = _vllm(name, needed=False)
            if check is not None:
                check(arguments)
        return arguments

    def _configure(self, arguments: Any) -> Any:
        """vLLM's own configuration of the model, as part of the engine's where this machine has what that asks for."""
        engine = _vllm("AsyncEngineArgs").from_cli_args(arguments)
        if _vllm("current_platform").is_unspecified():
            config, made = engine.create_model_config(), "of the model; the engine's needs its GPU"
        else:
            self._engine = engine.create_engine_config(usage_context=_vllm("UsageContext").OPENAI_API_SERVER)
            config, made = self._engine.model_config, "made"
        config.get_diff_sampling_param()
        self.done["configuration"] = made
        return config

    def _tokenizer(self, config: Any) -> Any:
        if config.skip_tokenizer_init:
            return None
        if getattr(config.hf_config, "model_type", "") == "gpt_oss":
            _vllm("get_encoding")()  # what it answers in has a vocabulary of its own, which some images fetch
        make = _vllm("cached_tokenizer_from_config", needed=False) or _vllm("init_tokenizer_from_configs")
        return make(config)

    def _render(self, config: Any, tokenizer: Any, arguments: Any) -> Any:
        conversation = [{"role": "user", "content": QUESTION}]
        template = _vllm("load_chat_template")(arguments.chat_template)
        if not hasattr(tokenizer, "get_chat_template"):  # a tokenizer of vLLM's own, which has its template in it
            return tokenizer.apply_chat_template(conversation)
        resolve = _vllm("resolve_chat_template", needed=False)
        if resolve is not None:
            template = resolve(tokenizer, template, None, model_config=config)
        return tokenizer.apply_chat_template(conversation, chat_template=template, tokenize=False, add_generation_prompt=True)


def _count(tokenizer: Any, text: Any, longest: int) -> int:
    tokens = text if isinstance(text, list) else tokenizer.encode(text)
    if not tokens:
        raise ValueError("the tokenizer made no token of a sentence")
    if len(tokens) >= longest:
        raise ValueError(f"a sentence becomes {len(tokens)} tokens, and max_model_len is {longest}")
    return len(tokens)


def _vllm(name: str, *, needed: bool = True) -> Any:
    """Something of the image's vLLM, wherever that has it."""
    for place in _PLACES[name]:
        try:
            found = getattr(importlib.import_module(place), name, None)
        except ModuleNotFoundError as error:
            if error.name is None or not (place + ".").startswith(error.name + "."):
                raise  # it is there, and lacks something
            continue
        if found is not None:
            return found
    if needed:
        raise ImportError(f"this image's vLLM has no {name} where it is looked for ({', '.join(_PLACES[name])})")
    return None


def rehearse(settings: Settings, key: str, attempts: Attempts, answer: int) -> int:
    """Runs in a process of its own: the model's line of JSON to the descriptor ``answer``. Returns its exit code."""
    attempts.found.clear()
    failed: Optional[Dict[str, str]] = None
    with tempfile.TemporaryFile() as log:
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        rehearsal = Rehearsal(settings, settings.model(key), attempts)
        try:
            rehearsal.run()
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever an image's code raises is what is asked for
            if not isinstance(error, SystemExit):  # argparse has said what is wrong, and only that
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_KEPT))
            said = log.read().decode("utf-8", "replace")
            failed = {"step": attempts.step, "error": _last_words(error, said), "log": said}
    line = {"model": key, "pid": os.getpid(), "done": rehearsal.done, "failed": failed, "asked": attempts.found}
    os.write(answer, (json.dumps(line) + "\n").encode())
    return 0 if failed is None else 1


def _surround(base: Mapping[str, str], device: str) -> None:
    """Gives this process the environment that ``serve`` gives an engine."""
    env = serve.environment(base, device)
    os.environ.clear()
    os.environ.update(env)


def _last_words(error: BaseException, said: str) -> str:
    """What went wrong in one line: argparse says it on stderr and exits."""
    if isinstance(error, SystemExit):
        lines = [line for line in said.splitlines() if "error:" in line]
        return (lines or ["it exited with " + str(error.code)])[-1].strip()[:500]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}"[:500]


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.rehearsal.configuration", description="Rehearse every model.")
    parser.add_argument("--kit", default="/kit", type=Path, metavar="DIR", help="the kit as mounted (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        settings, _ = kit.read(options.kit, need_key=False)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 3
    attempts = Attempts()
    attempts.watch()
    seeded, given = os.environ.get("VLLM_CACHE_ROOT"), dict(os.environ)
    _surround({**given, **settings.environment}, settings.device)
    serve.seed(seeded, Path(os.environ["VLLM_CACHE_ROOT"]))
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        importlib.import_module("vllm.engine.arg_utils")  # once: every model's process has it then
    except ImportError:
        traceback.print_exc()  # each model says the same
    codes = []
    for model in settings.models:
        child = os.fork()
        if child == 0:
            own = {**settings.environment, **model.environment}
            _surround({**serve.vocabularies(model.path), **given, **own}, settings.device)
            code_repositories.provide(model, Path(os.environ["HF_HUB_CACHE"]))
            os._exit(rehearse(settings, model.key, attempts, answer))
        codes.append(os.waitpid(child, 0)[1])
        if os.WIFSIGNALED(codes[-1]):
            said = {"step": "start", "error": f"exit code {128 + os.WTERMSIG(codes[-1])}", "log": ""}
            line = {"model": model.key, "pid": child, "done": {}, "failed": said, "asked": []}
            os.write(answer, (json.dumps(line) + "\n").encode())
    os.write(answer, (json.dumps({"start": attempts.found, "pid": os.getpid()}) + "\n").encode())
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
