"""From a command's options to configurations; keys come from the environment alone."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from ..base.progress import say
from ..base.sharding import Share, share_of
from ..config import InputConfig, ModelConfig, ReflectConfig, Role
from ..errors import UsageError

if TYPE_CHECKING:
    from ..workflows.compare_judging import PairwiseConfig

JUDGE_TOKENS = 1024  # of a verdict, at most
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


def made_model(options: Mapping[str, Any]) -> ModelConfig:
    """The configuration of a model that is asked; the key comes from the environment alone."""
    key = os.environ.get("CURATE_API_KEY") or os.environ.get("OPENAI_API_KEY")
    retry = tuple(listed(options["retry"] or ""))
    engine_args = tuple(shlex.split(options["engine_args"] or ""))
    return made(
        ModelConfig,
        options,
        api_key=key,
        base_url=tuple(options["base_url"] or ()),
        retry=retry,
        engine_args=engine_args,
    )


def made_asked(role: Role, model: str | None, options: Mapping[str, Any]) -> ModelConfig:
    """The configuration of a model that is asked in another part than the teacher's."""
    return made_model({"prompts": None, **options, "model": model, "role": role})


def made_pairwise(options: Mapping[str, Any]) -> "PairwiseConfig | None":
    """Who judges a comparison; None where nobody does."""
    from ..workflows.compare_judging import PairwiseConfig

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
        say(f"note: this Slurm array's task does share {share} of the run")
    return share


def made_reflect(options: Mapping[str, Any], **more: Any) -> ReflectConfig:
    """The configuration of reflect."""
    asked = dict(options) | {name: options[f"teacher_{name}"] for name in ("revision", "device")}
    teacher = made_model(asked | {"model": options["teacher"]})
    return made(ReflectConfig, options, input=made(InputConfig, options), teacher=teacher, **more)
