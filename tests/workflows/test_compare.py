"""`curate compare`: equal steps, the table's arithmetic, taken up again, and bad input."""

import json
import math
import re
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from curate.pipeline.config import CompareConfig, FinetuneConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.stages.selection.stage import SelectResult
from curate.pipeline.workflows.compare import CompareResult, compare, in_words

from ..training.data import records, scoring_with, select_from, write_jsonl


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> SelectResult:
    folder = tmp_path_factory.mktemp("compared")
    data = write_jsonl(folder / "candidates.jsonl", records(18))
    scoring = scoring_with(tiny_student)
    return select_from(data, folder / "run", scoring, max_ifd=9.0, max_rifd=9.0, top="8")


def config(made: SelectResult, out: Path, student: Path, **more: Any) -> CompareConfig:
    own = {name: more.pop(name) for name in ("sets", "seeds", "selection") if name in more}
    settings: dict[str, Any] = {"preset": "demo", "epochs": 2, "batch_size": 4, "max_length": 64}
    settings |= more
    finetuning = FinetuneConfig(model=str(student), out=out, **settings)
    return CompareConfig(run=str(made.run), finetuning=finetuning, **own)


@pytest.fixture(scope="module")
def compared(
    selection: SelectResult, tiny_student: Path, tmp_path_factory: pytest.TempPathFactory
) -> CompareResult:
    """Everything on originals that are held out, with two seeds of three sets."""
    out = tmp_path_factory.mktemp("compare") / "out"
    sets = ("selected", "random", "all")
    return compare(config(selection, out, tiny_student, sets=sets, seeds=(0, 5), held_out=4))


def trained(result: CompareResult) -> dict[str, dict[str, Any]]:
    found = {}
    for folder in result.out.glob("*-seed*"):
        found[folder.name] = json.loads((folder / "training.json").read_text("utf-8"))
    return found


def test_every_set_is_trained_alike(compared: CompareResult) -> None:
    manifests = trained(compared)
    assert set(manifests) == {f"{s}-seed{n}" for s in ("selected", "random", "all") for n in (0, 5)}
    results = [manifest["result"] for manifest in manifests.values()]
    assert {r["steps"] for r in results} == {compared.steps} == {4}
    assert {r["held_out_rows"] for r in results} == {4}
    assert len({r["held_out_before"] for r in results}) == 1
    assert {m["settings"]["seed"] for n, m in manifests.items() if n.endswith("5")} == {5}
    assert {m["template"] for m in manifests.values()} == {"wizardlm"}
    assert len({m["data"] for m in manifests.values()}) == 4  # `selected` and `all` stay the same
    (before,) = {r["held_out_bits_per_character_before"] for r in results}
    nats = compared.untrained * compared.held_out_tokens
    assert before == pytest.approx(nats / math.log(2) / compared.held_out_characters)
    rows = {row.name: row.rows for row in compared.sets}
    assert rows["selected"] == rows["random"] <= 8 and rows["all"] == 14
    assert AutoModelForCausalLM.from_pretrained(compared.out / "random-seed5")


def test_the_table_is_what_the_trainings_measured(compared: CompareResult) -> None:
    after = {name: m["result"]["held_out_after"] for name, m in trained(compared).items()}
    (line,) = [line for line in in_words(compared) if line.startswith("selected")]
    bounds = r"(\S+)  (\S+) to (\S+)"
    found = re.fullmatch(rf"selected +(\d+) +(\S+) +{bounds} +{bounds}", line)
    assert found
    rows, bits, mean, low, high, difference, lowest, highest = map(float, found.groups())
    losses = [after["selected-seed0"], after["selected-seed5"]]
    changes = [a - after[f"random-seed{s}"] for a, s in zip(losses, (0, 5), strict=True)]
    for values, centre, ends in (
        (losses, mean, (low, high)),
        (changes, difference, (lowest, highest)),
    ):
        assert centre == pytest.approx(statistics.mean(values), abs=1e-4)
        reach = 12.706 * abs(values[0] - values[1]) / 2  # two values: t of one degree of freedom
        assert ends == pytest.approx((centre - reach, centre + reach), abs=3e-4)
    tokens, characters = compared.held_out_tokens, compared.held_out_characters
    assert bits == pytest.approx(mean * tokens / math.log(2) / characters, abs=1e-3)
    (untrained,) = [line.split() for line in in_words(compared) if line.startswith("nothing")]
    assert untrained[1:] == [
        f"{compared.untrained_bits_per_character:.4f}",
        f"{compared.untrained:.4f}",
    ]
    found_json = json.loads((compared.out / "compare.json").read_text("utf-8"))
    assert found_json["sets"][0]["losses"] == losses
    assert found_json["sets"][1]["difference"] is None and rows == found_json["sets"][0]["rows"]


def test_a_finished_training_is_not_done_again(
    compared: CompareResult, selection: SelectResult, tiny_student: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.out.glob("*/*")}
    more = config(
        selection, compared.out, tiny_student, sets=("selected", "random"), seeds=(0, 5, 1),
        held_out=4,
    )  # fmt: skip
    again = compare(more)
    assert [len(row.losses) for row in again.sets] == [3, 3]
    assert again.sets[0].losses[:2] == compared.sets[0].losses
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(CurateError, match=r"selected-seed0 holds a training with epochs = 2"):
        compare(config(selection, compared.out, tiny_student, epochs=1, held_out=4))


def test_no_set_has_what_the_held_out_data_asks(
    selection: SelectResult, tiny_student: Path, tmp_path: Path, capfd: Any
) -> None:
    asked = [row for row in records(18) if row["candidate"] == "original"][:3]
    data = write_jsonl(tmp_path / "held.jsonl", asked)
    given = config(
        selection, tmp_path / "out", tiny_student, sets=("all",), seeds=(0,), max_steps=1,
        held_out_data=str(data),
    )  # fmt: skip
    result = compare(given)
    assert "note: 3 records ask what a held-out one asks" in capfd.readouterr().err
    assert (result.sets[0].rows, result.held_out_rows) == (15, 3)
    assert result.sets[0].difference is None and result.sets[0].loss.low is None


def test_several_selections_are_sets_of_their_own(
    selection: SelectResult, tiny_student: Path, tmp_path: Path
) -> None:
    scoring = scoring_with(tiny_student)
    made = replace(selection, run=shutil.copytree(selection.run, tmp_path / "run"))
    own = select_from(made.run, None, scoring, max_ifd=9.0, max_rifd=9.0, top="4", name="few")
    keys = (selection.selection, "few")
    asked = config(
        made, tmp_path / "out", tiny_student, sets=("selected", "random"), seeds=(0,),
        selection=keys, held_out=4, max_steps=1,
    )  # fmt: skip
    found = compare(asked)
    sizes = {of_set.name: of_set.rows for of_set in found.sets}
    assert list(sizes) == [selection.selection, "few", "random"]
    assert sizes["few"] <= 4 < sizes[selection.selection] == sizes["random"]
    assert found.selection == f"{selection.selection}, {own.selection}"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sets": ("selected", "chosen")}, "--sets takes .*, not 'chosen'"),
        ({"sets": ()}, "--sets takes distinct"),
        ({"seeds": (1, 1)}, "--seeds takes distinct"),
        ({"seeds": (-1,)}, "--seeds must be at least 0"),
    ],
)
def test_wrong_usage(settings: Any, says: str, selection: SelectResult, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        config(selection, tmp_path / "out", tmp_path, **settings)


def test_bad_input(selection: SelectResult, tiny_student: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CurateError, match=r"--selection 'other' is none of .*tiny-"):
        compare(config(selection, out, tiny_student, selection=("other",)))
    with pytest.raises(CurateError, match="no held-out record fits into --max-length"):
        long = [{"instruction": "word " * 200, "output": "x"}]
        data = str(write_jsonl(tmp_path / "long.jsonl", long))
        compare(config(selection, out, tiny_student, held_out_data=data, max_steps=1))
    with pytest.raises(CurateError, match="is empty"):
        compare(config(selection, out, tiny_student, held_out=18))
    scoring = scoring_with(tiny_student)
    empty = select_from(selection.run, tmp_path / "empty", scoring, max_ifd=1e-9)
    with pytest.raises(CurateError, match=r"selection .* is empty: nothing"):
        compare(config(empty, out, tiny_student))
