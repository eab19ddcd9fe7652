"""A model and records for loops."""

from pathlib import Path

import pytest

from ..training.byte_student import save_rater
from ..training.data import write_jsonl
from .loops import HELD_OUT, ROWS


@pytest.fixture(scope="session")
def talker(byte_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers, and rates, with a score."""
    return save_rater(byte_student, tmp_path_factory.mktemp("talkers") / "talker")


@pytest.fixture(scope="session")
def loop_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What loops start from, and beside it what is held out."""
    folder = tmp_path_factory.mktemp("data")
    write_jsonl(folder / "held-out.jsonl", HELD_OUT)
    return write_jsonl(folder / "data.jsonl", ROWS)
