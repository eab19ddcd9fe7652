"""Fine-tuning: what is trained on, the arithmetic, and runs that were cut, changed or finished."""

import csv
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from curate.pipeline.config.training import FinetuneConfig, Recipe
from curate.pipeline.errors import CurateError
from curate.pipeline.records import Example
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.stages.finetuning import FinetuneResult, finetune
from curate.pipeline.templates import Template
from curate.pipeline.training.checkpoints import last_complete, publish_checkpoint
from curate.pipeline.training.launch import fixable_errors
from curate.pipeline.training.rows import IGNORED, response_loss, training_data
from curate.pipeline.training.trainer import FinetuneProgress

CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
BELOW = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request.\n\n### Instruction:\n"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: "
)
# METHOD.md section 2: T(x) of ("Add.", "2 and 3"), and of "Add." alone.
FORMATS = {
    "vicuna": (f"<s>{VICUNA}Add.\nInput:\n2 and 3 ASSISTANT:", f"<s>{VICUNA}Add. ASSISTANT:"),
    "alpaca": (
        f"<s>{BELOW}, paired with an input that provides further context. {REQUEST}Add."
        "\n\n### Input:\n2 and 3\n\n### Response:",
        f"<s>{BELOW}. {REQUEST}Add.\n\n### Response:",
    ),
    "wizardlm": ("<s>Add.\n2 and 3\n\n### Response:", "<s>Add.\n\n### Response:"),
    "chat": (
        "<s>user\nAdd.\n2 and 3</s><s>assistant\n",
        "<s>user\nAdd.</s><s>assistant\n",
    ),
}
RECORDS = [
    Example(id=str(n), instruction=f"Say {n} twice.", output=f"{n} and {n}" + " again" * (n % 5))
    for n in range(24)
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights with a byte-level tokenizer that puts BOS in front."""
    folder = tmp_path_factory.mktemp("student")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [VICUNA, BELOW, REQUEST, "user assistant again and again"],
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    wrapped.chat_template = CHAT
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def template_of(name: Any, student: Path) -> Template:
    tokenizer = AutoTokenizer.from_pretrained(student)

    def render(messages: Any) -> str:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        )

    return Template(name, render if name == "chat" else None)


def tokens_of(student: Path, *, chat: bool = False) -> Tokenization:
    tokenizer = AutoTokenizer.from_pretrained(student)
    return Tokenization(tokenizer, name="exact", max_length=256, chat=chat)


def config_of(student: Path, out: Path, **settings: Any) -> FinetuneConfig:
    fast = {
        "epochs": 3,
        "batch_size": 4,
        "per_device_batch_size": 2,
        "learning_rate": 3e-3,
        "held_out": 4,
    }
    config = FinetuneConfig(model=str(student), out=out, preset="demo")
    return replace(config, **{**fast, **settings})


def train(config: FinetuneConfig, records: Any = RECORDS, **options: Any) -> FinetuneResult:
    student = Path(config.model)
    template = options.pop("template", Template("wizardlm"))
    return finetune(config, records, template=template, tokens=tokens_of(student), **options)


@pytest.mark.parametrize("name", FORMATS)
def test_exactly_the_response_and_its_end_are_trained_on(name: str, student: Path) -> None:
    data = training_data(
        [
            {"id": "a", "instruction": "Add.", "input": "2 and 3", "output": "It is 5."},
            {"id": "b", "instruction": "Add.", "input": None, "output": " 5\n"},
        ],
        template=template_of(name, student),
        tokens=tokens_of(student, chat=name == "chat"),
        max_length=256,
    )
    tokenizer = AutoTokenizer.from_pretrained(student)
    for row, prompt, answer in zip(data.rows, FORMATS[name], ("It is 5.", " 5\n"), strict=True):
        trained = [label for label in row.labels if label != IGNORED]
        ignored = [
            t for t, label in zip(row.input_ids, row.labels, strict=True) if label == IGNORED
        ]
        assert tokenizer.decode(trained) == answer + "</s>"
        assert tokenizer.decode(ignored) == prompt
        assert row.labels[-len(trained) :] == trained == row.input_ids[-len(trained) :]


def test_the_system_turn_of_a_selected_row_is_in_the_prompt(student: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add."}]
    row = {"id": "a", "instruction": "Add.", "output": "5", "messages": messages}
    for name, opening in (
        ("wizardlm", "<s>Be brief.\n\nAdd."),
        ("chat", "<s>system\nBe brief.</s>"),
    ):
        data = training_data(
            [row],
            template=template_of(name, student),
            tokens=tokens_of(student, chat=name == "chat"),
            max_length=256,
        )
        text = AutoTokenizer.from_pretrained(student).decode(data.rows[0].input_ids)
        assert text.startswith(opening)


@pytest.mark.parametrize("overlong", ["cut", "drop"])
def test_long_rows_are_cut_or_dropped_and_counted(overlong: Any, student: Path) -> None:
    records = [
        Example(id="short", instruction="Hi.", output="Ho."),
        Example(id="long", instruction="Hi.", output="Ho. " * 100),
        Example(id="prompt", instruction="Hi. " * 100, output="Ho."),
        Example(id="none", instruction="Hi.", output=""),
    ]
    data = training_data(
        records,
        template=Template("wizardlm"),
        tokens=tokens_of(student),
        max_length=40,
        overlong=overlong,
    )
    assert [row.id for row in data.rows] == (["short", "long"] if overlong == "cut" else ["short"])
    assert data.cut == (1 if overlong == "cut" else 0)
    assert data.dropped == {"overlong": 1 if overlong == "cut" else 2, "empty": 1}
    assert all(len(row.input_ids) <= 40 for row in data.rows)
    ends = {row.id: row.input_ids[-1] == 1 for row in data.rows}
    assert ends == ({"short": True, "long": False} if overlong == "cut" else {"short": True})


def test_the_held_out_rows_do_not_depend_on_order(student: Path) -> None:
    def kept_out(records: list[Example], seed: int) -> set[str]:
        data = training_data(
            records,
            template=Template("wizardlm"),
            tokens=tokens_of(student),
            max_length=256,
            held_out=0.25,
            seed=seed,
        )
        assert len(data.rows) == 18
        return {row.id for row in data.held_out}

    assert kept_out(RECORDS, 0) == kept_out(RECORDS[::-1], 0) != kept_out(RECORDS, 1)


@pytest.mark.parametrize(
    "way", [{}, {"padding_free": True}, {"gradient_checkpointing": True}], ids=str
)
def test_training_is_a_plain_loop(way: dict[str, bool], student: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 20, "warmup_ratio": 0.1, "weight_decay": 0.01, "seed": 7, **way}
    config = config_of(student, tmp_path / "out", **settings)
    result = train(config)
    data = training_data(
        RECORDS,
        template=Template("wizardlm"),
        tokens=tokens_of(student),
        max_length=256,
        held_out=4,
        seed=7,
    )
    model: Any = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
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


def plain_loop(model: Any, rows: list[Any], *, steps: int, warmup: int, seed: int) -> list[float]:
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


def test_packed_rows_do_not_see_each_other(student: Path, tmp_path: Path) -> None:
    settings = {"batch_size": 24, "held_out": 0.0, "epochs": 3.0}
    packed = train(config_of(student, tmp_path / "packed", packing=True, **settings))
    alone = train(config_of(student, tmp_path / "alone", **settings))
    # All rows in one step: the same loss and gradient however they are laid out.
    assert [loss for _, loss in packed.train_loss] == pytest.approx(
        [loss for _, loss in alone.train_loss], abs=1e-4
    )


def test_the_output_loads_and_says_what_it_is(student: Path, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "out"
    seen: list[FinetuneProgress] = []
    result = train(
        config_of(student, out),
        Dataset.from_list(
            [{"id": e.id, "instruction": e.instruction, "output": e.output} for e in RECORDS]
        ),
        source={"run": "my-run"},
        progress=seen.append,
    )
    assert capfd.readouterr() == ("", "")
    assert result.held_out_before is not None and result.held_out_after is not None
    assert result.held_out_after < result.held_out_before
    assert (
        [p.step for p in seen]
        == [s for s, _ in result.train_loss]
        == list(range(1, result.steps + 1))
    )
    assert (result.rows, result.held_out_rows, result.steps, seen[0].steps) == (20, 4, 15, 15)
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    data = training_data(
        RECORDS,
        template=Template("wizardlm"),
        tokens=tokens_of(out),
        max_length=256,
        held_out=4,
    )
    assert response_loss(model, data.held_out)[0] == pytest.approx(result.held_out_after, abs=1e-5)
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (student, out))
    assert after.chat_template == CHAT
    assert (after.pad_token, after.get_vocab()) == (before.pad_token, before.get_vocab())
    card = (out / "README.md").read_text()
    assert "my-run" in card and f"{result.held_out_after:.4f}" in card
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
    again = train(config_of(student, out))
    assert again == replace(result, already_trained=True)


def test_the_loss_curve_is_a_picture_a_table_and_a_log(student: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(config_of(student, tmp_path / "out", report_to="tensorboard"))
    with Image.open(tmp_path / "out/loss.png") as picture:
        picture.load()
        assert picture.format == "PNG" and min(picture.size) > 300
        seen = {pixel for _, pixel in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {(31, 119, 180), (255, 127, 14)} <= seen  # both curves' colours
    with (tmp_path / "out/loss.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    losses = [(int(r["step"]), float(r["training_loss"])) for r in rows if r["training_loss"]]
    assert tuple(losses) == result.train_loss
    held_out = {int(r["step"]): float(r["held_out_loss"]) for r in rows if r["held_out_loss"]}
    assert list(held_out) == [0, 5, 10, 15]  # at each epoch's end
    assert (held_out[0], held_out[15]) == (result.held_out_before, result.held_out_after)
    (events,) = (tmp_path / "out/tensorboard").iterdir()
    log = EventAccumulator(str(events)).Reload()
    logged = [(e.step, e.value) for e in log.Scalars("train/loss")]
    assert [step for step, _ in logged] == [step for step, _ in losses]
    assert [v for _, v in logged] == pytest.approx([v for _, v in losses], rel=1e-6)
    assert {e.step: pytest.approx(e.value) for e in log.Scalars("eval/loss")} == held_out
    assert "![loss curve](loss.png)" in (tmp_path / "out/README.md").read_text()


def test_a_half_precision_model_is_trained_in_full_and_saved_in_half(
    student: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    shutil.copytree(student, half)
    LlamaForCausalLM.from_pretrained(student, dtype=torch.bfloat16).save_pretrained(half)
    # An update of this size is below what bfloat16 can add to most weights.
    train(config_of(half, tmp_path / "out", learning_rate=1e-5))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert model.dtype == torch.bfloat16


def test_a_cut_checkpoint_is_not_taken_up(student: Path, tmp_path: Path) -> None:
    whole = train(config_of(student, tmp_path / "whole"))
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(config_of(student, out), progress=interrupt_at(12))
    assert sorted(path.name for path in (out / "checkpoints").glob("c*")) == [
        "checkpoint-10",
        "checkpoint-5",
    ]
    (out / "checkpoints/checkpoint-10/optimizer.pt").write_bytes(b"cut")
    (out / "checkpoints/checkpoint-13").mkdir()
    resumed = train(config_of(student, out))
    assert resumed.resumed_from == 5
    assert resumed.train_loss == whole.train_loss
    assert (resumed.held_out_before, resumed.held_out_after) == (
        whole.held_out_before,
        whole.held_out_after,
    )
    weights = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path / "whole", out)]
    assert weights[0] == weights[1]


def interrupt_at(step: int) -> Any:
    def report(progress: FinetuneProgress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return report


def test_a_run_that_ended_before_publishing_does_not_train_on(
    student: Path, tmp_path: Path
) -> None:
    config = config_of(student, tmp_path / "out", max_steps=7, keep_checkpoints=True)
    whole = train(config)
    (tmp_path / "out/training.json").unlink()
    again = train(config)
    assert (again.resumed_from, again.steps, again.train_loss) == (7, 7, whole.train_loss)
    assert again.held_out_after == whole.held_out_after


def test_a_checkpoint_is_sealed_before_the_oldest_goes(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        staged = tmp_path / f".new/checkpoint-{step}"
        staged.mkdir(parents=True)
        (staged / "weights").write_bytes(b"w" * step)
        publish_checkpoint(staged, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("c*")) == ["checkpoint-2", "checkpoint-3"]
    assert last_complete(tmp_path) == tmp_path / "checkpoint-3"
    (tmp_path / "checkpoint-3/weights").unlink()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-2"


def test_another_configuration_is_refused_by_name(student: Path, tmp_path: Path) -> None:
    config = config_of(student, tmp_path / "out", max_steps=1)
    train(config)
    with pytest.raises(CurateError, match=r"learning_rate = 0\.003, not 0\.01"):
        train(replace(config, learning_rate=0.01))
    with pytest.raises(CurateError, match="template = 'wizardlm', not 'vicuna'"):
        train(config, template=Template("vicuna"))
    with pytest.raises(CurateError, match="data = "):
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
        ({"max_length": 512}, RECORDS, "512 is beyond the context of .*: 256"),
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
    settings: Any, records: Any, message: str, student: Path, tmp_path: Path
) -> None:
    with pytest.raises(CurateError, match=message):
        train(config_of(student, tmp_path / "out", **settings), records)


def test_the_advice_of_an_error_can_be_followed_in_the_same_folder(
    student: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(CurateError, match="lower --learning-rate"):
        train(config_of(student, out, learning_rate=1e30))
    assert train(config_of(student, out, max_steps=2)).steps == 2


HOLD = """
import sys
from pathlib import Path
from curate.pipeline.run.lock import run_lock
with run_lock(Path(sys.argv[1]), "finetune"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_training_in_the_same_folder_is_refused(student: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(CurateError, match=f"out is in use: .* runs as process {other.pid}"):
            train(config_of(student, tmp_path / "out"))


def test_running_out_of_memory_says_what_to_lower() -> None:
    with (
        pytest.raises(CurateError, match=r"4 rows of 2048 tokens .* lower --per-device-batch"),
        fixable_errors(Recipe()),
    ):
        torch.empty(1 << 50)


def test_adapters_are_merged_into_a_model_that_loads(student: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    out = tmp_path / "out"
    result = train(config_of(student, out, lora_r=4, learning_rate=1e-2))
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    data = training_data(
        RECORDS, template=Template("wizardlm"), tokens=tokens_of(out), max_length=256, held_out=4
    )
    assert type(model) is LlamaForCausalLM and (out / "adapter").is_dir()
    assert response_loss(model, data.held_out)[0] == pytest.approx(result.held_out_after, abs=1e-4)
    assert result.held_out_after is not None and result.held_out_before is not None
    assert result.held_out_after < result.held_out_before
