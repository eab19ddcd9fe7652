"""Trains a causal LM on token rows, with TRL's trainers; the only home of that library."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ..config.shared.training import Recipe
from ..errors import CurateError
from ..models.loading import load_causal_lm, load_config, load_tokenizer
from .folder.checkpoints import STAGED, disk_errors, last_complete, publish_checkpoint
from .held_out import held_out_meter, observer
from .job import Job, Training
from .launch import memory_advice, trackers
from .packing_probe import check_rows_apart
from .row_order import EvenOrder
from .rows import IGNORED


def train(job: Job, training: Training, build: Callable[[Job], Any]) -> Any:
    """The trainer that `build` makes, after training, from the last whole checkpoint if any."""
    checkpoint = last_complete(job.checkpoints)
    with memory_advice(job.recipe):
        trainer = prepared(job, training, build)
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


def prepared(job: Job, training: Training, build: Callable[[Job], Any]) -> Any:
    """The trainer before training, with all that it reports to."""
    from transformers import PrinterCallback
    from transformers.integrations import TensorBoardCallback

    trainer = build(job)
    trainer.remove_callback(PrinterCallback)  # it prints on stdout
    trainer.add_callback(observer(job, held_out_meter(job, trainer, training), training))
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(job.out / "tensorboard")
    return trainer


def sft_trainer(job: Job) -> Any:
    """TRL's SFTTrainer on rows that are tokenised and labelled already, so that it alters none."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer, pack_dataset

    recipe = job.recipe
    rows = Dataset.from_list(
        [{"input_ids": row.input_ids, "labels": row.labels} for row in job.data.rows]
    )
    if recipe.packing:
        rows = pack_dataset(rows, recipe.row_tokens, "bfd")
    args = SFTConfig(
        **shared_arguments(job, rows=len(rows), records=len(job.data.rows)),
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=recipe.row_tokens if recipe.packing else None,  # rows are cut already
        packing=recipe.packing,
        padding_free=recipe.padding_free,
    )
    rows, order = _shared_evenly(job, rows, args.per_device_train_batch_size)
    trainer = curate_trainer(SFTTrainer, job, order)(
        model=trainable(job),
        args=one_gpu(args),
        train_dataset=rows,
        processing_class=padding_tokenizer(job),
        peft_config=lora_config(recipe),
    )
    if (recipe.packing or recipe.padding_free) and not recipe.deepspeed:
        check_rows_apart(trainer, job.data.rows)
    return trainer


def preference_classes(*, unpaired: bool) -> tuple[Any, Any]:
    """TRL's trainer on pairs, or on answers with a label, and the class of its arguments."""
    if not unpaired:
        from trl import DPOConfig, DPOTrainer

        return DPOTrainer, DPOConfig
    from trl import KTOConfig, KTOTrainer

    return KTOTrainer, partial(KTOConfig, train_sampling_strategy="sequential")


def curate_trainer(base: Any, job: Job, order: Iterable[int] | None) -> Any:
    """A trainer of TRL whose checkpoints appear whole or not at all, and which reports to nobody.

    `order` is that of an epoch's rows, None for the trainer's own.
    """

    class Trainer(_with_whole_checkpoints(base, job)):  # type: ignore[misc]  # trl has no types
        def _send_telemetry(self) -> None:
            pass

        def create_model_card(self, *_: Any, **__: Any) -> None:
            pass

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return order or super()._get_train_sampler(train_dataset)

        def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
            # Taken up at its last step in the middle of an epoch, it would do one step more.
            if self.state.global_step < self.state.max_steps:
                super()._run_epoch(*args, **kwargs)

    return Trainer


def _with_whole_checkpoints(base: Any, job: Job) -> Any:
    class Trainer(base):  # type: ignore[misc]  # trl has no types
        def _get_output_dir(self, trial: Any) -> str:
            return str(job.checkpoints / STAGED)

        def _complete_checkpoint(self, folder: Path) -> None:
            """Put what else it takes to go on into a checkpoint."""

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            staged = job.checkpoints / STAGED / f"checkpoint-{self.state.global_step}"
            with disk_errors(job.out):
                super()._save_checkpoint(model, trial)
                job.state.wait_for_everyone()
                if job.state.is_main_process:
                    self._complete_checkpoint(staged)
            if job.state.is_main_process:
                publish_checkpoint(staged, job.checkpoints)
            job.state.wait_for_everyone()

    return Trainer


def trainable(job: Job) -> Any:
    """The model, on its device unless it is to be sharded.

    Weights that are trained are float32, whatever the arithmetic: bf16 loses small updates.
    """
    recipe = job.recipe
    return load_causal_lm(
        job.model,
        job.revision,
        dtype="bfloat16" if recipe.lora_r and job.bf16 else "float32",
        device=None if recipe.fsdp or recipe.deepspeed else job.state.device,
    )


def padding_tokenizer(job: Job) -> Any:
    """The tokenizer, whose token to pad with is one that the model has an embedding of."""
    tokenizer = load_tokenizer(job.model, job.revision)
    size = load_config(job.model, job.revision).get_text_config().vocab_size
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= size:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(job.serving.end[-1])
    return tokenizer


def lora_config(recipe: Recipe) -> Any:
    """Adapters on every linear layer but the head; None where all weights are trained."""
    if not recipe.lora_r:
        return None
    try:
        from peft import LoraConfig
    except ImportError:
        raise CurateError("LoRA needs peft: pip install 'curate-reflection[lora]'") from None
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
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


def shared_arguments(job: Job, *, rows: int, records: int, even: bool = False) -> dict[str, Any]:
    """The arguments of any of TRL's trainers; `rows` are those of its data set.

    `even`: a forward pass takes an even number of rows.
    """
    recipe = job.recipe
    per_device, accumulation = _batch(recipe, rows, records, job.state.num_processes, even=even)
    return {
        "output_dir": str(job.out),
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.scheduler,
        "warmup_steps": recipe.warmup_ratio,  # below 1 it is a part of all steps
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": job.bf16,
        "use_cpu": job.cpu,
        "gradient_checkpointing": recipe.gradient_checkpointing and not recipe.fsdp,
        "save_strategy": "steps" if recipe.save_steps else "epoch",
        "save_steps": recipe.save_steps or 0,
        "save_total_limit": None,  # `publish_checkpoint` removes old ones
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide a loss that is no number
        "report_to": trackers(recipe.report_to),
        "ddp_find_unused_parameters": False,  # there are none
        "fsdp": recipe.fsdp,
        "fsdp_config": {"activation_checkpointing": recipe.gradient_checkpointing},
        "deepspeed": recipe.deepspeed,
        "log_level": "error",
        "log_level_replica": "error",
        "disable_tqdm": True,
    }


def one_gpu(args: Any) -> Any:
    """The arguments for a process that drives one GPU; TRL refuses the DataParallel of several."""
    if args.n_gpu > 1:
        args._n_gpu = 1
    return args


def _batch(
    recipe: Recipe, rows: int, records: int, processes: int, *, even: bool
) -> tuple[int, int]:
    """Rows of a device's forward pass, and passes a step.

    A packed row counts as the records in it on average, so that packing changes speed, not recipe.
    """
    batch, limit = recipe.batch_size, recipe.per_device_batch_size
    if recipe.packing:
        batch = max(round(batch * rows / records / processes), 1) * processes
    share, rest = divmod(batch, processes)
    if rest:
        raise CurateError(f"a batch of {batch} cannot be shared equally by {processes} processes")
    sizes = [n for n in range(1, min(share, limit) + 1) if not (share % n or (even and n % 2))]
    if not sizes:
        raise CurateError(
            f"a batch of {batch} on {processes} processes, at most {limit} rows at once on each, "
            "cannot be taken two rows at a time, a good and a bad one: raise --batch-size or "
            "--per-device-batch-size"
        )
    return sizes[-1], share // sizes[-1]
