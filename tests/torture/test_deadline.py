"""SIGTERM, and SIGKILL some seconds later, as Slurm ends a job."""

import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from ..llm.records_asked import journaled
from .checks import accounted_for, not_asked_again, paid_once, same
from .conftest import AT_ONCE, IDS, TRIALS, Landed, reflecting, selecting
from .forker import Child, Forker
from .server import Served

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]
GRACE = 10.0
EACH = max(TRIALS // 30, 2)


def terminated(child: Child) -> int:
    """TERM, then KILL after the grace; the exit code."""
    child.send(signal.SIGTERM)
    deadline = threading.Timer(GRACE, child.send, [signal.SIGKILL])
    deadline.start()
    try:
        return child.wait()
    finally:
        deadline.cancel()


def ended(child: Child) -> bool:
    """Whether it ended in time as interrupted, not by itself."""
    code = terminated(child)
    assert code in (0, 130, -signal.SIGTERM), f"exit code {code}: {child.said}"
    assert code != -signal.SIGTERM or not child.said  # it had not begun
    assert "Traceback" not in child.said, child.said
    if code == 130:
        assert "interrupted: the same command goes on from here" in child.said
    return code != 0


def test_reflect_with_slow_replies_in_flight(
    tmp_path: Path, curate: Forker, server: Served, data: Path, calm: Path,
    moments: random.Random, landed: Landed,
) -> None:  # fmt: skip
    """Replies that would take ten minutes are given up, those that came are kept."""
    run = tmp_path / "run"
    words = reflecting(data, run, server.url)
    for number in range(EACH):
        begin, kept = len(server.asked()), journaled(run / "journal")
        child = curate.start(*words)
        server.wait_for(begin + moments.randint(1, 3))  # the flow begins with few
        server.slower(600)
        time.sleep(moments.uniform(0, 0.3))
        landed("with slow replies in flight" if ended(child) else "too late")
        not_asked_again(server, begin, kept)
        server.slower(0)
        paid_at_most = AT_ONCE * (number + 1)
        assert sum(server.counts().values()) - len(server.counts()) <= paid_at_most
    curate.run(*words)
    accounted_for(run, IDS)
    same(run, calm)
    paid_once(run, server, in_flight=AT_ONCE * EACH)


def test_select(
    tmp_path: Path, curate: Forker, calm: Path, selected: Path, tiny_student: Path,
    moments: random.Random, landed: Landed,
) -> None:  # fmt: skip
    for number in range(EACH):
        run = tmp_path / str(number)
        shutil.copytree(calm, run)
        child = curate.start(*selecting(run, tiny_student))
        time.sleep(moments.uniform(0.05, 1.5))
        landed("at work" if ended(child) else "too late")
        curate.run(*selecting(run, tiny_student))
        accounted_for(run, IDS)
        same(run, selected)


def test_finetune(
    tmp_path: Path, curate: Forker, selected: Path, tiny_student: Path,
    moments: random.Random, landed: Landed,
) -> None:  # fmt: skip
    def words(out: Path) -> list[str | Path]:
        return ["finetune", selected, "--model", tiny_student, "--out", out, "--preset", "demo",
                "--epochs", "20", "--batch-size", "4", "--max-length", "128", "--save-steps", "5",
                "--device", "cpu"]  # fmt: skip

    curate.run(*words(tmp_path / "calm"))
    weights = (tmp_path / "calm" / "model.safetensors").read_bytes()
    for number in range(max(EACH // 3, 2)):
        out = tmp_path / str(number)
        child = curate.start(*words(out))
        time.sleep(moments.uniform(0.2, 4))
        landed("at work" if ended(child) else "too late")
        curate.run(*words(out))
        assert (out / "model.safetensors").read_bytes() == weights
