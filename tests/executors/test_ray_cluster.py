"""Work on a Ray cluster: all of it done once, whoever dies, with the scores of one process."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

import pyarrow.parquet as pq
import pytest

from curate.pipeline.config import InputConfig, ScoringConfig, SelectConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.executors.processes import ATTEMPTS, IN_HAND
from curate.pipeline.executors.ray_cluster import QUIET, over_ray
from curate.pipeline.method.decision import Needs, needs
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.scoring.engine import Record, Scored, ScoringEngine
from curate.pipeline.scoring.identity import resolve
from curate.pipeline.scoring.score_files import ScoreFiles, shard_worker
from curate.pipeline.stages.selection.stage import SelectResult, select

from ..stages.test_scoring import mark_first
from ..training.data import (
    chosen,
    records,
    score_shards,
    scores_of,
    scoring_with,
    select_from,
    write_jsonl,
)

HERE = find_spec("ray") is not None
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # it uses its own old options
]
ITEMS = [f"item-{number}" for number in range(6)]
COMMAND = [sys.executable, "-c", "from curate.cli import main; main()"]


Test = TypeVar("Test", bound=Callable[..., None])


def on_ray(test: Test) -> Test:
    """A test that needs Ray."""
    absent = pytest.mark.skipif(not HERE, reason="Ray is not installed: make test-ray")
    for mark in (absent, pytest.mark.ray, pytest.mark.timeout(600)):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of two nodes on this machine, a CPU each, that `curate` connects to."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)  # as it is where `curate` is the first to import Ray
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        nodes.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes.address
    nodes.shutdown()


SIZE = 3  # records in a shard


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Candidates that make six shards."""
    return write_jsonl(tmp_path / "candidates.jsonl", records(18))


# --- items ----------------------------------------------------------------------------------------


def write(device: str, folder: Path) -> Callable[[str], None]:
    def work(item: str) -> None:
        time.sleep(0.5)
        (folder / item).write_text(f"{device} {os.getpid()}")

    return work


def die_once(device: str, folder: Path) -> Callable[[str], None]:
    def work(item: str) -> None:
        if item == "item-3" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        write(device, folder)(item)

    return work


def die_always(device: str, folder: Path) -> Callable[[str], None]:
    def work(item: str) -> None:
        if item == "item-1":
            with (folder / "begun").open("a") as file:
                file.write(".")
            os.kill(os.getpid(), signal.SIGKILL)

    return work


def warn(device: str, folder: Path) -> Callable[[str], None]:
    logging.getLogger("curate.pipeline").warning("this is slow")
    return write(device, folder)


def fail(device: str, folder: Path) -> Callable[[str], None]:
    raise CurateError(f"nothing works on {device}")


def meet(device: str, folder: Path) -> Callable[[str], None]:
    """Two items of a worker meet, as only those can that are done side by side."""
    both = Barrier(2)

    def work(item: str) -> None:
        both.wait(timeout=60)

    return work


class Absent:
    """What only the caller can import."""

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, ("only_of_the_caller",)


def over(setup: Any, folder: Path, **more: Any) -> list[str]:
    return list(over_ray(setup, (folder,), ITEMS, **{"device": "auto"} | more))


@on_ray
def test_every_item_is_done_and_the_work_is_shared(cluster: str, tmp_path: Path) -> None:
    assert sorted(over(write, tmp_path)) == ITEMS
    done = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(done) == ITEMS
    assert len(set(done.values())) == 2  # two nodes, a process each
    assert {text.split()[0] for text in done.values()} == {"cpu"}


@on_ray
def test_a_worker_does_two_items_side_by_side(cluster: str, tmp_path: Path) -> None:
    assert sorted(over(meet, tmp_path, workers=1)) == ITEMS


@on_ray
def test_a_dead_workers_item_is_done_by_another(
    cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sorted(over(die_once, tmp_path)) == ITEMS
    assert {path.name for path in tmp_path.iterdir()} == {*ITEMS, "died"}
    told = capfd.readouterr()
    assert not told.out
    notes = [line for line in told.err.splitlines() if "died" in line]
    assert any("item-3 in hand" in note for note in notes), told.err
    assert len(notes) <= IN_HAND


@on_ray
def test_an_item_that_kills_its_workers_ends_the_work(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=f"{ATTEMPTS} workers died over item-1; "):
        over(die_always, tmp_path)
    assert (tmp_path / "begun").read_text() == "." * ATTEMPTS


@on_ray
def test_a_workers_error_is_the_callers(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=r"^nothing works on cpu$"):
        over(fail, tmp_path)


@on_ray
def test_a_node_without_the_package_is_one_sentence(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(
        CurateError, match=r"Ray ended the work .*No module named 'only_of_the_call"
    ):
        over(Absent(), tmp_path)


@on_ray
def test_what_workers_warn_of_is_said_once(
    cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sorted(over(warn, tmp_path)) == ITEMS
    assert capfd.readouterr().err.splitlines()[1:] == ["this is slow"]


@on_ray
def test_a_cluster_without_a_gpu_is_one_sentence(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="the Ray cluster has no GPU now: give --workers N"):
        over(write, tmp_path, device="cuda")


# --- scores ---------------------------------------------------------------------------------------


def on_cluster(student: Path, **settings: Any) -> ScoringConfig:
    return scoring_with(student, executor="ray", **settings)


def same_files(one: SelectResult, other: SelectResult) -> bool:
    """Whether all scores and all notes beside them are the same to the bit."""
    ours, theirs = score_shards(one), score_shards(other)
    assert [path.name for path in ours] == [path.name for path in theirs]
    return all(a.read_bytes() == b.read_bytes() for a, b in zip(ours, theirs, strict=True))


@on_ray
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_scores_are_one_processs_to_the_bit(
    cluster: str, data: Path, tmp_path: Path, tiny_student: Path, dtype: str
) -> None:
    scoring = {"dtype": dtype}
    alone = select_from(
        data, tmp_path / "alone", scoring_with(tiny_student, **scoring), shard_size=SIZE
    )
    rayed = select_from(
        data, tmp_path / "rayed", on_cluster(tiny_student, **scoring), shard_size=SIZE
    )
    assert len(score_shards(rayed)) == 6 and same_files(alone, rayed)
    assert chosen(alone) == chosen(rayed)
    ours, theirs = noise_of(alone), noise_of(rayed)
    assert ours == theirs and len(ours) == (dtype == "bfloat16")


def noise_of(result: SelectResult) -> list[str]:
    return [path.read_text() for path in result.run.glob("scores/*/noise.json")]


@on_ray
def test_what_is_scored_is_not_scored_again(
    cluster: str, data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    """Begun here, gone on there; then decided again, for which no cluster is needed."""
    first = select_from(data, tmp_path / "run", scoring_with(tiny_student), shard_size=SIZE)
    wanted = scores_of(first)
    shards = score_shards(first)
    mark_first(shards[0], 123.0)
    for shard in shards[3:]:
        shard.unlink()
    again = SelectConfig(
        input=InputConfig(data=str(first.run)), scoring=on_cluster(tiny_student, workers=1)
    )
    found = scores_of(select(again))
    assert found["r00", "original"]["nll_response"] == 123.0  # not computed again
    assert {id for (id, kind), row in found.items() if row != wanted[id, kind]} == {"r00"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        select(again)


def killed_once(mark: Path, record: Record, known: Scored) -> Needs:
    """What a decision needs; kills its first asker in the middle of the run."""
    if next(iter(record.values())).id == "r10" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return needs(record, known)


@on_ray
def test_a_worker_killed_within_a_shard_costs_nothing_but_time(
    cluster: str, data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    alone = select_from(data, tmp_path / "alone", scoring_with(tiny_student), shard_size=SIZE)
    run = RunDir.create(tmp_path / "run", RunDir(alone.run).config["identity"])
    for index, path in enumerate(RunDir(alone.run).shard_paths()):
        run.write_shard(index, run.read_shard(path))
    config = on_cluster(tiny_student, workers=1)
    identity = resolve(config, run.path / "scores")
    files, ticks = ScoreFiles(run, identity), list[int]()
    filled = files.complete(
        ScoringEngine(config, identity), ticks.append, partial(killed_once, tmp_path / "killed")
    )
    assert sum(len(known) for _, known in filled) == 18 == sum(ticks)
    assert (tmp_path / "killed").exists()
    for path in run.shard_paths():
        name = path.name
        ours, theirs = (
            pq.read_table(f / "scores" / identity.key / name) for f in (run.path, alone.run)
        )
        assert ours.equals(theirs)


def test_a_worker_that_does_not_see_the_run_says_so(tmp_path: Path, tiny_student: Path) -> None:
    config = scoring_with(tiny_student)
    identity = resolve(config, tmp_path)
    run = RunDir.create(tmp_path / "run", {"input": "a"})
    for seen in (RunDir(tmp_path / "nowhere"), run):
        with pytest.raises(CurateError, match=r"does not see the run .*on one file system"):
            shard_worker("cpu", seen, "another", identity, config, None)
    shard_worker("cpu", run, run.config["id"], identity, config, None)


# --- the command ----------------------------------------------------------------------------------


def test_a_missing_ray_is_one_sentence(tmp_path: Path) -> None:
    if HERE:
        pytest.skip("Ray is installed")
    with pytest.raises(CurateError) as caught:
        over(write, tmp_path)
    assert str(caught.value) == 'Ray is not installed here: pip install "curate-reflection[ray]"'


def command(data: Path, out: Path, student: Path) -> list[str]:
    words = [*COMMAND, "select", data, "--student", student, "--out", out, "--template"]
    return [*map(str, words), "wizardlm", "--executor", "ray"]


@on_ray
def test_a_cluster_that_is_not_there_is_one_sentence(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        done = subprocess.run(
            command(data, tmp_path / "run", tiny_student),
            env={**os.environ, "RAY_ADDRESS": address},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"error: cannot reach Ray at RAY_ADDRESS={address}"
    )
    assert "Traceback" not in done.stderr and not done.stdout


@on_ray
def test_an_interrupted_command_goes_on_and_says_nothing_of_rays(
    data: Path, tmp_path: Path, tiny_student: Path
) -> None:
    """On a cluster that it begins and ends itself."""
    line = command(data, tmp_path / "run", tiny_student)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        before = [process.stderr.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        out, after = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert [text.split()[0] for text in before] == ["select:", "scoring", "Ray:"]
    assert after == "interrupted: the same command goes on from here\n"
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "selected " in done.stdout, done.stderr
    assert "Ray: workers: " in done.stderr and "Traceback" not in done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))
    assert any(stage.startswith("select/") for stage in manifest["stages"])
