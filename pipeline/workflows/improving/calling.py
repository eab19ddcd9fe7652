"""Calls a stage with its options: in this process, or as a child whose memory goes with it."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base.progress import say
from ...config import (
    AlignConfig,
    FinetuneConfig,
    GenerateConfig,
    JudgeConfig,
    PairsConfig,
    ScoreConfig,
    command_words,
    configured,
)
from ...config.options.flat import options_of
from ...errors import BudgetReached, CurateError
from ...models.devices import release_memory
from ...stages.aligning import align
from ...stages.finetuning import finetune_run
from ...stages.generation.stage import generate
from ...stages.judging import judge
from ...stages.pairs.stage import pairs
from ...stages.rating import rate
from ...stages.scoring import score

_STAGES: dict[str, tuple[type, Callable[[Any], object]]] = {
    "finetune": (FinetuneConfig, finetune_run),
    "generate": (GenerateConfig, generate),
    "judge": (JudgeConfig, lambda config: rate(config) if config.rate else judge(config)),
    "pairs": (PairsConfig, pairs),
    "align": (AlignConfig, align),
    "score": (ScoreConfig, score),
}
_TRAIN = ("finetune", "align")
_FINISHED = (0, 3)  # 3: finished, but some answers failed, which the loop counts
_BUDGET, _INTERRUPTED = 4, (130, -2, -15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """How stages are called; `processes` is how many train together where they are isolated."""

    isolated: bool
    processes: int = 1

    @classmethod
    def here(cls, *, isolate: bool, device: str) -> "Calls":
        """Isolated where it is asked for, and on GPUs, of which each trains with one process."""
        import torch

        gpus = torch.cuda.device_count() if device != "cpu" else 0
        return cls(isolated=isolate or gpus > 0, processes=max(gpus, 1))

    def __call__(self, command: str, **options: Any) -> None:
        """Run the stage; options that are None are left out. Raises what the stage raises."""
        given = {name: value for name, value in options.items() if value not in (None, ())}
        if self.isolated:
            _wait_for(command, child_command(command, given, processes=self.processes))
            return
        config, stage = _STAGES[command]
        stage(configured(config, given))
        release_memory()


def child_command(command: str, options: Mapping[str, Any], *, processes: int) -> list[str]:
    """What starts the stage as a process, a training with several behind torchrun."""
    known = options_of(_STAGES[command][0])
    given = {
        name: _plain(name, value)
        for name, value in options.items()
        if value is not False or known[name].default is None  # else it is off already
    }
    words = ["-m", "curate.cli", *command_words(command, given)[1:]]
    if command in _TRAIN and processes > 1:
        number = ["--nproc-per-node", str(processes)]
        words = ["-m", "torch.distributed.run", "--standalone", *number, *words]
    return [sys.executable, *words]


def _plain(name: str, value: Any) -> Any:
    if name == "engine_args":
        return shlex.join(value)
    return str(value) if isinstance(value, Path) else value


def _wait_for(command: str, words: list[str]) -> None:
    """CurateError, BudgetReached or KeyboardInterrupt, as the child ended; it said why."""
    say(f"starting: {shlex.join(words[1:])}")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as child:
        try:
            code = child.wait()
        except BaseException:
            child.terminate()
            raise
    if code in _INTERRUPTED:
        raise KeyboardInterrupt
    if code == _BUDGET:
        raise BudgetReached(f"the budget stopped `{command}`: the same command goes on from here")
    if code not in _FINISHED:
        raise CurateError(f"`curate {command}` ended with exit code {code}, for the reason above")
