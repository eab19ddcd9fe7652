"""What all stages that train share: their input, the job, and its way from a claim to a model."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, TypeVar

from ..base.progress import Progress, say
from ..config import AlignConfig
from ..config.shared.training import FREE, FinetuneConfig, Recipe
from ..errors import CurateError
from ..inputs.ingest import Intake
from ..models.devices import pick_dtype
from ..models.loading import context_of, load_config
from ..runs.importing import say_unused, write_unused
from ..scoring.tokens import Tokenization
from .chat_template import serving
from .folder.publication import TrainingResult, claim_folder, publish
from .job import Job, Report, Training, TrainingProgress
from .launch import check_launch
from .rows import RowFormat, TrainingData
from .trainer import train

Config = FinetuneConfig | AlignConfig
T = TypeVar("T", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSource(Generic[T]):
    """Records or pairs, their origin for manifest and card, and what counts their input's rows."""

    records: Iterable[T]
    origin: Mapping[str, Any] = field(default_factory=dict)
    intake: Intake | None = None


def prepared_job(
    config: Config,
    recipe: Recipe,
    tokens: Tokenization,
    read: Callable[[RowFormat], TrainingData[Any]],
) -> Job:
    """The job on this machine, with the rows that `read` makes.

    Raises CurateError where rows are to be longer than the model's context, and where processes,
    libraries or embeddings are lacking.
    """
    import torch
    from accelerate import PartialState

    recipe, served = _within_context(recipe, config), serving(tokens.template, tokens)
    form = RowFormat(
        template=tokens.template,
        tokens=tokens,
        end=served.end,
        max_length=recipe.row_tokens,
        overlong=recipe.overlong,
        loss_on=recipe.loss_on,
    )
    data = read(form)
    _check_vocabulary(config, data)
    check_launch(recipe)
    cpu = recipe.device == "cpu" or not torch.cuda.is_available()
    state = PartialState(cpu=cpu)
    auto = pick_dtype(state.device) == "bfloat16"
    return Job(
        model=config.model,
        revision=config.revision,
        template=tokens.template.name,
        recipe=recipe,
        data=data,
        serving=served,
        out=config.out,
        state=state,
        bf16={"auto": auto, "bf16": True, "float32": False}[recipe.precision],
        cpu=cpu,
    )


def _within_context(recipe: Recipe, config: Config) -> Recipe:
    """The recipe with rows that fit into the model."""
    context = context_of(load_config(config.model, config.revision)) or recipe.row_tokens
    if recipe.max_length is not None and recipe.max_length > context:
        raise CurateError(
            f"--max-length {recipe.max_length} is beyond the context of {config.model}: {context}"
        )
    return replace(recipe, max_length=min(recipe.row_tokens, context))


def _check_vocabulary(config: Config, data: TrainingData[Any]) -> None:
    size = load_config(config.model, config.revision).get_text_config().vocab_size
    largest = max(max(row.input_ids) for row in (*data.rows, *data.held_out))
    if largest >= size:
        raise CurateError(
            f"the template writes a token {largest}, and the model of {config.model} has only "
            f"{size}: they do not belong together"
        )


def train_and_publish(
    job: Job,
    build: Callable[[Job], Any],
    source: RecordSource[Any],
    held_out: RecordSource[Any] | None,
    *,
    command: str,
    config: Config,
    report: Report,
    settings: Mapping[str, Any] | None = None,
    **about: Any,
) -> TrainingResult:
    """Claim the folder, train, and put the model into it; a finished training is read instead.

    `settings` may not change either when a training is taken up again; `about` goes into the
    manifest.
    """
    with ExitStack() as locks:
        identity = {**(settings or {}), **_identity(job)}
        finished = claim_folder(job, identity, locks, command=command, config=config)
        if finished is not None:
            return finished
        intakes = _intakes(job.data, source, held_out)
        _say_unused(job, intakes)
        training = Training(report=report)
        trainer = train(job, training, build)
        counts = {name: intake.counts() for name, intake in intakes.items()}
        known: dict[str, Any] = {"preset": job.recipe.preset, "template": job.template}
        known |= {"source": dict(source.origin), **about, "rows": counts}
        return publish(job, trainer, training, known)


def _identity(job: Job) -> dict[str, Any]:
    """What may not change when a training is taken up again."""
    identity: dict[str, Any] = {"model": job.model, "revision": job.revision}
    identity |= {"template": job.template, "bf16": job.bf16}
    identity |= {name: value for name, value in asdict(job.recipe).items() if name not in FREE}
    return identity | {"data": job.data.fingerprint}  # last, for most others change it too


def _intakes(
    data: TrainingData[Any], source: RecordSource[Any], held_out: RecordSource[Any] | None
) -> dict[str, Intake]:
    """What became of all that was read, by what it was read for."""
    others = len(data.held_out)
    rows = len(data.rows) + (0 if held_out else others)
    intakes = {"input": _counted(source.intake, rows, data.left_out)}
    if held_out:
        intakes["held_out"] = _counted(held_out.intake, others, data.held_out_left_out)
    return intakes


def _counted(intake: Intake | None, rows: int, left_out: list[tuple[str, str]]) -> Intake:
    """Without an intake, of as many records as there were."""
    records = rows + len(left_out)
    intake = intake or Intake(rows=records, records=records)
    intake.reject_records(left_out)
    return intake


def _say_unused(job: Job, intakes: Mapping[str, Intake]) -> None:
    """Say which rows of what was read were not used, and list them; by what they were read for."""
    for name, intake in intakes.items():
        folder = job.out if name == "input" else job.out / name
        if say_unused(intake.counts(), f"{folder}/"):
            folder.mkdir(exist_ok=True)
            if job.state.is_main_process:
                write_unused(folder, intake)
    if job.data.unlike:
        say(f"note: {job.data.unlike} earlier answers are not trained on: in a history the "
            "template writes them otherwise than as an answer")  # fmt: skip


@contextmanager
def shown_progress(title: str) -> Iterator[Report]:
    """Shows each step of a training."""
    with Progress(title, total=None, unit="steps") as progress:

        def report(now: TrainingProgress) -> None:
            progress.total = now.steps
            progress.advance(now.step - progress.done, f"loss {now.loss:.4f}")

        yield report
