"""`torchrun` and two processes on this CPU: the same weights, one voice, resumed, ended by one."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from curate.pipeline.config import AlignConfig, InputConfig
from curate.pipeline.config.alignment import PreferenceRecipe
from curate.pipeline.config.shared.training import FinetuneConfig, Recipe
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.stages.aligning import align
from curate.pipeline.stages.finetuning import finetune_run
from curate.pipeline.training.folder.publication import TrainingResult
from curate.pipeline.training.launch import check_launch
from curate.pipeline.training.row_order import EvenOrder

from .data import write_jsonl

ROWS = [
    {"id": str(n), "instruction": f"Say {n} twice.", "output": f"{n} and {n}" + " again" * (n % 5)}
    for n in range(13)
]
SETTINGS: dict[str, Any] = {
    "preset": "demo", "epochs": 2, "batch_size": 4, "per_device_batch_size": 1, "held_out": 2,
    "template": "wizardlm", "save_steps": 3, "keep_checkpoints": True, "device": "cpu",
}  # fmt: skip
PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]  # torchrun


def launched(*program: object) -> subprocess.CompletedProcess[str]:
    """Two processes; the launcher's own log is left out."""
    return subprocess.run(
        [*LAUNCH, *map(str, program)],
        env={**os.environ, "LOGLEVEL": "CRITICAL"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def options() -> list[str]:
    words = []
    for name, value in SETTINGS.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return words


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)


@pytest.fixture(scope="module")
def alone(data: Path, tiny_student: Path) -> TrainingResult:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = FinetuneConfig(model=str(tiny_student), out=data.parent / "alone", **SETTINGS)
    result = finetune_run(replace(config, input=InputConfig(data=str(data))))
    torch.set_num_threads(threads)
    return result


Finished = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def together(data: Path, tiny_student: Path) -> Finished:
    """What `docs/training.md` types: a training by two processes, and its folder."""
    out = data.parent / "together"
    typed = re.search(r"^torchrun --nproc-per-node \d (-m \S+ finetune) ", PAGE, re.M)
    assert typed
    done = launched(*typed[1].split(), data, "--model", tiny_student, "--out", out, *options())
    return out, done


def test_two_processes_train_what_one_does_and_one_speaks(
    alone: TrainingResult, together: Finished
) -> None:
    out, done = together
    assert done.returncode == 0, done.stderr
    # 11 rows in batches of 4 leave 3 for the last step of an epoch: no row is taken twice.
    assert done.stdout.splitlines()[0] == f"trained on 11 rows in 6 steps: {out}"
    assert len(done.stdout.splitlines()) == 3
    lines = done.stderr.splitlines()
    said = list(dict.fromkeys(line.split()[0] for line in lines))  # of progress as many as it takes
    assert said == ["finetune:", "note:", "loading", "finetune", "next:"], done.stderr
    assert len(lines) == len({*lines}), done.stderr
    assert_same(alone, out)


def assert_same(alone: TrainingResult, out: Path) -> None:
    result = json.loads((out / "training.json").read_text("utf-8"))["result"]
    assert result["processes"] == 2
    losses = [loss for _, loss in result["train_loss"]]
    assert losses == pytest.approx([loss for _, loss in alone.train_loss], abs=1e-5)
    if alone.held_out_after is not None:
        assert result["held_out_after"] == pytest.approx(alone.held_out_after, abs=1e-5)
    one, two = (load_file(folder / "model.safetensors") for folder in (alone.out, out))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], atol=1e-5), name


SEVERAL = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from torch import distributed
from curate.cli import Output, app, command
from curate.pipeline.errors import CurateError
from curate.pipeline.stages.finetuning import finetune, finetune_run
from curate.pipeline.config import AlignConfig, InputConfig, StatusConfig
from curate.pipeline.config.alignment import PreferenceRecipe
from curate.pipeline.config.shared.training import FinetuneConfig
from curate.pipeline.stages.aligning import align

data, model, out, settings = sys.argv[1:]
out = Path(out)
base = FinetuneConfig(model=model, out=out, **json.loads(settings))
sharded = replace(base, out=out / "sharded", fsdp=True, input=InputConfig(data=data))
finetune_run(sharded)
for given in (sharded, replace(sharded, out=out / "whole", fsdp=False)):
    # Taken up in the middle, as after a crash.
    distributed.barrier()
    if os.environ["RANK"] == "0":
        (given.out / "training.json").unlink()
        (given.out / "checkpoints/checkpoint-6/complete.json").unlink()
    distributed.barrier()
    finetune_run(given)
preferences = json.loads((out / "preferences.json").read_text())
recipe = PreferenceRecipe(**preferences.pop("training"))
align(AlignConfig(model=model, out=out / "aligned", training=recipe, **preferences))

def failing():
    \"\"\"Fails in one of the processes.\"\"\"

@command(failing, "", trains=True)
def _failing(config: StatusConfig) -> Output:
    from curate.pipeline.stages.finetuning import data_set
    from curate.pipeline.models.loading import load_tokenizer
    from curate.pipeline.scoring.tokens import Tokenization
    from curate.pipeline.templates import Template

    def full(step):  # only the first process is told of steps
        if step.step == 2:
            raise CurateError("the disk is full")

    template = Template("wizardlm")
    tokens = Tokenization(load_tokenizer(model, None), template, name="exact", max_length=1)
    finetune(
        replace(base, out=out / "failing"), data_set(InputConfig(data=data)),
        tokens=tokens, progress=full,
    )

app(["failing", "here"])
"""


def aligned_alone(data: Path, student: Path, folder: Path) -> TrainingResult:
    """A KTO training with a moving reference by one process; what two are to do, in a file."""
    pairs = [{"prompt": f"Say {n}.", "chosen": f"{n} {n}", "rejected": "no"} for n in range(9)]
    recipe: dict[str, Any] = {"preset": "demo", "batch_size": 8, "epochs": 1}
    given: dict[str, Any] = {
        "pairs": str(write_jsonl(folder / "pairs.jsonl", pairs)),
        "loss": "kto",
        "template": "wizardlm",
        "reference_update": "soft",
    }
    share = {**given, "training": {**recipe, "per_device_batch_size": 4}}
    (folder / "preferences.json").write_text(json.dumps(share), "utf-8")
    training = PreferenceRecipe(**recipe)
    out = folder / "aligned-alone"
    return align(AlignConfig(model=str(student), out=out, training=training, **given))


def test_sharded_or_not_it_is_taken_up_and_one_error_ends_both(
    data: Path, alone: TrainingResult, together: Finished, tiny_student: Path, tmp_path: Path
) -> None:
    shutil.copytree(together[0], tmp_path / "whole")
    aligned = aligned_alone(data, tiny_student, tmp_path)
    script = tmp_path / "several.py"
    script.write_text(SEVERAL, "utf-8")
    ended = launched(script, data, tiny_student, tmp_path, json.dumps(SETTINGS))
    for way in ("whole", "sharded"):
        manifest = json.loads((tmp_path / way / "training.json").read_text("utf-8"))
        assert manifest["result"]["resumed_from"] == 3
        assert_same(alone, tmp_path / way)
    assert_same(aligned, tmp_path / "aligned")
    assert ended.returncode == 1 and not ended.stdout
    lines = ended.stderr.splitlines()
    said = [
        line for line in lines if not line.startswith(("finetune", "note: ", "align", "loading "))
    ]
    assert "error: the disk is full" in said, ended.stderr
    assert sum(line.startswith(("error", "interrupted")) for line in said) == 1
    assert (tmp_path / "failing/finetune.json").exists()


def test_an_epoch_has_each_row_once_and_fillers_only_at_its_end() -> None:
    order = EvenOrder(11, round_of=4, seed=7)
    first = list(order)
    assert len(order) == len(first) == 12 and sorted(first) == list(range(12))
    assert first[-1] == 11  # the filler stands behind the rows
    order.set_epoch(1)
    expected = torch.randperm(11, generator=torch.Generator().manual_seed(8)).tolist()
    assert list(order) == [*expected, 11] != first


def test_what_a_launch_lacks_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="here is one: start them with `torchrun"):
        check_launch(Recipe(fsdp=True))
    with pytest.raises(UsageError, match="not both"):
        check_launch(Recipe(fsdp=True, deepspeed="z.json"))
    monkeypatch.setenv("WORLD_SIZE", "3")
    check_launch(Recipe())  # a cluster's pod; torchrun did not start this
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(CurateError, match="batch of 128 cannot be shared equally by 3 processes"):
        check_launch(Recipe())
    check_launch(Recipe(packing=True))
    with pytest.raises(CurateError, match=r"DeepSpeed is not|cannot be read"):
        check_launch(Recipe(batch_size=3, deepspeed=str(tmp_path / "z.json")))
