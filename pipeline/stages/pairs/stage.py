"""`curate pairs`: answers that compete -> a data set of pairs, and reasons for all that is none."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...base.files import replace_folder, write_text
from ...base.progress import Progress
from ...config import PairsConfig, recorded_options
from ...errors import CurateError
from ...inputs.evaluation.evaluation_sets import evaluation_texts, open_sets
from ...inputs.ingest import Intake
from ...method.corpus.decontamination import EvaluationIndex
from ...method.preferences.choosing import best_and_worst, demonstrated, rejection_sampled
from ...method.preferences.filters import PairFilter
from ...method.preferences.lengths import balanced, length_auc
from ...method.preferences.rivals import Rivals
from ...pair_records import PairSource, PreferencePair, Unpaired
from ...reporting.pairs import pairs_page
from ...runs.directory import refuse_changes
from ...runs.importing import say_unused, write_unused
from ...runs.lock import output_lock
from ...runs.published.pair_card import pairs_card
from ...runs.published.pair_set import PairSet, is_pair_set, write_manifest
from .collecting import Collector, PairNumbers
from .sources import PairData, open_pair_data

_OUT_OF_BALANCE = "--balance-length: of the more frequent kind it is among the smallest margins"
_SIDES = ("chosen", "rejected")
_RULES = ("min_margin", "max_length_ratio", "balance_length")
_RULES_OF: dict[PairSource, tuple[str, ...]] = {
    "ratings": ("tier",),
    "rso": ("beta", "keep", "seed"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsResult:
    """Where the pairs are and how many there are, as the manifest has it."""

    out: Path
    counts: dict[str, Any] = field(default_factory=dict)
    already_made: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"out": str(self.out), **self.counts, "already_made": self.already_made}


def pairs(config: PairsConfig) -> PairsResult:
    """Make the folder of pairs, whole or not at all.

    Raises CurateError for data of which no row can be used, and for a folder that holds something
    else or other pairs.
    """
    data = open_pair_data(config)
    sets = open_sets(config.decontaminate)
    named = (*_RULES_OF.get(data.source, ()), *_RULES)
    settings = {name: getattr(config, name) for name in named}
    if sets:
        settings["ngram"] = config.ngram
        settings["decontaminate"] = {source.name: source.fingerprint for source in sets}
    identity = {"command": "pairs", "source": data.source, **data.identity, **settings}
    with output_lock(config.out, "pairs"):
        if (counts := _known(config.out, identity, data.name)) is not None:
            return PairsResult(out=config.out, counts=counts, already_made=True)
        texts = chain.from_iterable(map(evaluation_texts, sets))
        rules = PairFilter(
            min_margin=config.min_margin,
            max_length_ratio=config.max_length_ratio,
            evaluation=EvaluationIndex(texts, n=config.ngram) if sets else None,
        )
        counts = {}
        fill = partial(_fill, config=config, data=data, identity=identity, settings=settings)
        replace_folder(config.out, lambda folder: counts.update(fill(folder, rules=rules)))
    if "input" in counts:
        say_unused(counts["input"], f"{config.out}/")
    return PairsResult(out=config.out, counts=counts)


def _fill(
    folder: Path,
    config: PairsConfig,
    data: PairData,
    identity: dict[str, Any],
    settings: dict[str, Any],
    rules: PairFilter,
) -> dict[str, Any]:
    """Write both data sets, what of the input was not used, card, report, manifest; the counts."""
    collector, intake = Collector(folder), Intake()
    for outcome in _outcomes(config, data, rules, intake):
        collector.add(outcome)
    numbers = collector.numbers()
    stay = np.ones(numbers.margins.size, np.bool_)
    if config.balance_length:
        stay = balanced(numbers.chosen - numbers.rejected, numbers.margins, numbers.keys)
    collector.write(folder, stay, _OUT_OF_BALANCE)
    write_unused(folder, intake)
    numbers = numbers.of(stay)
    given = {name: v for name, v in settings.items() if v not in (None, False)}
    about: dict[str, Any] = {"name": data.name, "source": data.source, "settings": given}
    about |= {"origin": dict(data.origin), "counts": _counts(numbers, collector, intake)}
    about["licence"] = data.licence
    write_text(folder / "README.md", pairs_card(about))
    lengths = {name: getattr(numbers, name).astype(np.float64) for name in _SIDES}
    write_text(folder / "report.html", pairs_page(about, margins=numbers.margins, **lengths))
    write_manifest(folder, identity, recorded_options(config), **about)
    counts: dict[str, Any] = about["counts"]
    return counts


def _known(out: Path, identity: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The counts of the same pairs, made already; CurateError where `out` holds anything else."""
    if is_pair_set(out):
        manifest = PairSet(out).manifest
        refuse_changes(out, manifest["identity"], identity, inputs=[manifest["name"], name])
        counts: dict[str, Any] = manifest["counts"]
        return counts
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CurateError(f"{out} is there and holds no pairs of curate: choose another --out")
    return None


def _outcomes(
    config: PairsConfig, data: PairData, rules: PairFilter, intake: Intake
) -> Iterator[PreferencePair | Unpaired]:
    with Progress("pairs", total=None, unit="prompts") as progress:
        for rivals in data.rivals(intake):
            made = _made(rivals, config, data) if isinstance(rivals, Rivals) else [rivals]
            for one in made:
                yield rules.applied(one) if isinstance(one, PreferencePair) else one
            progress.advance()


def _made(rivals: Rivals, config: PairsConfig, data: PairData) -> list[PreferencePair | Unpaired]:
    if data.source == "demonstrations":
        return [demonstrated(rivals)]
    if data.source == "rso":
        return rejection_sampled(rivals, keep=config.keep, beta=config.beta, seed=config.seed)
    return [best_and_worst(rivals, tier=config.tier, noise=data.noise)]


def _counts(numbers: PairNumbers, collector: Collector, intake: Intake) -> dict[str, Any]:
    counts = {
        "pairs": numbers.margins.size,
        "left_out": dict(sorted(collector.reasons.items())),
        "near_ties": int(numbers.near_ties.sum()),
        "chosen_longer": int((numbers.chosen > numbers.rejected).sum()),
        "chosen_shorter": int((numbers.chosen < numbers.rejected).sum()),
        "length_auc": length_auc(numbers.chosen, numbers.rejected),
    }
    return counts | ({"input": intake.counts()} if intake.rows else {})
