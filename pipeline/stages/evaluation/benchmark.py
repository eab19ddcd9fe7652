"""Benchmark tasks through lm-eval, which this file alone knows."""

import difflib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...config import EvaluateConfig
from ...errors import CurateError
from ...inputs.remote.hub import go_offline_if_unreachable, hub_is_reachable
from ...models.devices import pick_device, pick_dtype
from ...models.loading import load_causal_lm, load_tokenizer

INSTALL = 'pip install "curate-reflection[eval]"'

FEWSHOT_SEED = 1234  # lm-eval's own default: the examples that its published numbers saw
RESAMPLES = 1000  # for the error of a metric that has no formula for it

Measured = dict[str, dict[str, dict[str, Any]]]
"""Task (or a group's part) -> metric -> `value` and `stderr`, None where there is none."""


class Benchmarks:
    """The known tasks. CurateError where lm-eval is missing or a name is unknown."""

    def __init__(self, names: Sequence[str], include: Path | None) -> None:
        if importlib.util.find_spec("lm_eval") is None:
            raise CurateError(f"evaluate needs lm-eval: {INSTALL}")
        if include is not None and not include.is_dir():
            raise CurateError(f"--include-path {include} is no folder")
        if not sys.stderr.isatty():
            os.environ.setdefault("TQDM_DISABLE", "1")  # bars are for terminals
        go_offline_if_unreachable()  # before datasets is imported, which asks once
        self._tasks = _index(names, include)
        refuse_unknown(names, self._tasks.all_tasks)

    def measure(
        self, model: Callable[[], Any], name: str, *, limit: int | None
    ) -> tuple[Measured, int]:
        """What one task says of a model, which is loaded for it, and on how many samples.

        Raises CurateError where the task's data cannot be had.
        """
        from lm_eval import evaluate

        asked = model()
        try:
            loaded = self._tasks.load([name])
            for task in loaded["tasks"].values():
                if task.get_config("num_fewshot") is None:
                    task.set_config(key="num_fewshot", value=0)
                task.set_fewshot_seed(seed=FEWSHOT_SEED)
            found = evaluate(
                asked, loaded, limit=limit, log_samples=False, bootstrap_iters=RESAMPLES
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            here = "" if hub_is_reachable() else "; no hub can be reached from here"
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise CurateError(f"the task {name!r} cannot be run: {said}{here}") from None
        assert found is not None  # only of another process than the first
        samples = sum(part["effective"] for part in found["n-samples"].values())
        return {task: _metrics(row) for task, row in found["results"].items()}, samples


def refuse_unknown(names: Sequence[str], known: Sequence[str]) -> None:
    """CurateError for a name that is not known, with the nearest ones that are."""
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, known, n=3)
        hint = f"; near ones are {', '.join(near)}" if near else ""
        raise CurateError(f"--tasks: lm-eval knows no task {unknown!r}{hint}")


def _index(names: Sequence[str], include: Path | None) -> Any:
    """The user's own tasks, and lm-eval's thousands only where a name is not among them."""
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if include is not None:
        own = TaskManager(include_path=str(include), include_defaults=False)
        if set(names) <= set(own.all_tasks):
            return own
    return TaskManager(include_path=str(include) if include else None)


def load_for_tasks(name: str, revision: str | None, config: EvaluateConfig) -> Any:
    """The model as lm-eval takes it. CurateError in one sentence for what is none."""
    from lm_eval.models.huggingface import HFLM

    tokenizer, place = load_tokenizer(name, revision), pick_device(config.device)
    dtype = pick_dtype(place) if config.dtype == "auto" else config.dtype
    model = load_causal_lm(name, revision, dtype=dtype, device=place)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=config.batch_size)


def _metrics(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`acc,none` and `acc_stderr,none` -> acc: value and stderr; a further filter is named."""
    found = {}
    for key, value in row.items():
        metric, comma, filter = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        error = row.get(f"{metric}_stderr,{filter}")
        name = metric if filter == "none" else f"{metric} ({filter})"
        found[name] = {"value": value, "stderr": error if isinstance(error, float) else None}
    return found
