"""Fine-tuning: what is trained on, the arithmetic, and runs that were cut, changed or finished."""

import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
)

from curate.pipeline.config import InputConfig
from curate.pipeline.config.shared.training import Recipe
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.model_files import folder_hash
from curate.pipeline.stages.finetuning import finetune_records, finetune_run, say_differences
from curate.pipeline.templates import Template
from curate.pipeline.training.folder.publication import TrainingResult
from curate.pipeline.training.held_out import response_loss
from curate.pipeline.training.job import TrainingProgress
from curate.pipeline.training.launch import memory_advice
from curate.pipeline.training.preparation import RecordSource
from curate.pipeline.training.rows import Record

from ..training.byte_student import CHAT, RECORDS, config_of, data_of, train

pytestmark = pytest.mark.usefixtures("one_thread")
TRACKER = "tensorboard" if find_spec("tensorboard") else "none"


@pytest.mark.parametrize(
    "way", [{}, {"padding_free": True}, {"gradient_checkpointing": True}], ids=str
)
def test_training_is_a_plain_loop(
    way: dict[str, bool], byte_student: Path, tmp_path: Path, capfd: Any
) -> None:
    settings = {"max_steps": 20, "warmup_ratio": 0.1, "weight_decay": 0.01, "seed": 7, **way}
    config = config_of(byte_student, tmp_path / "out", **settings)
    result = train(config)
    said = capfd.readouterr()
    assert said.out == "" and said.err == f"loading the weights of {byte_student}\n"
    data = data_of(byte_student, held_out=4, seed=7)
    model: Any = AutoModelForCausalLM.from_pretrained(byte_student, dtype=torch.float32)
    before, count = response_loss(model, data.held_out)
    losses = plain_loop(model, data.rows, steps=20, warmup=2, seed=7)
    assert [loss for _, loss in result.train_loss] == pytest.approx(losses, abs=1e-4)
    assert losses[-1] < losses[0] - 0.5
    assert result.held_out_before == pytest.approx(before, abs=1e-4)
    assert result.held_out_after == pytest.approx(response_loss(model, data.held_out)[0], abs=1e-4)
    assert (
        result.held_out_tokens
        == count
        == sum(len(r.input_ids) - r.prefix_length for r in data.held_out)
    )


def plain_loop(
    model: Any, rows: Sequence[Any], *, steps: int, warmup: int, seed: int
) -> list[float]:
    """AdamW, batches of 4, linear warm-up then a cosine, clipping at 1: row by row, by hand."""
    decayed = [p for p in model.parameters() if p.ndim > 1]  # as everywhere, norms do not decay
    kept = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    losses: list[float] = []
    model.train()
    for step in range(steps):
        epoch, place = divmod(step, math.ceil(len(rows) / 4))
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + epoch))
        batch = [rows[index] for index in order[place * 4 : place * 4 + 4]]
        loss, count = torch.zeros(()), 0
        for row in batch:
            logits = model(torch.tensor([row.input_ids])).logits[0]
            chosen = slice(row.prefix_length - 1, len(row.input_ids) - 1)
            targets = torch.tensor(row.input_ids[row.prefix_length :])
            loss = loss - logits[chosen].log_softmax(-1).gather(1, targets[:, None]).sum()
            count += len(targets)
        loss = loss / count
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        through = (step - warmup) / (steps - warmup)
        factor = step / warmup if step < warmup else (1 + math.cos(math.pi * through)) / 2
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * factor
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_a_single_step_that_only_warms_up_is_told(
    byte_student: Path, tmp_path: Path, capfd: Any
) -> None:
    for ratio, told in ((0.03, True), (0.0, False)):
        out = tmp_path / f"out-{ratio}"
        result = train(config_of(byte_student, out, max_steps=1, warmup_ratio=ratio))
        assert ("--warmup-ratio 0" in capfd.readouterr().err) is told
        assert (result.held_out_before == result.held_out_after) is told


Whole = tuple[TrainingResult, list[TrainingProgress]]


@pytest.fixture(scope="module")
def whole(byte_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A training from beginning to end, and the progress that it reported."""
    seen: list[TrainingProgress] = []
    result = train(
        config_of(byte_student, tmp_path_factory.mktemp("whole") / "out", report_to=TRACKER),
        Dataset.from_list(
            [{"id": e.id, "instruction": e.instruction, "output": e.output} for e in RECORDS]
        ),
        origin={"run": "my-run"},
        progress=seen.append,
    )
    return result, seen


def test_the_output_loads_and_says_what_it_is(byte_student: Path, whole: Whole) -> None:
    result, seen = whole
    out = result.out
    assert result.held_out_before is not None and result.held_out_after is not None
    assert result.held_out_after < result.held_out_before
    assert (
        [p.step for p in seen]
        == [s for s, _ in result.train_loss]
        == list(range(1, result.steps + 1))
    )
    assert (result.rows, result.held_out_rows, result.steps, seen[0].steps) == (20, 4, 15, 15)
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    data = data_of(out, held_out=4)
    assert response_loss(model, data.held_out)[0] == pytest.approx(result.held_out_after, abs=1e-5)
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (byte_student, out))
    assert before.chat_template == CHAT != after.chat_template
    assert (after.pad_token, after.get_vocab()) == (before.pad_token, before.get_vocab())
    card = (out / "README.md").read_text()
    assert "my-run" in card and f"{result.held_out_after:.4f}" in card
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    again = train(config_of(byte_student, out))
    assert again == replace(result, already_trained=True)


def test_the_loss_curve_is_a_picture_a_table_and_a_log(whole: Whole) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result, _ = whole
    with Image.open(result.out / "loss.png") as picture:
        picture.load()
        assert picture.format == "PNG" and min(picture.size) > 300
        seen = {pixel for _, pixel in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(31, 119, 180), (255, 127, 14)} <= seen  # both curves' colours
    with (result.out / "loss.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    losses = [(int(r["step"]), float(r["training_loss"])) for r in rows if r["training_loss"]]
    assert tuple(losses) == result.train_loss
    held_out = {int(r["step"]): float(r["held_out_loss"]) for r in rows if r["held_out_loss"]}
    assert list(held_out) == [0, 5, 10, 15]  # at each epoch's end
    assert (held_out[0], held_out[15]) == (result.held_out_before, result.held_out_after)
    (events,) = (result.out / "tensorboard").iterdir()
    log = EventAccumulator(str(events)).Reload()
    logged = [(e.step, e.value) for e in log.Scalars("train/loss")]
    assert [step for step, _ in logged] == [step for step, _ in losses]
    assert [v for _, v in logged] == pytest.approx([v for _, v in losses], rel=1e-6)
    assert {e.step: pytest.approx(e.value) for e in log.Scalars("eval/loss")} == held_out
    assert "![loss curve](loss.png)" in (result.out / "README.md").read_text()


def test_a_half_precision_model_is_trained_in_full_and_saved_in_half(
    byte_student: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(byte_student, half)
    LlamaForCausalLM.from_pretrained(byte_student, dtype=torch.bfloat16).save_pretrained(half)
    # An update of this size is below what bfloat16 can add to most weights.
    train(config_of(half, tmp_path / "out", learning_rate=1e-5))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.bfloat16


def test_a_cut_checkpoint_is_not_taken_up(byte_student: Path, tmp_path: Path, whole: Whole) -> None:
    undisturbed, _ = whole
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(config_of(byte_student, out), progress=interrupt_at(12))
    assert sorted(path.name for path in (out / "checkpoints").glob("c*")) == [
        "checkpoint-10",
        "checkpoint-5",
    ]
    (out / "checkpoints/checkpoint-10/optimizer.pt").write_bytes(b"cut")
    (out / "checkpoints/checkpoint-13").mkdir()
    resumed = train(config_of(byte_student, out))
    assert resumed.resumed_from == 5
    assert resumed.train_loss == undisturbed.train_loss
    assert (resumed.held_out_before, resumed.held_out_after) == (
        undisturbed.held_out_before,
        undisturbed.held_out_after,
    )
    weights = [(path / "model.safetensors").read_bytes() for path in (undisturbed.out, out)]
    assert weights[0] == weights[1]


def interrupt_at(step: int) -> Any:
    def report(progress: TrainingProgress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return report


def test_a_run_that_ended_before_publishing_does_not_train_on(
    byte_student: Path, tmp_path: Path
) -> None:
    config = config_of(byte_student, tmp_path / "out", max_steps=7, keep_checkpoints=True)
    whole = train(config)
    (tmp_path / "out/training.json").unlink()
    again = train(config)
    assert (again.resumed_from, again.steps, again.train_loss) == (7, 7, whole.train_loss)
    assert again.held_out_after == whole.held_out_after


def test_another_configuration_is_refused_by_name(
    byte_student: Path, tmp_path: Path, whole: Whole
) -> None:
    config = config_of(byte_student, whole[0].out)
    with pytest.raises(CurateError, match=r"learning_rate = 0\.003, not 0\.01"):
        train(replace(config, learning_rate=0.01))
    with pytest.raises(CurateError, match="template = 'wizardlm', not 'vicuna'"):
        train(config, template=Template("vicuna"))
    with pytest.raises(CurateError, match="a training on other records"):
        train(config, RECORDS[:-1])
    assert train(replace(config, per_device_batch_size=4)).already_trained
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text("{}")
    with pytest.raises(CurateError, match="something else"):
        train(replace(config, out=tmp_path / "other"))


@pytest.mark.parametrize(
    ("settings", "records", "message"),
    [
        ({}, [], "empty"),
        ({"max_length": 10}, RECORDS, "24 overlong"),
        ({"max_length": 600}, RECORDS, "600 is beyond the context of .*: 256"),
        ({"held_out": 24.0}, RECORDS, "hold out 24 of 24"),
        ({"learning_rate": 0.0}, RECORDS, "--learning-rate must be above 0"),
        ({"warmup_ratio": 1.0}, RECORDS, "--warmup-ratio"),
        ({}, [{"prompt": "Hi."}], "columns instruction and output"),
        ({"report_to": "nothing"}, RECORDS, "no tracker is called 'nothing'"),
        ({"learning_rate": 1e30}, RECORDS, "the loss is nan at step .: lower --learning-rate"),
    ],
    ids=[
        "empty",
        "all overlong",
        "context",
        "held out",
        "rate",
        "warm-up",
        "columns",
        "tracker",
        "diverged",
    ],
)
def test_what_a_user_can_fix_is_said(
    settings: Any, records: Any, message: str, byte_student: Path, tmp_path: Path
) -> None:
    with pytest.raises(CurateError, match=message):
        train(config_of(byte_student, tmp_path / "out", **settings), records)


def test_the_advice_of_an_error_can_be_followed_in_the_same_folder(
    byte_student: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(CurateError, match="lower --learning-rate"):
        train(config_of(byte_student, out, learning_rate=1e30))
    assert train(config_of(byte_student, out, max_steps=2)).steps == 2


HOLD = """
import sys
from pathlib import Path
from curate.pipeline.runs.lock import run_lock
with run_lock(Path(sys.argv[1]), "finetune"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_training_in_the_same_folder_is_refused(byte_student: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(CurateError, match=f"out is in use: .* runs as process {other.pid}"):
            train(config_of(byte_student, tmp_path / "out"))


def test_running_out_of_memory_says_what_to_lower() -> None:
    with (
        pytest.raises(CurateError, match=r"4 rows of 2048 tokens .* lower --per-device-batch"),
        memory_advice(Recipe()),
    ):
        torch.empty(1 << 50)


def test_adapters_are_merged_into_a_model_that_loads(byte_student: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    out = tmp_path / "out"
    result = train(config_of(byte_student, out, lora_r=4, learning_rate=1e-2))
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    data = data_of(out, held_out=4)
    assert type(model) is LlamaForCausalLM and (out / "adapter").is_dir()
    assert response_loss(model, data.held_out)[0] == pytest.approx(result.held_out_after, abs=1e-4)
    assert result.held_out_after is not None and result.held_out_before is not None
    assert result.held_out_after < result.held_out_before


def lines_of(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(path)


def test_rows_that_are_not_used_are_said_listed_and_counted(
    byte_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [json.dumps({"q": f"Say {n}.", "output": f"{n}."}) for n in range(3)]
    data = lines_of(
        tmp_path / "data.jsonl",
        *good,
        good[0],
        '{"q": "Say nothing."}',
        '{"q": "Say it.", "output": ["a"]}',
        json.dumps({"q": "Say " * 100, "output": "no"}),
    )
    other = lines_of(tmp_path / "held.jsonl", '{"instruction": "a", "output": "b"}', "{", "{")
    out = tmp_path / "out"
    input = InputConfig(data=data, instruction_column="q")
    config = config_of(
        byte_student, out, input=input, max_steps=1, held_out_data=other, held_out=0, max_length=250
    )
    finetune_run(config)
    found = json.loads((out / "training.json").read_text("utf-8"))
    counts = {"rows": 7, "records": 3, "duplicates": 1, "rejected": 3, "surrogates_replaced": 0}
    assert found["rows"]["input"] == counts
    assert found["rows"]["held_out"]["rejected"] == 2
    assert found["result"]["rows"] == 3 and found["result"]["dropped"] == {"overlong": 1}
    listed = json.loads((out / "rejected_input.json").read_text("utf-8"))
    assert [row["reason"] for row in listed][-1] == "overlong" and len(listed) == 3
    assert "duplicate_of" in (out / "duplicates.jsonl").read_text("utf-8")
    assert len(json.loads((out / "held_out/rejected_input.json").read_text("utf-8"))) == 2
    said = capsys.readouterr().err
    assert f"input rows not used: 3, see {out}/rejected_input.json" in said
    assert f"input rows not used: 2, see {out}/held_out/rejected_input.json" in said
    assert "input rows that repeat others: 1" in said
    assert "| input rows not used | 4 of 7 |" in (out / "README.md").read_text("utf-8")
    with pytest.raises(CurateError, match=r"data.jsonl.*--strict"):
        finetune_run(replace(config, input=replace(input, strict=True), out=tmp_path / "strict"))


def test_what_the_training_does_otherwise_than_the_scoring_is_said(
    byte_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(scored: dict[str, str], **settings: Any) -> str:
        say_differences(config_of(byte_student, tmp_path / "out", **settings), scored)
        return capsys.readouterr().err

    own = {"student": byte_student.name, "revision": folder_hash(byte_student)}
    assert said({**own, "template": "chat"}) == ""
    assert said({}) == said({}, template="chat") == ""
    assert "chat template of its own" in said({}, template="vicuna")
    passed_over = said({**own, "template": "alpaca"})
    assert passed_over.count("note: ") == 1 and "chat template of its own" in passed_over
    assert "alpaca chose the records" in said({**own, "template": "alpaca"}, template="chat")
    other = said({"student": "tiny", "revision": "0", "template": "chat"})
    assert "tiny chose the records" in other and other.count("note: ") == 1


def test_a_chat_model_is_served_as_it_was_trained(byte_student: Path, tmp_path: Path) -> None:
    """What the template puts behind an answer is trained, and servers stop on it."""
    tokenizer = AutoTokenizer.from_pretrained(byte_student)
    tokenizer.add_tokens(["<|end|>"], special_tokens=True)
    tokenizer.chat_template = CHAT.replace("</s>", "<|end|>\n")
    model = tmp_path / "model"
    tokenizer.save_pretrained(model)
    wider = LlamaForCausalLM.from_pretrained(byte_student)
    wider.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    wider.save_pretrained(model)
    data = data_of(model, name="chat")
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert (
        {row.input_ids[-1] for row in data.rows} == {row.labels[-1] for row in data.rows} == {end}
    )
    config = config_of(model, tmp_path / "out", template="chat", max_steps=1)
    source: RecordSource[Record] = RecordSource(records=RECORDS)
    finetune_records(config, source)
    trained: Any = AutoModelForCausalLM.from_pretrained(config.out)
    assert trained.generation_config.eos_token_id == [1, end]
    assert AutoTokenizer.from_pretrained(config.out).chat_template == tokenizer.chat_template
