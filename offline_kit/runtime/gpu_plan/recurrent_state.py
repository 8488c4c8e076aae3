"""Layers that carry a state of fixed size instead of a cache that grows: how large the state of one sequence is.

Rules: a state is named by its family and its numbers, and sized for one rank; all formulas are those of vLLM 0.32
``model_executor/layers/mamba/mamba_utils.py`` (MambaStateShapeCalculator), as the model files call them:

- mamba1 (Jamba, Mamba, Falcon-Mamba): convolution (inner / TP) x (kernel - 1), and state (inner / TP) x state size;
- mamba2 (Bamba, Granite 4, Nemotron-H, Falcon-H1, Codestral-Mamba): convolution ((inner + 2 x groups x state size) / TP) x
  (kernel - 1), where groups grow to TP when TP does not divide them; state (heads / TP) x head size x state size;
- gated delta net (Qwen3-Next, Qwen3.5): convolution ((2 x key heads x key size + value heads x value size) / TP) x (kernel -
  1); state (value heads / TP) x value size x key size;
- Kimi delta attention (Kimi-Linear): convolution (3 x heads x head size / TP) x (kernel - 1); state (heads / TP) x head size^2
  in float32;
- short convolution (LFM2): (width / TP) x (kernel - 1).

The convolution has the model's dtype; the state too, unless the configuration or the engine's arguments name another
(``mamba_ssm_cache_dtype``). Speculative tokens lengthen the convolution of mamba2 and the delta net by their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional


@dataclass(frozen=True)
class State:
    """``inner``: values of the convolution without groups; ``grouped``: per group; ``ssm``: values of the state in all."""

    family: str
    inner: int
    kernel: int
    ssm: int
    groups: int = 0
    grouped: int = 0
    ssm_bytes: int = 0

    def size(self, tp: int, dtype_bytes: int, speculative: int = 0, given_bytes: int = 0) -> int:
        """Bytes of one sequence's state on one of ``tp`` ranks. ``given_bytes``: of a value, where the engine is told so."""
        groups = self.groups if not self.groups or self.groups % tp == 0 else self.groups + tp - self.groups
        length = self.kernel - 1 + (speculative if self.family in ("mamba2", "delta") else 0)
        convolution = (self.inner + groups * self.grouped) // tp * length
        return int(convolution * dtype_bytes) + int(self.ssm // tp * (given_bytes or self.ssm_bytes or dtype_bytes))


def state_of(config: Mapping[str, Any]) -> Optional[State]:
    """The state that one recurrent layer of this (text) configuration has, or None where the family is not known."""
    kind = str(config.get("model_type", ""))
    make = _FAMILIES.get("lfm2" if kind.startswith("lfm2") else kind)
    if make is None and config.get("linear_num_value_heads"):
        make = _delta
    try:
        return make(config) if make else None
    except (KeyError, TypeError):
        return None


def _jamba(config: Mapping[str, Any]) -> State:
    return _mamba1(config["mamba_expand"] * config["hidden_size"], config["mamba_d_state"], config["mamba_d_conv"])


def _mamba(config: Mapping[str, Any]) -> State:
    inner = config.get("intermediate_size") or config.get("expand", 2) * config["hidden_size"]
    return _mamba1(inner, config["state_size"], config["conv_kernel"])


def _bamba(config: Mapping[str, Any]) -> State:
    inner = config.get("mamba_d_ssm") or int(config["mamba_expand"] * config["hidden_size"])
    heads, size = config["mamba_n_heads"], config.get("mamba_d_head")
    size = inner // heads if size in (None, "auto") else size
    return _mamba2(inner, config["mamba_n_groups"], heads, size, config["mamba_d_state"], config["mamba_d_conv"])


def _nemotron_h(config: Mapping[str, Any]) -> State:
    heads, size = config["mamba_num_heads"], config["mamba_head_dim"]
    # float32 unless config.json says otherwise (vllm/model_executor/models/config.py, NemotronHForCausalLMConfig)
    ssm_bytes = 2 if config.get("mamba_ssm_cache_dtype") in ("float16", "bfloat16") else 4
    return _mamba2(heads * size, config["n_groups"], heads, size, config["ssm_state_size"], config["conv_kernel"], ssm_bytes)


def _codestral(config: Mapping[str, Any]) -> State:
    inner, heads, size = config.get("expand", 2) * config["hidden_size"], config["num_heads"], config["head_dim"]
    return _mamba2(inner, config["n_groups"], heads, size, config["state_size"], config["conv_kernel"])


def _short(config: Mapping[str, Any]) -> State:
    return State("conv", config.get("conv_dim") or config["hidden_size"], config["conv_L_cache"], 0)


def _kimi(config: Mapping[str, Any]) -> State:
    args = config["linear_attn_config"]
    values, size = args["num_heads"] * args["head_dim"], args["head_dim"]
    return State("delta", 3 * values, args["short_conv_kernel_size"], values * size, ssm_bytes=4)


def _mamba1(inner: int, state: int, kernel: int) -> State:
    return State("mamba1", inner, kernel, inner * state)


def _mamba2(inner: int, groups: int, heads: int, size: int, state: int, kernel: int, ssm_bytes: int = 0) -> State:
    return State("mamba2", inner, kernel, heads * size * state, groups, 2 * state, ssm_bytes)


def _delta(config: Mapping[str, Any]) -> State:
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    key_size, value_size = config["linear_key_head_dim"], config["linear_value_head_dim"]
    inner = 2 * keys * key_size + values * value_size
    ssm_bytes = {"float32": 4, "bfloat16": 2, "float16": 2}.get(str(config.get("mamba_ssm_dtype")), 0)
    kernel = config["linear_conv_kernel_dim"]
    return State("delta", inner, kernel, values * value_size * key_size, ssm_bytes=ssm_bytes)


_FAMILIES: Dict[str, Callable[[Mapping[str, Any]], State]] = {
    "jamba": _jamba,
    **dict.fromkeys(("mamba", "falcon_mamba"), _mamba),
    **dict.fromkeys(("bamba", "granitemoehybrid", "falcon_h1"), _bamba),
    "nemotron_h": _nemotron_h,
    "mamba2": _codestral,
    "lfm2": _short,
    "kimi_linear": _kimi,
}
