"""kill -9 at random moments of `curate improve`, whose samples are drawn."""

import random
import shutil
import time
from pathlib import Path

import pytest

from ..training.byte_student import save_talker
from ..training.data import write_jsonl
from ..workflows.loop_results import result_of
from .conftest import TRIALS, Landed
from .forker import Forker

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]
KILLS = max(TRIALS // 10, 2)
WAYS = (
    "--recipe spin --temperature 1",
    "--recipe self-rewarding --reward rifd --no-sft --samples 3 --temperature 1.5 --top-p 1",
)


@pytest.mark.parametrize("way", WAYS)
def test_improve_survives_kills(
    way: str,
    tmp_path: Path,
    curate: Forker,
    byte_student: Path,
    moments: random.Random,
    landed: Landed,
) -> None:
    """Answers, pairs and weights equal those of a loop that went through.

    All trials have one path, which a request names.
    """
    rows = [{"id": f"r{n}", "instruction": f"Say {n}.", "output": f"{n}!"} for n in range(12)]
    data, run = write_jsonl(tmp_path / "data.jsonl", rows), tmp_path / "run"
    talker = save_talker(byte_student, tmp_path / "talker")
    words: list[str | Path] = ["improve", data, "--model", talker, "--out", run, *way.split()]
    words += ["--iterations", "2", "--preset", "demo", "--template", "wizardlm", "--stop", "never",
              "--max-tokens", "8", "--learning-rate", "1e-3", "--batch-size", "4",
              "--keep-models", "all"]  # fmt: skip
    begun = time.monotonic()
    curate.run(*words)
    longest, kills = time.monotonic() - begun, 0
    calm = run.rename(tmp_path / "calm")
    while kills < max(KILLS // 3, 2):
        for _ in range(moments.randint(1, 4)):
            if not curate.start(*words).killed_after(moments.uniform(0, longest)):
                break
            begun_iterations = sorted(run.glob("iterations/*/*"))
            landed(str(begun_iterations[-1].relative_to(run)) if begun_iterations else "before all")
            kills += 1
        curate.run(*words)
        assert result_of(run) == result_of(calm)
        shutil.rmtree(run)
