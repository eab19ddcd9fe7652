"""A disk that fills up: one sentence, no traceback; with room the same command goes on."""

import shutil
from pathlib import Path

import pytest

from ..disks import small_disk
from .checks import accounted_for, paid_once, same
from .conftest import AT_ONCE, IDS, Landed, reflecting, selecting
from .forker import Forker
from .server import Served

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]


def size_of(folder: Path) -> int:
    """KiB that a folder's files take on a tmpfs, in whole pages."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(4 * -(-path.stat().st_size // 4096) for path in files)


def stopped(curate: Forker, words: list[str | Path] | list[str]) -> str:
    """The one sentence of a command that found no room."""
    said = curate.run(*words, code=1)
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "no space left on device" in lines[0].lower(), said
    return lines[0]


@pytest.mark.parametrize("room", [8, 12, 20, 28])
def test_reflect(
    tmp_path: Path, curate: Forker, server: Served, data: Path, calm: Path, room: int,
    landed: Landed,
) -> None:  # fmt: skip
    run = tmp_path / "disk" / "run"
    words = reflecting(data, run, server.url)
    with small_disk(tmp_path / "disk", f"{room}k") as enlarge:
        landed("in the journal" if "journal" in stopped(curate, words) else "elsewhere")
        enlarge()
        curate.run(*words)
        accounted_for(run, IDS)
        same(run, calm)
        paid_once(run, server, in_flight=AT_ONCE)


def test_select(
    tmp_path: Path, curate: Forker, calm: Path, tiny_student: Path, landed: Landed
) -> None:
    """With less and less room beyond the candidates."""
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(calm, undisturbed)
    curate.run(*selecting(undisturbed, tiny_student))
    needed, had = size_of(undisturbed) - size_of(calm), size_of(calm)
    for part in (0.05, 0.3, 0.5, 0.7):
        disk = tmp_path / f"disk-{part}"
        with small_disk(disk, f"{had + round(part * needed)}k") as enlarge:
            shutil.copytree(calm, disk / "run")
            stopped(curate, selecting(disk / "run", tiny_student))
            scored = list((disk / "run").glob("scores/*/part-*"))
            landed("while deciding" if len(scored) == 3 else "while scoring")
            enlarge()
            curate.run(*selecting(disk / "run", tiny_student))
            accounted_for(disk / "run", IDS)
            same(disk / "run", undisturbed)


def test_score(
    tmp_path: Path, curate: Forker, calm: Path, tiny_student: Path, landed: Landed
) -> None:
    def words(out: Path) -> list[str | Path]:
        return ["score", calm, "--student", tiny_student, "--template", "wizardlm",
                "--device", "cpu", "--out", out]  # fmt: skip

    curate.run(*words(tmp_path / "calm.parquet"))
    for room in (8, 24, 40):
        disk = tmp_path / f"disk-{room}"
        with small_disk(disk, f"{room}k") as enlarge:
            stopped(curate, words(disk / "a.parquet"))
            landed("before the file")
            enlarge()
            curate.run(*words(disk / "a.parquet"))
            assert (disk / "a.parquet").read_bytes() == (tmp_path / "calm.parquet").read_bytes()


def test_finetune(
    tmp_path: Path, curate: Forker, calm: Path, tiny_student: Path, landed: Landed
) -> None:
    """Full at the first checkpoint, at the second, and when the model is published."""
    run = tmp_path / "run"
    shutil.copytree(calm, run)
    curate.run(*selecting(run, tiny_student))

    def words(out: Path) -> list[str | Path]:
        return ["finetune", run, "--model", tiny_student, "--out", out, "--preset", "demo",
                "--epochs", "4", "--batch-size", "4", "--max-length", "128", "--save-steps", "3",
                "--device", "cpu"]  # fmt: skip

    curate.run(*words(tmp_path / "calm"))
    weights = (tmp_path / "calm" / "model.safetensors").read_bytes()
    for room in (30, 400, 900):
        disk = tmp_path / f"disk-{room}"
        with small_disk(disk, f"{room}k") as enlarge:
            stopped(curate, words(disk / "model"))
            done = list(disk.glob("model/checkpoints/checkpoint-*"))
            landed("with a checkpoint" if done else "before a checkpoint")
            enlarge()
            curate.run(*words(disk / "model"))
            assert (disk / "model" / "model.safetensors").read_bytes() == weights
