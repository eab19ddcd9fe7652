"""A judge's verdicts on two models' answers -> rivals: the winner of both orders is preferred."""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from ...config import InputConfig
from ...errors import CurateError
from ...inputs.columns.prompts import id_of, prompt_of
from ...inputs.columns.texts import whole_values
from ...inputs.evaluation.judgments import Log
from ...inputs.ingest import Intake, Unusable, require_records
from ...inputs.readers import Source
from ...method.preferences.rivals import Answer, Rivals
from ...method.replies.verdicts import recorded_scale
from ...method.statistics.judge_results import ORDERS, verdict_of
from ...method.statistics.tally import pair_value
from ...pair_records import Origin, Prompt, Unpaired

_ANSWERS = ("Answer1", "Answer2")


def judged_rivals(
    log: Log, source: Source, columns: InputConfig, intake: Intake
) -> Iterator[Rivals | Unpaired]:
    """The two answers of each row with their mean scores; a tie by the orders is a reason.

    Raises CurateError for a log that holds no answers, as some that are published do.
    """
    if not any(row.get(answer) for row in log.rows for answer in _ANSWERS):
        raise CurateError(
            f"{source.name} holds verdicts without the answers ({' and '.join(_ANSWERS)}): pairs "
            "are made of a file that `curate judge` wrote"
        )
    for number, row in enumerate(log.rows, 1):
        intake.rows += 1
        values = whole_values(row)
        try:
            prompt = prompt_of(values, columns)
        except Unusable as error:
            intake.reject(f"judgement {number}", str(error))
            continue
        intake.records += 1
        yield _rivals(values, prompt, log.about)
    require_records(source, intake)


def _rivals(row: Mapping[str, Any], prompt: Prompt, about: Mapping[str, Any]) -> Rivals | Unpaired:
    forward, reverse = (verdict_of(row, order, recorded_scale(about)).scores for order in ORDERS)
    means: tuple[float, float] | None = None
    if forward and reverse:
        means = fmean((forward[0], reverse[1])), fmean((forward[1], reverse[0]))
    answers = [
        Answer(
            text=row.get(name) or "",
            origin=Origin(candidate=f"answer {place + 1}", model=about.get(f"model_{place + 1}")),
            reward=means[place] if means else None,
            score=means[place] if means else None,
        )
        for place, name in enumerate(_ANSWERS)
    ]
    rivals = Rivals(
        id=id_of(row, prompt), prompt=prompt.messages, answers=answers, source="verdicts"
    )
    if means and pair_value(forward, reverse) == 0:
        return rivals.unpaired("tie", "neither answer won in both orders", margin=0)
    return rivals
