"""Each command as a function of its configuration; the stages are loaded when it is called."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from . import config as configs
from .inputs.remote.urls import names_a_url

if TYPE_CHECKING:
    from .method.statistics.judge_results import Outcome
    from .stages.checking.stage import CheckResult
    from .stages.compression.stage import BpcResult
    from .stages.evaluation.stage import Evaluated
    from .stages.explaining import Explanation
    from .stages.exporting.stage import ExportResult
    from .stages.generation.stage import Generated
    from .stages.judging import Judged
    from .stages.pairs.stage import PairsResult
    from .stages.rating import Rated
    from .stages.reflection.stage import ReflectResult
    from .stages.report import ReportResult
    from .stages.scoring import ScoreResult
    from .stages.selection.stage import SelectResult, ShareResult
    from .stages.solving.stage import SolveResult
    from .stages.status.stage_status import RunStatus
    from .stages.synthesis.stage import SynthesizeResult
    from .training.folder.publication import TrainingResult
    from .workflows.compare import CompareResult
    from .workflows.demo import DemoResult
    from .workflows.improve import Improved
    from .workflows.run import RunResult, StageResult
    from .workflows.solve import Solved


def local_paths(
    command: str, options: Mapping[str, Any]
) -> AbstractContextManager[Mapping[str, Any]]:
    """The options with local paths in place of URLs, while a command runs."""
    if not names_a_url(options):
        return nullcontext(options)
    from .remote.arguments import with_local_paths

    return with_local_paths(command, options)


def reflect(config: configs.ReflectConfig) -> "ReflectResult | str":
    """Stage 1: ask the teacher to criticise and rewrite each record."""
    if config.dry_run:
        from .stages.reflection.estimate import estimate

        return estimate(config)
    from .stages.reflection.stage import reflect

    return reflect(config)


def select(config: configs.SelectConfig) -> "SelectResult | ShareResult":
    """Stage 2: let the student choose a version of each record, by IFD and r-IFD."""
    from .stages.selection.stage import score_share, select

    return select(config) if config.share.whole else score_share(config)


def score(config: configs.ScoreConfig) -> "ScoreResult":
    """IFD and r-IFD of any data set, as a Parquet file."""
    from .stages.scoring import score

    return score(config)


def finetune(config: configs.FinetuneConfig) -> "TrainingResult":
    """Stage 3: fine-tune the student on a selection, or on any data set; loss on responses only."""
    from .stages.finetuning import finetune_run

    return finetune_run(config)


def run(
    config: configs.RunConfig, *, done: Callable[["StageResult"], None] = lambda _: None
) -> "RunResult | str":
    """Reflect, select and fine-tune in one go."""
    from .workflows.run import plan, run

    stages = (
        config.reflecting,
        config.selecting,
        None if config.no_finetune else config.finetuning,
    )
    if config.reflecting.dry_run:
        return plan(*stages, schedule=config.schedule)
    return run(*stages, schedule=config.schedule, done=done)


def compare(config: configs.CompareConfig) -> "CompareResult":
    """Train the student on the selection and on baselines, and measure which is best."""
    from .workflows.compare import compare

    return compare(config)


def explain(config: configs.ExplainConfig) -> "Explanation":
    """Why this record came out as it did."""
    from .stages.explaining import explain

    return explain(config.run, config.id, journal=config.journal)


def report(config: configs.ReportConfig) -> "ReportResult":
    """What was kept and why, as one HTML page to look at."""
    from .stages.report import report

    return report(config.run, out=config.out, selections=config.selection)


def status(config: configs.StatusConfig) -> "RunStatus":
    """What of a run is done, failed and left, who works on it, and what to type next."""
    from .stages.status.stage import status

    return status(config.run)


def next(config: configs.StatusConfig) -> list[str]:
    """What to type next: a command a line, the most urgent first."""
    return status(config).next


def export(config: configs.ExportConfig) -> "ExportResult":
    """A selection, or preference pairs, as a training tool reads it, with its card."""
    from .stages.exporting.stage import export

    return export(config)


def generate(config: configs.GenerateConfig) -> "Generated":
    """A model's answers to an evaluation set, in AlpacaEval's or MT-Bench's format."""
    from .stages.generation.stage import generate

    return generate(config)


def judge(config: configs.JudgeConfig) -> "Judged | Outcome | Rated":
    """Compare two models' answers by a judge, in both orders; or rate those of one."""
    if config.rate:
        from .stages.rating import rate

        return rate(config)
    from .stages.judging import judge, recompute

    return recompute(config.from_log) if config.from_log is not None else judge(config)


def pairs(config: configs.PairsConfig) -> "PairsResult":
    """Preference pairs of a run, a judge's verdicts, rated samples, or demonstrations."""
    from .stages.pairs.stage import pairs

    return pairs(config)


def align(config: configs.AlignConfig) -> "TrainingResult":
    """Train on preference pairs: DPO, IPO, CPO, SLiC, KTO and others, by TRL's trainers."""
    from .stages.aligning import align

    return align(config)


def evaluate(config: configs.EvaluateConfig) -> "Evaluated":
    """Benchmark tasks through lm-eval, beside the base model's."""
    from .stages.evaluation.stage import evaluate

    return evaluate(config)


def bpc(config: configs.BpcConfig) -> "BpcResult":
    """Bits per character and per byte of a corpus under a student."""
    from .stages.compression.stage import measure

    return measure(config)


def check(config: configs.CheckConfig) -> "CheckResult":
    """Decide which sampled replies are right, from what is on disk, without a call."""
    from .stages.checking.stage import check

    return check(config)


def solve(
    config: configs.SolveConfig, *, done: Callable[["SolveResult"], None] = lambda _: None
) -> "Solved | str":
    """Ask a model for solutions of problems with answers, and keep those that are right."""
    if config.dry_run:
        from .stages.solving.estimate import estimate

        return estimate(config)
    from .workflows.solve import solve_and_check

    return solve_and_check(config, done=done)


def synthesize(config: configs.SynthesizeConfig) -> "SynthesizeResult | str":
    """New instructions of a teacher, after the example of seeds (Self-Instruct, Evol-Instruct)."""
    if config.dry_run:
        from .stages.synthesis.estimate import estimate

        return estimate(config)
    from .stages.synthesis.stage import synthesize

    return synthesize(config)


def improve(config: configs.ImproveConfig) -> "Improved | str":
    """Self-improvement in a loop, by Self-Rewarding, DITTO or SPIN: sample, pair, train."""
    if config.dry_run:
        from .workflows.improving.estimate import estimate

        return estimate(config)
    from .workflows.improve import improve

    return improve(config)


def demo(config: configs.DemoConfig) -> "DemoResult":
    """The whole job in a minute on a CPU: recorded teacher replies, a small student."""
    from .workflows.demo import demo

    return demo(config.out)
