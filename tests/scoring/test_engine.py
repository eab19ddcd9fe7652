"""The engine: each distinct sequence once, and only those that a decision needs."""

import weakref
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curate.pipeline.errors import CurateError
from curate.pipeline.method.decision import decide, needs
from curate.pipeline.records import Candidate
from curate.pipeline.scoring.engine import Record, Scored, ScoringEngine, everything
from curate.pipeline.scoring.identity import identify
from curate.pipeline.scoring.model import device_here
from curate.pipeline.templates import Template

from ..training.data import record, scoring_with

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[False, True], ids=["lazily", "score_all"])
def engine(request: pytest.FixtureRequest, tiny_student: Path) -> Iterator[ScoringEngine]:
    config = scoring_with(tiny_student, template="vicuna", score_all=request.param)
    identity = identify(config, template=Template("vicuna"), context=256, dtype="float32")
    with closing(ScoringEngine(config, identity)) as found:
        yield found


def record_of(seed: int, **changes: str) -> Record:
    rows = [Candidate(**row) for row in record("r", seed=seed, **changes)]
    return {candidate.candidate: candidate for candidate in rows}


def computed(engine: ScoringEngine, given: Record) -> tuple[int, Scored]:
    """How many sequences the student computed for one record, and its scores."""
    ticks: list[int] = []
    scores: Scored = {}
    engine.fill([given], [scores], ticks.append)
    return sum(ticks), scores


def test_sequences_of_a_record(engine: ScoringEngine) -> None:
    """METHOD.md section 3: 7 to 9 lazily; of all 16, PPL(x) of a branch is shared: 14."""
    seen = set()
    for seed in range(1, 12):
        number, scores = computed(engine, record_of(seed))
        seen.add(number)
        assert decide(record_of(seed), scores).decision.filter_rule
    assert seen == ({14} if engine.config.score_all else {7, 9})


def test_identical_texts_are_computed_once(engine: ScoringEngine) -> None:
    """An unchanged reflection costs nothing: its sequences are the original's."""
    given = record_of(1)
    same = given["original"]
    texts: dict[str, Any] = {
        "instruction": same.instruction,
        "input": same.input,
        "output": same.output,
    }
    unchanged: Record = {
        "original": same,
        "instruction": Candidate(id="r", candidate="instruction", status="unchanged", **texts),
        "response": Candidate(id="r", candidate="response", status="unchanged", **texts),
        "both": Candidate(id="r", candidate="both", status="unchanged", **texts),
    }
    number, scores = computed(engine, unchanged)
    assert number == 4
    decision = decide(unchanged, scores).decision
    assert (decision.instruction_rule, decision.response_rule) == ("ifd_tie", "rifd_tie")


def test_a_sequence_that_finds_no_memory_says_so(engine: ScoringEngine) -> None:
    def log_probs(pack: Any) -> Any:
        raise torch.OutOfMemoryError("tried 2 GiB, 1 GiB is free")

    given = record_of(1)
    engine.scorer.student = replace(engine.scorer.student, log_probs=log_probs)
    _, scores = computed(engine, given)
    found = [s for s in scores.values() if s.ifd_status is not None]
    assert {s.ifd_status for s in found} == {"failed"}
    assert all("tokens" in str(s.ifd_reason) and "1 GiB" in str(s.ifd_reason) for s in found)


def test_what_is_known_is_not_asked_again(engine: ScoringEngine) -> None:
    given = record_of(2)
    _, scores = computed(engine, given)
    ask = everything if engine.config.score_all else needs
    assert not ask(given, scores)
    before = engine.sequences
    assert engine.fill([given], [scores]) == 0
    assert engine.sequences == before


def test_without_candidates_no_student_is_loaded(engine: ScoringEngine) -> None:
    broken = {kind: Candidate(id="r", candidate=kind, status="failed") for kind in record_of(1)}
    assert computed(engine, broken) == (0, {})
    assert "scorer" not in vars(engine)


def test_a_closed_engine_gives_the_students_memory_back(tiny_student: Path) -> None:
    config = scoring_with(tiny_student, template="vicuna")
    identity = identify(config, template=Template("vicuna"), context=256, dtype="float32")
    engine = ScoringEngine(config, identity)
    number, _ = computed(engine, record_of(1))
    model = weakref.ref(engine.scorer.student.model)
    engine.close()
    assert model() is None
    assert engine.sequences == number


def test_a_device_that_students_are_not_scored_on(tiny_student: Path) -> None:
    with pytest.raises(CurateError, match="--device mps"):
        device_here(scoring_with(tiny_student, device="mps"))
