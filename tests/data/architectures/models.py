"""The models of the fixtures: the numbers of their config.json, the family that lays out their tensors, what is published."""

from __future__ import annotations

from typing import Any

from tests.data.architectures import families as f


def _c(kind: str, hidden: int, inner: int, layers: int, heads: int, kv: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": kind, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocab, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False, **more,
    }  # fmt: skip


def _bert(kind: str, hidden: int, inner: int, layers: int, heads: int, vocab: int, longest: int, **more: Any) -> dict[str, Any]:
    base = _c(kind, hidden, inner, layers, heads, heads, vocab, max_position_embeddings=longest, torch_dtype="float32", **more)
    return {key: value for key, value in base.items() if key not in ("num_key_value_heads", "tie_word_embeddings")}


def _q25(hidden: int, inner: int, layers: int, heads: int, kv: int, vocab: int, **more: Any) -> dict[str, Any]:
    more = {"max_position_embeddings": 32768, "sliding_window": 131072, "use_sliding_window": False, **more}
    return _c("qwen2", hidden, inner, layers, heads, kv, vocab, **more)


TIED = {"tie_word_embeddings": True}
DEEPSEEK = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
GEMMA3_VISION = {"model_type": "siglip_vision_model"}
GPT_OSS = {
    "head_dim": 64, "sliding_window": 128, "max_position_embeddings": 131072,
    "quantization_config": {"quant_method": "mxfp4"},
}  # fmt: skip


def _oss(layers: int, experts: int) -> dict[str, Any]:
    kinds = ["sliding_attention" if number % 2 == 0 else "full_attention" for number in range(layers)]
    return _c("gpt_oss", 2880, 2880, layers, 64, 8, 201088, num_local_experts=experts, num_experts_per_tok=4,
              layer_types=kinds, **GPT_OSS)  # fmt: skip


def _b(parameters: int) -> dict[str, int]:
    return {"BF16": parameters}


# name: config, layout, published parameters by dtype, dtype of its tensors
ALL: dict[str, tuple[dict[str, Any], f.Layout, dict[str, int], str]] = {
    "Qwen/Qwen2.5-0.5B-Instruct": (_q25(896, 4864, 24, 14, 2, 151936, **TIED), f.llama, _b(494_032_768), "BF16"),
    "Qwen/Qwen2.5-7B-Instruct": (_q25(3584, 18944, 28, 28, 4, 152064), f.llama, _b(7_615_616_512), "BF16"),
    "Qwen/Qwen2.5-32B-Instruct": (_q25(5120, 27648, 64, 40, 8, 152064), f.llama, _b(32_763_876_352), "BF16"),
    "Qwen/Qwen2.5-72B-Instruct": (_q25(8192, 29568, 80, 64, 8, 152064), f.llama, _b(72_706_203_648), "BF16"),
    "Qwen/Qwen3-0.6B": (
        _c("qwen3", 1024, 3072, 28, 16, 8, 151936, head_dim=128, max_position_embeddings=40960, **TIED),
        f.llama_with_head, _b(751_632_384), "BF16",
    ),
    "Qwen/Qwen3-8B": (
        _c("qwen3", 4096, 12288, 36, 32, 8, 151936, head_dim=128, max_position_embeddings=40960), f.llama,
        _b(8_190_735_360), "BF16",
    ),
    "Qwen/Qwen3-30B-A3B": (
        _c("qwen3_moe", 2048, 6144, 48, 32, 4, 151936, head_dim=128, num_experts=128, num_experts_per_tok=8,
           moe_intermediate_size=768, max_position_embeddings=40960),
        f.qwen3_moe, _b(30_532_122_624), "BF16",
    ),
    "meta-llama/Llama-3.2-1B-Instruct": (
        _c("llama", 2048, 8192, 16, 32, 8, 128256, head_dim=64, max_position_embeddings=131072, **TIED), f.llama,
        _b(1_235_814_400), "BF16",
    ),
    "meta-llama/Llama-3.1-8B-Instruct": (
        _c("llama", 4096, 14336, 32, 32, 8, 128256, max_position_embeddings=131072), f.llama, _b(8_030_261_248), "BF16",
    ),
    "meta-llama/Llama-3.1-70B-Instruct": (
        _c("llama", 8192, 28672, 80, 64, 8, 128256, max_position_embeddings=131072), f.llama, _b(70_553_706_496), "BF16",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": (
        _c("llama", 576, 1536, 30, 9, 3, 49152, max_position_embeddings=8192, **TIED), f.llama, _b(134_515_008), "BF16",
    ),
    "mistralai/Mistral-7B-v0.1": (
        _c("mistral", 4096, 14336, 32, 32, 8, 32000, sliding_window=4096, max_position_embeddings=32768), f.llama,
        _b(7_241_732_096), "BF16",
    ),
    "mistralai/Mistral-Small-24B-Instruct-2501": (
        _c("mistral", 5120, 32768, 40, 32, 8, 131072, head_dim=128, sliding_window=None,
           max_position_embeddings=32768),
        f.llama,
        _b(23_572_403_200), "BF16",
    ),
    "mistralai/Mixtral-8x7B-Instruct-v0.1": (
        _c("mixtral", 4096, 14336, 32, 32, 8, 32000, num_local_experts=8, num_experts_per_tok=2,
           max_position_embeddings=32768),
        f.mixtral, _b(46_702_792_704), "BF16",
    ),
    "google/gemma-2-9b-it": (
        _c("gemma2", 3584, 14336, 42, 16, 8, 256000, head_dim=256, sliding_window=4096, max_position_embeddings=8192, **TIED),
        f.gemma, _b(9_241_705_984), "BF16",
    ),
    "google/gemma-3-1b-it": (
        _c("gemma3_text", 1152, 6912, 26, 4, 1, 262144, head_dim=256, sliding_window=512, sliding_window_pattern=6,
           max_position_embeddings=32768, **TIED),
        f.gemma, _b(999_885_952), "BF16",
    ),
    "google/gemma-3-27b-it": (
        {"model_type": "gemma3", "torch_dtype": "bfloat16", "vision_config": GEMMA3_VISION, "text_config":
         _c("gemma3_text", 5376, 21504, 62, 32, 16, 262208, head_dim=128, sliding_window=1024,
            max_position_embeddings=131072, **TIED)},
        f.gemma3_vision, _b(27_432_406_640), "BF16",
    ),
    "microsoft/Phi-3-mini-4k-instruct": (
        _c("phi3", 3072, 8192, 32, 32, 32, 32064, sliding_window=2047, max_position_embeddings=4096), f.phi3,
        _b(3_821_079_552), "BF16",
    ),
    "microsoft/phi-4": (
        _c("phi3", 5120, 17920, 40, 40, 10, 100352, max_position_embeddings=16384), f.phi3, _b(14_659_507_200), "BF16",
    ),
    "CohereForAI/c4ai-command-r-v01": (
        _c("cohere", 8192, 22528, 40, 64, 64, 256000, max_position_embeddings=8192, **TIED), f.cohere,
        {"F16": 34_980_831_232}, "F16",
    ),
    "bigcode/starcoder2-3b": (
        _c("starcoder2", 3072, 12288, 30, 24, 2, 49152, sliding_window=4096, max_position_embeddings=16384, **TIED),
        f.starcoder2, {"F32": 3_030_371_328}, "F32",
    ),
    "allenai/OLMoE-1B-7B-0924-Instruct": (
        _c("olmoe", 2048, 1024, 16, 16, 16, 50304, num_experts=64, num_experts_per_tok=8, max_position_embeddings=4096),
        f.olmoe, _b(6_919_161_856), "BF16",
    ),
    "tiiuae/falcon-7b": (
        {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
         "multi_query": True, "new_decoder_architecture": False, "vocab_size": 65024, "torch_dtype": "bfloat16"},
        f.falcon, _b(7_217_189_760), "BF16",
    ),
    "openai-community/gpt2": (
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257},
        f.gpt2, {"F32": 137_022_720}, "F32",
    ),
    "deepseek-ai/DeepSeek-V2-Lite-Chat": (
        _c("deepseek_v2", 2048, 10944, 27, 16, 16, 102400, moe_intermediate_size=1408, n_routed_experts=64,
           num_experts_per_tok=6, max_position_embeddings=163840, **DEEPSEEK),
        f.deepseek_lite, _b(15_706_484_224), "BF16",
    ),
    "deepseek-ai/DeepSeek-V3": (
        _c("deepseek_v3", 7168, 18432, 61, 128, 128, 129280, moe_intermediate_size=2048, n_routed_experts=256,
           num_experts_per_tok=8, q_lora_rank=1536, num_nextn_predict_layers=1, max_position_embeddings=163840,
           quantization_config={"quant_method": "fp8", "fmt": "e4m3"}, **DEEPSEEK),
        f.deepseek_v3, {"BF16": 3_918_786_560, "F8_E4M3": 680_571_043_840, "F32": 41_555_600}, "BF16",
    ),
    "openai/gpt-oss-20b": (_oss(24, 32), f.gpt_oss, {"BF16": 1_804_459_584, "U8": 19_707_494_400}, "BF16"),
    "openai/gpt-oss-120b": (_oss(36, 128), f.gpt_oss, {"BF16": 2_167_371_072, "U8": 118_244_966_400}, "BF16"),
    "ai21labs/Jamba-v0.1": (
        _c("jamba", 4096, 14336, 32, 32, 8, 65536, num_experts=16, num_experts_per_tok=2, attn_layer_period=8,
           attn_layer_offset=4, mamba_expand=2, mamba_d_state=16, mamba_d_conv=4, max_position_embeddings=262144),
        f.jamba, _b(51_570_323_328), "BF16",
    ),
    "state-spaces/mamba-130m-hf": (
        {"model_type": "mamba", "hidden_size": 768, "intermediate_size": 1536, "num_hidden_layers": 24, "state_size": 16,
         "conv_kernel": 4, "vocab_size": 50280, "torch_dtype": "float32", "tie_word_embeddings": True},
        f.mamba, {"F32": 129_135_360}, "F32",
    ),
    "BAAI/bge-reranker-v2-m3": (
        _bert("xlm-roberta", 1024, 4096, 24, 16, 250002, 8194), f.reranker, {"F32": 567_755_777}, "F32",
    ),
    "BAAI/bge-large-en-v1.5": (
        _bert("bert", 1024, 4096, 24, 16, 30522, 512), f.bert, {"F32": 335_141_888, "I64": 512}, "F32",
    ),
    "sentence-transformers/all-MiniLM-L6-v2": (
        _bert("bert", 384, 1536, 6, 12, 30522, 512), f.bert, {"F32": 22_713_216, "I64": 512}, "F32",
    ),
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8": (
        _c("llama", 4096, 14336, 32, 32, 8, 128256, max_position_embeddings=131072,
           quantization_config={"quant_method": "compressed-tensors"}),
        f.llama_fp8, {"BF16": 1_050_939_840, "F8_E4M3": 6_979_321_856}, "BF16",
    ),
}  # fmt: skip
