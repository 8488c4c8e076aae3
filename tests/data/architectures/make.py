"""Writes the fixtures beside this file: real models as the numbers of their config.json and the table of their tensors.

    python3 -m tests.data.architectures.make

Rules: shapes follow from the numbers by the family's layout, as the published files name their tensors; ``published`` is what
the model's page says its safetensors hold, by dtype, and was never computed from here: that the two agree to the last parameter
is what makes a fixture worth something (tests/unit/runtime/test_plan_architectures.py). A fixture is data of
ours, no copy of a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offline_kit.runtime.gpu_plan import architecture, tensor_table
from tests.data.architectures import models

BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I32": 4, "I64": 8}


class Table:
    """Tensors being listed. ``dtype``: of those that say nothing else."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.header: dict[str, Any] = {}

    def add(self, name: str, *shape: int, layers: Iterable[int] = (0,), experts: int = 1, dtype: str = "") -> None:
        """``{}`` in the name: the number of the layer; ``[]``: that of the expert."""
        kind = dtype or self.dtype
        size = math.prod(shape) * BYTES[kind]
        for layer in layers:
            for expert in range(experts):
                full = name.replace("{}", str(layer)).replace("[]", str(expert))
                assert full not in self.header, full
                self.header[full] = {"dtype": kind, "shape": list(shape), "data_offsets": [0, size]}


def main(folder: Path) -> None:
    for old in folder.glob("*.json"):
        old.unlink()
    for name, (config, build, published, dtype) in models.ALL.items():
        table = Table(dtype)
        build(table, config)
        rows = tensor_table.rows([table.header])
        record = {"model": name, "config": architecture.subset(config), "tensors": rows, "published": published}
        text = json.dumps(record, indent=None, sort_keys=True)
        # One row a line: small, and a difference can be read.
        text = (
            text.replace('{"count"', '\n  {"count"').replace('"model"', '\n "model"').replace('"published"', '\n "published"')
        )
        (folder / f"{name.split('/')[1]}.json").write_text(text.replace('"tensors"', '\n "tensors"') + "\n")


if __name__ == "__main__":
    main(Path(__file__).parent)
