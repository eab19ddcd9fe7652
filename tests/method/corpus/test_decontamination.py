"""Overlap with evaluation texts, against a search through all n-grams as word tuples."""

import random
import subprocess
import sys

import pytest

from curate.pipeline.method.corpus.decontamination import SHORTEST, EvaluationIndex
from curate.pipeline.method.corpus.ngrams import OPERATORS, words

from ...conftest import shared

SAID = "the quick brown fox jumps over a lazy dog while seven old cats sleep on the warm mat"


def index(*texts: str, n: int = 13) -> EvaluationIndex:
    return EvaluationIndex(
        (("set.jsonl", f"set.jsonl:{i}", t) for i, t in enumerate(texts, 1)), n=n
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP, now!", "don t stop now"),
        ("Straße \uff21\uff22\uff23 \ufb01ne", "strasse abc fine"),  # casefold and NFKC
        ("snake_case — e.g. 3.14", "snake case e g 3 14"),
        ("हिन्दी में", "हिन्दी में"),  # marks belong to their letters
        ("今日は晴れ, ok", "今 日 は 晴 れ ok"),
        ("한국어 문장", "한국어 문장"),
        (" \n\t… ", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == expected.split()


def test_symbols_are_words_where_they_are_asked_for() -> None:
    assert words("2+2=x, well!", symbols=OPERATORS) == ["2", "+", "2", "=", "x", "well"]


def test_thirteen_words_in_a_row_are_a_hit_and_twelve_are_not() -> None:
    known = index("nothing of it " * 5, SAID)
    twelve, thirteen = (" ".join(SAID.split()[2 : 2 + n]) for n in (12, 13))
    assert known.find(f"I say: {twelve} or so.") is None
    hit = known.find(f"I say: {thirteen.upper().replace(' ', ', ')}!")
    assert hit is not None
    assert (hit.source, hit.place, " ".join(hit.words)) == ("set.jsonl", "set.jsonl:2", thirteen)
    assert hit.reason == f'contaminated: 13 words of set.jsonl:2: "{thirteen}"'


def test_a_shorter_text_counts_whole_and_one_of_a_few_words_not_at_all() -> None:
    known = index("Name ten countries whose flags have three stripes.", "yes", "one two three " * 2)
    assert SHORTEST == 8
    assert (len(known), known.too_short) == (1, 2)
    hit = known.find("Please name ten countries whose flags have three stripes, and say why.")
    assert hit is not None and len(hit.words) == 8
    assert known.find("name ten countries whose flags have three colours") is None
    assert known.find("yes") is None


def test_a_small_n_is_what_the_user_wants() -> None:
    known = index("Add two numbers.", "yes", n=3)
    assert known.find("Can you add two numbers?") is not None
    assert known.find("yes yes") is None


def test_equal_evaluation_texts_count_once_and_the_first_is_named() -> None:
    known = index(SAID, SAID.upper() + "!")
    assert len(known) == 1
    hit = known.find(SAID)
    assert hit is not None and hit.place == "set.jsonl:1"


def test_nothing_is_found_in_nothing() -> None:
    assert index().find(SAID) is None
    assert index(SAID).find("") is None


@pytest.mark.parametrize("n", [2, 9, 13])
def test_it_finds_what_a_search_through_word_tuples_finds(n: int) -> None:
    noise = random.Random(n)
    vocabulary = {2: "abcdefghijklm", 9: "abc", 13: "ab"}[n]

    def text() -> str:
        return " ".join(noise.choices(vocabulary, k=noise.randint(1, 30)))

    evaluation = [text() for _ in range(40)]
    sizes = {t: min(n, len(t.split())) for t in evaluation if len(t.split()) >= min(n, SHORTEST)}
    grams = {
        tuple(t.split()[i : i + s]) for t, s in sizes.items() for i in range(len(t.split()) - s + 1)
    }
    known = index(*evaluation, n=n)
    found = 0
    for asked in (text() for _ in range(400)):
        own = asked.split()
        expected = any(
            tuple(own[i : i + s]) in grams
            for s in set(sizes.values())
            for i in range(len(own) - s + 1)
        )
        hit = known.find(asked)
        assert (hit is not None) == expected, asked
        if hit is not None:
            place = evaluation[int(hit.place.split(":")[1]) - 1]
            assert f" {' '.join(hit.words)} " in f" {place} "
            assert f" {' '.join(hit.words)} " in f" {asked} "
            found += 1
    assert 10 < found < 390


HASHED = """
from curate.pipeline.method.corpus.ngrams import hashes_of, ngrams
print(ngrams(hashes_of("to be or not to be".split()), [3])[3].tolist())
"""


def test_hashes_are_the_same_in_every_process() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", HASHED],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]


@pytest.mark.shared
def test_the_vicuna_questions_find_themselves() -> None:
    import json

    rows = shared("data/testsets/vicuna_test_set.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(row)["text"] for row in rows]
    known = index(*texts)
    found = [known.find(f"Question: {text} Answer:") is not None for text in texts]
    assert found == [len(words(text)) >= SHORTEST for text in texts]
    assert sum(found) > 60
