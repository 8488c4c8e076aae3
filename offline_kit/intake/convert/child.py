"""``python -I -m offline_kit.intake.convert.child SOURCE TARGET EMPTY``: one file of torch.save becomes one of safetensors.

Rules: all that it needs is imported and opened before it gives up its rights, and nothing of SOURCE is read before that; the
same tensors give the same bytes; exit code 3: refused, 4: cannot be converted, 5: a disk fails, with one line that says why.
"""

from __future__ import annotations

import codecs
import json
import sys
from pathlib import Path
from typing import IO

from offline_kit.common.output import answer
from offline_kit.intake.convert.lock_down import lock_down
from offline_kit.intake.convert.pickled_tensors import Checkpoint, NotConvertible, Refused

REFUSED, NOT_CONVERTIBLE, DISK_FAILED = 3, 4, 5
_MEMORY = 2 << 30  # bytes of addresses
_SECONDS = 3600
_TIED = 4  # a tensor may stand under several names, each with its bytes: times the source's size


def write_safetensors(checkpoint: Checkpoint, out: IO[bytes], at_most: int) -> None:
    """Writes all tensors: wide types first, so that every one is aligned, then by name. Raises NotConvertible."""
    ordered = sorted(checkpoint.tensors.items(), key=lambda pair: (-pair[1].item, pair[0]))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [end, end + tensor.size]}
        end += tensor.size
    if end > at_most:
        raise NotConvertible(f"its tensors would take {end} bytes, far more than the file has")
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in ordered:
        for piece in checkpoint.content(tensor):
            out.write(piece)


def main(source: str, target: str, empty: str) -> int:
    for name in ("cp437", "ascii", "utf-8", "latin-1"):
        codecs.lookup(name)  # what zipfile and pickle would look for later
    with Path(source).open("rb") as stream, Path(target).open("wb") as out:
        at_most = _TIED * Path(source).stat().st_size
        lock_down(empty, memory=_MEMORY, file_size=at_most + (64 << 20), seconds=_SECONDS)
        try:
            write_safetensors(Checkpoint(stream), out, at_most)
        except (Refused, NotConvertible) as error:
            answer(ascii(str(error))[1:-1])
            return REFUSED if isinstance(error, Refused) else NOT_CONVERTIBLE
        except OSError as error:
            answer(f"{error.errno} {error.strerror}")
            return DISK_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
