"""Trains a causal LM on token rows, with TRL's trainer; the only home of that library."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ..config.training import Recipe
from ..errors import CurateError
from ..models.loading import load_causal_lm, load_tokenizer
from .checkpoints import CHECKPOINTS, STAGED, last_complete, publish_checkpoint, refusals_told
from .launch import fixable_errors, trackers
from .loss_curve import HELD_OUT
from .row_order import EvenOrder
from .rows import IGNORED, TrainingData, response_loss
from .saving import lora_config


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneProgress:
    """One optimiser step, as it is done."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float


Report = Callable[[FinetuneProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained on what, and how."""

    model: str
    revision: str | None
    recipe: Recipe
    data: TrainingData
    out: Path
    state: Any  # accelerate's PartialState: which process this is of how many
    bf16: bool
    cpu: bool

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints, which are whole or not there."""
        return self.out / CHECKPOINTS


@dataclass(slots=True, kw_only=True)
class Training:
    """What is learnt while it runs: losses in nats, tokens and seconds of this session."""

    report: Report
    resumed_from: int | None = None
    held_out_before: float | None = None
    held_out_after: float | None = None
    tokens: float = 0
    started: float = 0
    seconds: float = 0


def train(job: Job, training: Training) -> Any:
    """The trainer after training, from the last whole checkpoint if there is one."""
    checkpoint = last_complete(job.checkpoints)
    with fixable_errors(job.recipe):
        trainer = prepared(job, training)
        if checkpoint is None:
            trainer.train()
        else:
            training.resumed_from = int(checkpoint.name.rpartition("-")[2])
            _resume(trainer, checkpoint)
    return trainer


def _resume(trainer: Any, checkpoint: Path) -> None:
    """Go on from a checkpoint, whose files torch reads without running what they hold."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    except UnpicklingError as error:
        said = str(error).partition("\n")[0][:200]
        raise CurateError(
            f"the checkpoint {checkpoint} is damaged or holds more than numbers ({said}): remove it"
        ) from None


def prepared(job: Job, training: Training) -> Any:
    """The trainer before training, with all that it reports to."""
    from transformers import PrinterCallback
    from transformers.integrations import TensorBoardCallback

    trainer = _trainer(job)
    trainer.remove_callback(PrinterCallback)  # it prints on stdout
    trainer.add_callback(_observer(job, _meter(job, trainer, training), training))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(job.out / "tensorboard")
    return trainer


def _trainer(job: Job) -> Any:
    """TRL's trainer on rows that are tokenised and labelled already, so that it alters none."""
    from datasets import Dataset
    from trl import SFTTrainer, pack_dataset

    recipe, lora = job.recipe, job.recipe.lora_r > 0

    class Trainer(SFTTrainer):  # type: ignore[misc]  # trl has no types
        """Checkpoints appear whole or not at all; nobody is told that we train."""

        def _send_telemetry(self) -> None:
            pass

        def create_model_card(self, *_: Any, **__: Any) -> None:
            pass

        def _get_output_dir(self, trial: Any) -> str:
            return str(job.checkpoints / STAGED)

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return order or super()._get_train_sampler(train_dataset)

        def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
            # Taken up at its last step in the middle of an epoch, it would do one step more.
            if self.state.global_step < self.state.max_steps:
                super()._run_epoch(*args, **kwargs)

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            with refusals_told(job.out):
                super()._save_checkpoint(model, trial)
            job.state.wait_for_everyone()
            if job.state.is_main_process:
                name = f"checkpoint-{self.state.global_step}"
                publish_checkpoint(job.checkpoints / STAGED / name, job.checkpoints)
            job.state.wait_for_everyone()

    rows = Dataset.from_list(
        [{"input_ids": row.input_ids, "labels": row.labels} for row in job.data.rows]
    )
    if recipe.packing:
        rows = pack_dataset(rows, recipe.row_tokens, "bfd")
    args = _arguments(job, len(rows))
    rows, order = _shared_evenly(job, rows, args.per_device_train_batch_size)
    return Trainer(
        # Weights that are trained are float32, whatever the arithmetic: bf16 loses small updates.
        model=load_causal_lm(
            job.model, job.revision, dtype="bfloat16" if lora and job.bf16 else "float32"
        ),
        args=args,
        train_dataset=rows,
        processing_class=load_tokenizer(job.model, job.revision),
        peft_config=lora_config(recipe.lora_r, recipe.lora_alpha, recipe.lora_dropout)
        if lora
        else None,
    )


def _shared_evenly(job: Job, rows: Any, per_device: int) -> tuple[Any, EvenOrder | None]:
    """For several processes: the rows with a filler behind them, and their order."""
    from datasets import concatenate_datasets

    if job.state.num_processes == 1:
        return rows, None
    filler = rows.select([0]).map(
        lambda row: {"labels": [IGNORED] * len(row["labels"])}, load_from_cache_file=False
    )
    share = per_device * job.state.num_processes
    order = EvenOrder(len(rows), round_of=share, seed=job.recipe.seed)
    return concatenate_datasets([rows, filler]), order


def _arguments(job: Job, rows: int) -> Any:
    from trl import SFTConfig

    recipe = job.recipe
    per_device, accumulation = _batch(recipe, rows, len(job.data.rows), job.state.num_processes)
    args = SFTConfig(
        output_dir=str(job.out),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps or -1,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup_ratio,  # below 1 it is a part of all steps
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=job.bf16,
        use_cpu=job.cpu,
        gradient_checkpointing=recipe.gradient_checkpointing and not recipe.fsdp,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=recipe.row_tokens if recipe.packing else None,  # rows are cut already
        packing=recipe.packing,
        padding_free=recipe.padding_free,
        save_strategy="steps" if recipe.save_steps else "epoch",
        save_steps=recipe.save_steps or 0,
        save_total_limit=None,  # `publish_checkpoint` removes old ones
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would hide a loss that is no number
        report_to=trackers(recipe.report_to),
        ddp_find_unused_parameters=False,  # there are none
        fsdp=recipe.fsdp,
        fsdp_config={"activation_checkpointing": recipe.gradient_checkpointing},
        deepspeed=recipe.deepspeed,
        log_level="error",
        log_level_replica="error",
        disable_tqdm=True,
    )
    if args.n_gpu > 1:  # one process drives one GPU; TRL refuses the DataParallel of several
        args._n_gpu = 1
    return args


def _batch(recipe: Recipe, rows: int, records: int, processes: int) -> tuple[int, int]:
    """Rows of a device's forward pass, and passes a step.

    A packed row counts as the records in it on average, so that packing changes speed, not recipe.
    """
    batch, limit = recipe.batch_size, recipe.per_device_batch_size
    if recipe.packing:
        batch = max(round(batch * rows / records / processes), 1) * processes
    share, rest = divmod(batch, processes)
    if rest:
        raise CurateError(f"a batch of {batch} cannot be shared equally by {processes} processes")
    size = max(n for n in range(1, min(share, limit) + 1) if share % n == 0)
    return size, share // size


def _meter(job: Job, trainer: Any, training: Training) -> Callable[[], float | None]:
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


def _observer(job: Job, measured: Callable[[], float | None], training: Training) -> Any:
    """Measures before, at each checkpoint and at the end; times training, and reports each step."""
    from transformers import TrainerCallback

    class Observer(TrainerCallback):  # type: ignore[misc]  # transformers' types are not read
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 0:
                measured()
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
            if control.should_save or state.global_step >= state.max_steps:
                measured()  # before the checkpoint, so that it knows

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if control.should_save:
                measured()

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            training.held_out_after = measured()
            training.seconds = time.monotonic() - training.started

    return Observer()


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise CurateError(f"the loss is {loss} at step {step}: lower --learning-rate")


def _progress(state: Any, logs: Mapping[str, float], seconds: float) -> FinetuneProgress:
    return FinetuneProgress(
        step=state.global_step,
        steps=state.max_steps,
        loss=logs["loss"],
        learning_rate=logs["learning_rate"],
        tokens_per_second=logs["num_tokens"] / max(seconds, 1e-9),
    )
