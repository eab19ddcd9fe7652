"""Rows of judgements -> what they say of the models, in numbers (docs/method.md)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..replies.verdicts import RECORDED, Scale, Verdict, pair_verdict, single_verdict
from .tally import Tally, mean_interval, pair_value, preference_share, standard_error

Row = Mapping[str, Any]
Interval = tuple[float, float] | None
ORDERS = ("", "_reverse")
"""What ends a pair's columns in either order; reversed, answer 2 stands first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOutcome:
    """Model 1 against model 2; a pair counts only where both orders have a verdict."""

    tally: Tally
    interval: Interval
    """Of the winning score."""
    unparsed: int
    """Pairs that lack a verdict."""
    reasons: dict[str, int]
    """Why verdicts are missing, each counted."""
    categories: dict[str, Tally]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            **tally_fields(self.tally),
            "interval": self.interval,
            "unparsed": self.unparsed,
            "reasons": self.reasons,
            "categories": {name: tally_fields(tally) for name, tally in self.categories.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceOutcome:
    """AlpacaEval's annotations: model 2 against the reference, model 1; shares in percent."""

    win_rate: float | None
    standard_error: float | None
    interval: Interval
    tally: Tally
    unparsed: int
    categories: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "win_rate": self.win_rate,
            "standard_error": self.standard_error,
            "interval": self.interval,
            **tally_fields(self.tally),
            "unparsed": self.unparsed,
            "categories": self.categories,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One model's mean over all its rated turns, and over each turn."""

    mean: float
    interval: Interval
    rated: int
    turns: dict[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingOutcome:
    """MT-Bench's single-answer grading, 1 to 10."""

    models: dict[str, Rating]
    unparsed: int
    reasons: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "models": {
                name: asdict(rating) | {"turns": {str(k): mean for k, mean in rating.turns.items()}}
                for name, rating in self.models.items()
            },
            "unparsed": self.unparsed,
            "reasons": self.reasons,
        }


Outcome = PairOutcome | PreferenceOutcome | RatingOutcome


def tally_fields(tally: Tally) -> dict[str, Any]:
    """A tally for programs."""
    return {**asdict(tally), "winning_score": tally.winning_score}


def pair_outcome(rows: Iterable[Row], scale: Scale = RECORDED) -> PairOutcome:
    """Read each row's two reviews anew: scores that are stored beside them are not looked at."""
    values: list[int] = []
    groups: dict[str, list[int]] = defaultdict(list)
    reasons: Counter[str] = Counter()
    pairs = 0
    for row in rows:
        pairs += 1
        forward, reverse = (verdict_of(row, order, scale) for order in ORDERS)
        reasons.update(
            _reason_of(verdict) for verdict in (forward, reverse) if verdict.status != "ok"
        )
        if forward.scores and reverse.scores:
            values.append(pair_value(forward.scores, reverse.scores))
            groups[category_of(row)].append(values[-1])
    interval = mean_interval(values)
    return PairOutcome(
        tally=Tally.of(values),
        interval=(interval[0] + 1, interval[1] + 1) if interval else None,
        unparsed=pairs - len(values),
        reasons=dict(reasons.most_common()),
        categories={name: Tally.of(group) for name, group in _named(groups).items()},
    )


def verdict_of(row: Row, order: str, scale: Scale) -> Verdict:
    """What the review in one order says."""
    review = row.get(f"review{order}")
    if not isinstance(review, str):
        why = row.get(f"failure{order}")
        return Verdict(status="failed", reason=why if isinstance(why, str) else "no review")
    return pair_verdict(review, finish_reason=row.get(f"finish_reason{order}"), scale=scale)


def _reason_of(verdict: Verdict) -> str:
    return f"{verdict.status}: {verdict.reason}"


def preference_outcome(rows: Iterable[Row]) -> PreferenceOutcome:
    """The mean of the preferences; one that is missing or none of theirs is counted apart."""
    shares: list[float] = []
    groups: dict[str, list[float]] = defaultdict(list)
    total = 0
    for row in rows:
        total += 1
        preference = _preference(row.get("preference"))
        if preference is None:
            continue
        shares.append(preference_share(preference))
        groups[category_of(row)].append(100 * shares[-1])
    interval, error = mean_interval(shares), standard_error(shares)
    return PreferenceOutcome(
        win_rate=100 * _mean(shares) if shares else None,
        standard_error=100 * error if error is not None else None,
        interval=(100 * interval[0], 100 * interval[1]) if interval else None,
        tally=Tally.of(share - 0.5 for share in shares),
        unparsed=total - len(shares),
        categories={name: _mean(group) for name, group in _named(groups).items()},
    )


def _preference(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if value == 0 or 1 <= value <= 2 else None


def rating_outcome(rows: Iterable[Row]) -> RatingOutcome:
    """Each review's rating, read from its text."""
    models: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    reasons: Counter[str] = Counter()
    for row in rows:
        judgment = row.get("judgment")
        verdict = single_verdict(judgment if isinstance(judgment, str) else "")
        if verdict.scores:
            models[str(row["model"])][_turn(row)].append(verdict.scores[0])
        else:
            reasons[_reason_of(verdict)] += 1
    return RatingOutcome(
        models={name: _rating(turns) for name, turns in sorted(models.items())},
        unparsed=reasons.total(),
        reasons=dict(reasons.most_common()),
    )


def _turn(row: Row) -> int:
    turn = row.get("turn")
    return turn if isinstance(turn, int) else 1


def _rating(turns: Mapping[int, Sequence[float]]) -> Rating:
    scores = [score for turn in turns.values() for score in turn]
    return Rating(
        mean=_mean(scores),
        interval=mean_interval(scores),
        rated=len(scores),
        turns={turn: _mean(turns[turn]) for turn in sorted(turns)},
    )


def category_of(row: Row) -> str:
    """A row's category, by the names that evaluation sets give it; empty where it has none."""
    found = row.get("category") or row.get("dataset")
    return str(found) if found else ""


def _named(groups: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The groups by name; none where no row names one."""
    return {name or "(none)": groups[name] for name in sorted(groups)} if any(groups) else {}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
