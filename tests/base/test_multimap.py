"""The multimap against a dict of lists."""

import random

import pytest

from curate.pipeline.base import multimap
from curate.pipeline.base.multimap import Multimap


@pytest.mark.parametrize("merged", [1, 7, 1000])
def test_it_holds_what_a_dict_of_lists_does(monkeypatch: pytest.MonkeyPatch, merged: int) -> None:
    monkeypatch.setattr(multimap, "MERGED", merged)
    draw, map, known = random.Random(2), Multimap(), dict[int, list[int]]()
    for number in range(500):
        key = draw.choice((draw.randrange(60), 2**60 - 1 - draw.randrange(9)))
        place = (number % 5) << 44 | number
        map.add(key, place)
        known.setdefault(key, []).append(place)
        if number % 50 == 0:
            assert all(map.get(key) == known.get(key, []) for key in [*known, 3, 2**59])
    assert all(map.get(key) == expected for key, expected in known.items())
