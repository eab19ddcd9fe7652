"""Cut files and single changed bytes: found and made again, or said with what to do; never used."""

import random
import shutil
import signal
from pathlib import Path

import pytest

from curate.pipeline.llm.journal import Journal

from ..llm.records_asked import journaled
from .checks import accounted_for, same
from .conftest import IDS, TRIALS, Landed, reflecting, selecting
from .forker import LIGHT, Forker, forking
from .server import Served

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]
EACH = max(TRIALS // 25, 2)


def damage(path: Path, moments: random.Random) -> str:
    """Cut a file somewhere, or change one byte of it."""
    whole = path.read_bytes()
    place = moments.randrange(len(whole))
    if moments.random() < 0.3:
        path.write_bytes(whole[:place])
        return f"cut at {place}"
    other = (whole[place] + moments.randrange(1, 256)) % 256
    path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
    return f"byte {place}: {whole[place]} -> {other}"


def sentence(said: str) -> str:
    """The one sentence of a command that stopped."""
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said
    return line


def test_candidate_shards(
    tmp_path: Path, curate: Forker, server: Served, data: Path, selected: Path,
    tiny_student: Path, moments: random.Random, landed: Landed,
) -> None:  # fmt: skip
    """Select and report say which; reflect makes it again, and asks for nothing."""
    for number in range(EACH):
        run = tmp_path / str(number)
        shutil.copytree(selected, run)
        shard = moments.choice(sorted((run / "candidates").iterdir()))
        how = damage(shard, moments)
        told = curate.start(*selecting(run, tiny_student))
        if told.wait() == 1:
            assert f"{shard} is damaged" in sentence(told.said)
            landed("said by select")
        else:
            landed("harmless")
            same(run, selected)
        curate.run(*reflecting(data, run, server.url))
        assert not server.asked(), how
        curate.run(*selecting(run, tiny_student))
        accounted_for(run, IDS)
        same(run, selected)


def test_score_shards(
    tmp_path: Path, curate: Forker, selected: Path, tiny_student: Path, moments: random.Random,
    landed: Landed,
) -> None:  # fmt: skip
    for number in range(EACH):
        run = tmp_path / str(number)
        shutil.copytree(selected, run)
        shard = moments.choice(sorted(run.glob("scores/*/part-*")))
        whole = shard.read_bytes()
        damage(shard, moments)
        curate.run(*selecting(run, tiny_student))
        landed("made again" if shard.read_bytes() == whole else "left, and the same")
        accounted_for(run, IDS)
        same(run, selected)


def test_arrow_files(
    tmp_path: Path, curate: Forker, selected: Path, tiny_student: Path, moments: random.Random,
    landed: Landed,
) -> None:  # fmt: skip
    """Whoever reads a set says that it is damaged; select writes it again."""
    run = tmp_path / "run"
    shutil.copytree(selected, run)
    for _ in range(EACH):
        path = moments.choice(sorted(run.glob("selected/*/*.arrow")))
        whole = path.read_bytes()
        how = damage(path, moments)
        readers: tuple[list[str | Path], ...] = (
            ["export", run, "--to", "jsonl", "--out", tmp_path / "exported"],
            ["report", run, "--out", tmp_path / "report.html"],
            ["score", path.parent, "--student", tiny_student, "--device", "cpu",
             "--out", tmp_path / "s.parquet"],
        )  # fmt: skip
        for words in readers:
            child = curate.start(*words)
            assert child.wait() == 1, (how, words, child.said)
            assert f"{path} is damaged" in sentence(child.said), how
        path.write_bytes(whole)
        landed("said")
    damage(path, moments)
    curate.run(*selecting(run, tiny_student))
    same(run, selected)


def test_journal_segments(
    tmp_path: Path, curate: Forker, server: Served, data: Path, calm: Path,
    moments: random.Random, landed: Landed,
) -> None:  # fmt: skip
    """Only what a lost line held is asked again, and all other replies are found."""
    for number in range(EACH):
        run = tmp_path / str(number)
        shutil.copytree(calm, run)
        shutil.rmtree(run / "candidates")
        (run / "manifest.json").unlink()
        (segment,) = (run / "journal").glob("*.jsonl")
        whole = segment.read_bytes()
        damage(segment, moments)
        damaged = segment.read_bytes()
        kept = set(whole.splitlines()) & set(damaged.splitlines())
        begin = len(server.asked())
        curate.run(*reflecting(data, run, server.url))
        asked = len(server.asked()) - begin
        assert asked <= 3 * len(IDS) - len(kept)
        landed(f"{'a line' if asked < 2 else 'many lines'} lost")
        journal = Journal(run / "journal", run="")
        assert all(map(journal.attempts, journaled(calm / "journal")))
        journal.close()
        accounted_for(run, IDS)
        same(run, calm)


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_what_a_run_says_of_itself(
    tmp_path: Path, curate: Forker, server: Served, data: Path, selected: Path,
    tiny_student: Path, name: str, moments: random.Random, landed: Landed,
) -> None:  # fmt: skip
    """Said by whoever opens it, with the way out, which works and asks for nothing."""
    for number in range(2 * EACH):
        run = tmp_path / str(number)
        shutil.copytree(selected, run)
        how = damage(run / name, moments)
        child = curate.start("status", run)
        if child.wait() == 0:
            landed("harmless")  # white space, or the name of the sum
            curate.run(*selecting(run, tiny_student))
            same(run, selected)
            continue
        landed("said")
        told = sentence(child.said)
        assert f"{run}/{name} is damaged" in told, (how, told)
        assert curate.run(*selecting(run, tiny_student), code=1).count("is damaged") == 1
        again = reflecting(data, run, server.url)
        if name == "manifest.json":
            (run / name).unlink()
        else:
            again = reflecting(data, tmp_path / f"{number}-again", server.url,
                               "--journal", str(run / "journal"))  # fmt: skip
        curate.run(*again)
        out = Path(again[3])
        curate.run(*selecting(out, tiny_student))
        assert not server.asked()
        same(out, selected)


def test_lock_files(
    tmp_path: Path, curate: Forker, server: Served, data: Path, moments: random.Random,
    landed: Landed,
) -> None:  # fmt: skip
    """While its holder lives, a damaged lock lets nobody in."""
    server.slower(600)
    run = tmp_path / "run"
    with forking(LIGHT, tmp_path) as other:
        holder = other.start(*reflecting(data, run, server.url))
        server.wait_for(4)
        lock = (run / ".lock").read_bytes()
        for _ in range(EACH):
            how = damage(run / ".lock", moments)
            told = sentence(curate.run(*reflecting(data, run, server.url), code=1))
            landed("damaged" if "is damaged" in told else "holder named")
            assert "in use" in told, (how, told)
            (run / ".lock").write_bytes(lock)
        holder.send(signal.SIGKILL)
        holder.wait()
    assert len(server.asked()) == 4
