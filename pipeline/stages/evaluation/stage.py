"""`curate evaluate`: benchmark tasks for a model, beside its base model."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from itertools import chain
from math import hypot
from pathlib import Path
from typing import Any

from ...base.checksums import read_checked, with_checksum
from ...base.files import write_json
from ...base.progress import Progress, say
from ...base.tables import aligned
from ...config import EvaluateConfig
from ...inputs.model_files import revision_of, short_name, told_apart
from ...models.loading import load_config
from ...runs.directory import RunDir, folder_beside
from ...runs.lock import run_lock
from .benchmark import Benchmarks, Measured, load_for_tasks

NUMBERS = ("value", "stderr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Each task's metrics of the model and of its base; `samples` of a task are the same."""

    model: str
    base: str | None
    tasks: dict[str, Measured]
    base_tasks: dict[str, Measured]
    samples: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For programs: every part of every task, with the differences."""
        results = {
            part: {name: self._compared(task, part, name) for name in metrics}
            for task, parts in self.tasks.items()
            for part, metrics in parts.items()
        }
        return {
            "model": self.model,
            "base": self.base,
            "results": results,
            "samples": self.samples,
            "lm_eval": version("lm_eval"),
        }

    def _compared(self, task: str, part: str, metric: str) -> dict[str, Any]:
        mine = self.tasks[task][part][metric]
        if self.base is None:
            return mine
        base = self.base_tasks[task][part][metric]
        return {
            **mine,
            **{f"base_{name}": base[name] for name in NUMBERS},
            **difference(mine, base),
        }


def difference(mine: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Model minus base; its error takes the two as independent, which is at worst too wide.

    >>> difference({"value": 0.5, "stderr": 0.3}, {"value": 0.25, "stderr": 0.4})
    {'difference': 0.25, 'difference_stderr': 0.5}
    """
    known = all(isinstance(one["value"], int | float) for one in (mine, base))
    errors = mine["stderr"], base["stderr"]
    return {
        "difference": mine["value"] - base["value"] if known else None,
        "difference_stderr": None if None in errors else hypot(*errors),
    }


def evaluate(config: EvaluateConfig) -> Evaluated:
    """Measure what is not measured yet; with `out`, each finished task is kept beside the file.

    Raises CurateError for a model or a task that cannot be had.
    """
    folder = folder_beside(config.out) if config.out else None
    for name, revision in _models(config):
        load_config(name, revision)
    benchmarks = Benchmarks(config.tasks, config.include_path)
    if folder is None:
        return _evaluated(config, benchmarks, None)
    run = RunDir.create(folder, _identity(config))
    with run.discarded_if_empty(), run_lock(run.path, "evaluate"):
        result = _evaluated(config, benchmarks, run)
        write_json(config.out or folder, result.as_dict())
    return result


def _evaluated(config: EvaluateConfig, benchmarks: Benchmarks, run: RunDir | None) -> Evaluated:
    models = _models(config)
    found: list[dict[str, Measured]] = []
    samples: dict[str, int] = {}
    with Progress("evaluate", total=len(models) * len(config.tasks), unit="tasks") as progress:
        for number, (name, revision) in enumerate(models):
            load = cache(partial(_loaded, name, revision, config))  # when it is needed first
            found.append({})
            for task in config.tasks:
                file = f"{number}-{task.replace('/', '_')}.json"
                place = None if run is None else run.path / file
                measure = partial(benchmarks.measure, load, task, limit=config.limit)
                found[-1][task], samples[task] = _measured(place, measure)
                progress.advance()
    model, base = short_name(config.model), config.base and short_name(config.base)
    if base and config.base:
        model, base = told_apart((model, base), (config.model, config.base))
    return Evaluated(
        model=model,
        base=base,
        tasks=found[0],
        base_tasks=found[-1] if config.base else {},
        samples=samples,
    )


def _models(config: EvaluateConfig) -> list[tuple[str, str | None]]:
    base = [(config.base, config.base_revision)] if config.base else []
    return [(config.model, config.revision), *base]


def _identity(config: EvaluateConfig) -> dict[str, Any]:
    digest = hashlib.sha256()
    include = config.include_path
    for path in sorted(include.rglob("*")) if include else ():
        if path.is_file():
            digest.update(f"{path.relative_to(include or path)}\0".encode())
            digest.update(path.read_bytes())
    return {
        "command": "evaluate",
        "models": [[short_name(name), revision_of(name, rev)] for name, rev in _models(config)],
        "include": digest.hexdigest()[:16] if include else None,
        "limit": config.limit,
        "dtype": config.dtype,
    }


def _loaded(name: str, revision: str | None, config: EvaluateConfig) -> Any:
    say(f"evaluate: loading {name}")
    return load_for_tasks(name, revision, config)


def _measured(
    place: Path | None, measure: Callable[[], tuple[Measured, int]]
) -> tuple[Measured, int]:
    """A task's metrics and its number of samples, from an earlier invocation or now."""
    if place and (known := read_checked(place)):
        return known["metrics"], known["samples"]
    metrics, samples = measure()
    if place:
        write_json(place, with_checksum({"metrics": metrics, "samples": samples}))
    return metrics, samples


# --- in words -------------------------------------------------------------------------------------


def in_words(found: Evaluated) -> Iterator[str]:
    """A table for people: what was asked for, a group without a value of its own by its parts."""
    base = [found.base, "difference"] if found.base else []
    rows = [["task", "metric", found.model, *base]]
    results = found.as_dict()["results"]
    named = ([task] if parts.get(task) else parts for task, parts in found.tasks.items())
    for part in dict.fromkeys(chain.from_iterable(named)):
        for metric, cell in results[part].items():
            rows.append([part, metric, _number(cell["value"], cell["stderr"])])
            if found.base:
                rows[-1].append(_number(cell["base_value"], cell["base_stderr"]))
                rows[-1].append(_number(cell["difference"], cell["difference_stderr"], "+.4f"))
    yield from aligned(rows, names=2)
    yield "± is one standard error"


def _number(value: Any, error: float | None, form: str = ".4f") -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:{form}}" + (f" ± {error:.4f}" if error is not None else "")
