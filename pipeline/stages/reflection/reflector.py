"""One reflection: prompt -> journal or teacher -> parsed candidate."""

from dataclasses import replace
from functools import partial

from ...errors import RequestFailed
from ...llm.ask import Answered, Asker
from ...llm.protocol import Reply
from ...method.replies.marks import shield
from ...method.replies.parsing import (
    Parsed,
    parse_instruction_reply,
    parse_response_reply,
    same_text,
)
from ...records import Candidate, CandidateKind, CandidateStatus, Message, user_turn
from ...templates import TeacherPrompts, fill, with_history


class Reflector:
    """Reflects pairs through `asker`."""

    def __init__(self, asker: Asker, prompts: TeacherPrompts) -> None:
        self._asker, self._prompts = asker, prompts

    async def reflect(self, kind: CandidateKind, pair: Candidate) -> Candidate:
        """The candidate `kind` made from a valid pair; Stopped when the run must end first."""
        messages = messages_for(kind, pair, self._prompts)
        read = partial(candidate_of, kind, pair)
        try:
            answered = await self._asker.ask(messages, id=pair.id, slot=kind, read=read)
        except RequestFailed as error:
            return self.failed(kind, pair, str(error))
        return self._recorded(answered)

    def failed(self, kind: CandidateKind, pair: Candidate, reason: str) -> Candidate:
        """A candidate that there is no reply for."""
        return Candidate(
            id=pair.id, candidate=kind, status="failed", reason=reason,
            teacher=self._asker.engine.name, system=pair.system, history=pair.history,
        )  # fmt: skip

    def find(self, kind: CandidateKind, pair: Candidate) -> tuple[Reply, Candidate] | None:
        """The journal's reply and the candidate it gives; None where the teacher is to be asked."""
        messages = messages_for(kind, pair, self._prompts)
        read = partial(candidate_of, kind, pair)
        found = self._asker.find(messages, id=pair.id, slot=kind, read=read)
        return None if found is None else (found.reply, self._recorded(found))

    def _recorded(self, answered: Answered[Candidate]) -> Candidate:
        teacher = self._asker.engine.name
        return replace(answered.reading, teacher=teacher, reply_key=answered.key)


def messages_for(
    kind: CandidateKind, pair: Candidate, prompts: TeacherPrompts
) -> tuple[Message, ...]:
    """The request for a reflection of a pair: one user turn, its constant part first.

    Markers in the record's own text are shielded, so that only the prompt's and the reply's own
    are read as such.
    """
    assert pair.instruction is not None and pair.output is not None
    prompt = prompts.reflect_instruction if kind == "instruction" else prompts.reflect_response
    text = fill(prompt, instruction=shield(_asked(pair)), response=shield(pair.output))
    return ({"role": "user", "content": text},)


def _asked(pair: Candidate) -> str:
    """The instruction with all that belongs to it: input, system turn, earlier turns."""
    instruction = user_turn(pair.instruction or "", pair.input or "")
    if pair.history:
        instruction = with_history(instruction, pair.history)
    return f"{pair.system}\n\n{instruction}" if pair.system else instruction


def candidate_of(kind: CandidateKind, pair: Candidate, reply: Reply) -> Candidate:
    """The candidate that a raw reply gives."""
    assert pair.instruction is not None and pair.output is not None
    texts = (pair.instruction, pair.input or "", pair.output)
    parse = parse_instruction_reply if kind == "instruction" else parse_response_reply
    parsed = parse(
        reply.text,
        finish_reason=reply.finish_reason,
        example_texts=texts,
        reasoning=reply.reasoning,
    )
    made = Candidate(
        id=pair.id, candidate=kind, status=parsed.status, reason=parsed.reason,
        system=pair.system, history=pair.history,
    )  # fmt: skip
    return _with_pair(made, parsed, texts) if parsed.status == "ok" else made


def _with_pair(made: Candidate, parsed: Parsed, old: tuple[str, str, str]) -> Candidate:
    assert parsed.output is not None
    new = (*old[:2], parsed.output)
    if parsed.instruction is not None:  # which carries all that the input says
        new = (parsed.instruction, "", parsed.output)
    same = all(same_text(a, b) for a, b in zip(new, old, strict=True))
    # Equal but for outer white space: the old texts, so that a tie is a tie to the bit.
    instruction, input, output = old if same else new
    status: CandidateStatus = "unchanged" if same else "ok"
    return replace(made, status=status, instruction=instruction, input=input, output=output)
