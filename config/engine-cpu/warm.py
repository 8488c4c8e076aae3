"""Makes the first start of an engine as quick as the second; runs once, while the CPU image is built.

Rules: (1) compile what a server imports by importing it, and nothing else: all bytecode would be 200 MB more;
(2) fill vLLM's model information cache for the architectures that are commonly served small, because a read-only
engine could never fill it and would inspect its model in a child process at every start (13 s);
(3) a module that cannot be imported is an error: the image would be slow or broken.
"""

from __future__ import annotations

import importlib

SERVER_MODULES = [
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.attention.backends.cpu_attn",
    # what the first request of a kind would compile
    "vllm.v1.sample.ops.logprobs",
    "vllm.v1.structured_output.backend_guidance",
    "vllm.v1.structured_output.backend_lm_format_enforcer",
    "vllm.v1.structured_output.backend_outlines",
    "vllm.v1.structured_output.backend_xgrammar",
    "vllm.tool_parsers.hermes_tool_parser",
    "llguidance.hf",
    "llguidance.torch",
    "outlines_core.json_schema",
    "xgrammar",
    "tile_permission",
]
ARCHITECTURES = [
    "Qwen2ForCausalLM",
    "BertModel",
    "XLMRobertaForSequenceClassification",
    "XLMRobertaModel",
    "Qwen3ForCausalLM",
    "LlamaForCausalLM",
]


def main() -> None:
    for name in SERVER_MODULES:
        importlib.import_module(name)
    registry = importlib.import_module("vllm.model_executor.models.registry").ModelRegistry
    for architecture in ARCHITECTURES:
        model = registry.models[architecture]
        model.load_model_cls()
        model.inspect_model_cls()


if __name__ == "__main__":
    main()
