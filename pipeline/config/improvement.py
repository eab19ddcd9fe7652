"""`curate improve`: a loop of sampling, rating, pairing and training."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from .alignment import LossName, PreferenceRecipe
from .options.fields import check_fields, embedded, option
from .shared.inputs import InputConfig, out_option
from .shared.models import ModelConfig, asked_model
from .shared.scoring import check_template

RecipeName = Literal["self-rewarding", "ditto", "spin"]
RewardName = Literal["self", "judge", "rifd", "command"]
ReferenceChoice = Literal["first", "previous"]
StopRule = Literal["worse", "never"]
KeepModels = Literal["best", "last", "all"]

_NO_JUDGE = ("prompts", "journal", "retry", "batch_api", "batch_poll", "device")
LIMITS = ("max_cost", "max_total_tokens", "price_in", "price_out", "prices", "rpm", "tpm")
"""What of a judge's options says how much may be asked for."""
_NO_RECIPE = ("packing", "padding_free", "held_out", "lora_dropout", "loss_on", "stop_loss",
              "learning_rate", "epochs", "max_steps", "batch_size", "scheduler", "warmup_ratio",
              "fsdp", "deepspeed", "report_to", "keep_checkpoints")  # fmt: skip
_HELD_OUT = {
    name: f"held_out_judge_{name}"
    for name in ("revision", "engine", "base_url", "replies", "concurrency", "max_tokens")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImproveConfig:
    """`curate improve`. None stands for the recipe's own setting."""

    input: InputConfig = embedded(
        "Input",
        help={"data": "Demonstrations: instructions with answers, in any form that is read."},
        without=("strict",),
    )
    recipe: RecipeName = option(help="The loop.")
    model: str = option(help="The model to improve: a folder or a hub id, not a server.")
    revision: str | None = option(
        None, name="model_revision", help="The model's revision on the hub."
    )
    out: Path = out_option(help="The run directory.")
    iterations: int | None = option(
        None, help="Iterations in all; a larger number goes on [default: 3; ditto 4].", min=1
    )
    prompts: str | None = option(
        None,
        help="Of self-rewarding: what is answered, a file or a run of `curate synthesize` "
        "[default: half of DATA, which is then not fine-tuned on].",
        place="in",
    )
    num_prompts: int | None = option(
        None, help="Take so many prompts an iteration, others in each [default: all].", min=1
    )
    no_sft: bool = option(False, help="Leave out the fine-tuning that comes first.")
    eft: str | None = option(
        None,
        help="Of self-rewarding: judge tasks by `curate judge --eft`, fine-tuned on with DATA.",
        place="in",
    )
    template: str | None = option(
        None, help="The prompt template [default: the one the model was trained with, else auto]."
    )
    reward: RewardName | None = option(
        None,
        help="Of self-rewarding: what rates the answers: self, the model by the rubric of `judge "
        "--rate`; judge, --judge by the same; rifd, minus the log of r-IFD under the model, or "
        "under the folder --judge; command, a program of yours [default: self].",
    )
    reward_command: str | None = option(
        None,
        help="Reads one line of JSON {id, prompt, answer}, prints a number, started per answer.",
    )
    reward_timeout: float = option(60.0, help="Seconds that it may take for an answer.", above=0)
    samples: int | None = option(
        None, help="Answers a prompt [default: 4; ditto 10, spin 1].", min=1
    )
    temperature: float | None = option(
        None, help="Sampling temperature [default: 0.7; ditto and spin 1].", min=0
    )
    top_p: float | None = option(
        None, help="Sample from the likeliest tokens of this probability [default: 0.9; ditto and "
        "spin: all].", above=0, max=1
    )  # fmt: skip
    max_tokens: int = option(1024, help="At most so many new tokens an answer.", min=1)
    concurrency: int = option(64, help="At most so many answers at once.", min=1)
    engine: Literal["transformers", "vllm"] = option(
        "transformers", help="What samples: this process's engine, or a vLLM server started here."
    )
    times: int | None = option(None, help="Ratings an answer, averaged [default: 3].", min=1)
    tier: float | None = option(
        None, help="Width of the quality tiers, see `curate pairs` [default: 0.1].", min=0
    )
    reference: ReferenceChoice | None = option(
        None,
        help="The reference of each training: the model before the first iteration, or before "
        "this one [default: previous; ditto first].",
    )
    loss: LossName = option("dpo", help="The loss, see `curate align`.")
    nll_weight: float | None = option(
        None, help="Weight of the chosen answer's NLL in the loss.", min=0
    )
    beta: float | None = option(
        None, help="Strength of the tie to the reference [default: 0.1; ditto 0.05].", above=0
    )
    learning_rate: tuple[float, ...] | None = option(
        None,
        help="Peak learning rate, or one an iteration [default: 1e-6; spin 5e-7,5e-7,1e-7].",
        above=0,
    )
    epochs: float | None = option(
        None, help="Passes over an iteration's pairs [default: 1; spin 2].", above=0
    )
    max_steps: int | None = option(
        None, help="Steps an iteration, in place of epochs [default: ditto 10].", min=1
    )
    batch_size: int | None = option(
        None,
        help="Pairs a step [default: 16; spin 64; ditto 3 a demonstration, at most 24].",
        min=1,
    )
    sft_learning_rate: float | None = option(
        None, help="Of the fine-tuning [default: 5.5e-6; ditto 3e-5].", above=0
    )
    sft_epochs: float | None = option(
        None, help="Of the fine-tuning, at most [default: 3; ditto 30].", above=0
    )
    sft_batch_size: int | None = option(
        None, help="Of the fine-tuning [default: 16; ditto 4].", min=1
    )
    sft_loss: float | None = option(
        None, help="The fine-tuning stops at this loss of a batch [default: ditto 1].", above=0
    )
    training: PreferenceRecipe = embedded("Training", without=_NO_RECIPE)
    judge: ModelConfig = asked_model(
        "Judge of the reward",
        "judge",
        default={"max_tokens": 1024, "temperature": 0.7, "top_p": 0.9},
        rename={name: f"judge_{name}" for name in (
            "engine", "temperature", "top_p", "max_tokens", "seed", "concurrency")},
        help={
            "max_cost": "Stop before an iteration's ratings cost more USD (needs prices).",
            "max_total_tokens": "Stop before an iteration's ratings take more tokens.",
        },
        without=_NO_JUDGE,
    )  # fmt: skip
    held_out: str | None = option(
        None,
        help="Records that no iteration sees, to measure on [default: a tenth of DATA, from 10 "
        "records on].",
        place="in",
    )
    held_out_judge: ModelConfig | None = asked_model(
        "Held-out judge",
        "judge",
        rename={"model": "held_out_judge", **_HELD_OUT},
        without=(*_NO_JUDGE, *LIMITS, "temperature", "top_p", "seed", "engine_args"),
        needs=("held_out_judge", "held_out_judge_replies"),
    )
    exam: str | None = option(
        None,
        help="Of --reward self: answers that people ranked, by which each model is examined as the "
        "judge that it is, see `curate judge --rate`.",
        place="in",
    )
    stop: StopRule = option("worse", help="Whether to end once an iteration is worse.")
    min_pairs: int | None = option(
        None, help="Fewer pairs than this end the loop [default: 32; ditto 1].", min=1
    )
    keep_models: KeepModels = option(
        "best",
        help="Whose weights stay: best and last of a loop that may go on, the best alone of one "
        "that was stopped; last, both in any case; all.",
    )
    isolate: bool = option(
        False, help="Run each stage as a process of its own, as is always done on a GPU."
    )
    dry_run: bool = option(
        False, help="Only say how much would be asked for and trained on.", record=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        check_template(self.template)
        if "://" in self.model:
            raise UsageError(
                f"--model {self.model}: the model is trained, so it must be a folder or a hub id; "
                "a server's name says nothing of its weights"
            )
        if not (self.tier or 0) < 0.5:
            raise UsageError(
                f"--tier must be below 0.5, not {self.tier}: from there on the best and the worst "
                "tier meet"
            )
        if self.recipe == "self-rewarding":
            self._check_reward()
        else:
            self._check_no_reward()

    def _check_reward(self) -> None:
        command = self.reward_command
        if (self.reward == "command") != (command is not None):
            raise UsageError("--reward command and --reward-command go together")
        if command is not None and not _words(command):
            raise UsageError(f"--reward-command {command!r} is no command")
        judge = self.judge
        judged = bool(judge.model or judge.replies or judge.base_urls)
        if self.reward == "judge" and not judged:
            raise UsageError("--reward judge needs --judge, the model that rates")
        if self.reward not in ("judge", "rifd") and judged:
            raise UsageError("--judge is for --reward judge, or a folder for --reward rifd")
        if self.reward == "rifd" and (judge.base_urls or judge.replies):
            raise UsageError("--reward rifd scores with a folder or hub id, not with a server")
        rubric = self.reward in (None, "self", "judge") and judge.replies is None
        if rubric and (self.times or 3) > 1 and not judge.temperature:
            raise UsageError("at --judge-temperature 0 all ratings are one: give --times 1")
        if self.exam is not None and not self.rates_itself:
            raise UsageError("--exam is for --reward self: it examines the model as the judge")
        if self.eft is not None and self.no_sft:
            raise UsageError("--eft is fine-tuned on, and --no-sft leaves that out")

    def _check_no_reward(self) -> None:
        for name in ("prompts", "eft", "reward", "reward_command", "times", "tier", "exam"):
            if getattr(self, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag} is for --recipe self-rewarding: {self.recipe} pairs DATA's answers "
                    "with samples for DATA's own prompts"
                )

    @property
    def rates_itself(self) -> bool:
        """Whether the model rates its own answers."""
        return self.recipe == "self-rewarding" and self.reward in (None, "self")

    @property
    def command(self) -> list[str]:
        """The words of --reward-command."""
        return _words(self.reward_command or "")


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []
