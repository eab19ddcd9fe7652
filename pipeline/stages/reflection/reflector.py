"""One reflection: prompt -> journal or teacher -> parsed candidate."""

from collections.abc import Callable
from dataclasses import replace

from ...config import ModelConfig
from ...errors import TeacherFailure
from ...llm.ask import Asking
from ...llm.engines.recorded import slot_of
from ...llm.journal import request_key
from ...llm.protocol import Reply, Request
from ...method.parsing import (
    Parsed,
    parse_instruction_reply,
    parse_response_reply,
    same_text,
    shield,
)
from ...records import Candidate, CandidateKind, Message, user_turn
from ...templates import TeacherPrompts, fill

Judge = Callable[[Reply], Candidate]
NO_PAIR = "no instruction pair"


class Reflector:
    """Reflects pairs through `asking`."""

    def __init__(self, asking: Asking, prompts: TeacherPrompts, config: ModelConfig) -> None:
        self.teacher, self.prompts, self.config = asking.teacher, prompts, config
        self._asking = asking

    async def reflect(self, kind: CandidateKind, pair: Candidate) -> Candidate:
        """The candidate `kind` made from a valid pair; Stopped when the run must end first."""
        request, judge = self._request(kind, pair)
        try:
            return judge(await self._asking.reply(request, lambda reply: judge(reply).status))
        except TeacherFailure as error:
            return self.unmade(kind, pair, str(error))

    def unmade(self, kind: CandidateKind, pair: Candidate, reason: str) -> Candidate:
        """A candidate that there is no reply for."""
        return Candidate(
            id=pair.id, candidate=kind, status="failed", reason=reason, teacher=self.teacher.name,
            system=pair.system,
        )  # fmt: skip

    def known(self, kind: CandidateKind, pair: Candidate) -> tuple[Reply, Candidate] | None:
        """The journal's reply and the candidate it gives; None where the teacher is to be asked."""
        request, judge = self._request(kind, pair)
        reply = self._asking.known(request, lambda reply: judge(reply).status)
        return None if reply is None else (reply, judge(reply))

    def _request(self, kind: CandidateKind, pair: Candidate) -> tuple[Request, Judge]:
        messages = messages_for(kind, pair, self.prompts)
        key = request_key(
            model=self.teacher.name,
            revision=self.teacher.revision,
            messages=messages,
            prompt_version=self.prompts.version,
            temperature=self.config.temperature,
            seed=self.config.seed,
            slot=slot_of(self.teacher, pair.id, kind),
        )
        request = Request(
            id=pair.id,
            candidate=kind,
            messages=messages,
            max_tokens=self.config.max_tokens,
            temperature=self.config.temperature,
            seed=self.config.seed,
            key=key,
        )
        return request, lambda reply: judged(kind, pair, reply, key, self.teacher.name)


def messages_for(
    kind: CandidateKind, pair: Candidate, prompts: TeacherPrompts
) -> tuple[Message, ...]:
    """The request for a reflection of a pair: one user turn, its constant part first.

    Markers in the record's own text are shielded, so that only the prompt's and the reply's own
    are read as such.
    """
    assert pair.instruction is not None and pair.output is not None
    prompt = prompts.reflect_instruction if kind == "instruction" else prompts.reflect_response
    instruction = user_turn(pair.instruction, pair.input or "")
    if pair.system:
        instruction = f"{pair.system}\n\n{instruction}"
    text = fill(prompt, instruction=shield(instruction), response=shield(pair.output))
    return ({"role": "user", "content": text},)


def judged(kind: CandidateKind, pair: Candidate, reply: Reply, key: str, teacher: str) -> Candidate:
    """The candidate that a raw reply gives."""
    assert pair.instruction is not None and pair.output is not None
    made = Candidate(id=pair.id, candidate=kind, teacher=teacher, reply_key=key, system=pair.system)
    texts = (pair.instruction, pair.input or "", pair.output)
    if kind == "instruction":
        parsed = parse_instruction_reply(
            reply.text, finish_reason=reply.finish_reason, example_texts=texts
        )
        new = (parsed.instruction, "", parsed.output)
    else:
        parsed = parse_response_reply(
            reply.text, finish_reason=reply.finish_reason, example_texts=texts
        )
        new = (pair.instruction, pair.input or "", parsed.output)
    return _with_pair(made, parsed, new, texts)


def _with_pair(
    made: Candidate,
    parsed: Parsed,
    new: tuple[str | None, str, str | None],
    old: tuple[str, str, str],
) -> Candidate:
    if parsed.status != "ok":
        return replace(made, status=parsed.status, reason=parsed.reason)
    instruction, input, output = new
    assert instruction is not None and output is not None
    same = all(same_text(a, b) for a, b in zip((instruction, input, output), old, strict=True))
    return replace(
        made,
        status="unchanged" if same else "ok",
        # Equal but for outer white space: the old texts, so that a tie is a tie to the bit.
        instruction=old[0] if same else instruction,
        input=old[1] if same else input,
        output=old[2] if same else output,
    )
