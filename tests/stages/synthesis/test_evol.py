"""`curate synthesize --method evol` against a real server."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.commands import explain, synthesize
from curate.pipeline.config import ExplainConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.method.synthesis.evolution import OPERATIONS

from ...llm.faulty_server import Answer, FaultyServer, Received, completion, error
from .teachers import config, left_out, made, mark_of, run, seed_file, seeds, teaches

EVOL = {"method": "evol", "number": 40, "rounds": 4}


def given(request: Received) -> str:
    return request.prompt.rpartition("Given prompt:\n")[2]


def evolves(request: Received) -> bool:
    return "Given prompt:" in request.prompt


def test_each_seed_evolves_round_by_round(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(teaches) as server:
        found = run(data, out, server, **EVOL)
        asked = [one.body for one in server.requests if evolves(one)]
    rows = {row["id"]: row for row in made(out)}
    assert (found.instructions, found.left_out, found.missing) == (40, {}, 0)
    assert rows["s3@3"]["parents"] == ["s3@2"] and rows["s3@1"]["parents"] == ["s3"]
    assert rows["s3@3"]["instruction"].startswith(rows["s3@2"]["instruction"])
    assert set(Counter(row["operation"] for row in rows.values())) == set(OPERATIONS)
    sampling = {(b["temperature"], b["top_p"], b.get("presence_penalty")) for b in asked}
    assert sampling == {(1.0, 0.95, None)}
    family = explain(ExplainConfig(run=str(out), id="s3@3")).family
    assert [row["id"] for row in family] == ["s3@3", "s3@2", "s3@1", "s3"]
    assert [row["round"] for row in family] == [3, 2, 1, 0]


def fails_in_round_two(request: Received) -> Answer:
    """Of the first seed: what evolved once evolves no further."""
    if (
        evolves(request)
        and seeds()[0]["instruction"] in request.prompt
        and "Also" in given(request)
    ):
        return completion("Rewritten prompt: as in the given prompt, say more.")
    return teaches(request)


def test_what_fails_leaves_its_parent_alive(tmp_path: Path) -> None:
    data, out = seed_file(tmp_path), tmp_path / "run"
    with FaultyServer(fails_in_round_two) as server:
        found = run(data, out, server, **EVOL)
    failed = [row for row in left_out(out) if row["reason"] == "leak"]
    assert found.left_out == {"leak": 3} and found.missing == 0
    assert [(row["id"], row["parents"]) for row in failed] == [
        (f"s0@{number}", ["s0@1"]) for number in (2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("reply", "more", "left"),
    [
        ({"equality": "Equal"}, {}, {"no_gain": 10}),
        ({"equality": "Equal"}, {"no_equality": True}, {}),
        ({"equality": "I cannot tell."}, {}, {"unparsed": 10}),
        ({"evolution": "Sorry, that is not possible."}, {}, {"refusal": 10}),
        ({"evolution": "the of and to in"}, {}, {"empty_words": 10}),
        ({"answer": "I am sorry."}, {}, {}),
        ({"answer": "I am sorry."}, {"answers": True}, {"refusal": 10}),
        ({"answer": "And so on!"}, {"answers": True}, {"empty_words": 10}),
    ],
    ids=["equal", "not-asked", "neither", "refused", "empty", "bare", "answer", "empty-answer"],
)  # fmt: skip
def test_elimination_looks_at_what_a_rule_is_about(
    tmp_path: Path, reply: dict[str, str], more: dict[str, Any], left: dict[str, int]
) -> None:
    def replies(request: Received) -> Answer:
        kind = "evolution" if evolves(request) else "answer"
        kind = "equality" if "Compare the two prompts" in request.prompt else kind
        return completion(reply[kind]) if kind in reply else teaches(request)

    with FaultyServer(replies) as server:
        found = run(seed_file(tmp_path), tmp_path / "run", server, **{**EVOL, "rounds": 1}, **more)
    assert found.left_out == left and found.instructions == (0 if left else 10)


def test_a_reply_that_failed_is_counted_as_missing(tmp_path: Path) -> None:
    def breaks(request: Received) -> Answer:
        return error(400, "no") if request.number == 1 else teaches(request)

    with FaultyServer(breaks) as server:
        found = run(seed_file(tmp_path), tmp_path / "run", server, **EVOL, concurrency=1)
    assert (found.left_out, found.missing) == ({"failed": 1}, 1)


def test_the_number_bounds_how_many_seeds_evolve(tmp_path: Path) -> None:
    with FaultyServer(teaches) as server:
        found = run(seed_file(tmp_path), tmp_path / "run", server, **{**EVOL, "number": 10})
    lines = Counter(row["id"].partition("@")[0] for row in made(tmp_path / "run"))
    assert found.instructions == 10 and sorted(lines.values()) == [3, 3, 4]


def test_concurrency_and_another_beginning_change_nothing(tmp_path: Path) -> None:
    def late(request: Received) -> Answer:
        return replace(teaches(request), delay=0.01 * (int(mark_of(request)[0], 16) % 3))

    data, found = seed_file(tmp_path), []
    for concurrency in (1, 8):
        out = tmp_path / f"run{concurrency}"
        with FaultyServer(late if concurrency > 1 else teaches) as server:
            run(data, out, server, **EVOL, answers=True, concurrency=concurrency)
            assert run(data, out, server, **EVOL, answers=True).asked == 0
            with pytest.raises(CurateError, match="rounds = 4"):
                run(data, out, server, **{**EVOL, "rounds": 5}, answers=True)
        found.append(made(out))
    assert found[0] == found[1] and found[0][0]["output"].startswith("A full answer")


@pytest.mark.parametrize("method", ["self-instruct", "evol"])
def test_a_dry_run_asks_and_writes_nothing(tmp_path: Path, method: str) -> None:
    more = {"method": method, "number": 40, "answers": True, "dry_run": True}
    with FaultyServer(teaches) as server:
        said = synthesize(config(seed_file(tmp_path), tmp_path / "run", server, **more))
        assert not server.requests
    assert isinstance(said, str) and not (tmp_path / "run").exists()
    assert {"self-instruct": "85 calls", "evol": "120 calls"}[method] in said
