"""`curate status` of trainings and comparisons, by what their folders hold."""

import json
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.stages.status.stage import status
from curate.pipeline.stages.status.wording import in_words
from curate.pipeline.training.folder.checkpoints import CHECKPOINTS, CLAIM, MANIFEST, OPTIONS, seal


def training(folder: Path, *steps: int, **options: Any) -> Path:
    """A training of 10 steps with a checkpoint after each of these."""
    folder.mkdir(parents=True)
    (folder / CLAIM).write_text("{}", "utf-8")
    begun = {"command": "finetune", "options": options}
    (folder / OPTIONS).write_text(json.dumps(begun), "utf-8")
    for step in steps:
        checkpoint = folder / CHECKPOINTS / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "trainer_state.json").write_text('{"max_steps": 10}', "utf-8")
        seal(checkpoint)
    return folder


def test_a_training_is_told_by_its_checkpoints_and_goes_on_as_it_was_given(tmp_path: Path) -> None:
    folder = training(tmp_path / "tuned", 3, 6, data="d.jsonl", model="m", preset="demo")
    (folder / CHECKPOINTS / "checkpoint-9").mkdir()  # cut: it has no seal
    found = status(str(folder))
    (stage,) = found.stages
    assert (stage.state, stage.done, stage.total, stage.left) == ("unfinished", 6, 10, 4)
    assert found.next == [f"curate finetune d.jsonl --model m --preset demo --out {folder}"]
    assert "6 of 10 steps" in "\n".join(in_words(found))
    result = {"steps": 10, "rows": 5, "seconds": 2.0}
    (folder / MANIFEST).write_text(json.dumps({"result": result}), "utf-8")
    found = status(str(folder))
    assert (found.stages[0].state, found.stages[0].per_second) == ("finished", 5.0)
    assert found.next[0].startswith(f"curate generate QUESTIONS --model {folder} ")


def test_a_training_before_its_first_checkpoint_has_no_number_of_steps(tmp_path: Path) -> None:
    (stage,) = status(str(training(tmp_path / "m", data="d", model="m"))).stages
    assert (stage.done, stage.total, stage.left) == (0, None, None)


@pytest.mark.parametrize("finished", [False, True])
def test_a_comparison_is_told_by_its_trainings(tmp_path: Path, finished: bool) -> None:
    folder = tmp_path / "compared"
    training(folder / "random-seed0", 3)
    training(folder / "selected-seed0")
    begun = {"command": "compare", "options": {"run": "r", "model": "m", "seeds": [0]}}
    (folder / OPTIONS).write_text(json.dumps(begun), "utf-8")
    if finished:
        (folder / "compare.json").write_text("{}", "utf-8")
    found = status(str(folder))
    assert [stage.stage for stage in found.stages] == [
        "finetune/random-seed0", "finetune/selected-seed0",
    ]  # fmt: skip
    again = [f"curate compare r --model m --seeds 0 --out {folder}"]
    assert found.next == ([] if finished else again)
