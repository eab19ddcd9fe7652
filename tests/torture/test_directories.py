"""Run directories that are moved, raced for or held; inputs that cannot be written."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .checks import accounted_for, paid_once, same
from .conftest import AT_ONCE, IDS, Landed, reflecting, selecting
from .forker import LIGHT, Forker, forking
from .server import Served

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]
MANY = 12


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written there, not even by root."""
    mounts = (["mount", "--bind", str(folder), str(folder)],
              ["mount", "-o", "remount,bind,ro", str(folder)])  # fmt: skip
    if os.geteuid() or any(subprocess.run(m, capture_output=True).returncode for m in mounts):
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def error_of(said: str) -> str:
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said
    return line


def test_a_run_moved_while_the_teacher_is_asked(
    tmp_path: Path, curate: Forker, server: Served, data: Path, calm: Path, landed: Landed
) -> None:
    """It stops, or had ended; in the new place it goes on, and nothing is asked again."""
    for number, requests in enumerate((1, 6, 13, 20, 27, 34)):
        run, moved = tmp_path / f"run-{number}", tmp_path / f"moved-{number}"
        server.notes.write_text("")
        child = curate.start(*reflecting(data, run, server.url))
        server.wait_for(requests)
        run.rename(moved)
        if child.wait() == 1:
            assert re.search("not there any more|[Nn]o such file", error_of(child.said))
            landed(f"after {requests} requests")
        else:
            assert child.wait() == 0, child.said
            landed("too late")
        shutil.rmtree(run, ignore_errors=True)
        curate.run(*reflecting(data, moved, server.url))
        accounted_for(moved, IDS)
        same(moved, calm)
        paid_once(moved, server, in_flight=AT_ONCE if requests == 1 else 0)


def test_a_run_moved_while_it_is_scored(
    tmp_path: Path, curate: Forker, calm: Path, tiny_student: Path, landed: Landed
) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(calm, undisturbed)
    curate.run(*selecting(undisturbed, tiny_student))
    for number, shards in enumerate((0, 1, 2)):
        run, moved = tmp_path / f"run-{number}", tmp_path / f"moved-{number}"
        shutil.copytree(calm, run)
        child = curate.start(*selecting(run, tiny_student))
        end = time.monotonic() + 120
        while not (run / ".lock").exists() and time.monotonic() < end:
            time.sleep(0.001)
        while len(list(run.glob("scores/*/part-*"))) < shards and time.monotonic() < end:
            time.sleep(0.001)
        run.rename(moved)
        if child.wait() == 1:
            said = error_of(child.said)  # the second where it goes in the middle of a write
            assert "not there any more" in said or "No such file or directory" in said
            landed(f"after {shards} shards")
        else:
            assert child.wait() == 0, child.said
            landed("too late")
        curate.run(*selecting(moved, tiny_student))
        same(moved, undisturbed)


def test_inputs_that_cannot_be_written(
    tmp_path: Path, curate: Forker, server: Served, data: Path, calm: Path, tiny_student: Path
) -> None:
    """Data, a finished run and a student on a read-only disk serve as input."""
    place = tmp_path / "inputs"
    place.mkdir()
    shutil.copy(data, place / "data.jsonl")
    shutil.copytree(calm, place / "run")
    shutil.copytree(tiny_student, place / "student")
    with read_only(place):
        run = tmp_path / "run"
        curate.run(*reflecting(place / "data.jsonl", run, server.url))
        same(run, calm)
        curate.run(*selecting(run, place / "student"))
        curate.run("select", place / "run", "--out", tmp_path / "other", "--student",
                   place / "student", "--template", "wizardlm", "--device", "cpu",
                   "--max-ifd", "9", "--max-rifd", "9")  # fmt: skip
        accounted_for(tmp_path / "other", IDS)
        curate.run("finetune", run, "--model", place / "student", "--out", tmp_path / "model",
                   "--preset", "demo", "--epochs", "1", "--max-length", "128",
                   "--device", "cpu")  # fmt: skip
        curate.run("status", place / "run")
        told = (
            curate.run(*selecting(place / "run", place / "student"), code=1),
            curate.run(*reflecting(data, place / "new", server.url), code=1),
            curate.run("report", place / "run", code=1),
        )
        assert all("ead-only file system" in error_of(said) for said in told), told


def test_the_second_is_told_who_holds_it_and_takes_over_from_the_dead_at_once(
    tmp_path: Path, curate: Forker, server: Served, data: Path, calm: Path
) -> None:
    run = tmp_path / "run"
    server.slower(600)
    with forking(LIGHT, tmp_path) as other:
        holder = other.start(*reflecting(data, run, server.url))
        server.wait_for(AT_ONCE)
        told = error_of(curate.run(*reflecting(data, run, server.url), code=1))
        assert f"runs as process {holder.pid} on" in told and "`curate reflect`" in told
        assert len(server.asked()) == AT_ONCE
        server.slower(0)
        holder.send(signal.SIGKILL)
        begun = time.monotonic()
        assert holder.wait() == -signal.SIGKILL
    curate.run(*reflecting(data, run, server.url))
    assert time.monotonic() - begun < 30
    same(run, calm)
    paid_once(run, server, in_flight=AT_ONCE)


@pytest.mark.parametrize("number", range(3))
def test_of_many_that_start_at_once_one_wins(
    tmp_path: Path, server: Served, data: Path, calm: Path, number: int, landed: Landed
) -> None:
    """Each is told to go at the same instant; nothing is asked twice."""
    run = tmp_path / "run"
    server.slower(0.3)
    with ExitStack() as stack:
        forkers = [stack.enter_context(forking(LIGHT, _made(tmp_path, n))) for n in range(MANY)]
        children = [forker.start(*reflecting(data, run, server.url)) for forker in forkers]
        codes = [child.wait() for child in children]
        said = [child.said for child in children]
    assert codes.count(0) >= 1 and set(codes) == {0, 1}, said
    for code, words in zip(codes, said, strict=True):
        landed("won, or came after" if code == 0 else "refused")
        assert code == 0 or "is in use" in error_of(words), words
    accounted_for(run, IDS)
    same(run, calm)
    paid_once(run, server, in_flight=0)


def _made(folder: Path, number: int) -> Path:
    made = folder / f"forker-{number}"
    made.mkdir()
    return made
