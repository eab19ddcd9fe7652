"""Records whose instruction repeats that of an earlier one, left out before the teacher is paid."""

from collections.abc import Callable, Iterator

from ...base.progress import Progress
from ...config import ReflectConfig
from ...inputs.ingest import Intake, LeftOut
from ...method.corpus.near_duplicates import DuplicateFinder
from ...records import Candidate, user_turn

Originals = Callable[[Intake], Iterator[Candidate]]


def without_duplicates(originals: Originals, config: ReflectConfig) -> Originals:
    """The originals that `--dedup` leaves; the others are listed in the intake.

    Called, it reads the input once before it returns, and once more as it yields.
    """
    if config.dedup == "off":
        return originals

    def left(intake: Intake) -> Iterator[Candidate]:
        finder = DuplicateFinder(config.dedup_threshold if config.dedup == "near" else None)
        with Progress("dedup", total=config.input.limit, unit="records") as progress:
            for original in originals(Intake()):
                finder.note(_instruction(original))
                progress.advance()
        return _judged(originals(intake), intake, finder)

    return left


def _judged(
    originals: Iterator[Candidate], intake: Intake, finder: DuplicateFinder
) -> Iterator[Candidate]:
    for original in originals:
        found = finder.judge(original.id, _instruction(original))
        if found is None:
            yield original
        else:
            intake.near_duplicates.append(LeftOut(original.id, *found))


def _instruction(original: Candidate) -> str:
    """All that the response answers."""
    before = [original.system or "", *(turn["content"] for turn in original.history)]
    asked = user_turn(original.instruction or "", original.input or "")
    return "\n\n".join([*filter(None, before), asked])
