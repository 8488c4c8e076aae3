"""How families lay out their tensors: names and shapes from the numbers of a config.json.

One file, for it is one table in the form of functions: families borrow each other's layers, and make.py looks them up by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.data.architectures.make import Table

Config = dict[str, Any]
Layout = Callable[["Table", Config], None]
L = "model.layers.{}."


def _sizes(c: Config) -> tuple[int, int, int, int, range]:
    """Hidden size, inner size, width of all query heads, width of all KV heads, layers."""
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    kv = c.get("num_key_value_heads", c["num_attention_heads"]) * head
    return c["hidden_size"], c["intermediate_size"], c["num_attention_heads"] * head, kv, range(c["num_hidden_layers"])


def _ends(t: Table, c: Config, prefix: str = "model.", head: bool | None = None) -> None:
    t.add(f"{prefix}embed_tokens.weight", c["vocab_size"], c["hidden_size"])
    t.add(f"{prefix}norm.weight", c["hidden_size"])
    if (not c.get("tie_word_embeddings")) if head is None else head:
        t.add("lm_head.weight", c["vocab_size"], c["hidden_size"])


def _attention(t: Table, c: Config, prefix: str = L, layers: Sequence[int] | None = None, at: str = "self_attn.") -> None:
    hidden, _, query, kv, every = _sizes(c)
    layers = every if layers is None else layers
    for name, rows in (("q", query), ("k", kv), ("v", kv)):
        t.add(f"{prefix}{at}{name}_proj.weight", rows, hidden, layers=layers)
        if c["model_type"] in ("qwen2", "starcoder2", "gpt_oss"):
            t.add(f"{prefix}{at}{name}_proj.bias", rows, layers=layers)
    t.add(f"{prefix}{at}o_proj.weight", hidden, query, layers=layers)
    if c["model_type"] in ("starcoder2", "gpt_oss"):
        t.add(f"{prefix}{at}o_proj.bias", hidden, layers=layers)
    if c["model_type"] in ("qwen3", "qwen3_moe", "gemma3_text"):
        for name in ("q_norm", "k_norm"):
            t.add(f"{prefix}{at}{name}.weight", c["head_dim"], layers=layers)
    if c["model_type"] == "olmoe":
        t.add(f"{prefix}{at}q_norm.weight", query, layers=layers)
        t.add(f"{prefix}{at}k_norm.weight", kv, layers=layers)


def _mlp(t: Table, prefix: str, hidden: int, inner: int, layers: Sequence[int], experts: int = 1, dtype: str = "") -> None:
    for name in ("gate_proj", "up_proj"):
        t.add(f"{prefix}{name}.weight", inner, hidden, layers=layers, experts=experts, dtype=dtype)
    t.add(f"{prefix}down_proj.weight", hidden, inner, layers=layers, experts=experts, dtype=dtype)


def _norms(t: Table, c: Config, *names: str, prefix: str = L) -> None:
    for name in names or ("input_layernorm", "post_attention_layernorm"):
        t.add(f"{prefix}{name}.weight", c["hidden_size"], layers=range(c["num_hidden_layers"]))


def llama(t: Table, c: Config) -> None:
    hidden, inner, _, _, layers = _sizes(c)
    _ends(t, c)
    _attention(t, c)
    _mlp(t, f"{L}mlp.", hidden, inner, layers)
    _norms(t, c)


def llama_with_head(t: Table, c: Config) -> None:
    """Tied, and the output matrix is in the file all the same."""
    llama(t, c)
    t.add("lm_head.weight", c["vocab_size"], c["hidden_size"])


def llama_fp8(t: Table, c: Config) -> None:
    """Linear layers in fp8, with a scale each for weights and inputs (bfloat16)."""
    llama(t, c)
    for name, entry in list(t.header.items()):
        if ".layers." in name and len(entry["shape"]) == 2:
            entry["dtype"], entry["data_offsets"] = "F8_E4M3", [0, entry["data_offsets"][1] // 2]
            for scale in ("weight_scale", "input_scale"):
                t.add(name.replace("weight", scale), 1, dtype="BF16")


def qwen3_moe(t: Table, c: Config) -> None:
    hidden, _, _, _, layers = _sizes(c)
    _ends(t, c)
    _attention(t, c)
    _mlp(t, f"{L}mlp.experts.[].", hidden, c["moe_intermediate_size"], layers, c["num_experts"])
    t.add(f"{L}mlp.gate.weight", c["num_experts"], hidden, layers=layers)
    _norms(t, c)


def olmoe(t: Table, c: Config) -> None:
    qwen3_moe(t, {**c, "moe_intermediate_size": c["intermediate_size"]})


def mixtral(t: Table, c: Config) -> None:
    hidden, inner, _, _, layers = _sizes(c)
    _ends(t, c)
    _attention(t, c)
    expert = f"{L}block_sparse_moe.experts.[]."
    for name, shape in (("w1", (inner, hidden)), ("w2", (hidden, inner)), ("w3", (inner, hidden))):
        t.add(f"{expert}{name}.weight", *shape, layers=layers, experts=c["num_local_experts"])
    t.add(f"{L}block_sparse_moe.gate.weight", c["num_local_experts"], hidden, layers=layers)
    _norms(t, c)


def gemma(t: Table, c: Config, prefix: str = "model.") -> None:
    hidden, inner, _, _, layers = _sizes(c)
    inside = f"{prefix}layers.{{}}."
    _ends(t, c, prefix)
    _attention(t, c, inside)
    _mlp(t, f"{inside}mlp.", hidden, inner, layers)
    four = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    _norms(t, c, *four, prefix=inside)


def gemma3_vision(t: Table, c: Config) -> None:
    """SigLIP (27 layers of 1152, 4096 patches of 14 x 14) before the language model."""
    text = c["text_config"]
    gemma(t, text, "language_model.model.")
    tower, layers, width, inner = "vision_tower.vision_model.", range(27), 1152, 4304
    t.add(f"{tower}embeddings.patch_embedding.weight", width, 3, 14, 14)
    t.add(f"{tower}embeddings.patch_embedding.bias", width)
    t.add(f"{tower}embeddings.position_embedding.weight", 4096, width)
    at = f"{tower}encoder.layers.{{}}."
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        _linear(t, f"{at}self_attn.{name}", width, width, layers)
    _linear(t, f"{at}mlp.fc1", inner, width, layers)
    _linear(t, f"{at}mlp.fc2", width, inner, layers)
    for name in ("layer_norm1", "layer_norm2"):
        _norm(t, f"{at}{name}", width, layers)
    _norm(t, f"{tower}post_layernorm", width)
    t.add("multi_modal_projector.mm_input_projection_weight", width, text["hidden_size"])
    t.add("multi_modal_projector.mm_soft_emb_norm.weight", width)


def _linear(t: Table, name: str, rows: int, columns: int, layers: Sequence[int] = (0,)) -> None:
    t.add(f"{name}.weight", rows, columns, layers=layers)
    t.add(f"{name}.bias", rows, layers=layers)


def _norm(t: Table, name: str, width: int, layers: Sequence[int] = (0,)) -> None:
    t.add(f"{name}.weight", width, layers=layers)
    t.add(f"{name}.bias", width, layers=layers)


def phi3(t: Table, c: Config) -> None:
    hidden, inner, query, kv, layers = _sizes(c)
    _ends(t, c)
    t.add(f"{L}self_attn.qkv_proj.weight", query + 2 * kv, hidden, layers=layers)
    t.add(f"{L}self_attn.o_proj.weight", hidden, query, layers=layers)
    t.add(f"{L}mlp.gate_up_proj.weight", 2 * inner, hidden, layers=layers)
    t.add(f"{L}mlp.down_proj.weight", hidden, inner, layers=layers)
    _norms(t, c)


def cohere(t: Table, c: Config) -> None:
    hidden, inner, _, _, layers = _sizes(c)
    _ends(t, c)
    _attention(t, c)
    _mlp(t, f"{L}mlp.", hidden, inner, layers)
    _norms(t, c, "input_layernorm")


def starcoder2(t: Table, c: Config) -> None:
    hidden, inner, _, _, layers = _sizes(c)
    t.add("model.embed_tokens.weight", c["vocab_size"], hidden)
    _norm(t, "model.norm", hidden)
    _attention(t, c)
    _linear(t, f"{L}mlp.c_fc", inner, hidden, layers)
    _linear(t, f"{L}mlp.c_proj", hidden, inner, layers)
    for name in ("input_layernorm", "post_attention_layernorm"):
        _norm(t, f"{L}{name}", hidden, layers)


def falcon(t: Table, c: Config) -> None:
    hidden, layers, at = c["hidden_size"], range(c["num_hidden_layers"]), "transformer.h.{}."
    head = hidden // c["num_attention_heads"]
    t.add("transformer.word_embeddings.weight", c["vocab_size"], hidden)
    t.add("lm_head.weight", c["vocab_size"], hidden)
    t.add(f"{at}self_attention.query_key_value.weight", hidden + 2 * head, hidden, layers=layers)
    t.add(f"{at}self_attention.dense.weight", hidden, hidden, layers=layers)
    t.add(f"{at}mlp.dense_h_to_4h.weight", 4 * hidden, hidden, layers=layers)
    t.add(f"{at}mlp.dense_4h_to_h.weight", hidden, 4 * hidden, layers=layers)
    _norm(t, f"{at}input_layernorm", hidden, layers)
    _norm(t, "transformer.ln_f", hidden)


def gpt2(t: Table, c: Config) -> None:
    width, layers = c["n_embd"], range(c["n_layer"])
    t.add("wte.weight", c["vocab_size"], width)
    t.add("wpe.weight", c["n_positions"], width)
    t.add("h.{}.attn.bias", 1, 1, c["n_positions"], c["n_positions"], layers=layers)
    for name, rows, columns in (("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width)):
        t.add(f"h.{{}}.{name}.weight", rows, columns, layers=layers)
        t.add(f"h.{{}}.{name}.bias", columns, layers=layers)
    for name, rows, columns in (("mlp.c_fc", width, 4 * width), ("mlp.c_proj", 4 * width, width)):
        t.add(f"h.{{}}.{name}.weight", rows, columns, layers=layers)
        t.add(f"h.{{}}.{name}.bias", columns, layers=layers)
    for name in ("ln_1", "ln_2"):
        _norm(t, f"h.{{}}.{name}", width, layers)
    _norm(t, "ln_f", width)


def _latent(t: Table, c: Config, layers: Sequence[int], dtype: str) -> None:
    hidden, heads, rank, rope = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"], c["qk_rope_head_dim"]
    query = heads * (c["qk_nope_head_dim"] + rope)
    at = f"{L}self_attn."
    matrices = [("kv_a_proj_with_mqa", rank + rope, hidden), ("o_proj", hidden, heads * c["v_head_dim"])]
    matrices.append(("kv_b_proj", heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), rank))
    if c.get("q_lora_rank"):
        matrices += [("q_a_proj", c["q_lora_rank"], hidden), ("q_b_proj", query, c["q_lora_rank"])]
        t.add(f"{at}q_a_layernorm.weight", c["q_lora_rank"], layers=layers)
    else:
        matrices.append(("q_proj", query, hidden))
    for name, rows, columns in matrices:
        t.add(f"{at}{name}.weight", rows, columns, layers=layers, dtype=dtype)
    t.add(f"{at}kv_a_layernorm.weight", rank, layers=layers)
    for name in ("input_layernorm", "post_attention_layernorm"):
        t.add(f"{L}{name}.weight", hidden, layers=layers)


def _deepseek(t: Table, c: Config, dense: int, shared: int, extra: int, dtype: str) -> None:
    hidden, count = c["hidden_size"], c["num_hidden_layers"]
    layers, sparse = range(count + extra), range(dense, count + extra)
    _ends(t, c)
    _latent(t, c, layers, dtype)
    _mlp(t, f"{L}mlp.", hidden, c["intermediate_size"], range(dense), dtype=dtype)
    _mlp(t, f"{L}mlp.experts.[].", hidden, c["moe_intermediate_size"], sparse, c["n_routed_experts"], dtype)
    _mlp(t, f"{L}mlp.shared_experts.", hidden, shared * c["moe_intermediate_size"], sparse, dtype=dtype)
    t.add(f"{L}mlp.gate.weight", c["n_routed_experts"], hidden, layers=sparse)


def deepseek_lite(t: Table, c: Config) -> None:
    _deepseek(t, c, dense=1, shared=2, extra=0, dtype="BF16")


def deepseek_v3(t: Table, c: Config) -> None:
    """One layer more for speculation; fp8 in blocks of 128 x 128 with a float32 scale each."""
    _deepseek(t, c, dense=3, shared=1, extra=1, dtype="F8_E4M3")
    t.add(f"{L}mlp.gate.e_score_correction_bias", c["n_routed_experts"], layers=range(3, 62), dtype="F32")
    last = range(61, 62)
    for name in ("enorm", "hnorm", "shared_head.norm"):
        t.add(f"{L}{name}.weight", c["hidden_size"], layers=last)
    t.add(f"{L}eh_proj.weight", c["hidden_size"], 2 * c["hidden_size"], layers=last)
    for name in ("embed_tokens", "shared_head.head"):
        t.add(f"{L}{name}.weight", c["vocab_size"], c["hidden_size"], layers=last)
    for name, entry in list(t.header.items()):
        if entry["dtype"] == "F8_E4M3":
            rows, columns = (-(-side // 128) for side in entry["shape"])
            t.add(f"{name}_scale_inv", rows, columns, dtype="F32")


def gpt_oss(t: Table, c: Config) -> None:
    hidden, inner, _, _, layers = _sizes(c)
    experts = c["num_local_experts"]
    _ends(t, c)
    _attention(t, c)
    t.add(f"{L}self_attn.sinks", c["num_attention_heads"], layers=layers)
    t.add(f"{L}mlp.router.weight", experts, hidden, layers=layers)
    t.add(f"{L}mlp.router.bias", experts, layers=layers)
    for name, rows, columns in (("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)):
        t.add(f"{L}mlp.experts.{name}_blocks", experts, rows, columns // 32, 16, layers=layers, dtype="U8")
        t.add(f"{L}mlp.experts.{name}_scales", experts, rows, columns // 32, layers=layers, dtype="U8")
        t.add(f"{L}mlp.experts.{name}_bias", experts, rows, layers=layers)
    _norms(t, c)


def jamba(t: Table, c: Config) -> None:
    hidden, inner, _, _, layers = _sizes(c)
    attention = [number for number in layers if number % 8 == 4]
    recurrent = [number for number in layers if number % 8 != 4]
    sparse, dense = [number for number in layers if number % 2], [number for number in layers if number % 2 == 0]
    t.add("model.embed_tokens.weight", c["vocab_size"], hidden)
    t.add("model.final_layernorm.weight", hidden)
    t.add("lm_head.weight", c["vocab_size"], hidden)
    _attention(t, c, layers=attention)
    _mixer(t, f"{L}mamba.", hidden, c["mamba_expand"] * hidden, c["mamba_d_state"], c["mamba_d_conv"], recurrent)
    for name, size in (("dt", hidden // 16), ("b", c["mamba_d_state"]), ("c", c["mamba_d_state"])):
        t.add(f"{L}mamba.{name}_layernorm.weight", size, layers=recurrent)
    _mlp(t, f"{L}feed_forward.", hidden, inner, dense)
    _mlp(t, f"{L}feed_forward.experts.[].", hidden, inner, sparse, c["num_experts"])
    t.add(f"{L}feed_forward.router.weight", c["num_experts"], hidden, layers=sparse)
    _norms(t, c, "input_layernorm", "pre_ff_layernorm")


def _mixer(t: Table, at: str, hidden: int, inner: int, state: int, kernel: int, layers: Sequence[int]) -> None:
    rank = hidden // 16
    t.add(f"{at}in_proj.weight", 2 * inner, hidden, layers=layers)
    t.add(f"{at}conv1d.weight", inner, 1, kernel, layers=layers)
    t.add(f"{at}conv1d.bias", inner, layers=layers)
    t.add(f"{at}x_proj.weight", rank + 2 * state, inner, layers=layers)
    t.add(f"{at}dt_proj.weight", inner, rank, layers=layers)
    t.add(f"{at}dt_proj.bias", inner, layers=layers)
    t.add(f"{at}A_log", inner, state, layers=layers)
    t.add(f"{at}D", inner, layers=layers)
    t.add(f"{at}out_proj.weight", hidden, inner, layers=layers)


def mamba(t: Table, c: Config) -> None:
    hidden, layers = c["hidden_size"], range(c["num_hidden_layers"])
    t.add("backbone.embeddings.weight", c["vocab_size"], hidden)
    t.add("backbone.norm_f.weight", hidden)
    t.add("backbone.layers.{}.norm.weight", hidden, layers=layers)
    _mixer(t, "backbone.layers.{}.mixer.", hidden, c["intermediate_size"], c["state_size"], c["conv_kernel"], layers)


def bert(t: Table, c: Config, prefix: str = "", types: int = 2, pooler: bool = True) -> None:
    width, inner, layers = c["hidden_size"], c["intermediate_size"], range(c["num_hidden_layers"])
    table = f"{prefix}embeddings."
    t.add(f"{table}word_embeddings.weight", c["vocab_size"], width)
    t.add(f"{table}position_embeddings.weight", c["max_position_embeddings"], width)
    t.add(f"{table}token_type_embeddings.weight", types, width)
    _norm(t, f"{table}LayerNorm", width)
    at = f"{prefix}encoder.layer.{{}}."
    for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        _linear(t, f"{at}{name}", width, width, layers)
    _linear(t, f"{at}intermediate.dense", inner, width, layers)
    _linear(t, f"{at}output.dense", width, inner, layers)
    for name in ("attention.output", "output"):
        _norm(t, f"{at}{name}.LayerNorm", width, layers)
    if pooler:
        _linear(t, f"{prefix}pooler.dense", width, width)
        t.add(f"{table}position_ids", 1, c["max_position_embeddings"], dtype="I64")


def reranker(t: Table, c: Config) -> None:
    bert(t, c, "roberta.", types=1, pooler=False)
    _linear(t, "classifier.dense", c["hidden_size"], c["hidden_size"])
    _linear(t, "classifier.out_proj", 1, c["hidden_size"])
