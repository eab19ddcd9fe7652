"""The loss on held-out rows, and the callback that measures it and reports each step."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..base.progress import say
from ..errors import CurateError
from .folder.loss_curve import HELD_OUT
from .job import Job, Training, TrainingProgress
from .rows import IGNORED, TrainingRow

BATCH_TOKENS = 4096  # of a forward pass, whose [tokens, vocabulary] logits are in memory


def response_loss(
    model: Any, rows: Sequence[TrainingRow], *, batch_tokens: int = BATCH_TOKENS
) -> tuple[float, int]:
    """The mean NLL (nats) of a trained-on token, EOS included, and the number of those tokens."""
    import torch

    assert rows, "a loss over nothing is not a number"
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in _batches(rows, batch_tokens):
            ids, mask, labels = (tensor.to(device) for tensor in _padded(batch))
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(),
                labels[:, 1:].flatten(),
                ignore_index=IGNORED,
                reduction="sum",
            ).item()
            count += int((labels[:, 1:] != IGNORED).sum())
    model.train(was_training)
    return total / count, count


def _batches(rows: Sequence[TrainingRow], batch_tokens: int) -> Iterator[list[TrainingRow]]:
    """Longest first, so that running out of memory comes at once."""
    batch: list[TrainingRow] = []
    for row in sorted(rows, key=lambda row: len(row.input_ids), reverse=True):
        if batch and (len(batch) + 1) * len(batch[0].input_ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _padded(batch: list[TrainingRow]) -> tuple[Any, Any, Any]:
    """ids, attention mask, labels: [rows, longest], filled on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [torch.tensor(row.input_ids) for row in batch]
    labels = [torch.tensor(row.labels) for row in batch]
    return (
        pad_sequence(ids, batch_first=True),
        pad_sequence(list(map(torch.ones_like, ids)), batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    )


def held_out_meter(job: Job, trainer: Any, training: Training) -> Callable[[], float | None]:
    """Measures and logs the held-out loss at this step, unless the log has it already."""
    from transformers import Trainer

    def measured() -> float | None:
        if not job.data.held_out:
            return None
        for entry in trainer.state.log_history:
            if HELD_OUT in entry and entry["step"] == trainer.state.global_step:
                return float(entry[HELD_OUT])
        begun = time.monotonic()
        # Every process takes all rows: in a sharded model each forward pass needs them all.
        loss, _ = response_loss(trainer.model_wrapped, job.data.held_out)
        Trainer.log(trainer, {HELD_OUT: loss})  # TRL's would add the metrics of training
        training.started += time.monotonic() - begun  # it is not training
        return loss

    return measured


def observer(job: Job, measured: Callable[[], float | None], training: Training) -> Any:
    """Measures before, at each checkpoint and at the end; times training, and reports each step."""
    from transformers import TrainerCallback

    class Observer(TrainerCallback):  # type: ignore[misc]  # transformers' types are not read
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 0:
                measured()
            _note_a_mere_warm_up(job, state.max_steps)
            known = [entry[HELD_OUT] for entry in state.log_history if HELD_OUT in entry]
            training.held_out_before = known[0] if known else None
            training.started = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" not in logs:
                return
            _check_finite(logs["loss"], state.global_step)
            training.tokens = logs["num_tokens"]
            if job.state.is_main_process:
                training.report(_progress(state, logs, time.monotonic() - training.started))
            low = logs["loss"] <= (job.recipe.stop_loss or -math.inf)
            control.should_training_stop |= low
            if control.should_save or state.global_step >= state.max_steps:
                measured()  # before the checkpoint, so that it knows

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if control.should_save:
                measured()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            training.held_out_after = measured()
            training.seconds = time.monotonic() - training.started

    return Observer()


def _note_a_mere_warm_up(job: Job, steps: int) -> None:
    """Of a single step: the libraries round the part of it that warms up to a whole one."""
    warms = job.recipe.warmup_ratio and job.recipe.scheduler != "constant"
    if warms and steps == 1 and job.state.is_main_process:
        say(
            "note: the only step is the warm-up's, at a learning rate of 0, so that nothing is "
            "trained: give --warmup-ratio 0, or more steps"
        )


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise CurateError(f"the loss is {loss} at step {step}: lower --learning-rate")


def _progress(state: Any, logs: Mapping[str, float], seconds: float) -> TrainingProgress:
    return TrainingProgress(
        step=state.global_step,
        steps=state.max_steps,
        loss=logs["loss"],
        learning_rate=logs["learning_rate"],
        tokens_per_second=logs["num_tokens"] / max(seconds, 1e-9),
    )
