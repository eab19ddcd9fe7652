"""What of a loop must not depend on kills."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.loop import history, iteration_of


def result_of(run: Path) -> list[Any]:
    """Measures, and of two iterations answers, rows trained on and weights."""
    found: list[Any] = [history(RunDir(run))]
    for number in (1, 2):
        folder = iteration_of(RunDir(run), number).path
        answers = pq.read_table(folder / "answers" / "answers.parquet").to_pylist()
        found.append([(row["id"], row["sample"], row["output"]) for row in answers])
        rows = pq.read_table(folder / "training.parquet").to_pylist()
        found.append([(row["id"], row["chosen"], row["rejected"]) for row in rows])
        found.append((folder / "model" / "model.safetensors").read_bytes())
    return found
