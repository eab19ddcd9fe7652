"""Curves that were left on disk."""

from pathlib import Path

import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.training.folder.loss_curve import read_curve


@pytest.mark.parametrize("row", ["x,1.5", "1,2,3", "1," + "9" * 200_000], ids=["text", "3", "long"])
def test_a_damaged_curve_is_one_sentence(row: str, tmp_path: Path) -> None:
    (tmp_path / "loss.csv").write_text("step,training_loss\n1,2.5\n", "utf-8")
    assert read_curve(tmp_path) == [{"step": 1.0, "training_loss": 2.5}]
    with (tmp_path / "loss.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    with pytest.raises(CurateError, match=r"loss\.csv cannot be read"):
        read_curve(tmp_path)
