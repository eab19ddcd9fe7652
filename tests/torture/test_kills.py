"""kill -9 at hundreds of random moments while the teacher is asked and files are written."""

import random
import shutil
import time
from pathlib import Path

import pytest

from ..llm.records_asked import journaled
from .checks import accounted_for, not_asked_again, paid_once, same
from .conftest import AT_ONCE, IDS, TRIALS, Landed, reflecting
from .forker import Forker
from .server import Served

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]
SHARDS = -(-len(IDS) // 4)


def stage_of(run: Path) -> str:
    """How far a killed run had come, by what is on the disk."""
    if (run / "manifest.json").exists():
        return "after the manifest"
    if len(list(run.glob("candidates/part-*"))) == SHARDS:
        return "while finishing"
    if list(run.glob("candidates/*")):
        return "between shards"
    if journaled(run / "journal"):
        return "while asking"
    return "before the first reply" if (run / "config.json").exists() else "before config.json"


def killed_until_done(
    forker: Forker,
    server: Served,
    words: list[str],
    run: Path,
    moments: random.Random,
    longest: float,
    landed: Landed,
    most: int = 12,
) -> int:
    """Kill a command again and again, at most so often, then let it end; how often it was."""
    kills = 0
    while True:
        begin, kept = len(server.asked()), journaled(run / "journal")
        child = forker.start(*words)
        killed = kills < most and child.killed_after(moments.uniform(0, longest))
        if not killed:
            assert child.wait() == 0, child.said
        not_asked_again(server, begin, kept)
        assert "Traceback" not in child.said, child.said
        if not killed:
            return kills
        landed(stage_of(run))
        kills += 1


@pytest.mark.parametrize("part", range(4))
def test_reflect_survives_kills_at_any_moment(
    tmp_path: Path,
    forker: Forker,
    server: Served,
    data: Path,
    calm: Path,
    moments: random.Random,
    landed: Landed,
    part: int,
) -> None:
    """Runs of twelve records in three shards, each killed up to twelve times on its way."""
    begun = time.monotonic()
    forker.run(*reflecting(data, tmp_path / "measured", server.url))
    longest = time.monotonic() - begun
    server.notes.write_text("")
    kills, number = 0, 0
    while kills < TRIALS // 4 - 20:
        run = tmp_path / f"run-{number}"
        words, most = reflecting(data, run, server.url), moments.randint(2, 12)
        span = longest * moments.choice((0.5, 1, 1.5))
        died = killed_until_done(forker, server, words, run, moments, span, landed, most)
        accounted_for(run, IDS)
        same(run, calm)
        paid_once(run, server, in_flight=AT_ONCE * died)
        kills, number = kills + died, number + 1
        server.notes.write_text("")
        shutil.rmtree(run)


def test_finishing_survives_kills(
    tmp_path: Path,
    forker: Forker,
    server: Served,
    data: Path,
    calm: Path,
    moments: random.Random,
    landed: Landed,
) -> None:
    """All replies are there, a shard and the manifest are not: nothing is ever asked."""
    words = reflecting(data, tmp_path / "run", server.url)
    shutil.copytree(calm, tmp_path / "run")
    begun = time.monotonic()
    forker.run(*words)
    longest, kills = time.monotonic() - begun, 0
    while kills < min(80, TRIALS // 4):
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(calm, run)
        (run / "manifest.json").unlink()
        (run / "candidates" / "part-00001.parquet").unlink()
        kills += killed_until_done(forker, server, words, run, moments, longest, landed)
        accounted_for(run, IDS)
        same(run, calm)
        assert not server.asked()
