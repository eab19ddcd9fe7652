"""`curate compare`."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..base.processes.ranks import are_several
from ..errors import UsageError
from .answers import JUDGE_TOKENS
from .options.fields import check_fields, embedded, option
from .shared.inputs import run_argument, selections_option
from .shared.models import ModelConfig, asked_model
from .shared.training import LARGEST_SEED, FinetuneConfig

SetName = Literal[
    "selected", "random", "length", "candidates", "all", "sft-chosen", "dpo", "cpo", "dpo-length"
]  # fmt: skip
PAIR_SETS: tuple[SetName, ...] = ("sft-chosen", "dpo", "cpo", "dpo-length")
"""What is trained on preference pairs."""
SETS: tuple[SetName, ...] = tuple(name for name in get_args(SetName) if name not in PAIR_SETS)
BASELINE: SetName = "random"
"""What the other sets are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwiseConfig:
    """Who judges, and what the trained models are asked; the judge has limits of its own."""

    judge: ModelConfig = asked_model(
        "Judge",
        "judge",
        default={"max_tokens": JUDGE_TOKENS},
        rename={"seed": "judge_seed"},
        without=("prompts",),
    )
    questions: str | None = option(
        None,
        name="judge_questions",
        help="What they are asked: data with instructions [default: the held-out records'].",
        place="in",
    )
    max_tokens: int = option(
        1024, name="answer_max_tokens", help="At most so many new tokens an answer.", min=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTrainingConfig:
    """Preference pairs, and what their trainings have otherwise than fine-tuning."""

    data: str = option(
        name="pairs",
        help="Preference pairs to compare as well, as `curate align` takes them.",
        place="in",
    )
    beta: float | None = option(None, help="Beta of dpo and cpo [default: 0.1].", above=0)
    learning_rate: float | None = option(
        None,
        name="pairs_learning_rate",
        help="Peak learning rate of dpo and cpo [default: the preset's of `curate align`].",
        above=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareConfig:
    """`curate compare`: `finetuning.out` holds a folder for each set and seed."""

    run: str = run_argument()
    finetuning: FinetuneConfig = embedded(
        "Options",
        help={"out": "A folder for the trained models and compare.json."},
        without=("input", "selection", "seed", "stop_loss", "push_to_hub"),
    )
    selection: tuple[str, ...] = selections_option(
        "Which selections of a run with several; the first sets the steps and the baselines' size"
    )
    sets: tuple[SetName, ...] = option(
        SETS,
        help="What to train on, all for as many steps: the selection, as many random originals, "
        "originals of like length or random candidates, all originals. With --pairs also their "
        "chosen answers (sft-chosen), the pairs (dpo, cpo), and the same pairs with the longer "
        "answer chosen (dpo-length): all four where none is named.",
    )
    seeds: tuple[int, ...] = option(
        (0, 1, 2), help="A training of each set for each of these.", min=0, max=LARGEST_SEED
    )
    pairs: PairTrainingConfig | None = embedded("Preference pairs", needs=("pairs",))
    pairwise: PairwiseConfig | None = embedded("Judge", needs=("judge", "replies"))
    """Have the answers of the first seed's models judged, too."""

    def __post_init__(self) -> None:
        check_fields(self)
        of_pairs = [name for name in self.sets if name in PAIR_SETS]
        if self.pairs is None and of_pairs:
            raise UsageError(f"--sets {of_pairs[0]} needs preference pairs: give --pairs")
        if self.pairs is not None and self.sets and not of_pairs:
            object.__setattr__(self, "sets", (*self.sets, *PAIR_SETS))
        for name, given in (("--sets", self.sets), ("--seeds", self.seeds)):
            if not given or len(set(given)) < len(given):
                raise UsageError(f"{name} takes distinct values, separated by commas")
        if self.pairwise is not None:
            _check_pairwise(self.pairwise, self.sets)


def _check_pairwise(config: PairwiseConfig, sets: tuple[SetName, ...]) -> None:
    if BASELINE not in sets or len(sets) < 2:
        raise UsageError(f"--judge sets the others against `{BASELINE}`: --sets must have both")
    if config.judge.replies is not None and len(sets) > 2:
        raise UsageError(
            "--replies are told apart by the question alone, so they judge one set: take "
            f"--sets selected,{BASELINE}"
        )
    if are_several():
        raise UsageError(
            "--judge works in one process: train with torchrun first, then give the same command "
            "without it and with --judge; finished trainings are not done again"
        )
