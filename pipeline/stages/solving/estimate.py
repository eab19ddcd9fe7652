"""`curate solve --dry-run`: what would be asked for and cost, asking and writing nothing."""

from ...config import SolveConfig
from ...inputs.ingest import Intake
from ...inputs.readers import open_source
from .problems import LeftOut, wanted_problems
from .pseudocode import examples_by_task
from .shot_sources import read_shots
from .strategies import Prompt, question_of, shot_block

LETTERS = 4
"""Characters a token."""
RATIONALE, ANSWER, PROGRAM = 300, 10, 600
"""Tokens that a solution, an answer alone and a program are taken to have."""


def estimate(config: SolveConfig) -> str:
    """The calls and tokens in words; what stands before every question is counted once."""
    source, intake, shots = open_source(config.input.data), Intake(), read_shots(config)
    left_out = LeftOut()
    problems = list(wanted_problems(source, config, shots, intake, left_out))
    prompt = Prompt(config.strategy, shot_block(shots.drawn, config.strategy))
    calls = len(problems) * config.samples
    shared = len(prompt.constant()) // LETTERS
    questions = sum(len(question_of(p)) for p in problems) * config.samples // LETTERS
    replies = calls * (ANSWER if config.strategy == "direct" else RATIONALE)
    lines = [
        f"{len(problems)} problems, {calls} calls, about {shared + questions:,} prompt tokens and "
        f"{replies:,} completion tokens (an estimate)",
        f"about {shared:,} of the prompt tokens stand before the question in every request, "
        f"{len(shots.drawn)} shots included, and are counted once, as a server computes them that "
        f"caches prefixes; one that does not computes, or charges, {calls * shared + questions:,}",
        f"left out: {left_out.among_shots} among the shots, {left_out.solved_before} solved "
        f"before, {intake.num_rejected} unusable rows",
    ]
    if config.strategy == "pseudocode":
        tasks = len(examples_by_task(problems, seed=config.shots_seed))
        programs = f"{2 * tasks} calls more for the programs of {tasks} tasks"
        lines.append(f"{programs}, {PROGRAM} tokens each")
    return "\n".join(lines)
