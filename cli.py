"""The command line: parses options, calls one stage, prints the result; no logic."""

import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import fields
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer

from .pipeline import interrupts, ranks
from .pipeline.config import (
    AnswerFormat,
    Dedup,
    DtypeOption,
    EngineName,
    EvaluateConfig,
    ExportFormat,
    GenerateConfig,
    InputConfig,
    JudgeConfig,
    RankBy,
    ReflectConfig,
    Role,
    Schedule,
    ScoreConfig,
    ScoringConfig,
    SelectConfig,
    TeacherConfig,
    TemplateName,
    TokenizationName,
)
from .pipeline.errors import CurateError, UsageError
from .pipeline.progress import inert
from .pipeline.shares import Share, share_of
from .pipeline.student.recipe import FinetuneConfig, Overlong, Precision, Preset, Scheduler

if TYPE_CHECKING:
    from .pipeline.workflows.pairwise import PairwiseConfig

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
JUDGE_TOKENS = 1024  # of a verdict, at most


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
                with interrupts.heard(), redirect_stdout(sys.stdout if ranks.is_first() else None):
                    code = function(*args, **kwargs) or 0
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


def _say_why(line: str) -> None:
    if ranks.first_to_end():
        print(line, file=sys.stderr)


def option(text: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    """An option with its help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=True, **more)


# --- options that several commands share ----------------------------------------------------------

Data = Annotated[
    str,
    typer.Argument(
        help="A file or folder of JSON, JSONL (also .gz), CSV, Parquet or Arrow, a save_to_disk "
        "folder, a hub id owner/name[:split], or - for JSONL on standard input.",
        show_default=False,
    ),
]
InstructionColumn = Annotated[str | None, option("The column of the instruction.")]
InputColumn = Annotated[str | None, option("The column of the input, if there is one.")]
OutputColumn = Annotated[str | None, option("The column of the response.")]
Strict = Annotated[
    bool, option("Stop at the first unusable row instead of counting it.", "--strict")
]
Limit = Annotated[int | None, option("Take only the first N records.", min=1)]

Teacher = Annotated[str | None, option("The model that reflects; not needed for recorded replies.")]
Engine = Annotated[
    EngineName, option("How the teacher is reached; auto looks at the other options.")
]
BaseUrl = Annotated[
    list[str] | None,
    option(
        "An OpenAI-compatible server, such as http://localhost:8000/v1; several share the load."
    ),
]
Replies = Annotated[
    Path | None, option("Recorded replies, JSONL: id, candidate, reply, finish_reason.")
]
JournalDir = Annotated[Path | None, option("Where replies are kept, to share them among runs.")]
Concurrency = Annotated[int, option("At most so many requests at once.", min=1)]
Rpm = Annotated[float | None, option("At most so many requests a minute.")]
Tpm = Annotated[float | None, option("At most so many tokens a minute, prompts and replies.")]
BatchApi = Annotated[
    bool,
    option("Ask through the server's batch API: within 24 h, at half the price.", "--batch-api"),
]
BatchPoll = Annotated[float, option("Seconds between two looks at a batch job, at most.")]
MaxTokens = Annotated[int, option("At most so many new tokens a reply.", min=1)]
Temperature = Annotated[float, option("Sampling temperature; 0 is greedy.", min=0)]
Seed = Annotated[int | None, option("Sampling seed, part of a request's identity.")]
MaxCost = Annotated[float | None, option("Stop before this many USD are exceeded (needs prices).")]
MaxTotalTokens = Annotated[int | None, option("Stop before this many tokens are exceeded.", min=1)]
PriceIn = Annotated[
    float | None, option("USD per million prompt tokens [default: the model's, if known].", min=0)
]
PriceOut = Annotated[
    float | None, option("USD per million completion tokens [default: likewise].", min=0)
]
PricesFile = Annotated[
    Path | None, option("Prices by model, JSON, over those that come with the package.")
]
TeacherRevision = Annotated[
    str | None, option("The teacher's revision: a commit on the hub, or what you call it.")
]
TeacherDevice = Annotated[str, option("Where the transformers engine runs: auto, cpu, cuda.")]
EngineArgs = Annotated[
    str | None, option("Options of the vLLM server, such as '--tensor-parallel-size 2'.")
]
Shard = Annotated[
    str | None,
    option(
        "Do one task's share of the shards, i/n with i from 0; several tasks work into one run "
        "[default: that of a Slurm array's task, else all]."
    ),
]
Retry = Annotated[
    str | None, option("Ask again where the status is one of: failed,unparsed,truncated,refused.")
]
DedupOption = Annotated[
    Dedup,
    option(
        "Leave out records whose instruction repeats an earlier one: near, or exact (the same "
        "words)."
    ),
]
DedupThreshold = Annotated[
    float, option("Of --dedup near: the Jaccard similarity of the sets of three words in a row.")
]
Prompts = Annotated[Path | None, option("A folder with reflection prompts of your own.")]

JudgeEngine = Annotated[
    EngineName, option("How the judge is reached; auto looks at the other options.")
]
JudgeReplies = Annotated[
    Path | None,
    option("Recorded replies, JSONL: id, candidate (forward or reverse), reply, finish_reason."),
]
EngineDevice = Annotated[str, option("Where the transformers engine runs: auto, cpu, cuda.")]

Student = Annotated[str, option("The model to be trained: a folder or a hub id.")]
Revision = Annotated[str | None, option("The student's revision on the hub.")]
TemplateOption = Annotated[TemplateName, option("The student's prompt template.")]
TokenizationOption = Annotated[
    TokenizationName, option("exact, or reference: what the released scripts do.")
]
MaxLength = Annotated[
    int | None, option("Tokens of a scored sequence [default: 2048 or the student's context].")
]
BatchTokens = Annotated[int | None, option("Tokens of a packed row; changes speed, not scores.")]
Device = Annotated[str, option("auto, cpu, cuda or cuda:N.")]
DtypeName = Annotated[DtypeOption, option("auto: bfloat16 on a GPU that has it, else float32.")]
ScoreAll = Annotated[
    bool, option("Score all candidates, not only what a decision needs.", "--score-all")
]
MaxIfd = Annotated[float, option("Keep a row only if its IFD is below this.")]
MaxRifd = Annotated[float, option("Keep a row only if its r-IFD is below this.")]
OnlyImproved = Annotated[
    bool, option("Keep only rows whose response was replaced.", "--only-improved")
]
Top = Annotated[str | None, option("Keep only the best: a share such as 2%, or a number.")]
Decontaminate = Annotated[
    list[str] | None,
    option("Reject what repeats this evaluation set: a file, folder or hub id; repeatable."),
]
Ngram = Annotated[int, option("So many words in a row are a repetition.", min=1)]
Diverse = Annotated[
    int | None,
    option(
        "Keep N rows that are unlike one another, chosen from those within --top, else from the "
        "best 4 N.",
        min=1,
    ),
]
RankByOption = Annotated[RankBy, option("What is best: highest IFD or lowest r-IFD.")]
Selection = Annotated[
    str | None, option("Which selection of a run with several: a folder's name in selected/.")
]

Epochs = Annotated[float | None, option("Passes over the data.")]
MaxSteps = Annotated[int | None, option("Steps, in place of epochs.", min=1)]
LearningRate = Annotated[float | None, option("Peak learning rate.")]
BatchSize = Annotated[int | None, option("Records a step, on all devices together.")]
RowLength = Annotated[int | None, option("Tokens of a row.")]
PerDeviceBatchSize = Annotated[
    int | None, option("Records at once on a device; gradients are accumulated.")
]
RunsTemplate = Annotated[
    TemplateName | None, option("The prompt template [default: the run's, else vicuna].")
]
HeldOut = Annotated[
    float | None, option("Rows kept out to measure the loss: a part of all, or a number.")
]
HeldOutData = Annotated[
    str | None, option("A data set to measure the loss on, in place of --held-out.")
]
Checkpointing = Annotated[bool | None, option("Less memory for about a third more time.")]
PrecisionOption = Annotated[Precision | None, option("Of the arithmetic.")]
TrainingDevice = Annotated[Literal["auto", "cpu"] | None, option("Where to train.")]
LoraRank = Annotated[int | None, option("Rank of the LoRA adapter; 0 trains all weights.", min=0)]
PresetOption = Annotated[Preset, option("The settings to start from.")]

OF_FINETUNE = (
    "epochs",
    "max_steps",
    "learning_rate",
    "batch_size",
    "per_device_batch_size",
    "held_out",
    "held_out_data",
)
"""What `run` passes on to fine-tuning."""


GenerateEngine = Literal["auto", "openai", "vllm", "transformers"]

C = TypeVar("C")


def made(kind: type[C], options: Mapping[str, Any], **more: Any) -> C:
    """A config dataclass from the options of the same names."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: options[name] for name in names & options.keys()} | more)


def listed(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(name: str, text: str) -> tuple[int, ...]:
    """The same as whole numbers."""
    try:
        return tuple(int(part) for part in listed(text))
    except ValueError:
        raise UsageError(f"{name} takes whole numbers, separated by commas, not {text!r}") from None


def made_teacher(options: Mapping[str, Any]) -> TeacherConfig:
    """The teacher's configuration; the key comes from the environment alone."""
    key = os.environ.get("CURATE_API_KEY") or os.environ.get("OPENAI_API_KEY")
    retry = tuple(listed(options["retry"] or ""))
    engine_args = tuple(shlex.split(options["engine_args"] or ""))
    return made(
        TeacherConfig,
        options,
        api_key=key,
        base_url=tuple(options["base_url"] or ()),
        retry=retry,
        engine_args=engine_args,
    )


def made_asked(role: Role, model: str | None, options: Mapping[str, Any]) -> TeacherConfig:
    """The configuration of a model that is asked in another part than the teacher's."""
    return made_teacher(
        {
            "prompts": None,
            **options,
            "teacher": model,
            "teacher_revision": options["revision"],
            "teacher_device": options["device"],
            "role": role,
        }
    )


def made_pairwise(options: Mapping[str, Any]) -> "PairwiseConfig | None":
    """Who judges a comparison; None where nobody does."""
    from .pipeline.workflows.pairwise import PairwiseConfig

    if options["judge"] is None and options["replies"] is None:
        named = [name for name in ("judge_questions", "base_url", "retry") if options[name]]
        if named:
            raise UsageError(f"--{named[0].replace('_', '-')} is for --judge, which is not given")
        return None
    of_judge = ("engine", "base_url", "replies", "concurrency", "retry")
    asked = {name: options[name] for name in of_judge} | {"engine_args": None, "revision": None}
    device = options["device"] or "auto"
    judge = made_asked(
        "judge", options["judge"], {**asked, "device": device, "max_tokens": JUDGE_TOKENS}
    )
    return PairwiseConfig(
        judge=judge, questions=options["judge_questions"], max_tokens=options["max_tokens"]
    )


def made_share(text: str | None) -> Share:
    """The share that an option names, or that Slurm gives this task, which is said."""
    share = share_of(text, os.environ)
    if text is None and not share.whole:
        print(f"note: this Slurm array's task does share {share} of the run", file=sys.stderr)
    return share


def made_reflect(options: Mapping[str, Any], **more: Any) -> ReflectConfig:
    """The configuration of reflect."""
    teacher = made_teacher(options)
    return made(ReflectConfig, options, input=made(InputConfig, options), teacher=teacher, **more)


def _print_counts(title: str, counts: Mapping[str, int]) -> None:
    shown = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()) if number)
    print(f"{title}: {shown or 'none'}")


# --- commands -------------------------------------------------------------------------------------


@command("reflect")
def reflect(
    data: Data,
    *,
    out: Annotated[Path | None, option("The run directory; not needed if DATA is one.")] = None,
    teacher: Teacher = None,
    engine: Engine = "auto",
    base_url: BaseUrl = None,
    replies: Replies = None,
    journal: JournalDir = None,
    concurrency: Concurrency = 64,
    rpm: Rpm = None,
    tpm: Tpm = None,
    batch_api: BatchApi = False,
    batch_poll: BatchPoll = 60.0,
    max_tokens: MaxTokens = 2048,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    limit: Limit = None,
    shard: Shard = None,
    dry_run: Annotated[bool, option("Only say what it would cost.", "--dry-run")] = False,
    max_cost: MaxCost = None,
    max_total_tokens: MaxTotalTokens = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    prices: PricesFile = None,
    retry: Retry = None,
    dedup: DedupOption = "off",
    dedup_threshold: DedupThreshold = 0.8,
    prompts: Prompts = None,
    teacher_revision: TeacherRevision = None,
    teacher_device: TeacherDevice = "auto",
    engine_args: EngineArgs = None,
    instruction_column: InstructionColumn = None,
    input_column: InputColumn = None,
    output_column: OutputColumn = None,
    strict: Strict = False,
) -> int | None:
    """Stage 1: ask the teacher to criticise and rewrite each record."""
    options = locals()
    if dry_run:
        from .pipeline.stages.estimating import estimate

        print(estimate(made_reflect(options)))
        return 0
    from .pipeline.stages.reflection import reflect as stage

    config = made_reflect(options, share=made_share(shard))
    result = stage(config)
    _print_reflected(result)
    if result.waiting:
        print(
            f"share {config.share} is done; {result.waiting} shards of other tasks are missing: "
            "the task that makes the last one finishes the run"
        )
    return FINISHED_BUT if result.troubled else 0


@command("select")
def select(
    data: Data,
    *,
    student: Student,
    out: Annotated[Path | None, option("The run directory; not needed if DATA is one.")] = None,
    revision: Revision = None,
    template: TemplateOption = "vicuna",
    tokenization: TokenizationOption = "exact",
    max_length: MaxLength = None,
    batch_tokens: BatchTokens = None,
    device: Device = "auto",
    dtype: DtypeName = "auto",
    score_all: ScoreAll = False,
    max_ifd: MaxIfd = 1.0,
    max_rifd: MaxRifd = 1.0,
    only_improved: OnlyImproved = False,
    top: Top = None,
    rank_by: RankByOption = "ifd",
    decontaminate: Decontaminate = None,
    ngram: Ngram = 13,
    diverse: Diverse = None,
    limit: Limit = None,
    shard: Shard = None,
    instruction_column: InstructionColumn = None,
    input_column: InputColumn = None,
    output_column: OutputColumn = None,
    strict: Strict = False,
) -> int | None:
    """Stage 2: let the student choose a version of each record, by IFD and r-IFD."""
    options = locals()
    from .pipeline.stages.selection import score_share
    from .pipeline.stages.selection import select as stage

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
    _print_selected(result)
    return FINISHED_BUT if result.failed_scores else 0


@command("score")
def score(
    data: Data,
    *,
    student: Student,
    out: Annotated[Path, option("The Parquet file to write.")],
    revision: Revision = None,
    template: TemplateOption = "vicuna",
    tokenization: TokenizationOption = "exact",
    max_length: MaxLength = None,
    batch_tokens: BatchTokens = None,
    device: Device = "auto",
    dtype: DtypeName = "auto",
    limit: Limit = None,
    instruction_column: InstructionColumn = None,
    input_column: InputColumn = None,
    output_column: OutputColumn = None,
    strict: Strict = False,
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
    _print_counts("scores", result.statuses)
    return FINISHED_BUT if result.statuses.get("failed") else 0


@command("finetune", trains=True)
def finetune(
    data: Data,
    *,
    model: Annotated[str, option("The model to train: a folder or a hub id.")],
    out: Annotated[Path, option("The folder of the trained model.")],
    selection: Selection = None,
    preset: PresetOption = "paper-7b",
    revision: Revision = None,
    template: RunsTemplate = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    learning_rate: LearningRate = None,
    scheduler: Annotated[Scheduler | None, option("The course of the learning rate.")] = None,
    warmup_ratio: Annotated[float | None, option("The part of all steps that warms up.")] = None,
    weight_decay: Annotated[float | None, option("AdamW's weight decay.", min=0)] = None,
    max_grad_norm: Annotated[
        float | None, option("Gradients are clipped to this norm.", min=0)
    ] = None,
    batch_size: BatchSize = None,
    per_device_batch_size: PerDeviceBatchSize = None,
    max_length: RowLength = None,
    overlong: Annotated[Overlong | None, option("Longer rows are cut or dropped.")] = None,
    held_out: HeldOut = None,
    held_out_data: HeldOutData = None,
    seed: Annotated[int | None, option("Of the order of the rows and the split.", min=0)] = None,
    packing: Annotated[
        bool | None, option("Several rows in one, which do not see each other.")
    ] = None,
    padding_free: Annotated[bool | None, option("Batches without padding; same numbers.")] = None,
    gradient_checkpointing: Checkpointing = None,
    precision: PrecisionOption = None,
    device: TrainingDevice = None,
    lora_r: LoraRank = None,
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
    _print_training(result)
    return 0


@command("run")
def run(
    data: Data,
    *,
    out: Annotated[Path, option("The run directory; the trained model goes to its model/.")],
    student: Student,
    schedule: Annotated[
        Schedule, option("all: three reflections a record; selective: the paper's order.")
    ] = "all",
    preset: Annotated[Preset, option("The settings to fine-tune with.")] = "paper-7b",
    no_finetune: Annotated[bool, option("Stop after the selection.", "--no-finetune")] = False,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    per_device_batch_size: PerDeviceBatchSize = None,
    finetune_max_length: Annotated[
        int | None, option("Tokens of a row to train on; --max-length is of scoring.")
    ] = None,
    held_out: HeldOut = None,
    held_out_data: HeldOutData = None,
    teacher: Teacher = None,
    engine: Engine = "auto",
    base_url: BaseUrl = None,
    replies: Replies = None,
    journal: JournalDir = None,
    concurrency: Concurrency = 64,
    rpm: Rpm = None,
    tpm: Tpm = None,
    batch_api: BatchApi = False,
    batch_poll: BatchPoll = 60.0,
    max_tokens: MaxTokens = 2048,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    limit: Limit = None,
    max_cost: MaxCost = None,
    max_total_tokens: MaxTotalTokens = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    prices: PricesFile = None,
    retry: Retry = None,
    dedup: DedupOption = "off",
    dedup_threshold: DedupThreshold = 0.8,
    prompts: Prompts = None,
    teacher_revision: TeacherRevision = None,
    teacher_device: TeacherDevice = "auto",
    engine_args: EngineArgs = None,
    revision: Revision = None,
    template: TemplateOption = "vicuna",
    tokenization: TokenizationOption = "exact",
    max_length: MaxLength = None,
    batch_tokens: BatchTokens = None,
    device: Device = "auto",
    dtype: DtypeName = "auto",
    score_all: ScoreAll = False,
    max_ifd: MaxIfd = 1.0,
    max_rifd: MaxRifd = 1.0,
    only_improved: OnlyImproved = False,
    top: Top = None,
    rank_by: RankByOption = "ifd",
    decontaminate: Decontaminate = None,
    ngram: Ngram = 13,
    diverse: Diverse = None,
    instruction_column: InstructionColumn = None,
    input_column: InputColumn = None,
    output_column: OutputColumn = None,
    strict: Strict = False,
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
    _print_reflected(result.reflected)
    _print_selected(result.selected)
    if result.finetuned is not None:
        _print_training(result.finetuned)
    return FINISHED_BUT if result.reflected.troubled or result.selected.failed_scores else 0


@command("compare", trains=True)
def compare(
    run: Annotated[str, typer.Argument(help="The run directory.", show_default=False)],
    *,
    model: Annotated[str, option("The model to train: a folder or a hub id.")],
    out: Annotated[Path, option("A folder for the trained models and compare.json.")],
    selection: Selection = None,
    sets: Annotated[
        str,
        option(
            "What to train on: the selection, as many random originals, originals of like length "
            "or random candidates, all originals."
        ),
    ] = "selected,random,length,candidates,all",
    seeds: Annotated[str, option("A training of each set for each of these.")] = "0,1,2",
    preset: PresetOption = "paper-7b",
    revision: Revision = None,
    template: RunsTemplate = None,
    epochs: Annotated[
        float | None, option("Passes over the selection; all sets take as many steps.")
    ] = None,
    max_steps: MaxSteps = None,
    learning_rate: LearningRate = None,
    batch_size: BatchSize = None,
    per_device_batch_size: PerDeviceBatchSize = None,
    max_length: RowLength = None,
    held_out: Annotated[
        float | None,
        option("Originals that none trains on, to measure the loss: a part of all, or a number."),
    ] = None,
    held_out_data: HeldOutData = None,
    gradient_checkpointing: Checkpointing = None,
    precision: PrecisionOption = None,
    device: TrainingDevice = None,
    lora_r: LoraRank = None,
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
    engine: JudgeEngine = "auto",
    base_url: BaseUrl = None,
    replies: JudgeReplies = None,
    concurrency: Concurrency = 64,
    retry: Retry = None,
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
    journal: JournalDir = None,
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
    from .pipeline.stages.status import in_words
    from .pipeline.stages.status import status as stage

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
    selection: Selection = None,
    push_to_hub: Annotated[
        str | None,
        option("Put it into this data set, owner/name, too; new ones are private. Needs HF_TOKEN."),
    ] = None,
) -> int | None:
    """A selection as a training tool reads it, with its card."""
    from .pipeline.stages.exporting import export as stage

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
        TemplateName | None,
        option("The prompt of a model run here [default: what it was fine-tuned with, or vicuna]."),
    ] = None,
    engine: Annotated[
        GenerateEngine, option("How the model is reached; auto: in this process, or --base-url.")
    ] = "auto",
    base_url: BaseUrl = None,
    journal: JournalDir = None,
    concurrency: Concurrency = 64,
    max_tokens: MaxTokens = 2048,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    limit: Limit = None,
    max_cost: MaxCost = None,
    max_total_tokens: MaxTotalTokens = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    retry: Annotated[str | None, option("Ask again where an answer was: truncated.")] = None,
    revision: Annotated[str | None, option("The model's revision on the hub.")] = None,
    device: EngineDevice = "auto",
    engine_args: EngineArgs = None,
    instruction_column: InstructionColumn = None,
    input_column: InputColumn = None,
    strict: Strict = False,
) -> int | None:
    """A model's answers to an evaluation set, in AlpacaEval's or MT-Bench's format."""
    options = locals()
    from .pipeline.stages.generation import generate as stage

    asked = made_asked("model", model, options)
    result = stage(made(GenerateConfig, options, input=made(InputConfig, options), model=asked))
    print(
        f"wrote {result.answers} answers ({result.format}): {result.out}; {result.asked} replies "
        f"asked for, {result.reused} taken from the journal"
    )
    _print_counts(
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
    engine: JudgeEngine = "auto",
    base_url: BaseUrl = None,
    replies: JudgeReplies = None,
    journal: JournalDir = None,
    concurrency: Concurrency = 64,
    max_tokens: MaxTokens = JUDGE_TOKENS,
    temperature: Temperature = 0.0,
    seed: Seed = None,
    limit: Annotated[int | None, option("Take only the first N pairs.", min=1)] = None,
    max_cost: MaxCost = None,
    max_total_tokens: MaxTotalTokens = None,
    price_in: PriceIn = None,
    price_out: PriceOut = None,
    retry: Retry = None,
    revision: Annotated[str | None, option("The judge's revision.")] = None,
    device: EngineDevice = "auto",
    engine_args: EngineArgs = None,
    instruction_column: InstructionColumn = None,
    input_column: InputColumn = None,
    output_column: OutputColumn = None,
) -> int | None:
    """Compare two models' answers by a judge, in both orders."""
    options = locals()
    from .pipeline.stages.judging import in_words, recompute
    from .pipeline.stages.judging import judge as stage

    if from_log is not None:
        if a is not None or judge is not None:
            raise UsageError("--from-log counts what is recorded: give no answers and no --judge")
        outcome = recompute(from_log)
        _print_outcome(outcome.as_dict(), in_words(outcome), json)
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
    _print_outcome(result.as_dict(), in_words(result.outcome), json)
    if not json:
        _print_judged(result)
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
    device: Device = "auto",
    dtype: DtypeName = "auto",
    json: Annotated[bool, option("For programs.", "--json")] = False,
    out: Annotated[
        Path | None, option("A JSON file; finished tasks are kept beside it until all are.")
    ] = None,
) -> int | None:
    """Benchmark tasks through lm-eval, beside the base model's."""
    options = locals()
    from .pipeline.stages.evaluation import evaluate as stage
    from .pipeline.stages.evaluation import in_words

    named = tuple(dict.fromkeys(name.strip() for name in tasks.split(",") if name.strip()))
    result = stage(made(EvaluateConfig, options, tasks=named))
    _print_outcome(result.as_dict(), in_words(result), json)
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
    _print_selected(result.run.selected)
    if result.run.finetuned is not None:
        _print_training(result.run.finetuned)
    print(
        f"\nWhy did a record come out as it did?   curate explain {out} demo-101\n"
        f"All of it as one page to look at:       curate report {out}\n"
        "Next, with a teacher and a student of your own:\n"
        "  curate run DATA.jsonl --out RUN --teacher MODEL --base-url http://localhost:8000/v1 "
        "--student MODEL --preset paper-7b"
    )
    return 0


# --- results --------------------------------------------------------------------------------------


def _print_reflected(result: Any) -> None:
    print(
        f"reflected {result.records} records into {result.run}: "
        f"{result.asked} replies asked for, {result.reused} taken from the journal, "
        f"{result.tokens[0]} prompt and {result.tokens[1]} completion tokens in all"
    )
    _print_counts("candidates", result.statuses)


def _print_selected(result: Any) -> None:
    counts = result.counts
    print(f"selected {counts['selected']} of {counts['records']} records: {result.selected}")
    _print_counts("kept versions", counts["by_candidate"])
    _print_counts("filter", counts["by_rule"])
    if counts.get("contaminated"):
        _print_counts("contaminated, by evaluation set", counts["contaminated"])
    _print_counts("scores", counts["scores"])
    print(f"rejected rows, each with its reason: {result.rejected}")
    print(f"originals to compare with, as many as were selected: {result.baselines}")


def _print_training(result: Any) -> None:
    done = "already trained" if result.already_trained else "trained"
    print(f"{done} on {result.rows} rows in {result.steps} steps: {result.out}")
    if result.held_out_before is not None:
        print(
            f"held-out loss (nats a response token, {result.held_out_rows} rows): "
            f"{result.held_out_before:.4f} before, {result.held_out_after:.4f} after"
        )


def _print_outcome(fields: Mapping[str, Any], lines: Iterable[str], json: bool) -> None:
    print(dumps(fields, indent=2, ensure_ascii=False) if json else "\n".join(lines))


def _print_judged(result: Any) -> None:
    print(
        f"{result.models[0]} against {result.models[1]}: {result.asked} replies asked for, "
        f"{result.reused} taken from the journal; unmatched rows: {result.left[0]} of the first, "
        f"{result.left[1]} of the second"
    )
    print(f"verdicts: {result.out}")


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
