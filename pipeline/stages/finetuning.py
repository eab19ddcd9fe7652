"""Stage 3: selected records -> a fine-tuned model in a folder that can be taken up again."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..base.files import writable, write_json
from ..base.progress import Progress
from ..config import InputConfig, TemplateName
from ..config.training import FREE, FinetuneConfig, Recipe
from ..errors import CurateError
from ..inputs.examples import read_examples
from ..inputs.ingest import Intake
from ..inputs.model_files import revision_of
from ..inputs.readers import open_source
from ..models.loading import context_of, load_config, load_tokenizer
from ..records import Example
from ..run.directory import RunDir, is_run
from ..run.lock import run_lock
from ..run.selected import finished_selection, selected_rows
from ..templates import Template
from ..training.checkpoints import (
    MANIFEST,
    STAGED,
    check_claim,
    claim,
    publish_files,
    read_json,
    refusals_told,
)
from ..training.launch import check_launch, deserted, quiet
from ..training.loss_curve import loss_curve, write_curve
from ..training.rows import Tokens, TrainingData, training_data
from ..training.saving import model_card, save_trained, versions
from ..training.trainer import FinetuneProgress, Job, Report, Training, train

Records = Iterable[Example | Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneResult:
    """What came out. The losses are mean NLLs (nats) of a response token, EOS included.

    `train_loss` is (step, loss) for each step; `seconds` and `tokens_per_second` (without padding)
    are of this session; rows + held_out_rows + the counts in `dropped` are the records given.
    """

    out: Path
    steps: int
    train_loss: tuple[tuple[int, float], ...]
    rows: int
    held_out_rows: int
    held_out_tokens: int
    held_out_before: float | None
    held_out_after: float | None
    cut: int
    dropped: Mapping[str, int]
    max_length: int
    processes: int
    seconds: float
    tokens_per_second: float
    resumed_from: int | None = None
    already_trained: bool = False


def finetune_run(
    config: FinetuneConfig, data: str, *, selection: str | None = None
) -> FinetuneResult:
    """Fine-tune on what a run selected (the only selection, or the one named), or on a data set.

    The template and the tokens are those that the selection was scored with.
    """
    source, records, scored_with = _records(config.input or InputConfig(data=data), selection)
    held_out = (
        None
        if config.held_out_data is None
        else data_set(InputConfig(data=config.held_out_data))[1]
    )
    config = replace(config, template=config.template or scored_with)
    return finetune_records(config, records, source=source, held_out_records=held_out)


def finetune_records(
    config: FinetuneConfig,
    records: Records,
    *,
    source: Mapping[str, Any],
    held_out_records: Records | None = None,
    title: str = "finetune",
) -> FinetuneResult:
    """Fine-tune on records with the tokens that scoring uses, and show the progress."""
    from ..scoring.engine import student_template
    from ..scoring.tokens import Tokenization

    tokenizer = load_tokenizer(config.model, config.revision)
    template = student_template(config.template or "vicuna", tokenizer)
    tokens = Tokenization(
        tokenizer, name="exact", max_length=1, chat=template.name == "chat"
    )  # rows are cut by the recipe, not here
    with Progress(title, total=None, unit="steps") as progress:

        def report(now: FinetuneProgress) -> None:
            progress.total = now.steps
            progress.advance(now.step - progress.done, f"loss {now.loss:.4f}")

        return finetune(
            config,
            records,
            template=template,
            tokens=tokens,
            source=source,
            progress=report,
            held_out_records=held_out_records,
        )


def _records(
    input: InputConfig, selection: str | None
) -> tuple[dict[str, Any], Records, TemplateName | None]:
    """Where the records come from, the records, and the template they were scored with."""
    if not is_run(input.data):
        return *data_set(input), None
    run = RunDir.open(input.data)
    name, entry = finished_selection(run, selection)
    rows = selected_rows(run.path / "selected" / name)
    return {"run": run.config["id"], "selection": name}, rows, entry["scoring"]["template"]


def data_set(input: InputConfig) -> tuple[dict[str, Any], Iterator[Example]]:
    """Where the records of a data set come from, and the records."""
    source = open_source(input.data)
    records = read_examples(source, input, Intake())
    return {"data": source.name, "fingerprint": source.fingerprint}, records


def finetune(
    config: FinetuneConfig,
    records: Records,
    *,
    template: Template,
    tokens: Tokens,
    source: Mapping[str, Any] | None = None,
    progress: Report | None = None,
    held_out_records: Records | None = None,
) -> FinetuneResult:
    """Train, and publish the model into `config.out`; a finished training is read, not repeated.

    `source` says where the records come from (run, manifest, ...), for the manifest and the card.
    Raises CurateError for bad input, another run's folder, a loss that is no number, no memory.
    """
    with quiet(), writable(config.out), deserted(), ExitStack() as locks:
        recipe = _within_context(config)
        data = training_data(
            records,
            template=template,
            tokens=tokens,
            max_length=recipe.row_tokens,
            overlong=recipe.overlong,
            held_out=recipe.held_out,
            seed=recipe.seed,
            held_out_records=held_out_records,
        )
        _check_vocabulary(config, data)
        job = _job(config, recipe, data)
        finished = _claimed(job, _identity(job, template), locks)
        if finished is not None:
            return _result_from(finished, config.out)
        training = Training(report=progress or (lambda _: None))
        trainer = train(job, training)
        about = {"preset": config.preset, "template": template.name, "source": dict(source or {})}
        return _publish(job, trainer, training, about)


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
            f"the tokenizer of {config.model} has a token {largest}, and its model only {size}: "
            "they do not belong together"
        )


def _job(config: FinetuneConfig, recipe: Recipe, data: TrainingData) -> Job:
    import torch
    from accelerate import PartialState

    check_launch(recipe)
    cpu = recipe.device == "cpu" or not torch.cuda.is_available()
    auto = not cpu and torch.cuda.is_bf16_supported()
    return Job(
        model=config.model,
        revision=config.revision,
        recipe=recipe,
        data=data,
        out=config.out,
        state=PartialState(cpu=cpu),
        bf16={"auto": auto, "bf16": True, "float32": False}[recipe.precision],
        cpu=cpu,
    )


def _identity(job: Job, template: Template) -> dict[str, Any]:
    """What may not change when a training is taken up again."""
    identity: dict[str, Any] = {"model": job.model, "revision": job.revision}
    identity |= {"template": template.name, "bf16": job.bf16}
    identity |= {name: value for name, value in asdict(job.recipe).items() if name not in FREE}
    return identity | {"data": job.data.fingerprint}  # last, for most others change it too


def _claimed(job: Job, identity: Mapping[str, Any], locks: ExitStack) -> dict[str, Any] | None:
    """Lock and claim `out` for this very training; its manifest if it is finished."""
    check_claim(job.out, identity)
    finished = read_json(job.out / MANIFEST)
    job.state.wait_for_everyone()  # so that none reads what the main process writes next
    if finished is None and job.state.is_main_process:
        locks.enter_context(run_lock(job.out, "finetune"))
        claim(job.out, identity)
    job.state.wait_for_everyone()
    return finished


def _publish(
    job: Job, trainer: Any, training: Training, about: Mapping[str, Any]
) -> FinetuneResult:
    """Put the model into `out`, then the manifest; only then are the checkpoints dispensable."""
    staged = job.out / STAGED
    with refusals_told(job.out):
        save_trained(trainer, job.model, job.revision, staged)
    result = _result(job, trainer, training)
    if job.state.is_main_process:
        manifest = _manifest(job, result, about)
        (staged / "README.md").write_text(model_card(manifest), "utf-8")
        write_curve(loss_curve(trainer.state.log_history), staged)
        publish_files(staged, job.out)
        write_json(job.out / MANIFEST, manifest)
        if not job.recipe.keep_checkpoints:
            shutil.rmtree(job.checkpoints)
    job.state.wait_for_everyone()
    return result


def _result(job: Job, trainer: Any, training: Training) -> FinetuneResult:
    logged = trainer.state.log_history
    return FinetuneResult(
        out=job.out,
        steps=trainer.state.global_step,
        train_loss=tuple((entry["step"], entry["loss"]) for entry in logged if "loss" in entry),
        rows=len(job.data.rows),
        held_out_rows=len(job.data.held_out),
        held_out_tokens=job.data.held_out_tokens,
        held_out_before=training.held_out_before,
        held_out_after=training.held_out_after,
        cut=job.data.cut,
        dropped=job.data.dropped,
        max_length=job.recipe.row_tokens,
        processes=job.state.num_processes,
        seconds=training.seconds,
        tokens_per_second=training.tokens / max(training.seconds, 1e-9),
        resumed_from=training.resumed_from,
    )


def _manifest(job: Job, result: FinetuneResult, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": job.model,
        "revision": job.revision,
        "weights": revision_of(job.model, job.revision),
        **about,
        "settings": {**asdict(job.recipe), "bf16": job.bf16},
        "data": job.data.fingerprint,
        "result": {**asdict(result), "out": str(result.out)},
        "versions": versions(),
    }


def _result_from(manifest: Mapping[str, Any], out: Path) -> FinetuneResult:
    result = dict(manifest["result"])
    result["train_loss"] = tuple((step, loss) for step, loss in result["train_loss"])
    return FinetuneResult(**{**result, "out": out, "already_trained": True})
