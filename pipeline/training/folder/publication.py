"""A training's folder: claimed by one training, and filled with the model and what is known of it.

Shared by all stages that train.
"""

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...base.files import write_json
from ...base.processes.ranks import is_first
from ...config import recorded_options
from ...inputs.model_files import revision_of
from ...inputs.remote.hub import hub_token, push_folder
from ...method.statistics.compression import bits_per_character
from ...runs.directory import versions
from ...runs.lock import run_lock
from ..job import Job, Training
from ..rows import TrainingData
from .card import model_card
from .checkpoints import MANIFEST, STAGED, check_claim, claim, disk_errors, publish_files, read_json
from .loss_curve import COLUMNS, PREFERENCE_COLUMNS, Curve, loss_curve, write_curve
from .saving import save_trained


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What came out. The losses are mean NLLs (nats) of a response token, its end included.

    `train_loss` is (step, loss) for each step; `seconds` and `tokens_per_second` (without padding)
    are of this session; rows + held_out_rows + the counts in `dropped` are the records given.
    Of a preference training the losses are its own, and `preferences` has the first and the last
    value of each of its curves.
    """

    out: Path
    steps: int
    train_loss: tuple[tuple[int, float], ...]
    rows: int
    held_out_rows: int
    held_out_tokens: int
    held_out_before: float | None
    held_out_after: float | None
    held_out_characters: int
    held_out_bits_per_character_before: float | None
    held_out_bits_per_character_after: float | None
    cut: int
    dropped: Mapping[str, int]
    max_length: int
    processes: int
    seconds: float
    tokens_per_second: float
    resumed_from: int | None = None
    already_trained: bool = False
    preferences: Mapping[str, tuple[float, float]] | None = None
    pushed: str | None = None
    """Where on the hub the model is, if it was put there."""


def pushed(train: Callable[[], TrainingResult], repository: str | None) -> TrainingResult:
    """Train, then put the model into a repository, if one is named; its token is asked for first.

    Raises CurateError for what the hub refuses; the model is whole here.
    """
    if repository is None:
        return train()
    token, result = hub_token(repository), train()
    if not is_first():
        return result
    return replace(result, pushed=push_folder(result.out, repository, token, kind="model"))


def claim_folder(
    job: Job, identity: Mapping[str, Any], locks: ExitStack, *, command: str, config: Any
) -> TrainingResult | None:
    """Lock and claim `out` for this very training; its result if it is finished.

    `config` is noted as what the command was given.
    """
    check_claim(job.out, identity)
    finished = read_json(job.out / MANIFEST)
    job.state.wait_for_everyone()  # so that none reads what the main process writes next
    if finished is None and job.state.is_main_process:
        locks.enter_context(run_lock(job.out, command))
        claim(job.out, identity, {"command": command, "options": recorded_options(config)})
    job.state.wait_for_everyone()
    return None if finished is None else _result_from(finished, job.out)


def publish(job: Job, trainer: Any, training: Training, about: Mapping[str, Any]) -> TrainingResult:
    """Put the model into `out`, then the manifest; only then are the checkpoints dispensable."""
    staged = job.out / STAGED
    with disk_errors(job.out):
        save_trained(trainer, job, staged)
    columns = PREFERENCE_COLUMNS if "preference" in about else COLUMNS
    curve = loss_curve(trainer.state.log_history, columns)
    result = _result(job, trainer, training)
    if "preference" in about:
        result = replace(result, preferences=_ends(curve))
    if job.state.is_main_process:
        manifest = _manifest(job, result, about)
        (staged / "README.md").write_text(model_card(manifest), "utf-8")
        write_curve(curve, staged)
        publish_files(staged, job.out)
        write_json(job.out / MANIFEST, manifest)
        if not job.recipe.keep_checkpoints:
            shutil.rmtree(job.checkpoints)
    job.state.wait_for_everyone()
    return result


def _ends(curve: Curve) -> dict[str, tuple[float, float]]:
    """Each column's first and last value, of those that have one."""
    found: dict[str, tuple[float, float]] = {}
    for row in curve:
        for name, value in row.items():
            if value is not None and name not in ("step", "training_loss"):
                found[name] = (found.get(name, (value, value))[0], value)
    return found


def _result(job: Job, trainer: Any, training: Training) -> TrainingResult:
    logged = trainer.state.log_history
    return TrainingResult(
        out=job.out,
        steps=trainer.state.global_step,
        train_loss=tuple((entry["step"], entry["loss"]) for entry in logged if "loss" in entry),
        rows=len(job.data.rows),
        held_out_rows=len(job.data.held_out),
        held_out_tokens=job.data.held_out_tokens,
        held_out_before=training.held_out_before,
        held_out_after=training.held_out_after,
        held_out_characters=job.data.held_out_characters,
        held_out_bits_per_character_before=_in_bits(training.held_out_before, job.data),
        held_out_bits_per_character_after=_in_bits(training.held_out_after, job.data),
        cut=job.data.cut,
        dropped=job.data.dropped,
        max_length=job.recipe.row_tokens,
        processes=job.state.num_processes,
        seconds=training.seconds,
        tokens_per_second=training.tokens / max(training.seconds, 1e-9),
        resumed_from=training.resumed_from,
    )


def _in_bits(loss: float | None, data: TrainingData[Any]) -> float | None:
    """A held-out loss in bits a character."""
    if loss is None:
        return None
    return bits_per_character([loss], [data.held_out_tokens], data.held_out_characters)


def _manifest(job: Job, result: TrainingResult, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": job.model,
        "revision": job.revision,
        "weights": revision_of(job.model, job.revision),
        **about,
        "settings": {**asdict(job.recipe), "bf16": job.bf16},
        "data": job.data.fingerprint,
        "result": {**asdict(result), "out": str(result.out)},
        "versions": versions("accelerate", "peft"),
    }


def _result_from(manifest: Mapping[str, Any], out: Path) -> TrainingResult:
    result = dict(manifest["result"])
    result["train_loss"] = tuple((step, loss) for step, loss in result["train_loss"])
    return TrainingResult(**{**result, "out": out, "already_trained": True})
