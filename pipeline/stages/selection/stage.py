"""Stage 2: candidates -> scores -> decisions -> the selected and the rejected Arrow data sets."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...base.progress import Progress, say
from ...base.sharding import WHOLE, Share
from ...config import SelectConfig, recorded_options
from ...errors import CurateError, UsageError
from ...inputs.evaluation_sets import evaluation_texts, open_sets
from ...inputs.examples import input_identity
from ...inputs.readers import Source, open_source
from ...method.decision import (
    Outcome,
    Rules,
    decide,
    first_comparison,
    surviving_branch,
)
from ...method.decontamination import EvaluationIndex
from ...records import CandidateKind
from ...run.baselines import response_lengths, write_baselines
from ...run.card import dataset_card
from ...run.directory import RunDir, is_run
from ...run.importing import import_candidates
from ...run.lock import run_lock, turn_lock
from ...run.selected import SelectedRow, write_sets
from ...scoring.engine import Record, Scored, ScoringEngine
from ...scoring.identity import ScoringIdentity, resolve
from ...scoring.score_files import ScoreFiles, read_records
from .corpus_filters import decide_further, id_of, scored_records
from .originals import drawn, originals


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectResult:
    """Where the selection is and what it did, as the manifest has it."""

    run: Path
    student: str
    selected: Path
    rejected: Path
    baselines: Path
    counts: dict[str, Any] = field(default_factory=dict)
    failed_scores: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareResult:
    """What one task of several scored."""

    run: Path
    student: str
    records: int
    failed_scores: int


def select(config: SelectConfig) -> SelectResult:
    """Score what the decision needs, decide, write the data sets.

    Stored scores are used again: with other thresholds no model runs.
    """
    with _opened(config) as (run, identity):
        return _select(run, config, identity)


def score_share(config: SelectConfig) -> ShareResult:
    """Score the shards of one task's share; `select` decides when all tasks have ended."""
    with _opened(config) as (run, identity):
        files = ScoreFiles(run, identity)
        say(f"scoring share {config.share} with {identity.in_words()}")
        with closing(ScoringEngine(config.scoring, identity)) as engine:
            scored = _score(run, files, engine, config.share)
            if config.share.index == 0:
                files.noise(engine)  # it takes a model, which the decision then needs no more
    failed = scored["scores"].get("failed", 0)
    return ShareResult(
        run=run.path, student=identity.key, records=scored["records"], failed_scores=failed
    )


@contextmanager
def _opened(config: SelectConfig) -> Iterator[tuple[RunDir, ScoringIdentity]]:
    """The run with its lock held and its candidates there, and what its scores are known by."""
    data, out = config.input.data, config.out
    if is_run(data) and (out is None or Path(data).resolve() == out.resolve()):
        if config.input.limit is not None:
            raise UsageError("--limit goes with candidates; a run is selected from as a whole")
        run, source, identity = RunDir.open(data), None, None
    elif out is None:
        raise UsageError("--out is needed: the input is no run directory")
    else:
        source = open_source(f"{data}/candidates" if is_run(data) else data)
        identity = checked(config, out)  # an unknown student must leave nothing behind
        made_from = {"command": "select", **input_identity(source, config.input)}
        notes = {"data": source.name, "licence": source.licence}
        run = RunDir.create(out, made_from, **notes, options=recorded_options(config))
    # Where several tasks begin in it, none may take the run away.
    discarded = run.discarded_if_empty() if config.share.whole else nullcontext()
    with discarded, run_lock(run.path, "select", share=config.share):
        if source is not None:
            with turn_lock(run.path, "select"):  # of several tasks the first one imports
                import_candidates(run, source, config.input)
            unused = (run.stage("import") or {})["input"]["rejected"]
            if unused:
                say(f"note: {unused} input rows were not used, see {run.path}/rejected_input.json")
        _say_if_unfinished(run)
        identity = identity or resolve(config.scoring, run.path / "scores")
        run.record_selection(identity.key, recorded_options(config))
        yield run, identity


def checked(config: SelectConfig, run: Path) -> ScoringIdentity:
    """What the scores are known by.

    Raises CurateError for a student that could not score, or an evaluation set that is not there.
    Reads no weights.
    """
    identity = resolve(config.scoring, run / "scores")
    ScoringEngine(config.scoring, identity).check()
    open_sets(config.decontaminate)
    return identity


def _say_if_unfinished(run: RunDir) -> None:
    if not run.shard_paths() and run.config:
        raise CurateError(f"{run.path} has no candidates yet: finish `curate reflect` first")
    if run.stage("import") is None and run.stage("reflect") is None:
        say(f"note: reflect has not finished in {run.path}; selecting from what is there")


def _select(run: RunDir, config: SelectConfig, identity: ScoringIdentity) -> SelectResult:
    files = ScoreFiles(run, identity)
    sets = open_sets(config.decontaminate)
    evaluation = _index(sets, config.ngram)
    known = len(list(files.folder.glob("part-*.parquet")))
    taken_up = f"; taking up the scores of {known} shards" if known else ""
    say(f"scoring with {identity.in_words()}{taken_up}")
    begun = time.monotonic()
    with closing(ScoringEngine(config.scoring, identity)) as engine:
        scored = _score(run, files, engine)
        rules = Rules(
            max_ifd=config.max_ifd,
            max_rifd=config.max_rifd,
            only_improved=config.only_improved,
            noise=files.noise(engine),
        )
        further, hits = decide_further(run, files, rules, config, evaluation, engine)

    def rows() -> Iterator[SelectedRow]:
        for record, known in scored_records(run, files):
            outcome = decide(record, known, rules)
            yield _row(record, known, further.applied(id_of(record), outcome))

    settings, student = _settings(config, sets), config.scoring.student
    card = partial(dataset_card, run, identity.fields(), settings, student=student)
    run.forget_stage(f"select/{identity.key}")  # half made anew it is no selection
    folders = write_sets(run, identity.key, rows, card)
    pool = partial(originals, run, files)
    chosen = drawn(pool, response_lengths(folders.selected))
    counts = {
        **scored,
        **folders.counts,
        "baselines": {name: int(places.sum()) for name, places in chosen.items()},
        "sequences": engine.sequences,
    }
    if sets:
        counts["contaminated"] = dict(Counter(hit.source for hit in hits.values()))
        counts["evaluation_texts"] = {"compared": len(evaluation), "short": evaluation.too_short}
    entry = {
        "student": student,
        "scoring": identity.fields(),
        "settings": settings,
        "counts": counts,
        "seconds": round(time.monotonic() - begun, 3),
    }
    baselines = write_baselines(run, identity.key, pool, chosen, folders)
    run.finish_stage(f"select/{identity.key}", entry)
    return SelectResult(
        run=run.path,
        student=identity.key,
        selected=folders.selected,
        rejected=folders.rejected,
        baselines=baselines,
        counts=counts,
        failed_scores=scored["scores"].get("failed", 0),
    )


def choose_branches(config: SelectConfig) -> ScoringIdentity:
    """Let the student choose between each original and its instruction's reflection, no more.

    The first comparison of the selective schedule; its scores are kept and serve `select`.
    """
    run = RunDir.open(config.input.data)
    with run_lock(run.path, "select"):
        identity = resolve(config.scoring, run.path / "scores")
        run.record_selection(identity.key, recorded_options(config))
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
    files = ScoreFiles(run, identity)

    def chosen(shard: int) -> dict[str, CandidateKind]:
        path = run.shard_path(shard)
        records = read_records(run, path)
        scored = zip(records, files.read(path, records), strict=True)
        return {id_of(record): surviving_branch(record, known) for record, known in scored}

    return chosen


def _score(
    run: RunDir, files: ScoreFiles, engine: ScoringEngine, share: Share = WHOLE
) -> dict[str, Any]:
    """Fill in the scores of a share's shards; counts of records, candidates, score statuses."""
    statuses: Counter[str] = Counter()
    candidates: Counter[str] = Counter()
    records = 0
    total = run.num_records if share.whole else None
    with Progress("select", total=total, unit="records") as progress:
        filled = files.complete(engine, progress.advance, share=share)
        for shard_records, shard_scores in filled:
            records += len(shard_records)
            for record, known in zip(shard_records, shard_scores, strict=True):
                candidates.update(f"{c.candidate} {c.status}" for c in record.values())
                for score in known.values():
                    statuses.update(s for s in (score.ifd_status, score.rifd_status) if s)
    return {"records": records, "candidates": dict(candidates), "scores": dict(statuses)}


def _index(sets: Sequence[Source], n: int) -> EvaluationIndex:
    """What the evaluation sets hold, ready to be compared with."""
    index = EvaluationIndex((text for one in sets for text in evaluation_texts(one)), n=n)
    if sets:
        say(
            f"decontaminating by {n} words in a row of {len(index)} evaluation texts; "
            f"{index.too_short} of fewer than {index.shortest} words are left out"
        )
    return index


def _row(record: Record, known: Scored, outcome: Outcome) -> SelectedRow:
    final: CandidateKind = outcome.final
    return SelectedRow(
        id=id_of(record),
        candidate=record.get(final),
        kind=final,
        score=known.get(final),
        decision=outcome.decision,
        reason=outcome.reason,
        extra=record["original"].extra if "original" in record else None,
    )


def _settings(config: SelectConfig, sets: Sequence[Source]) -> dict[str, Any]:
    names = ("max_ifd", "max_rifd", "only_improved", "top", "rank_by", "diverse")
    settings = {name: getattr(config, name) for name in names}
    if sets:
        settings["decontaminate"] = {source.name: source.fingerprint for source in sets}
        settings["ngram"] = config.ngram
    return settings
