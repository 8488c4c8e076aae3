"""How busy is this engine: what deploy.sh status shows of it.

Rules: one file that imports nothing of the package, as health.py, so that it starts in milliseconds; a figure that the engine
does not tell is ``-``, never 0.
"""

from __future__ import annotations

import sys
import urllib.request
from typing import Dict, List

METRICS = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:request_success_total")


def sums(page: str) -> List[str]:
    """The sum over all series of each of METRICS, ``-`` where the page has none."""
    found: Dict[str, float] = {}
    for line in page.splitlines():
        name = line.split("{")[0].split(" ")[0]
        if name in METRICS:
            found[name] = found.get(name, 0) + float(line.rsplit(" ", 1)[1])
    return [str(int(found[name])) if name in found else "-" for name in METRICS]


def main() -> int:
    """Prints three figures: requests running, waiting, finished."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:8000/metrics", timeout=3) as answer:
            print(*sums(answer.read().decode("utf-8", "replace")))
    except (OSError, ValueError):
        print(*("-" for _ in METRICS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
