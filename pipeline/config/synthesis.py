"""`curate synthesize`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from .options.fields import check_fields, embedded, option
from .shared.inputs import InputConfig, out_option
from .shared.models import ModelConfig, asked_model

SynthesisMethod = Literal["self-instruct", "evol"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesizeConfig:
    """`curate synthesize`."""

    input: InputConfig = embedded(
        "Seeds",
        help={"data": "The seeds: any data with a column of instructions or prompts."},
        without=("output_column", "turns"),
    )
    teacher: ModelConfig = asked_model(
        "Teacher", "teacher", without=("prompts", "retry", "temperature", "top_p")
    )
    out: Path = out_option(help="The run directory.")
    method: SynthesisMethod = option(
        help="self-instruct: new instructions after the example of eight; evol: harder and rarer "
        "versions of each seed, round by round."
    )
    number: int = option(help="So many new instructions, of evol at most.", min=1)
    rounds: int = option(4, help="Of evol: rounds, each from what the last one left.", min=1)
    answers: bool = option(
        False, help="Ask for outputs too (of self-instruct with inputs), and judge by them."
    )
    language: str = option(
        "en",
        help="Of self-instruct: the seeds' language. en also leaves out what speaks of images or "
        "files, asks for a program, or begins with no ASCII letter.",
    )
    no_equality: bool = option(
        False,
        help="Of evol: do not ask the teacher whether an evolved prompt asks for anything new.",
    )
    temperature: float | None = option(
        None, help="Sampling temperature [default: 0.7, of evol 1].", min=0
    )
    top_p: float | None = option(
        None,
        help="Sample from the likeliest tokens of this probability [default: 0.5, of evol 0.95].",
        above=0,
        max=1,
    )
    presence_penalty: float = option(
        2.0,
        help="Of self-instruct, at a server: against repeating words; 0 sends none.",
        min=-2,
        max=2,
    )
    decontaminate: tuple[str, ...] = option(
        (),
        help="Leave out what repeats this evaluation set: a file, folder or hub id; repeatable.",
        place="in",
    )
    ngram: int = option(13, help="So many words in a row are a repetition.", min=1)
    dry_run: bool = option(False, help="Only say what it would cost.", record=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if "-" in self.decontaminate:
            raise UsageError("--decontaminate takes files, folders and hub ids, not `-`")

    @property
    def sampling(self) -> ModelConfig:
        """The teacher as it is asked for new instructions, by the method's published settings."""
        evolves = self.method == "evol"
        temperature, top_p = (1.0, 0.95) if evolves else (0.7, 0.5)
        return replace(
            self.teacher,
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=self.top_p or top_p,
            presence_penalty=None if evolves else self.presence_penalty or None,
        )

    @property
    def greedy(self) -> ModelConfig:
        """The teacher as it is asked for what should not vary."""
        return replace(self.teacher, temperature=0.0, top_p=None)
