"""Stage 3: selected records -> a fine-tuned model in a folder that can be taken up again."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from ..base.files import writable
from ..base.progress import say
from ..config import InputConfig
from ..config.training import FinetuneConfig
from ..inputs.examples import read_examples
from ..inputs.ingest import Intake
from ..inputs.model_files import revision_of, short_name
from ..inputs.readers import open_source
from ..models.loading import load_tokenizer
from ..runs.directory import RunDir, is_run
from ..runs.published.arrow_set import read_rows
from ..runs.published.selected import finished_selection, scored_template
from ..scoring.tokens import Tokenization
from ..templates import Template, student_template
from ..training.chat_template import serving
from ..training.folder.publication import TrainingResult, claim_folder, publish, pushed
from ..training.job import Job, Report, Training
from ..training.launch import lost_process, without_library_output
from ..training.preparation import (
    counted,
    identity_of,
    prepared_job,
    say_unused,
    shown_progress,
    within_context,
)
from ..training.rows import Records, RowFormat, training_data
from ..training.trainer import sft_trainer, train


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
    return pushed(lambda: _finetune_run(config), config.push_to_hub)


def _finetune_run(config: FinetuneConfig) -> TrainingResult:
    assert config.input is not None
    other = config.held_out_data
    held_out = None if other is None else data_set(InputConfig(data=other))
    if not is_run(config.input.data):
        say_differences(config, {})
        return finetune_records(config, data_set(config.input), held_out=held_out)
    run = RunDir.open(config.input.data)
    name, entry = finished_selection(run, config.selection)
    source = RecordSource(
        records=read_rows(run.path / "selected" / name),
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
    with shown_progress(title) as report:
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
        identity = identity_of(job, template.name)
        finished = claim_folder(job, identity, locks, command="finetune", config=config)
        if finished is not None:
            return finished
        say_unused(job, intakes)
        if job.data.unlike:
            say(f"note: {job.data.unlike} earlier answers are not trained on: in a history the "
                "template writes them otherwise than as an answer")  # fmt: skip
        training = Training(report=progress or (lambda _: None))
        trainer = train(job, training, sft_trainer)
        about = {"preset": config.preset, "template": template.name, "source": dict(source.origin)}
        about["measured_on"] = "records of the same data, held out"
        if held_out is not None:
            about["measured_on"] = str(
                held_out.origin.get("data", "originals of the run, held out")
            )
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
    recipe = within_context(config.recipe(), config.model, config.revision)
    served = serving(template, tokens)
    form = RowFormat(
        template=template,
        tokens=tokens,
        end=served.end,
        max_length=recipe.row_tokens,
        overlong=recipe.overlong,
        loss_on=recipe.loss_on,
    )
    data = training_data(
        source.records,
        form,
        held_out=recipe.held_out,
        seed=recipe.seed,
        held_out_records=held_out.records if held_out else None,
    )
    rows = len(data.rows) + (0 if held_out else len(data.held_out))
    intakes = {"input": counted(source.intake, rows, data.left_out)}
    if held_out:
        others = len(data.held_out)
        intakes["held_out"] = counted(held_out.intake, others, data.held_out_left_out)
    job = prepared_job(
        config.model, config.revision, recipe=recipe, data=data, serving=served, out=config.out
    )
    return job, intakes
