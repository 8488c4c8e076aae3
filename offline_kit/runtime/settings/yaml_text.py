"""YAML from people, read as plain data within limits: the one reader of manifests and of vllm_config.yaml.

Rules: values are those of JSON (text, numbers, booleans, null, lists and mappings), and keys are text as it is written; dates,
sets and bytes are a mistake, for nothing behind this knows them; a document is bounded in size, depth and values, what an
alias stands for counted each time; nothing is executed; a key given twice is told, with its line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Set, Tuple, Union

import yaml

from .json_text import text_fault

AT_MOST = 1 << 20  # bytes; PyYAML takes a second for so many
VALUES_AT_MOST = 50_000
DEEPEST = 64
_NUMBER_AT_MOST = 100  # characters: in base 60, or from 4,300 digits on, a long one costs seconds or cannot be printed
Path = Tuple[Union[str, int], ...]
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TEXT = {f"{_TAG}{name}" for name in ("str", "merge", "value")}  # the last two are "<<" and "=" where they mean nothing
_SCALARS = {f"{_TAG}{name}" for name in ("int", "float", "bool", "null")} | _TEXT


class YamlError(ValueError):
    """What is wrong with a document, and where. ``line`` 0: in no one line."""

    def __init__(self, what: str, line: int = 0) -> None:
        self.what, self.line = what, line
        super().__init__(f"line {line}: {what}" if line else what)


@dataclass
class Document:
    """``value``: None for an empty one; ``lines``: of each key and item; ``twice``: keys given again, with their line."""

    value: Any = None
    lines: Dict[Path, int] = field(default_factory=dict)
    twice: List[Tuple[int, Path]] = field(default_factory=list)


def parse_yaml(text: str) -> Document:
    """The document in ``text``. Raises YamlError."""
    if len(text) > AT_MOST:
        raise YamlError(f"has more than {AT_MOST} characters")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        document = Document()
        if node is not None:
            document.value = _Reading(loader, document).value(node, ())
            document.twice.sort()
        return document
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise YamlError(f"not valid YAML: {problem}", mark.line + 1 if mark is not None else 0) from error
    except YamlError:
        raise
    except (ValueError, OverflowError):  # the number of a character that there is not
        raise YamlError("not valid YAML: it holds a character that does not exist") from None


class _Loader(yaml.SafeLoader):
    """Composes nodes as long as they are within the limits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._count = 0
        self._size: Dict[int, Tuple[int, int]] = {}  # node -> its values, aliases each time, and their depth

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stub leaves it out
        line = event.start_mark.line + 1
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._size:
                raise YamlError("an alias stands in what it is the name of", line)
            return node
        self._depth, self._count = self._depth + 1, self._count + 1
        self._check(self._count, self._depth, line)
        node = super().compose_node(parent, index)
        self._depth -= 1
        sizes = [self._size[id(part)] for part in _parts(node)]
        size = 1 + sum(size for size, _ in sizes)
        height = 1 + max((height for _, height in sizes), default=0)
        self._check(size, height, line)
        self._size[id(node)] = size, height
        return node

    @staticmethod
    def _check(values: int, depth: int, line: int) -> None:
        if depth > DEEPEST:
            raise YamlError(f"is nested more than {DEEPEST} deep", line)
        if values > VALUES_AT_MOST:
            raise YamlError(f"has more than {VALUES_AT_MOST} values", line)


def _parts(node: Any) -> List[Any]:
    """The nodes right within a node."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


class _Reading:
    """Nodes to plain data, noting where each part lies."""

    def __init__(self, loader: _Loader, document: Document) -> None:
        self._loader, self._document = loader, document
        self._seen: Set[int] = set()

    def value(self, node: Any, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        kinds = {yaml.MappingNode: {f"{_TAG}map"}, yaml.SequenceNode: {f"{_TAG}seq"}}.get(type(node), _SCALARS)
        if node.tag not in kinds:
            kind = node.tag.replace(_TAG, "!!")[:100]
            raise YamlError(f"not valid here: a value of the kind {kind} (text stands in quotes)", line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Dict[str, Any]:
        if id(node) not in self._seen:
            self._seen.add(id(node))
            self._note_keys(node, path)
        self._loader.flatten_mapping(node)  # what << brings comes first, and gives way to what stands here
        record = {}
        for key, item in node.value:
            name = str(key.value)
            record[name] = self.value(item, (*path, name))
        return record

    def _note_keys(self, node: yaml.MappingNode, path: Path) -> None:
        names: Set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError("a list or mapping cannot be a key", line)
            if fault := text_fault(key.value):
                raise YamlError(f"a key {fault}", line)
            place = (*path, key.value)
            if key.value in names and key.tag != _MERGE:
                self._document.twice.append((line, place))
            names.add(key.value)
            self._document.lines[place] = line

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        line = node.start_mark.line + 1
        if node.tag in _TEXT:
            if fault := text_fault(node.value):
                raise YamlError(f"a text {fault}", line)
            return node.value
        if len(node.value) > _NUMBER_AT_MOST:
            raise YamlError("a number is too long", line)
        try:
            value = self._loader.construct_object(node)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError
            return value
        except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
            kind = node.tag.replace(_TAG, "")
            raise YamlError(f"{node.value!r} is no {kind}", line) from None


def position(document: Document, path: Path) -> int:
    """The line of the part at ``path``, or of the nearest around it."""
    while path and path not in document.lines:
        path = path[:-1]
    return document.lines.get(path, 1)
