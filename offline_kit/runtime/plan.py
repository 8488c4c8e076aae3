"""The GPU plan of a kit: ``python3 -m runtime.plan --kit DIR [--gpu-memory 0=49140,...]``.

Rules: this file is the door: it takes the options, asks ``kit`` what there is, ``evaluate`` whether it fits, ``suggest`` what
would, and ``report`` to say so. Exit 0: it starts, or may not start and nothing refuses it; 3: it does not start, or the
configuration is wrong; 1: something could not be read. Data on stdout, talk on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional

from . import kit
from .gpu_plan import gpus, report
from .gpu_plan.engine_memory import Facts
from .gpu_plan.evaluate import Verdict, evaluate
from .gpu_plan.suggest import suggestions
from .settings.model import ConfigError, Settings


def evaluate_kit(folder: Path, settings: Settings, cards: Mapping[str, gpus.Gpu]) -> Verdict:
    """The verdict for the kit in ``folder`` on these GPUs. Raises OSError."""
    return evaluate(settings, kit.facts_of(folder, settings), cards, kit.image_of(kit.plan_of(folder)))


def memory(text: str) -> Dict[str, int]:
    """``0=49140,1=49140`` to id -> MiB; for argparse."""
    pairs = [part.split("=") for part in text.split(",") if part]
    if any(len(pair) != 2 or not pair[1].strip().isdigit() for pair in pairs):
        raise argparse.ArgumentTypeError(f"'{text}' is not ID=MiB,ID=MiB")
    return {gpu.strip(): int(size) for gpu, size in pairs}


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.plan", description="Do the engines of a kit fit these GPUs?")
    parser.add_argument("--kit", required=True, type=Path, metavar="DIR", help="the kit as mounted")
    parser.add_argument("--gpu-memory", type=memory, metavar="ID=MiB,...", help="total memory of each GPU (nvidia-smi)")
    parser.add_argument("--gpu-free", type=memory, metavar="ID=MiB,...", help="free memory of each GPU")
    parser.add_argument("--gpu", metavar="GPUS", help="plan for other GPUs: 2x48GiB, or 'NVIDIA L40S:2'")
    parser.add_argument("--gpu-file", metavar="FILE", help="what nvidia-smi --query-gpu=... --format=csv printed; - is stdin")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    options = parser.parse_args(arguments)
    try:
        settings, _ = kit.read(options.kit, need_key=False)
        cards = _cards(options, settings)
        facts: Dict[str, Facts] = kit.facts_of(options.kit, settings)
        verdict = evaluate(settings, facts, cards, kit.image_of(kit.plan_of(options.kit)))
        found = suggestions(verdict, facts)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report.as_json(verdict, found), indent=2))
    else:
        print("\n".join(report.lines(verdict, found)))
    return 0 if verdict.fits else 3


def _cards(options: argparse.Namespace, settings: Settings) -> Dict[str, gpus.Gpu]:
    """The GPUs that the options name. Raises ValueError, OSError."""
    if options.gpu:
        return {gpu.id: gpu for gpu in gpus.parse(options.gpu)}
    if options.gpu_file:
        text = sys.stdin.read() if options.gpu_file == "-" else Path(options.gpu_file).read_text("utf-8")
        return {gpu.id: gpu for gpu in gpus.parse_csv(text)}
    if options.gpu_memory:
        return gpus.of_totals(options.gpu_memory, options.gpu_free)
    if settings.device == "cpu":
        return {}
    raise ValueError("name the GPUs: --gpu-memory, --gpu-file or --gpu")


if __name__ == "__main__":
    sys.exit(main())
