"""Models that do not load: one sentence from every way in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.pipeline.config import EvaluateConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.llm.engines.local.continuous_batching import LoadedModel, Settings, start_model
from curate.pipeline.models.loading import load_causal_lm, load_config, load_tokenizer
from curate.pipeline.scoring.model import load_student
from curate.pipeline.scoring.tokens import Tokenization
from curate.pipeline.stages.evaluation.benchmark import load_for_tasks
from curate.pipeline.templates import student_template

Change = Callable[[Path], None]


def score(folder: Path) -> None:
    load_tokenizer(str(folder))
    load_student(str(folder), revision=None, device=torch.device("cpu"), dtype="float32")


def train(folder: Path) -> None:
    load_tokenizer(str(folder))
    load_causal_lm(str(folder), dtype="float32")


def ask(folder: Path) -> None:
    settings = Settings(model=str(folder), revision=None, device="cpu", ceiling=2, memory=1 << 24)
    start_model(settings).stop()


def measure(folder: Path) -> None:
    pytest.importorskip("lm_eval")
    load_for_tasks(str(folder), None, EvaluateConfig(model="m", tasks=("t",), device="cpu"))


WAYS = [score, train, ask, measure]


def edited(file: str, **settings: Any) -> Change:
    def change(folder: Path) -> None:
        known = json.loads((folder / file).read_text("utf-8"))
        (folder / file).write_text(json.dumps(known | settings), "utf-8")

    return change


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_cut_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


def with_a_token_too_many(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["animal"])
    tokenizer.save_pretrained(folder)


def without_settings(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_a_list_to_generate_by(folder: Path) -> None:
    (folder / "generation_config.json").write_text("[]", "utf-8")


def with_sentencepiece_alone(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\x0a\x07")


def with_a_normalizer_that_doubles(folder: Path) -> None:
    doubles = {"type": "Replace", "pattern": {"Regex": "é+|e"}, "content": "ee"}
    steps = [{"type": "NFC"}, {"type": "Sequence", "normalizers": [doubles] * 40}]
    edited("tokenizer.json", normalizer={"type": "Sequence", "normalizers": steps})(folder)


def with_a_normalizer_that_gives_up(folder: Path) -> None:
    step = {"type": "Replace", "pattern": {"Regex": r"(?:\w|\w)+$"}, "content": "0"}
    edited("tokenizer.json", normalizer=step)(folder)


BROKEN: dict[str, tuple[Change, str]] = {
    "a weight missing": (without_a_weight, "lacks weights: model.layers.1.mlp.up_proj.weight"),
    "another size": (edited("config.json", intermediate_size=48), "of another size: model.layers"),
    "weights cut": (with_cut_weights, "cannot load the model"),
    "a token too many": (with_a_token_too_many, "do not belong together"),
    "no config.json": (without_settings, "no model folder"),
    "unknown type": (edited("config.json", model_type="llama9"), "llama9"),
    "a list for a type": (edited("config.json", model_type=["llama"]), "cannot load"),
    "no heads": (edited("config.json", num_attention_heads=0), "cannot load"),
    "no context": (edited("config.json", max_position_embeddings=None), "cannot load"),
    "quantized": (
        edited("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "cannot load the model",
    ),
    "a text for a length": (edited("tokenizer_config.json", model_max_length="x"), "the tokenizer"),
    "a list to generate by": (with_a_list_to_generate_by, "cannot load the model"),
    "a normalizer that doubles": (with_a_normalizer_that_doubles, "100 times as long"),
    "a normalizer that gives up": (with_a_normalizer_that_gives_up, "fails on a text"),
    "tokenizer.model alone": (with_sentencepiece_alone, "pip install sentencepiece"),
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=list(BROKEN))
def test_what_does_not_load_is_one_sentence(
    change: Change, message: str, way: Callable[[Path], None], tiny_student: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_student, folder)
    change(folder)
    with pytest.raises(CurateError, match=message) as caught:
        way(folder)
    assert "\n" not in str(caught.value)


def test_a_text_that_a_tokenizer_gives_up_is_one_sentence(
    tiny_student: Path, tmp_path: Path
) -> None:
    """Its regular expression tries more ways than the library allows, which panics."""
    shutil.copytree(tiny_student, tmp_path / "model")
    split = {"type": "Split", "pattern": {"Regex": "(?:b|b)+$"}, "behavior": "Isolated"}
    edited("tokenizer.json", pre_tokenizer=split | {"invert": False})(tmp_path / "model")
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    vicuna = student_template("vicuna", tokenizer)
    tokens = Tokenization(tokenizer, vicuna, name="exact", max_length=64)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    model = LoadedModel(None, tokenizer, None, frozenset(), 64)
    ways: list[Callable[[str], object]] = [
        tokens.prefix_ids,
        lambda text: model.encode([{"role": "user", "content": text}]),
    ]
    for way in ways:
        assert way("b")
        with pytest.raises(CurateError, match=r"fails on a text: .*retry-limit"):
            way("b" * 40 + "c")


@pytest.mark.parametrize("name", ["./nothing", "no/such/folder", "nobody/nothing"])
def test_what_is_not_there_is_one_sentence(name: str) -> None:
    for load in (load_config, load_tokenizer):
        with pytest.raises(CurateError, match=name):
            load(name)


def test_a_special_token_that_nothing_writes_may_be_beyond_the_model(
    tiny_student: Path, tmp_path: Path
) -> None:
    """As the one for images in the tokenizers of models that are published without them."""
    shutil.copytree(tiny_student, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "model")
    assert len(load_tokenizer(str(tmp_path / "model"))) == len(tokenizer)
    tokenizer.chat_template = "<image>"
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(CurateError, match="do not belong together"):
        load_tokenizer(str(tmp_path / "model"))


def test_a_temperature_that_is_not_sampled_with_is_mended_and_said(
    tiny_student: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_student, tmp_path / "model")
    settings = {"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2}
    (tmp_path / "model/generation_config.json").write_text(json.dumps(settings), "utf-8")
    model = load_causal_lm(str(tmp_path / "model"), dtype=None)
    assert "do_sample" in capsys.readouterr().err
    model.save_pretrained(tmp_path / "saved")
    saved: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config
    assert (saved.do_sample, saved.temperature, saved.eos_token_id) == (True, 0.9, 2)
