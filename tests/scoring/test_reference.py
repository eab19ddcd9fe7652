"""Scores and choices of the released scripts, reproduced (../shared/data/README.md)."""

import gzip
import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from curate.pipeline.config import InputConfig, ScoringConfig, SelectConfig, TemplateName
from curate.pipeline.stages.selection.stage import SelectResult, select

from ..conftest import shared

pytestmark = pytest.mark.shared

TEMPLATES: tuple[TemplateName, ...] = ("wizardlm", "alpaca", "vicuna")
NUMBERS = ("response", "response_given_instruction", "instruction", "instruction_given_response")


@cache
def recorded() -> list[dict[str, Any]]:
    path = shared("data/reference_scores/coachlm_100x4_stories260K.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module", params=TEMPLATES)
def selections(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TemplateName, SelectResult, set[Any], SelectResult, set[Any]]]:
    """The template, and result and chosen rows when scored lazily and then with --score-all."""
    folder = tmp_path_factory.mktemp(request.param)
    data = folder / "candidates.jsonl"
    rows = ({k: v for k, v in row.items() if k != "reference"} for row in recorded())
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    lazily = select_with(data, folder / "run", request.param, score_all=False)
    chosen = chosen_rows(lazily)
    everything = select_with(data, folder / "run", request.param, score_all=True)
    yield request.param, lazily, chosen, everything, chosen_rows(everything)


def select_with(data: Path, out: Path, template: TemplateName, *, score_all: bool) -> SelectResult:
    scoring = ScoringConfig(
        student=str(shared("models/stories260K-hf")),
        template=template,
        tokenization="reference",
        max_length=512,
        device="cpu",
        score_all=score_all,
    )
    return select(SelectConfig(input=InputConfig(data=str(data)), scoring=scoring, out=out))


def chosen_rows(result: SelectResult) -> set[tuple[str, str]]:
    rows = load_from_disk(str(result.selected))
    return set(zip(rows["id"], rows["candidate"], strict=True))


def test_every_perplexity_is_that_of_the_released_scripts(selections: Any) -> None:
    template, _, _, result, _ = selections
    folder = result.run / "scores" / result.student
    scores = {
        (row["id"], row["candidate"]): row
        for shard in sorted(folder.glob("*.parquet"))
        for row in pq.read_table(shard).to_pylist()
    }
    assert len(scores) == len(recorded()) == 400
    worst = 0.0
    for row in recorded():
        for name in NUMBERS:
            wanted = row["reference"][template][f"ppl_{name}"]
            found = scores[row["id"], row["candidate"]][f"nll_{name}"]
            assert (found is None) == (wanted is None), (row["id"], row["candidate"], name)
            if wanted is not None:
                worst = max(worst, abs(found - math.log(wanted)))
    assert worst < 1e-4


def test_the_same_rows_are_chosen_lazily_and_with_every_score(selections: Any) -> None:
    template, lazily, chosen_lazily, everything, chosen = selections
    wanted = by_the_book(template)
    assert chosen_lazily == wanted
    assert chosen == wanted
    assert lazily.counts["records"] == everything.counts["records"] == 100
    assert lazily.counts["selected"] == len(wanted) > 20
    assert lazily.failed_scores == everything.failed_scores == 0


def by_the_book(template: str) -> set[tuple[str, str]]:
    """METHOD.md section 3, written again over the recorded perplexities: ids and candidates."""
    records: dict[str, dict[str, dict[str, Any]]] = {}
    for row in recorded():
        records.setdefault(row["id"], {})[row["candidate"]] = row["reference"][template]
    kept = set()
    for id, candidates in records.items():
        ifd = {kind: ratio(ppl, "response", "instruction") for kind, ppl in candidates.items()}
        rifd = {kind: ratio(ppl, "instruction", "response") for kind, ppl in candidates.items()}
        branch, rewritten = "original", "response"
        if wins(ifd["instruction"], ifd["original"], higher=True):
            branch, rewritten = "instruction", "both"
        final = rewritten if wins(rifd[rewritten], rifd[branch], higher=False) else branch
        one, other = ifd[final], rifd[final]
        if one is not None and other is not None and one < 1 and other < 1:
            kept.add((id, final))
    return kept


def ratio(ppl: dict[str, float | None], target: str, given: str) -> float | None:
    conditional, alone = ppl[f"ppl_{target}_given_{given}"], ppl[f"ppl_{target}"]
    return conditional / alone if conditional is not None and alone is not None else None


def wins(challenger: float | None, incumbent: float | None, *, higher: bool) -> bool:
    """Ties and an unscored challenger keep the incumbent; an unscored incumbent loses."""
    if challenger is None:
        return False
    if incumbent is None:
        return True
    return challenger > incumbent if higher else challenger < incumbent
