"""Candidates of the tests' own, short enough for a tiny student, and how they are written."""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import load_from_disk

from curate.pipeline.config import InputConfig, ScoringConfig, SelectConfig
from curate.pipeline.records import CANDIDATES
from curate.pipeline.runs.importing import SHARD
from curate.pipeline.stages.selection.stage import SelectResult, select

from ..scoring.tiny import TEXTS

WORDS = " ".join(TEXTS).split()
Row = dict[str, Any]


def record(id: str, *, seed: int, **statuses: str) -> list[Row]:
    """Four candidates of random words, as METHOD.md section 1 puts them together."""
    noise = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(noise.choices(WORDS, k=noise.randint(2, most)))

    x0, x_ins, y0, y_ins, y_res, y_both = (words(n) for n in (6, 9, 6, 9, 9, 9))
    extra = words(4) if seed % 3 == 0 else ""
    pairs = {
        "original": (x0, extra, y0),
        "instruction": (x_ins, "", y_ins),
        "response": (x0, extra, y_res),
        "both": (x_ins, "", y_both),
    }
    return [candidate(id, kind, *pairs[kind], status=statuses.get(kind)) for kind in CANDIDATES]


def candidate(id: str, kind: str, *pair: str, status: str | None = None) -> Row:
    row: Row = {"id": id, "candidate": kind, "status": status or "ok"}
    valid = row["status"] in ("ok", "unchanged")
    texts = dict(zip(("instruction", "input", "output"), pair, strict=True))
    return row | (texts if valid else {"reason": "for the test"})


def records(number: int) -> list[Row]:
    """Records of which every third lacks something."""
    missing: tuple[dict[str, str], ...] = (
        {},
        {"instruction": "failed", "both": "failed"},
        {"response": "unparsed"},
    )
    rows: list[Row] = []
    for index in range(number):
        lacks = missing[(index // 3) % 3] if index % 3 == 2 else {}
        rows += record(f"r{index:02}", seed=index, **lacks)
    return rows


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def scoring_with(student: Path | str, **settings: Any) -> ScoringConfig:
    return ScoringConfig(
        **{"student": str(student), "template": "wizardlm", "device": "cpu"} | settings
    )


def select_from(
    data: Path,
    out: Path | None,
    scoring: ScoringConfig,
    *,
    shard_size: int = SHARD,
    **settings: Any,
) -> SelectResult:
    config = SelectConfig(input=InputConfig(data=str(data)), scoring=scoring, out=out, **settings)
    return select(config, shard_size=shard_size)


def chosen(result: SelectResult) -> list[Row]:
    """The selected rows."""
    rows: list[Row] = load_from_disk(str(result.selected)).to_list()
    return rows


def rejected(result: SelectResult) -> list[Row]:
    """The rejected rows."""
    rows: list[Row] = load_from_disk(str(result.rejected)).to_list()
    return rows


def score_shards(result: SelectResult) -> list[Path]:
    """The files of a selection's scores."""
    return sorted((result.run / "scores" / result.student).glob("*.parquet"))


def scores_of(result: SelectResult) -> dict[tuple[str, str], Row]:
    """A selection's scores by id and candidate."""
    rows = [row for shard in score_shards(result) for row in pq.read_table(shard).to_pylist()]
    return {(row["id"], row["candidate"]): row for row in rows}
