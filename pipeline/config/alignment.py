"""`curate align`: the loss, its reference, and the training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from ..errors import UsageError
from .options.fields import check_fields, embedded, flag_of, option
from .shared.inputs import out_option, push_option
from .shared.scoring import check_template
from .shared.training import PRESETS, Preset, Recipe

LossName = Literal["dpo", "dpo-norm", "ipo", "hinge", "cpo", "slic", "kto"]
ReferenceUpdate = Literal["none", "soft", "hard"]
LOSSES: tuple[LossName, ...] = get_args(LossName)
REFERENCE_FREE: tuple[LossName, ...] = ("cpo", "slic")
BETAS: dict[LossName, float] = {"dpo-norm": 5.0, "hinge": 0.05}
"""The default of --beta where it is not 0.1."""
_LOSSES_OF: dict[str, tuple[LossName, ...]] = {
    "beta": tuple(name for name in LOSSES if name != "slic"),
    "nll_weight": ("dpo", "cpo", "slic"),
    "delta": ("slic",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
    "label_smoothing": ("dpo",),
    "reference": tuple(name for name in LOSSES if name not in REFERENCE_FREE),
}
_PREFERENCE = {"epochs": 1, "learning_rate": 5e-7, "warmup_ratio": 0.1, "batch_size": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceRecipe(Recipe):
    """The settings of a preference training: as for fine-tuning, with other defaults."""

    presets: ClassVar[Mapping[Preset, Mapping[str, Any]]] = {
        "paper-7b": _PREFERENCE,
        "paper-13b": _PREFERENCE,
        "lora": {**_PREFERENCE, "learning_rate": 5e-6, "lora_r": 16},
        "demo": {**PRESETS["demo"], "epochs": 2, "learning_rate": 5e-5, "warmup_ratio": 0.1},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignConfig:
    """`curate align`."""

    pairs: str = option(
        help="A folder by `curate pairs`, or any data with the columns prompt, chosen, rejected.",
        argument=True,
        place="in",
    )
    model: str = option(help="The model to train: a folder or a hub id.")
    out: Path = out_option(help="The folder of the trained model.")
    loss: LossName = option(
        "dpo", help="The loss: cpo and slic have no reference; kto takes each answer by itself."
    )
    beta: float | None = option(
        None,
        help="Strength of the tie to the reference; of ipo its tau, of hinge its gamma "
        "[default: 0.1; dpo-norm 5, hinge 0.05].",
        above=0,
    )
    nll_weight: float | None = option(
        None, help="Weight of the chosen answer's NLL [default: dpo 0, cpo 1, slic 0.1].", min=0
    )
    delta: float | None = option(
        None, help="Of slic: the margin in nats of whole answers [default: 1].", above=0
    )
    desirable_weight: float | None = option(
        None, help="Of kto: weight of the chosen answers [default: 1].", above=0
    )
    undesirable_weight: float | None = option(
        None, help="Of kto: weight of the rejected answers [default: 1].", above=0
    )
    label_smoothing: float | None = option(
        None, help="Of dpo: the part of pairs that are taken to be the wrong way round.", min=0
    )
    reference: str | None = option(None, help="The reference [default: the model].")
    reference_update: ReferenceUpdate = option(
        "none",
        help="Whether the reference moves (TR-DPO): soft after each step, hard every so many.",
    )
    alpha: float | None = option(
        None, help="Of soft: the part of the way to the model [default: 0.6].", above=0, max=1
    )
    every: int | None = option(None, help="Of hard: steps between updates [default: 512].", min=1)
    revision: str | None = option(
        None, name="model_revision", help="The model's revision on the hub."
    )
    template: str | None = option(
        None, help="The prompt template [default: the one the model was trained with, else auto]."
    )
    push_to_hub: str | None = push_option("model repository")
    training: PreferenceRecipe = embedded(
        "Training",
        # TRL packs no pairs, and switches dropout off, as the reference has none.
        without=("packing", "padding_free", "held_out", "lora_dropout", "loss_on", "stop_loss"),
    )
    shuffle: bool | None = option(
        None, help="Take the pairs in a random order, or as they stand [default: random]."
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_template(self.template)
        for name, losses in _LOSSES_OF.items():
            if getattr(self, name) is not None and self.loss not in losses:
                raise UsageError(
                    f"{flag_of(name)} is for --loss {', '.join(losses)}, not {self.loss}"
                )
        for name, update in (("alpha", "soft"), ("every", "hard")):
            if getattr(self, name) is not None and self.reference_update != update:
                raise UsageError(f"{flag_of(name)} is for --reference-update {update}")
        if (self.label_smoothing or 0) >= 0.5:
            raise UsageError(f"--label-smoothing must be below 0.5, not {self.label_smoothing}")
        if self.reference_update != "none":
            self._check_moving()

    def _check_moving(self) -> None:
        """UsageError for a reference that cannot move."""
        moving, recipe = f"--reference-update {self.reference_update}", self.training
        if self.loss in REFERENCE_FREE:
            raise UsageError(f"{moving}: --loss {self.loss} has no reference that could move")
        if recipe.fsdp or recipe.deepspeed:
            raise UsageError(f"{moving} does not go with --fsdp and --deepspeed")
        if recipe.lora_r and self.reference is not None:
            raise UsageError(
                f"{moving} of a LoRA training begins at the model: leave --reference out"
            )

    @property
    def trust_region(self) -> tuple[float, int] | None:
        """(alpha, every): reference <- (1 - alpha) reference + alpha model; None: it stays."""
        if self.reference_update == "none":
            return None
        if self.reference_update == "soft":
            return 0.6 if self.alpha is None else self.alpha, 1
        return 1.0, self.every or 512
