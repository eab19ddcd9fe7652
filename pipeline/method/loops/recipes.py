"""What the published loops differ in, one row each; every setting is an option as well.

self-rewarding: Yuan et al. 2024, arXiv 2401.10020, with the quality tiers of arXiv 2407.19594.
ditto: Shaikh et al. 2024, arXiv 2406.00888. spin: Chen et al. 2024, arXiv 2401.01335.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal

from ...config.improvement import ImproveConfig, RecipeName, ReferenceChoice
from ...config.shared.training import Scheduler

PairKind = Literal["ratings", "demonstrations"]
Mixture = Literal["this", "last two", "comparisons"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRecipe:
    """A loop's settings. `learning_rate` has one value an iteration, the last of which goes on."""

    sft: bool
    """Whether iteration 0 is the model fine-tuned on the demonstrations, or the model as it is."""
    sft_batch_size: int = 16
    sft_learning_rate: float = 5.5e-6
    sft_epochs: float = 3
    sft_loss: float | None = None
    """Fine-tuning stops once a batch's loss is not above this."""
    pairs: PairKind
    """Best over worst rated sample, or demonstration over sample."""
    samples: int
    temperature: float
    top_p: float | None = None
    times: int = 3
    tier: float = 0.0
    reference: ReferenceChoice
    """The model before the first iteration, or before each."""
    trains_on: Mixture
    """This iteration's pairs, those of the one before as well, or DITTO's comparisons of all."""
    iterations: int
    learning_rate: tuple[float, ...]
    beta: float = 0.1
    epochs: float = 1
    max_steps: int | None = None
    """Of an iteration; of DITTO's comparisons it is the number of batches that are drawn."""
    batch_size: int
    scheduler: Scheduler = "linear"
    warmup_ratio: float = 0.1
    warm_once: bool = False
    """The learning rate warms up in the first iteration alone."""
    min_pairs: int = 32

    def rate(self, iteration: int) -> float:
        """The peak learning rate of an iteration, from 1."""
        return self.learning_rate[min(iteration, len(self.learning_rate)) - 1]


RECIPES: dict[RecipeName, LoopRecipe] = {
    "self-rewarding": LoopRecipe(
        sft=True,
        pairs="ratings",
        samples=4,
        temperature=0.7,
        top_p=0.9,
        tier=0.1,
        reference="previous",
        trains_on="this",
        iterations=3,
        learning_rate=(1e-6,),
        batch_size=16,
    ),
    "ditto": LoopRecipe(
        sft=True,
        sft_batch_size=4,
        sft_learning_rate=3e-5,
        sft_epochs=30,
        sft_loss=1.0,
        pairs="demonstrations",
        samples=10,
        temperature=1.0,
        reference="first",
        trains_on="comparisons",
        iterations=4,
        learning_rate=(1e-6,),
        beta=0.05,
        max_steps=10,
        batch_size=24,
        scheduler="constant_with_warmup",
        warmup_ratio=0.25,
        warm_once=True,
        min_pairs=1,
    ),
    "spin": LoopRecipe(
        sft=False,
        pairs="demonstrations",
        samples=1,
        temperature=1.0,
        reference="previous",
        trains_on="last two",
        iterations=3,
        learning_rate=(5e-7, 5e-7, 1e-7),
        epochs=2,
        batch_size=64,
    ),
}


def recipe_of(config: ImproveConfig) -> LoopRecipe:
    """The recipe of that name with the options that are given in place of its own settings."""
    names = [field.name for field in fields(LoopRecipe) if hasattr(config, field.name)]
    given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    recipe = replace(RECIPES[config.recipe], **given)
    return replace(recipe, sft=False) if config.no_sft else recipe
