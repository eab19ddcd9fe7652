"""`curate solve`: problems with answers -> samples of a model, journaled; nothing is decided."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...base.files import write_json, write_json_lines
from ...base.progress import say
from ...config import SolveConfig, recorded_options
from ...inputs.examples import input_identity
from ...inputs.ingest import Intake
from ...inputs.readers import Source, open_source
from ...llm.ask import Asker, Stopped
from ...llm.job import Job, asking_job
from ...llm.protocol import Engine
from ...runs.directory import RunDir
from ...runs.samples import all_attempted
from ...templates import digest, prompts_version
from .context import check_context
from .problems import LeftOut, import_problems, wanted_problems
from .pseudocode import PROMPTS, Examples, Program, examples_by_task, instructor_of, write_programs
from .sampling import Sampler, slot_of
from .shot_sources import Shots, read_shots
from .strategies import Prompt, shot_block

TASKS, SHOTS = "tasks.json", "shots.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveResult:
    """What was sampled; `asked` and `reused` are this invocation's."""

    run: Path
    problems: int
    samples: dict[str, int]
    left_out: dict[str, int]
    asked: int
    reused: int
    tokens: tuple[int, int]
    cost: float | None

    @property
    def troubled(self) -> int:
        """How many samples `--retry` would take up."""
        return sum(number for status, number in self.samples.items() if status != "ok")

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "run": str(self.run)}


def solve(config: SolveConfig) -> SolveResult:
    """Ask for every sample that the run or its journal does not hold."""
    source, intake, shots = open_source(config.input.data), Intake(), read_shots(config)
    prompt = Prompt(config.strategy, shot_block(shots.drawn, config.strategy))
    check_context(
        config, prompt, lambda: wanted_problems(source, config, shots, Intake(), LeftOut())
    )
    slots = [*PROMPTS, *(slot_of(number) for number in range(config.samples))]
    with asking_job(
        config.teacher,
        "solve",
        create_run=lambda engine: _create_run(config, source, prompt, engine),
        version=prompt.version,
        slots=slots,
    ) as job:
        left_out = import_problems(job.run, source, config, shots, intake)
        _write_shots(job.run, shots, prompt, config)
        _sample(config, job, prompt)
        return _finished(config, job, left_out, intake)


def _create_run(config: SolveConfig, source: Source, prompt: Prompt, engine: Engine) -> RunDir:
    identity = {
        "command": "solve",
        **input_identity(source, config.input),
        "answer_column": config.answer_column,
        "task_column": config.task_column,
        "teacher": engine.name,
        "revision": engine.revision,
        "strategy": config.strategy,
        "prompts": prompt.version,
        "temperature": config.teacher.temperature,
        "seed": config.teacher.seed,
        "instructor": config.instructor,
    }
    notes = {"data": source.name, "licence": source.licence}
    return RunDir.create(config.out, identity, **notes, options=recorded_options(config))


def _write_shots(run: RunDir, shots: Shots, prompt: Prompt, config: SolveConfig) -> None:
    if not shots.drawn:
        return
    about = {"seed": config.shots_seed, "hash": digest(prompt.shots)}
    write_json_lines(run.path / SHOTS, (asdict(shot) | about for shot in shots.drawn))


# --- asking ---------------------------------------------------------------------------------------


def _sample(config: SolveConfig, job: Job, prompt: Prompt) -> None:
    if config.strategy != "pseudocode":
        job.complete(lambda: Sampler(config, job, prompt).sample_all())
        return
    problems = (attempted.problem for attempted in all_attempted(job.run))
    examples = examples_by_task(problems, seed=config.shots_seed)
    if None in examples:
        say(
            f"note: no problem names its task in a column {config.task_column!r}: one program is "
            "written for all of them"
            if len(examples) == 1
            else f"note: problems without a task share one program; {len(examples) - 1} tasks are "
            "named"
        )
    if config.instructor is not None or config.instructor_url is not None:
        programs = _of_instructor(config, job.run, examples)
        job.complete(lambda: _simulate(config, job, prompt, programs))
    else:
        job.complete(lambda: _write_and_simulate(config, job, prompt, examples))


def _of_instructor(config: SolveConfig, run: RunDir, examples: Examples) -> Sequence[Program]:
    """The programs of another model, which has a run and a journal of its own in `instructor/`."""

    def create_run(engine: Engine) -> RunDir:
        identity = {"command": "instruct", "model": engine.name, "revision": engine.revision}
        return RunDir.create(run.path / "instructor", identity)

    settings = replace(instructor_of(config), journal=None)
    with asking_job(
        settings,
        "instruct",
        create_run=create_run,
        version=prompts_version(*PROMPTS),
        slots=PROMPTS,
    ) as job:
        return job.complete(lambda: write_programs(job.asker, examples))


async def _write_and_simulate(
    config: SolveConfig, job: Job, prompt: Prompt, examples: Examples
) -> None:
    own = job.asker
    asker = Asker(
        own.engine, own.journal, own.budget, instructor_of(config), version=prompt.version
    )
    try:
        programs = await write_programs(asker, examples)
    except Stopped:
        assert asker.stopped is not None
        own.stop(asker.stopped)
        raise
    await _simulate(config, job, prompt, programs)


async def _simulate(
    config: SolveConfig, job: Job, prompt: Prompt, programs: Sequence[Program]
) -> None:
    write_json(job.run.path / TASKS, [asdict(program) for program in programs])
    written = {one.task: one.pseudocode for one in programs if one.pseudocode is not None}
    for program in programs:
        if program.pseudocode is None:
            say(f"no pseudo-code for {program.task or 'the problems'}: {program.reason}")
    await Sampler(config, job, replace(prompt, programs=written)).sample_all()


# --- the end --------------------------------------------------------------------------------------


def _finished(config: SolveConfig, job: Job, left_out: LeftOut, intake: Intake) -> SolveResult:
    statuses: Counter[str] = Counter()
    problems = 0
    for attempted in all_attempted(job.run):
        problems += 1
        statuses.update(sample.status for sample in attempted.samples)
    counts = job.asker.counts
    result = SolveResult(
        run=job.run.path,
        problems=problems,
        samples=dict(statuses),
        left_out={**asdict(left_out), "rejected": intake.num_rejected},
        asked=counts.asked,
        reused=counts.from_journal,
        tokens=job.asker.budget.spent,
        cost=job.asker.budget.cost,
    )
    job.run.finish_stage("solve", {"input": intake.counts(), **result.as_dict()})
    return result


def lines(result: SolveResult) -> Iterator[str]:
    """For people."""
    yield (
        f"sampled {sum(result.samples.values())} replies to {result.problems} problems into "
        f"{result.run}: {result.asked} asked for, {result.reused} taken from the journal, "
        f"{result.tokens[0]} prompt and {result.tokens[1]} completion tokens in all"
    )
    named = {**result.samples, **result.left_out}
    yield ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in named.items() if number
    )
