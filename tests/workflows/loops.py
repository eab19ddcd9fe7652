"""What tests of `curate improve` share: a loop that takes a second, and how its files are read."""

from pathlib import Path
from typing import Any

from curate.pipeline import api
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.loop import iteration_of
from curate.pipeline.workflows.improve import Improved

Row = dict[str, Any]
ROWS: list[Row] = [{"id": f"r{n}", "instruction": f"Say {n}.", "output": f"{n}!"} for n in range(6)]
HELD_OUT: list[Row] = [{"instruction": f"Say {n} now.", "output": f"{n}!"} for n in range(2)]
FAST: Row = {
    "preset": "demo", "max_tokens": 12, "min_pairs": 1, "template": "wizardlm", "stop": "never",
    "learning_rate": 1e-3, "batch_size": 4, "progress": False,
}  # fmt: skip
REWARDED: Row = {"recipe": "self-rewarding", "iterations": 1, "max_steps": 1, "samples": 3,
                 "temperature": 1.5, "top_p": 1.0}  # fmt: skip


def improve(data: Path, model: Path, out: Path, **options: Any) -> Improved:
    held_out = {"held_out": str(data.with_name("held-out.jsonl"))}
    found = api.improve(
        str(data), model=str(model), out=str(out), **{**FAST, **held_out, **options}
    )
    assert isinstance(found, Improved)
    return found


def stages(run: Path, number: int) -> Row:
    found: Row = iteration_of(RunDir(run), number).manifest["stages"]
    return found


def accounted_for(run: Path, number: int) -> None:
    """Each prompt is one pair or one reason."""
    entry = stages(run, number)
    pairs, left_out = entry["pair"]["pairs"], entry["pair"]["left_out"]
    assert pairs + sum(left_out.values()) == entry["prompts"]["prompts"]
