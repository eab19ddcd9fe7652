"""`curate run`: reflect, select and fine-tune in one go, in either schedule."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..base.progress import say
from ..config import InputConfig, ReflectConfig, Schedule, SelectConfig
from ..config.shared.training import FinetuneConfig
from ..scoring.identity import ScoringIdentity
from ..stages.finetuning import finetune_run
from ..stages.reflection.estimate import estimate
from ..stages.reflection.stage import ReflectResult, reflect
from ..stages.selection.branches import branches_of, choose_branches
from ..stages.selection.stage import SelectResult, checked, select
from ..training.folder.publication import TrainingResult

StageResult = ReflectResult | SelectResult | TrainingResult


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What each stage did; no fine-tuning where none was asked for."""

    reflected: ReflectResult
    selected: SelectResult
    finetuned: TrainingResult | None


def run(
    reflecting: ReflectConfig,
    selecting: SelectConfig,
    finetuning: FinetuneConfig | None,
    *,
    schedule: Schedule = "all",
    done: Callable[[StageResult], None] = lambda _: None,
) -> RunResult:
    """All stages into one run directory. `selecting.input.data` is that directory.

    `selective` is the paper's order: the instruction is reflected, the student chooses a pair, only
    that pair's response is reflected, the student chooses again. `done` is told each result as soon
    as it is there.
    """
    _checked(selecting, finetuning)  # before a teacher is paid
    reflecting = replace(reflecting, schedule=schedule)
    selective = schedule == "selective"
    reflected = _reflect_chosen(reflecting, selecting) if selective else reflect(reflecting)
    done(reflected)
    selected = select(selecting)
    done(selected)
    finetuned = None
    if finetuning is not None and not selected.counts["selected"]:
        say("note: nothing was selected, so there is nothing to fine-tune on")
    elif finetuning is not None:
        data = InputConfig(data=str(selected.run))
        finetuned = finetune_run(replace(finetuning, input=data, selection=selected.selection))
        done(finetuned)
    return RunResult(reflected=reflected, selected=selected, finetuned=finetuned)


def plan(
    reflecting: ReflectConfig,
    selecting: SelectConfig,
    finetuning: FinetuneConfig | None,
    *,
    schedule: Schedule,
) -> str:
    """What `run` would do, as text: the teacher's cost, and what follows. Writes nothing."""
    identity = _checked(selecting, finetuning)
    asked = estimate(replace(reflecting, schedule=schedule))
    trained = "no training"
    if finetuning is not None:
        recipe = finetuning.recipe()
        trained = f"training with the preset {recipe.preset} into {finetuning.out}"
    return f"{asked}\nthen: selection by {identity.in_words()}; {trained}"


def _checked(selecting: SelectConfig, finetuning: FinetuneConfig | None) -> ScoringIdentity:
    """What scores would be known by; CurateError for what could not be selected or trained with."""
    if finetuning is not None:
        finetuning.recipe()
    return checked(selecting, Path(selecting.input.data))


def _reflect_chosen(reflecting: ReflectConfig, selecting: SelectConfig) -> ReflectResult:
    first = reflect(reflecting, step="instruction")
    identity = choose_branches(selecting)
    # From the run itself: standard input can be read only once.
    again = replace(reflecting, input=selecting.input)
    second = reflect(again, step="chosen", branches=branches_of(selecting, identity))
    return replace(second, asked=first.asked + second.asked, reused=first.reused + second.reused)
