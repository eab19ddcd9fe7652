"""The command line: a configuration in, one stage called, its result printed; no logic."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from .pipeline import commands
from .pipeline import config as configs
from .pipeline.base.progress import say
from .pipeline.commandline import printing
from .pipeline.commandline.options import Commands
from .pipeline.commandline.running import Output, Tell, register, usable_streams

app = typer.Typer(
    name="curate",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Data curation for instruction tuning: a teacher rewrites each record, the student "
    "decides which version to keep.",
    epilog="Exit codes: 0 done; 1 an error you can fix; 2 wrong usage; 3 finished, but some "
    "candidates or scores failed; 4 stopped by a budget; 130 interrupted. After 3, 4 and 130 the "
    "same command goes on where it stopped.",
)
F = TypeVar("F", bound=Callable[..., Output])


def command(named: Callable[..., Any], example: str, *, trains: bool = False) -> Callable[[F], F]:
    """Register the command of that name: its options are the fields of the configuration."""

    def decorate(function: F) -> F:
        register(app, named, function, example=example, trains=trains)
        return function

    return decorate


@command(
    commands.reflect, "data.jsonl --out run --teacher MODEL --base-url http://localhost:8000/v1"
)
def _reflect(config: configs.ReflectConfig) -> Output:
    result = commands.reflect(config)
    if isinstance(result, str):
        return Output(result={"estimate": result}, lines=[result])
    lines = printing.reflected(result, config.share)
    return Output(result=result, lines=lines, failed=bool(result.troubled), made=result.run)


@command(commands.select, "run --student STUDENT --max-ifd 0.9")
def _select(config: configs.SelectConfig) -> Output:
    result = commands.select(config)
    lines = printing.chosen(result, config.share)
    failed = bool(result.failed_scores)
    return Output(result=result, lines=lines, failed=failed, made=result.run)


@command(commands.score, "data.jsonl --student STUDENT --out scores.parquet")
def _score(config: configs.ScoreConfig) -> Output:
    result = commands.score(config)
    failed = bool(result.statuses.get("failed"))
    return Output(result=result, lines=printing.scored(result), failed=failed)


@command(commands.finetune, "run --model STUDENT --out tuned --preset paper-7b", trains=True)
def _finetune(config: configs.FinetuneConfig) -> Output:
    from .pipeline.runs.directory import is_run

    result = commands.finetune(config)
    made = result.out.parent if is_run(result.out.parent) else result.out
    return Output(result=result, lines=printing.trained(result), made=made)


@command(commands.run, "data.jsonl --out run --teacher TEACHER --student STUDENT")
def _run(config: configs.RunConfig, tell: Tell) -> Output:
    result = commands.run(config, done=lambda stage: tell(printing.stage(stage)))
    if isinstance(result, str):
        return Output(result={"estimate": result}, lines=[result])
    failed = bool(result.reflected.troubled or result.selected.failed_scores)
    return Output(result=result, lines=[], failed=failed, made=result.selected.run)


@command(
    commands.compare, "run --model STUDENT --out compared --held-out-data good.jsonl", trains=True
)
def _compare(config: configs.CompareConfig) -> Output:
    from .pipeline.workflows.compare import in_words

    result = commands.compare(config)
    failed = result.judged is not None and any(r.unparsed for r in result.judged.sets.values())
    return Output(result=result, lines=in_words(result), failed=failed, made=config.run)


@command(commands.explain, "run demo-101")
def _explain(config: configs.ExplainConfig) -> Output:
    from .pipeline.stages.explaining import in_words

    result = commands.explain(config)
    return Output(result=result, lines=in_words(result))


@command(commands.report, "run --out report.html")
def _report(config: configs.ReportConfig) -> Output:
    result = commands.report(config)
    for notice in result.notices:
        say(f"note: {notice}")
    students = ", ".join(result.students) or "no student"
    line = f"report of {result.records} records and {students}: {result.out}"
    return Output(result=result, lines=[line], made=config.run)


@command(commands.status, "run --json")
def _status(config: configs.StatusConfig) -> Output:
    from .pipeline.stages.status.wording import in_words

    result = commands.status(config)
    return Output(result=result, lines=in_words(result))


@command(commands.next, "run")
def _next(config: configs.StatusConfig) -> Output:
    result = commands.next(config)
    return Output(result=result, lines=result)


@command(commands.export, "run --to llama-factory --out exported")
def _export(config: configs.ExportConfig) -> Output:
    result = commands.export(config)
    return Output(result=result, lines=printing.exported(result))


@command(commands.generate, "questions.jsonl --model tuned --out answers.json")
def _generate(config: configs.GenerateConfig) -> Output:
    from .pipeline.stages.status.following import after_answers

    result = commands.generate(config)
    return Output(
        result=result,
        lines=printing.generated(result),
        failed=bool(result.failed),
        following=after_answers(result.out, sampled=result.format == "samples")
        if result.answers > result.cut
        else None,
    )


@command(commands.judge, "a.json b.json --judge JUDGE --base-url http://localhost:8000/v1")
def _judge(config: configs.JudgeConfig) -> Output:
    from .pipeline.stages.judging import Judged, outcome_lines
    from .pipeline.stages.rating import Rated, rating_lines
    from .pipeline.stages.status.following import after_judging

    result = commands.judge(config)
    if isinstance(result, Rated):
        rated, failed = rating_lines(result), bool(result.unrated)
        following = after_judging(result.out, rivals=result.rated > result.prompts)
        return Output(result=result, lines=rated, failed=failed, following=following)
    if not isinstance(result, Judged):
        return Output(result=result, lines=outcome_lines(result))
    lines = [*outcome_lines(result.outcome), *printing.judged(result)]
    failed, following = bool(result.outcome.unparsed), after_judging(result.out)
    return Output(result=result, lines=lines, failed=failed, following=following)


@command(commands.pairs, "run --out pairs --balance-length")
def _pairs(config: configs.PairsConfig) -> Output:
    result = commands.pairs(config)
    return Output(result=result, lines=printing.paired(result), made=result.out)


@command(commands.align, "pairs --model tuned --out aligned --loss dpo", trains=True)
def _align(config: configs.AlignConfig) -> Output:
    result = commands.align(config)
    return Output(result=result, lines=printing.aligned(result), made=result.out)


@command(commands.improve, "data.jsonl --recipe spin --model tuned --out improved")
def _improve(config: configs.ImproveConfig) -> Output:
    from .pipeline.workflows.improve import in_words

    result = commands.improve(config)
    if isinstance(result, str):
        return Output(result={"estimate": result}, lines=[result])
    return Output(result=result, lines=in_words(result), made=result.out)


@command(commands.evaluate, "--model tuned --base STUDENT --tasks arc_challenge,hellaswag")
def _evaluate(config: configs.EvaluateConfig) -> Output:
    from .pipeline.stages.evaluation.stage import in_words

    result = commands.evaluate(config)
    return Output(result=result, lines=in_words(result))


@command(commands.bpc, "corpus.jsonl --student STUDENT --by source")
def _bpc(config: configs.BpcConfig) -> Output:
    from .pipeline.stages.compression.stage import lines

    result = commands.bpc(config)
    return Output(result=result, lines=lines(result), failed=bool(result.statuses.get("failed")))


@command(commands.solve, "problems.jsonl --out run --teacher MODEL --strategy cot --samples 4")
def _solve(config: configs.SolveConfig, tell: Tell) -> Output:
    from .pipeline.stages.checking.card import lines as checked_lines
    from .pipeline.stages.solving.stage import lines as sampled_lines

    result = commands.solve(config, done=lambda sampled: tell(sampled_lines(sampled)))
    if isinstance(result, str):
        return Output(result={"estimate": result}, lines=[result])
    lines, failed = checked_lines(result.checked), bool(result.sampled.troubled)
    return Output(result=result, lines=lines, failed=failed, made=result.sampled.run)


@command(commands.check, "run --checker number --min-pass-rate 0.25")
def _check(config: configs.CheckConfig) -> Output:
    from .pipeline.stages.checking.card import lines

    result = commands.check(config)
    return Output(result=result, lines=lines(result), made=result.run)


@command(
    commands.synthesize, "seeds.jsonl --out run --teacher MODEL --method self-instruct --number 500"
)
def _synthesize(config: configs.SynthesizeConfig) -> Output:
    from .pipeline.stages.synthesis.stage import lines

    result = commands.synthesize(config)
    if isinstance(result, str):
        return Output(result={"estimate": result}, lines=[result])
    failed = bool(result.missing)
    return Output(result=result, lines=lines(result), failed=failed, made=result.run)


@command(commands.demo, "--out demo-run")
def _demo(config: configs.DemoConfig) -> Output:
    result = commands.demo(config)
    return Output(result=result, lines=printing.demonstrated(result))


def _version(asked: bool) -> None:
    if asked:
        from .pipeline import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Data curation for instruction tuning by Selective Reflection-Tuning (arXiv 2402.10110)."""


def main() -> None:
    """The console script."""
    usable_streams()
    app()


if __name__ == "__main__":  # torchrun -m curate.cli
    main()
