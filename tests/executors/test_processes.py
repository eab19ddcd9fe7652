"""Work in several processes: all of it done once, whoever dies."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Barrier

import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.executors.processes import ATTEMPTS, WorkerFailed, over_processes

ITEMS = [f"item-{number}" for number in range(12)]


def write(device: str, folder: Path) -> Callable[[str], None]:
    def work(item: str) -> None:
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
        with (folder / "begun").open("a") as file:
            file.write(".")
        os.kill(os.getpid(), signal.SIGKILL)

    return work


def in_twos(device: str, folder: Path) -> Callable[[str], None]:
    both = Barrier(2, timeout=60)

    def work(item: str) -> None:
        both.wait()

    return work


def fail(device: str, folder: Path) -> Callable[[str], None]:
    raise CurateError(f"nothing works on {device}")


def a_bug(device: str, folder: Path) -> Callable[[str], None]:
    with (folder / "begun").open("a") as file:
        file.write(".")
    raise KeyError("no such tensor")


def too_large(device: str, folder: Path) -> Callable[[str], None]:
    from torch import OutOfMemoryError  # here: the others' workers need no torch

    with (folder / "begun").open("a") as file:
        file.write(".")
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words.")


def test_every_item_is_done_and_the_work_is_shared(tmp_path: Path) -> None:
    assert sorted(over_processes(write, ["a", "b"], (tmp_path,), ITEMS)) == sorted(ITEMS)
    done = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert sorted(done) == sorted(ITEMS)
    assert len(set(done.values())) == 2  # two devices, a process each


def test_a_dead_workers_item_is_taken_over(tmp_path: Path) -> None:
    assert sorted(over_processes(die_once, ["a", "b"], (tmp_path,), ITEMS)) == sorted(ITEMS)
    assert {path.name for path in tmp_path.iterdir()} == {*ITEMS, "died"}


def test_an_item_that_kills_its_workers_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match=f"{ATTEMPTS} workers died over item-0"):
        list(over_processes(die_always, ["a"], (tmp_path,), ITEMS))
    # The first worker had another item in hand, which it may have begun too.
    assert ATTEMPTS <= len((tmp_path / "begun").read_text()) <= ATTEMPTS + 1


def test_a_worker_prepares_an_item_while_another_is_worked_on(tmp_path: Path) -> None:
    assert sorted(over_processes(in_twos, ["a"], (tmp_path,), ITEMS[:2])) == sorted(ITEMS[:2])


def test_a_workers_error_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="nothing works on a"):
        list(over_processes(fail, ["a"], (tmp_path,), ITEMS))


def test_a_workers_bug_is_raised_once_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(WorkerFailed) as caught:
        list(over_processes(a_bug, ["a"], (tmp_path,), ITEMS))
    assert "KeyError: 'no such tensor'" in str(caught.value) and "in a_bug" in str(caught.value)
    assert (tmp_path / "begun").read_text() == "."


def test_a_worker_without_memory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CurateError) as caught:
        list(over_processes(too_large, ["cuda:1"], (tmp_path,), ITEMS))
    message = str(caught.value)
    assert "cuda:1" in message and "Tried to allocate 2.00 GiB" in message
    assert "\n" not in message and (tmp_path / "begun").read_text() == "."
