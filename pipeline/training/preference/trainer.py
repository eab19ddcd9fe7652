"""Trains a causal LM on preference pairs, with TRL's DPO and KTO trainers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base.progress import say
from ...errors import CurateError
from ...models.loading import load_causal_lm
from ..job import Job
from ..row_order import FullRounds
from ..trainer import (
    curate_trainer,
    lora_config,
    one_gpu,
    padding_tokenizer,
    preference_classes,
    shared_arguments,
    trainable,
)
from .losses import Loss
from .moving_reference import MovingReference
from .pair_rows import answers_elsewhere
from .reference import Answer, Reference, log_probabilities

FAR = 1.0  # nats a token: so far from the reference is no model that was trained from it
CLOSE = {True: 0.05, False: 1e-3}  # what bf16 and float32 explain of the first loss, relatively


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """The loss, the reference (None: there is none), and how it moves, as (alpha, every)."""

    loss: Loss
    reference: Reference | None
    trust_region: tuple[float, int] | None
    same: bool
    """Whether the reference is the model as it is before training."""
    shuffle: bool = True
    """Whether the pairs come in a random order."""


def preference_trainer(job: Job, alignment: Alignment) -> Any:
    """TRL's trainer on rows that are tokenised already, so that it alters none."""
    loss, moving = alignment.loss, alignment.trust_region
    base, config = preference_classes(unpaired=loss.unpaired)
    number = len(job.data.rows) * (2 if loss.unpaired else 1)
    shared = shared_arguments(job, rows=number, records=number, even=loss.unpaired)
    order = _order(job, alignment, number, shared["per_device_train_batch_size"])
    rows = _data_set(job, alignment)  # before the model is in memory, since it may load one
    args = config(
        **shared,
        **loss.settings,
        beta=loss.beta,
        max_length=None,  # rows are cut already
        precompute_ref_log_probs=moving is None,
    )
    trainer = _trainer_class(base, job, order)(
        model=_model(job, moving),
        ref_model=_moving_model(job, alignment),
        args=one_gpu(args),
        train_dataset=rows,
        processing_class=padding_tokenizer(job),
        peft_config=None if moving else lora_config(job.recipe),
    )
    if moving:
        trainer.moving_reference = MovingReference(trainer, *moving)
    trainer.add_callback(_observer(job, trainer, alignment))
    return trainer


def _trainer_class(base: Any, job: Job, order: FullRounds) -> Any:
    """The trainer that takes our rows as they are, and keeps a moving reference."""

    class Trainer(curate_trainer(base, job, order)):  # type: ignore[misc]  # trl has no types
        moving_reference: MovingReference | None = None

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _complete_checkpoint(self, folder: Path) -> None:
            if self.moving_reference is not None:
                self.moving_reference.save(folder)

        def _load_from_checkpoint(self, checkpoint: str, *args: Any, **kwargs: Any) -> None:
            super()._load_from_checkpoint(checkpoint, *args, **kwargs)
            if self.moving_reference is not None:
                self.moving_reference.restore(Path(checkpoint))

    return Trainer


def _model(job: Job, moving: tuple[float, int] | None) -> Any:
    """The model; with an adapter already where the reference is to be an adapter beside it."""
    from transformers import set_seed

    model, adapter = trainable(job), lora_config(job.recipe)
    if moving is None or adapter is None:
        return model
    from peft import get_peft_model

    set_seed(job.recipe.seed)  # of the adapter's beginning
    return get_peft_model(model, adapter)


def _moving_model(job: Job, alignment: Alignment) -> Any:
    """The reference with all its weights, where these move; float32 keeps small updates."""
    if alignment.trust_region is None or job.recipe.lora_r:
        return None
    assert alignment.reference is not None
    reference = alignment.reference
    model = load_causal_lm(
        reference.model, reference.revision, dtype="float32", device=job.state.device
    )
    return model.requires_grad_(False)


def _order(job: Job, alignment: Alignment, rows: int, per_device: int) -> FullRounds:
    size = per_device * job.state.num_processes
    order = FullRounds(
        rows,
        round_of=size,
        seed=job.recipe.seed if alignment.shuffle else None,
        halves=alignment.loss.unpaired,
    )
    if not len(order):
        raise CurateError(
            f"{rows} rows do not fill a micro-batch of {per_device} on each of "
            f"{job.state.num_processes} processes: lower --per-device-batch-size"
        )
    if len(order) < rows:
        say(f"note: each epoch leaves {rows - len(order)} of {rows} rows out, others each time: "
            f"they do not fill a micro-batch of {size}")  # fmt: skip
    return order


def _data_set(job: Job, alignment: Alignment) -> Any:
    """A row a pair; for KTO the chosen answer, then the rejected one, of each pair."""
    from datasets import Dataset

    if alignment.loss.unpaired:
        rows, names = _unpaired_rows(job), {"completion_ids": "ref_logps"}
        names["KL_completion_ids"] = "ref_KL_logps"
    else:
        names = {"chosen_ids": "ref_chosen_logps", "rejected_ids": "ref_rejected_logps"}
        rows = [
            {name: getattr(row, name) for name in ("prompt_ids", *names)} for row in job.data.rows
        ]
    if alignment.trust_region is None:
        answers = [(row["prompt_ids"], row[name]) for row in rows for name in names]
        known = iter(_known(job, alignment, answers))
        rows = [{**row, **{column: next(known) for column in names.values()}} for row in rows]
    return Dataset.from_list(rows)


def _unpaired_rows(job: Job) -> list[dict[str, Any]]:
    recipe = job.recipe
    others = answers_elsewhere(job.data.rows, max_length=recipe.row_tokens, seed=recipe.seed)
    return [
        {
            "prompt_ids": pair.prompt_ids,
            "completion_ids": ids,
            "KL_completion_ids": elsewhere,
            "label": ids is pair.chosen_ids,
        }
        for pair, partners in zip(job.data.rows, others, strict=True)
        for ids, elsewhere in zip((pair.chosen_ids, pair.rejected_ids), partners, strict=True)
    ]


def _known(job: Job, alignment: Alignment, answers: list[Answer]) -> list[float]:
    """The reference's log-probabilities; zeros where there is no reference."""
    if alignment.reference is None:
        return [0.0] * len(answers)
    return log_probabilities(job, alignment.reference, answers)


def _observer(job: Job, trainer: Any, alignment: Alignment) -> Any:
    """Checks the first step, and moves the reference."""
    from transformers import TrainerCallback

    class Observer(TrainerCallback):  # type: ignore[misc]  # transformers' types are not read
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if trainer.moving_reference is not None:
                trainer.moving_reference.follow(state.global_step)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if state.global_step == 1 and "loss" in logs and alignment.loss.first is not None:
                check_first_step(logs, job, alignment)

    return Observer()


def check_first_step(logs: Mapping[str, float], job: Job, alignment: Alignment) -> None:
    """CurateError where the first step's loss shows that the reference is a wrong one.

    Before the first update the model is the reference, and the loss a number that is known. Where
    another reference was named, it may be some way off, and the distance is said.
    """
    loss, first = logs["loss"], alignment.loss.first
    assert first is not None and alignment.reference is not None
    if alignment.same:
        if abs(loss - first) > CLOSE[job.bf16] * max(first, 1):
            raise CurateError(
                f"the first step's loss is {loss:.4f}, where it must be {first:.4f}: the "
                f"log-probabilities of the reference are not those of {job.model}; give another "
                "--out, so that they are computed anew"
            )
        return
    tokens = sum(len(row.chosen_ids) + len(row.rejected_ids) for row in job.data.rows)
    length = tokens / (2 * len(job.data.rows))
    rewards = max(abs(logs[f"rewards/{side}"]) for side in ("chosen", "rejected"))
    away = rewards / alignment.loss.beta / length
    if not away <= FAR:
        raise CurateError(
            f"{job.model} and the reference {alignment.reference.model} are {away:.2f} nats a "
            "token apart: the reference must be the model that it was trained from"
        )
    say(f"note: the first step's loss is {loss:.4f}, with the model as its own reference it would "
        f"be {first:.4f}; they are {away:.3f} nats a token apart")  # fmt: skip
