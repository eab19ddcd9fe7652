"""`curate finetune`: the settings of a training, and the presets."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...errors import UsageError
from ..options.fields import check_fields, embedded, option
from .inputs import InputConfig, out_option, push_option, selection_option
from .scoring import check_template

Preset = Literal["paper-7b", "paper-13b", "lora", "demo"]
Scheduler = Literal["cosine", "linear", "constant", "constant_with_warmup"]
Precision = Literal["auto", "bf16", "float32"]
Overlong = Literal["cut", "drop"]
LossOn = Literal["last", "all"]

PRESETS: dict[Preset, dict[str, Any]] = {
    "paper-7b": {},
    "paper-13b": {"learning_rate": 1e-5},  # Cherry LLM V2 took 5 epochs at 13B
    "lora": {"learning_rate": 2e-4, "lora_r": 16},
    "demo": {
        "epochs": 2,
        "learning_rate": 5e-4,
        "batch_size": 8,
        "per_device_batch_size": 8,
        "max_length": 512,
        "held_out": 0.1,
        "gradient_checkpointing": False,
        "device": "cpu",
    },
}
"""What each preset has otherwise than the paper's recipe for 7B."""
# What may differ when a run is taken up again: none of it changes what is being computed.
FREE = (
    "preset",
    "per_device_batch_size",
    "gradient_checkpointing",
    "padding_free",
    "device",
    "precision",  # what came of it, `bf16`, may not
    "save_steps",
    "keep_checkpoints",
    "report_to",
)


LARGEST_SEED = 2**32 - 1  # NumPy's


def _setting(paper: Any = None, **more: Any) -> Any:
    """A setting that is the preset's where it is not given, else the paper's for 7B."""
    return option(None, preset=paper, title="Training", **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Every setting of a training. One that is given as None has the preset's value."""

    presets: ClassVar[Mapping[Preset, Mapping[str, Any]]] = PRESETS
    preset: Preset = option("paper-7b", help="The values of settings not given.", title="Training")
    epochs: float = _setting(3, help="Passes over the data.", above=0)
    max_steps: int | None = _setting(help="Steps, in place of epochs.", min=1)
    learning_rate: float = _setting(2e-5, help="Peak learning rate.", above=0)
    stop_loss: float | None = _setting(
        help="Stop after the first step whose loss is not above this.", above=0
    )
    scheduler: Scheduler = _setting("cosine", help="The course of the learning rate.")
    warmup_ratio: float = _setting(0.03, help="The part of all steps that warms up.", min=0)
    weight_decay: float = _setting(0.0, help="AdamW's weight decay.", min=0)
    max_grad_norm: float = _setting(1.0, help="Gradients are clipped to this norm.", min=0)
    batch_size: int = _setting(128, help="Records a step, on all devices together.", min=1)
    per_device_batch_size: int = _setting(
        4, help="Records at once on a device, at most; gradients are accumulated.", min=1
    )
    max_length: int | None = _setting(
        help="Tokens of a row [default: the preset's, or the model's context where shorter].", min=1
    )
    overlong: Overlong = _setting("cut", help="Longer rows are cut or dropped.")
    loss_on: LossOn = _setting("last", help="Of a conversation: its last answer, or all of them.")
    held_out: float = _setting(
        0.0, help="Rows kept out to measure the loss: a part of all, or a number.", min=0
    )
    seed: int = _setting(0, help="Of the order of the rows and the split.", min=0, max=LARGEST_SEED)
    packing: bool = _setting(False, help="Several rows in one, which do not see each other.")
    padding_free: bool = _setting(False, help="Batches without padding; same numbers.")
    gradient_checkpointing: bool = _setting(True, help="Less memory for about a third more time.")
    precision: Precision = _setting(
        "auto", help="Of the arithmetic; auto: bf16 on a GPU that has it."
    )
    device: Literal["auto", "cpu"] = _setting("auto", help="Where to train.")
    lora_r: int = _setting(
        0,
        help="Rank of the LoRA adapter, with the learning rate of --preset lora where none is "
        "given; 0 trains all weights.",
        min=0,
    )
    lora_alpha: int = _setting(32, help="LoRA's alpha.", min=1)
    lora_dropout: float = _setting(0.0, help="LoRA's dropout.", min=0, max=1)
    fsdp: bool = _setting(
        False, help="Split weights and optimiser over the processes that torchrun started."
    )
    deepspeed: str | None = _setting(help="A DeepSpeed configuration, with its numbers as `auto`.")
    save_steps: int | None = _setting(help="Steps between checkpoints [default: an epoch].", min=1)
    keep_checkpoints: bool = _setting(False, help="Keep checkpoints after the end.")
    report_to: str = _setting("none", help="Trackers of transformers, such as tensorboard.")

    def __post_init__(self) -> None:
        others = dict(self.presets.get(self.preset, {}))
        if self.lora_r and self.preset != "demo":
            others["learning_rate"] = self.presets["lora"]["learning_rate"]
        for found in fields(self):
            paper = found.metadata.get("preset")
            if paper is not None and getattr(self, found.name) is None:
                object.__setattr__(self, found.name, others.get(found.name, paper))
        check_fields(self)
        if not self.warmup_ratio < 1:
            raise UsageError(f"--warmup-ratio is a part of all steps, not {self.warmup_ratio}")

    @property
    def row_tokens(self) -> int:
        """Tokens of a row, at most: `max_length`, else the preset's."""
        return self.max_length or self.presets[self.preset].get("max_length", 2048)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneConfig(Recipe):
    """`curate finetune`."""

    model: str = option(help="The model to train: a folder or a hub id.")
    out: Path = out_option(help="The folder of the trained model.")
    input: InputConfig | None = embedded("Input", optional=True)
    selection: str | None = selection_option()
    revision: str | None = option(
        None, name="model_revision", help="The model's revision on the hub."
    )
    template: str | None = option(None, help="The prompt template [default: the run's, else auto].")
    held_out_data: str | None = option(
        None, help="A data set to measure the loss on, in place of --held-out.", place="in"
    )
    push_to_hub: str | None = push_option("model repository")

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        check_template(self.template)

    def recipe(self) -> Recipe:
        """The settings alone."""
        return Recipe(**{found.name: getattr(self, found.name) for found in fields(Recipe)})
