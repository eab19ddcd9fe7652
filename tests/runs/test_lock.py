"""The lock: refused, taken over, and raced for by real processes that really die."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.base.files import create_json, replace_folder, write_json
from curate.pipeline.base.processes.sharding import WHOLE, Share
from curate.pipeline.errors import CurateError
from curate.pipeline.runs import lock
from curate.pipeline.runs.lock import holders, output_lock, run_lock, signature

HOLD = """
import sys, time
from pathlib import Path
from curate.pipeline.runs.lock import run_lock
from curate.pipeline.base.files import create_json, replace_folder, write_json
from curate.pipeline.base.processes.sharding import Share
with run_lock(Path(sys.argv[1]), "reflect", share=Share(*map(int, sys.argv[2:]))):
    print("held", flush=True)
    time.sleep(60)
"""

# Eight processes go for one lock again and again; most of them die with it in their hands.
RACE = """
import os, random, sys, time
from pathlib import Path
from curate.pipeline.errors import CurateError
from curate.pipeline.runs.lock import run_lock

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
log = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
end = time.time() + seconds

def once():
    with run_lock(folder, "race"):
        try:
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            os.write(log, b"two at a time\\n")
        time.sleep(random.random() * 0.002)
        (folder / "inside").unlink(missing_ok=True)
        os.write(log, b"held\\n")
        if random.random() < 0.8:
            os._exit(0)

def contend():
    try:
        while time.time() < end:
            try:
                once()
            except CurateError:
                os.write(log, b"refused\\n")
    except BaseException as error:
        os.write(log, repr(error).encode() + b"\\n")
    os._exit(0)

def keep_contending():
    while time.time() < end:
        child = os.fork()
        if not child:
            contend()
        os.waitpid(child, 0)
    os._exit(0)

children = []
for _ in range(8):
    child = os.fork()
    if not child:
        keep_contending()
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""


TURN = """
import os, sys, time
from pathlib import Path
from curate.pipeline.runs.lock import turn_lock
folder = Path(sys.argv[1])
with turn_lock(folder, "reflect"):
    os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
    time.sleep(0.2)
    if sys.argv[2] == "dies":
        (folder / "inside").unlink()
        os._exit(0)
    (folder / "inside").unlink()
"""


def start_holder(folder: Path, index: int = 0, of: int = 1) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLD, str(folder), str(index), str(of)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def end(holder: subprocess.Popen[bytes], number: signal.Signals) -> None:
    holder.send_signal(number)
    holder.wait()
    assert holder.stdout is not None
    holder.stdout.close()


def forge(folder: Path, *, age: float = 0, **holder: Any) -> Path:
    """A lock as another process would have left it."""
    folder.mkdir(exist_ok=True)
    path = folder / ".lock"
    path.write_text(json.dumps({"what": "select", "token": "t", **holder}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_held_and_left_clean(tmp_path: Path) -> None:
    with run_lock(tmp_path / "a" / "run", "reflect"):
        assert [p.name for p in (tmp_path / "a" / "run").iterdir()] == [".lock"]
    with pytest.raises(KeyError), run_lock(tmp_path / "a" / "run", "reflect"):
        raise KeyError
    assert list((tmp_path / "a" / "run").iterdir()) == []


def test_a_living_holder_is_named_a_killed_one_succeeded_at_once(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    with pytest.raises(CurateError) as caught, run_lock(tmp_path, "select"):
        raise AssertionError("two hold the lock")
    message = str(caught.value)
    assert f"process {holder.pid} on {socket.gethostname()}" in message
    assert str(tmp_path) in message and "curate reflect" in message
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]

    os.kill(holder.pid, signal.SIGSTOP)  # stopped is not dead
    with pytest.raises(CurateError, match="is in use"), run_lock(tmp_path, "select"):
        raise AssertionError("two hold the lock")

    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet reaped: a zombie
    begun = time.monotonic()
    with run_lock(tmp_path, "select"):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert time.monotonic() - begun < 60  # a silent one is waited for longer
    assert list(tmp_path.iterdir()) == []
    end(holder, signal.SIGKILL)


def test_a_number_used_again_is_another_process(tmp_path: Path) -> None:
    forge(tmp_path, **{**signature("select", "t"), "pid": os.getppid(), "started": "1"})
    with run_lock(tmp_path, "select"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_holder_elsewhere_lives_while_it_touches_its_lock(tmp_path: Path) -> None:
    forge(tmp_path, host="elsewhere", pid=1, age=30)
    with pytest.raises(CurateError, match="process 1 on elsewhere"), run_lock(tmp_path, "select"):
        raise AssertionError("two hold the lock")
    forge(tmp_path, host="elsewhere", pid=1, age=300)
    with run_lock(tmp_path, "select"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", "null", "{}", '{"pid": 1, "check": "0"}'])
def test_a_damaged_lock_is_held_while_it_is_touched(tmp_path: Path, content: str) -> None:
    lock = tmp_path / ".lock"
    lock.write_text(content)
    with pytest.raises(CurateError, match="is damaged, and whoever"), run_lock(tmp_path, "select"):
        raise AssertionError("two hold the lock")
    os.utime(lock, (time.time() - 300,) * 2)
    with run_lock(tmp_path, "select"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_empty_lock_of_a_power_cut_is_taken_over_at_once(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with run_lock(tmp_path, "select"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_s_lock_is_not_removed(tmp_path: Path) -> None:
    """Taken for dead (a laptop that slept), the first holder leaves the second one's lock."""
    with run_lock(tmp_path, "select"):
        forge(tmp_path, host="elsewhere", pid=1)
    assert json.loads((tmp_path / ".lock").read_text())["host"] == "elsewhere"


def test_process_ids_of_another_namespace_tell_nothing(tmp_path: Path) -> None:
    """Two containers on one machine share its host name and its boot."""
    holder = signature("reflect", "t")
    holder |= {"machine": f"{holder['machine']}0", "pid": os.getppid(), "started": "1"}
    forge(tmp_path, age=30, **holder)
    with pytest.raises(CurateError, match="is in use"), run_lock(tmp_path, "select"):
        raise AssertionError("two hold the lock")


# --- a holder that is taken for dead --------------------------------------------------------------


def test_whoever_was_taken_for_dead_publishes_nothing_more(tmp_path: Path) -> None:
    with run_lock(tmp_path, "select"):
        write_json(tmp_path / "before.json", 1)
        forge(tmp_path, host="elsewhere", pid=1)
        writes: tuple[Callable[[], None], ...] = (
            lambda: write_json(tmp_path / "a" / "after.json", 1),
            lambda: create_json(tmp_path / "created.json", 1),
            lambda: replace_folder(tmp_path / "folder", lambda new: None),
        )
        for write in writes:
            with pytest.raises(CurateError, match="`curate select` runs as process 1 on elsewhere"):
                write()
        write_json(tmp_path.parent / f"{tmp_path.name}.json", 1)  # it is another's
    found = {path.name for path in tmp_path.rglob("*.json")}
    assert found == {"before.json"} and not (tmp_path / "folder").exists()


@contextmanager
def out_of_reach(folder: Path) -> Iterator[None]:
    """A folder whose every access fails with an OSError."""
    away = folder.rename(folder.with_name("away"))
    folder.touch()
    yield
    folder.unlink()
    away.rename(folder)


def test_a_heartbeat_that_fails_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_HEARTBEAT", 0.01)
    with run_lock(tmp_path / "run", "select"):
        with out_of_reach(tmp_path / "run"):
            time.sleep(0.1)
        path = tmp_path / "run" / ".lock"
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            time.sleep(0.01)


def test_a_lock_that_cannot_be_refreshed_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_HEARTBEAT", 0.01)
    monkeypatch.setattr(lock, "_GIVE_UP", 0)
    with (
        pytest.raises(CurateError, match="cannot be refreshed"),
        run_lock(tmp_path / "run", "select"),
    ):
        (tmp_path / "run").rename(tmp_path / "away")
        (tmp_path / "run").touch()
        time.sleep(60)


def test_two_cannot_write_one_output(tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    with (
        output_lock(out, "score"),
        output_lock(tmp_path / "others.parquet", "score"),
        pytest.raises(CurateError, match=r"scores\.parquet is in use"),
        output_lock(out, "score"),
    ):
        raise AssertionError("two hold the lock")
    assert list(tmp_path.iterdir()) == []


def test_a_successor_may_die_too(tmp_path: Path) -> None:
    dead = {**signature("select", "first"), "pid": 1, "started": "1"}
    lock = forge(tmp_path, **dead)
    succession = lock.with_name(".lock.after.first")
    succession.write_text(json.dumps({**dead, "token": "second"}))
    with run_lock(tmp_path, "select"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_exactly_one_of_many_holds_it(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", RACE, str(tmp_path), "2.5"], check=True, timeout=60)
    events = Counter((tmp_path / "log").read_text().splitlines())
    assert set(events) <= {"held", "refused"}, events
    assert events["held"] > 1
    with run_lock(tmp_path, "select"):  # whatever died last, the lock is to be had
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(CurateError, match="cannot write"),
        run_lock(tmp_path / "file" / "run", "select"),
    ):
        raise AssertionError("held nothing")


# --- several tasks --------------------------------------------------------------------------------


def test_tasks_of_one_array_hold_it_together_and_nobody_else(tmp_path: Path) -> None:
    task = start_holder(tmp_path, 1, 3)
    with (
        run_lock(tmp_path, "reflect", share=Share(0, 3)),
        run_lock(tmp_path, "x", share=Share(2, 3)),
    ):
        others = [h for h in holders(tmp_path) if h.pid == task.pid]
        assert [(h.what, h.alive) for h in others] == [("reflect --shard 1/3", True)]
    for share in (WHOLE, Share(1, 3), Share(0, 2), Share(1, 4)):
        with (
            pytest.raises(CurateError, match=rf"`curate reflect --shard 1/3` .* {task.pid} on"),
            run_lock(tmp_path, "select", share=share),
        ):
            raise AssertionError(f"{share} holds it too")
        assert [p.name for p in tmp_path.iterdir()] == [".lock-1-of-3"]
    end(task, signal.SIGKILL)
    assert [h.alive for h in holders(tmp_path)] == [False]
    for share in (WHOLE, Share(0, 2), Share(1, 3)):
        with run_lock(tmp_path, "select", share=share):
            pass
    assert list(tmp_path.iterdir()) == []


def test_no_task_begins_while_one_process_holds_it_all(tmp_path: Path) -> None:
    whole = start_holder(tmp_path)
    with pytest.raises(CurateError, match="is in use"), run_lock(tmp_path, "x", share=Share(0, 2)):
        raise AssertionError("a task holds it too")
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]
    end(whole, signal.SIGTERM)


def test_they_finish_one_after_another_and_a_dead_one_bars_none(tmp_path: Path) -> None:
    tasks = [
        subprocess.Popen([sys.executable, "-c", TURN, str(tmp_path), how])
        for how in ("ends", "dies", "ends", "dies")
    ]
    assert [task.wait(timeout=60) for task in tasks] == [0, 0, 0, 0]
    assert {p.name for p in tmp_path.iterdir()} <= {".turn"}
