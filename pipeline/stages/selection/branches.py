"""The selective schedule: the student chooses a branch before its response is reflected."""

from collections.abc import Callable
from contextlib import closing

from ...base.progress import Progress
from ...config import SelectConfig, recorded_options
from ...method.decision import first_comparison, surviving_branch
from ...records import CandidateKind
from ...runs.directory import RunDir, selection_key
from ...runs.lock import run_lock
from ...scoring.engine import ScoringEngine
from ...scoring.identity import ScoringIdentity, resolve
from ...scoring.score_files import ScoreFiles, read_records
from .deciding import rules_of


def choose_branches(config: SelectConfig) -> ScoringIdentity:
    """Score what the choice between each original and its instruction's reflection compares.

    The scores are kept and serve `select`.
    """
    run = RunDir.open(config.input.data)
    with run_lock(run.path, "select"):
        identity = resolve(config.scoring, run.path / "scores")
        run.record_selection(selection_key(identity.key, config.name), recorded_options(config))
        files = ScoreFiles(run, identity)
        with (
            closing(ScoringEngine(config.scoring, identity)) as engine,
            Progress("choose", total=run.num_records, unit="records") as progress,
        ):
            for _ in files.complete(engine, progress.advance, first_comparison):
                pass
    return identity


def branches_of(
    config: SelectConfig, identity: ScoringIdentity
) -> Callable[[int], dict[str, CandidateKind]]:
    """The chosen branch of each record of a shard, from the scores that `choose_branches` left."""
    run = RunDir.open(config.input.data)
    files, rules = ScoreFiles(run, identity), rules_of(config)

    def chosen(shard: int) -> dict[str, CandidateKind]:
        path = run.shard_path(shard)
        records = read_records(run, path)
        scored = zip(records, files.read(path, records), strict=True)
        return {
            next(iter(record.values())).id: surviving_branch(record, known, rules)
            for record, known in scored
        }

    return chosen
