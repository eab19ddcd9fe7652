"""Stage 2: candidates -> scores -> decisions -> the selected and the rejected Arrow data sets."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ...base.progress import Progress, say
from ...base.tables import many
from ...config import SelectConfig, recorded_options
from ...errors import CurateError, UsageError
from ...inputs.evaluation.evaluation_sets import evaluation_texts, open_sets
from ...inputs.examples import input_identity
from ...inputs.readers import Source, open_source
from ...method.corpus.decontamination import EvaluationIndex
from ...runs.decisions import DecisionFiles
from ...runs.directory import RunDir, is_run, out_needed, selection_key
from ...runs.importing import SHARD, import_candidates, say_unused
from ...runs.lock import run_lock, turn_lock
from ...runs.published.baselines import baselines_of, write_baselines
from ...runs.published.card import dataset_card
from ...runs.published.selected import write_sets
from ...scoring.engine import ScoringEngine
from ...scoring.identity import ScoringIdentity, resolve
from ...scoring.score_files import ScoreFiles
from .corpus_filters import apply_corpus_filters
from .deciding import Decider, rules_of, statuses, wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectResult:
    """Where the selection is and what it did, as the manifest has it.

    `student` is a folder's name in scores/, `selection` one in selected/.
    """

    run: Path
    student: str
    selection: str
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


def select(config: SelectConfig, *, shard_size: int = SHARD) -> SelectResult:
    """Score what the decision needs, decide, write the data sets.

    Stored scores are used again: with other thresholds no model runs. `shard_size` is the number
    of records in a shard of candidates from elsewhere.
    """
    with _opened(config, shard_size) as (run, identity):
        return _select(run, config, identity)


def score_share(config: SelectConfig, *, shard_size: int = SHARD) -> ShareResult:
    """Score the shards of one task's share; `select` decides when all tasks have ended."""
    with _opened(config, shard_size) as (run, identity):
        files, records, scores = ScoreFiles(run, identity), 0, Counter[str]()
        say(f"scoring share {config.share} with {identity.in_words()}")
        with (
            closing(ScoringEngine(config.scoring, identity)) as engine,
            Progress("select", total=None, unit="records") as progress,
        ):
            for filled in files.complete(engine, progress.advance, wanted(config), config.share):
                records += len(filled[0])
                scores.update(statuses(filled[1]))
            if config.share.index == 0:
                files.noise(engine)  # it takes a model, which the decision then needs no more
    return ShareResult(
        run=run.path, student=identity.key, records=records, failed_scores=scores["failed"]
    )


@contextmanager
def _opened(config: SelectConfig, shard_size: int) -> Iterator[tuple[RunDir, ScoringIdentity]]:
    """The run with its lock held and its candidates there, and what its scores are known by."""
    data, out = config.input.data, config.out
    if is_run(data) and (out is None or Path(data).resolve() == out.resolve()):
        if config.input.limit is not None:
            raise UsageError("--limit goes with candidates; a run is selected from as a whole")
        run, source, identity = RunDir.open(data), None, None
    elif out is None:
        raise out_needed(data)
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
                import_candidates(run, source, config.input, shard_size=shard_size)
            say_unused((run.stage("import") or {})["input"], f"{run.path}/")
        _say_if_unfinished(run)
        identity = identity or resolve(config.scoring, run.path / "scores")
        run.record_selection(selection_key(identity.key, config.name), recorded_options(config))
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
    files, begun = ScoreFiles(run, identity), time.monotonic()
    sets = open_sets(config.decontaminate)
    settings, student = _settings(config, sets), config.scoring.student
    key = selection_key(identity.key, config.name)
    _say_if_replaced(run, key, settings)
    known = len(list(files.folder.glob("part-*.parquet")))
    taken_up = f"; taking up the scores of {many(known, 'shard')}" if known else ""
    say(f"scoring with {identity.in_words()}{taken_up}")
    with closing(ScoringEngine(config.scoring, identity)) as engine:
        decider = _decide(files, key, config, engine, _index(sets, config.ngram))
    card = partial(dataset_card, run, identity.fields(), settings, student=student)
    folders = write_sets(run, key, card)
    counts = {
        **decider.counts(),
        **folders.counts,
        "baselines": write_baselines(run, key, folders.schema),
        "sequences": engine.sequences,
    }
    seconds = round(time.monotonic() - begun, 3)
    about = {"student": student, "scoring": identity.fields(), "settings": settings}
    run.finish_stage(f"select/{key}", {**about, "counts": counts, "seconds": seconds})
    for sentence in decider.first_tokens.in_words(identity.template):
        say(sentence)
    _say_if_empty(counts)
    return SelectResult(
        run=run.path,
        student=identity.key,
        selection=key,
        selected=folders.selected,
        rejected=folders.rejected,
        baselines=baselines_of(run, key),
        counts=counts,
        failed_scores=decider.scores["failed"],
    )


def _decide(
    files: ScoreFiles,
    key: str,
    config: SelectConfig,
    engine: ScoringEngine,
    evaluation: EvaluationIndex,
) -> Decider:
    """Score what is missing and publish the decisions; the selection is unfinished from then on."""
    run = files.run
    decisions = DecisionFiles.of(run, key)
    draft = decisions.begin_draft()
    decider = Decider(rules_of(config), partial(files.noise, engine), evaluation)
    with Progress("select", total=run.num_records, unit="records") as progress:
        filled = files.complete(engine, progress.advance, wanted(config))
        for shard, (records, scores) in zip(run.shard_paths(), filled, strict=True):
            draft.write(shard, decider.decide(records, scores))
    apply_corpus_filters(draft, files, config, engine)
    run.forget_stage(f"select/{key}")
    decisions.publish(draft)
    return decider


def _index(sets: Sequence[Source], n: int) -> EvaluationIndex:
    """What the evaluation sets hold, ready to be compared with."""
    index = EvaluationIndex(chain.from_iterable(map(evaluation_texts, sets)), n=n)
    if sets:
        say(
            f"decontaminating by {n} words in a row of {len(index)} evaluation texts; "
            f"{index.too_short} of fewer than {index.shortest} words are left out"
        )
    return index


def _say_if_replaced(run: RunDir, key: str, settings: Mapping[str, Any]) -> None:
    """Say that a selection by other thresholds is overwritten, and how to keep both."""
    before = (run.stage(f"select/{key}") or {}).get("settings", settings)
    names = dict.fromkeys([*settings, *before])
    if changed := [name for name in names if before.get(name) != settings.get(name)]:
        was = ", ".join(f"{name} = {before.get(name)}" for name in changed)
        say(f"note: this replaces the selection {key}, made with {was}; --name NAME keeps both")


def _say_if_empty(counts: Mapping[str, Any]) -> None:
    """Say why nothing was kept."""
    if not counts["selected"]:
        rules = Counter(counts["by_rule"]).most_common()
        why = ", ".join(f"{number} {rule}" for rule, number in rules)
        say(f"note: no record was selected; by the rule that rejected them: {why}")


def _settings(config: SelectConfig, sets: Sequence[Source]) -> dict[str, Any]:
    names = (
        "max_ifd", "max_rifd", "only_improved", "prefer_passing", "top", "rank_by", "diverse",
    )  # fmt: skip
    settings = {name: getattr(config, name) for name in names}
    if sets:
        settings["decontaminate"] = {source.name: source.fingerprint for source in sets}
        settings["ngram"] = config.ngram
    return settings
