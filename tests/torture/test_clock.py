"""The wall clock jumps by hours, forwards and back, while a run works, waits or is looked at."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from ..llm.batch_server import BatchServer
from ..llm.faulty_server import Answer, FaultyServer, Received, always, busy, completion
from .checks import accounted_for, candidates, paid_once, same
from .conftest import IDS, Landed, reflecting, selecting
from .forker import HEAVY, LIGHT, Child, Forker, forking
from .server import Served

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]
JUMPS = (3 * 3600, -5 * 3600, 0, 40 * 86400, -1)


class Clock:
    """The wall clock of all that a forker starts."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "shift"

    def shift(self, seconds: float) -> None:
        """Set it to so many seconds from ours."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(str(round(seconds)))
        fresh.replace(self.file)

    def jump_about(self, child: Child, every: float = 0.15) -> int:
        """Set it again and again until the child has ended; how often."""
        jumps = itertools.cycle(JUMPS)
        number = 0
        while Path(f"/proc/{child.pid}").exists():
            self.shift(next(jumps))
            time.sleep(every)
            number += 1
        return number


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("no C compiler to make the clock's shim with")
    made = tmp_path_factory.mktemp("shim") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the clock's shim cannot be compiled here: {done.stderr[:200]}")
    return made


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    made = Clock(tmp_path_factory.mktemp("clock"))
    made.shift(0)
    return made


@pytest.fixture(scope="module")
def shifted(shim: Path, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """Commands that see the shifted clock."""
    folder = tmp_path_factory.mktemp("shifted")
    preload = {"LD_PRELOAD": str(shim), "CURATE_CLOCK_FILE": str(clock.file)}
    with forking(HEAVY, folder, **preload) as forker:
        yield forker


def test_the_shim_shifts_the_clock(shim: Path, clock: Clock) -> None:
    clock.shift(3600)
    preload = {"LD_PRELOAD": str(shim), "CURATE_CLOCK_FILE": str(clock.file)}
    ask = "import time, datetime; print(time.time(), datetime.datetime.now().timestamp())"
    command = [sys.executable, "-c", ask]
    said = subprocess.run(command, env=os.environ | preload, capture_output=True, text=True).stdout
    assert all(3500 < float(word) - time.time() < 3700 for word in said.split())
    clock.shift(0)


def test_reflect_while_the_clock_jumps(
    tmp_path: Path, shifted: Forker, clock: Clock, server: Served, data: Path, calm: Path,
    landed: Landed,
) -> None:  # fmt: skip
    """With a rate to keep to: 36 requests at 600 a minute take some three seconds, not hours."""
    run = tmp_path / "run"
    begun = time.monotonic()
    child = shifted.start(*reflecting(data, run, server.url, "--rpm", "600"))
    for _ in range(clock.jump_about(child)):
        landed("while asking")
    assert child.wait() == 0, child.said
    assert 2 < time.monotonic() - begun < 60
    accounted_for(run, IDS)
    same(run, calm)
    paid_once(run, server, in_flight=0)
    clock.shift(0)


@pytest.mark.parametrize("ahead", [-5 * 3600, 3 * 3600])
def test_retry_after_a_date_of_the_servers_clock(
    tmp_path: Path, shifted: Forker, clock: Clock, data: Path, ahead: int
) -> None:
    def refusing(request: Received) -> Answer | None:
        if request.number:
            return None
        now = datetime.now(UTC)
        dates = [format_datetime(now + timedelta(seconds=s), usegmt=True) for s in (0, 1)]
        refusal = busy(retry_after=dates[1])
        return Answer(429, refusal.body, (*refusal.headers, ("date", dates[0])))

    clock.shift(ahead)
    begun = time.monotonic()
    with FaultyServer(refusing) as server:
        shifted.run(*reflecting(data, tmp_path / "run", server.url))
        assert len(server.requests) == 3 * len(IDS) + 1
    assert time.monotonic() - begun < 60
    clock.shift(0)


def test_batch_jobs_while_the_clock_jumps(
    tmp_path: Path, shifted: Forker, clock: Clock, data: Path, landed: Landed
) -> None:
    with BatchServer() as server:
        server.hold = True
        words = reflecting(data, tmp_path / "run", server.url, "--batch-api", "--batch-poll", "0.1")
        child = shifted.start(*words)
        for seconds in JUMPS:
            clock.shift(seconds)
            landed("while a batch is waited for")
            time.sleep(0.5)
        server.hold = False
        assert child.wait() == 0, child.said
        assert set(server.asked.values()) == {1}
    accounted_for(tmp_path / "run", IDS)
    clock.shift(0)


def test_select_while_the_clock_jumps(
    tmp_path: Path, shifted: Forker, clock: Clock, calm: Path, tiny_student: Path, landed: Landed
) -> None:
    for name in ("jumped", "still"):
        shutil.copytree(calm, tmp_path / name)
    shifted.run(*selecting(tmp_path / "still", tiny_student))
    child = shifted.start(*selecting(tmp_path / "jumped", tiny_student))
    for _ in range(clock.jump_about(child, 0.1)):
        landed("while scoring")
    assert child.wait() == 0, child.said
    same(tmp_path / "jumped", tmp_path / "still")
    clock.shift(0)


@pytest.mark.parametrize("ahead", [-5 * 3600, 3 * 3600])
def test_locks_are_as_old_as_the_file_system_says(
    tmp_path: Path, shifted: Forker, clock: Clock, server: Served, data: Path, ahead: int
) -> None:
    """One held elsewhere and touched lately is not taken over, an abandoned one is."""
    run = tmp_path / "run"
    words = reflecting(data, run, server.url)
    clock.shift(ahead)
    run.mkdir()
    lock = run / ".lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "what": "reflect", "token": "t"}))
    assert "runs as process 1 on elsewhere" in shifted.run(*words, code=1)
    os.utime(lock, (time.time() - 300,) * 2)
    shifted.run(*words)
    clock.shift(0)


def test_status_while_the_clock_jumps(
    tmp_path: Path, shifted: Forker, clock: Clock, server: Served, data: Path
) -> None:
    run = tmp_path / "run"
    server.slower(3)
    with forking(LIGHT, tmp_path) as still:
        working = still.start(*reflecting(data, run, server.url))
        server.wait_for(8)
        for seconds in JUMPS:
            clock.shift(seconds)
            found = json.loads(shifted.run("status", run, "--json"))
            (holder,) = found["holders"]
            assert holder["alive"] and holder["pid"] == working.pid
            (reflect, *_) = found["stages"]
            assert reflect["state"] == "running"
            assert (reflect["per_second"] or 0) < 1000  # what a quick server does before it slows
        clock.shift(0)
        server.slower(0)
        assert working.wait() == 0, working.said


def test_a_retry_after_the_clock_was_set_back(
    tmp_path: Path, shifted: Forker, clock: Clock, data: Path, calm: Path
) -> None:
    """The later attempt has the earlier time."""
    with FaultyServer(always(completion("no marks"))) as server:
        clock.shift(7 * 3600)
        words = reflecting(data, tmp_path / "run", server.url)
        shifted.run(*words, code=3)
        server.behaviour = None
        clock.shift(-7 * 3600)
        shifted.run(*words, "--retry", "unparsed")
        asked = len(server.requests)
        shifted.run(*words)
        assert len(server.requests) == asked
    assert {row["status"] for row in candidates(tmp_path / "run")} == {"ok"}
    clock.shift(0)
