"""`curate status`: at work, killed, damaged and finished, against numbers told by the files."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.config import InputConfig, ModelConfig, ReflectConfig, SelectConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.records import RETRYABLE
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.reflection.stage import reflect
from curate.pipeline.stages.selection.stage import select
from curate.pipeline.stages.status.stage import status
from curate.pipeline.stages.status.stage_status import StageStatus
from curate.pipeline.stages.status.wording import in_words

from ...llm.faulty_server import Answer, FaultyServer, Received
from ...llm.records_asked import records, written
from ...training.data import rejected, scores_of, scoring_with, select_from
from ..reflection.test_stage import CURATE, candidates
from ..small_shards import small_shards

pytestmark = pytest.mark.usefixtures("one_thread")
BETTER = "[New Instruction] Say {0} twice. [End]\n[New Answer] {0} {0}. [End]\n[Better Answer] {0}!"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished reflection of five records in three shards; one reply is missing."""
    small_shards(monkeypatch, 2)
    data = written(tmp_path / "data.jsonl", [*records(5), {"id": "odd"}])
    replies = [
        {"id": f"r{n}", "candidate": kind, "reply": BETTER.format(n)}
        for n in range(5)
        for kind in ("instruction", "response", "both")
    ]
    written(tmp_path / "replies.jsonl", replies[:-1])
    teacher = ModelConfig(replies=tmp_path / "replies.jsonl")
    out = tmp_path / "run"
    reflect(ReflectConfig(input=InputConfig(data=str(data)), teacher=teacher, out=out))
    return out


def stage(run: Path, name: str) -> StageStatus:
    return next(stage for stage in status(str(run)).stages if stage.stage.startswith(name))


def test_a_finished_reflection_is_told_as_its_files_have_it(run: Path) -> None:
    found = status(str(run))
    (made,) = found.stages
    assert (made.stage, made.state, made.done, made.total, made.left) == (
        "reflect", "finished", 5, 5, 0,
    )  # fmt: skip
    told = Counter(c.status for c in candidates(run) if c.candidate != "original")
    assert made.counts == told
    assert made.failed == sum(told[name] for name in RETRYABLE) > 0
    assert made.retry is None  # a recorded reply stays what it is
    assert made.notes == ("input rows not used: 1",)
    assert not found.holders
    assert found.next == [f"curate select {run} --student STUDENT"]
    again = made.command or ""
    assert again.startswith(f"curate reflect {run.parent / 'data.jsonl'} ")
    assert f"--replies {run.parent / 'replies.jsonl'} --out {run}" in again
    json.dumps(asdict(found))
    assert any("finished  5 of 5 records" in line for line in in_words(found))


def test_a_selection_is_told_as_its_files_have_it(run: Path, tiny_student: Path) -> None:
    result = select_from(run, None, scoring_with(tiny_student))
    found = stage(run, "select/")
    assert (found.state, found.done, found.left, found.failed) == ("finished", 5, 0, 0)
    sides = [
        row[f"{side}_status"] for row in scores_of(result).values() for side in ("ifd", "rifd")
    ]
    assert found.counts == Counter(side for side in sides if side)
    assert found.notes[0].endswith(f", {len(rejected(result))} rejected")
    assert found.student == str(tiny_student) and found.per_second
    assert [line for line in status(str(run)).next if " select " in line] == []

    time.sleep(0.02)  # made again, later than the selection
    RunDir(run).write_shard(0, RunDir(run).read_shard(RunDir(run).shard_path(0)), step="all")
    (again,) = [line for line in status(str(run)).next if " select " in line]
    assert again.startswith(f"curate select {run} --student {tiny_student} ")
    assert "--template wizardlm" in again and "--device cpu" in again

    stages = json.loads((run / "manifest.json").read_text("utf-8"))
    del stages["check"]
    stages["stages"] = {"reflect": stages["stages"]["reflect"]}
    (run / "manifest.json").write_text(json.dumps(stages), "utf-8")
    found = stage(run, "select/")
    assert (found.state, found.done, found.left) == ("unfinished", 5, 0)
    assert found.notes == ("scored, not decided yet",)
    assert status(str(run)).next == [found.command]
    shards = sorted((run / "scores").glob("*/part-*.parquet"))
    shards[0].unlink()
    assert (stage(run, "select/").done, stage(run, "select/").left) == (3, 2)


def test_a_selection_is_made_again_as_it_was(run: Path, tiny_student: Path) -> None:
    settings: dict[str, Any] = {"max_ifd": 50.0, "top": "3", "rank_by": "rifd", "diverse": 2}
    evaluation = written(run.parent / "evaluation.jsonl", [{"question": "never asked " * 9}])
    sets: dict[str, Any] = {"decontaminate": (str(evaluation),), "ngram": 9}
    select_from(run, None, scoring_with(tiny_student), **settings, **sets)
    time.sleep(0.02)
    RunDir(run).write_shard(0, RunDir(run).read_shard(RunDir(run).shard_path(0)), step="all")
    (again,) = [line for line in status(str(run)).next if " select " in line]
    for words in (
        "--max-ifd 50.0", "--top 3", "--rank-by rifd", "--diverse 2", "--ngram 9",
        f"--decontaminate {evaluation}",
    ):  # fmt: skip
        assert words in again


def test_an_import_goes_on_by_the_command_it_tells(tmp_path: Path, tiny_student: Path) -> None:
    rows = [{"q": f"Say {n}.", "a": f"{n}!"} for n in range(4)]
    data = written(tmp_path / "data.jsonl", rows)
    input = InputConfig(data=str(data), instruction_column="q", output_column="a", limit=3)
    scoring, out = scoring_with(tiny_student, template="vicuna"), tmp_path / "run"
    select(SelectConfig(input=input, scoring=scoring, out=out))
    RunDir(out).forget_stage("import")
    words = shlex.split(status(str(out)).next[0])
    assert str(tiny_student) in words
    subprocess.run([sys.executable, "-c", CURATE, *words[1:]], check=True, capture_output=True)
    assert status(str(out)).next[0] == f"curate report {out}"
    assert status(str(out)).stages[0].total == 3


def test_a_selective_run_goes_on_without_a_training_of_other_settings(
    run: Path, tiny_student: Path
) -> None:
    select_from(run, None, scoring_with(tiny_student), top="3")
    config = json.loads((run / "config.json").read_text("utf-8"))
    del config["check"]
    config["identity"]["schedule"] = "selective"
    (run / "config.json").write_text(json.dumps(config), "utf-8")
    again = status(str(run)).stages[0].command or ""
    assert again.startswith(f"curate run {run.parent / 'data.jsonl'} ")
    for words in (
        f"--out {run}", "--replies ", "--schedule selective", f"--student {tiny_student}",
        "--template wizardlm", "--top 3", "--no-finetune",
    ):  # fmt: skip
        assert words in again


def test_half_written_things_are_counted_not_fatal(run: Path, tiny_student: Path) -> None:
    select_from(run, None, scoring_with(tiny_student))
    for shard in (RunDir(run).shard_path(1), *(run / "scores").glob("*/part-00002.parquet")):
        shard.write_bytes(shard.read_bytes()[:-30])
    (run / "candidates" / ".part-00009.parquet.1.2.tmp").write_bytes(b"PAR1")
    (run / ".lock").write_text("{", "utf-8")
    (run / "model").mkdir()
    (run / "model" / "finetune.json").write_text("{", "utf-8")
    found = status(str(run))
    assert [stage.damaged_shards for stage in found.stages] == [1, 1, 0]
    assert found.stages[0].done == 3 and found.stages[2].state == "unfinished"
    assert found.next[0].startswith(f"curate reflect {run.parent / 'data.jsonl'} ")
    (run / "manifest.json").write_text('{"stages"', "utf-8")
    with pytest.raises(CurateError, match=r"manifest.json is damaged: remove it and run"):
        status(str(run))
    (run / "manifest.json").unlink()
    assert stage(run, "reflect").state == "unfinished"
    assert stage(run, "reflect").left in (1, 2)  # of six rows, by the replies


def test_what_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no run of curate"):
        status(str(tmp_path))
    with pytest.raises(CurateError, match="no such run directory"):
        status(str(tmp_path / "none"))


def test_at_work_then_killed_then_taken_up_by_the_command_it_tells(tmp_path: Path) -> None:
    data, run = written(tmp_path / "data.jsonl", records(4)), tmp_path / "run"

    def hold(request: Received) -> Answer | None:
        return Answer(delay=60) if request.number >= 4 else None

    with FaultyServer(hold) as server:
        line = ["reflect", str(data), "--out", str(run), "--teacher", "t"]
        line += ["--base-url", server.url, "--concurrency", "5"]
        with subprocess.Popen([sys.executable, "-c", CURATE, *line]) as process:
            while (found := _if_run(run)) is None or not found.stages[0].notes:
                assert process.poll() is None
                time.sleep(0.05)
            (holder,), (made,) = found.holders, found.stages
            assert (holder.what, holder.pid, holder.alive) == ("reflect", process.pid, True)
            assert (made.state, made.total, made.left) == ("running", 4, 4 - made.done)
            assert made.done <= 1 and made.about == bool(made.done)  # of three replies each
            assert found.next == []
            assert f"process {process.pid} on " in "\n".join(in_words(found))
            os.kill(process.pid, signal.SIGKILL)
        found = status(str(run))
        assert [holder.alive for holder in found.holders] == [False]
        assert found.stages[0].state == "unfinished"
        server.behaviour = None
        words = shlex.split(found.next[0])
        assert words[0] == "curate"
        subprocess.run([sys.executable, "-c", CURATE, *words[1:]], check=True, capture_output=True)
    after = status(str(run))
    assert (after.stages[0].state, after.stages[0].done, after.holders) == ("finished", 4, [])


def _if_run(run: Path) -> Any:
    return status(str(run)) if (run / "config.json").exists() else None


def test_a_shard_reflected_by_a_limit_counts_towards_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path / "data.jsonl", records(9))
    replies = written(tmp_path / "replies.jsonl", [])
    teacher = ModelConfig(engine="recorded", replies=replies)
    input = InputConfig(data=str(data), limit=3)
    reflect(ReflectConfig(input=input, teacher=teacher, out=tmp_path / "run"))
    (tmp_path / "run" / "manifest.json").unlink()
    found = status(str(tmp_path / "run"))
    assert (found.stages[0].total, found.stages[0].left) == (3, 0)
    assert "--limit 3" in found.next[0] and "--engine recorded" in found.next[0]
