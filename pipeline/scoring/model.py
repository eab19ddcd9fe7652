"""Loads the student and takes the fastest proven way to score: packed rows, else one at a time."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..config import Dtype, ScoringConfig
from ..errors import CurateError
from ..models.devices import pick_device, pick_devices
from ..models.loading import context_of, is_out_of_memory, load_causal_lm, memory_errors
from .forward.attention import AMPERE, NAME, register
from .forward.head import Head
from .forward.hidden_states import alone_states, packed_states, to_device
from .forward.packing import Pack
from .forward.products import speed_up
from .proof import (
    Probe,
    Proof,
    Way,
    as_rows_are_scored,
    check_causal,
    own_way,
    probe_of,
    prove_alone,
    prove_packed,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Student:
    """A causal LM ready to score: `log_probs` maps a packed row to its targets' log-probabilities.

    `hidden` maps it to the last hidden states [R, D] that these are predicted from. `packed` is
    False where the model cannot share a row between sequences; then every row must hold a single
    sequence without a header. `noise` (nats) is what neighbours in a row change in a token's
    log-probability, 0 where they change no bit.
    """

    model: Any
    device: torch.device
    dtype: torch.dtype
    context: int | None
    packed: bool
    log_probs: Way
    hidden: Callable[[Pack], Tensor]
    noise: float = 0.0


def device_here(config: ScoringConfig) -> torch.device:
    """Where this process itself computes; Ray's workers may have GPUs where it has none."""
    first = pick_devices(config.device)[0]
    device = pick_device("auto" if config.executor == "ray" and first == "cuda" else first)
    if device.type not in ("cpu", "cuda"):
        raise CurateError(f"--device {device}: students are scored on cpu or cuda")
    return device


def load_student(
    name: str,
    *,
    revision: str | None,
    device: torch.device,
    dtype: Dtype,
    max_length: int | None = None,
) -> Student:
    """Load the weights (safetensors only, no remote code) and choose the proven way to score.

    No sequence will have more than `max_length` tokens.
    """
    if device.type == "cuda":
        require_dtype(dtype, device, torch.cuda.get_device_capability(device))
    with device_errors(device), memory_errors(name, device):
        model = load_causal_lm(name, revision, dtype=dtype, device=device)
        return student_of(model.eval(), getattr(torch, dtype), max_length=max_length)


def require_dtype(dtype: Dtype, device: torch.device, capability: tuple[int, int]) -> None:
    """CurateError for a number format that a GPU of this compute capability lacks."""
    if dtype == "bfloat16" and capability < AMPERE:
        raise CurateError(
            f"--dtype bfloat16: {device} has compute capability {'.'.join(map(str, capability))} "
            "and computes in bfloat16 from 8.0 on: take --dtype float16 or float32"
        )


@contextmanager
def device_errors(device: torch.device) -> Iterator[None]:
    """Turn the failure of a device, one that vanished say, into a CurateError."""
    try:
        yield
    except torch.AcceleratorError as error:
        if is_out_of_memory(error):
            raise
        raise CurateError(
            f"{device} failed ({first_line(error)}); what was finished is kept: run the command "
            "again, or on another --device"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says first, which may be a page."""
    return str(error).strip().partition("\n")[0][:300]


def student_of(model: Any, dtype: torch.dtype, *, max_length: int | None = None) -> Student:
    """The fastest way to score that gives what the model's own forward gives on a probe.

    Raises CurateError for a model that is not causal.
    """
    device = next(model.parameters()).device
    register()
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # sdpa leaves the softcap out without a word
    context, head = context_of(model.config), _head_of(model)
    with as_rows_are_scored(device):
        own = own_way(model)
        check_causal(model, own)
        probe = probe_of(model, own, max_length)
        if device.type == "cpu":
            speed_up(model)
        proof = _prove_packed(model, head, probe)
        if head is not None and not proof.reason:
            states = packed_states(model)
            way = _through(head, states)
            return Student(model, device, dtype, context, True, way, states, proof.noise)
        log.warning("scoring one sequence at a time: %s: %s", type(model).__name__, proof.reason)
        way = _alone_way(model, head, own, probe)
        return Student(model, device, dtype, context, False, way, alone_states(model))


def _prove_packed(model: Any, head: Head | None, probe: Probe) -> Proof:
    """Leaves the model with our attention function where the proof holds."""
    if head is None or model.base_model is model:
        return Proof("no packed forward for this model")
    if "longrope" in str(getattr(model.config.get_text_config(), "rope_parameters", None)):
        return Proof("the row's longest sequence decides how longrope turns all of them")
    original = model.config._attn_implementation
    try:
        model.set_attn_implementation(NAME)
        proof = prove_packed(_through(head, packed_states(model)), probe)
    except ValueError as error:
        proof = Proof(f"it takes no other attention function ({str(error)[:200]})")
    if proof.reason:
        model.set_attn_implementation(original)
    elif proof.noise:
        log.warning(
            "in %s neighbours in a row change a token's log-probability by up to %.1g nats: this "
            "counts as rounding noise in near ties",
            type(model).__name__,
            proof.worst,
        )
    return proof


def _alone_way(model: Any, head: Head | None, own: Way, probe: Probe) -> Way:
    """With our head as in packed rows, so that the way changes no number; else the model's own."""
    if head is None or model.base_model is model:
        return own
    way = _through(head, alone_states(model))
    proof = prove_alone(way, probe)
    if proof.reason:
        log.warning(
            "taking the logits of %s as it gives them: %s", type(model).__name__, proof.reason
        )
    return own if proof.reason else way


def _through(head: Head, states: Callable[[Pack], Tensor]) -> Way:
    @torch.inference_mode()
    def log_probs(pack: Pack) -> Tensor:
        return head.log_probs(states(pack), to_device(pack.targets, head.weight.device))

    return log_probs


def _head_of(model: Any) -> Head | None:
    layer = model.get_output_embeddings()
    if not isinstance(layer, torch.nn.Linear):
        return None
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(layer.weight, layer.bias, scale, getattr(config, "final_logit_softcapping", None))
