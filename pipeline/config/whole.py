"""`curate run` and `curate demo`: all stages in one command."""

from dataclasses import dataclass
from pathlib import Path

from .options.fields import embedded, option
from .reflection import ReflectConfig, Schedule
from .selection import SelectConfig
from .shared.inputs import InputConfig, out_option
from .shared.training import FinetuneConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """`curate run`: what its stages have in common is given once."""

    out: Path = out_option(help="The run directory; the trained model goes to its model/.")
    schedule: Schedule = option(
        "all", help="all: three reflections a record; selective: the paper's order."
    )
    no_finetune: bool = option(False, help="Stop after the selection.")
    reflecting: ReflectConfig = embedded(
        "Reflection",
        supply={"out": lambda options: options["out"]},
        without=("schedule", "share"),
    )
    selecting: SelectConfig = embedded(
        "Selection",
        supply={"input": lambda options: InputConfig(data=str(options["out"]))},
        without=("out", "share"),
    )
    finetuning: FinetuneConfig = embedded(
        "Training",
        rename={"max_length": "finetune_max_length", "seed": "finetune_seed"},
        supply={
            "model": lambda options: options["student"],
            "revision": lambda options: options["student_revision"],
            "out": lambda options: Path(options["out"]) / "model",
            "device": lambda options: "cpu" if options["device"] == "cpu" else None,
        },
        without=("input", "selection", "template", "fsdp", "deepspeed"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """`curate demo`."""

    out: Path = out_option(Path("demo-run"), help="The run directory.")
