"""The small files of a bundle, those that lie before its payload, with their sizes; some with their content.

Rules: reads up to the first file of the payload and no more; proves nothing: that is ``verify``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offline_kit.bundle.compression import Damaged
from offline_kit.bundle.format import parts
from offline_kit.bundle.format.member import parse
from offline_kit.bundle.format.paths import is_payload
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.read.open import inflate
from offline_kit.bundle.read.tar_stream import TarReader
from offline_kit.common.errors import BundleDamaged, DiskError


@dataclass(frozen=True)
class SmallFiles:
    """``sizes``: bytes by path in the kit; ``texts``: the content of those that were asked for."""

    sizes: dict[str, int]
    texts: dict[str, bytes]


def read_small_files(bundle: Path, wanted: Callable[[str], bool], at_most: int) -> SmallFiles:
    """The small files of the bundle at ``bundle``; of those that are ``wanted``, up to ``at_most`` bytes long, the content.

    Raises BundleDamaged, BundleUnreadable and DiskError.
    """
    found = SmallFiles({}, {})
    try:
        with MultiFile(parts.locate(bundle).files) as span:
            reader = TarReader(inflate(span))
            for tar in reader:
                header = parse(tar)
                path = header.path.partition("/")[2]
                reader.expect(header.size)
                if is_payload(path) and not path.endswith("/"):
                    break
                if path and not path.endswith("/"):
                    found.sizes[path] = header.size
                    if wanted(path) and header.size <= at_most:
                        found.texts[path] = b"".join(reader.content(header.size))
    except (Damaged, ValueError) as error:
        raise BundleDamaged(str(error), where=str(bundle)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(bundle)) from error
    return found
