"""`curate improve` with data alone: spin and ditto end to end, killed and taken up, bad input."""

import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.pipeline import api
from curate.pipeline.base.foreign_json import read_object
from curate.pipeline.errors import CurateError
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.runs.loop import history, iteration_of, loop_state
from curate.pipeline.stages.explaining import explain, in_words
from curate.pipeline.stages.status.stage import status
from curate.pipeline.workflows.improving.calling import child_command

from ..llm.faulty_server import FaultyServer
from ..torture.forker import HEAVY, Forker, forking
from ..training.data import write_jsonl
from .loop_results import result_of
from .loops import FAST, REWARDED, ROWS, Row, accounted_for, improve, stages

pytestmark = pytest.mark.usefixtures("one_thread")
SPIN: Row = {"recipe": "spin", "iterations": 2, "temperature": 0.0, "max_steps": 1}

# --- spin -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spun(loop_data: Path, talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished loop, which tests copy."""
    out = tmp_path_factory.mktemp("spin") / "run"
    improve(loop_data, talker, out, keep_models="all", **SPIN)
    return out


def test_spin_pairs_the_data_with_samples_of_this_iteration_and_the_one_before(spun: Path) -> None:
    for number in (1, 2):
        accounted_for(spun, number)
        rows = pq.read_table(
            iteration_of(RunDir(spun), number).path / "training.parquet"
        ).to_pylist()
        assert {row["rejected_iteration"] for row in rows} == set(range(1, number + 1))
        assert all(row["chosen"][0]["content"].endswith("!") for row in rows)
        assert all(row["chosen_iteration"] is None for row in rows)
    parents = [iteration_of(RunDir(spun), n).config["identity"]["parent"] for n in (1, 2)]
    assert parents == [stages(spun, n)["train"]["weights"] for n in (0, 1)]
    trained = read_object(spun / "iterations/02/model/training.json")
    assert trained is not None and trained["model"].endswith("iterations/01/model")
    found = history(RunDir(spun))
    assert [one.iteration for one in found] == [0, 1, 2]
    assert all(one.held_out_loss and one.length and one.distinct for one in found)
    table = (spun / "iterations.csv").read_text("utf-8").splitlines()
    assert len(table) == 4 and table[0].startswith("iteration,prompts,pairs")
    assert (spun / "iterations.png").stat().st_size > 1000


def test_a_finished_loop_is_not_done_again_and_a_larger_number_goes_on_with_a_judge(
    spun: Path, loop_data: Path, talker: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(spun, tmp_path / "run", symlinks=True)
    before = {
        path: path.stat().st_mtime_ns for path in run.glob("iterations/*/*/*") if path.is_file()
    }
    improve(loop_data, talker, run, keep_models="all", **SPIN)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    with FaultyServer(reply=lambda _: "8 6") as server:
        judge: Row = {"held_out_judge": "J", "held_out_judge_base_url": server.url}
        found = improve(loop_data, talker, run, **{**SPIN, **judge, "iterations": 3})
    assert [one.iteration for one in found.measured] == [0, 1, 2, 3]
    last = found.measured[-1]
    assert last.wins_first and last.wins_previous
    # The judge prefers what stands first, so that every pair is a tie; of equals, 0 is the best.
    assert (last.wins_first.ties, last.wins_first.score, found.best) == (2, 1.0, 0)
    weights = {n for n in (1, 2, 3) if list(run.glob(f"iterations/0{n}/model/*.safetensors"))}
    assert weights == {3} and found.model.samefile(talker)


def test_status_explain_and_report(spun: Path, tmp_path: Path) -> None:
    run = shutil.copytree(spun, tmp_path / "run", symlinks=True)
    (stage,) = status(str(run)).stages
    assert (stage.state, stage.done, stage.total) == ("finished", 2, 2)
    shutil.rmtree(run / "iterations/02/model")
    manifest = iteration_of(RunDir(run), 2)
    for name in ("train", "measure"):
        manifest.forget_stage(name)
    state = loop_state(RunDir(run))
    assert (state.iteration, state.step, state.left) == (2, "train", ("02/train", "02/measure"))
    assert status(str(run)).next[0].startswith("curate improve ")
    found = explain(str(run), "r1")
    assert [len(one["samples"]) for one in found.iterations] == [1, 1]
    text = "\n".join(in_words(found))
    assert stages(run, 1)["train"]["weights"] in text and "sample 0" in text
    page = api.report(str(run), progress=False).out.read_text("utf-8")
    assert f'data-n="held_out_loss.1">{history(RunDir(run))[1].held_out_loss:.4f}<' in page


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    with forking(HEAVY, tmp_path_factory.mktemp("forker")) as started:
        yield started


KILLED_AT = ("iterations/01/answers/answers.parquet", "iterations/02/training.parquet")
"""Torture kills at random moments."""


def test_a_loop_killed_again_and_again_ends_as_an_undisturbed_one(
    spun: Path, loop_data: Path, talker: Path, tmp_path: Path, forker: Forker
) -> None:
    """Greedy samples: which are asked for together must not decide what they are."""
    run = tmp_path / "run"
    words: list[str | Path] = ["improve", loop_data, "--model", talker, "--out", run]
    words += ["--held-out", loop_data.with_name("held-out.jsonl"), "--keep-models", "all"]
    for name, value in {**FAST, **SPIN}.items():
        words += [] if name == "progress" else [f"--{name.replace('_', '-')}", str(value)]
    killed = 0
    for place in KILLED_AT:
        child = forker.start(*words)
        while not (run / place).exists() and Path(f"/proc/{child.pid}").exists():
            time.sleep(0.005)
        child.send(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL
    assert killed
    forker.run(*words)
    keys = Counter(
        json.loads(line)["key"]
        for path in (run / "journal").glob("*.jsonl")
        for line in path.read_text("utf-8").splitlines()
        if '"key"' in line
    )
    assert max(keys.values()) <= 2  # what was in flight
    assert result_of(run) == result_of(spun)


# --- ditto ----------------------------------------------------------------------------------------


def test_ditto_draws_its_comparisons_and_uses_both_demonstrations_of_a_prompt(
    talker: Path, tmp_path: Path
) -> None:
    rows = [*ROWS[:2], {"id": "again", "instruction": "Say 0.", "output": "zero!"}]
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    options: Row = {"samples": 3, "iterations": 2, "max_steps": 2, "batch_size": None,
                    "held_out": None, "sft_epochs": 2.0, "sft_loss": 100.0}  # fmt: skip
    found = improve(data, talker, tmp_path / "run", recipe="ditto", **options)
    assert [one.iteration for one in found.measured] == [0, 1, 2] and found.best == 2
    fine_tuned = read_object(tmp_path / "run/iterations/00/model/training.json") or {}
    assert fine_tuned["result"]["steps"] == 1  # the first loss is below 100
    entry, folder = stages(tmp_path / "run", 2), tmp_path / "run" / "iterations/02"
    pairs, left_out = entry["pair"]["pairs"], entry["pair"]["left_out"]
    answers = pq.read_table(folder / "answers" / "answers.parquet")["id"].to_pylist()
    assert len(answers) + entry["sample"]["failed"] == 2 * 3
    assert pairs + sum(left_out.values()) == 2 * answers.count("r0") + answers.count("r1")
    mixed = pq.read_table(folder / "training.parquet").to_pylist()
    assert len(mixed) == 2 * entry["mix"]["batch"]
    kinds = Counter(row["kind"] for row in mixed)
    assert kinds["online"] == 2 * min(6, pairs) and kinds["replay"] == 2 * 2
    for row in mixed:
        if row["kind"] == "intermodel":
            assert (row["chosen_iteration"], row["rejected_iteration"]) == (2, 1)
        else:
            assert row["rejected_iteration"] == (2 if row["kind"] == "online" else 1)
    assert {row["id"] for row in mixed if row["kind"] == "online"} == {"r0", "r1", "again"}
    trained = read_object(folder / "model/training.json") or {}
    first = read_object(tmp_path / "run/iterations/01/model/training.json") or {}
    assert trained["preference"]["reference"] == first["preference"]["reference"]
    assert trained["preference"]["shuffle"] is False and trained["settings"]["warmup_ratio"] == 0


@pytest.mark.parametrize(("number", "says"), [(0, "holds nothing|no "), (1, None)])
def test_few_demonstrations(number: int, says: str | None, talker: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", ROWS[:number])
    options: Row = {"recipe": "ditto", "samples": 2, "iterations": 1, "max_steps": 1,
                    "held_out": None, "no_sft": True}  # fmt: skip
    if says is None:
        assert len(improve(data, talker, tmp_path / "run", **options).measured) == 2
        return
    with pytest.raises(CurateError, match=says):
        improve(data, talker, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


# --- what is refused, and processes of their own --------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reward": "command", "reward_command": "./nothere"}, "./nothere"),
        ({"reward": "rifd", "judge": "/nowhere/judge"}, "/nowhere/judge"),
        ({"max_cost": 1.0}, "prices"),
        ({"exam": "data.jsonl"}, "rank"),
        ({}, "no such model folder"),
    ],
    ids=str,
)
def test_what_no_iteration_could_use_is_said_before_all(
    options: Row, says: str, loop_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(loop_data.parent)
    with pytest.raises(CurateError, match=says):
        improve(loop_data, Path("/nowhere/model"), tmp_path / "run", **REWARDED, **options)
    assert not (tmp_path / "run").exists()


def test_the_command_of_an_isolated_stage() -> None:
    options: Row = {"pairs": Path("p"), "model": "m", "out": Path("o"), "beta": 0.1,
                    "shuffle": False, "learning_rate": 1e-6}  # fmt: skip
    words = child_command("align", options, processes=4)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    assert words[: len(start)] == start
    assert words[len(start) :] == [
        "-m", "curate.cli", "align", "p", "--model", "m", "--out", "o", "--beta", "0.1",
        "--no-shuffle", "--learning-rate", "1e-06",
    ]  # fmt: skip
    assert "torch.distributed.run" not in child_command("generate", {"data": "d"}, processes=4)
