"""`curate judge --rate`: a judge rates each answer of a file from 0 to 5, once or several times."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from ..base.files import write_json_lines
from ..base.progress import say
from ..base.tables import shown
from ..config import InputConfig, JudgeConfig
from ..errors import RequestFailed, UsageError
from ..inputs.ingest import Intake
from ..inputs.readers import Source, open_source
from ..inputs.samples import read_samples, write_samples
from ..llm.ask import Asker
from ..llm.job import asking_job, together
from ..llm.protocol import Engine, Reply
from ..method.judge_tasks import RatedAnswer, judge_tasks
from ..method.replies.endings import answer_text, incomplete
from ..method.replies.ratings import rating_of, rating_verdict
from ..method.replies.verdicts import Verdict
from ..method.statistics.judge_exam import JudgeExam, judge_exam
from ..pair_records import Sample
from ..records import Message
from ..runs.directory import RunDir, folder_beside
from ..templates import asking_turn, prompts_version

CUT = "the answer is not whole"
PROMPT = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """The file of samples with their ratings, and what was asked for."""

    out: Path
    answers: int
    prompts: int
    rated: int
    mean: float | None
    """Of the rated answers' ratings."""
    unrated: dict[str, int]
    """Reasons, counted."""
    rejected: int
    """Rows without a prompt or an answer."""
    asked: int
    reused: int
    exam: JudgeExam | None = None
    """Where the answers have ranks."""
    eft: "JudgeTasks | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTasks:
    """The file of the judge's reviews that order answers as their ranks do."""

    out: Path
    records: int
    left_out: Mapping[str, int]
    """Answers, by the reason."""


def rate(config: JudgeConfig) -> Rated:
    """Ask for every rating that the journal does not hold, and write the answers with them."""
    source, intake = open_source(config.first), Intake()
    columns = replace(config.columns, data=config.first)
    samples = list(_numbered(islice(read_samples(source, columns, intake), columns.limit)))
    if config.eft is not None and all(sample.rank is None for sample in samples):
        raise UsageError(
            f"--eft needs answers that people ranked, and {source.name} has no column 'rank', nor "
            "'chosen' and 'rejected'"
        )
    out = _out(config)
    with asking_job(
        config.judge,
        "judge",
        create_run=partial(_create_run, config, source, folder_beside(out)),
        version=prompts_version(PROMPT),
        slots=tuple(map(_slot, range(config.times))),
    ) as job:
        rater = _Rater(job.asker, config.times)
        answers = job.for_each(samples, rater.rated, unit="answers")
        rated = [answer.sample for answer in answers]
        write_samples(out, rated)
        eft = None if config.eft is None else _write_tasks(config.eft, answers)
        counts = job.asker.counts
    known = [sample.rating for sample in rated if sample.rating is not None]
    return Rated(
        out=out,
        answers=len(rated),
        prompts=len({sample.id for sample in rated}),
        rated=len(known),
        mean=sum(known) / len(known) if known else None,
        unrated=dict(Counter(one.rating_reason or "" for one in rated if one.rating is None)),
        rejected=intake.num_rejected,
        asked=counts.asked,
        reused=counts.from_journal,
        exam=judge_exam(rated),
        eft=eft,
    )


def _numbered(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Ranked answers that have no number get their place among those of their prompt."""
    places: Counter[str] = Counter()
    for sample in samples:
        unnumbered = sample.sample is None and sample.rank is not None
        yield replace(sample, sample=places[sample.id]) if unnumbered else sample
        places[sample.id] += 1


def _write_tasks(out: Path, answers: Sequence[RatedAnswer]) -> JudgeTasks:
    tasks, left = judge_tasks(answers)
    write_json_lines(out, map(asdict, tasks))
    return JudgeTasks(out=out, records=len(tasks), left_out=left)


def _out(config: JudgeConfig) -> Path:
    if config.out is not None:
        return config.out
    name = Path(config.first).name.partition(".")[0] or "answers"
    out = Path(f"{name}-rated.parquet")
    say(f"judge: the ratings go to {out} (--out names another file)")
    return out


def _create_run(config: JudgeConfig, source: Source, folder: Path, engine: Engine) -> RunDir:
    columns: InputConfig = config.columns
    identity = {
        "command": "judge --rate",
        "answers": source.fingerprint,
        "columns": [columns.instruction_column, columns.input_column, columns.output_column],
        "judge": engine.name,
        "revision": engine.revision,
        "prompt": prompts_version(PROMPT),
        **config.judge.sampling,
    }
    return RunDir.create(folder, identity)


def _slot(number: int) -> str:
    """What a request is called in the journal and in recorded replies."""
    return f"rating_{number + 1}"


class _Rater:
    """Asks for all ratings of an answer."""

    def __init__(self, asker: Asker, times: int) -> None:
        self._asker, self._times = asker, times

    async def rated(self, sample: Sample) -> RatedAnswer:
        """The answer with the mean of its valid ratings; one that was cut is not asked about."""
        if incomplete(sample.finish_reason):
            cut = replace(sample, rating=None, ratings=(), rating_reason=CUT)
            return RatedAnswer(sample=cut)
        messages = asking_turn(PROMPT, instruction=_asked(sample), answer=sample.output)
        reviews = await together(
            self._review(sample, messages, number) for number in range(self._times)
        )
        found = rating_of([verdict for verdict, _ in reviews])
        return RatedAnswer(
            sample=replace(
                sample, rating=found.mean, ratings=found.scores, rating_reason=found.reason
            ),
            request=messages[0]["content"],
            reviews=[(verdict.scores[0], text) for verdict, text in reviews if verdict.scores],
        )

    async def _review(
        self, sample: Sample, messages: tuple[Message, ...], number: int
    ) -> tuple[Verdict, str]:
        id = sample.id if sample.sample is None else f"{sample.id}#{sample.sample}"
        try:
            found = await self._asker.ask(
                messages, id=id, slot=_slot(number), read=_verdict, sample=number
            )
        except RequestFailed as error:
            return Verdict(status="failed", reason=str(error)), ""
        return found.reading, answer_text(found.reply.text)


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
    yield (
        f"rated {result.rated} of {result.answers} answers, mean {shown(result.mean, '.3f')} of "
        f"0 to 5: {result.out}; "
        f"{result.asked} replies asked for, {result.reused} taken from the journal"
    )
    for reason, number in result.unrated.items():
        yield f"  {number} without a rating: {reason}"
    if result.rejected:
        yield f"  {result.rejected} rows without a prompt or an answer"
    if result.exam:
        yield _exam_line(result.exam)
    if result.eft:
        yield f"{result.eft.records} judge tasks to finetune on: {result.eft.out}"
        for reason, number in result.eft.left_out.items():
            yield f"  {number} answers without one: {reason}"


def _exam_line(exam: JudgeExam) -> str:
    """The judge against the ranks."""
    found = (exam.pairwise_accuracy, exam.exact, exam.five_best, exam.spearman, exam.kendall)
    pairwise, exact, best, spearman, kendall = (shown(value, ".3f") for value in found)
    return (
        f"exam of {exam.prompts} ranked prompts: pairwise accuracy {pairwise} of {exam.pairs} "
        f"pairs ({exam.tied} rated alike), exact {exact}, 5-best {best}, Spearman {spearman}, "
        f"Kendall {kendall}"
    )
