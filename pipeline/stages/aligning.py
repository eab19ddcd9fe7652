"""`curate align`: preference pairs -> a model trained on them, in a folder that can be taken up."""

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
from ..training.chat_template import trained_with, training_tokens
from ..training.folder.publication import TrainingResult, pushed
from ..training.job import Job
from ..training.launch import lost_process, without_library_output
from ..training.preference.losses import loss_of
from ..training.preference.pair_rows import preference_data
from ..training.preference.reference import Reference, check_tokens
from ..training.preference.trainer import Alignment, preference_trainer
from ..training.preparation import RecordSource, prepared_job, shown_progress, train_and_publish
from ..training.rows import Record


def align(config: AlignConfig) -> TrainingResult:
    """Train on the configuration's pairs."""
    source, intake = open_source(config.pairs), Intake()
    origin = {"data": source.name, "fingerprint": source.fingerprint}
    pairs = RecordSource(records=read_pairs(source, intake), origin=origin, intake=intake)
    return align_pairs(config, pairs)


def align_pairs(
    config: AlignConfig,
    pairs: RecordSource[TextPair],
    *,
    held_out: RecordSource[Record] | None = None,
    title: str = "align",
) -> TrainingResult:
    """Train, and publish the model into `config.out`; a finished training is read, not repeated.

    The loss of fine-tuning is measured on `held_out`. Raises CurateError for bad input, another
    run's folder, a wrong reference, a loss that is no number, no memory.
    """
    return pushed(lambda: _align(config, pairs, held_out, title), config.push_to_hub)


def _align(
    config: AlignConfig,
    pairs: RecordSource[TextPair],
    held_out: RecordSource[Record] | None,
    title: str,
) -> TrainingResult:
    with (
        without_library_output(),
        writable(config.out),
        lost_process(),
        shown_progress(title) as report,
    ):
        job = pair_job(config, pairs, held_out)
        alignment = _alignment(config)
        settings = _settings(config, alignment)
        # What a micro-batch depends on: some losses do, and which rows an epoch leaves out.
        batch = {
            "per_device_batch_size": job.recipe.per_device_batch_size,
            "processes": job.state.num_processes,
        }
        return train_and_publish(
            job,
            partial(preference_trainer, alignment=alignment),
            pairs,
            held_out,
            command="align",
            config=config,
            report=report,
            settings=settings | batch,
            preference=settings,
        )


def pair_job(
    config: AlignConfig,
    pairs: RecordSource[TextPair],
    held_out: RecordSource[Record] | None = None,
) -> Job:
    """The job; rows are made as for fine-tuning."""
    choice = config.template or trained_with(config.model) or "auto"
    tokens = training_tokens(load_tokenizer(config.model, config.revision), choice)
    others = held_out.records if held_out else ()
    read = partial(preference_data, pairs.records, held_out=others)
    return prepared_job(config, config.training, tokens, read)


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
