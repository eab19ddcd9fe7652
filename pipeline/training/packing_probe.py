"""Whether rows that share a forward pass without padding see each other in a model."""

from collections.abc import Sequence
from typing import Any

from ..base.progress import say
from ..errors import CurateError
from .rows import TrainingRow

LENGTH = 48  # tokens of a probed row
TOLERANCE = {"torch.float32": 1e-3, "torch.bfloat16": 0.35}  # nats that rounding explains


def check_rows_apart(trainer: Any, rows: Sequence[TrainingRow]) -> None:
    """CurateError where a row's log-probabilities depend on the row in front of it.

    Some architectures read no position ids, or not as the beginning of another sequence.
    """
    from torch.nn import Dropout

    first, second = (_feature(row) for row in (rows[0], rows[-1]))
    together = _log_probs(trainer, [first, second])
    alone = _log_probs(trainer, [second])
    difference = float((together[-len(alone) :] - alone).abs().max())
    if difference > TOLERANCE.get(str(trainer.model.dtype), 0.35):
        raise CurateError(
            f"in a {trainer.model.config.model_type} model rows without padding between them see "
            f"each other (by {difference:.2g} nats): train without --packing and --padding-free"
        )
    if any(isinstance(part, Dropout) and part.p > 0 for part in trainer.model.modules()):
        say(
            "note: the model has dropout, which rows without padding draw otherwise: their losses "
            "differ from padded rows' by chance"
        )


def _feature(row: TrainingRow) -> dict[str, Any]:
    ids = row.input_ids[:LENGTH]
    return {"input_ids": ids, "labels": ids, "seq_lengths": [len(ids)]}


def _log_probs(trainer: Any, features: list[dict[str, Any]]) -> Any:
    """Of the next token, [tokens, vocabulary], as the trainer lays the rows out."""
    import torch

    batch = trainer._prepare_inputs(trainer.data_collator([dict(one) for one in features]))
    del batch["labels"]
    model = trainer.model
    training = model.training
    model.eval()
    with torch.no_grad():
        logits = model(**batch, use_cache=False).logits
    model.train(training)
    return logits.flatten(0, -2).float().log_softmax(-1)
