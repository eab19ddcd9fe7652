"""Data, runs and folders: how DATA is read, and the options that many commands have."""

import os
from dataclasses import dataclass
from typing import Any, Literal

from ...base.processes.sharding import WHOLE, Share, share_of
from ...base.progress import say
from ..options.fields import check_fields, option

_NAMED = "what --name called it, or a folder's name in selected/"
Turns = Literal["last", "all"]
LIMIT = "Take only the first N records."


def out_option(*default: Any, help: str) -> Any:
    """Where a command writes."""
    return option(*default, help=help, flags=("-o",), place="out")


def run_argument(help: str = "The run directory.") -> Any:
    """The run that a command reads."""
    return option(help=help, argument=True, place="in")


def selection_option() -> Any:
    """Which selection of a run a command reads."""
    return option(None, help=f"Which selection of a run with several: {_NAMED}.")


def selections_option(help: str) -> Any:
    """Which selections of a run a command sets side by side."""
    return option((), help=f"{help}: {_NAMED}, separated by commas.")


def push_option(what: str) -> Any:
    """Where on the hub what a command makes is put."""
    return option(
        None,
        help=f"Put it into this {what}, owner/name, too; new ones are private. Needs HF_TOKEN.",
    )


def share_option() -> Any:
    """The shards that are this task's, of several tasks that work side by side."""
    return option(
        WHOLE,
        name="shard",
        help="Do one task's share of the shards, i/n with i from 0, or all; several tasks work "
        "into one run [default: that of a Slurm array's task, else all].",
        parse=lambda text: share_of(text, os.environ),
        absent=_share_of_task,
        record=False,
    )


def _share_of_task() -> Share:
    share = share_of(None, os.environ)
    if not share.whole:
        say(f"note: this Slurm array's task does share {share} of the run")
    return share


@dataclass(frozen=True, slots=True, kw_only=True)
class InputConfig:
    """How DATA is read. An unusable row is counted, or with `strict` an error."""

    data: str = option(
        help="A file or folder of JSON, JSONL (also .gz), CSV, Parquet or Arrow, a save_to_disk "
        "folder, a URL of one of these (s3://…), a hub id owner/name[:split], or - for JSONL on "
        "standard input.",
        argument=True,
        place="in",
    )
    instruction_column: str | None = option(None, help="The column of the instruction.")
    input_column: str | None = option(None, help="The column of the input, if there is one.")
    output_column: str | None = option(None, help="The column of the response.")
    turns: Turns = option(
        "last",
        help="Of a conversation: its last exchange is the record, or every one, as ID#1, ID#2, …",
    )
    strict: bool = option(False, help="Stop at the first unusable row instead of counting it.")
    limit: int | None = option(None, help=LIMIT, min=1)

    def __post_init__(self) -> None:
        check_fields(self)
