"""Rewards that no judge gives: a program of the user's, and minus the log of r-IFD."""

import json
import math
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ...base.files import intact_parquet, write_json_lines
from ...base.foreign_json import parse_json
from ...base.progress import Progress
from ...errors import CurateError
from ...method.ifd import log_ratio
from ...method.replies.endings import incomplete
from ...pair_records import Sample
from ...records import Score, scores_from

CUT = "the answer is not whole"
_SHOWN = 60
"""Characters of what a program says that a reason repeats."""


def key_of(sample: Sample) -> str:
    """What tells a sample from all others of an iteration."""
    return f"{sample.id}#{sample.sample}"


def _is_whole(sample: Sample) -> bool:
    broken = incomplete(sample.finish_reason)
    return broken is None or broken[0] == "ok"


def _with(sample: Sample, rating: float | None, reason: str | None) -> Sample:
    ratings = () if rating is None else (rating,)
    return replace(sample, rating=rating, ratings=ratings, rating_reason=reason)


# --- a program ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that rates an answer: one line of JSON in, a number out; started per answer."""

    words: Sequence[str]
    timeout: float

    def rated(self, sample: Sample) -> Sample:
        """The sample with its rating, or with the reason why it has none."""
        if not _is_whole(sample):
            return _with(sample, None, CUT)
        asked = {"id": sample.id, "prompt": sample.prompt.turn, "answer": sample.output}
        try:
            done = subprocess.run(
                list(self.words),
                input=json.dumps(asked, ensure_ascii=False).encode() + b"\n",
                capture_output=True,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _with(sample, None, f"the reward command took more than {self.timeout:g} s")
        except OSError as error:
            raise CurateError(
                f"--reward-command {self.words[0]}: it cannot be started: {error.strerror}"
            ) from None
        if done.returncode:
            return _with(sample, None, f"the reward command ended with exit code {done.returncode}")
        return _with(sample, *_number(done.stdout.decode("utf-8", "replace").strip()))


def _number(said: str) -> tuple[float | None, str | None]:
    try:
        number = float(said)
    except ValueError:
        shown = f" but {said[:_SHOWN]!r}" if said else ""
        return None, f"the reward command printed no number{shown}"
    if not math.isfinite(number):
        return None, f"the reward command printed {number}"
    return number, None


def rate_by_program(program: Program, samples: Sequence[Sample], noted: Path) -> list[Sample]:
    """All samples with their ratings; each is noted on disk at once, and not asked for again.

    CurateError where no answer has one: then something is wrong with the program.
    """
    known = _noted(noted)
    waiting = [sample for sample in samples if key_of(sample) not in known]
    noted.parent.mkdir(parents=True, exist_ok=True)
    with (
        noted.open("ab") as file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
        Progress("rate", total=len(waiting), unit="answers") as progress,
    ):
        file.write(b"\n")  # after a line that was cut
        for sample in pool.map(program.rated, waiting):
            known[key_of(sample)] = sample.rating, sample.rating_reason
            entry = [key_of(sample), sample.rating, sample.rating_reason]
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            progress.advance()
    rated = [_with(sample, *known[key_of(sample)]) for sample in samples]
    reasons = [one.rating_reason or "" for one in rated if one.rating_reason not in (None, CUT)]
    if reasons and all(one.rating is None for one in rated):
        noted.unlink()
        raise CurateError(f"no answer has a reward: {max(set(reasons), key=reasons.count)}")
    return rated


def _noted(path: Path) -> dict[str, tuple[float | None, str | None]]:
    """What was noted before; a line that was cut is as good as none."""
    found: dict[str, tuple[float | None, str | None]] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            key, rating, reason = parse_json(line)
            found[key] = (rating, reason)
        except (ValueError, TypeError):
            continue
    return found


# --- r-IFD ----------------------------------------------------------------------------------------


def write_for_scoring(path: Path, samples: Sequence[Sample]) -> None:
    """Write the whole answers as records, which `curate score` reads."""
    rows = [
        {
            "id": key_of(one),
            "instruction": one.prompt.instruction,
            "input": one.prompt.input,
            "output": one.output,
            "system": one.prompt.system,
        }
        for one in samples
        if _is_whole(one) and one.output.strip()
    ]
    if not rows:
        raise CurateError(
            "no answer can be scored: all are empty or cut; give a larger --max-tokens and another "
            "--out"
        )
    write_json_lines(path, rows)


def rate_by_scores(scores: Path, samples: Sequence[Sample]) -> list[Sample]:
    """Minus the log of each answer's r-IFD, which is low where the answer tells its prompt."""
    table = intact_parquet(scores, remedy="remove it and run the same command again")
    known = {score.id: score for score in scores_from(table)}
    return [_by_score(sample, known.get(key_of(sample))) for sample in samples]


def _by_score(sample: Sample, score: Score | None) -> Sample:
    if score is None:
        return _with(sample, None, CUT if not _is_whole(sample) else "the answer is empty")
    ratio = log_ratio(score, "rifd")
    if ratio is None:
        return _with(sample, None, f"no r-IFD: {score.rifd_status}")
    return _with(sample, -ratio, None)
