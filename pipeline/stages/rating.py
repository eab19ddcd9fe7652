"""`curate judge --rate`: a judge rates each answer of a file from 0 to 5, once or several times."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from ..base.progress import say
from ..config import InputConfig, JudgeConfig
from ..errors import RequestFailed
from ..inputs.ingest import Intake
from ..inputs.readers import Source, open_source
from ..inputs.samples import read_samples, write_samples
from ..llm.ask import Asker
from ..llm.job import asking_job, together
from ..llm.protocol import Engine, Reply
from ..method.replies.endings import incomplete
from ..method.replies.ratings import rating_of, rating_verdict
from ..method.replies.verdicts import Verdict
from ..pair_records import Sample
from ..runs.directory import RunDir, folder_beside
from ..templates import JudgePrompt, rating_prompt

CUT = "the answer is not whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """The file of samples with their ratings, and what was asked for."""

    out: Path
    answers: int
    rated: int
    mean: float | None
    """Of the rated answers' ratings."""
    unrated: dict[str, int]
    """Reasons, counted."""
    rejected: int
    """Rows without a prompt or an answer."""
    asked: int
    reused: int


def rate(config: JudgeConfig) -> Rated:
    """Ask for every rating that the journal does not hold, and write the answers with them.

    Raises BudgetReached, or CurateError when the judge cannot be had, with all that was paid for
    kept.
    """
    source, intake = open_source(config.first), Intake()
    columns = replace(config.columns, data=config.first)
    samples = list(islice(read_samples(source, columns, intake), columns.limit))
    prompt, out = rating_prompt(), _out(config)
    with asking_job(
        config.judge,
        "judge",
        create_run=partial(_create_run, config, source, prompt, folder_beside(out)),
        version=prompt.version,
        slots=tuple(map(_slot, range(config.times))),
    ) as job:
        rater = _Rater(job.asker, prompt, config.times)
        rated = job.for_each(samples, rater.rated, unit="answers")
        write_samples(out, rated)
        counts = job.asker.counts
    known = [sample.rating for sample in rated if sample.rating is not None]
    return Rated(
        out=out,
        answers=len(rated),
        rated=len(known),
        mean=sum(known) / len(known) if known else None,
        unrated=dict(Counter(one.rating_reason or "" for one in rated if one.rating is None)),
        rejected=intake.num_rejected,
        asked=counts.asked,
        reused=counts.from_journal,
    )


def _out(config: JudgeConfig) -> Path:
    if config.out is not None:
        return config.out
    name = Path(config.first).name.partition(".")[0] or "answers"
    out = Path(f"{name}-rated.parquet")
    say(f"judge: the ratings go to {out} (--out names another file)")
    return out


def _create_run(
    config: JudgeConfig, source: Source, prompt: JudgePrompt, folder: Path, engine: Engine
) -> RunDir:
    columns: InputConfig = config.columns
    identity = {
        "command": "judge --rate",
        "answers": source.fingerprint,
        "columns": [columns.instruction_column, columns.input_column, columns.output_column],
        "judge": engine.name,
        "revision": engine.revision,
        "prompt": prompt.version,
        **config.judge.sampling,
    }
    return RunDir.create(folder, identity)


def _slot(number: int) -> str:
    """What a request is called in the journal and in recorded replies."""
    return f"rating_{number + 1}"


class _Rater:
    """Asks for all ratings of an answer."""

    def __init__(self, asker: Asker, prompt: JudgePrompt, times: int) -> None:
        self._asker, self._prompt, self._times = asker, prompt, times

    async def rated(self, sample: Sample) -> Sample:
        """The answer with the mean of its valid ratings; one that was cut is not asked about."""
        if incomplete(sample.finish_reason):
            return replace(sample, rating=None, ratings=(), rating_reason=CUT)
        verdicts = await together(self._rating(sample, number) for number in range(self._times))
        found = rating_of(verdicts)
        return replace(sample, rating=found.mean, ratings=found.scores, rating_reason=found.reason)

    async def _rating(self, sample: Sample, number: int) -> Verdict:
        messages = self._prompt.messages(instruction=_asked(sample), answer=sample.output)
        id = sample.id if sample.sample is None else f"{sample.id}#{sample.sample}"
        try:
            found = await self._asker.ask(
                messages, id=id, slot=_slot(number), read=_verdict, sample=number
            )
        except RequestFailed as error:
            return Verdict(status="failed", reason=str(error))
        return found.reading


def _asked(sample: Sample) -> str:
    """The whole prompt as one text; several turns with their roles."""
    prompt = sample.prompt
    if not prompt.history and not prompt.system:
        return prompt.turn
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt.messages)


def _verdict(reply: Reply) -> Verdict:
    return rating_verdict(reply.text, finish_reason=reply.finish_reason)


def rating_lines(result: Rated) -> Iterator[str]:
    """How many answers are rated, how well, and why the others are not."""
    mean = "-" if result.mean is None else f"{result.mean:.3f}"
    yield (
        f"rated {result.rated} of {result.answers} answers, mean {mean} of 0 to 5: {result.out}; "
        f"{result.asked} replies asked for, {result.reused} taken from the journal"
    )
    for reason, number in result.unrated.items():
        yield f"  {number} without a rating: {reason}"
    if result.rejected:
        yield f"  {result.rejected} rows without a prompt or an answer"
