"""Work side by side: the first error ends the rest."""

from __future__ import annotations

import threading
import time

import pytest

from offline_kit.common import concurrency
from offline_kit.common.errors import NetworkError


def test_results_come_in_order() -> None:
    def piece(number: int) -> int:
        time.sleep(0.02 * (3 - number))
        return number

    assert concurrency.run_all([lambda n=n: piece(n) for n in range(4)], 4, lambda: None) == [0, 1, 2, 3]  # type: ignore[misc]
    assert concurrency.run_all([], 4, lambda: None) == []


def test_the_first_error_stops_the_rest() -> None:
    stopped, started = threading.Event(), []

    def wait() -> None:
        started.append(1)
        stopped.wait(60)

    def fail() -> None:
        time.sleep(0.1)
        raise NetworkError("broken")

    with pytest.raises(NetworkError, match="broken"):
        concurrency.run_all([wait, fail, *[wait] * 20], 3, stopped.set)
    assert stopped.is_set()
    assert len(started) <= 3
