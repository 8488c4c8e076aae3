"""The KV cache of one engine: how large a block is, how many blocks a sequence takes, how many there are.

Rules: the same arithmetic as vLLM 0.32, redone in plain numbers; where vLLM could choose another layout (backends that want
other blocks), its default for CUDA is taken. Per rank:

- page of a layer = block tokens x max(1, KV heads // TP) x (K + V values) x bytes; MLA: block x row x bytes on every rank
  (``v1/kv_cache_interface.py`` AttentionSpec, MLAAttentionSpec; ``config/model.py`` get_num_kv_heads: fewer heads than ranks
  are replicated);
- layers of one kind are one group; kinds that differ are split into groups of equal size, padded
  (``v1/core/kv_cache_utils.py`` _get_kv_cache_groups_uniform_page_size, unify_kv_cache_spec_page_size), and with recurrent
  states the block grows until a page holds a state (``platforms/interface.py`` _align_hybrid_block_size);
- bytes of a block = the largest group's pages (_get_kv_cache_bytes_per_block); blocks = KV memory // that;
- a sequence takes of each group: full ceil(length / block); sliding ceil(min(window - 1 + in flight, length) / block) + 1;
  chunked ceil(min(chunk + in flight, length) / block); state 1, or 2 with prefix caching, or one a block where all are kept
  (max_memory_usage_bytes of each);
- a start needs room for one sequence of ``max_model_len`` beside the one block that is never given out (get_kv_cache_configs).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Dict, List, Sequence, Tuple

from .architecture import CHUNKED, FULL, MLA, SLIDING, STATE, Architecture, Cache

MAMBA_CHUNK = 256  # of Mamba 2, where config.json names no other; that of others is not known here


@dataclass(frozen=True)
class Options:
    """What of an engine's arguments the cache depends on. ``in_flight``: tokens scheduled and not yet settled.

    ``every_state``: a state is kept for every block (mamba_cache_mode "all"). ``kv_scale``: bytes beside the values of one
    head and token; ``kv_row``: bytes of MLA's row where its dtype has its own.
    """

    tp: int = 1
    pp: int = 1
    dcp: int = 1
    block: int = 16
    kv_bytes: float = 2
    kv_scale: int = 0
    kv_row: int = 0
    model_bytes: int = 2
    in_flight: int = 0
    speculative: int = 0
    state_blocks: int = 1
    every_state: bool = False
    state_bytes: int = 0
    hybrid: bool = True
    alignment: int = 16
    latent_alignment: int = 128


@dataclass(frozen=True)
class Page:
    """One layer's part of a block; layers whose pages are equal behave alike."""

    kind: str
    block: int
    size: int
    window: int = 0


@dataclass(frozen=True)
class Group:
    """Layers that share a block table: (number of the layer, its page)."""

    members: Tuple[Tuple[int, Page], ...]

    def bytes_per_block(self, layers: Sequence[int]) -> int:
        return sum(page.size for number, page in self.members if number in layers)


@dataclass(frozen=True)
class Pool:
    """The cache of one engine. ``block_bytes``: per pipeline stage."""

    groups: Tuple[Group, ...]
    block_bytes: Tuple[int, ...]
    options: Options

    def blocks_for(self, length: int) -> int:
        """Blocks that one sequence of ``length`` tokens takes."""
        return sum(max(_blocks(page, length, self.options) for _, page in group.members) for group in self.groups)

    def needed(self, length: int, stage: int = 0) -> int:
        """Bytes that a stage must have for one sequence of ``length`` and the block that is never given out."""
        return self.block_bytes[stage] * (self.blocks_for(length) + 1) if self.groups else 0

    def blocks(self, available: Sequence[int]) -> int:
        """Blocks in these bytes, one number a stage: the smallest stage decides."""
        counts = [available[stage] // size for stage, size in enumerate(self.block_bytes) if size]
        return max(min(counts, default=0), 0)

    def sequences(self, blocks: int, length: int) -> int:
        """How many sequences of ``length`` tokens fit at once."""
        return max(blocks - 1, 0) // self.blocks_for(length) if self.groups else 0

    def concurrency(self, blocks: int, length: int) -> float:
        """The same as vLLM prints it: with a fraction, and with the block that is never given out."""
        return blocks / self.blocks_for(length) if self.groups else 0.0

    def tokens(self, blocks: int, length: int, *, by_concurrency: bool = True) -> int:
        """The "GPU KV cache size" that vLLM prints (``kv_cache_utils.py``): until 0.20 by blocks, since 0.21 by concurrency."""
        if not self.groups:
            return 0
        if by_concurrency:
            return int(self.concurrency(blocks, length) * length)
        smallest = min(page.block for group in self.groups for _, page in group.members)
        return blocks // len(self.groups) * smallest * self.options.dcp

    def longest(self, available: Sequence[int], limit: int) -> int:
        """The longest sequence, up to ``limit``, that a start would accept with these bytes; 0: none."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            fits = all(self.needed(middle, stage) <= memory for stage, memory in enumerate(available))
            low, high = (middle, high) if fits else (low, middle - 1)
        return low


@functools.lru_cache(maxsize=512)
def pool(arch: Architecture, options: Options) -> Pool:
    """The cache of ``arch`` under ``options``. An encoder has one without groups."""
    caches = [(number, cache) for number, layer in enumerate(arch.layers) for cache in layer]
    block = _aligned_block([cache for _, cache in caches], options)
    pages = [(number, _page(cache, replace(options, block=block))) for number, cache in caches]
    if not options.hybrid:
        local = (SLIDING, CHUNKED)
        pages = [(n, replace(page, kind=FULL, window=0) if page.kind in local else page) for n, page in pages]
    groups = _grouped(pages)
    stages = stage_layers(len(arch.layers), options.pp)
    sizes = tuple(max((group.bytes_per_block(stage) for group in groups), default=0) for stage in stages)
    return Pool(tuple(groups), sizes, options)


def per_token(arch: Architecture, options: Options) -> int:
    """Bytes of one token in all layers that keep it, on one rank (without PP)."""
    growing = [cache for layer in arch.layers for cache in layer if cache.kind != STATE]
    return sum(_page(cache, replace(options, block=1)).size for cache in growing)


def stage_layers(count: int, pp: int) -> List[range]:
    """The layers of each pipeline stage (vllm/distributed/utils.py get_pp_indices: what is left over goes before the last)."""
    sizes = [count // pp] * pp
    for number in range(2, count % pp + 2):
        sizes[-number] += 1
    return [range(sum(sizes[:number]), sum(sizes[: number + 1])) for number in range(pp)]


def _page(cache: Cache, options: Options) -> Page:
    if cache.kind == STATE and cache.state is not None:
        size = cache.state.size(options.tp, options.model_bytes, options.speculative, options.state_bytes)
        return Page(STATE, options.block, size)
    heads = 1 if cache.kind == MLA else max(1, cache.heads // options.tp)
    row = cache.sizes * (cache.fixed_bytes or options.kv_bytes) + (0 if cache.fixed_bytes else options.kv_scale)
    if cache.kind == MLA and options.kv_row and not cache.fixed_bytes:
        row = options.kv_row
    return Page(cache.kind, options.block, int(options.block * heads * row), cache.window)


def _aligned_block(caches: Sequence[Cache], options: Options) -> int:
    states = [_page(cache, options).size for cache in caches if cache.kind == STATE]
    tokens = [_page(cache, replace(options, block=1)).size for cache in caches if cache.kind != STATE]
    if not states or not tokens:
        return options.block
    # Where all states are kept, the block is a multiple of the chunk of Mamba's kernels, 256 (platforms/interface.py).
    chunk = MAMBA_CHUNK if options.every_state else 0
    step = max(
        chunk, options.alignment, options.block, options.latent_alignment if any(cache.kind == MLA for cache in caches) else 0
    )
    return max(options.block, step * _ceil(max(states), step * max(tokens)))


def _grouped(pages: Sequence[Tuple[int, Page]]) -> List[Group]:
    kinds = {page for _, page in pages}
    whole = {page.kind for page in kinds} <= {FULL, MLA} or len({(page.kind, page.window) for page in kinds}) == 1
    if not pages:
        return []
    if whole:
        return [Group(tuple(pages))]
    largest = max(page.size for page in kinds)
    buckets: Dict[Page, List[Tuple[int, Page]]] = {}
    for number, page in pages:
        fitted = _unified(page, largest)
        buckets.setdefault(fitted, []).append((number, fitted))
    counts = [len(members) for members in buckets.values()]
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    groups = []
    for members in buckets.values():
        number_of_groups = _ceil(len(members), size)
        groups += [Group(tuple(members[start::number_of_groups])) for start in range(number_of_groups)]
    return groups


def _unified(page: Page, largest: int) -> Page:
    if page.kind != STATE and largest % page.size == 0:
        return replace(page, block=page.block * (largest // page.size), size=largest)
    return replace(page, size=largest)


def _blocks(page: Page, length: int, options: Options) -> int:
    if page.kind == SLIDING:
        return _ceil(min(page.window - 1 + options.in_flight, length), page.block) + 1
    if page.kind == CHUNKED:
        return _ceil(min(page.window + options.in_flight, length), page.block)
    if page.kind == STATE:
        return (_ceil(length, page.block) if options.every_state else options.state_blocks) + options.speculative
    # Ranks of decode context parallelism share a sequence's tokens (kv_cache_interface.py FullAttentionSpec).
    return _ceil(_ceil(length, options.dcp), page.block)


def _ceil(value: int, by: int) -> int:
    return -(-value // by)
