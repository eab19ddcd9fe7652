"""Rows in one forward pass do not see each other, or the training is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from curate.pipeline.errors import CurateError

from .byte_student import config_of, train

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
             "attn_pdrop": 0.0},
    "qwen2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 64},
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64,
            "word_embed_proj_dim": 32},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}  # fmt: skip


def causal_lm(folder: Path, byte_student: Path, kind: str) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(byte_student)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **ids, **SIZES[kind]))
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3, generator=chance)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("way", ["packing", "padding_free"])
@pytest.mark.parametrize("kind", SIZES)
def test_rows_without_padding_do_not_see_each_other_or_are_refused(
    kind: str, way: str, byte_student: Path, tmp_path: Path
) -> None:
    model = causal_lm(tmp_path / kind, byte_student, kind)
    settings = {"max_steps": 1, "batch_size": 24, "per_device_batch_size": 24, "held_out": 0}
    config = config_of(model, tmp_path / "out", **settings, **{way: True})
    if kind in ("opt", "bloom"):
        with pytest.raises(CurateError, match=f"{kind} model rows .* see each other .*--packing"):
            train(config)
        return
    apart = train(config_of(model, tmp_path / "apart", **settings))
    assert train(config).train_loss[0][1] == pytest.approx(apart.train_loss[0][1], abs=1e-3)


def test_what_dropout_does_to_rows_without_padding_is_said(
    byte_student: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = causal_lm(tmp_path / "gpt2", byte_student, "gpt2")
    settings = {"max_steps": 1, "batch_size": 4, "per_device_batch_size": 4, "held_out": 0}
    train(config_of(model, tmp_path / "without", packing=True, **settings))
    assert "has dropout" not in capfd.readouterr().err
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"resid_pdrop": 0.1}))
    train(config_of(model, tmp_path / "with", packing=True, **settings))
    assert "has dropout" in capfd.readouterr().err


def test_packed_rows_do_not_see_each_other(byte_student: Path, tmp_path: Path) -> None:
    settings = {"batch_size": 24, "held_out": 0.0, "epochs": 3.0}
    packed = train(config_of(byte_student, tmp_path / "packed", packing=True, **settings))
    alone = train(config_of(byte_student, tmp_path / "alone", **settings))
    # All rows in one step: the same loss and gradient however they are laid out.
    assert [loss for _, loss in packed.train_loss] == pytest.approx(
        [loss for _, loss in alone.train_loss], abs=1e-4
    )
