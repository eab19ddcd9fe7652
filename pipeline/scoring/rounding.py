"""How far rounding moves a score in half precision, measured on the student's own sequences."""

from collections.abc import Sequence

import numpy as np
import torch

from .packing import Pack, Span
from .scorer import Scorer
from .widened import Widened

SAMPLE = 64


def rounding_noise(scorer: Scorer, spans: Sequence[Span]) -> float:
    """The standard deviation (nats) of a mean NLL's error in half precision, over a sample.

    The same weights are run once more with float32 arithmetic.
    """
    sample = list(spans)[:SAMPLE]
    if not sample:
        return 0.0

    def widened(pack: Pack) -> torch.Tensor:
        with Widened():
            return scorer.student.log_probs(pack)

    error = scorer.nll(sample) - scorer.nll(sample, log_probs=widened)
    known = error[np.isfinite(error)]
    return float(np.sqrt((known**2).mean())) if len(known) else 0.0
