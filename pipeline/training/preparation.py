"""What all stages that train do before and around it: context, vocabulary, job, rows not used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from ..base.progress import Progress, say
from ..config.training import FREE, Recipe
from ..errors import CurateError
from ..inputs.ingest import Intake
from ..models.devices import pick_dtype
from ..models.loading import context_of, load_config
from ..runs.importing import unused_notes, write_unused
from .chat_template import Serving
from .job import Job, Report, TrainingProgress
from .launch import check_launch
from .rows import TrainingData

P = TypeVar("P", bound=Recipe)


def within_context(recipe: P, model: str, revision: str | None) -> P:
    """The recipe with rows that fit into the model. CurateError where longer ones are asked for."""
    context = context_of(load_config(model, revision)) or recipe.row_tokens
    if recipe.max_length is not None and recipe.max_length > context:
        raise CurateError(
            f"--max-length {recipe.max_length} is beyond the context of {model}: {context}"
        )
    return replace(recipe, max_length=min(recipe.row_tokens, context))


def prepared_job(
    model: str,
    revision: str | None,
    *,
    recipe: Recipe,
    data: TrainingData[Any],
    serving: Serving,
    out: Path,
) -> Job:
    """The job on this machine. CurateError where it lacks processes, libraries or embeddings."""
    import torch
    from accelerate import PartialState

    _check_vocabulary(model, revision, data)
    check_launch(recipe)
    cpu = recipe.device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=cpu)
    auto = pick_dtype(state.device) == "bfloat16"
    return Job(
        model=model,
        revision=revision,
        recipe=recipe,
        data=data,
        serving=serving,
        out=out,
        state=state,
        bf16={"auto": auto, "bf16": True, "float32": False}[recipe.precision],
        cpu=cpu,
    )


def _check_vocabulary(model: str, revision: str | None, data: TrainingData[Any]) -> None:
    size = load_config(model, revision).get_text_config().vocab_size
    largest = max(max(row.input_ids) for row in (*data.rows, *data.held_out))
    if largest >= size:
        raise CurateError(
            f"the template writes a token {largest}, and the model of {model} has only "
            f"{size}: they do not belong together"
        )


def identity_of(job: Job, template: str) -> dict[str, Any]:
    """What may not change when a training is taken up again."""
    identity: dict[str, Any] = {"model": job.model, "revision": job.revision}
    identity |= {"template": template, "bf16": job.bf16}
    identity |= {name: value for name, value in asdict(job.recipe).items() if name not in FREE}
    return identity | {"data": job.data.fingerprint}  # last, for most others change it too


def counted(intake: Intake | None, rows: int, left_out: list[tuple[str, str]]) -> Intake:
    """What became of the rows of an input; without an intake, of as many records as there were."""
    records = rows + len(left_out)
    intake = intake or Intake(rows=records, records=records)
    intake.reject_records(left_out)
    return intake


def say_unused(job: Job, intakes: Mapping[str, Intake]) -> None:
    """Say which rows of what was read were not used, and list them; by what they were read for."""
    for name, intake in intakes.items():
        folder = job.out if name == "input" else job.out / name
        for note in unused_notes(intake.counts(), f"{folder}/"):
            folder.mkdir(exist_ok=True)
            if job.state.is_main_process:
                write_unused(folder, intake)
            say(note)


@contextmanager
def shown_progress(title: str) -> Iterator[Report]:
    """Shows each step of a training."""
    with Progress(title, total=None, unit="steps") as progress:

        def report(now: TrainingProgress) -> None:
            progress.total = now.steps
            progress.advance(now.step - progress.done, f"loss {now.loss:.4f}")

        yield report
