"""The preference losses, in TRL's terms.

With c, r the summed log-probabilities of the chosen and the rejected answer, c0, r0 those under the
reference, n their tokens, D = (c - c0) - (r - r0), s the logistic function:

    dpo       -log s(beta D); with label smoothing e: -(1 - e) log s(beta D) - e log s(-beta D)
    dpo       with nll_weight: + nll_weight NLL
    dpo-norm  -log s(beta ((c - c0) / n_c - (r - r0) / n_r))
    ipo       ((c - c0) / n_c - (r - r0) / n_r - 1 / (2 beta))^2
    hinge     max(0, 1 - beta D)                                        RSO's hinge-norm
    cpo       -log s(beta (c - r)) + nll_weight NLL
    slic      max(0, delta - c + r) + nll_weight NLL
    kto       desirable: w (1 - s(beta (c - c0 - z))), undesirable: w (1 - s(beta (z - r + r0)))

NLL is the mean over all chosen tokens of a micro-batch; z = max(0, mean of log pi(y')/pi_0(y'))
over answers y' to other prompts.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from ...config.alignment import BETAS, REFERENCE_FREE, AlignConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """`settings` are the loss's own arguments of TRL's trainer.

    `first` is the loss where the model is the reference; None where there is no reference, or
    an NLL beside it.
    """

    unpaired: bool = False
    first: float | None
    beta: float
    settings: dict[str, Any] = field(default_factory=dict)


def loss_of(config: AlignConfig) -> Loss:
    """The loss that the options name, with its defaults."""
    if config.loss in REFERENCE_FREE:
        return _reference_free(config)
    beta = config.beta or BETAS.get(config.loss, 0.1)
    if config.loss == "kto":
        weights = {"desirable_weight": config.desirable_weight or 1.0}
        weights["undesirable_weight"] = config.undesirable_weight or 1.0
        settings: dict[str, Any] = {"loss_type": "kto", **weights}
        return Loss(unpaired=True, first=sum(weights.values()) / 4, beta=beta, settings=settings)
    types = {"dpo": "sigmoid", "dpo-norm": "sigmoid_norm", "ipo": "ipo", "hinge": "hinge"}
    first: float | None = {"ipo": 1 / (4 * beta**2), "hinge": 1.0}.get(config.loss, math.log(2))
    settings = {"loss_type": [types[config.loss]]}
    if config.label_smoothing:
        # TRL ignores label smoothing in `sigmoid`; its `robust`, the loss divided by 1 - 2e with
        # the other sign of e, equals ours at this e.
        smoothing = config.label_smoothing / (2 * config.label_smoothing - 1)
        settings = {"loss_type": ["robust"], "label_smoothing": smoothing}
    if config.nll_weight:  # Iterative RPO (Pang et al. 2024, arXiv 2404.19733)
        settings["loss_type"].append("sft")
        settings["loss_weights"], first = [1.0, config.nll_weight], None
    return Loss(first=first, beta=beta, settings=settings)


def _reference_free(config: AlignConfig) -> Loss:
    """The DPO trainer's losses are these where c0 = r0 = 0."""
    if config.loss == "cpo":
        name, beta, weights = "sigmoid", config.beta or 0.1, [1.0, 1.0]
    else:
        delta = config.delta or 1.0
        name, beta, weights = "hinge", 1 / delta, [delta, 0.1]
    if config.nll_weight is not None:
        weights[1] = config.nll_weight
    settings = {"loss_type": [name, "sft"], "loss_weights": weights}
    return Loss(first=None, beta=beta, settings=settings)
