"""Architectures: each is packed and right, or scored alone with a line in the log and right."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from curate.pipeline.errors import CurateError
from curate.pipeline.scoring.model import require_dtype, student_of

from .tiny import lively, llama, one_at_a_time, score_with, some_header, some_spans

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {
    "vocab_size": 211,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
OLDER: dict[str, Any] = {
    "vocab_size": 211,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
GPT2: dict[str, Any] = {
    "vocab_size": 211,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "bos_token_id": None,
    "eos_token_id": 1,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 2.0, 3.0, 4.0],
    "original_max_position_embeddings": 64,
    "factor": 2.0,
}
GEMMA = {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}


def small(**settings: Any) -> dict[str, Any]:
    return SMALL | settings


# The longest sequence here is 109 tokens: well beyond the windows.
PACKED = {
    "llama": lambda: hf.LlamaConfig(**SMALL),
    "llama tied": lambda: hf.LlamaConfig(**small(tie_word_embeddings=True)),
    "qwen2, bias": lambda: hf.Qwen2Config(**SMALL),
    "qwen2, window in one layer": lambda: hf.Qwen2Config(
        **small(use_sliding_window=True, sliding_window=16, max_window_layers=1)
    ),
    "qwen3": lambda: hf.Qwen3Config(**small(head_dim=8)),
    "mistral, window": lambda: hf.MistralConfig(**small(sliding_window=16)),
    "gemma": lambda: hf.GemmaConfig(**small(head_dim=8)),
    "gemma2, softcaps, window": lambda: hf.Gemma2Config(
        **small(**GEMMA, attn_logit_softcapping=5.0, final_logit_softcapping=3.0)
    ),
    "gemma3, window": lambda: hf.Gemma3TextConfig(**small(**GEMMA)),
    "gpt2": lambda: hf.GPT2Config(**GPT2),
    "opt": lambda: hf.OPTConfig(
        **OLDER, ffn_dim=64, max_position_embeddings=128, word_embed_proj_dim=32, pad_token_id=1
    ),
    "phi, head with bias": lambda: hf.PhiConfig(**SMALL),
    "phi3": lambda: hf.Phi3Config(**SMALL),
    "gpt-neox": lambda: hf.GPTNeoXConfig(
        **OLDER, intermediate_size=64, max_position_embeddings=128
    ),
    "cohere, logit_scale": lambda: hf.CohereConfig(**small(logit_scale=0.25)),
    "granite, logits_scaling": lambda: hf.GraniteConfig(
        **small(logits_scaling=4.0, attention_multiplier=0.5, residual_multiplier=0.7)
    ),
    "starcoder2, window": lambda: hf.Starcoder2Config(**small(sliding_window=16)),
    "olmo2": lambda: hf.Olmo2Config(**SMALL),
}
ALONE = {
    "bloom, ALiBi": lambda: hf.BloomConfig(
        vocab_size=211, hidden_size=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=1
    ),
    "falcon": lambda: hf.FalconConfig(**OLDER, alibi=False),
    "falcon, ALiBi": lambda: hf.FalconConfig(**OLDER, alibi=True),
    "gpt-j": lambda: hf.GPTJConfig(**GPT2 | {"bos_token_id": 0}, rotary_dim=8),
    "phi3, longrope": lambda: hf.Phi3Config(
        **small(original_max_position_embeddings=64, rope_parameters=LONGROPE)
    ),
    "gpt-oss, sinks": lambda: hf.GptOssConfig(
        **small(head_dim=8, sliding_window=16, num_local_experts=4)
    ),
    "mamba, no attention": lambda: hf.MambaConfig(
        vocab_size=211, hidden_size=32, num_hidden_layers=2, pad_token_id=1
    ),
}
HEADER = some_header(9, 211)
SPANS = some_spans(HEADER, (100, 40, 23, 12, 2), vocabulary=211)


# As they are shipped, but for the number of layers and the vocabulary.
FAMILIES: dict[str, Any] = {
    "llama 3": lambda: hf.LlamaConfig(
        **small(hidden_size=1024, intermediate_size=4096, num_attention_heads=16,
                num_key_value_heads=4, vocab_size=8000)
    ),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **small(hidden_size=640, intermediate_size=2048, num_attention_heads=4,
                num_key_value_heads=1, head_dim=256, sliding_window=64, vocab_size=8000)
    ),
    "gpt-neox": lambda: hf.GPTNeoXConfig(
        **OLDER | {"hidden_size": 1024, "num_attention_heads": 16, "vocab_size": 8000},
        intermediate_size=4096,
    ),
}  # fmt: skip


def model_of(config: Any) -> Any:
    torch.manual_seed(0)
    return lively(hf.AutoModelForCausalLM.from_config(config))


def check(model: Any) -> bool:
    """Whether the model is packed; its scores must be those of its own forward either way."""
    # grouped_mm, which experts run on, has no float64.
    experts = bool(getattr(model.config, "num_local_experts", 0))
    wanted = one_at_a_time(model, SPANS, double=not experts)
    student = student_of(model, torch.float32)
    assert np.abs(score_with(student, SPANS, [HEADER]) - wanted).max() < 1e-4
    return student.packed


@pytest.mark.parametrize("name", PACKED)
def test_these_are_packed(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "curate")
    assert check(model_of(PACKED[name]()))
    assert not [record for record in caplog.records if record.name.startswith("curate")]


@pytest.mark.parametrize("name", ALONE)
def test_these_are_scored_alone_and_the_log_says_so(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "curate")
    assert not check(model_of(ALONE[name]()))
    assert "scoring one sequence at a time" in caplog.text


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_proven_as_rows_are_scored_and_packed_to_the_bit(name: str) -> None:
    """On one thread, however many the machine has."""
    torch.set_num_threads(2)
    model, threads = hf.AutoModelForCausalLM.from_config(FAMILIES[name]()).eval(), set()
    model.base_model.register_forward_hook(lambda *_: threads.add(torch.get_num_threads()))
    student = student_of(model, torch.float32)
    assert (student.packed, student.noise) == (True, 0.0)
    assert threads == {1}
    assert torch.get_num_threads() == 2


def test_what_neighbours_change_in_a_mixture_of_experts_is_noise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = [model_of(hf.MixtralConfig(**small(num_local_experts=4))) for _ in range(2)]
    assert check(models[0])
    assert 0 < student_of(models[1], torch.float32).noise < 1e-5
    assert "near ties" in caplog.text


def test_a_student_that_sees_what_it_is_to_predict() -> None:
    bidirectional = {
        "bert": hf.BertConfig(**OLDER, intermediate_size=64),
        "gemma3": hf.Gemma3TextConfig(**small(**GEMMA, use_bidirectional_attention=True)),
    }
    for config in bidirectional.values():
        with pytest.raises(CurateError, match="sees the tokens that it is to predict"):
            student_of(model_of(config), torch.float32)


def test_half_precision_is_held_against_float32_arithmetic() -> None:
    """Deep and lively: two ways of scoring a token differ by more than any fixed bound."""
    model = llama(num_hidden_layers=24, hidden_size=64, intermediate_size=128)
    assert student_of(model.to(torch.bfloat16), torch.bfloat16).packed


@pytest.mark.parametrize("tied", [True, False])
def test_a_bias_on_the_head(tied: bool) -> None:
    model = llama(tie_word_embeddings=tied)
    head = torch.nn.Linear(32, 400, bias=True)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
    model.set_output_embeddings(head)
    assert check(model)


def test_a_head_that_is_no_linear_layer_is_not_packed() -> None:
    model = llama()
    model.set_output_embeddings(torch.nn.Sequential(model.lm_head))
    assert not check(model)


def test_every_oracle_here_would_notice_a_leak() -> None:
    """The scores of all packed models depend on the very first token of what they attend to."""
    span = SPANS[len(SPANS) // 2]
    changed = type(span)(np.concatenate(((span.ids[:1] + 1) % 211, span.ids[1:])), span.start)
    for name in ("llama", "qwen2, bias", "qwen3", "gpt2", "opt", "gpt-neox"):
        before, after = one_at_a_time(model_of(PACKED[name]()), [span, changed])
        assert abs(before - after) > 1e-3, name


def test_a_number_format_that_a_card_lacks_is_refused() -> None:
    turing, ampere, device = (7, 5), (8, 0), torch.device("cuda:0")
    require_dtype("bfloat16", device, ampere)
    require_dtype("float16", device, turing)
    require_dtype("float32", device, turing)
    with pytest.raises(CurateError, match=r"--dtype bfloat16: cuda:0 has .*7\.5"):
        require_dtype("bfloat16", device, turing)
