"""`curate generate`: a model's answers to an evaluation set, in the set's own formats."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

from ...config import AnswerFormat, EngineName, GenerateConfig, ModelConfig
from ...errors import RequestFailed, UsageError
from ...inputs.evaluation.answer_files import Answer, write_answers
from ...inputs.evaluation.questions import Question, read_questions
from ...inputs.examples import input_identity
from ...inputs.ingest import Intake
from ...inputs.readers import Source, open_source
from ...inputs.samples import write_samples
from ...llm.ask import Asker, ReadText
from ...llm.engines.choose import choose_engine
from ...llm.job import asking_job
from ...llm.protocol import Engine, Reply
from ...method.replies.endings import answer_text, incomplete
from ...records import Message, conversation
from ...runs.directory import RunDir, folder_beside

WrittenFormat = AnswerFormat | Literal["samples"]
MESSAGES = "messages"
"""In a template's place where a server renders the conversation by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The file and what is in it; a question that failed is not."""

    out: Path
    format: WrittenFormat
    answers: int
    cut: int
    """Answers with a turn that ended at the token limit."""
    failed: dict[str, int]
    """Reasons, counted."""
    rejected: int
    """Rows that ask nothing."""
    asked: int
    reused: int


def generate(config: GenerateConfig) -> Generated:
    """Ask what the journal does not hold, and write the file."""
    source, intake = open_source(config.input.data), Intake()
    questions = read_questions(source, config.input, intake)
    form = _format(config, questions)
    folder = folder_beside(config.out)
    prompts = _prompts(config)
    # The journal tells the samples of a question apart by their numbers; a lone answer has none.
    numbers = [None] if config.samples is None else range(config.samples)
    asked = list(product(questions, numbers))
    with asking_job(
        _model(config, prompts),
        "generate",
        create_run=partial(_create_run, config, source, prompts, folder),
        version=prompts.name,
    ) as job:
        answers = job.for_each(asked, _Answerer(job.asker, prompts).answer, unit="answers")
        whole = [answer for answer in answers if answer.failure is None]
        model = job.asker.engine.name
        if form == "samples":
            write_samples(config.out, [answer.as_sample(model) for answer in whole])
        else:
            write_answers(config.out, form, whole, model)
        counts = job.asker.counts
    return Generated(
        out=config.out,
        format=form,
        answers=len(whole),
        cut=sum(answer.cut for answer in answers),
        failed=dict(Counter(answer.failure for answer in answers if answer.failure)),
        rejected=intake.num_rejected,
        asked=counts.asked,
        reused=counts.from_journal,
    )


def _create_run(
    config: GenerateConfig, source: Source, prompts: "Prompts", folder: Path, engine: Engine
) -> RunDir:
    identity = {
        "command": "generate",
        **input_identity(source, config.input),
        "model": engine.name,
        "revision": engine.revision,
        "template": prompts.name,
        **config.model.sampling,
    }
    return RunDir.create(folder, identity)


def _format(config: GenerateConfig, questions: list[Question]) -> WrittenFormat:
    """As asked for; else told by the file's ending and by turns that only MT-Bench's form has."""
    several = any(len(question.turns) > 1 for question in questions)
    if config.samples is not None:
        if several:
            raise UsageError("some questions have several turns, and --samples is of single ones")
        return "samples"
    if config.format is None and config.out.suffix == ".jsonl":
        return "mt_bench" if several else "jsonl"
    if config.format in (None, "alpaca_eval") and several:
        raise UsageError(
            "some questions have several turns, and --format alpaca_eval holds one answer: take "
            "mt_bench or jsonl"
        )
    return config.format or "alpaca_eval"


# --- what is asked --------------------------------------------------------------------------------


class Prompts:
    """Renders a conversation: as tokens of the student's template, as its text, or as messages."""

    def __init__(self, config: GenerateConfig, engine: EngineName) -> None:
        self._by_tokens = engine == "transformers"
        self._student: Any = None
        if engine != "openai":
            from .prompting import Prompting

            asked = config.model
            self._student = Prompting(asked.model or "", asked.revision, config.template)
        self.name = self._student.template.name if self._student else MESSAGES

    @property
    def pass_through(self) -> str | None:
        """The chat template by which a vLLM server takes a rendered prompt as it is."""
        if self._student is None or self._by_tokens:
            return None
        bos = "{{ bos_token }}" if self._student.opens_with_bos else ""
        return bos + "{{ messages[0]['content'] }}"

    def answer(self, reply: str) -> str:
        """The answer in a reply."""
        return reply if self._student is None else str(self._student.answer(reply))

    def rendered(
        self, question: Question, answers: tuple[str, ...]
    ) -> tuple[tuple[Message, ...], tuple[int, ...] | None]:
        """The messages, and the tokens where the engine takes them."""
        turns = question.turns[: len(answers) + 1]
        about: dict[str, Any] = {"input": question.input, "system": question.system}
        if self._student is None:
            return tuple(conversation(turns, answers, **about)), None
        prompt = self._student.prompt(turns, answers, **about)
        messages = ({"role": "user", "content": prompt.text},)
        return messages, prompt.tokens if self._by_tokens else None


def _prompts(config: GenerateConfig) -> Prompts:
    engine = _engine(config.model)
    if config.model.model is None:
        raise UsageError("--model is needed: the name of the model that answers")
    if engine == "openai" and config.template is not None:
        raise UsageError(
            f"--template {config.template} is for a model run here: a server renders messages by "
            "its own chat template"
        )
    return Prompts(config, engine)


def _engine(model: ModelConfig) -> EngineName:
    """In this process, unless a server or another engine is named."""
    return "transformers" if model.engine == "auto" and not model.base_url else choose_engine(model)


def _model(config: GenerateConfig, prompts: Prompts) -> ModelConfig:
    model = replace(config.model, engine=_engine(config.model))
    if prompts.pass_through is None:
        return model
    given = ("--chat-template", prompts.pass_through)
    return replace(model, engine_args=(*given, *model.engine_args))


def _turn(reply: Reply) -> ReadText:
    """What a reply answers, or why it is no whole answer."""
    text = answer_text(reply.text)
    if cut := incomplete(reply.finish_reason):
        return ReadText(text, *cut)
    if not text:
        reason = "empty reply" if reply.reasoning is None else "reasoning without a reply"
        return ReadText(text, "unparsed", reason)
    return ReadText(text)


class _Answerer:
    """Asks a question's turns, each with the answers before it."""

    def __init__(self, asker: Asker, prompts: Prompts) -> None:
        self._asker, self._prompts = asker, prompts

    async def answer(self, asked: tuple[Question, int | None]) -> Answer:
        """All turns of a question's sample, or the reason why there is no whole answer."""
        question, sample = asked
        turns: tuple[str, ...] = ()
        cut, ended, key = False, None, None
        for number in range(1, len(question.turns) + 1):
            messages, tokens = self._prompts.rendered(question, turns)
            try:
                answered = await self._asker.ask(
                    messages,
                    id=question.id,
                    slot=f"turn_{number}",
                    read=_turn,
                    sample=sample,
                    tokens=tokens,
                )
            except RequestFailed as error:
                return Answer(question, turns, failure=str(error))
            turn = answered.reading
            if turn.status not in ("ok", "truncated"):
                return Answer(question, turns, failure=f"{turn.status}: {turn.reason}")
            turns += (self._prompts.answer(turn.text),)
            cut = cut or turn.status == "truncated"
            ended, key = answered.reply.finish_reason, answered.key
        return Answer(question, turns, cut, sample=sample, finish_reason=ended, reply_key=key)
