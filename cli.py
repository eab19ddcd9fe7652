"""The command line: parses options, calls one stage, prints the result; no logic."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from json import dumps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from .pipeline.base import ranks, signals
from .pipeline.base.progress import inert
from .pipeline.commandline import options as opt
from .pipeline.commandline.making import (
    JUDGE_TOKENS,
    OF_FINETUNE,
    listed,
    made,
    made_asked,
    made_pairwise,
    made_reflect,
    made_share,
    numbers,
)
from .pipeline.commandline.options import option
from .pipeline.commandline.printing import (
    print_counts,
    print_judged,
    print_outcome,
    print_reflected,
    print_selected,
    print_training,
)
from .pipeline.config import (
    AnswerFormat,
    EvaluateConfig,
    ExportFormat,
    GenerateConfig,
    InputConfig,
    JudgeConfig,
    Schedule,
    ScoreConfig,
    ScoringConfig,
    SelectConfig,
)
from .pipeline.config.training import FinetuneConfig, Overlong, Preset, Scheduler
from .pipeline.errors import CurateError, UsageError
from .pipeline.inputs.urls import names_a_url

app = typer.Typer(
    name="curate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Data curation for instruction tuning: a teacher rewrites each record, the student "
    "decides which version to keep.",
    epilog="Exit codes: 0 done; 1 an error you can fix; 2 wrong usage; 3 finished, but some "
    "candidates or scores failed; 4 stopped by a budget; 130 interrupted. After 3, 4 and 130 the "
    "same command goes on where it stopped.",
)
P = ParamSpec("P")
INTERRUPTED = 130
FINISHED_BUT = 3


def command(
    name: str, *, trains: bool = False
) -> Callable[[Callable[P, int | None]], Callable[P, None]]:
    """Register a command whose errors become one line on stderr and an exit code.

    One that trains may be started by torchrun: several processes do it, and the first speaks.
    """

    def register(function: Callable[P, int | None]) -> Callable[P, None]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                if ranks.are_several() and not trains:
                    raise UsageError(f"torchrun starts `finetune` and `compare`, not `{name}`")
                with (
                    signals.interruptible(),
                    redirect_stdout(sys.stdout if ranks.is_first() else None),
                    _local(name, kwargs) as given,
                ):
                    code = function(*args, **given) or 0
                ranks.leave()
            except CurateError as error:
                _say_why(f"error: {inert(str(error))}")
                code = error.exit_code
            except KeyboardInterrupt:
                _say_why("interrupted: the same command goes on from here")
                code = INTERRUPTED
            raise typer.Exit(code)

        app.command(name)(run)
        return run

    return register


def _local(name: str, options: dict[str, Any]) -> AbstractContextManager[Any]:
    """The options with local paths for URLs, while a command runs."""
    if not names_a_url(options):
        return nullcontext(options)
    from .pipeline.remote.arguments import reached

    return reached(name, options)


def _say_why(line: str) -> None:
    if ranks.first_to_end():
        print(line, file=sys.stderr)


# --- commands -------------------------------------------------------------------------------------


@command("reflect")
def reflect(
    data: opt.Data,
    *,
    out: Annotated[Path | None, option("The run directory; not needed if DATA is one.")] = None,
    teacher: opt.Teacher = None,
    engine: opt.Engine = "auto",
    base_url: opt.BaseUrl = None,
    replies: opt.Replies = None,
    journal: opt.JournalDir = None,
    concurrency: opt.Concurrency = 64,
    rpm: opt.Rpm = None,
    tpm: opt.Tpm = None,
    batch_api: opt.BatchApi = False,
    batch_poll: opt.BatchPoll = 60.0,
    max_tokens: opt.MaxTokens = 2048,
    temperature: opt.Temperature = 0.0,
    seed: opt.Seed = None,
    limit: opt.Limit = None,
    shard: opt.Shard = None,
    dry_run: Annotated[bool, option("Only say what it would cost.", "--dry-run")] = False,
    max_cost: opt.MaxCost = None,
    max_total_tokens: opt.MaxTotalTokens = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    prices: opt.PricesFile = None,
    retry: opt.Retry = None,
    dedup: opt.DedupOption = "off",
    dedup_threshold: opt.DedupThreshold = 0.8,
    prompts: opt.Prompts = None,
    teacher_revision: opt.TeacherRevision = None,
    teacher_device: opt.TeacherDevice = "auto",
    engine_args: opt.EngineArgs = None,
    instruction_column: opt.InstructionColumn = None,
    input_column: opt.InputColumn = None,
    output_column: opt.OutputColumn = None,
    strict: opt.Strict = False,
) -> int | None:
    """Stage 1: ask the teacher to criticise and rewrite each record."""
    options = locals()
    if dry_run:
        from .pipeline.stages.reflection.estimate import estimate

        print(estimate(made_reflect(options)))
        return 0
    from .pipeline.stages.reflection.stage import reflect as stage

    config = made_reflect(options, share=made_share(shard))
    result = stage(config)
    print_reflected(result)
    if result.waiting:
        print(
            f"share {config.share} is done; {result.waiting} shards of other tasks are missing: "
            "the task that makes the last one finishes the run"
        )
    return FINISHED_BUT if result.troubled else 0


@command("select")
def select(
    data: opt.Data,
    *,
    student: opt.Student,
    out: Annotated[Path | None, option("The run directory; not needed if DATA is one.")] = None,
    revision: opt.Revision = None,
    template: opt.TemplateOption = "auto",
    tokenization: opt.TokenizationOption = "exact",
    max_length: opt.MaxLength = None,
    batch_tokens: opt.BatchTokens = None,
    device: opt.Device = "auto",
    dtype: opt.DtypeName = "auto",
    executor: opt.ExecutorName = "local",
    workers: opt.Workers = None,
    score_all: opt.ScoreAll = False,
    max_ifd: opt.MaxIfd = 1.0,
    max_rifd: opt.MaxRifd = 1.0,
    only_improved: opt.OnlyImproved = False,
    top: opt.Top = None,
    rank_by: opt.RankByOption = "ifd",
    decontaminate: opt.Decontaminate = None,
    ngram: opt.Ngram = 13,
    diverse: opt.Diverse = None,
    limit: opt.Limit = None,
    shard: opt.Shard = None,
    instruction_column: opt.InstructionColumn = None,
    input_column: opt.InputColumn = None,
    output_column: opt.OutputColumn = None,
    strict: opt.Strict = False,
) -> int | None:
    """Stage 2: let the student choose a version of each record, by IFD and r-IFD."""
    options = locals()
    from .pipeline.stages.selection.stage import score_share
    from .pipeline.stages.selection.stage import select as stage

    config = made(
        SelectConfig,
        options,
        input=made(InputConfig, options),
        scoring=made(ScoringConfig, options),
        share=made_share(shard),
        decontaminate=tuple(decontaminate or ()),
    )
    if not config.share.whole:
        part = score_share(config)
        print(
            f"scored share {config.share}, {part.records} records: {part.run}; when all tasks have "
            "ended, the same command with --shard 0/1 decides"
        )
        return FINISHED_BUT if part.failed_scores else 0
    result = stage(config)
    print_selected(result)
    return FINISHED_BUT if result.failed_scores else 0


@command("score")
def score(
    data: opt.Data,
    *,
    student: opt.Student,
    out: Annotated[Path, option("The Parquet file to write.")],
    revision: opt.Revision = None,
    template: opt.TemplateOption = "auto",
    tokenization: opt.TokenizationOption = "exact",
    max_length: opt.MaxLength = None,
    batch_tokens: opt.BatchTokens = None,
    device: opt.Device = "auto",
    dtype: opt.DtypeName = "auto",
    executor: opt.ExecutorName = "local",
    workers: opt.Workers = None,
    limit: opt.Limit = None,
    instruction_column: opt.InstructionColumn = None,
    input_column: opt.InputColumn = None,
    output_column: opt.OutputColumn = None,
    strict: opt.Strict = False,
) -> int | None:
    """IFD and r-IFD of any data set, as a Parquet file."""
    options = locals()
    from .pipeline.stages.scoring import score as stage

    config = ScoreConfig(
        input=made(InputConfig, options), scoring=made(ScoringConfig, options), out=out
    )
    result = stage(config)
    print(
        f"{'already scored' if result.already_done else 'scored'} {result.rows} rows: {result.out}"
    )
    print_counts("scores", result.statuses)
    return FINISHED_BUT if result.statuses.get("failed") else 0


@command("finetune", trains=True)
def finetune(
    data: opt.Data,
    *,
    model: Annotated[str, option("The model to train: a folder or a hub id.")],
    out: Annotated[Path, option("The folder of the trained model.")],
    selection: opt.Selection = None,
    preset: opt.PresetOption = "paper-7b",
    revision: opt.Revision = None,
    template: opt.RunsTemplate = None,
    epochs: opt.Epochs = None,
    max_steps: opt.MaxSteps = None,
    learning_rate: opt.LearningRate = None,
    scheduler: Annotated[Scheduler | None, option("The course of the learning rate.")] = None,
    warmup_ratio: Annotated[float | None, option("The part of all steps that warms up.")] = None,
    weight_decay: Annotated[float | None, option("AdamW's weight decay.", min=0)] = None,
    max_grad_norm: Annotated[
        float | None, option("Gradients are clipped to this norm.", min=0)
    ] = None,
    batch_size: opt.BatchSize = None,
    per_device_batch_size: opt.PerDeviceBatchSize = None,
    max_length: opt.RowLength = None,
    overlong: Annotated[Overlong | None, option("Longer rows are cut or dropped.")] = None,
    held_out: opt.HeldOut = None,
    held_out_data: opt.HeldOutData = None,
    seed: Annotated[int | None, option("Of the order of the rows and the split.", min=0)] = None,
    packing: Annotated[
        bool | None, option("Several rows in one, which do not see each other.")
    ] = None,
    padding_free: Annotated[bool | None, option("Batches without padding; same numbers.")] = None,
    gradient_checkpointing: opt.Checkpointing = None,
    precision: opt.PrecisionOption = None,
    device: opt.TrainingDevice = None,
    lora_r: opt.LoraRank = None,
    lora_alpha: Annotated[int | None, option("LoRA's alpha.", min=1)] = None,
    lora_dropout: Annotated[float | None, option("LoRA's dropout.", min=0, max=1)] = None,
    fsdp: Annotated[
        bool | None,
        option("Split weights and optimiser over the processes that torchrun started."),
    ] = None,
    deepspeed: Annotated[
        str | None, option("A DeepSpeed configuration, with its numbers as `auto`.")
    ] = None,
    save_steps: Annotated[
        int | None, option("Steps between checkpoints [default: an epoch].", min=1)
    ] = None,
    keep_checkpoints: Annotated[bool | None, option("Keep checkpoints after the end.")] = None,
    report_to: Annotated[
        str | None, option("Trackers of transformers, such as tensorboard.")
    ] = None,
) -> int | None:
    """Stage 3: fine-tune the student on a selection, or on any data set; loss on responses only."""
    options = locals()
    from .pipeline.stages.finetuning import finetune_run

    result = finetune_run(made(FinetuneConfig, options), data, selection=selection)
    print_training(result)
    return 0


@command("run")
def run(
    data: opt.Data,
    *,
    out: Annotated[Path, option("The run directory; the trained model goes to its model/.")],
    student: opt.Student,
    schedule: Annotated[
        Schedule, option("all: three reflections a record; selective: the paper's order.")
    ] = "all",
    preset: Annotated[Preset, option("The settings to fine-tune with.")] = "paper-7b",
    no_finetune: Annotated[bool, option("Stop after the selection.", "--no-finetune")] = False,
    epochs: opt.Epochs = None,
    max_steps: opt.MaxSteps = None,
    learning_rate: opt.LearningRate = None,
    batch_size: opt.BatchSize = None,
    per_device_batch_size: opt.PerDeviceBatchSize = None,
    finetune_max_length: Annotated[
        int | None, option("Tokens of a row to train on; --max-length is of scoring.")
    ] = None,
    held_out: opt.HeldOut = None,
    held_out_data: opt.HeldOutData = None,
    teacher: opt.Teacher = None,
    engine: opt.Engine = "auto",
    base_url: opt.BaseUrl = None,
    replies: opt.Replies = None,
    journal: opt.JournalDir = None,
    concurrency: opt.Concurrency = 64,
    rpm: opt.Rpm = None,
    tpm: opt.Tpm = None,
    batch_api: opt.BatchApi = False,
    batch_poll: opt.BatchPoll = 60.0,
    max_tokens: opt.MaxTokens = 2048,
    temperature: opt.Temperature = 0.0,
    seed: opt.Seed = None,
    limit: opt.Limit = None,
    max_cost: opt.MaxCost = None,
    max_total_tokens: opt.MaxTotalTokens = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    prices: opt.PricesFile = None,
    retry: opt.Retry = None,
    dedup: opt.DedupOption = "off",
    dedup_threshold: opt.DedupThreshold = 0.8,
    prompts: opt.Prompts = None,
    teacher_revision: opt.TeacherRevision = None,
    teacher_device: opt.TeacherDevice = "auto",
    engine_args: opt.EngineArgs = None,
    revision: opt.Revision = None,
    template: opt.TemplateOption = "auto",
    tokenization: opt.TokenizationOption = "exact",
    max_length: opt.MaxLength = None,
    batch_tokens: opt.BatchTokens = None,
    device: opt.Device = "auto",
    dtype: opt.DtypeName = "auto",
    executor: opt.ExecutorName = "local",
    workers: opt.Workers = None,
    score_all: opt.ScoreAll = False,
    max_ifd: opt.MaxIfd = 1.0,
    max_rifd: opt.MaxRifd = 1.0,
    only_improved: opt.OnlyImproved = False,
    top: opt.Top = None,
    rank_by: opt.RankByOption = "ifd",
    decontaminate: opt.Decontaminate = None,
    ngram: opt.Ngram = 13,
    diverse: opt.Diverse = None,
    instruction_column: opt.InstructionColumn = None,
    input_column: opt.InputColumn = None,
    output_column: opt.OutputColumn = None,
    strict: opt.Strict = False,
) -> int | None:
    """Reflect, select and fine-tune in one go."""
    options = locals()
    from .pipeline.workflows.run import run as workflow

    result = workflow(
        made_reflect(options),
        made(
            SelectConfig,
            {name: value for name, value in options.items() if name != "out"},
            input=InputConfig(data=str(out)),
            scoring=made(ScoringConfig, options),
            decontaminate=tuple(decontaminate or ()),
        ),
        None
        if no_finetune
        else FinetuneConfig(
            model=student,
            revision=revision,
            out=out / "model",
            preset=preset,
            max_length=finetune_max_length,
            device="cpu" if device == "cpu" else None,
            **{name: options[name] for name in OF_FINETUNE},
        ),
        schedule=schedule,
    )
    print_reflected(result.reflected)
    print_selected(result.selected)
    if result.finetuned is not None:
        print_training(result.finetuned)
    return FINISHED_BUT if result.reflected.troubled or result.selected.failed_scores else 0


@command("compare", trains=True)
def compare(
    run: Annotated[str, typer.Argument(help="The run directory.", show_default=False)],
    *,
    model: Annotated[str, option("The model to train: a folder or a hub id.")],
    out: Annotated[Path, option("A folder for the trained models and compare.json.")],
    selection: opt.Selection = None,
    sets: Annotated[
        str,
        option(
            "What to train on: the selection, as many random originals, originals of like length "
            "or random candidates, all originals."
        ),
    ] = "selected,random,length,candidates,all",
    seeds: Annotated[str, option("A training of each set for each of these.")] = "0,1,2",
    preset: opt.PresetOption = "paper-7b",
    revision: opt.Revision = None,
    template: opt.RunsTemplate = None,
    epochs: Annotated[
        float | None, option("Passes over the selection; all sets take as many steps.")
    ] = None,
    max_steps: opt.MaxSteps = None,
    learning_rate: opt.LearningRate = None,
    batch_size: opt.BatchSize = None,
    per_device_batch_size: opt.PerDeviceBatchSize = None,
    max_length: opt.RowLength = None,
    held_out: Annotated[
        float | None,
        option("Originals that none trains on, to measure the loss: a part of all, or a number."),
    ] = None,
    held_out_data: opt.HeldOutData = None,
    gradient_checkpointing: opt.Checkpointing = None,
    precision: opt.PrecisionOption = None,
    device: opt.TrainingDevice = None,
    lora_r: opt.LoraRank = None,
    judge: Annotated[
        str | None,
        option(
            "A model that judges the answers of the first seed's models against those of `random`."
        ),
    ] = None,
    judge_questions: Annotated[
        str | None,
        option("What they are asked: data with instructions [default: the held-out records']."),
    ] = None,
    max_tokens: Annotated[int, option("At most so many new tokens an answer.", min=1)] = 1024,
    engine: opt.JudgeEngine = "auto",
    base_url: opt.BaseUrl = None,
    replies: opt.JudgeReplies = None,
    concurrency: opt.Concurrency = 64,
    retry: opt.Retry = None,
    json: Annotated[bool, option("For programs.", "--json")] = False,
) -> int | None:
    """Train the student on the selection and on baselines, and measure which is best."""
    options = locals()
    from .pipeline.workflows.compare import CompareConfig, in_words
    from .pipeline.workflows.compare import compare as workflow

    result = workflow(
        CompareConfig(
            run=run,
            selection=selection,
            sets=tuple(listed(sets)),  # type: ignore[arg-type]  # checked there
            seeds=numbers("--seeds", seeds),
            finetuning=made(FinetuneConfig, options),
            pairwise=made_pairwise(options),
        )
    )
    print(dumps(result.as_dict(), indent=2) if json else inert("\n".join(in_words(result))))
    lacking = result.judged and any(row.unparsed for row in result.judged.sets.values())
    return FINISHED_BUT if lacking else 0


@command("explain")
def explain(
    run: Annotated[str, typer.Argument(help="The run directory.", show_default=False)],
    id: Annotated[str, typer.Argument(help="A record's id, or its beginning.", show_default=False)],
    *,
    journal: opt.JournalDir = None,
    json: Annotated[bool, option("For programs.", "--json")] = False,
) -> int | None:
    """Why this record came out as it did."""
    from .pipeline.stages.explaining import explain as stage
    from .pipeline.stages.explaining import in_words

    found = stage(run, id, journal=journal)
    if json:
        typer.echo(inert(dumps(found.as_dict(), indent=2, ensure_ascii=False)))
    else:
        typer.echo(inert("\n".join(in_words(found))))
    return 0


@command("report")
def report(
    run: Annotated[str, typer.Argument(help="The run directory.", show_default=False)],
    *,
    out: Annotated[Path | None, option("The HTML file [default: RUN/report.html].")] = None,
    student: Annotated[
        str | None,
        option("Only this student: a folder's name in scores/, or its beginning [default: all]."),
    ] = None,
) -> int | None:
    """What was kept and why, as one HTML page to look at."""
    from .pipeline.stages.report import report as stage

    result = stage(run, out=out, student=student)
    for notice in result.notices:
        print(f"note: {notice}", file=sys.stderr)
    shown = ", ".join(result.students) or "no student"
    print(f"report of {result.records} records and {shown}: {result.out}")
    return 0


@command("status")
def status(
    run: Annotated[str, typer.Argument(help="The run directory.", show_default=False)],
    *,
    json: Annotated[bool, option("For programs.", "--json")] = False,
) -> int | None:
    """What of a run is done, failed and left, how fast it goes, and who is at it."""
    from .pipeline.stages.status.stage import in_words
    from .pipeline.stages.status.stage import status as stage

    found = stage(run)
    if json:
        typer.echo(inert(dumps(found.as_dict(), indent=2, ensure_ascii=False)))
    else:
        typer.echo(inert("\n".join(in_words(found))))
    return 0


@command("export")
def export(
    run: Annotated[str, typer.Argument(help="The run directory.", show_default=False)],
    *,
    to: Annotated[ExportFormat, option("The tool that is to read it.")],
    out: Annotated[Path, option("The folder to write.")],
    selection: opt.Selection = None,
    push_to_hub: Annotated[
        str | None,
        option("Put it into this data set, owner/name, too; new ones are private. Needs HF_TOKEN."),
    ] = None,
) -> int | None:
    """A selection as a training tool reads it, with its card."""
    from .pipeline.stages.exporting.stage import export as stage

    result = stage(run, to=to, out=out, selection=selection, push_to_hub=push_to_hub)
    print(f"exported {result.rows} rows: {result.out} ({', '.join(result.files)})")
    if result.pushed is not None:
        print(f"pushed: {result.pushed}")
    return 0


@command("generate")
def generate(
    data: Annotated[
        str,
        typer.Argument(
            help="An evaluation set: any data with a column of instructions, or of turns.",
            show_default=False,
        ),
    ],
    *,
    model: Annotated[str, option("The model that answers: a folder, a hub id, a server's name.")],
    out: Annotated[Path, option("The file to write.")],
    format: Annotated[
        AnswerFormat | None,
        option("What is written [default: alpaca_eval; for .jsonl jsonl, mt_bench with turns]."),
    ] = None,
    template: Annotated[
        str | None,
        option(
            "The prompt of a model run here [default: what it was fine-tuned with, or auto].",
            metavar=opt.TEMPLATES,
        ),
    ] = None,
    engine: Annotated[
        opt.GenerateEngine,
        option("How the model is reached; auto: in this process, or --base-url."),
    ] = "auto",
    base_url: opt.BaseUrl = None,
    journal: opt.JournalDir = None,
    concurrency: opt.Concurrency = 64,
    max_tokens: opt.MaxTokens = 2048,
    temperature: opt.Temperature = 0.0,
    seed: opt.Seed = None,
    limit: opt.Limit = None,
    max_cost: opt.MaxCost = None,
    max_total_tokens: opt.MaxTotalTokens = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    retry: Annotated[str | None, option("Ask again where an answer was: truncated.")] = None,
    revision: Annotated[str | None, option("The model's revision on the hub.")] = None,
    device: opt.EngineDevice = "auto",
    engine_args: opt.EngineArgs = None,
    instruction_column: opt.InstructionColumn = None,
    input_column: opt.InputColumn = None,
    strict: opt.Strict = False,
) -> int | None:
    """A model's answers to an evaluation set, in AlpacaEval's or MT-Bench's format."""
    options = locals()
    from .pipeline.stages.generation.stage import generate as stage

    asked = made_asked("model", model, options)
    result = stage(made(GenerateConfig, options, input=made(InputConfig, options), model=asked))
    print(
        f"wrote {result.answers} answers ({result.format}): {result.out}; {result.asked} replies "
        f"asked for, {result.reused} taken from the journal"
    )
    print_counts(
        "not whole",
        {
            "cut at --max-tokens (--retry truncated asks again)": result.cut,
            "rows without a question": result.rejected,
            **{f"failed: {reason}": number for reason, number in result.failed.items()},
        },
    )
    return FINISHED_BUT if result.failed else 0


@command("judge")
def judge(
    a: Annotated[
        str | None,
        typer.Argument(help="The first model's answers: instruction, input, output."),
    ] = None,
    b: Annotated[
        str | None, typer.Argument(help="The second model's answers to the same instructions.")
    ] = None,
    *,
    judge: Annotated[str | None, option("The model that judges.")] = None,
    from_log: Annotated[
        Path | None,
        option(
            "Count recorded judgements instead: reviews in both orders, AlpacaEval annotations or "
            "MT-Bench ratings, told by their columns."
        ),
    ] = None,
    questions: Annotated[
        str | None,
        option("The evaluation set, where A or B is a file of MT-Bench's answers (first turns)."),
    ] = None,
    out: Annotated[
        Path | None,
        option("A folder, or the file of the verdicts [default: a folder named after A and B]."),
    ] = None,
    json: Annotated[bool, option("For programs.", "--json")] = False,
    engine: opt.JudgeEngine = "auto",
    base_url: opt.BaseUrl = None,
    replies: opt.JudgeReplies = None,
    journal: opt.JournalDir = None,
    concurrency: opt.Concurrency = 64,
    max_tokens: opt.MaxTokens = JUDGE_TOKENS,
    temperature: opt.Temperature = 0.0,
    seed: opt.Seed = None,
    limit: Annotated[int | None, option("Take only the first N pairs.", min=1)] = None,
    max_cost: opt.MaxCost = None,
    max_total_tokens: opt.MaxTotalTokens = None,
    price_in: opt.PriceIn = None,
    price_out: opt.PriceOut = None,
    retry: opt.Retry = None,
    revision: Annotated[str | None, option("The judge's revision.")] = None,
    device: opt.EngineDevice = "auto",
    engine_args: opt.EngineArgs = None,
    instruction_column: opt.InstructionColumn = None,
    input_column: opt.InputColumn = None,
    output_column: opt.OutputColumn = None,
) -> int | None:
    """Compare two models' answers by a judge, in both orders."""
    options = locals()
    from .pipeline.stages.judging import in_words, recompute
    from .pipeline.stages.judging import judge as stage

    if from_log is not None:
        if a is not None or judge is not None:
            raise UsageError("--from-log counts what is recorded: give no answers and no --judge")
        outcome = recompute(from_log)
        print_outcome(outcome.as_dict(), in_words(outcome), json)
        return 0
    if a is None or b is None:
        raise UsageError("two files of answers are needed, A and B, or --from-log FILE")
    result = stage(
        JudgeConfig(
            first=a,
            second=b,
            judge=made_asked("judge", judge, options),
            columns=made(InputConfig, options, data=a),
            questions=questions,
            out=out,
        )
    )
    print_outcome(result.as_dict(), in_words(result.outcome), json)
    if not json:
        print_judged(result)
    return FINISHED_BUT if result.outcome.unparsed else 0


@command("evaluate")
def evaluate(
    *,
    model: Annotated[str, option("The model to measure: a folder or a hub id.")],
    tasks: Annotated[
        str, option("lm-eval's names, with commas: arc_challenge,hellaswag,mmlu,truthfulqa_mc2.")
    ],
    base: Annotated[str | None, option("A model to set beside it, such as its base.")] = None,
    include_path: Annotated[
        Path | None, option("A folder with task definitions (YAML) of your own.")
    ] = None,
    limit: Annotated[int | None, option("Only the first N samples of each task.", min=1)] = None,
    batch_size: Annotated[int, option("Sequences at once.", min=1)] = 8,
    revision: Annotated[str | None, option("The model's revision on the hub.")] = None,
    base_revision: Annotated[str | None, option("The base model's.")] = None,
    device: opt.Device = "auto",
    dtype: opt.DtypeName = "auto",
    json: Annotated[bool, option("For programs.", "--json")] = False,
    out: Annotated[
        Path | None, option("A JSON file; finished tasks are kept beside it until all are.")
    ] = None,
) -> int | None:
    """Benchmark tasks through lm-eval, beside the base model's."""
    options = locals()
    from .pipeline.stages.evaluation.stage import evaluate as stage
    from .pipeline.stages.evaluation.stage import in_words

    result = stage(made(EvaluateConfig, options, tasks=tuple(dict.fromkeys(listed(tasks)))))
    print_outcome(result.as_dict(), in_words(result), json)
    return 0


@command("demo")
def demo(
    *,
    out: Annotated[Path, option("The run directory.")] = Path("demo-run"),
) -> int | None:
    """The whole job in a minute on a CPU: recorded teacher replies, a small student."""
    from .pipeline.workflows.demo import demo as workflow
    from .pipeline.workflows.demo import table

    result = workflow(out)
    print("\nWhat became of the records\n")
    print("\n".join(table(result)))
    for number, (instruction, before, after) in enumerate(result.examples, 1):
        told = f"\nExample {number}: {instruction}\n  before: {before}\n  after:  {after}"
        print(inert(told))
    print()
    print_selected(result.run.selected)
    if result.run.finetuned is not None:
        print_training(result.run.finetuned)
    print(
        f"\nWhy did a record come out as it did?   curate explain {out} demo-101\n"
        f"All of it as one page to look at:       curate report {out}\n"
        "Next, with a teacher and a student of your own:\n"
        "  curate run DATA.jsonl --out RUN --teacher MODEL --base-url http://localhost:8000/v1 "
        "--student MODEL --preset paper-7b"
    )
    return 0


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("curate-reflection"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Data curation for instruction tuning by Selective Reflection-Tuning (arXiv 2402.10110)."""


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":  # torchrun -m curate.cli
    main()
