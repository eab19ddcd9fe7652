"""What is found out about a model before it scores: is it causal, and which ways agree with it.

A probe of three sequences is scored by the model's own forward, one sequence at a time, and in
the ways that are to be proven. On a CPU this runs as scoring does, each row on one thread: a BLAS
with several threads splits a product by its number of rows, and changes last bits.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CurateError
from ..models.loading import context_of, is_out_of_memory
from .forward.attention import UnpackableError
from .forward.hidden_states import to_device
from .forward.packing import Ids, Pack, Span, plan
from .forward.widened import Widened

Way = Callable[[Pack], Tensor]
"""A row -> the log-probabilities of its targets [R]."""
# Nats a token. Float32 rounding of one token scored in two ways stays below the first. In half
# precision two ways may differ by as much as the model's own forward differs from float32.
TOLERANCE = 1e-3
HALF_TOLERANCE = 0.05
OWN_BLOCK = 64
WIDEST_WINDOW = 4097
"""The probe does not pass wider ones."""
PROBED = 24
"""So many targets of each sequence, its last ones, are looked at."""
_NOT_RUN = (UnpackableError, CurateError, TypeError, ValueError, AttributeError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Proof:
    """What one way gave on the probe.

    `reason` says why it is not to be trusted; empty if it is. `noise` is the root mean square of
    what neighbours in a row change in a token's log-probability (nats), `worst` the largest.
    """

    reason: str = ""
    noise: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """Three sequences in a row, two with a shared prefix, and what is expected of them.

    `expected` are the log-probabilities of the row's targets [R] in float32 arithmetic, `bound` is
    how far a way may be from them.
    """

    spans: Sequence[Span]
    headers: Sequence[Ids]
    row: Pack
    expected: Tensor
    bound: float

    def alone(self, *, headers: bool) -> list[Pack]:
        """Each sequence in a row of its own, in the order of the shared row."""
        given, budget = (self.headers, 1 << 30) if headers else ((), 0)
        return [_row([self.spans[i]], given, budget) for i in self.row.spans]


@contextmanager
def as_rows_are_scored(device: torch.device) -> Iterator[None]:
    """On a CPU, one thread."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def own_way(model: Any) -> Way:
    """The model's own forward, one sequence a row; log-softmax in float64."""
    device = next(model.parameters()).device
    fewer = "logits_to_keep" in inspect.signature(model.forward).parameters

    @torch.inference_mode()
    def log_probs(pack: Pack) -> Tensor:
        assert len(pack.spans) == 1 and len(pack.segments) == 1
        ids, targets = to_device(pack.ids, device).long(), to_device(pack.targets, device)
        how = {"logits_to_keep": len(targets)} if fewer else {}
        logits = model(input_ids=ids[None], use_cache=False, **how).logits[0, -len(targets) :]
        rows = zip(torch.split(logits, OWN_BLOCK), torch.split(targets, OWN_BLOCK), strict=True)
        blocks = ((z.double(), t) for z, t in rows)
        found = [z.gather(1, t[:, None])[:, 0] - z.logsumexp(dim=1) for z, t in blocks]
        return torch.cat(found).float()

    return log_probs


def check_causal(model: Any, own: Way) -> None:
    """Raise CurateError where a later token changes what is predicted before it."""
    ids = _random_ids(np.random.default_rng(1), model.config, 16)
    row = next(plan([Span(ids, 1)], [], 0))
    changed = row.ids.copy()
    changed[-1] = (changed[-1] + 1) % model.config.get_text_config().vocab_size
    before, after = own(row)[:-1], own(replace(row, ids=changed))[:-1]
    bound = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    if _worst(before - after) > bound:
        raise CurateError(
            f"{type(model).__name__} sees the tokens that it is to predict, so it gives no "
            "likelihoods: take a causal language model as --student"
        )


def probe_of(model: Any, own: Way, max_length: int | None) -> Probe:
    """The probe, scored by the model's own forward.

    One sequence passes a sliding window, where a sequence of `max_length` tokens would.
    """
    spans, headers = _sequences(model.config, max_length)
    row = _row(spans, headers, 1 << 30)
    probe = Probe(spans, headers, row, torch.empty(0), TOLERANCE)
    alone = probe.alone(headers=False)
    found = torch.cat([own(pack) for pack in alone])
    if model.dtype == torch.float32:
        return replace(probe, expected=found)
    with Widened():
        wide = torch.cat([own(pack) for pack in alone])
    return replace(probe, expected=wide, bound=2 * _worst(found - wide) + HALF_TOLERANCE)


def prove_packed(packed: Way, probe: Probe) -> Proof:
    """Rows that sequences share give what is expected; and what neighbours change there."""
    width = 0 if probe.expected.device.type == "cpu" else len(probe.row.ids)
    rows = [replace(row, width=width) for row in (probe.row, *probe.alone(headers=True))]
    try:
        together, *apart = [packed(row).float() for row in rows]
    except _NOT_RUN as error:
        return Proof(_not_run(error, "packed rows"))
    change = (together - torch.cat(apart)).nan_to_num()
    proof = _proof("packed rows", together, probe)
    return replace(proof, noise=float(change.square().mean().sqrt()), worst=_worst(change))


def prove_alone(alone: Way, probe: Probe) -> Proof:
    """The trunk and our head, one sequence a row, give what is expected."""
    try:
        found = torch.cat([alone(pack).float() for pack in probe.alone(headers=False)])
    except _NOT_RUN as error:
        return Proof(_not_run(error, "its last hidden states"))
    return _proof("its last hidden states", found, probe)


def _proof(what: str, found: Tensor, probe: Probe) -> Proof:
    worst = _worst(found - probe.expected)
    return Proof(f"{what} are off by {worst:.2g} nats" if worst > probe.bound else "")


def _not_run(error: Exception, what: str) -> str:
    if is_out_of_memory(error) or isinstance(error, torch.AcceleratorError):
        raise error
    return f"{what} do not run ({' '.join(str(error).split())[:200]})"


def _worst(difference: Tensor) -> float:
    return float(difference.abs().nan_to_num(nan=0.0, posinf=0.0).max())


def _row(spans: Sequence[Span], headers: Sequence[Ids], budget: int) -> Pack:
    """Spans in one row, of which the last targets of each are looked at."""
    pack = next(plan(spans, headers, budget))
    ends = np.cumsum(pack.lengths)
    kept = [
        np.arange(max(end - PROBED, end - n), end)
        for end, n in zip(ends, pack.lengths, strict=True)
    ]
    where = np.concatenate(kept)
    lengths = tuple(map(len, kept))
    return replace(pack, predict=pack.predict[where], targets=pack.targets[where], lengths=lengths)


def _sequences(config: Any, max_length: int | None) -> tuple[list[Span], list[Ids]]:
    window = getattr(config.get_text_config(), "sliding_window", None) or 0
    passed = 0 < window < (max_length or WIDEST_WINDOW)
    long = min(context_of(config) or 4096, window + 40 if passed else 48)
    rng = np.random.default_rng(0)
    header, prompt = _random_ids(rng, config, 8), _random_ids(rng, config, 3)

    def span(length: int, opening: Sequence[Ids]) -> Span:
        begin = sum(map(len, opening))
        tail = _random_ids(rng, config, max(length - begin, 2))
        return Span(np.concatenate((*opening, tail)), max(begin, 1))

    shared = (header, prompt)  # of two sequences: the header, and the prefix too
    lengths = [(long, shared), (16, shared), (10, ())]
    return [span(length, opening) for length, opening in lengths], [header]


def _random_ids(rng: np.random.Generator, config: Any, length: int) -> Ids:
    return rng.integers(0, config.get_text_config().vocab_size, length, dtype=np.int32)
