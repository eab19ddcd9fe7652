"""What was made of a run within its folder: trained models and sets of preference pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ...base.foreign_json import read_object
from ...inputs.model_files import short_name
from ...runs.directory import RunDir
from ...runs.published.pair_set import PairSet, is_pair_set
from ..figures.panels import Panel, curve

MOST_CURVES = 6
_RESULT = {"rows", "steps", "train_loss", "held_out_before", "held_out_after", "seconds"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A finished training, by its folder in the run; `result` is that of its training.json."""

    folder: str
    model: str
    preset: str
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePairs:
    """A set of pairs, by its folder in the run; `counts` are those of its manifest."""

    folder: str
    source: str
    counts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """All of it; the loss curves are those of the first trainings."""

    models: list[TrainedModel]
    curves: list[Panel]
    pairs: list[MadePairs]


def made_of(run: RunDir) -> Made:
    """Find what stands in the run's folder, at any depth, but not what is hidden."""
    models = list(_models(run.path))
    curves = (
        curve(f"curve-{place}", m.folder, m.result["train_loss"])
        for place, m in enumerate(models)
        if m.result["train_loss"]
    )
    return Made(
        models=models, curves=list(islice(curves, MOST_CURVES)), pairs=list(_pairs(run.path))
    )


def _models(root: Path) -> Iterator[TrainedModel]:
    for folder, path in _found(root, "training.json"):
        about = read_object(path) or {}
        result = about.get("result")
        if (
            isinstance(result, dict) and result.keys() >= _RESULT
        ):  # a file of that name may be foreign
            model = short_name(about["model"])
            yield TrainedModel(folder=folder, model=model, preset=about["preset"], result=result)


def _pairs(root: Path) -> Iterator[MadePairs]:
    for folder, path in _found(root, "manifest.json"):
        if is_pair_set(path.parent):
            about = PairSet(path.parent).manifest
            yield MadePairs(folder=folder, source=about["source"], counts=about["counts"])


def _found(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob(name)):
        folder = path.parent.relative_to(root)
        if not any(part.startswith(".") for part in folder.parts):
            yield folder.as_posix(), path
