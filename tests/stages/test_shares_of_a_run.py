"""Several tasks in one run: at the same instant, some killed, with one undisturbed run's result."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.base.processes.sharding import Share
from curate.pipeline.config import InputConfig, SelectConfig
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.reflection.stage import ReflectResult, reflect
from curate.pipeline.stages.selection.stage import score_share
from curate.pipeline.stages.status.stage import status

from ..llm.faulty_server import Answer, Received, completion
from ..llm.records_asked import about, journaled, key_of, naming, records, written
from ..training.data import (
    chosen,
    rejected,
    scores_of,
    scoring_with,
    select_from,
    write_jsonl,
)
from ..training.data import records as candidate_rows
from .reflection.test_stage import (
    NO_MARKERS,
    Server,
    config,
    reflect_command,
    shards,
    wait_until,
)
from .small_shards import small_shards

pytestmark = pytest.mark.usefixtures("one_thread")
TASKS = 3
Task = subprocess.Popen[bytes]


def reflected_entry(run: Path) -> Any:
    entry = json.loads((run / "manifest.json").read_text("utf-8"))["stages"]["reflect"]
    return {name: value for name, value in entry.items() if name != "seconds"}


def together(commands: list[list[str]], go: Path, **more: Any) -> list[Task]:
    """Processes that have imported all they need and begin when `go` is there: now."""
    tasks = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
        for command in commands
    ]
    time.sleep(1)
    go.touch()
    return tasks


def waiting_for(go: Path) -> str:
    return f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.001)"


def ended(task: Task) -> tuple[int, str]:
    """The exit code and all that was said."""
    out, err = task.communicate(timeout=240)
    return task.returncode, (out + err).decode()


# --- reflect --------------------------------------------------------------------------------------


def test_tasks_at_once_one_killed_one_told_to_end_make_one_run(tmp_path: Path) -> None:
    data, run, go = written(tmp_path / "data.jsonl", records(15)), tmp_path / "run", tmp_path / "go"

    def unhurried(request: Received) -> Answer:
        return replace(completion(naming(request)), delay=0.2)

    with Server() as server:
        alone = reflect_command(data, tmp_path / "alone", server.url, shard=2)
        subprocess.run(alone, check=True, capture_output=True)
        asked_alone = len(server.requests)
        server.behaviour = unhurried
        command = reflect_command(data, run, server.url, shard=2, first=waiting_for(go))
        tasks = together([[*command, "--shard", f"{i}/{TASKS}"] for i in range(TASKS)], go)
        assert wait_until(lambda: len(server.requests) > asked_alone + 18, tasks[1])
        tasks[1].kill()
        tasks[2].send_signal(signal.SIGTERM)
        code, said = ended(tasks[0])
        assert code == 0 and "share 0/3 is done; " in said and "the task that makes" in said
        assert ended(tasks[1])[0] == -signal.SIGKILL
        assert ended(tasks[2])[0] == 130
        assert set(shards(run)) >= {f"part-{i:05}.parquet" for i in (0, 3, 6)}
        assert not (run / "manifest.json").exists()
        found = status(str(run))
        assert [(h.what, h.alive) for h in found.holders] == [("reflect --shard 1/3", False)]
        assert (found.stages[0].state, found.stages[0].total) == ("unfinished", 15)
        paid, begun = journaled(run / "journal"), len(server.requests)
        array = {"SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1"}
        again = [
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **array, "SLURM_ARRAY_TASK_ID": str(i + 1)},
            )
            for i in (1, 2)
        ]
        told = [ended(task) for task in again]
        assert [code for code, _ in told] == [0, 0], told
        assert "this Slurm array's task does share 1/3 of the run" in told[0][1]
        assert sum("are missing" not in said for _, said in told) >= 1
        assert not {key_of(r) for r in server.requests[begun:]} & paid
    assert shards(run) == shards(tmp_path / "alone")
    assert len(shards(run)) == 8
    assert reflected_entry(run) == reflected_entry(tmp_path / "alone")
    assert not list(run.glob(".*"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_shards(monkeypatch, 2)


def task(data: Path, run: Path, url: str, index: int, **settings: Any) -> ReflectResult:
    return reflect(replace(config(data, run, url, **settings), share=Share(index, TASKS)))


@pytest.mark.usefixtures("small")
def test_the_last_task_finishes_whichever_it_is_and_tasks_retry_too(tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", [*records(9), {"id": "odd"}])

    def mute(request: Received) -> Answer | None:
        return NO_MARKERS if about(request)[0] in ("rec-001", "rec-004") else None

    with Server(mute) as server:
        alone = reflect(config(data, tmp_path / "alone", server.url))
        for order in ((0, 1, 2), (2, 0, 1)):
            run = tmp_path / f"run{order[0]}"
            results = [task(data, run, server.url, index) for index in order]
            assert [result.waiting > 0 for result in results] == [True, True, False]
            assert sum(result.asked for result in results) == alone.asked
            assert sum(result.records for result in results[:2]) < 9
            last = results[-1]
            assert (last.records, last.statuses) == (alone.records, alone.statuses)
            assert reflected_entry(run) == reflected_entry(tmp_path / "alone")
            assert (run / "rejected_input.json").exists()
        server.behaviour = None
        mended = [task(run, None, server.url, i, retry=("unparsed",)) for i in range(TASKS)]  # type: ignore[arg-type]
        alone = reflect(config(tmp_path / "alone", None, server.url, retry=("unparsed",)))
    assert mended[-1].statuses == alone.statuses == {"ok": 27}
    assert shards(run) == shards(tmp_path / "alone")
    assert reflected_entry(run) == reflected_entry(tmp_path / "alone")


@pytest.mark.usefixtures("small")
def test_a_shard_that_is_too_short_still_is_another_task_s_to_make(tmp_path: Path) -> None:
    """Left by a smaller `--limit`: to be there is not to be whole."""
    data, run = written(tmp_path / "data.jsonl", records(6)), tmp_path / "run"
    with Server() as server:
        for index in range(TASKS):
            task(data, run, server.url, index, limit=3)
        assert reflected_entry(run)["records"] == 3
        assert task(data, run, server.url, 2).waiting == 1  # shard 1 has one record of two
        assert task(data, run, server.url, 0).waiting == 1
        assert reflected_entry(run)["records"] == 3
        assert task(data, run, server.url, 1).waiting == 0
    assert reflected_entry(run)["records"] == 6


# --- select ---------------------------------------------------------------------------------------


def select_command(data: Path, out: Path, student: Path, go: Path) -> list[str]:
    program = (
        "import curate.pipeline.stages.selection.stage as s\n"
        f"s.score_share.__kwdefaults__['shard_size'] = 3\n{waiting_for(go)}\n"
        "from curate.cli import main; main()"
    )
    return [
        sys.executable, "-c", program, "select", str(data), "--out", str(out), "--device", "cpu",
        "--student", str(student), "--template", "wizardlm",
    ]  # fmt: skip


def test_tasks_score_side_by_side_one_killed_and_the_decision_runs_no_model(
    tmp_path: Path, tiny_student: Path
) -> None:
    data, run = write_jsonl(tmp_path / "candidates.jsonl", candidate_rows(18)), tmp_path / "run"
    scoring = scoring_with(tiny_student)
    alone = select_from(data, tmp_path / "alone", scoring, shard_size=3)

    go = tmp_path / "go"
    command = select_command(data, run, tiny_student, go)
    tasks = together([[*command, "--shard", f"{i}/{TASKS}"] for i in range(TASKS)], go)
    assert wait_until((run / ".lock-1-of-3").exists, tasks[1], seconds=240)
    tasks[1].kill()
    for index in (0, 2):
        code, said = ended(tasks[index])
        assert code == 0, said
        assert f"scored share {index}/3, 6 records" in said and "--shard all decides" in said
    assert ended(tasks[1])[0] == -signal.SIGKILL
    assert len(RunDir.open(run).shard_paths()) == 6
    assert not (run / "selected").exists()
    mine = InputConfig(data=str(run))
    once_more = score_share(SelectConfig(input=mine, scoring=scoring, share=Share(1, TASKS)))
    assert (once_more.records, once_more.failed_scores) == (6, 0)
    found = status(str(run)).stages[1]
    assert (found.state, found.done, found.left) == ("unfinished", 18, 0)
    decided = select_from(run, None, scoring)
    assert decided.counts["sequences"] == 0
    assert {**decided.counts, "sequences": 0} == {**alone.counts, "sequences": 0}
    assert (chosen(decided), rejected(decided)) == (chosen(alone), rejected(alone))
    assert scores_of(decided) == scores_of(alone)
    left = [path.name for path in run.glob(".*")]
    assert all(name.startswith(".turn.") for name in left)  # what the killed one was making
