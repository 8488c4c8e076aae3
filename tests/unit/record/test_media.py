"""Media: what fits on one, which part comes on which, and what is no medium."""

from __future__ import annotations

import pytest

from offline_kit.bundle.format.media import number_media, parse_medium
from offline_kit.common.errors import SpecError


@pytest.mark.parametrize(
    ("name", "capacity"), [("DVD", 4_700_372_992), ("bd25", 25_025_314_816), ("BD50", 50_050_629_632), ("700MB", 700_000_000)]
)
def test_a_part_fills_a_medium_and_leaves_room_for_a_file_system(name: str, capacity: int) -> None:
    medium = parse_medium(name)
    assert medium.capacity is not None and medium.capacity <= capacity
    assert capacity * 0.95 < medium.part < medium.capacity - (2 << 20) and medium.part % 2048 == 0


def test_fat32_limits_the_file_and_not_the_medium() -> None:
    medium = parse_medium("FAT32")
    assert medium.capacity is None and 4 << 30 > medium.part >= (4 << 30) - (1 << 20)
    assert number_media(medium, [("a", medium.part), ("b", 1)]) == [None, None]


def test_as_many_parts_as_fit_come_on_one_medium() -> None:
    medium = parse_medium("10MiB")
    sizes = [4 << 20, 4 << 20, 4 << 20, 9 << 20, 1 << 10]
    assert number_media(medium, [(str(size), size) for size in sizes]) == [1, 1, 2, 3, 3]
    with pytest.raises(SpecError, match=r"takes 9\.9 MiB") as raised:
        number_media(medium, [("whole", 10 << 20)])
    assert raised.value.where == "whole" and "--medium 10MiB" in (raised.value.remedy or "")


@pytest.mark.parametrize("text", ["", "CD-R", "-3", "4XB", "DVD9", "1.5.3G"])
def test_what_is_no_medium(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_medium(text)
