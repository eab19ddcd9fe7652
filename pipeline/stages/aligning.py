"""`curate align`: preference pairs -> a model trained on them, in a folder that can be taken up."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..base.files import writable
from ..config import AlignConfig
from ..config.alignment import REFERENCE_FREE
from ..inputs.ingest import Intake
from ..inputs.pairs import read_pairs
from ..inputs.readers import open_source
from ..models.loading import load_tokenizer
from ..pair_records import TextPair
from ..scoring.tokens import Tokenization
from ..templates import student_template
from ..training.chat_template import serving, trained_with
from ..training.folder.publication import TrainingResult, claim_folder, publish, pushed
from ..training.job import Job, Training
from ..training.launch import lost_process, without_library_output
from ..training.preference.losses import loss_of
from ..training.preference.pair_rows import preference_data
from ..training.preference.reference import Reference, check_tokens
from ..training.preference.trainer import Alignment, preference_trainer
from ..training.preparation import (
    counted,
    identity_of,
    prepared_job,
    say_unused,
    shown_progress,
    within_context,
)
from ..training.rows import Records, RowFormat
from ..training.trainer import train


@dataclass(frozen=True, slots=True, kw_only=True)
class PairInput:
    """Pairs, where they come from (for manifest and card), and what counts their input's rows.

    `held_out` are records to measure the loss of fine-tuning on.
    """

    pairs: Iterable[TextPair]
    origin: Mapping[str, Any]
    intake: Intake | None = None
    held_out: Records = ()


def align(config: AlignConfig) -> TrainingResult:
    """Train on the configuration's pairs."""
    source, intake = open_source(config.pairs), Intake()
    origin = {"data": source.name, "fingerprint": source.fingerprint}
    given = PairInput(pairs=read_pairs(source, intake), origin=origin, intake=intake)
    return align_pairs(config, given)


def align_pairs(config: AlignConfig, given: PairInput, *, title: str = "align") -> TrainingResult:
    """Train, and publish the model into `config.out`; a finished training is read, not repeated.

    Raises CurateError for bad input, another run's folder, a wrong reference, a loss that is no
    number, no memory.
    """
    return pushed(lambda: _align(config, given, title), config.push_to_hub)


def _align(config: AlignConfig, given: PairInput, title: str) -> TrainingResult:
    with (
        without_library_output(),
        writable(config.out),
        lost_process(),
        shown_progress(title) as report,
        ExitStack() as locks,
    ):
        job, template = pair_job(config, given)
        alignment = _alignment(config)
        settings = _settings(config, alignment)
        identity = {**settings, **_together(job), **identity_of(job, template)}
        finished = claim_folder(job, identity, locks, command="align", config=config)
        if finished is not None:
            return finished
        intakes = _intakes(job, given)
        say_unused(job, intakes)
        training = Training(report=report)
        trainer = train(job, training, partial(preference_trainer, alignment=alignment))
        about = {
            "preset": job.recipe.preset,
            "template": template,
            "source": dict(given.origin),
            "preference": settings,
            "rows": {name: intake.counts() for name, intake in intakes.items()},
        }
        return publish(job, trainer, training, about)


def pair_job(config: AlignConfig, given: PairInput) -> tuple[Job, str]:
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
    data = preference_data(given.pairs, form, given.held_out)
    job = prepared_job(
        config.model, config.revision, recipe=recipe, data=data, serving=served, out=config.out
    )
    return job, template.name


def _intakes(job: Job, given: PairInput) -> dict[str, Intake]:
    """What became of all that was read, by what it was read for."""
    data = job.data
    intakes = {"input": counted(given.intake, len(data.rows), data.left_out)}
    if data.held_out or data.held_out_left_out:
        intakes["held_out"] = counted(None, len(data.held_out), data.held_out_left_out)
    return intakes


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
    return Alignment(
        loss=loss,
        reference=reference,
        trust_region=config.trust_region,
        same=same,
        shuffle=config.shuffle is not False,
    )


def _settings(config: AlignConfig, alignment: Alignment) -> dict[str, Any]:
    """What of the loss and the reference may not change when a training is taken up again."""
    reference = alignment.reference
    settings: dict[str, Any] = {"loss": config.loss, "beta": alignment.loss.beta}
    settings |= alignment.loss.settings | ({} if alignment.shuffle else {"shuffle": False})
    settings["reference"] = reference and reference.weights
    alpha, every = alignment.trust_region or (None, None)
    return settings | {"reference_update": config.reference_update, "alpha": alpha, "every": every}


def _together(job: Job) -> dict[str, int]:
    """What a micro-batch depends on: some losses do, and which rows an epoch leaves out."""
    return {
        "per_device_batch_size": job.recipe.per_device_batch_size,
        "processes": job.state.num_processes,
    }
