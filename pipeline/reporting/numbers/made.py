"""What was made of a run within its folder: trained models and sets of preference pairs."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ...base.foreign_json import read_object
from ...inputs.model_files import short_name
from ...runs.directory import RunDir
from ...runs.published.pair_set import PairSet, is_pair_set
from ..figures.panels import curve

MOST_CURVES = 6
_RESULT = {"rows", "steps", "train_loss", "held_out_before", "held_out_after", "seconds"}


def made_of(run: RunDir) -> dict[str, Any]:
    """What stands in the run's folder, at any depth, but not what is hidden.

    `models` are finished trainings, `pairs` sets of pairs, by their folders; `curves` are the
    losses of the first trainings.
    """
    models = list(_models(run.path))
    curves = (
        curve(f"curve-{place}", model["folder"], losses)
        for place, model in enumerate(models)
        if (losses := model["result"]["train_loss"])
    )
    pairs = [
        {"folder": folder, **PairSet(path.parent).manifest}
        for folder, path in _found(run.path, "manifest.json")
        if is_pair_set(path.parent)
    ]
    return {"models": models, "curves": list(islice(curves, MOST_CURVES)), "pairs": pairs}


def _models(root: Path) -> Iterator[dict[str, Any]]:
    for folder, path in _found(root, "training.json"):
        about = read_object(path) or {}
        result = about.get("result")
        # A file of that name may be foreign.
        if isinstance(result, dict) and result.keys() >= _RESULT:
            yield {**about, "folder": folder, "model": short_name(about["model"])}


def _found(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob(name)):
        folder = path.parent.relative_to(root)
        if not any(part.startswith(".") for part in folder.parts):
            yield folder.as_posix(), path
