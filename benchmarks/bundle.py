"""Packing, verifying and unpacking bundles, side by side with the tools that people use.

Run it as python -m benchmarks.bundle.

Rules: all tools do the same work on the same files in one run, taking turns round by round; medians of at least three; whole
processes are measured, the start of Python included; what is written is on the disk when the clock stops, for every tool that
packs; a figure that is missed is printed as missed. Data are made below --work and removed; with --resume they stay until all
is measured, and what was measured before an interruption is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Figure, load, machine, run, table

ROOT = Path(__file__).resolve().parent.parent
GIB = 1 << 30
PYTHON = sys.executable
KIT = Path(sys.executable).with_name("offline-kit")
TOP = "bench-v1.0.0"
PARALLEL = "find . -type f ! -name SHA256SUMS -print0 | xargs -0 -n 1 -P $(nproc) openssl dgst -sha256"
FERRY = """
import sys
from pathlib import Path
from modelferry.pack import write_bundle
tree = Path(sys.argv[1])
files = [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]
source = {"type": "huggingface", "endpoint": "", "repo_id": "a/b", "repo_type": "model", "revision_requested": "main",
          "commit_sha": "0" * 40, "license": None, "gated": False}
write_bundle(str(tree), files, sys.argv[2], None, source)
"""


class Bench:
    """The folders of a run: ``data`` (blobs and lock), ``tree`` (the same, unpacked), ``out`` (what is written)."""

    def __init__(self, work: Path, weights: int, layers: int, ferry: Path | None) -> None:
        self.work, self.ferry = work, ferry
        self.data, self.out = work / "data", work / "out"
        self.bundle = self.out / f"{TOP}.tar.gz"
        self.figures: dict[str, dict[str, Figure]] = {}
        self.environment = {"PYTHONPATH": str(ROOT), "DATA": str(self.data), "OUT": str(self.out), "LC_ALL": "C"}
        self.tree, self.journal = work / "tree" / TOP, work.with_name(f"{work.name}.jsonl")
        self.done: dict[str, list[float]] = {}
        if self.journal.exists():
            self.done = dict(json.loads(line) for line in self.journal.read_text().splitlines())
        if (work / "ready").exists():
            return
        shutil.rmtree(work, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.once(f"{PYTHON} -m benchmarks.child make $DATA {weights} {layers}")
        self.once(f"{PYTHON} -m benchmarks.child pack $DATA {self.bundle} && mkdir {work}/tree")
        self.once(f"tar -xzf {self.bundle} -C {work}/tree && touch ready")

    def once(self, command: str) -> None:
        run(Figure(), command, self.work, self.environment)

    def measure(self, step: str, tool: str, command: str, rounds: int, number: int) -> None:
        """Round ``number`` of a tool, unless it has had all its rounds."""
        if number >= rounds:
            return
        figure = self.figures.setdefault(step, {}).setdefault(tool, Figure())
        key = f"{step}, {tool}, {number}"
        if key in self.done:
            figure.add(*self.done[key])
            return
        run(figure, command, self.work, self.environment)
        with self.journal.open("a") as stream:
            stream.write(json.dumps([key, figure.last]) + "\n")
        print(f"{step:7} {tool:45} {figure.seconds[-1]:8.2f} s {figure.memory[-1]:6.0f} MiB   load {load()}", flush=True)

    def ours(self, rounds: int, number: int) -> None:
        """The steps of offline-kit, which are measured at every size."""
        self.measure(
            "pack", "offline-kit", f"rm -f {self.bundle}; {PYTHON} -m benchmarks.child pack $DATA {self.bundle}", rounds, number
        )
        self.measure("verify", "offline-kit", f"{KIT} verify -q {self.bundle}", rounds, number)
        self.measure("unpack", "offline-kit", f"rm -rf $OUT/u; {KIT} unpack -q {self.bundle} $OUT/u", rounds, number)
        self.once("rm -rf $OUT/u")

    def limits(self, rounds: int, number: int) -> None:
        """What no tool that reads every byte can beat by much."""
        copy = "rm -rf $OUT/c; cp -r $DATA/blobs $OUT/c && sync -f $OUT/c && openssl dgst -sha256 $OUT/c/*"
        self.measure("pack", "cp, then openssl dgst", copy, rounds, number)
        self.once("rm -rf $OUT/c")
        self.measure("verify", "openssl dgst, one process a core", f"cd {self.tree} && {PARALLEL}", rounds, number)

    def others(self, rounds: int, number: int) -> None:
        """The tools that people use."""
        tree = f"-C {self.work}/tree {TOP}"
        self.measure("pack", "tar cf", f"tar cf $OUT/x.tar {tree} && sync $OUT/x.tar", rounds, number)
        self.measure("pack", "tar czf", f"rm -f $OUT/x.tar; tar czf $OUT/x.tgz {tree} && sync $OUT/x.tgz", rounds, number)
        self.once("rm -rf $OUT/t")
        shell = f"mkdir -p $OUT/t && tar -xzf $OUT/x.tgz -C $OUT/t && cd $OUT/t/{TOP} && sha256sum --quiet -c SHA256SUMS"
        self.measure("verify", "tar -xzf, then sha256sum -c", shell, rounds, number)
        if number < rounds:  # the same command is both: there is no way to prove a tar.gz by sums without unpacking it
            self.figures.setdefault("unpack", {})["tar -xzf, then sha256sum -c"] = self.figures["verify"][
                "tar -xzf, then sha256sum -c"
            ]
        self.once("rm -rf $OUT/t")
        single = f"rm -rf $OUT/s; {PYTHON} {ROOT}/offline_kit/bundle/unpack.py {self.bundle} $OUT/s"
        self.measure("unpack", "unpack.py alone", single, rounds, number)
        self.once("rm -rf $OUT/s")
        if self.ferry is not None:
            pack = f"rm -rf $OUT/f; mkdir $OUT/f; {self.ferry}/bin/python -c '{FERRY}' {self.tree} $OUT/f && sync -f $OUT/f"
            self.measure("pack", "modelferry (reads back what it wrote)", pack, rounds, number)
            self.measure("verify", "modelferry", f"{self.ferry}/bin/modelferry verify $OUT/f/*", rounds, number)
            self.once("rm -rf $OUT/g")
            self.measure("unpack", "modelferry", f"{self.ferry}/bin/modelferry unpack $OUT/f/* $OUT/g", rounds, number)
            self.once("rm -rf $OUT/g")


def goals(figures: dict[str, dict[str, Figure]], memory: list[float]) -> str:
    """Each wanted figure, met or missed by the wall's seconds; beside it the same ratio of processor seconds."""
    shell, parallel = "tar -xzf, then sha256sum -c", "openssl dgst, one process a core"
    rows = []
    for step, tool, limit, at_least in (
        ("pack", "tar czf", 25.0, True),
        ("pack", "cp, then openssl dgst", 1.3, False),
        ("verify", shell, 8.0, True),
        ("verify", parallel, 1.2, False),
        ("unpack", shell, 3.0, True),
    ):
        ours, other = figures[step]["offline-kit"], figures[step][tool]
        wall, cpu = other.median / ours.median, statistics.median(other.cpu) / statistics.median(ours.cpu)
        if at_least:
            name, seen, met = f"{step}: times faster than {tool}", f"{wall:.1f}", wall >= limit
            goal, processor = f"at least {limit:g}", f"{cpu:.1f}"
        else:
            name, seen, met = f"{step}: of the time of {tool}", f"{1 / wall:.2f}", 1 / wall <= limit
            goal, processor = f"at most {limit:g}", f"{1 / cpu:.2f}"
        rows.append([name, goal, seen, "met" if met else "**missed**", processor])
    most, flat = max(memory), memory[-1] / memory[0]
    rows.append(["memory, over all sizes", "at most 150 MiB", f"{most:.0f} MiB", "met" if most <= 150 else "**missed**", ""])
    rows.append(
        ["memory, largest size over smallest", "at most 1.1", f"{flat:.2f}", "met" if flat <= 1.1 else "**missed**", ""]
    )
    return table(["wanted", "goal", "seen", "", "of processor seconds"], rows)


def side_by_side(figures: dict[str, dict[str, Figure]]) -> str:
    rows = []
    for step, tools in figures.items():
        own = tools["offline-kit"].median
        for tool, figure in sorted(tools.items(), key=lambda item: item[1].median):
            spread = f"{min(figure.seconds):.1f} to {max(figure.seconds):.1f}"
            cpu, memory = statistics.median(figure.cpu), max(figure.memory)
            times = [f"{figure.median:.1f} s", spread, f"{figure.median / own:.2f}", f"{cpu:.1f} s", f"{memory:.0f} MiB"]
            rows.append([step, tool, *times])
    return table(["step", "tool", "median", "runs", "times ours", "processor", "peak memory"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", type=float, default=2, help="GiB of weights [2]")
    parser.add_argument("--layers", type=float, default=1, help="GiB of image layers [1]")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each tool [3]")
    parser.add_argument("--scaling", default="1,2,4,8", help="GiB of weights, for offline-kit and the limits alone [1,2,4,8]")
    parser.add_argument("--work", type=Path, default=None, help="folder for the data [a temporary one]")
    parser.add_argument(
        "--resume", type=Path, default=None, help="folder that stays until all is measured, to go on with [none]"
    )
    parser.add_argument("--output", type=Path, default=None, help="file for the tables, in Markdown [none]")
    options = parser.parse_args()
    sizes = [float(size) for size in options.scaling.split(",")]
    need = int(GIB * max(4 * (options.weights + options.layers), 5 * max(sizes)))
    base = options.resume.resolve() if options.resume else Path(tempfile.mkdtemp(prefix="bench-", dir=options.work))
    base.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(base).free
    try:
        if free < need:
            sys.exit(f"needs {need >> 30} GiB of disk, {free >> 30} are free: name another folder with --work")
        text = measure_all(base, options, sizes)
    except BaseException:
        if not options.resume:
            shutil.rmtree(base, ignore_errors=True)
        raise
    shutil.rmtree(base)
    print(text)
    if options.output:
        options.output.write_text(text)


def measure_all(base: Path, options: argparse.Namespace, sizes: list[float]) -> str:
    """Every measurement; the report."""
    before = load()
    ferry = install_ferry(base / "ferry")
    main_run = Bench(base / "main", int(options.weights * GIB), int(options.layers * GIB), ferry)
    for number in range(options.rounds):
        main_run.ours(options.rounds, number)
        main_run.limits(options.rounds, number)
        main_run.others(options.rounds, number)
    shutil.rmtree(base / "main", ignore_errors=True)
    rows, memory = [], []
    for size in sizes:
        bench = Bench(base / f"scale-{size:g}", int(size * GIB), 0, None)
        for number in range(options.rounds):
            bench.ours(options.rounds, number)
            bench.limits(options.rounds, number)
        shutil.rmtree(base / f"scale-{size:g}")
        own = {step: bench.figures[step]["offline-kit"] for step in ("pack", "verify", "unpack")}
        memory.append(max(max(figure.memory) for figure in own.values()))
        limit = [bench.figures["pack"]["cp, then openssl dgst"], bench.figures["verify"]["openssl dgst, one process a core"]]
        rows.append(
            [f"{size:g} GiB", *(f"{figure.median:.1f} s" for figure in [*own.values(), *limit]), f"{memory[-1]:.0f} MiB"]
        )
    scaling = table(
        ["weights", "pack", "verify", "unpack", "`cp` + `openssl dgst`", "parallel `openssl dgst`", "peak memory"], rows
    )
    what = f"{options.weights:g} GiB of weights and {options.layers:g} GiB of image layers, medians of {options.rounds} runs"
    missing = "" if ferry else "\nmodelferry was not to be had from the package index: its rows are missing.\n"
    return (
        "# Packing, verifying and unpacking, side by side\n\n"
        f"Made by `python -m benchmarks.bundle`. {what}. Machine: {machine()}.\n"
        f"Load before: {before}; after: {load()} (other work on the machine slows every tool: read the ratios,\n"
        f"and the processor seconds, which other work changes least).\n{missing}"
        f"\n{side_by_side(main_run.figures)}\n{goals(main_run.figures, memory)}\n## Over size\n\n{scaling}"
    )


def install_ferry(folder: Path) -> Path | None:
    """modelferry in an environment of its own, or None."""
    if (folder / "bin/modelferry").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    done = os.system(f"{PYTHON} -m venv {folder} && {folder}/bin/pip install -q modelferry==0.2.1 >/dev/null 2>&1")
    return folder if done == 0 else None


if __name__ == "__main__":
    main()
