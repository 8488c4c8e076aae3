"""What vLLM's own source names: the architectures of its model registry, its parsers, the quantisations that it loads.

Rules: the text is parsed, never run; of a form that is not known (older versions register elsewhere) it gives nothing, and then
nothing is said about it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_REGISTRY = "_VLLM_MODELS"
_PARSERS = ("_TOOL_PARSERS_TO_REGISTER", "_REASONING_PARSERS_TO_REGISTER")


def read_architectures(data: bytes) -> list[str]:
    """The architectures in ``vllm/model_executor/models/registry.py``: the tables that _VLLM_MODELS joins."""
    tables = dict(_tables(data))
    joined = tables.get(_REGISTRY)
    if joined is None:
        return []
    names = {
        value.id for key, value in zip(joined.keys, joined.values, strict=True) if key is None and isinstance(value, ast.Name)
    }
    return sorted({item for name in names if name in tables for item in _keys(tables[name])} | set(_keys(joined)))


def read_parsers(data: bytes) -> list[str]:
    """The names in ``vllm/tool_parsers/__init__.py`` or ``vllm/reasoning/__init__.py``."""
    tables = dict(_tables(data))
    return sorted({item for name in _PARSERS if name in tables for item in _keys(tables[name])})


def read_quantizations(data: bytes) -> list[str]:
    """The names in ``vllm/model_executor/layers/quantization/__init__.py`` but for those that it loads on demand only."""
    found = {name: list(_strings(value)) for name, value in _assignments(data)}
    return sorted(set(found.get("QuantizationMethods", ())) - set(found.get("DEPRECATED_QUANTIZATION_METHODS", ())))


def _strings(value: ast.expr) -> Iterator[str]:
    """The texts of a list, or of ``Literal[...]``."""
    listed = value.slice if isinstance(value, ast.Subscript) else value
    for item in listed.elts if isinstance(listed, (ast.Tuple, ast.List)) else ():
        if isinstance(item, ast.Constant) and isinstance(item.value, str):
            yield item.value


def _tables(data: bytes) -> Iterator[tuple[str, ast.Dict]]:
    return ((name, value) for name, value in _assignments(data) if isinstance(value, ast.Dict))


def _assignments(data: bytes) -> Iterator[tuple[str, ast.expr]]:
    """What the module gives names to."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if targets and isinstance(targets[0], ast.Name) and value is not None:
            yield targets[0].id, value


def _keys(table: ast.Dict) -> Iterator[str]:
    for key in table.keys:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
