"""The page of a set of preference pairs: margins, lengths, what length alone tells, reasons."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .figures.panels import Axis, Panel, distributions, length_axis
from .numbers.summaries import Numbers, distribution, histogram, linear_edges
from .page import rendered

REASONS = {
    "no_rival": "there is no second answer to the prompt",
    "unparsed": "a reply has not the parts asked for",
    "truncated": "an answer was cut",
    "refused": "the model refused",
    "failed": "there is no reply",
    "empty": "an answer is empty",
    "unscored": "an answer has no valid score",
    "identical": "the answers have the same text",
    "tie": "the scores do not tell the answers apart",
    "below_margin": "the scores are too close (--min-margin)",
    "length": "the lengths differ too much (--max-length-ratio), or --balance-length left it out",
    "contaminated": "a text repeats an evaluation set",
}
MARGINS = {
    "selection": "margin, difference of log r-IFD",
    "verdicts": "margin, points of the judge",
    "ratings": "margin, points of the rating",
    "rso": "margin, points of the rating",
}


def pairs_page(
    about: Mapping[str, Any], *, margins: Numbers, chosen: Numbers, rejected: Numbers
) -> str:
    """The page, self-contained; `about` is of the manifest, `margins` has NaN without a score."""
    margins = margins[~np.isnan(margins)]
    lengths = {"chosen": chosen, "rejected": rejected}
    return rendered(
        "pairs.html",
        page=about,
        reasons=REASONS,
        panels=[*_margins(about["source"], margins), *_lengths(lengths)],
        distributions={name: distribution(values) for name, values in lengths.items()},
        margin=distribution(margins),
    )


def _margins(source: str, margins: Numbers) -> list[Panel]:
    if not margins.size:
        return []
    edges = linear_edges([margins], at_least=0.0)
    axis = Axis(MARGINS[source], float(edges[-1]))
    found = histogram({"margin": margins}, edges)
    return [distributions("margins", "Margins", found, {"margin": "kept"}, axis)]


def _lengths(lengths: Mapping[str, Numbers]) -> list[Panel]:
    if not lengths["chosen"].size:
        return []
    edges, axis = length_axis("answer", list(lengths.values()))
    colours = {"chosen": "kept", "rejected": "dropped"}
    found = histogram(lengths, edges)
    return [distributions("lengths", "Lengths of the answers", found, colours, axis)]
