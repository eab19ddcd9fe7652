"""What is to be done with a file, by what it is on both sides; and the notes of that."""

from itertools import product
from pathlib import Path

import pytest

from curate.pipeline.remote.syncing import Action, Index, Synced, action

OLD, NEW = (3, 1), (4, 2)


@pytest.mark.parametrize(
    ("here", "there", "known", "todo"),
    [
        (None, None, True, "forget"),
        (OLD, "a", True, "none"),
        (NEW, "a", True, "push"),
        (OLD, "b", True, "fetch"),
        (NEW, "b", True, "settle"),
        (None, "a", True, "remove there"),
        (OLD, None, True, "remove here"),
        (None, "b", True, "fetch"),
        (NEW, None, True, "settle"),
        (None, None, False, "none"),
        (OLD, None, False, "push"),
        (None, "a", False, "fetch"),
        (OLD, "a", False, "settle"),
    ],
)
def test_each_state_of_both_sides(
    here: tuple[int, int] | None, there: str | None, known: bool, todo: Action
) -> None:
    assert action(here, there, Synced(OLD, "a") if known else None) == todo


def test_what_is_to_be_pushed_in_any_case() -> None:
    known = Synced(None, "a")
    assert action(OLD, "a", known) == "push"
    assert action(OLD, "b", known) == "settle"


def test_the_index_comes_back_as_it_was_noted(tmp_path: Path) -> None:
    place = tmp_path / "home" / "index.jsonl"
    index = Index(place)
    for name, stat in product(("a", "é/b", "c"), (OLD, NEW)):
        index.note(name, Synced(stat, f"tag of {name}"))
    index.note("c", None)
    index.note("d", Synced(None, "x"))
    for _ in range(2):
        again = Index(place)
        again.compact()
        assert set(again.names()) == {"a", "é/b", "d"}
        assert again.get("é/b") == Synced(NEW, "tag of é/b")
        assert (again.get("c"), again.get("d")) == (None, Synced(None, "x"))
    assert len(place.read_text("utf-8").splitlines()) == 3


@pytest.mark.parametrize("end", ['["a", [1', "[1]", "{}", "null", '["a", ["x"], "b"]'])
def test_a_damaged_line_of_the_index_hides_no_other(tmp_path: Path, end: str) -> None:
    place = tmp_path / "index.jsonl"
    Index(place).note("a", Synced(OLD, "t"))
    with place.open("a") as file:
        file.write(end)
    assert Index(place).get("a") == Synced(OLD, "t")
