"""Commands that read a run: `curate report`, `explain`, `status` and `export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .options.fields import check_fields, option
from .shared.inputs import (
    out_option,
    push_option,
    run_argument,
    selection_option,
    selections_option,
)

ExportFormat = Literal["llama-factory", "axolotl", "trl", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """`curate report`."""

    run: str = run_argument()
    out: Path | None = out_option(None, help="The HTML file [default: RUN/report.html].")
    selection: tuple[str, ...] = selections_option("Of several selections these alone")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainConfig:
    """`curate explain`."""

    run: str = run_argument("The run directory, or a folder of pairs.")
    id: str = option(help="A record's id, or its beginning.", argument=True)
    journal: Path | None = option(
        None, help="Where the replies are, if not in the run.", place="journal"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusConfig:
    """`curate status`."""

    run: str = run_argument()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """`curate export`."""

    run: str = run_argument("The run directory, or a folder of pairs.")
    to: ExportFormat = option(help="The tool that is to read it.")
    out: Path = out_option(help="The folder to write.")
    selection: str | None = selection_option()
    push_to_hub: str | None = push_option("data set")

    unpaired: bool = option(
        False, help="Of pairs: a row for each answer, with a label, as KTO takes it."
    )

    def __post_init__(self) -> None:
        check_fields(self)
