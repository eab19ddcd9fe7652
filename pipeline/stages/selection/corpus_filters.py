"""What is decided with more than one record in view: evaluation sets, budget, diversity."""

from collections.abc import Iterator
from dataclasses import replace

from ...base.progress import Progress, say
from ...config import SelectConfig
from ...method.decision import Further, Rules, decide, top
from ...method.decontamination import EvaluationIndex, Hit
from ...method.diversity import diverse
from ...records import Candidate, CandidateKind, Score, user_turn
from ...run.directory import RunDir
from ...scoring.engine import Record, Scored, ScoringEngine
from ...scoring.score_files import ScoreFiles, read_records
from .embeddings import embeddings

POOL = 4
"""Without `--top`, `--diverse` chooses among so many times as many of the best rows."""


def scored_records(run: RunDir, files: ScoreFiles) -> Iterator[tuple[Record, Scored]]:
    """Every record of a run with its scores, in input order."""
    for shard in run.shard_paths():
        records = read_records(run, shard)
        yield from zip(records, files.read(shard, records), strict=True)


def id_of(record: Record) -> str:
    """The id that a record's candidates share."""
    return next(iter(record.values())).id


def decide_further(
    run: RunDir,
    files: ScoreFiles,
    rules: Rules,
    config: SelectConfig,
    known: EvaluationIndex,
    engine: ScoringEngine,
) -> tuple[Further, dict[str, Hit]]:
    """What rejects records that pass the filter, and where each repeats an evaluation text.

    `--top` takes the best of those that repeat none, `--diverse N` N of these; without `--top` it
    takes them from the best 4 N.
    """
    if config.top is None and config.diverse is None and not len(known):
        return Further(), {}
    ranked = config.top is not None or config.diverse is not None
    hits, scores = _passed(run, files, rules, known, ranked=ranked)
    further = Further(contaminated={id: hit.reason for id, hit in hits.items()})
    if config.top is not None:
        further = replace(further, top=top(scores, config.top, by=config.rank_by))
    if config.diverse is not None:
        pool = top(scores, config.top or str(POOL * config.diverse), by=config.rank_by)
        kinds = {id: scores[id].candidate for id in pool}
        chosen = _diverse(run, files, engine, kinds, config.diverse)
        further = replace(further, pool=pool, diverse=chosen)
    return further, hits


def _diverse(
    run: RunDir,
    files: ScoreFiles,
    engine: ScoringEngine,
    pool: dict[str, CandidateKind],
    number: int,
) -> frozenset[str]:
    if len(pool) <= number:
        say(f"note: --diverse {number} keeps all of its pool, which has {len(pool)} records")
        return frozenset(pool)
    ids, vectors = embeddings(run, files, engine, pool)
    return frozenset(ids[place] for place in diverse(vectors, number))


def _passed(
    run: RunDir, files: ScoreFiles, rules: Rules, known: EvaluationIndex, *, ranked: bool
) -> tuple[dict[str, Hit], dict[str, Score]]:
    """Of the records that pass the filter: what repeats an evaluation text, and the others' scores.

    These only where rows are `ranked`: else no more is kept than the hits.
    """
    hits, scores = {}, {}
    with Progress("compare", total=run.num_records, unit="records") as progress:
        for record, scored in scored_records(run, files):
            progress.advance()
            outcome = decide(record, scored, rules)
            if outcome.reason is not None:
                continue
            hit = _repeated(record[outcome.final], known)
            if hit is not None:
                hits[id_of(record)] = hit
            elif ranked:
                scores[id_of(record)] = scored[outcome.final]
    return hits, scores


def _repeated(pair: Candidate, known: EvaluationIndex) -> Hit | None:
    asked = user_turn(pair.instruction or "", pair.input or "")
    return known.find(asked) or known.find(pair.output or "")
