"""What the faults share: one seed, forkers, a server, an undisturbed run, and a summary."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..llm.records_asked import MODEL, records, written
from .forker import HEAVY, LIGHT, Forker, forking
from .server import Served, serving

RECORDS = 12
AT_ONCE = 4
SEED = int(os.environ.get("CURATE_TORTURE_SEED") or random.SystemRandom().randrange(1, 10**6))
os.environ["CURATE_TORTURE_SEED"] = str(SEED)  # the same for the processes that share the tests
TRIALS = int(os.environ.get("CURATE_TORTURE_TRIALS") or 300)
"""Kills in the storage and teacher layers; those with torch are a tenth of them."""
Landed = Callable[[str], None]


def pytest_report_header() -> str:
    return f"torture: CURATE_TORTURE_SEED={SEED} CURATE_TORTURE_TRIALS={TRIALS}"


@pytest.fixture
def landed(record_property: Callable[[str, object], None]) -> Landed:
    """Notes where a trial's fault landed, for the summary."""
    return lambda where: record_property("landed", where)


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> random.Random:
    """This test's own numbers from the one seed, which a failure tells."""
    print(f"CURATE_TORTURE_SEED={SEED}")
    return random.Random(f"{SEED} {request.node.nodeid}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many trials there were, and where they landed."""
    reports = [r for many in terminalreporter.stats.values() for r in many]
    calls = {id(r): r for r in reports if getattr(r, "when", "") == "call"}.values()
    if not calls:
        return
    terminalreporter.section(f"torture, seed {SEED}")
    for report in sorted(calls, key=lambda r: r.nodeid):
        places = Counter(str(v) for name, v in report.user_properties if name == "landed")
        if places:
            name = report.nodeid.partition("torture/")[2]
            told = ", ".join(f"{n} {place}" for place, n in places.most_common())
            terminalreporter.line(f"{name}: {sum(places.values())} faults: {told}")


@pytest.fixture(scope="session")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """For commands that need no torch."""
    with forking(LIGHT, tmp_path_factory.mktemp("forker")) as started:
        yield started


@pytest.fixture(scope="session")
def curate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    """For all commands: torch and what trains are imported, and no thread of theirs has begun."""
    with forking(HEAVY, tmp_path_factory.mktemp("curate")) as started:
        assert started.threads <= 2  # a fork copies its own alone: Arrow's allocator may have one
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A teacher that answers within four milliseconds."""
    with serving(tmp_path / "asked") as served:
        yield served


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of all trials."""
    return written(tmp_path_factory.mktemp("data") / "data.jsonl", records(RECORDS))


@pytest.fixture(scope="session")
def calm(data: Path, forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    with serving(folder / "asked") as served:
        forker.run(*reflecting(data, folder / "run", served.url))
    return folder / "run"


@pytest.fixture(scope="session")
def selected(
    calm: Path, curate: Forker, tiny_student: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same with a selection."""
    run = tmp_path_factory.mktemp("selected") / "run"
    shutil.copytree(calm, run)
    curate.run(*selecting(run, tiny_student))
    return run


def selecting(run: Path, student: Path) -> list[str | Path]:
    """The words of `curate select`, with limits that keep about half."""
    return ["select", run, "--student", student, "--template", "wizardlm", "--device", "cpu",
            "--max-ifd", "9", "--max-rifd", "9"]  # fmt: skip


def reflecting(data: Path, run: Path, url: str, *more: str) -> list[str]:
    """The words of `curate reflect` that all trials use."""
    return [
        "reflect", str(data), "--out", str(run), "--teacher", MODEL, "--base-url", url,
        "--max-tokens", "256", "--concurrency", str(AT_ONCE), *more,
    ]  # fmt: skip


IDS = [row["id"] for row in records(RECORDS)]
