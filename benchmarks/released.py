"""The released scripts' way to score, for comparison: one sequence a forward, all logits, float32.

Written anew from the method's description: four forwards a candidate, each text tokenised where it
is needed, hidden states of all layers kept, the mean loss taken by the model itself.
"""

from collections.abc import Sequence
from typing import Any

import torch

from curate.pipeline.method.spans import pair
from curate.pipeline.records import Candidate
from curate.pipeline.templates import Template


def score(
    model: Any, tokenizer: Any, template: Template, candidates: Sequence[Candidate], length: int
) -> list[tuple[float, float, float, float]]:
    """NLLs of (y|x, y, x|y, x) of each candidate, nats a token, reference tokenization."""
    return [
        (*_side(model, tokenizer, template, c, "ifd", length),
         *_side(model, tokenizer, template, c, "rifd", length))
        for c in candidates
    ]  # fmt: skip


def _side(
    model: Any, tokenizer: Any, template: Template, candidate: Candidate, side: Any, length: int
) -> tuple[float, float]:
    texts = pair(candidate, side, template)
    prefix = tokenizer(texts.prefix)["input_ids"]
    whole = tokenizer(texts.prefix + texts.target, truncation=True, max_length=length)["input_ids"]
    alone = tokenizer(texts.target, truncation=True, max_length=length - len(prefix) + 1)
    return _loss(model, whole, len(prefix)), _loss(model, alone["input_ids"], 0)


@torch.no_grad()
def _loss(model: Any, ids: list[int], skipped: int) -> float:
    tokens = torch.tensor([ids], device=model.device)
    labels = tokens.clone()
    labels[0, :skipped] = -100
    out = model(tokens, labels=labels, output_hidden_states=True)
    return float(out.loss.item())
