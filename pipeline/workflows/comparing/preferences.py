"""A comparison's preference pairs: trainings on them, and what all models make of held-out ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from ...base.tables import aligned
from ...config.alignment import AlignConfig, LossName, PreferenceRecipe
from ...config.comparison import PairTrainingConfig
from ...config.shared.training import FinetuneConfig, Recipe
from ...method.statistics.intervals import Interval, t_interval
from ...stages.aligning import align_pairs, pair_job
from ...training.folder.loss_curve import Curve, read_curve
from ...training.folder.publication import TrainingResult
from ...training.job import Job
from ...training.launch import without_library_output
from ...training.preference.reference import Reference, log_probabilities
from ...training.preparation import RecordSource
from ...training.rows import Record
from .training_sets import PairPool, longer_chosen

Trained = Mapping[tuple[str, int], TrainingResult]
Values = npt.NDArray[np.float64]
"""Log-probabilities of the chosen and the rejected answers, in nats [pairs, 2]."""
LOSSES: dict[str, LossName] = {"dpo": "dpo", "cpo": "cpo", "dpo-length": "dpo"}
BY_LENGTH = "dpo-length"
"""What the others are compared with."""
# What fine-tuning has of its own: these losses need another learning rate, and TRL packs no pairs.
_OF_FINETUNING = {
    "epochs", "learning_rate", "warmup_ratio", "packing", "padding_free", "held_out",
    "lora_dropout", "loss_on",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMeasures:
    """Of held-out pairs under models of several seeds.

    With c, r the log-probabilities of the chosen and the rejected answer (nats, the end included),
    c0, r0 those before training, D = (c - c0) - (r - r0): the parts of pairs with c > r and with
    D > 0, and the means of D, c and r.
    """

    ranking_accuracy: Interval
    reward_accuracy: Interval
    margin: Interval
    chosen_log_probability: Interval
    rejected_log_probability: Interval
    difference: Interval | None
    """Of the reward accuracy, from that of `dpo-length` with the same seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairComparison:
    """What was trained on and measured, with the mean curves of the trainings on pairs."""

    pairs: str
    rows: int
    chosen_longer: int
    held_out_rows: int
    learning_rate: float
    untrained: dict[str, float]
    sets: dict[str, PairMeasures]
    curves: dict[str, Curve]


def _align_config(
    config: FinetuneConfig, options: PairTrainingConfig, loss: LossName
) -> AlignConfig:
    """The settings of fine-tuning, but for what a preference training has otherwise."""
    names = {found.name for found in fields(Recipe)} - _OF_FINETUNING
    settings: dict[str, Any] = {name: getattr(config, name) for name in names}
    settings["learning_rate"] = options.learning_rate  # None: the preset's
    return AlignConfig(
        pairs=options.data,
        model=config.model,
        revision=config.revision,
        out=config.out,
        loss=loss,
        beta=options.beta,
        template=config.template,
        training=PreferenceRecipe(**settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTrainings:
    """Trains on pairs, and measures all models on the held-out ones.

    `job` has these as token rows, `before` their log-probabilities before training.
    """

    options: PairTrainingConfig
    pool: PairPool
    job: Job
    before: Values

    @classmethod
    def of(
        cls, config: FinetuneConfig, options: PairTrainingConfig, pool: PairPool
    ) -> "PairTrainings":
        """Tokenise, and score with the model that is to be trained."""
        folder = config.out / "held-out-pairs"
        align = _align_config(replace(config, out=folder), options, "dpo")
        with without_library_output():
            job = pair_job(align, RecordSource(records=pool.held_out))
            before = _scored(job, align.model, align.revision, "untrained")
        return cls(options=options, pool=pool, job=job, before=before)

    def train(
        self,
        config: FinetuneConfig,
        name: str,
        *,
        origin: Mapping[str, str],
        held_out: RecordSource[Record],
    ) -> TrainingResult:
        """Train with the loss that the name says; `held_out` are measured as in fine-tuning."""
        training = self.pool.training
        pairs = longer_chosen(training) if name == BY_LENGTH else training
        return align_pairs(
            _align_config(config, self.options, LOSSES[name]),
            RecordSource(records=pairs, origin={**origin, "pairs": self.pool.source}),
            held_out=held_out,
            title=f"{name}, seed {config.seed}",
        )

    def compared(self, trained: Trained, seeds: Sequence[int]) -> PairComparison:
        """Measure all models, and take the curves of those trained on pairs."""
        names = dict.fromkeys(name for name, _ in trained)
        folders = {name: [trained[name, seed].out for seed in seeds] for name in names}
        measured = {name: [*map(self._measures, found)] for name, found in folders.items()}
        by_length, training = measured.get(BY_LENGTH), self.pool.training
        return PairComparison(
            pairs=self.pool.source,
            rows=len(training),
            chosen_longer=sum(len(pair.chosen) > len(pair.rejected) for pair in training),
            held_out_rows=len(self.before),
            learning_rate=self.job.recipe.learning_rate,
            untrained=_absolute(self.before),
            sets={
                name: _over_seeds(found, None if name == BY_LENGTH else by_length)
                for name, found in measured.items()
            },
            curves={n: _mean_curve([*map(read_curve, folders[n])]) for n in names if n in LOSSES},
        )

    def _measures(self, trained: Path) -> dict[str, float]:
        """Of one model; log-probabilities that were computed before are read."""
        with without_library_output():
            now = _scored(self.job, str(trained), None, trained.name)
        gains = np.diff(self.before - now).ravel()  # D of each pair
        relative = {"reward_accuracy": float((gains > 0).mean()), "margin": float(gains.mean())}
        return _absolute(now) | relative


def _scored(job: Job, model: str, revision: str | None, name: str) -> Values:
    sides = ("chosen_ids", "rejected_ids")
    answers = [(row.prompt_ids, getattr(row, side)) for row in job.data.rows for side in sides]
    place, reference = replace(job, out=job.out / name), Reference.of(model, revision)
    return np.array(log_probabilities(place, reference, answers, title=name)).reshape(-1, 2)


def _absolute(now: Values) -> dict[str, float]:
    chosen, rejected = now.T
    return {
        "ranking_accuracy": float((chosen > rejected).mean()),
        "chosen_log_probability": float(chosen.mean()),
        "rejected_log_probability": float(rejected.mean()),
    }


def _over_seeds(
    found: Sequence[Mapping[str, float]], by_length: Sequence[Mapping[str, float]] | None
) -> PairMeasures:
    means = {name: t_interval([each[name] for each in found]) for name in found[0]}
    difference = None
    if by_length is not None:
        name = "reward_accuracy"
        difference = t_interval([a[name] - b[name] for a, b in zip(found, by_length, strict=True)])
    return PairMeasures(**means, difference=difference)


def _mean_curve(curves: Sequence[Curve]) -> Curve:
    """Step by step over the seeds; no value where one of them has none."""
    return [
        {name: _mean([row[name] for row in rows]) for name in rows[0]}
        for rows in zip(*curves, strict=True)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def pair_lines(found: PairComparison) -> Iterator[str]:
    """The table of the held-out pairs, the ends of the curves, and what their numbers are."""
    yield (
        f"preference pairs of {found.pairs}: {found.rows} trained on, the longer answer is chosen "
        f"in {found.chosen_longer}; {found.held_out_rows} with other prompts are held out"
    )
    yield (
        "c, r: log-probability of the chosen, the rejected answer in nats; D: how far c - r has "
        f"grown from the untrained model's; each difference is of D > 0 from `{BY_LENGTH}` with "
        "the same seed; the intervals, over the seeds, do not cover which pairs are held out"
    )
    yield ""
    start = found.untrained
    chosen, rejected = (start[f"{side}_log_probability"] for side in ("chosen", "rejected"))
    rows = [
        ("trained on", "c > r", "D > 0", "95 %", "difference", "95 %", "D", "95 %", "c", "r"),
        (
            "nothing",
            f"{start['ranking_accuracy']:.3f}",
            *[""] * 6,
            f"{chosen:.2f}",
            f"{rejected:.2f}",
        ),
    ]
    for name, row in found.sets.items():
        difference = row.difference.cells("+.3f") if row.difference else ("", "")
        ends = (
            f"{row.chosen_log_probability.mean:.2f}",
            f"{row.rejected_log_probability.mean:.2f}",
        )
        accuracies = (f"{row.ranking_accuracy.mean:.3f}", *row.reward_accuracy.cells(".3f"))
        rows.append((name, *accuracies, *difference, *row.margin.cells("+.3f"), *ends))
    yield from aligned(rows)
    yield from _curve_lines(found.curves)


def _curve_lines(curves: Mapping[str, Curve]) -> Iterator[str]:
    """First and last step of each curve."""
    if curves:
        yield ""
        yield (
            "of the rows trained on, at the first and the last step, means over the seeds (the "
            "margin is beta D, of cpo beta (c - r)):"
        )
    for name, curve in curves.items():
        ends = (
            f"{column.replace('_', ' ')} {curve[0][column]:z.3f} to {curve[-1][column]:z.3f}"
            for column in curve[0]
            if column not in ("step", "training_loss")
        )
        yield f"{name}: {', '.join(ends)}"
