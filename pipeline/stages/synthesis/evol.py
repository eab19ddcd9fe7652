"""Evol-Instruct: each seed evolves, round by round; what fails leaves its parent alive."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from ...method.corpus.baseline_sampling import lot, random_choice
from ...method.corpus.decontamination import EvaluationIndex
from ...method.replies.wording import cleaned
from ...method.synthesis.evolution import OPERATIONS, answer_fault, prompt_fault, says_equal
from ...records import Message, user_turn
from ...runs.instructions import Instruction
from ...templates import asking_turn
from .rounds import Pool, RoundAsker, without_contaminated

EQUALITY = "same_prompt"
PROMPTS = (*(f"evolve_{operation}" for operation in OPERATIONS), EQUALITY)
SLOTS = ("evolution", "equality", "answer")


class Evol:
    """Asks for one evolution of each seed's last living prompt a round."""

    def __init__(self, asker: RoundAsker, evaluation: EvaluationIndex | None) -> None:
        self._asker, self._evaluation = asker, evaluation
        self._config = asker.config
        self._seed = asker.config.teacher.seed or 0

    def is_done(self, pool: Pool, number: int) -> bool:
        """All rounds are made, or enough is there."""
        return number > self._config.rounds or len(pool.made) >= self._config.number

    async def round(self, pool: Pool, number: int) -> list[Instruction]:
        """One evolution of each of the seeds that evolve, no more than are wanted yet."""
        alive = living(pool)
        missing = self._config.number - len(pool.made)
        chosen = evolving(pool.seeds, self._config.number, self._config.rounds, seed=self._seed)
        parents = [(id, alive[id]) for id in chosen[:missing]]
        return await self._asker.each(parents, partial(self._evolved, number))

    async def _evolved(self, number: int, item: tuple[str, Instruction]) -> list[Instruction]:
        root, parent = item
        id = f"{root}@{number}"
        operation = random_choice(id, OPERATIONS, seed=self._seed)
        before = user_turn(parent.instruction, parent.input)
        prompt = asking_turn(f"evolve_{operation}", instruction=before)
        reached = await self._asker.ask(prompt, id=id, slot=SLOTS[0], sample=number)
        text = cleaned(reached.text, "new instruction")[0].strip()
        row = Instruction(
            id=id,
            instruction=text,
            method=self._config.method,
            operation=operation,
            round=number,
            parents=(parent.id,),
            reply_key=reached.key,
            reason=reached.fault or prompt_fault(before, text),
            detail=reached.detail,
        )
        row = without_contaminated(row, self._evaluation)
        if row.reason is None and not self._config.no_equality:
            row = await self._with_gain(row, before)
        if row.reason is None and self._config.answers:
            row = await self._answered(row, number)
        return [row]

    async def _with_gain(self, row: Instruction, before: str) -> Instruction:
        """The row, left out where the teacher calls it equal to what it evolved from."""
        prompt = asking_turn(EQUALITY, first=before, second=row.instruction)
        reached = await self._asker.ask(prompt, id=row.id, slot=SLOTS[1])
        if reached.fault:
            return reached.leaves_out(row)
        equal = says_equal(reached.text)
        if equal is None:
            return replace(row, reason="unparsed", detail="neither equal nor not equal")
        return replace(row, reason="no_gain", detail="by the teacher") if equal else row

    async def _answered(self, row: Instruction, number: int) -> Instruction:
        """The row with its answer, left out where that shows that it cannot be answered."""
        prompt: tuple[Message, ...] = ({"role": "user", "content": row.instruction},)
        reached = await self._asker.ask(prompt, id=row.id, slot=SLOTS[2], sample=number)
        answer = reached.text.strip()
        return replace(
            row,
            output=answer or None,
            answer_key=reached.key,
            reason=reached.fault or answer_fault(answer),
            detail=reached.detail,
        )


def evolving(seeds: Iterable[Instruction], number: int, rounds: int, *, seed: int) -> list[str]:
    """The seeds that evolve: as many as make the number in all rounds, drawn by the seed."""
    ids = sorted((one.id for one in seeds), key=lambda id: lot(seed, id))
    return ids[: -(-number // rounds)]


def living(pool: Pool) -> dict[str, Instruction]:
    """Of each seed the last of its line: itself, or what it evolved into."""
    alive = {seed.id: seed for seed in pool.seeds}
    root_of = {id: id for id in alive}
    for row in pool.made:
        root = root_of[row.id] = root_of[row.parents[0]]
        alive[root] = row
    return alive
