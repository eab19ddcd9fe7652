"""What to type next, by what a folder holds: a pure function a kind of run.

Nothing is proposed that changes nothing, or that pays again for what is there. Capitals stand for
what only the user knows.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...records import RETRYABLE
from .stage_status import StageStatus, command_line

Options = Mapping[str, Any]


def retry_options(counts: Mapping[str, int], options: Options, *, sampled: bool) -> Options | None:
    """The options that ask again where that may give something else; None where it cannot.

    Recorded replies stay what they are. A greedy model repeats itself, unless its reply was cut.
    `sampled`: the temperature is not 0.

    >>> retry_options({"truncated": 2, "refused": 1}, {}, sampled=False)
    {'retry': ['truncated'], 'max_tokens': 4096}
    """
    if options.get("replies") or options.get("engine") == "recorded":
        return None
    useful = [name for name in RETRYABLE if sampled or name in ("failed", "truncated")]
    again = [name for name in useful if counts.get(name)]
    if not again:
        return None
    longer = {"max_tokens": 2 * int(options.get("max_tokens", 2048))}
    return {"retry": again, **(longer if "truncated" in again else {})}


def after_candidates(
    path: str,
    stages: Sequence[StageStatus],
    training: Options,
    *,
    reported: bool,
    compared: bool,
) -> Iterator[str]:
    """Of a run of candidates: reflect, select, look at it, train, compare.

    `training` has the options of the run's last training; `reported`: its report shows the last
    selection.
    """
    made, *later = stages
    selections = [stage for stage in later if stage.stage.startswith("select/")]
    trained = [stage for stage in later if stage.unit == "steps"]
    if made.state != "finished" or made.damaged_shards:
        yield from filter(None, [made.command])
        return
    unfinished = [s for s in selections if s.state != "finished" or s.stale or s.damaged_shards]
    yield from filter(None, [made.retry, *(stage.command for stage in unfinished)])
    if not selections:
        yield command_line("select", data=path, student="STUDENT")
    if unfinished or not selections:
        return
    if not reported:
        yield command_line("report", run=path)
    yield from _training(path, selections, trained, training, compared=compared)


def _training(
    path: str,
    selections: Sequence[StageStatus],
    trained: Sequence[StageStatus],
    training: Options,
    *,
    compared: bool,
) -> Iterator[str]:
    kept = [stage for stage in selections if stage.selected]
    for stage in trained:
        if stage.state == "unfinished" and stage.command:
            yield stage.command
    if not kept or any(stage.state != "finished" for stage in trained):
        return
    chosen = [stage.stage.partition("/")[2] for stage in kept]
    student = {"run" if trained else "data": path, "model": kept[-1].student}
    if not trained:
        named = {"selection": chosen[-1]} if len(selections) > 1 else {}
        yield command_line("finetune", **student, **named, out=f"{path}/model")
    elif not compared:
        given = {n: v for n, v in training.items() if n not in ("data", "selection", "seed")}
        several = {"selection": ",".join(chosen)} if len(selections) > 1 else {}
        options = {**student, **several, "out": f"{path}-compared", **given}
        yield command_line("compare", **options)


def after_problems(path: str, stages: Sequence[StageStatus]) -> Iterator[str]:
    """Of a run of problems: sample, check, train on what was solved."""
    made, *checked = stages
    if made.state != "finished" or made.damaged_shards:
        yield from filter(None, [made.command])
        return
    yield from filter(None, [made.retry])
    if not checked:
        yield command_line("check", data=path)
    elif checked[0].selected:
        solved = f"{path}/solved"
        yield command_line("finetune", data=solved, model="STUDENT", out=f"{path}-model")


def after_training(path: str, stage: StageStatus) -> Iterator[str]:
    """Of a trained model's folder: go on, then ask it."""
    if stage.state == "unfinished":
        yield from filter(None, [stage.command])
    elif stage.state == "finished":
        yield _asking(path, f"{path}-answers.json")


def _asking(model: str, out: str, questions: str = "QUESTIONS") -> str:
    return command_line("generate", data=questions, model=model, out=out)


def after_loop(path: str, best: str | None) -> Iterator[str]:
    """Of a loop that has ended: ask the model of its best iteration, unless that is the first."""
    if best is not None:
        yield _asking(best, f"{path}-answers.json")


def after_instructions(path: str, number: int, *, answered: bool) -> Iterator[str]:
    """Of new instructions: reflect on them with their answers, or have them answered."""
    made = f"{path}/instructions"
    if number and answered:
        yield command_line("reflect", data=made, out=f"{path}-reflected", teacher="MODEL")
    elif number:
        yield _asking("MODEL", f"{path}-answers.jsonl", made)


def after_answers(path: Path, *, sampled: bool) -> str:
    """Of a file of answers: judge them beside another model's; of several a question, rate them."""
    of_other = {"rate": True} if sampled else {"b": "OTHER_ANSWERS"}
    out = path.with_name(
        f"{path.stem}-rated{path.suffix}" if sampled else f"{path.stem}-verdicts.json"
    )
    return command_line("judge", a=path, **of_other, judge="JUDGE", out=out)


def after_judging(path: Path, *, rivals: bool = True) -> str | None:
    """Of verdicts or ratings: pair the answers, where some compete for one prompt."""
    out = path.with_name(f"{path.stem}-pairs")
    return command_line("pairs", data=path, out=out) if rivals else None


def after_pairs(path: str, pairs: int) -> Iterator[str]:
    """Of a folder of pairs: train on them."""
    if pairs:
        yield command_line("align", pairs=path, model="MODEL", out=f"{path}-aligned", loss="dpo")
