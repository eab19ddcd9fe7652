"""Self-Instruct: new instructions after the example of eight, unlike all that is there."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ...method.corpus.decontamination import EvaluationIndex
from ...method.corpus.rouge_l import DistinctTexts
from ...method.synthesis.instances import is_yes, read_instances
from ...method.synthesis.items import SHOTS, draw_shots, item_fault, numbered, read_items
from ...records import Message
from ...runs.instructions import Instruction
from ...templates import asking_turn
from .rounds import Pool, Reached, RoundAsker, without_contaminated

NEW, CLASSIFY = "new_instructions", "classify_task"
INPUT_FIRST, OUTPUT_FIRST = "instances_input_first", "instances_output_first"
PROMPTS = (NEW, CLASSIFY, INPUT_FIRST, OUTPUT_FIRST)
SLOTS = ("instructions", "classification", "instances")
REQUESTS = 64
"""At most so many requests a round: what one makes, the next one shows."""
ITEMS = 8
"""Instructions that a request asks for."""
IDLE = 3
"""After so many rounds in a row that kept nothing, an invocation ends."""


class SelfInstruct:
    """Asks for instructions, filters them in the order of the requests, and asks for instances."""

    def __init__(self, asker: RoundAsker, evaluation: EvaluationIndex | None, *, run: str) -> None:
        """`run` stands in the ids, so that those of two runs differ."""
        self._asker, self._evaluation, self._run = asker, evaluation, run
        self._config = asker.config
        self._known = DistinctTexts()
        self._idle = 0

    def is_done(self, pool: Pool, number: int) -> bool:
        """Enough is there, or nothing new comes any more."""
        return len(pool.made) >= self._config.number or self._idle == IDLE

    async def round(self, pool: Pool, number: int) -> list[Instruction]:
        """What a round makes, in the order of its requests."""
        missing = self._config.number - len(pool.made)
        requests = range(min(REQUESTS, -(-missing // ITEMS)))
        rows = await self._asker.each(requests, partial(self._requested, pool, number))
        rows = self._without_similar(rows, [*pool.seeds, *pool.made])
        if self._config.answers:
            rows = await self._asker.each(rows, self._with_instances)
        self._idle = 0 if any(row.reason is None for row in rows) else self._idle + 1
        return rows

    async def _requested(self, pool: Pool, number: int, request: int) -> list[Instruction]:
        """The items of one request; or one row that says why there are none."""
        id = f"r{number}-q{request}"
        shots = draw_shots(pool.seeds, pool.made, seed=self._config.teacher.seed or 0, request=id)
        prompt = new_instructions([shot.instruction for shot in shots])
        sample = number * REQUESTS + request
        reached = await self._asker.ask(prompt, id=id, slot=SLOTS[0], sample=sample)
        row = Instruction(
            id=f"{id}-{self._run}",
            instruction="",
            method=self._config.method,
            round=number,
            parents=tuple(shot.own_id for shot in shots),
            reply_key=reached.key,
        )
        return self._items(row, id, reached)

    def _items(self, row: Instruction, request: str, reached: Reached) -> list[Instruction]:
        if reached.fault not in (None, "truncated"):
            return [reached.leaves_out(row)]
        texts = read_items(reached.text)
        if not texts:
            return [replace(row, reason="unparsed", detail="no item")]
        rows = [
            replace(row, id=f"{request}-{item}-{self._run}", instruction=text)
            for item, text in enumerate(texts, SHOTS + 1)
        ]
        judged = [self._filtered(one) for one in rows]
        if reached.fault:  # the last item is not whole
            judged[-1] = reached.leaves_out(rows[-1])
        return judged

    def _filtered(self, row: Instruction) -> Instruction:
        fault = item_fault(row.instruction, english=self._config.language == "en")
        return without_contaminated(replace(row, reason=fault), self._evaluation)

    def _without_similar(
        self, rows: Sequence[Instruction], pool: Sequence[Instruction]
    ) -> list[Instruction]:
        self._known.add((row.own_id, row.instruction) for row in pool[len(self._known) :])
        new = [(row.id, row.instruction) for row in rows if row.reason is None]
        alike = dict(zip((id for id, _ in new), self._known.judge(new), strict=True))
        return [
            replace(row, reason="similar", detail=f"ROUGE-L {like.rouge_l:.3f} with {like.id}")
            if (like := alike.get(row.id))
            else row
            for row in rows
        ]

    # --- instances ---

    async def _with_instances(self, row: Instruction) -> list[Instruction]:
        """A row for each instance, with its fault; or one that says why there are none."""
        if row.reason is not None:
            return [row]
        id = row.id.removesuffix(f"-{self._run}")
        prompt = asking_turn(CLASSIFY, instruction=row.instruction)
        asked = await self._asker.ask(prompt, id=id, slot=SLOTS[1])
        if asked.fault:
            return [asked.leaves_out(row)]
        classification = is_yes(asked.text)
        form = OUTPUT_FIRST if classification else INPUT_FIRST
        prompt = asking_turn(form, instruction=row.instruction)
        reached = await self._asker.ask(prompt, id=id, slot=SLOTS[2])
        if reached.fault not in (None, "truncated"):
            return [reached.leaves_out(row)]
        return _instances(row, reached, classification=classification)


def new_instructions(shots: Sequence[str]) -> tuple[Message, ...]:
    """The request to go on with a list."""
    return asking_turn(
        NEW, shots=numbered(shots), first=str(len(shots) + 1), total=str(len(shots) + ITEMS)
    )


def _instances(row: Instruction, reached: Reached, *, classification: bool) -> list[Instruction]:
    found = read_instances(
        reached.text, classification=classification, cut=reached.fault is not None
    )
    row = replace(row, answer_key=reached.key)
    if not found:
        return [replace(row, reason="no_instance")]
    return [
        replace(
            row,
            id=row.id if len(found) == 1 else f"{row.id}#{number}",
            input=one.input,
            output=one.output,
            reason=one.fault,
        )
        for number, one in enumerate(found, 1)
    ]
