"""Stage 3: selected records -> a fine-tuned model in a folder that can be taken up again."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..base.files import writable
from ..base.progress import Progress, say
from ..config import InputConfig
from ..config.training import FREE, FinetuneConfig, Recipe
from ..errors import CurateError
from ..inputs.examples import read_examples
from ..inputs.ingest import Intake
from ..inputs.model_files import revision_of, short_name
from ..inputs.readers import open_source
from ..models.devices import pick_dtype
from ..models.loading import context_of, load_config, load_tokenizer
from ..run.directory import RunDir, is_run
from ..run.importing import unused_notes, write_unused
from ..run.selected import finished_selection, scored_template, selected_rows
from ..scoring.tokens import Tokenization
from ..templates import Template, student_template
from ..training.chat_template import Serving, serving
from ..training.job import Job, Report, Training, TrainingProgress
from ..training.launch import check_launch, lost_process, without_library_output
from ..training.publication import TrainingResult, claim_folder, publish
from ..training.rows import Records, RowFormat, TrainingData, training_data
from ..training.trainer import train


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSource:
    """Records, where they come from (for manifest and card), and what counts their input's rows."""

    records: Records
    origin: Mapping[str, Any] = field(default_factory=dict)
    intake: Intake | None = None


def finetune_run(config: FinetuneConfig) -> TrainingResult:
    """Fine-tune on what a run selected (the only selection, or the one named), or on a data set.

    The template and the tokens are those that the selection was scored with.
    """
    assert config.input is not None
    other = config.held_out_data
    held_out = None if other is None else data_set(InputConfig(data=other))
    if not is_run(config.input.data):
        say_differences(config, {})
        return finetune_records(config, data_set(config.input), held_out=held_out)
    run = RunDir.open(config.input.data)
    name, entry = finished_selection(run, config.selection)
    source = RecordSource(
        records=selected_rows(run.path / "selected" / name),
        origin={"run": run.config["id"], "selection": name},
    )
    say_differences(config, entry["scoring"])
    config = replace(config, template=config.template or scored_template(run, name, entry))
    return finetune_records(config, source, held_out=held_out)


def data_set(config: InputConfig) -> RecordSource:
    """A data set's records."""
    source, intake = open_source(config.data), Intake()
    return RecordSource(
        records=read_examples(source, config, intake),
        origin={"data": source.name, "fingerprint": source.fingerprint},
        intake=intake,
    )


def say_differences(config: FinetuneConfig, scored: Mapping[str, Any]) -> None:
    """Say where the training departs from the scoring that chose the records, or from the model.

    `scored` is the selection's scoring identity, empty for a data set.
    """
    tokenizer = load_tokenizer(config.model, config.revision)
    choice = config.template or scored.get("template") or "auto"
    name = choice if choice == "file" else student_template(choice, tokenizer).name
    if scored and name != scored["template"]:
        say(f"note: trained with the template {name}; {scored['template']} chose the records")
    if scored and not _is_student(config, scored):
        say(f"note: {config.model} is trained; {scored['student']} chose the records")
    if name != "chat" and tokenizer.chat_template:
        say(f"note: the tokenizer of {config.model} has a chat template of its own; the trained "
            f"model gets that of {name} (--template chat keeps its own)")  # fmt: skip


def _is_student(config: FinetuneConfig, scored: Mapping[str, Any]) -> bool:
    own = (short_name(config.model), revision_of(config.model, config.revision))
    return own == (scored["student"], scored["revision"])


def finetune_records(
    config: FinetuneConfig,
    source: RecordSource,
    *,
    held_out: RecordSource | None = None,
    title: str = "finetune",
) -> TrainingResult:
    """Fine-tune on records with the tokens that scoring uses, and show the progress."""
    tokenizer = load_tokenizer(config.model, config.revision)
    template = student_template(config.template or "auto", tokenizer)
    if template.date:
        say(f"note: the chat template writes the date {template.date} in place of today's")
    # Rows are cut by the recipe, not by the tokenization.
    tokens = Tokenization(tokenizer, template, name="exact", max_length=1)
    with Progress(title, total=None, unit="steps") as progress:

        def report(now: TrainingProgress) -> None:
            progress.total = now.steps
            progress.advance(now.step - progress.done, f"loss {now.loss:.4f}")

        return finetune(
            config, source, template=template, tokens=tokens, held_out=held_out, progress=report
        )


def finetune(
    config: FinetuneConfig,
    source: RecordSource,
    *,
    template: Template,
    tokens: Tokenization,
    held_out: RecordSource | None = None,
    progress: Report | None = None,
) -> TrainingResult:
    """Train, and publish the model into `config.out`; a finished training is read, not repeated.

    Raises CurateError for bad input, another run's folder, a loss that is no number, no memory.
    """
    with without_library_output(), writable(config.out), lost_process(), ExitStack() as locks:
        job, intakes = _prepared(config, source, held_out, template, tokens)
        finished = claim_folder(job, _identity(job, template), locks, command="finetune")
        if finished is not None:
            return finished
        for name, intake in intakes.items():
            _say_unused(job, name, intake)
        if job.data.unlike:
            say(f"note: {job.data.unlike} earlier answers are not trained on: in a history the "
                "template writes them otherwise than as an answer")  # fmt: skip
        training = Training(report=progress or (lambda _: None))
        trainer = train(job, training)
        about = {"preset": config.preset, "template": template.name, "source": dict(source.origin)}
        counts = {name: intake.counts() for name, intake in intakes.items()}
        return publish(job, trainer, training, {**about, "rows": counts})


def _prepared(
    config: FinetuneConfig,
    source: RecordSource,
    held_out: RecordSource | None,
    template: Template,
    tokens: Tokenization,
) -> tuple[Job, dict[str, Intake]]:
    """The job, and what became of all rows that were read for it, by what they were read for."""
    recipe = _within_context(config)
    served = serving(template, tokens)
    form = RowFormat(
        template=template,
        tokens=tokens,
        end=served.end,
        max_length=recipe.row_tokens,
        overlong=recipe.overlong,
        loss_on=recipe.loss_on,
    )
    others = held_out.records if held_out else None
    data = training_data(
        source.records, form, held_out=recipe.held_out, seed=recipe.seed, held_out_records=others
    )
    _check_vocabulary(config, data)
    rows = len(data.rows) + (0 if held_out else len(data.held_out))
    intakes = {"input": _counted(source, rows, data.left_out)}
    if held_out:
        intakes["held_out"] = _counted(held_out, len(data.held_out), data.held_out_left_out)
    return _job(config, recipe, data, served), intakes


def _counted(source: RecordSource, rows: int, left_out: list[tuple[str, str]]) -> Intake:
    records = rows + len(left_out)
    intake = source.intake or Intake(rows=records, records=records)
    intake.reject_records(left_out)
    return intake


def _say_unused(job: Job, name: str, intake: Intake) -> None:
    """Say which rows were not used, and list them in `out`; those to hold out in a folder there."""
    folder = job.out if name == "input" else job.out / name
    for note in unused_notes(intake.counts(), f"{folder}/"):
        folder.mkdir(exist_ok=True)
        if job.state.is_main_process:
            write_unused(folder, intake)
        say(note)


def _within_context(config: FinetuneConfig) -> Recipe:
    recipe = config.recipe()
    context = context_of(load_config(config.model, config.revision)) or recipe.row_tokens
    if config.max_length is not None and config.max_length > context:
        raise CurateError(
            f"--max-length {config.max_length} is beyond the context of {config.model}: {context}"
        )
    return replace(recipe, max_length=min(recipe.row_tokens, context))


def _check_vocabulary(config: FinetuneConfig, data: TrainingData) -> None:
    size = load_config(config.model, config.revision).get_text_config().vocab_size
    largest = max(max(row.input_ids) for row in data.rows + data.held_out)
    if largest >= size:
        raise CurateError(
            f"the template writes a token {largest}, and the model of {config.model} has only "
            f"{size}: they do not belong together"
        )


def _job(config: FinetuneConfig, recipe: Recipe, data: TrainingData, served: Serving) -> Job:
    import torch
    from accelerate import PartialState

    check_launch(recipe)
    cpu = recipe.device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=cpu)
    auto = pick_dtype(state.device) == "bfloat16"
    return Job(
        model=config.model,
        revision=config.revision,
        recipe=recipe,
        data=data,
        serving=served,
        out=config.out,
        state=state,
        bf16={"auto": auto, "bf16": True, "float32": False}[recipe.precision],
        cpu=cpu,
    )


def _identity(job: Job, template: Template) -> dict[str, Any]:
    """What may not change when a training is taken up again."""
    identity: dict[str, Any] = {"model": job.model, "revision": job.revision}
    identity |= {"template": template.name, "bf16": job.bf16}
    identity |= {name: value for name, value in asdict(job.recipe).items() if name not in FREE}
    return identity | {"data": job.data.fingerprint}  # last, for most others change it too
