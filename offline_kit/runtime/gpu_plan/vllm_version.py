"""The version of vLLM in the engine image, and which of vLLM's rules hold in it.

Rules: one question a property, each with the file in which the answer changed; a version that is not known is taken for the
newest that was read (NEWEST), and the plan says so. Read from the Python sources of the wheels 0.8.4 to 0.33.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

NEWEST = (0, 33)
# config/vllm.py DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES: of 0.22 to 0.24; what of 0.25 to 0.28 is a mixture of experts
_V2_EXPERTS = ("qwen2_moe", "deepseek_v2", "granitemoe")
_FIRST_V2 = {22: ("qwen3",), 23: ("llama", "mistral", "qwen3"), 24: ("llama", "mistral", "qwen3", *_V2_EXPERTS)}


@dataclass(frozen=True)
class Vllm:
    """One version of vLLM. ``known``: the image said it."""

    version: Tuple[int, int] = NEWEST
    known: bool = False

    @classmethod
    def parse(cls, text: str) -> "Vllm":
        """Of ``0.21.0`` or ``0.21.0+cu129``; of what is no version, the newest that was read.

        ``0.1.devN`` is none: a build whose tags were not at hand (``vllm/vllm-openai:qwen38`` is 0.1.dev19754).
        """
        match = re.match(r"v?(?!0\.1\.dev)([0-9]{1,3})\.([0-9]{1,3})(?=$|[.+-]|rc)", text)
        return cls((int(match.group(1)), int(match.group(2))), True) if match else cls()

    def __str__(self) -> str:
        number = ".".join(str(part) for part in self.version)
        return number if self.known else f"not known, taken for {number}"

    @property
    def takes_a_snapshot(self) -> bool:
        """Counted from what was used when it started (0.9, gpu_worker.py init_snapshot), not all that is used on the card."""
        return self.version >= (0, 9)

    @property
    def snapshot_after_nccl(self) -> bool:
        """NCCL's first memory is outside of the count (0.11, gpu_worker.py init_device)."""
        return self.version >= (0, 11)

    @property
    def counts_buffers(self) -> bool:
        """What torch allocated between weights and trial run is counted (0.27, mem_utils.py total_consumed)."""
        return self.version >= (0, 27)

    def counts_graphs(self, *, second_runner: bool) -> bool:
        """The estimate for CUDA graphs comes off the KV cache (0.20, envs.py VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS).

        The second runner makes one since 0.29; before, its estimate is 0 (v1/worker/gpu/model_runner.py
        profile_cudagraph_memory).
        """
        return self.version >= ((0, 29) if second_runner else (0, 20))

    @property
    def refuses_few_state_blocks(self) -> bool:
        """max_num_seqs above the blocks of state layers is refused (0.20, config/compilation.py); before, sizes were cut."""
        return self.version >= (0, 20)

    @property
    def tokens_by_concurrency(self) -> bool:
        """Prints concurrency x max_model_len as tokens (0.21, kv_cache_utils.py get_kv_cache_capacity), not blocks."""
        return self.version >= (0, 21)

    @property
    def counts_steps_in_flight(self) -> bool:
        """A window keeps what all concurrent steps schedule (0.26, kv_cache_interface.py), not one batch."""
        return self.version >= (0, 26)

    @property
    def caches_prefixes_of_hybrids(self) -> bool:
        """Prefix caching is on by default with state layers, too (0.28, arg_utils.py default_prefix_caching)."""
        return self.version >= (0, 28)

    @property
    def has_triton_kernels(self) -> bool:
        """Triton's kernels for MXFP4 are surely there (0.12, utils/import_utils.py has_triton_kernels).

        Before, an image may lack them, and Marlin serves, which takes more.
        """
        return self.version >= (0, 12)

    @property
    def keeps_every_state(self) -> bool:
        """mamba_cache_mode "all" is what prefix caching takes for Mamba layers that can (0.16 to 0.27, models/config.py)."""
        return (0, 16) <= self.version < (0, 28)

    @property
    def knows_mode_all(self) -> bool:
        """mamba_cache_mode "all" is a choice (0.16 to 0.31, config/cache.py MambaCacheMode)."""
        return (0, 16) <= self.version < (0, 32)

    @property
    def checks_given_blocks(self) -> bool:
        """num_gpu_blocks_override must hold one sequence, whatever is free (0.21, kv_cache_utils.py adjusted_memory)."""
        return self.version >= (0, 21)

    @property
    def needs_whole_cache_on_a_stage(self) -> bool:
        """A pipeline's smallest stage must have room for all layers (0.14 to 0.16, kv_cache_utils.py: min(available_memory) and
        the groups of the whole model; issue 34076 of vLLM), not for its own."""
        return (0, 14) <= self.version < (0, 17)

    @property
    def refines_expert_blocks(self) -> bool:
        """Blocks of fp8 experts are made finer where TP cuts them (0.29, layers/quantization/fp8.py weight_scale_refine)."""
        return self.version >= (0, 29)

    @property
    def extends_yarn(self) -> bool:
        """YaRN's factor counts from original_max_position_embeddings (until 0.29), no more (0.30, _get_and_verify_max_len)."""
        return self.version < (0, 30)

    @property
    def large_batch_from_160_gib(self) -> bool:
        """16,384 batched tokens by default on cards from 160 GiB (0.28, arg_utils.py get_batch_defaults)."""
        return self.version >= (0, 28)

    @property
    def samples_in_profile(self) -> bool:
        """The trial run ends with the sampler (0.9, gpu_model_runner.py _dummy_sampler_run), not with the logits."""
        return self.version >= (0, 9)

    @property
    def sorts_logits(self) -> bool:
        """Top-k and top-p by sorting all logits (until 0.16); a Triton kernel from 0.17 (sample/ops/topk_topp_sampler.py)."""
        return (0, 9) <= self.version < (0, 17)

    def second_runner(self, model_type: str, *, hybrid: bool, moe: bool) -> bool:
        """Whether the V2 model runner serves such a chat model (config/vllm.py use_v2_model_runner)."""
        if self.version >= (0, 29):
            return True
        if self.version >= (0, 25):
            return not hybrid and (not moe or model_type in _V2_EXPERTS)
        first = _FIRST_V2.get(min(self.version[1], 24), ()) if self.version[0] == 0 else ()
        return model_type in first


UNKNOWN = Vllm()
