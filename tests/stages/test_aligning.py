"""`curate align`: losses, references that stay and move, trainings taken up, bad input."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from curate.pipeline.base.files import read_parquet, write_parquet
from curate.pipeline.config.alignment import AlignConfig, PreferenceRecipe
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.inputs.ingest import Intake
from curate.pipeline.inputs.pairs import read_pairs
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.pair_records import Prompt, TextPair
from curate.pipeline.stages.aligning import align
from curate.pipeline.training.chat_template import answer_end
from curate.pipeline.training.preference.losses import loss_of
from curate.pipeline.training.preference.pair_rows import (
    PairRow,
    answers_elsewhere,
    preference_data,
)
from curate.pipeline.training.row_order import FullRounds
from curate.pipeline.training.rows import RowFormat

from ..training.byte_student import template_of, tokens_of
from ..training.data import write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")
Row = dict[str, Any]
PAIRS: list[Row] = [
    {"prompt": f"Say {n}.", "chosen": f"{n}" + " again" * (n % 3), "rejected": f"no {n}"}
    for n in range(9)
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", PAIRS)


@pytest.fixture(scope="module")
def relative(byte_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The student with other weights, near its own."""
    folder = tmp_path_factory.mktemp("students") / "relative"
    shutil.copytree(byte_student, folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02)
    model.save_pretrained(folder)
    return folder


def config_of(
    pairs: Path, student: Path, out: Path, *, recipe: Row | None = None, **options: Any
) -> AlignConfig:
    fast: Row = {"batch_size": 4, "per_device_batch_size": 4, "max_steps": 1, "learning_rate": 1e-3}
    training = PreferenceRecipe(preset="demo", **(fast | (recipe or {})))
    return AlignConfig(pairs=str(pairs), model=str(student), out=out, template="wizardlm",
                       training=training, **options)  # fmt: skip


def form_of(student: Path, *, max_length: int = 256) -> RowFormat:
    template, tokens = template_of("wizardlm", student), tokens_of(student)
    end = answer_end(template, tokens)
    return RowFormat(template=template, tokens=tokens, end=end, max_length=max_length)


def rows_of(pairs: Path, student: Path) -> list[PairRow]:
    texts = read_pairs(open_source(str(pairs)), Intake())
    return list(preference_data(texts, form_of(student)).rows)


def log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    """The sum over an answer, by a plain forward pass."""
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        found = model(ids).logits[0, :-1].double().log_softmax(-1)
    return float(found.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# Of one pair: c, r, c0, r0 and the answers' tokens.
FORMULAS: list[tuple[Row, Any]] = [
    ({"loss": "dpo"}, lambda c, r, c0, r0, n, m: -math.log(sigmoid(0.1 * (c - c0 - r + r0)))),
    (
        {"loss": "dpo", "label_smoothing": 0.2, "beta": 0.3},
        lambda c, r, c0, r0, n, m: (
            -0.8 * math.log(sigmoid(0.3 * (c - c0 - r + r0)))
            - 0.2 * math.log(sigmoid(-0.3 * (c - c0 - r + r0)))
        ),
    ),
    (
        {"loss": "dpo-norm"},
        lambda c, r, c0, r0, n, m: -math.log(sigmoid(5 * ((c - c0) / n - (r - r0) / m))),
    ),
    ({"loss": "ipo"}, lambda c, r, c0, r0, n, m: ((c - c0) / n - (r - r0) / m - 5) ** 2),
    ({"loss": "hinge"}, lambda c, r, c0, r0, n, m: max(0, 1 - 0.05 * (c - c0 - r + r0))),
    (
        {"loss": "dpo", "nll_weight": 0.5},
        lambda c, r, c0, r0, n, m: -math.log(sigmoid(0.1 * (c - c0 - r + r0))),
    ),
    ({"loss": "cpo"}, lambda c, r, c0, r0, n, m: -math.log(sigmoid(0.1 * (c - r)))),
    ({"loss": "slic", "delta": 3.0}, lambda c, r, c0, r0, n, m: max(0, 3 - c + r)),
]
NLL_WEIGHT = {"cpo": 1.0, "slic": 0.1}


@pytest.mark.parametrize(
    ("options", "formula"), FORMULAS, ids=[str(options)[:40] for options, _ in FORMULAS]
)
def test_the_first_loss_is_the_published_formula(
    options: Row, formula: Any, pairs: Path, byte_student: Path, relative: Path, tmp_path: Path
) -> None:
    free = options["loss"] in NLL_WEIGHT
    other: Row = {} if free else {"reference": str(relative)}
    result = align(config_of(pairs, byte_student, tmp_path / "out", **options, **other))
    rows = rows_of(pairs, byte_student)
    batch = [rows[i] for i in list(FullRounds(9, round_of=4, seed=0, halves=False))[:4]]
    policy, reference = map(AutoModelForCausalLM.from_pretrained, (byte_student, relative))
    losses, chosen, count = [], 0.0, 0
    for row in batch:
        sides = (row.chosen_ids, row.rejected_ids)
        own = [log_probability(policy, row.prompt_ids, ids) for ids in sides]
        base = [log_probability(reference, row.prompt_ids, ids) for ids in sides]
        losses.append(formula(*own, *base, *map(len, sides)))
        chosen, count = chosen - own[0], count + len(row.chosen_ids)
    weight = options.get("nll_weight", NLL_WEIGHT.get(options["loss"], 0))
    expected = mean(losses) + weight * chosen / count
    assert result.train_loss[0][1] == pytest.approx(expected, rel=1e-5)
    assert result.preferences is not None and {"margin", "accuracy"} < result.preferences.keys()


def test_kto_is_its_formula_with_answers_to_other_prompts(
    pairs: Path, byte_student: Path, relative: Path, tmp_path: Path
) -> None:
    weights = {"desirable_weight": 1.2, "undesirable_weight": 0.9}
    options: Row = {"loss": "kto", "reference": str(relative), **weights}
    result = align(config_of(pairs, byte_student, tmp_path / "out", **options))
    rows = rows_of(pairs, byte_student)
    others = answers_elsewhere(rows, max_length=256, seed=0)
    policy, reference = map(AutoModelForCausalLM.from_pretrained, (byte_student, relative))

    def ratio(prompt: list[int], answer: list[int]) -> float:
        return log_probability(policy, prompt, answer) - log_probability(reference, prompt, answer)

    batch = [
        (index % 2, rows[index // 2], others[index // 2][index % 2])
        for index in list(FullRounds(18, round_of=4, seed=0, halves=True))[:4]
    ]
    z = max(0, mean([ratio(row.prompt_ids, other) for _, row, other in batch]))
    losses = [
        0.9 * (1 - sigmoid(0.1 * (z - ratio(row.prompt_ids, row.rejected_ids))))
        if bad
        else 1.2 * (1 - sigmoid(0.1 * (ratio(row.prompt_ids, row.chosen_ids) - z)))
        for bad, row, _ in batch
    ]
    assert result.train_loss[0][1] == pytest.approx(mean(losses), rel=1e-5)


def test_kto_has_both_labels_in_each_micro_batch_and_partners_of_other_prompts() -> None:
    order = FullRounds(18, round_of=4, seed=1, halves=True)
    first = list(order)
    assert len(first) == len(order) == 16 == len(set(first))
    for begin in range(0, 16, 2):
        one, two = first[begin : begin + 2]
        assert (one % 2, two % 2) == (0, 1) and one // 2 != two // 2
    order.set_epoch(1)
    assert list(order) != first
    rows = [PairRow(str(n), [n // 2], [n, n, n], [-n]) for n in range(8)]  # two pairs a prompt
    for row, (chosen, rejected) in zip(
        rows, answers_elsewhere(rows, max_length=3, seed=0), strict=True
    ):
        assert chosen[0] // 2 != row.prompt_ids[0] and chosen[0] == -rejected[0]
        assert len(chosen) == 2  # of three, behind one of the prompt
    with pytest.raises(CurateError, match="two prompts"):
        answers_elsewhere(rows[:2], max_length=3, seed=0)


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_the_model_as_its_own_reference_begins_at_the_known_loss(
    loss: Any, pairs: Path, byte_student: Path, tmp_path: Path
) -> None:
    config = config_of(pairs, byte_student, tmp_path / "out", loss=loss)
    first = {"dpo": math.log(2), "kto": 0.5}[loss]
    assert loss_of(config).first == pytest.approx(first)
    assert align(config).train_loss[0][1] == pytest.approx(first, rel=1e-5)


WAYS = [
    pytest.param({"loss": loss, **update}, lora, id=f"{loss} {name} {'lora' if lora else 'full'}")
    for loss, name, update, lora in (
        ("dpo", "still", {}, 0),
        ("dpo", "soft", {"reference_update": "soft", "alpha": 0.3}, 0),
        ("dpo", "soft", {"reference_update": "soft", "alpha": 0.3}, 2),
        ("dpo", "hard", {"reference_update": "hard", "every": 2}, 2),
        ("kto", "hard", {"reference_update": "hard", "every": 2}, 0),
    )
]


@pytest.mark.parametrize(("options", "lora"), WAYS)
def test_a_training_that_was_cut_ends_with_the_weights_of_a_whole_one(
    options: Row, lora: int, pairs: Path, byte_student: Path, tmp_path: Path
) -> None:
    recipe = {"max_steps": 4, "save_steps": 2, "keep_checkpoints": True, "lora_r": lora}
    config = config_of(pairs, byte_student, tmp_path / "out", recipe=recipe, **options)
    whole = align(config)
    assert whole.train_loss[-1][1] != pytest.approx(whole.train_loss[0][1], abs=1e-3)
    weights = load_file(config.out / "model.safetensors")
    for name in ("training.json", "model.safetensors"):
        (config.out / name).unlink()
    shutil.rmtree(config.out / "checkpoints/checkpoint-4")  # what was written after step 2 is lost
    again = align(config)
    assert again.resumed_from == 2 and again.train_loss == whole.train_loss
    found = load_file(config.out / "model.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert not lora or [p.name for p in (config.out / "adapter").iterdir() if p.is_dir()] == []
    assert align(config).already_trained


@pytest.mark.parametrize(("alpha", "every"), [(0.25, 1), (1.0, 2)], ids=["soft", "hard"])
def test_the_reference_follows_the_model(
    alpha: float, every: int, pairs: Path, byte_student: Path, tmp_path: Path
) -> None:
    update: Row = {"reference_update": "soft", "alpha": alpha}
    if every > 1:
        update = {"reference_update": "hard", "every": every}
    recipe = {"max_steps": 3, "save_steps": 1, "keep_checkpoints": True}
    kept: list[Row] = []
    models: list[Row] = []
    config = config_of(pairs, byte_student, tmp_path / "out", recipe=recipe, **update)
    align(config)
    for step in (2, 3):
        folder = config.out / f"checkpoints/checkpoint-{step}"
        models.append(load_file(folder / "model.safetensors"))
        kept.append(load_file(folder / "moving_reference.safetensors"))
    name = "model.layers.0.mlp.up_proj.weight"
    expected = (1 - alpha) * kept[0][name] + alpha * models[1][name]
    if every > 1:
        assert torch.equal(kept[0][name], models[0][name])  # taken at step 2
        expected = kept[0][name]  # and kept at step 3
    assert torch.allclose(kept[1][name], expected, atol=1e-7)


def test_pairs_are_cut_as_for_fine_tuning_and_none_is_dropped_in_silence(
    byte_student: Path,
) -> None:
    def pair(id: str, chosen: str, rejected: str, prompt: str = "Say it.") -> TextPair:
        return TextPair(id=id, prompt=Prompt(instruction=prompt), chosen=chosen, rejected=rejected)

    given = [
        pair("whole", "yes", "no"),
        pair("cut", "yes", "no " * 200),
        pair("same", "yes", "yes"),
        pair("same beginning", "ab" * 300 + "c", "ab" * 300 + "d"),
        pair("long", "yes", "no", prompt="x" * 300),
    ]
    form = form_of(byte_student, max_length=64)
    data = preference_data(given, form)
    assert [row.id for row in data.rows] == ["whole", "cut"] and data.cut == 1
    assert dict(data.left_out) == {
        "same": "identical", "same beginning": "identical_once_cut", "long": "overlong",
    }  # fmt: skip
    whole, cut = data.rows
    end = list(form.end)
    assert whole.chosen_ids[-1:] == whole.rejected_ids[-1:] == cut.chosen_ids[-1:] == end
    assert len(cut.prompt_ids) + len(cut.rejected_ids) == 64 and cut.rejected_ids[-1:] != end
    dropped = preference_data(given, replace(form, overlong="drop"))
    assert [row.id for row in dropped.rows] == ["whole"]


def test_pairs_of_other_tools_are_read(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hi"}]
    yes, no = ([{"role": "assistant", "content": text}] for text in ("yes", "no"))
    rows: list[Row] = [
        {"prompt": "Hi", "chosen": "yes", "rejected": "no"},
        {"prompt": said, "chosen": yes, "rejected": no},
        {"prompt": "Hi", "chosen": said + yes, "rejected": said + no},
        {"instruction": "Hi", "chosen": "yes", "rejected": "no"},
        {"chosen": said + yes, "rejected": [{"role": "user", "content": "Ho"}, *no]},
        {"prompt": "Hi", "chosen": "yes"},
    ]
    intake = Intake()
    found = list(read_pairs(open_source(str(write_jsonl(tmp_path / "p.jsonl", rows))), intake))
    assert {(p.prompt.turn, p.chosen, p.rejected) for p in found} == {("Hi", "yes", "no")}
    assert (len(found), intake.num_rejected) == (4, 2)
    assert "different prompts" in intake.rejected[0].reason
    assert "'rejected'" in intake.rejected[1].reason


REFUSED: list[tuple[Row, str]] = [
    ({"loss": "slic", "beta": 0.1}, "--beta"),
    ({"beta": 0.0}, "--beta must be above 0"),
    ({"delta": 1.0}, "--delta"),
    ({"label_smoothing": 0.5}, "below 0.5"),
    ({"loss": "cpo", "reference_update": "soft"}, "no reference"),
    ({"loss": "cpo", "reference": "x"}, "--reference"),
    ({"reference_update": "soft", "every": 2}, "--every"),
    ({"reference_update": "soft", "reference": "x", "recipe": {"lora_r": 2}}, "leave --reference"),
    ({"reference_update": "hard", "recipe": {"fsdp": True}}, "--fsdp"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=str)
def test_options_that_do_not_go_together_are_refused(options: Row, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        config_of(Path("pairs"), Path("m"), Path("out"), **options)


def test_bad_input_is_one_sentence(
    pairs: Path, byte_student: Path, tiny_student: Path, tmp_path: Path
) -> None:
    def refused(said: str, data: Path = pairs, **options: Any) -> None:
        with pytest.raises(CurateError, match=said):
            align(config_of(data, byte_student, tmp_path / "out", **options))

    refused("'chosen'.*prompt, completion", write_jsonl(tmp_path / "columns.jsonl",
            [{"prompt": "Hi", "completion": "yes"}]))  # fmt: skip
    refused("empty", write_jsonl(tmp_path / "empty.jsonl", []))
    refused("1 identical", write_jsonl(tmp_path / "equal.jsonl",
            [{"prompt": "Hi", "chosen": "a", "rejected": "a"}]))  # fmt: skip
    refused("overlong", recipe={"max_length": 2})
    refused("vocabulary", reference=str(tiny_student))
    refused("two rows at a time", loss="kto", recipe={"per_device_batch_size": 1})
    refused("micro-batch", recipe={"batch_size": 16, "per_device_batch_size": 16})
    wrong: Any = AutoModelForCausalLM.from_pretrained(byte_student)
    torch.manual_seed(5)
    with torch.no_grad():
        wrong.lm_head.weight.copy_(torch.randn_like(wrong.lm_head.weight) * 3)
    shutil.copytree(byte_student, tmp_path / "wrong")
    wrong.save_pretrained(tmp_path / "wrong")
    refused("nats a token apart", reference=str(tmp_path / "wrong"))


def test_the_references_log_probabilities_are_kept_and_checked(
    pairs: Path, byte_student: Path, tmp_path: Path
) -> None:
    config = config_of(pairs, byte_student, tmp_path / "out")
    align(config)
    (part,) = (config.out / "reference").iterdir()
    known = read_parquet(part)
    assert known is not None and known[0].num_rows == 18
    model: Any = AutoModelForCausalLM.from_pretrained(byte_student)
    row = rows_of(pairs, byte_student)[0]
    own = log_probability(model, row.prompt_ids, row.chosen_ids)
    assert known[0].column("log_probability")[0].as_py() == pytest.approx(own, rel=1e-5)
    table, notes = known
    spoilt = table.set_column(0, "log_probability", pa.array([-3.0 * n for n in range(18)]))
    write_parquet(part, spoilt, **notes)
    (config.out / "training.json").unlink()
    shutil.rmtree(config.out / "checkpoints", ignore_errors=True)
    with pytest.raises(CurateError, match=r"must be 0\.6931"):
        align(config)
