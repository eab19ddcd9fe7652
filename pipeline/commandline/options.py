"""The options that several commands share, each with its help."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..config import (
    Dedup,
    DtypeOption,
    EngineName,
    Executor,
    RankBy,
    TokenizationName,
)
from ..config.training import Precision, Preset


def option(text: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    """An option with its help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=True, **more)


Data = Annotated[
    str,
    typer.Argument(
        help="A file or folder of JSON, JSONL (also .gz), CSV, Parquet or Arrow, a save_to_disk "
        "folder, a URL of one of these (s3://…), a hub id owner/name[:split], or - for JSONL on "
        "standard input.",
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
TEMPLATES = "auto|vicuna|alpaca|wizardlm|chat|FILE"
TemplateOption = Annotated[
    str,
    option(
        "The student's prompt template. chat: the tokenizer's own; auto: chat where there is one, "
        "else vicuna; FILE: a Jinja chat template.",
        metavar=TEMPLATES,
    ),
]
TokenizationOption = Annotated[
    TokenizationName, option("exact, or reference: what the released scripts do.")
]
MaxLength = Annotated[
    int | None, option("Tokens of a scored sequence [default: 2048 or the student's context].")
]
BatchTokens = Annotated[int | None, option("Tokens of a packed row; changes speed, not scores.")]
Device = Annotated[str, option("auto, cpu, cuda or cuda:N.")]
DtypeName = Annotated[DtypeOption, option("auto: bfloat16 on a GPU that has it, else float32.")]
ExecutorName = Annotated[
    Executor,
    option("Where it scores: on this machine, or on the Ray cluster that RAY_ADDRESS names."),
]
Workers = Annotated[
    int | None,
    option("Ray's workers, a GPU or a CPU each [default: all the cluster has].", min=1),
]
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
    str | None,
    option("The prompt template [default: the run's, else auto].", metavar=TEMPLATES),
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
GenerateEngine = Literal["auto", "openai", "vllm", "transformers"]
