"""Bits per character of responses, from scores worked by hand."""

import math
from dataclasses import astuple

import pyarrow as pa
import pytest

from curate.pipeline.reporting.numbers.contents import response_bits
from curate.pipeline.reporting.numbers.reading import StudentTables

BIT = math.log(2)
# id, candidate, status, nats a token without and with the instruction, tokens
SCORES = [
    ("a", "original", "ok", 2 * BIT, BIT, 4),
    ("b", "original", "ok", 6 * BIT, 3 * BIT, 2),
    ("c", "original", "truncated", 9 * BIT, 9 * BIT, 9),
    ("d", "original", "failed", 9 * BIT, None, 9),
    ("a", "both", "ok", 8 * BIT, 2 * BIT, 3),
    ("b", "both", None, None, None, None),
]
CHARACTERS = [10, 6, 50, 50, 12, 70]
NLLS = ("nll_response", "nll_response_given_instruction")


def student(kept: list[tuple[str, str]], dropped: list[tuple[str, str]]) -> StudentTables:
    names = ("id", "candidate", "ifd_status", *NLLS, "num_response_tokens")
    scores = pa.table(dict(zip(names, map(list, zip(*SCORES, strict=True)), strict=True)))

    def pairs(rows: list[tuple[str, str]]) -> pa.Table:
        columns = ([row[place] for row in rows] for place in (0, 1))
        return pa.table([pa.array(c, pa.string()) for c in columns], ["id", "candidate"])

    return StudentTables(
        key="s", scoring={}, entry={}, scores=scores, decided=bool(kept or dropped),
        rows=pairs(kept + dropped), kept=pairs(kept), dropped=pairs(dropped), sets={},
    )  # fmt: skip


def candidates() -> pa.Table:
    ids, kinds = ([score[place] for score in SCORES] for place in (0, 1))
    return pa.table({"id": ids, "candidate": kinds, "response_chars": CHARACTERS})


def test_one_ratio_of_sums_over_whole_responses() -> None:
    found = response_bits(candidates(), student([("a", "both")], [("b", "original")]))
    assert {name: astuple(bits) for name, bits in found.items()} == {
        "original": pytest.approx((2, (8 + 12) / 16, (4 + 6) / 16)),
        "reflected": pytest.approx((1, 24 / 12, 6 / 12)),
        "kept": pytest.approx((1, 24 / 12, 6 / 12)),
        "dropped": pytest.approx((1, 12 / 6, 6 / 6)),
    }


def test_a_group_without_a_whole_response_is_left_out() -> None:
    assert set(response_bits(candidates(), student([], []))) == {"original", "reflected"}
    found = response_bits(candidates(), student([("c", "original")], [("d", "original")]))
    assert set(found) == {"original", "reflected"}
