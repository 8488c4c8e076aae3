"""Which parsers of vLLM read the tool calls and the reasoning of a model, by its family and by the marks of its chat template.

Rules: pure; a parser is named only where the template itself shows the form that it reads, and the engine image knows it: a
model that never calls tools, or does not think, gets none, and an image that was not read says nothing. The forms are those of
vLLM 0.33, ``tool_parsers/`` and ``reasoning/``.
"""

from __future__ import annotations

from collections.abc import Iterable

from offline_kit.spec.lock import Lock
from offline_kit.spec.lock_facts import EngineFacts, ModelNeeds

# (beginning of model_type, mark in the template, parser): the first that fits and that the image knows
_TOOLS = (
    ("gpt_oss", "<|channel|>", "openai"),
    ("deepseek", "function<｜tool▁sep｜>", "deepseek_v3"),
    ("deepseek", "<｜tool▁call▁begin｜>", "deepseek_v31"),
    ("kimi_k2", "<|tool_calls_section_begin|>", "kimi_k2"),
    ("deepseek", "<|tool_calls_section_begin|>", "kimi_k2"),
    ("minimax", "<minimax:tool_call>", "minimax_m2"),
    ("glm4", "<arg_key>", "glm45"),
    ("seed_oss", "<seed:tool_call>", "seed_oss"),
    ("gemma4", "<|tool_call>", "gemma4"),
    ("qwen3", "<function=", "qwen3_coder"),
    ("nemotron", "<function=", "qwen3_coder"),
    ("llama4", "<|python_start|>", "llama4_pythonic"),
    ("llama", "<|python_tag|>", "llama3_json"),
    ("llama", "Environment: ipython", "llama3_json"),
    ("mistral", "[TOOL_CALLS]", "mistral"),
    ("ministral", "[TOOL_CALLS]", "mistral"),
    ("mixtral", "[TOOL_CALLS]", "mistral"),
    ("granite", "<|tool_call|>", "granite"),
    ("qwen", "<tool_call>", "hermes"),
    ("llama", "<tool_call>", "hermes"),
    ("mistral", "<tool_call>", "hermes"),
    ("smollm3", "<tool_call>", "hermes"),
)
_REASONING = (
    ("gpt_oss", "<|channel|>", "openai_gptoss"),
    ("minimax", "<think>", "minimax_m2"),
    ("seed_oss", "<seed:think>", "seed_oss"),
    ("gemma4", "enable_thinking", "gemma4"),
    ("glm4", "enable_thinking", "glm45"),
    ("qwen3", "enable_thinking", "qwen3"),
    ("deepseek", "thinking is defined", "deepseek_v3"),
    # the distilled ones: the template itself opens the thought
    ("deepseek", "<｜Assistant｜><think>", "deepseek_r1"),
    ("qwen2", "<｜Assistant｜><think>", "deepseek_r1"),
    ("llama", "<｜Assistant｜><think>", "deepseek_r1"),
)
MARKS = tuple(sorted({mark for _, mark, _ in (*_TOOLS, *_REASONING)}))
TOOLS, REASONING = "tool_call_parser", "reasoning_parser"  # arguments of vLLM, and fields of bundle.json


def marks_in(templates: Iterable[str]) -> tuple[str, ...]:
    """Which of MARKS stand in the chat templates of a model."""
    texts = list(templates)
    return tuple(mark for mark in MARKS if any(mark in text for text in texts))


def parsers_for(needs: ModelNeeds | None, engine: EngineFacts | None) -> dict[str, str]:
    """The parsers of one chat model, by argument; empty where none is known to fit."""
    if needs is None or engine is None:
        return {}
    found = {}
    for argument, rows, known in ((TOOLS, _TOOLS, engine.tool_parsers), (REASONING, _REASONING, engine.reasoning_parsers)):
        for family, mark, parser in rows:
            if needs.model_type.startswith(family) and mark in needs.template_marks and parser in known:
                found[argument] = parser
                break
    return found


def parsers_of(lock: Lock) -> dict[str, dict[str, str]]:
    """The parsers of each model that the lock knows some for, by its key."""
    image = lock.images.get("engine")
    found = {key: parsers_for(model.needs, image.engine if image else None) for key, model in lock.models.items()}
    return {key: parsers for key, parsers in found.items() if parsers}
