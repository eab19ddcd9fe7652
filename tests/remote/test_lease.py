"""The lease of a run in a store: one holder, who is named; a dead one is replaced."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.remote.urls import Store, store_of
from curate.pipeline.remote.lease import LeaseLost, Pace, hold_lease, holder_at
from curate.pipeline.runs.lock import signature

from . import dirstore  # noqa: F401 - registers itself

QUICK = Pace(beat=0.05, dead_after=0.6, look=0.05)


@pytest.fixture(params=["memory://lease/run", "dirstore://lease/run"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    monkeypatch.setenv("DIRSTORE", str(tmp_path))
    monkeypatch.setattr("curate.pipeline.remote.lease._SETTLES", 0.05)
    found = store_of(request.param)
    yield found
    if request.param.startswith("memory") and found.fs.exists(found.root):
        found.fs.rm(found.root, recursive=True)


def put(store: Store, holder: dict[str, Any]) -> None:
    store.fs.pipe_file(store.path(".lock"), json.dumps(holder).encode())


def elsewhere(**more: Any) -> dict[str, Any]:
    return {
        **signature("select", "other"),
        "host": "far-away",
        "machine": "another",
        "pid": 7,
        "beat": 1,
        **more,
    }


def test_it_names_its_holder_and_is_gone_afterwards(store: Store) -> None:
    with hold_lease(store, "reflect", pace=QUICK) as lease:
        first = holder_at(store, store.path(".lock")) or {}
        assert (first["what"], first["host"]) == ("reflect", socket.gethostname())
        time.sleep(0.3)
        later = holder_at(store, store.path(".lock")) or {}
        assert later["beat"] > first["beat"]
        lease.check()
    assert holder_at(store, store.path(".lock")) is None


def test_a_living_process_of_this_machine_is_named(store: Store) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        put(store, {**signature("select", "t"), "pid": child.pid, "started": stat[19]})
        said = f"in use: `curate select` runs as process {child.pid} on {socket.gethostname()}"
        with pytest.raises(CurateError, match=said), hold_lease(store, "reflect", pace=QUICK):
            pass
        child.kill()
    with hold_lease(store, "reflect", pace=QUICK):  # dead, so taken over at once
        pass


def test_a_holder_elsewhere_that_beats_lives(store: Store) -> None:
    stop = Event()

    def beat() -> None:
        for number in range(1000):
            put(store, elsewhere(beat=number))
            if stop.wait(0.05):
                return

    beating = Thread(target=beat)
    beating.start()
    time.sleep(0.1)
    with (
        pytest.raises(CurateError, match="process 7 on far-away"),
        hold_lease(store, "x", pace=QUICK),
    ):
        pass
    stop.set()
    beating.join()


def test_a_silent_holder_elsewhere_is_dead_after_a_while(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, elsewhere())
    begun = time.monotonic()
    with hold_lease(store, "reflect", pace=QUICK):
        assert time.monotonic() - begun > QUICK.dead_after
        names = [path.rpartition("/")[2] for path in store.fs.find(store.root)]
        assert names == [".lock"]  # the succession's is gone
    assert "looking for a sign of life" in capsys.readouterr().err


def test_a_damaged_lock_is_nobody_s(store: Store) -> None:
    store.fs.pipe_file(store.path(".lock"), b"\0\0")
    with hold_lease(store, "reflect", pace=QUICK):
        pass


def test_whoever_was_taken_for_dead_may_not_go_on(store: Store) -> None:
    with hold_lease(store, "reflect", pace=Pace(beat=60)) as lease:
        put(store, elsewhere())
        with pytest.raises(LeaseLost, match="taken over: `curate select` runs as process 7"):
            lease.check()
    assert (holder_at(store, store.path(".lock")) or {})["token"] == "other"  # it is not his
    store.fs.rm_file(store.path(".lock"))


def test_a_lock_that_somebody_removed_is_lost(store: Store) -> None:
    with hold_lease(store, "reflect", pace=Pace(beat=60)) as lease:
        store.fs.rm_file(store.path(".lock"))
        with pytest.raises(LeaseLost, match="its lock was removed"):
            lease.check()


def test_of_many_that_find_a_dead_holder_one_comes_in(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads are one process to each other, so each takes itself for a machine of its own."""
    put(store, {**signature("reflect", "dead"), "machine": "another"})
    others = iter(range(100))
    monkeypatch.setattr(
        "curate.pipeline.remote.lease.signature",
        lambda what, token: {**signature(what, token), "machine": f"machine-{next(others)}"},
    )
    together, within = Barrier(4), []

    def one(_: int) -> bool:
        together.wait()
        try:
            with hold_lease(store, "reflect", pace=Pace(beat=0.02, dead_after=1, look=0.01)):
                within.append(1)
                assert sum(within) == 1
                time.sleep(0.2)
                within.append(-1)
                return True
        except CurateError:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(one, range(4))) >= 1
    assert sum(within) == 0
