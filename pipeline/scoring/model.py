"""Loads the student and finds out how it can be scored: packed where that is proven, else alone."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import Dtype, ScoringConfig
from ..models.devices import pick_device, pick_devices
from ..models.loading import context_of, load_causal_lm
from .attention import NAME, UnpackableError, register
from .head import Head
from .hidden_states import alone_states, packed_states, to_device
from .packing import Ids, Pack, Span, plan

log = logging.getLogger(__name__)

# Largest difference in nats that rounding explains when one token is scored in two ways.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.35, torch.float16: 0.05}


@dataclass(frozen=True, slots=True)
class Student:
    """A causal LM ready to score: `log_probs` maps a packed row to its targets' log-probabilities.

    `hidden` maps it to the last hidden states [R, D] that these are predicted from. `packed` is
    False where the model cannot share a row between sequences; then every row must hold a single
    sequence without a header.
    """

    model: Any
    device: torch.device
    dtype: torch.dtype
    context: int | None
    packed: bool
    log_probs: Callable[[Pack], Tensor]
    hidden: Callable[[Pack], Tensor]


def device_here(config: ScoringConfig) -> torch.device:
    """Where this process itself computes; Ray's workers may have GPUs where it has none."""
    first = pick_devices(config.device)[0]
    return pick_device("auto" if config.executor == "ray" and first == "cuda" else first)


def load_student(name: str, *, revision: str | None, device: torch.device, dtype: Dtype) -> Student:
    """Load the weights (safetensors only, no remote code) and choose the proven way to score."""
    model = load_causal_lm(name, revision, dtype=dtype, device=device)
    return student_of(model.eval(), getattr(torch, dtype))


def student_of(model: Any, dtype: torch.dtype) -> Student:
    """The fastest way to score that gives what the model's own forward gives on a probe."""
    device = next(model.parameters()).device
    register()
    config = model.config.get_text_config()
    if getattr(config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # sdpa leaves the softcap out without a word
    original = model.config._attn_implementation
    packed, reason = _packed_way(model), ""
    if "longrope" in str(getattr(config, "rope_parameters", None)):
        reason = "the row's longest sequence decides how longrope turns all of them"
    elif packed is not None:
        reason = _disproof(model, packed, original, dtype)
    if packed is None or reason:
        model.set_attn_implementation(original)
        log.warning(
            "scoring one sequence at a time: %s", reason or "no packed forward for this model"
        )
    context = context_of(model.config)
    if packed is None or reason:
        return Student(model, device, dtype, context, False, _alone_way(model), alone_states(model))
    return Student(model, device, dtype, context, True, packed, packed_states(model))


def _head_of(model: Any) -> Head | None:
    layer = model.get_output_embeddings()
    if not isinstance(layer, torch.nn.Linear):
        return None
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))


def _packed_way(model: Any) -> Callable[[Pack], Tensor] | None:
    head = _head_of(model)
    if head is None or model.base_model is model:
        return None
    hidden = packed_states(model)

    @torch.inference_mode()
    def log_probs(pack: Pack) -> Tensor:
        return head.log_probs(hidden(pack), to_device(pack.targets, head.weight.device))

    return log_probs


def _alone_way(model: Any) -> Callable[[Pack], Tensor]:
    """The model's own forward, one sequence a row; logits of the predicting positions only."""
    device = next(model.parameters()).device

    @torch.inference_mode()
    def log_probs(pack: Pack) -> Tensor:
        assert len(pack.spans) == 1 and len(pack.segments) == 1
        ids = to_device(pack.ids, device).long()
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        targets = to_device(pack.targets, device)
        parts = zip(
            torch.split(to_device(pack.predict, device), 256),
            torch.split(targets, 256),
            strict=True,
        )
        return torch.cat(
            [logits[p].float().log_softmax(-1).gather(1, t[:, None])[:, 0] for p, t in parts]
        )

    return log_probs


def _disproof(
    model: Any, packed: Callable[[Pack], Tensor], original: str, dtype: torch.dtype
) -> str:
    """Why packed rows are not to be trusted with this model; empty if they are.

    Three sequences, one long enough to pass a sliding window, are scored packed, two of them with a
    shared prefix, and, by the model's own forward, alone; both must agree. On a CPU each must also
    come out the same to the bit without its neighbours, which a mixture of experts does not grant.
    """
    spans, headers = _probe(model.config)
    rows = list(plan(spans, headers, budget=1 << 30))
    alone = _alone_way(model)
    singles = [alone(next(plan([spans[i]], [], 0))) for i in rows[0].spans]
    try:
        model.set_attn_implementation(NAME)
        together = packed(rows[0]).float()
        by_bits = model.device.type != "cpu" or torch.equal(
            together.nan_to_num(),
            torch.cat(
                [packed(next(plan([spans[i]], headers, 1 << 30))) for i in rows[0].spans]
            ).nan_to_num(),
        )
    except (UnpackableError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        return f"{type(model).__name__} does not run on packed rows ({str(error)[:200]})"
    difference = (together - torch.cat(singles)).abs()
    worst = float(difference.nan_to_num(nan=0.0, posinf=0.0).max())
    if worst <= TOLERANCE[dtype]:
        return (
            "" if by_bits else f"in {type(model).__name__} neighbours change each other's last bits"
        )
    return f"packed rows of {type(model).__name__} are off by {worst:.2g} nats ({original})"


def _probe(config: Any) -> tuple[list[Span], list[Ids]]:
    text = config.get_text_config()
    context = context_of(config) or 4096
    window = getattr(text, "sliding_window", None) or 0
    long = min(context, window + 40 if 0 < window <= 4096 else 48)
    rng = np.random.default_rng(0)
    header, prompt = (rng.integers(0, text.vocab_size, n, dtype=np.int32) for n in (8, 3))

    def span(length: int, opening: Sequence[Ids]) -> Span:
        begun = sum(map(len, opening))
        tail = rng.integers(0, text.vocab_size, max(length - begun, 2), dtype=np.int32)
        return Span(np.concatenate((*opening, tail)), max(begun, 1))

    shared = (header, prompt)  # of two sequences: the header, and the prefix too
    lengths = [(long, shared), (max(math.ceil(long / 3), 16), shared), (max(long // 2, 10), ())]
    return [span(length, opening) for length, opening in lengths], [header]
