"""`curate align`: preference pairs -> a model trained on them, in a folder that can be taken up."""

from contextlib import ExitStack
from functools import partial
from typing import Any

from ..base.files import writable
from ..config import AlignConfig
from ..config.alignment import REFERENCE_FREE
from ..inputs.ingest import Intake
from ..inputs.pairs import read_pairs
from ..inputs.readers import Source, open_source
from ..models.loading import load_tokenizer
from ..scoring.tokens import Tokenization
from ..templates import student_template
from ..training.chat_template import serving, trained_with
from ..training.job import Job, Training
from ..training.launch import lost_process, without_library_output
from ..training.losses import loss_of
from ..training.pair_rows import preference_data
from ..training.preference_trainer import Alignment, preference_trainer
from ..training.preparation import (
    identity_of,
    prepared_job,
    say_unused,
    shown_progress,
    within_context,
)
from ..training.publication import TrainingResult, claim_folder, publish, pushed
from ..training.reference import Reference, check_tokens
from ..training.rows import RowFormat
from ..training.trainer import train


def align(config: AlignConfig) -> TrainingResult:
    """Train, and publish the model into `config.out`; a finished training is read, not repeated.

    Raises CurateError for bad input, another run's folder, a wrong reference, a loss that is no
    number, no memory.
    """
    return pushed(lambda: _align(config), config.push_to_hub)


def _align(config: AlignConfig) -> TrainingResult:
    with (
        without_library_output(),
        writable(config.out),
        lost_process(),
        shown_progress("align") as report,
        ExitStack() as locks,
    ):
        source, intake = open_source(config.pairs), Intake()
        job, template = _prepared(config, source, intake)
        alignment = _alignment(config)
        settings = _settings(config, alignment)
        identity = {**settings, **_together(job), **identity_of(job, template)}
        finished = claim_folder(job, identity, locks, command="align", config=config)
        if finished is not None:
            return finished
        say_unused(job, intake, job.out)
        training = Training(report=report)
        trainer = train(job, training, partial(preference_trainer, alignment=alignment))
        about = {
            "preset": job.recipe.preset,
            "template": template,
            "source": {"data": source.name, "fingerprint": source.fingerprint},
            "preference": settings,
            "rows": {"input": intake.counts()},
        }
        return publish(job, trainer, training, about)


def _prepared(config: AlignConfig, source: Source, intake: Intake) -> tuple[Job, str]:
    """The job, and the template's name. Rows are made as for fine-tuning."""
    tokenizer = load_tokenizer(config.model, config.revision)
    choice = config.template or trained_with(config.model) or "auto"
    template = student_template(choice, tokenizer)
    # Rows are cut by the recipe, not by the tokenization.
    tokens = Tokenization(tokenizer, template, name="exact", max_length=1)
    served = serving(template, tokens)
    recipe = within_context(config.training, config.model, config.revision)
    form = RowFormat(
        template=template,
        tokens=tokens,
        end=served.end,
        max_length=recipe.row_tokens,
        overlong=recipe.overlong,
    )
    data = preference_data(read_pairs(source, intake), form)
    intake.reject_records(data.left_out)
    job = prepared_job(
        config.model, config.revision, recipe=recipe, data=data, serving=served, out=config.out
    )
    return job, template.name


def _alignment(config: AlignConfig) -> Alignment:
    """The loss and its reference: the model as it is, where no other is named."""
    loss, reference, same = loss_of(config), None, False
    if config.loss not in REFERENCE_FREE:
        own = Reference.of(config.model, config.revision)
        reference = own
        if config.reference is not None:
            check_tokens(config.model, config.revision, config.reference)
            reference = Reference.of(config.reference, None)
        same = reference.weights == own.weights
    return Alignment(loss=loss, reference=reference, trust_region=config.trust_region, same=same)


def _settings(config: AlignConfig, alignment: Alignment) -> dict[str, Any]:
    """What of the loss and the reference may not change when a training is taken up again."""
    reference = alignment.reference
    settings: dict[str, Any] = {"loss": config.loss, "beta": alignment.loss.beta}
    settings |= alignment.loss.settings
    settings["reference"] = reference and reference.weights
    alpha, every = alignment.trust_region or (None, None)
    return settings | {"reference_update": config.reference_update, "alpha": alpha, "every": every}


def _together(job: Job) -> dict[str, int]:
    """What a micro-batch depends on: some losses do, and which rows an epoch leaves out."""
    return {
        "per_device_batch_size": job.recipe.per_device_batch_size,
        "processes": job.state.num_processes,
    }
