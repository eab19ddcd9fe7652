"""The card that lies with a set of pairs: what it is, from what, how, and how to load it."""

from collections.abc import Mapping
from typing import Any

from ...base.tables import shown
from .card import card, counts_table, noted

PAIRS_TITLE = "Preference pairs made with curate"
LOADING = """\
```python
import datasets

pairs = datasets.load_from_disk("this folder")
```

`prompt`, `chosen` and `rejected` are lists of messages, as TRL's trainers read them."""
_CHOICE = {
    "selection": "the response with the lower r-IFD (PPL of the instruction given the response / "
    "PPL of the instruction). It belongs to its instruction more clearly; it need not be better.",
    "verdicts": "the answer that a judge preferred in both orders, or in one and not less in the "
    "other.",
    "ratings": "the answer with the highest rating, over the one with the lowest.",
    "rso": "of the answers that statistical rejection accepted, the one with the higher rating.",
    "demonstrations": "the demonstration, over the model's own answer.",
}


def pairs_card(
    manifest: Mapping[str, Any], *, loading: str = LOADING, data: str = "*.arrow"
) -> str:
    """The card as Markdown, from what the manifest says."""
    counts = manifest["counts"]
    auc = shown(counts["length_auc"], ".3f")
    return card(
        PAIRS_TITLE,
        f"Chosen is {_CHOICE[manifest['source']]}",
        licence=manifest["licence"],
        rows=counts["pairs"],
        tags=("preference", "dpo"),
        facts=[
            f"- Data: `{manifest['name']}`",
            *noted(manifest["origin"], manifest["origin"]),
            *noted(manifest["settings"], manifest["settings"]),
        ],
        what=[
            f"{counts['pairs']} pairs; the chosen answer is the longer one in "
            f"{counts['chosen_longer']}, the shorter one in {counts['chosen_shorter']}. AUC of "
            f"length alone: {auc} (0.5: it tells nothing).",
            "",
            *counts_table("left out because", counts["left_out"]),
        ],
        terms="answers of a model are subject to its terms.",
        loading=loading,
        data_file=data,
    )
