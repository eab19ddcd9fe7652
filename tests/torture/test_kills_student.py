"""kill -9 at tens of random moments in what loads torch: select, score, finetune, align."""

import random
import shutil
import time
from pathlib import Path

import pytest

from ..training.data import write_jsonl
from .checks import accounted_for, same
from .conftest import IDS, TRIALS, Landed, selecting
from .forker import Forker

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]
KILLS = max(TRIALS // 10, 2)
TRAINED = ("model.safetensors", "loss.csv")


def reached(run: Path) -> str:
    """How far a selection had come."""
    if list(run.glob("selected/[!.]*")):
        return "after selected/"
    if list(run.glob("rejected/[!.]*")):
        return "between the sets"
    return "while scoring" if list(run.glob("scores/*/part-*")) else "before the first score"


def test_select_survives_kills(
    tmp_path: Path,
    curate: Forker,
    calm: Path,
    selected: Path,
    tiny_student: Path,
    moments: random.Random,
    landed: Landed,
) -> None:
    shutil.copytree(calm, tmp_path / "measured")
    begun = time.monotonic()
    curate.run(*selecting(tmp_path / "measured", tiny_student))
    longest, kills, number = time.monotonic() - begun, 0, 0
    while kills < KILLS:
        run, most, number = tmp_path / str(number), moments.randint(1, 5), number + 1
        shutil.copytree(calm, run)
        for _ in range(most):
            child = curate.start(*selecting(run, tiny_student))
            if not child.killed_after(moments.uniform(0, longest)):
                break
            landed(reached(run))
            kills += 1
        curate.run(*selecting(run, tiny_student))
        accounted_for(run, IDS)
        same(run, selected)
        shutil.rmtree(run)


def test_score_survives_kills(
    tmp_path: Path,
    curate: Forker,
    calm: Path,
    tiny_student: Path,
    moments: random.Random,
    landed: Landed,
) -> None:
    def words(out: Path) -> list[str | Path]:
        return ["score", calm, "--student", tiny_student, "--template", "wizardlm",
                "--device", "cpu", "--out", out]  # fmt: skip

    begun = time.monotonic()
    curate.run(*words(tmp_path / "calm.parquet"))
    longest, kills, number = time.monotonic() - begun, 0, 0
    while kills < max(KILLS // 2, 2):
        out, number = tmp_path / f"{number}.parquet", number + 1
        for _ in range(moments.randint(1, 4)):
            if not curate.start(*words(out)).killed_after(moments.uniform(0, longest)):
                break
            landed("with the file there" if out.exists() else "before the file")
            kills += 1
        curate.run(*words(out))
        assert out.read_bytes() == (tmp_path / "calm.parquet").read_bytes()


def test_finetune_survives_kills(
    tmp_path: Path,
    curate: Forker,
    selected: Path,
    tiny_student: Path,
    moments: random.Random,
    landed: Landed,
) -> None:
    """Weights equal those of a training that went through, to the bit."""

    def words(out: Path) -> list[str | Path]:
        return ["finetune", selected, "--model", tiny_student, "--out", out, "--preset", "demo",
                "--epochs", "6", "--batch-size", "4", "--max-length", "128", "--save-steps", "2",
                "--held-out", "2", "--device", "cpu"]  # fmt: skip

    begun = time.monotonic()
    curate.run(*words(tmp_path / "calm"))
    longest, kills, number = time.monotonic() - begun, 0, 0
    while kills < max(KILLS // 3, 2):
        out, number = tmp_path / f"model-{number}", number + 1
        for _ in range(moments.randint(1, 4)):
            child = curate.start(*words(out))
            if not child.killed_after(moments.uniform(0.2, 1) * longest):
                break
            done = len(list(out.glob("checkpoints/checkpoint-*")))
            landed("with checkpoints" if done else "before a checkpoint")
            kills += 1
        curate.run(*words(out))
        for name in TRAINED:
            assert (out / name).read_bytes() == (tmp_path / "calm" / name).read_bytes(), name
        shutil.rmtree(out)


@pytest.mark.parametrize(
    "way",
    [
        "--loss dpo",
        "--loss dpo --reference-update soft",
        "--loss kto --reference-update hard --every 3 --lora-r 2",
    ],
)
def test_align_survives_kills(
    way: str,
    tmp_path: Path,
    curate: Forker,
    tiny_student: Path,
    moments: random.Random,
    landed: Landed,
) -> None:
    """The same of a preference training, whose reference stays or moves."""
    texts = [{"prompt": f"Say {n}.", "chosen": f"{n} {n}", "rejected": "no"} for n in range(24)]
    data = write_jsonl(tmp_path / "pairs.jsonl", texts)

    def words(out: Path) -> list[str | Path]:
        return ["align", data, "--model", tiny_student, "--out", out, "--preset", "demo",
                "--epochs", "4", "--batch-size", "4", "--per-device-batch-size", "4",
                "--save-steps", "2", "--device", "cpu", *way.split()]  # fmt: skip

    begun = time.monotonic()
    curate.run(*words(tmp_path / "calm"))
    longest, kills, number = time.monotonic() - begun, 0, 0
    while kills < max(KILLS // 6, 2):
        out, number = tmp_path / f"model-{number}", number + 1
        for _ in range(moments.randint(1, 4)):
            if not curate.start(*words(out)).killed_after(moments.uniform(0.2, 1) * longest):
                break
            done = len(list(out.glob("checkpoints/checkpoint-*")))
            landed("with checkpoints" if done else "before a checkpoint")
            kills += 1
        curate.run(*words(out))
        for name in TRAINED:
            assert (out / name).read_bytes() == (tmp_path / "calm" / name).read_bytes(), name
        shutil.rmtree(out)
