"""`curate finetune`: the settings of a training, and the presets."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

from ..errors import UsageError

Preset = Literal["paper-7b", "paper-13b", "lora", "demo"]
Scheduler = Literal["cosine", "linear", "constant", "constant_with_warmup"]
Precision = Literal["auto", "bf16", "float32"]
Overlong = Literal["cut", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every setting of a training; the defaults are the paper's for 7B (METHOD.md section 4)."""

    epochs: float = 3
    max_steps: int | None = None  # in place of epochs
    learning_rate: float = 2e-5
    scheduler: Scheduler = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    batch_size: int = 128  # records a step, all devices together
    per_device_batch_size: int = 4  # at most; gradients are accumulated up to batch_size
    max_length: int = 2048  # tokens of a row; the model's context where that is shorter
    overlong: Overlong = "cut"
    held_out: float = 0  # below 1 a fraction, else a number of rows; the paper trained on all
    seed: int = 0
    packing: bool = False  # several rows share one of max_length tokens, and do not see each other
    padding_free: bool = False  # the rows of a batch in one line, without padding; same numbers
    gradient_checkpointing: bool = True
    precision: Precision = "auto"  # of the arithmetic: bf16 on a GPU that has it
    device: Literal["auto", "cpu"] = "auto"
    lora_r: int = 0  # 0 trains all weights
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    fsdp: bool = False  # weights, gradients and optimiser are split over the processes
    deepspeed: str | None = None  # a DeepSpeed configuration file
    save_steps: int | None = None  # steps between checkpoints; None: each epoch
    keep_checkpoints: bool = False  # after the end; they are several times the model's size
    report_to: str = "none"  # trackers of transformers, separated by commas


PRESETS: dict[Preset, Recipe] = {
    "paper-7b": Recipe(),
    "paper-13b": Recipe(learning_rate=1e-5),  # Cherry LLM V2 took 5 epochs at 13B
    "lora": Recipe(learning_rate=2e-4, lora_r=16),
    "demo": Recipe(
        epochs=2,
        learning_rate=5e-4,
        batch_size=8,
        per_device_batch_size=8,
        max_length=512,
        held_out=0.1,
        gradient_checkpointing=False,
        device="cpu",
    ),
}
# What may differ when a run is taken up again: none of it changes what is being computed.
FREE = (
    "per_device_batch_size",
    "gradient_checkpointing",
    "padding_free",
    "device",
    "precision",  # what came of it, `bf16`, may not
    "save_steps",
    "keep_checkpoints",
    "report_to",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig:
    """`curate finetune`: each setting that is None is the preset's. See `Recipe`."""

    model: str
    out: Path
    revision: str | None = None
    template: str | None = None
    """None: the one that the run was scored with, else `auto`."""
    held_out_data: str | None = None
    """A data set to measure the loss on, in place of `held_out`."""
    preset: Preset = "paper-7b"
    epochs: float | None = None
    max_steps: int | None = None
    learning_rate: float | None = None
    scheduler: Scheduler | None = None
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    batch_size: int | None = None
    per_device_batch_size: int | None = None
    max_length: int | None = None
    overlong: Overlong | None = None
    held_out: float | None = None
    seed: int | None = None
    packing: bool | None = None
    padding_free: bool | None = None
    gradient_checkpointing: bool | None = None
    precision: Precision | None = None
    device: Literal["auto", "cpu"] | None = None
    lora_r: int | None = None
    lora_alpha: int | None = None
    lora_dropout: float | None = None
    fsdp: bool | None = None
    deepspeed: str | None = None
    save_steps: int | None = None
    keep_checkpoints: bool | None = None
    report_to: str | None = None

    def recipe(self) -> Recipe:
        """The preset with this config's own settings in place. UsageError for one out of range."""
        own = {f.name: getattr(self, f.name) for f in fields(Recipe)}
        recipe = replace(PRESETS[self.preset], **{k: v for k, v in own.items() if v is not None})
        for name in (
            "epochs",
            "learning_rate",
            "batch_size",
            "per_device_batch_size",
            "max_length",
        ):
            if not getattr(recipe, name) > 0:
                raise UsageError(f"{name} must be above 0, not {getattr(recipe, name)}")
        if not 0 <= recipe.warmup_ratio < 1:
            raise UsageError(f"warmup_ratio is a part of all steps, not {recipe.warmup_ratio}")
        if recipe.held_out < 0:
            raise UsageError(f"held_out cannot be negative: {recipe.held_out}")
        return recipe
