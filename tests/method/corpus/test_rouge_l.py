"""ROUGE-L by Indel similarity, against recorded scores and a plain loop."""

import json
import random
from itertools import pairwise

import pytest

from curate.pipeline.method.corpus.ngrams import words
from curate.pipeline.method.corpus.rouge_l import THRESHOLD, Alphabet, DistinctTexts, rouge_l

from ...conftest import shared

VOCABULARY = ["red", "green", "blue", "one", "two", "three", "naïve", "café", "写", "信", "дом"]


def by_table(first: list[str], second: list[str]) -> float:
    """2 LCS / (m + n) by the textbook's table."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = 0
        for place, other in enumerate(second, 1):
            above = row[place]
            row[place] = before + 1 if word == other else max(above, row[place - 1])
            before = above
    return 2 * row[-1] / (len(first) + len(second)) if first and second else 0.0


def some_texts(number: int, *, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(VOCABULARY, k=chance.randint(1, 9))) for _ in range(number)]


def test_it_is_the_longest_common_subsequence() -> None:
    texts = some_texts(60, seed=1)
    for first, second in pairwise(texts):
        assert rouge_l(first, second) == pytest.approx(by_table(words(first), words(second)))


def test_it_agrees_with_recorded_scores_of_texts_in_plain_latin() -> None:
    cases = json.loads(shared("data/loops/rouge_l.json").read_text("utf-8"))
    plain = [case for case in cases if (case["first"] + case["second"]).isascii()]
    assert len(plain) > 10
    for case in plain:
        found = rouge_l(case["first"], case["second"])
        assert found == pytest.approx(case["rouge_l_f1"]), case


@pytest.mark.parametrize("text", ["写一首关于大海的诗", "Напиши стихи"])
def test_a_copy_without_latin_letters_is_found(text: str) -> None:
    assert rouge_l(text, text) == 1.0
    known = DistinctTexts()
    known.add([("a", text)])
    (found,) = known.judge([("b", text)])
    assert found is not None and (found.id, found.rouge_l) == ("a", 1.0)


def test_exactly_the_threshold_is_kept() -> None:
    known = DistinctTexts()
    known.add([("a", "a b c d e f g h i j")])
    seven = ("b", "a b c d e f g x y z")
    assert rouge_l("a b c d e f g h i j", seven[1]) == THRESHOLD
    assert known.judge([seven, ("c", "a b c d e f g h y z")])[0] is None
    assert known.judge([("c", "a b c d e f g h y z")])[0] is not None


def test_judging_many_is_judging_one_after_another() -> None:
    texts = [(str(n), text) for n, text in enumerate(some_texts(400, seed=2))]
    together = DistinctTexts()
    together.add(texts[:20])
    kept = [text for _, text in texts[:20]]
    expected = []
    for _, text in texts[20:]:
        alike = any(by_table(words(text), words(one)) > THRESHOLD for one in kept)
        expected.append(alike)
        kept += [] if alike else [text]
    assert [found is not None for found in together.judge(texts[20:])] == expected
    assert 50 < sum(expected) < 350


def test_no_word_is_a_surrogate() -> None:
    alphabet = Alphabet()
    many = alphabet.spelled(" ".join(map(str, range(0xE100))))
    assert len(set(many)) == 0xE100 and many.encode("utf-8")
