"""GPUs: what is known of common ones, and how a person or nvidia-smi names those of a host.

Rules: memory in MiB as ``nvidia-smi --query-gpu=memory.total`` prints it; ``usable`` is the total that CUDA itself reports
(what vLLM multiplies gpu_memory_utilization with), 1 to 3 % less, because the driver keeps a part. GDDR loses 1/16 to ECC:
data-centre cards come with it on, workstation cards have a row for each. A size without a name ("2x48GiB") is taken at its
word. A GPU that is not in the table is no mistake: CUDA's total is then that of the known cards with the same memory, and
otherwise 97 % of what nvidia-smi says, the least that was seen of any.

Sources: each row names its own, ``source``: where nvidia-smi printed ``total``; then where CUDA reported ``seen``, in an
out-of-memory message or deviceQuery. Reports of one card differ, it seems with the driver: the least that was seen counts,
and in brackets is what that place says where it is another number. "owner/repo#1" is a thread on GitHub, "owner/repo:path" a
file, "there" the place before; "files" are public files that a full-text search shows without their address, and "as NAME" is
taken over from that card. Compute capability is from NVIDIA's list (developer.nvidia.com/cuda-gpus). None was measured by
this project.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ..settings.sizes import GIB, MIB, parse_bytes


@dataclass(frozen=True)
class Card:
    """A row of the table. ``seen``: GiB that CUDA was seen to report; None where that was not found: then 97 % of ``total``.

    ``unified``: it shares the system's memory, of which nvidia-smi does not speak: ``total`` is then what others counted.
    """

    name: str
    total: int
    capability: Tuple[int, int]
    seen: Optional[float]
    source: str
    unified: bool = False

    @property
    def usable_bytes(self) -> int:
        return int(self.seen * GIB) if self.seen else self.total * MIB * LEAST // 100


@dataclass(frozen=True)
class Gpu:
    """One GPU of a host. ``free``: MiB free before any engine starts, None where it is not known."""

    id: str
    name: str
    total: int
    usable: int
    capability: Optional[Tuple[int, int]] = None
    free: Optional[int] = None
    driver: Optional[int] = None
    unified: bool = False

    @property
    def a100(self) -> bool:
        return "A100" in self.name


CARDS: Tuple[Card, ...] = (
    Card("Tesla T4", 15360, (7, 5), 14.56, "robbyant-research/MagicQuill#57; facebookresearch/tribev2#28, on Colab"),
    Card("Tesla V100-SXM2-16GB", 16384, (7, 0), 15.77, "1CatAI/1Cat-vLLM#85; vllm-project/vllm#11251, card not named"),
    Card("NVIDIA RTX A4000", 16376, (8, 6), 15.61, "geerlingguy/raspberry-pi-pcie-devices#692; DengKaiCQ/VGGT-Long#6"),
    Card("Tesla V100-SXM2-32GB", 32768, (7, 0), 31.73, "files; ollama/ollama#16533 (32501 MiB)"),
    Card("NVIDIA A10G", 23028, (8, 6), 21.96, "NVIDIA/DCGM#232; as NVIDIA A10"),
    Card("NVIDIA A10", 23028, (8, 6), 21.96, "mayooot/detect-gpu#3; zai-org/CogVLM#236 (21.99), files, card not named"),
    Card("NVIDIA L4", 23034, (8, 9), 22.03, "NVIDIA/TensorRT-LLM#2398; files"),
    Card("NVIDIA GeForce RTX 3090", 24576, (8, 6), 23.56, "noonghunna/club-3090#390; GaoLii/DSP#10 (23.70), files"),
    Card("NVIDIA RTX A5000", 24564, (8, 6), 23.56, "zai-org/GLM-4#730; there (23.68), as NVIDIA GeForce RTX 3090"),
    Card("NVIDIA GeForce RTX 4090", 24564, (8, 9), 23.51, "RLinf/RLinf#255; Soul-AILab/SoulX-FlashTalk#5 (23.52), files"),
    Card(
        "NVIDIA GeForce RTX 5090",
        32607,
        (12, 0),
        31.34,
        "noonghunna/club-3090#741; aikitoria/open-gpu-kernel-modules#1 (31.36), files",
    ),
    Card("NVIDIA RTX 5000 Ada Generation", 32760, (8, 9), None, "data sheet size, not seen in nvidia-smi output; not found"),
    Card(
        "NVIDIA A100-SXM4-40GB",
        40960,
        (8, 0),
        39.38,
        "bottlerocket-os/bottlerocket-core-kit#834; bottlerocket-os/bottlerocket#3873 (39.39), files",
    ),
    Card("NVIDIA A100-PCIE-40GB", 40960, (8, 0), 39.38, "files; as NVIDIA A100-SXM4-40GB"),
    Card(
        "NVIDIA A40",
        46068,
        (8, 6),
        44.34,
        "thamada/nvidia-smi:nvsim/A40x10_smi.py; thamada/nvidia-smi:nvsim/A40x10_deviceQuery.py",
    ),
    Card("NVIDIA L20", 46068, (8, 9), None, "files; not found"),
    Card("NVIDIA L40", 46068, (8, 9), 44.40, "files; NVlabs/Eagle#68"),
    Card("NVIDIA L40S", 46068, (8, 9), 44.39, "akash-network/provider-configs#99; stepfun-ai/Step-Video-T2V#8 (44.42), files"),
    Card("NVIDIA RTX A6000 (ECC on)", 46068, (8, 6), None, "thamada/gls:gls/RTX_A6000_x9_smi.py; not found"),
    Card("NVIDIA RTX 6000 Ada Generation (ECC on)", 46068, (8, 9), 44.43, "DINGYANB/MTVCrafter#21; there"),
    Card("NVIDIA RTX A6000", 49140, (8, 6), 47.40, "noonghunna/club-3090#1047; google-research/semivl#18 (47.54), files"),
    Card("NVIDIA RTX 6000 Ada Generation", 49140, (8, 9), 47.40, "ollama/ollama#9143; as NVIDIA RTX A6000"),
    Card("NVIDIA A100-SXM4-80GB", 81920, (8, 0), 79.14, "NVIDIA/mig-parted#31; lianqi1008/Control-GIC#6, form not named"),
    Card("NVIDIA A100 80GB PCIe", 81920, (8, 0), 79.14, "files; lianqi1008/Control-GIC#6, form not named"),
    Card(
        "NVIDIA H100 PCIe",
        81559,
        (9, 0),
        79.10,
        "triton-inference-server/tensorrtllm_backend:docs/baichuan.md; as NVIDIA H100 80GB HBM3",
    ),
    Card("NVIDIA H100 80GB HBM3", 81559, (9, 0), 79.10, "NVIDIA/nccl#1264; vllm-project/vllm#27508 (79.11), files"),
    Card("NVIDIA H100 NVL", 95830, (9, 0), 93.02, "NVIDIA/gpu-admin-tools#4; files"),
    Card(
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        97887,
        (12, 0),
        94.97,
        "vllm-project/vllm#43412; antirez/ds4#431, edition not named",
    ),
    Card(
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        97887,
        (12, 0),
        94.97,
        "vllm-project/vllm#27542, edition not named; antirez/ds4#431, edition not named",
    ),
    Card(
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        97887,
        (12, 0),
        94.97,
        "vllm-project/recipes#831; as NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    ),
    Card("NVIDIA H20", 97871, (9, 0), None, "NVIDIA/nvtrust#128; not found"),
    Card("NVIDIA H200", 143771, (9, 0), 139.72, "sgl-project/sglang#3196; files"),
    Card("NVIDIA H200 NVL", 143771, (9, 0), 139.72, "files; as NVIDIA H200"),
    Card(
        "NVIDIA GB10",
        124610,
        (12, 1),
        119.63,
        "files; files (121.63, 121.7)",
        unified=True,
    ),
    Card("NVIDIA B200", 183359, (10, 0), 178.35, "NVIDIA/TensorRT-LLM#10278; pytorch/ao#4002"),
)
LEAST = 97  # per cent of nvidia-smi's total that CUDA reports at least (Tesla T4)
FIELDS = ("index", "name", "memory.total", "memory.free", "compute_cap", "driver_version")
# A slice of a card (MIG) by its profile, as nvidia-smi -L names it: "NVIDIA A100-SXM4-80GB MIG 3g.40gb". What it has is 95 to
# 98 % of the size in its name (NVIDIA's MIG user guide: 9,728 MiB of 1g.10gb, 40,192 of 3g.40gb): the least counts.
_SLICE = re.compile(r"(?i)(.*?)\s*\bMIG\s+([0-9])g\.([0-9]{1,3})gb(?:\+me(?:\.all)?)?")
_SLICE_SHARE = 95
_SLICE_PARTS = (1, 2, 3, 4, 7)  # of a card's seven (MIG user guide); its GB are at most those of the card
_LARGEST = 1024 << 10  # MiB: no card is near it, while "4090" GiB is a name
_COUNTED = re.compile(r"([0-9]{1,2})\s*[xX×]\s*(.+)")


def card(name: str, total: Optional[int] = None) -> Optional[Card]:
    """The row for the GPU ``name``, whose memory is ``total`` MiB where that is known (ECC decides between two rows)."""
    wanted = _plain(name)
    rows = [row for row in CARDS if _plain(row.name) == wanted]
    if total is None:
        return max(rows, key=lambda row: ("ECC" in name) == ("ECC" in row.name), default=None)
    return next((row for row in rows if row.total == total), None)


def parse(text: str) -> List[Gpu]:
    """``2x48GiB``, ``48GiB``, ``NVIDIA L40S:2`` or ``2x L40S``, several with commas. Raises ValueError."""
    found: List[Gpu] = []
    for part in (piece.strip() for piece in text.split(",")):
        counted = _COUNTED.fullmatch(part)
        count, what = (int(counted.group(1)), counted.group(2)) if counted else (1, part)
        if re.fullmatch(r".+:[0-9]{1,2}", what):
            what, _, number = what.rpartition(":")
            count *= int(number)
        gpu = _one(what.strip())
        if not 1 <= count <= 64:
            raise ValueError(f"'{part}' asks for {count} GPUs: 1 to 64 can be planned for")
        found += [gpu] * count
    return [replace(gpu, id=str(number)) for number, gpu in enumerate(found)]


def parse_csv(text: str) -> List[Gpu]:
    """What ``nvidia-smi --query-gpu=index,name,memory.total,memory.free,compute_cap,driver_version --format=csv`` prints.

    The heading says which columns there are (units in it or in the fields do not matter); without one, they are FIELDS.
    What a driver lacks, ``[N/A]`` or ``[Not Supported]``, is unknown. Raises ValueError.
    """
    lines = [[field.strip() for field in line] for line in csv.reader(text.strip().splitlines()) if line]
    heading = [re.sub(r"\s*\[.*\]$", "", field) for field in lines[0]] if lines else []
    columns: Sequence[str] = FIELDS
    if "memory.total" in heading:
        columns, lines = heading, lines[1:]
    gpus = []
    for number, line in enumerate(lines):
        row = {name: line[place] for place, name in enumerate(columns) if place < len(line)}
        total = _mib(row.get("memory.total", "")) or _known_total(row.get("name", ""))
        if total is None:
            raise ValueError(f"GPU {row.get('index', number)} does not report its memory: name it as '--gpu NxSIZE'")
        capability = re.fullmatch(r"([0-9]+)\.([0-9]+)", row.get("compute_cap", ""))
        driver = re.match(r"([0-9]+)\.", row.get("driver_version", ""))
        gpu = measured(row.get("index", str(number)), total, row.get("name", ""), _mib(row.get("memory.free", "")))
        if capability:
            gpu = replace(gpu, capability=(int(capability.group(1)), int(capability.group(2))))
        gpus.append(replace(gpu, driver=int(driver.group(1)) if driver else None))
    if not gpus:
        raise ValueError("no GPU is named")
    return gpus


def measured(id: str, total: int, name: str = "", free: Optional[int] = None) -> Gpu:
    """A GPU of which nvidia-smi says ``total`` MiB."""
    row = card(name, total) if name else None
    alike = [row] if row else [other for other in CARDS if other.total == total]
    usable = min([other.usable_bytes // MIB for other in alike], default=total * LEAST // 100)
    whole = row or card(_SLICE.sub(r"\1", name))
    capability = whole.capability if whole else None
    # Of one without a name, its memory tells: no other card has nearly as much.
    shared = row.unified if row else not name and any(abs(total - c.total) * 33 < total for c in CARDS if c.unified)
    return Gpu(id, name or f"GPU with {total} MiB", total, usable, capability, free, unified=shared)


def of_totals(totals: Mapping[str, int], free: Optional[Mapping[str, int]] = None) -> Dict[str, Gpu]:
    """GPUs of which only memory is known: id -> MiB."""
    return {id: measured(id, total, free=(free or {}).get(id)) for id, total in totals.items()}


def cards_upwards() -> Iterable[Card]:
    """The table, smallest memory first."""
    return sorted(CARDS, key=lambda row: (row.total, row.name))


def _one(what: str) -> Gpu:
    """The GPU of this name or memory. A large number without a unit is a name cut short."""
    row = card(what)
    if row is not None:
        return Gpu("0", row.name, row.total, row.usable_bytes // MIB, row.capability, unified=row.unified)
    if part := _SLICE.fullmatch(what):
        total = _slice_total(part)
        if total is None:
            raise ValueError(f"'{what}' is no slice that such a card can have (nvidia-smi mig -lgip lists them)")
        return measured("0", total, what)
    try:
        # Cards are sold in GB and made in GiB (ADR 9): here, and only here, GB means GiB.
        total = parse_bytes(re.sub(r"(?i)\s*(?:gi?b?)?$", "GiB", what, count=1)) // MIB
        if total > _LARGEST:
            raise ValueError(what)
    except ValueError:
        raise ValueError(f"'{what}' is neither a size such as 48GiB nor a known GPU; {_alike(what)}") from None
    if total < 1024:
        raise ValueError(f"'{what}' is less than 1 GiB")
    return Gpu("0", what, total, total)


def _known_total(name: str) -> Optional[int]:
    """MiB of a card that shares the system's memory, for which nvidia-smi prints none; of a slice, by its profile."""
    row, part = card(name), _SLICE.fullmatch(name)
    if part:
        return _slice_total(part)
    return row.total if row and row.unified else None


def _slice_total(part: "re.Match[str]") -> Optional[int]:
    """MiB of a slice, by its profile; None where no card has such a one."""
    whole, gb = card(part.group(1)), int(part.group(3))
    most = (whole.total if whole else max(row.total for row in CARDS)) // 1024 + 1
    possible = int(part.group(2)) in _SLICE_PARTS and 0 < gb <= most
    return gb * 1024 * _SLICE_SHARE // 100 if possible else None


def _alike(what: str) -> str:
    """The names that may have been meant."""
    names = [row.name for row in CARDS if _plain(what) and _plain(what) in _plain(row.name)]
    names = names or get_close_matches(what, [row.name for row in CARDS], 3, 0.4)
    if names:
        return "did you mean " + " or ".join(f"'{name}'" for name in names[:3]) + "?"
    return "any card that is not known can be given by its memory"


def _plain(name: str) -> str:
    return re.sub(r"\b(?:nvidia|geforce|tesla|generation)\b|\(ecc on\)|[\s_-]+", "", name.lower())


def _mib(text: str) -> Optional[int]:
    match = re.fullmatch(r"([0-9]+)(?:\s*MiB)?", text.strip())
    return int(match.group(1)) if match else None
