"""Stage 3: selected records -> a fine-tuned model in a folder that can be taken up again."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..base.files import writable
from ..base.progress import say
from ..config import InputConfig
from ..config.shared.training import FinetuneConfig
from ..inputs.examples import read_examples
from ..inputs.ingest import Intake
from ..inputs.model_files import revision_of, short_name
from ..inputs.readers import open_source
from ..models.loading import load_tokenizer
from ..runs.directory import RunDir, is_run
from ..runs.published.arrow_set import read_rows
from ..runs.published.selected import finished_selection, scored_template
from ..scoring.tokens import Tokenization
from ..templates import student_template
from ..training.chat_template import training_tokens
from ..training.folder.publication import TrainingResult, pushed
from ..training.job import Report
from ..training.launch import lost_process, without_library_output
from ..training.preparation import RecordSource, prepared_job, shown_progress, train_and_publish
from ..training.rows import Record, training_data
from ..training.trainer import sft_trainer


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
    source: RecordSource[Record] = RecordSource(
        records=read_rows(run.path / "selected" / name),
        origin={"run": run.config["id"], "selection": name},
    )
    say_differences(config, entry["scoring"])
    config = replace(config, template=config.template or scored_template(run, name, entry))
    return finetune_records(config, source, held_out=held_out)


def data_set(config: InputConfig) -> RecordSource[Record]:
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
    if scored:
        own = (short_name(config.model), revision_of(config.model, config.revision))
        if own != (scored["student"], scored["revision"]):
            say(f"note: {config.model} is trained; {scored['student']} chose the records")
    if name != "chat" and tokenizer.chat_template:
        say(f"note: the tokenizer of {config.model} has a chat template of its own; the trained "
            f"model gets that of {name} (--template chat keeps its own)")  # fmt: skip


def finetune_records(
    config: FinetuneConfig,
    source: RecordSource[Record],
    *,
    held_out: RecordSource[Record] | None = None,
    title: str = "finetune",
) -> TrainingResult:
    """Fine-tune on records with the tokens that scoring uses, and show the progress."""
    tokenizer = load_tokenizer(config.model, config.revision)
    tokens = training_tokens(tokenizer, config.template or "auto")
    if date := tokens.template.date:
        say(f"note: the chat template writes the date {date} in place of today's")
    with shown_progress(title) as report:
        return finetune(config, source, tokens=tokens, held_out=held_out, progress=report)


def finetune(
    config: FinetuneConfig,
    source: RecordSource[Record],
    *,
    tokens: Tokenization,
    held_out: RecordSource[Record] | None = None,
    progress: Report | None = None,
) -> TrainingResult:
    """Train, and publish the model into `config.out`; a finished training is read, not repeated.

    Raises CurateError for bad input, another run's folder, a loss that is no number, no memory.
    """
    recipe, measured_on = config.recipe(), "records of the same data, held out"
    if held_out is not None:
        measured_on = str(held_out.origin.get("data", "originals of the run, held out"))
    read = partial(
        training_data,
        source.records,
        held_out=recipe.held_out,
        seed=recipe.seed,
        held_out_records=held_out.records if held_out else None,
    )
    with without_library_output(), writable(config.out), lost_process():
        return train_and_publish(
            prepared_job(config, recipe, tokens, read),
            sft_trainer,
            source,
            held_out,
            command="finetune",
            config=config,
            report=progress or (lambda _: None),
            measured_on=measured_on,
        )
