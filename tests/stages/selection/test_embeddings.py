"""Embeddings: the student's own mean hidden states, whatever stands beside them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from curate.pipeline.method.corpus.diversity import SCALE, Units
from curate.pipeline.models.devices import pick_device
from curate.pipeline.models.loading import load_tokenizer
from curate.pipeline.scoring.engine import ScoringEngine
from curate.pipeline.scoring.identity import resolve
from curate.pipeline.scoring.model import load_student

from ...training.data import scoring_with

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["Say what a list is.", "Name it.", "Why?\nthe list in the list " * 4, "Say", "é 7"]


def embedded(student: Path, texts: list[str], scores: Path, **settings: Any) -> list[Units]:
    config = scoring_with(student, **settings)
    engine = ScoringEngine(config, resolve(config, scores))
    try:
        return engine.embed(texts)
    finally:
        engine.close()


@torch.inference_mode()
def expected(student: Path, text: str, length: int = 256) -> npt.NDArray[np.float64]:
    """By transformers' own forward, BOS in front and left out of the mean."""
    tokenizer = load_tokenizer(str(student))
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    model = load_student(
        str(student), revision=None, device=pick_device("cpu"), dtype="float32"
    ).model
    model.set_attn_implementation("eager")
    output = model(input_ids=torch.tensor([ids[:length]]), output_hidden_states=True)
    mean: npt.NDArray[np.float64] = output.hidden_states[-1][0, 1:].double().mean(dim=0).numpy()
    return mean / np.linalg.norm(mean)


def test_it_is_the_direction_of_the_mean_last_hidden_state(
    tiny_student: Path, tmp_path: Path
) -> None:
    for text, found in zip(TEXTS, embedded(tiny_student, TEXTS, tmp_path), strict=True):
        assert np.abs(found / SCALE - expected(tiny_student, text)).max() < 1 / SCALE


def test_a_text_longer_than_the_context_is_cut(tiny_student: Path, tmp_path: Path) -> None:
    long = "the list in the list " * 300
    (found,) = embedded(tiny_student, [long], tmp_path)
    assert np.abs(found / SCALE - expected(tiny_student, long)).max() < 1 / SCALE


def test_neighbours_and_budget_change_no_bit(tiny_student: Path, tmp_path: Path) -> None:
    together = embedded(tiny_student, TEXTS, tmp_path)
    for text, found in zip(TEXTS, together, strict=True):
        (alone,) = embedded(tiny_student, [text], tmp_path, batch_tokens=7)
        assert np.array_equal(alone, found)
    backwards = embedded(tiny_student, TEXTS[::-1] * 2, tmp_path, batch_tokens=64)
    assert all(np.array_equal(a, b) for a, b in zip(together, backwards[4::-1], strict=True))


def test_a_text_without_tokens_has_none(tiny_student: Path, tmp_path: Path) -> None:
    from curate.pipeline.errors import CurateError

    with pytest.raises(CurateError, match="no finite hidden state"):
        embedded(tiny_student, ["Say.", ""], tmp_path)
