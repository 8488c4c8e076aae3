"""A stand-in for nvidia-smi: answers the queries of the scripts as drivers of several ages and states do.

Rules: it is a program in PATH, in awk, so that it runs where there is no Python; it answers exactly the fields that are asked
for; what the words of its failures are was read from NVIDIA's own output, as people published it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running."
)
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"
NO_DEVICES = "No devices were found"
LOST = "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.  Reboot the system to recover this GPU"
AWK = r"""
BEGIN { FS = "\t" }
NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
NR == FNR { rows[++count] = $0; next }
END {
    wanted = split(query, fields, ",")
    for (i = 1; i <= wanted; i++)
        if (!(fields[i] in column)) { printf "Field \"%s\" is not a valid field to query.\n\n", fields[i]; exit 2 }
    for (row = 1; row <= count; row++) {
        split(rows[row], value, "\t"); line = ""
        for (i = 1; i <= wanted; i++) line = line (i > 1 ? ", " : "") value[column[fields[i]]]
        print line
    }
}
"""


@dataclass(frozen=True)
class Card:
    """One GPU: memory in MiB; `held`: (pid, program, MiB) of each program that holds memory of it."""

    index: int
    name: str = "NVIDIA A40"
    driver: str = "580.95.05"
    total: str = "46068"
    used: str = "4"
    free: str = ""
    capability: str = "8.6"
    ecc: str = "0"
    mode: str = "Default"
    mig: str = "[N/A]"
    slices: tuple[str, ...] = ()  # UUIDs of its MIG slices
    processes: tuple[tuple[int, str, int], ...] = field(default=())

    @property
    def uuid(self) -> str:
        return f"GPU-{self.index:08x}-0000-4000-8000-00000000000{self.index}"

    def fields(self) -> dict[str, str]:
        """Field of --query-gpu -> what it prints."""
        free = self.free or (str(int(self.total) - int(self.used)) if self.total.isdigit() else self.total)
        return {
            "index": str(self.index),
            "uuid": self.uuid,
            "name": self.name,
            "driver_version": self.driver,
            "memory.total": self.total,
            "memory.used": self.used,
            "memory.free": free,
            "compute_cap": self.capability,
            "ecc.errors.uncorrected.volatile.total": self.ecc,
            "compute_mode": self.mode,
            "mig.mode.current": self.mig,
        }


def nvidia_smi(folder: Path, cards: Sequence[Card], *, refused: Sequence[str] = (), fails: str = "") -> None:
    """Puts the program into `folder`. `refused`: fields that this driver does not know; `fails`: all that it says (exit 9)."""
    names = [name for name in Card(0).fields() if name not in refused]
    lines = ["\t".join(names), *("\t".join(card.fields()[name] for name in names) for card in cards)]
    (folder / "gpus.tsv").write_text("".join(f"{line}\n" for line in lines))
    processes = [f"{card.uuid}, {pid}, {name}, {size}" for card in cards for pid, name, size in card.processes]
    (folder / "apps").write_text("".join(f"{line}\n" for line in processes))
    listed = []
    for card in cards:
        listed.append(f"GPU {card.index}: {card.name} (UUID: {card.uuid})")
        listed += [f"  MIG 1g.10gb     Device  {number}: (UUID: {uuid})" for number, uuid in enumerate(card.slices)]
    (folder / "listed").write_text("".join(f"{line}\n" for line in listed))
    (folder / "query.awk").write_text(AWK)
    (folder / "fails").write_text(fails)
    program = folder / "nvidia-smi"
    program.write_text(
        f"""#!/bin/sh
[ ! -s '{folder}/fails' ] || {{ cat '{folder}/fails'; exit 9; }}
case "$1" in
    -L) exec cat '{folder}/listed' ;;
    --query-compute-apps=gpu_uuid,pid,process_name,used_memory) exec cat '{folder}/apps' ;;
    --query-gpu=*) exec awk -v query="${{1#*=}}" -f '{folder}/query.awk' '{folder}/gpus.tsv' ;;
    *) echo "Invalid option: $1"; exit 2 ;;
esac
"""
    )
    program.chmod(0o755)


LIBCUDA = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* a line CALL NUMBER in the file makes that call fail with that number */
static int result(const char *name) {
    static char text[100];
    FILE *file = fopen("/etc/cuda-stand-in", "r");
    char wanted[50];
    int code = 0;
    if (!file) return 0;
    if (fgets(text, sizeof text, file) && sscanf(text, "%49s %d", wanted, &code) == 2 && strcmp(wanted, name)) code = 0;
    fclose(file);
    return code;
}
int cuInit(unsigned flags) { return result("cuInit"); }
int cuDeviceGetCount(int *count) { *count = 2; return result("cuDeviceGetCount"); }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "NVIDIA A40"); return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return result("cuDevicePrimaryCtxRetain"); }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuGetErrorString(int code, const char **text) {
    *text = code == 803 ? "system has unsupported display driver / cuda driver combination"
          : code == 214 ? "uncorrectable ECC error encountered" : "unknown error";
    return 0;
}
"""
TORCH = """
__version__ = "2.13.0"
class ones:
    def __init__(self, count, device):
        self.count = count
    def __add__(self, other):
        return ones(self.count + other.count, "")
    def sum(self):
        return self.count
class cuda:
    get_arch_list = staticmethod(lambda: "@KERNELS@".split())
    get_device_capability = staticmethod(lambda number: (8, 6))
"""
LIBRARY = Path(sys.base_prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")
HOOK = """#!/bin/bash
# What the NVIDIA container toolkit does, in small: puts the driver's program and library into the container.
set -eu
state=$(cat)
[ ! -s '{folder}/refuses' ] || {{ cat '{folder}/refuses' >&2; exit 1; }}
bundle=$(sed -n 's/.*"bundle":"\\([^"]*\\)".*/\\1/p' <<<"$state")
root=$(sed -n 's/.*"root":{{"path":"\\([^"]*\\)".*/\\1/p' "$bundle/config.json" | head -n 1)
mkdir -p "$root/usr/bin" "$root/usr/lib" "$root/etc"
cp '{folder}/container-nvidia-smi' "$root/usr/bin/nvidia-smi"
cp '{folder}/libcuda.so.1' "$root/usr/lib/libcuda.so.1"
cp '{folder}/cuda-stand-in' "$root/etc/cuda-stand-in"
cp -R '{folder}/site-packages/.' "$root{library}/"
"""


def python_packages(folder: Path, *, kernels: str = "", flashinfer: str = "", triton: bool = False) -> None:
    """What the Python of containers has: a torch with code for `kernels`, if any; FlashInfer without its kernels; Triton."""
    packages = folder / "site-packages"
    shutil.rmtree(packages)
    packages.mkdir()
    if kernels:
        (packages / "torch.py").write_text(TORCH.replace("@KERNELS@", kernels))
    if triton:
        (packages / "triton.py").write_text("")
    if flashinfer:
        about = packages / f"flashinfer_python-{flashinfer}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: flashinfer-python\nVersion: {flashinfer}\n")


def hook(folder: Path) -> None:
    """Puts `nvidia-container-runtime-hook` into `folder`, which dockerd must have in its PATH. What it lays into containers
    follows the files `refuses` (what it says, and fails) and `cuda-stand-in` (`CALL NUMBER`: that call of CUDA fails), and the
    folder `site-packages` (see `python_packages`)."""
    source = folder / "libcuda.c"
    source.write_text(LIBCUDA)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)], check=True)
    listed = "GPU 0: NVIDIA A40 (UUID: GPU-0)\nGPU 1: NVIDIA A40 (UUID: GPU-1)"
    (folder / "container-nvidia-smi").write_text(f'#!/bin/sh\necho "{listed}"\n')
    (folder / "container-nvidia-smi").chmod(0o755)
    (folder / "refuses").write_text("")
    (folder / "cuda-stand-in").write_text("")
    (folder / "site-packages").mkdir(exist_ok=True)
    program = folder / "nvidia-container-runtime-hook"
    program.write_text(HOOK.format(folder=folder, library=LIBRARY))
    program.chmod(0o755)
