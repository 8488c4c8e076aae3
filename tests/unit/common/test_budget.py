"""What one thing from outside may cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offline_kit.common.budget import Budget, OverBudget


@pytest.mark.parametrize(
    ("spend", "said"),
    [
        (lambda budget: budget.keep(6), "held in memory"),
        (lambda budget: budget.expand(6), "after unpacking"),
        (lambda budget: budget.add_nodes(6), "values"),
        (lambda budget: [budget.add_entry("a") for _ in range(6)], "entries"),
        (lambda budget: budget.add_entry("é" * 3), "path of more than 5 bytes"),
        (lambda budget: budget.check_depth(6), "5 deep"),
    ],
)
def test_more_than_is_left_is_refused_by_name(spend: Callable[[Budget], object], said: str) -> None:
    with pytest.raises(OverBudget, match=said):
        spend(Budget(kept=5, nodes=5, depth=5, entries=5, path=5, expanded=5))


def test_all_of_it_may_be_spent() -> None:
    budget = Budget(kept=5, expanded=5, entries=1)
    budget.keep(2)
    budget.keep(3)
    budget.expand(5)
    budget.add_entry("path/to/a/file")
    with pytest.raises(OverBudget):
        budget.keep(1)
