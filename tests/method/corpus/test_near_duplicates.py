"""Near-duplicates, against the Jaccard similarity of every pair computed with Python's own sets."""

import random

import pytest

from curate.pipeline.method.corpus.near_duplicates import (
    PERMUTATIONS,
    SHINGLE,
    DuplicateFinder,
    bands,
)

Found = list[tuple[int, float] | None]


def judged(texts: list[str], threshold: float | None = 0.8) -> Found:
    """Of each text, the place of the one that it repeats and the similarity."""
    finder = DuplicateFinder(threshold)
    for text in texts:
        finder.note(text)
    found = [finder.judge(str(place), text) for place, text in enumerate(texts)]
    return [(int(one[0]), one[1]) if one else None for one in found]


def members(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    size = min(SHINGLE, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def oracle(texts: list[str], threshold: float) -> Found:
    """The most similar text before, of those that were kept; the first of equals."""
    kept: list[int] = []
    found: Found = []
    for place, text in enumerate(texts):
        own = members(text)
        alike = [(len(own & m) / len(own | m), -k) for k in kept if (m := members(texts[k]))]
        best = max(alike, default=(0.0, 0))
        found.append((-best[1], best[0]) if best[0] >= threshold else None)
        if found[-1] is None:
            kept.append(place)
    return found


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_it_finds_what_comparing_every_pair_finds(threshold: float) -> None:
    noise = random.Random(3)
    texts: list[str] = []
    for _ in range(600):
        words = noise.choices([f"w{n}" for n in range(50)], k=noise.randint(1, 40))
        if texts and noise.random() < 0.6:
            words = noise.choice(texts).split()
            for _ in range(noise.randint(0, 3)):
                words[noise.randrange(len(words))] = f"w{noise.randint(0, 50)}"
        texts.append(" ".join(words))
    expected = oracle(texts, threshold)
    assert 60 < sum(one is not None for one in expected) < 500
    assert judged(texts, threshold) == expected


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8, 0.95, 1.0])
def test_a_pair_at_the_threshold_is_hardly_ever_missed(threshold: float) -> None:
    number, rows = bands(threshold)
    assert 1 <= number * rows <= PERMUTATIONS
    assert 1 - (1 - threshold**rows) ** number >= 0.99


CASES: list[tuple[str, str, float | None, float | None]] = [
    # (a text, a later one, the threshold, the similarity or None)
    ("Name three birds.", "NAME three birds!", 0.8, 1.0),
    ("Name three birds.", "Name three birds", None, 1.0),
    ("Name three birds.", "Name three fish.", 0.8, None),
    ("What is 2+2?", "What is 2-2?", 0.8, None),  # operators count
    ("What is 2+2?", "What is 2 + 2", None, 1.0),
    ("a b c d e f g h i j k l", "a b c d e f g h i j k l m", 0.8, 10 / 11),
    ("a b c d e f g h i j k l", "a b c d e f g h i j k l m", None, None),
    ("one two", "two one", 0.1, None),
    ("one", "one", 0.8, 1.0),
    ("???", "???", 0.8, None),  # no words: nothing to compare
    ("", "", None, None),
]


@pytest.mark.parametrize(("first", "second", "threshold", "similarity"), CASES)
def test_what_is_alike(
    first: str, second: str, threshold: float | None, similarity: float | None
) -> None:
    expected = None if similarity is None else (1, similarity)
    assert judged(["of no matter", first, second], threshold) == [None, None, expected]


def test_a_duplicate_of_a_duplicate_alone_is_kept() -> None:
    """What is compared with is what was kept, so that groups do not drift."""
    words = [f"w{n}" for n in range(12)]
    chain = [" ".join(words[step:] + [f"new{n}" for n in range(step)]) for step in range(4)]
    found = judged(chain)
    assert found == [None, (0, 9 / 11), None, (2, 9 / 11)]


@pytest.mark.parametrize("threshold", [0.8, None])
def test_texts_that_come_later_change_nothing(threshold: float | None) -> None:
    noise = random.Random(5)
    texts = [" ".join(noise.choices("abcd", k=noise.randint(1, 5))) for _ in range(200)]
    whole = judged(texts, threshold)
    assert sum(one is not None for one in whole) > 20
    assert judged(texts[:120], threshold) == whole[:120]
