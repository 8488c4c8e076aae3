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
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .sizes import GIB, MIB, parse_bytes


@dataclass(frozen=True)
class Card:
    """A row of the table. ``seen``: GiB that CUDA was seen to report; None where that was not found: then 97 % of ``total``."""

    name: str
    total: int
    capability: Tuple[int, int]
    seen: Optional[float]
    source: str

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
    Card("NVIDIA H20", 97871, (9, 0), None, "NVIDIA/nvtrust#128; not found"),
    Card("NVIDIA H200", 143771, (9, 0), 139.72, "sgl-project/sglang#3196; files"),
    Card("NVIDIA H200 NVL", 143771, (9, 0), 139.72, "files; as NVIDIA H200"),
    Card("NVIDIA B200", 183359, (10, 0), 178.35, "NVIDIA/TensorRT-LLM#10278; pytorch/ao#4002"),
)
LEAST = 97  # per cent of nvidia-smi's total that CUDA reports at least (Tesla T4)
FIELDS = ("index", "name", "memory.total", "memory.free", "compute_cap", "driver_version")
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
        total = _mib(row.get("memory.total", ""))
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
    return Gpu(id, name or f"GPU with {total} MiB", total, usable, row.capability if row else None, free)


def of_totals(totals: Mapping[str, int], free: Optional[Mapping[str, int]] = None) -> Dict[str, Gpu]:
    """GPUs of which only memory is known: id -> MiB."""
    return {id: measured(id, total, free=(free or {}).get(id)) for id, total in totals.items()}


def cards_upwards() -> Iterable[Card]:
    """The table, smallest memory first."""
    return sorted(CARDS, key=lambda row: (row.total, row.name))


def _one(what: str) -> Gpu:
    try:
        # Cards are sold in GB and made in GiB.
        total = parse_bytes(re.sub(r"(?i)\s*(?:gi?b?)?$", "GiB", what, count=1)) // MIB
    except ValueError:
        row = card(what)
        if row is None:
            known = ", ".join(row.name for row in CARDS)
            raise ValueError(f"'{what}' is neither a size such as 48GiB nor a known GPU; known are: {known}") from None
        return Gpu("0", row.name, row.total, row.usable_bytes // MIB, row.capability)
    if total < 1024:
        raise ValueError(f"'{what}' is less than 1 GiB")
    return Gpu("0", what, total, total)


def _plain(name: str) -> str:
    return re.sub(r"\b(?:nvidia|geforce|tesla|generation)\b|\(ecc on\)|[\s_-]+", "", name.lower())


def _mib(text: str) -> Optional[int]:
    match = re.fullmatch(r"([0-9]+)(?:\s*MiB)?", text.strip())
    return int(match.group(1)) if match else None
