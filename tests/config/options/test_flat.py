"""Options from configurations: names, values of any kind, and what is recorded of them."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline import config as configurations
from curate.pipeline.config import (
    CompareConfig,
    JudgeConfig,
    ModelConfig,
    ReflectConfig,
    RunConfig,
    SelectConfig,
    command_words,
    configured,
    recorded_options,
)
from curate.pipeline.config.alignment import PreferenceRecipe
from curate.pipeline.config.options.flat import options_of
from curate.pipeline.config.options.recording import ARGUMENTS
from curate.pipeline.config.shared.training import PRESETS, FinetuneConfig, Recipe
from curate.pipeline.errors import UsageError

CONFIGS = [found for found in vars(configurations).values() if is_dataclass(found)]
RUN: dict[str, Any] = {"data": "d.jsonl", "out": "run", "student": "s", "teacher": "t"}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_that_names_a_file_or_folder_to_write_says_so(config: type) -> None:
    for name, option in options_of(config).items():
        place = option.about["place"]
        assert (place == "out") == (name == "out") and (place == "journal") == (name == "journal")
        assert not option.about["argument"] or name in ARGUMENTS
        assert option.help[0].isupper() or option.help.startswith(
            ("auto", "exact", "all", "lm-eval", "self-instruct")
        )


def test_what_the_stages_of_a_run_have_in_common_is_given_once() -> None:
    made = configured(RunConfig, {**RUN, "student_revision": "abc", "device": "cpu", "top": 5})
    assert made.reflecting.out == Path("run") and made.reflecting.input.data == "d.jsonl"
    assert made.selecting.input.data == "run" and made.selecting.top == "5"
    assert made.finetuning.model == "s" and made.finetuning.revision == "abc"
    assert made.finetuning.out == Path("run/model") and made.finetuning.device == "cpu"
    other = configured(RunConfig, {**RUN, "device": "cuda:1", "seed": 5, "finetune_seed": 6})
    assert other.finetuning.device == "auto" and other.reflecting.teacher.seed == 5
    assert other.finetuning.seed == 6 and other.selecting.scoring.device == "cuda:1"


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("retry", "failed, truncated", ("failed", "truncated")),
        ("retry", ["failed", "unparsed,refused"], ("failed", "unparsed", "refused")),
        ("base_url", ["http://a/?x=1,2", "http://b"], ("http://a/?x=1,2", "http://b")),
        ("engine_args", "--a 'b c'", ("--a", "b c")),
        ("max_tokens", "99", 99),
        ("temperature", 1, 1.0),
        ("batch_api", "true", True),
        ("replies", "r.jsonl", Path("r.jsonl")),
    ],
)
def test_values_are_converted(name: str, given: Any, value: Any) -> None:
    teacher = configured(ReflectConfig, {"data": "d", name: given}).teacher
    assert getattr(teacher, name) == value


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_tokens": 1.5}, "--max-tokens takes a whole number, not 1.5"),
        ({"max_tokens": True}, "--max-tokens takes a whole number"),
        ({"max_tokens": 0}, "--max-tokens must be at least 1"),
        ({"rpm": float("nan")}, "--rpm must be above 0"),
        ({"strict": "maybe"}, "--strict takes true or false"),
        ({"retry": "failed,lost"}, "--retry takes .*'lost'"),
        ({"replies": 3}, "--replies takes a path"),
        ({"engine": "steam"}, "--engine takes .*'steam'"),
        ({"max_token": 3}, "--max-token; the nearest one is max_tokens"),
        ({"data": None}, "--data is missing"),
        ({"out": "run\udcff"}, "--out .*not UTF-8"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        configured(ReflectConfig, {"data": "d", **given})


def test_a_judge_s_options_need_a_judge() -> None:
    given = {"run": "run", "model": "m", "out": "o"}
    assert configured(CompareConfig, given).pairwise is None
    with pytest.raises(UsageError, match="--rpm goes with --judge or --replies"):
        configured(CompareConfig, {**given, "rpm": 5})
    made = configured(CompareConfig, {**given, "judge": "j", "max_cost": 2, "journal": "kept"})
    assert made.pairwise is not None and made.pairwise.judge.role == "judge"
    assert made.pairwise.judge.max_cost == 2 and made.pairwise.judge.journal == Path("kept")
    assert made.pairwise.judge.max_tokens == 1024


def test_the_key_and_the_share_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_API_KEY", "sk-1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    for name, value in (("COUNT", "2"), ("MIN", "0"), ("MAX", "1")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    given = {"data": "d", "student": "s"}
    assert str(configured(SelectConfig, given).share) == "1/2"
    assert configured(SelectConfig, {**given, "shard": "all"}).share.whole
    judge = configured(JudgeConfig, {"a": "a", "b": "b", "judge": "j"}).judge
    assert judge.api_key == "sk-1" and "sk-1" not in repr(judge) + str(recorded_options(judge))
    assert configured(RunConfig, RUN).reflecting.share.whole
    assert ModelConfig().api_key is None


# --- presets --------------------------------------------------------------------------------------


def test_a_setting_that_is_not_given_is_the_presets_else_the_papers() -> None:
    assert Recipe().learning_rate == 2e-5 and Recipe(preset="paper-13b").learning_rate == 1e-5
    assert Recipe(lora_r=8).learning_rate == 2e-4
    assert Recipe(lora_r=8, learning_rate=1e-3).learning_rate == 1e-3
    assert Recipe(lora_r=8, preset="demo") == Recipe(lora_r=8, preset="demo", learning_rate=5e-4)
    assert PreferenceRecipe(lora_r=8).learning_rate == 5e-6
    assert PreferenceRecipe().learning_rate == 5e-7
    own = Recipe(preset="demo", epochs=7, gradient_checkpointing=True)
    assert (own.epochs, own.batch_size, own.gradient_checkpointing) == (7, 8, True)
    assert own.max_grad_norm == 1.0 and own.max_steps is None
    names = {found.name for found in fields(Recipe)}
    assert all(changed.keys() <= names for changed in PRESETS.values())


def test_a_recipe_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="--warmup-ratio"):
        Recipe(warmup_ratio=1.0)
    with pytest.raises(UsageError, match="--preset takes"):
        Recipe(preset="paper-1b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (FinetuneConfig, "epochs", "inf"),
        (FinetuneConfig, "learning_rate", "1e400"),
        (FinetuneConfig, "held_out", "nan"),
        (FinetuneConfig, "seed", str(2**32)),
        (RunConfig, "limit", "9" * 5000),
        (RunConfig, "seed", str(2**64)),
        (RunConfig, "engine_args", '"unclosed'),
        (RunConfig, "top", "1%" * 5000),
        (RunConfig, "top", "1" * 5000),
        (RunConfig, "max_ifd", "nan"),
    ],
)
def test_numbers_beyond_use_and_open_quotes_are_one_sentence(
    config: type, name: str, value: str
) -> None:
    given = {"data": "d", "student": "s", "model": "m", "out": "o"}
    known = {key: given[key] for key in given if key in options_of(config)}
    with pytest.raises(UsageError) as problem:
        configured(config, {**known, name: value})
    assert len(str(problem.value)) < 300 and name.replace("_", "-") in str(problem.value)


# --- as it was typed ------------------------------------------------------------------------------


def test_what_is_recorded_makes_the_same_configuration() -> None:
    given = {**RUN, "max_ifd": 0.9, "top": "2%", "retry": "failed", "decontaminate": ["x", "y"],
             "preset": "demo", "packing": True, "gradient_checkpointing": False, "base_url":
             "http://h/v1", "engine_args": "--a 'b c'", "strict": True}  # fmt: skip
    made = configured(RunConfig, given)
    recorded = recorded_options(made)
    assert recorded == {
        "data": "d.jsonl", "strict": True, "teacher": "t", "base_url": ["http://h/v1"],
        "engine_args": "--a 'b c'", "student": "s", "max_ifd": 0.9, "top": "2%",
        "decontaminate": ["x", "y"], "preset": "demo", "packing": True,
    }  # fmt: skip
    again = configured(RunConfig, {**recorded, "out": "run", "retry": ["failed"]})
    assert again == made


def test_what_is_recorded_is_typed_again() -> None:
    options = {"data": "a b.jsonl", "strict": True, "packing": False, "base_url": ["u", "v"]}
    assert command_words("run", options) == [
        "curate", "run", "a b.jsonl", "--strict", "--no-packing", "--base-url", "u",
        "--base-url", "v",
    ]  # fmt: skip


def test_the_configuration_of_a_training_is_flat_and_whole() -> None:
    made = FinetuneConfig(model="m", out=Path("o"), preset="demo", max_steps=3)
    assert made.recipe() == Recipe(preset="demo", max_steps=3)
    assert recorded_options(made) == {"preset": "demo", "max_steps": 3, "model": "m"}
