"""What a score depends on: said aloud, and short enough for a folder's name."""

import os
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.base.files import write_json
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.inputs import model_files
from curate.pipeline.inputs.model_files import folder_hash, revision_of, short_name
from curate.pipeline.scoring.identity import (
    identify,
    known_dtype,
    resolve,
)
from curate.pipeline.templates import Template

from ..training.data import scoring_with
from .tiny import byte_level, llama, save_student

VICUNA = Template("vicuna")


def key_of(student: Path, **settings: Any) -> str:
    return resolve(scoring_with(student, **settings), student / "scores").key


def test_the_length_is_the_context_but_at_most_2048_unless_given(tiny_student: Path) -> None:
    config = scoring_with(tiny_student)
    for context, length in ((512, 512), (4096, 2048), (None, 2048)):
        assert (
            identify(config, template=VICUNA, context=context, dtype="float32").max_length == length
        )
    given = scoring_with(tiny_student, max_length=4096)
    assert identify(given, template=VICUNA, context=None, dtype="float32").max_length == 4096
    assert identify(given, template=VICUNA, context=4096, dtype="float32").max_length == 4096
    with pytest.raises(CurateError, match=r"4096.*4095"):
        identify(given, template=VICUNA, context=4095, dtype="float32")


def test_the_context_is_the_models_never_the_tokenizers(tmp_path: Path) -> None:
    folder = save_student(tmp_path / "m", llama(max_position_embeddings=128))
    assert resolve(scoring_with(folder), folder).max_length == 128


def test_what_the_key_depends_on(tiny_student: Path) -> None:
    first = key_of(tiny_student)
    assert first.startswith("tiny-")
    changed: tuple[dict[str, Any], ...] = (
        {"template": "alpaca"},
        {"template": "chat"},
        {"tokenization": "reference"},
        {"max_length": 255},
        {"dtype": "bfloat16"},
    )
    for settings in changed:
        assert key_of(tiny_student, **settings) != first
    unchanged: tuple[dict[str, Any], ...] = ({"batch_tokens": 99}, {"score_all": True})
    for settings in (*unchanged, {"dtype": "float32"}):
        assert key_of(tiny_student, **settings) == first


def test_a_folder_with_other_weights_is_another_student(tmp_path: Path) -> None:
    folder = save_student(tmp_path / "m")
    before = revision_of(str(folder), None)
    assert revision_of(str(save_student(tmp_path / "n")), None) == before
    (folder / "notes.md").write_text("no part of the model")
    assert revision_of(str(folder), None) == before
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert revision_of(str(folder), None) != before


def test_short_names(tmp_path: Path) -> None:
    assert short_name("org/Model-1.5B") == "Model-1.5B"
    assert short_name(str(tmp_path)) == tmp_path.name
    (tmp_path / "a b(c").mkdir()
    assert short_name(str(tmp_path / "a b(c")) == "a_b_c"


def test_auto_finds_the_dtype_of_scores_that_are_there(tmp_path: Path, tiny_student: Path) -> None:
    identity = resolve(scoring_with(tiny_student, dtype="bfloat16"), tmp_path)
    folder = tmp_path / identity.key
    folder.mkdir()
    write_json(folder / "config.json", identity.fields())
    wizardlm = Template("wizardlm")
    assert known_dtype(tmp_path, scoring_with(tiny_student), wizardlm) == "bfloat16"
    assert resolve(scoring_with(tiny_student), tmp_path).key == identity.key
    assert known_dtype(tmp_path, scoring_with(tiny_student), VICUNA) is None


def test_auto_is_the_tokenizers_own_chat_template_where_it_has_one(tmp_path: Path) -> None:
    bare = save_student(tmp_path / "bare", tokenizer=byte_level(chat=None))
    tuned = save_student(tmp_path / "tuned")
    names = [resolve(scoring_with(s, template="auto"), s).template for s in (bare, tuned)]
    assert names == ["vicuna", "chat"]


def test_a_file_is_known_by_its_content(tmp_path: Path, tiny_student: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages[0]['content'] }}\nAnswer:")
    first = resolve(scoring_with(tiny_student, template=str(file)), tmp_path)
    moved = file.rename(tmp_path / "moved.jinja")
    again = resolve(scoring_with(tiny_student, template=str(moved)), tmp_path)
    moved.write_text("{{ messages[0]['content'] }}\nReply:")
    other = resolve(scoring_with(tiny_student, template=str(moved)), tmp_path)
    assert first.template == "file"
    assert first == again != other
    with pytest.raises(UsageError, match=r"no file .*gone\.jinja"):
        scoring_with(tiny_student, template=str(tmp_path / "gone.jinja"))


def test_todays_date_in_a_template_is_one_fixed_date(tmp_path: Path) -> None:
    dated = "{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"
    student = save_student(tmp_path / "m", tokenizer=byte_level(chat=dated))
    identity = resolve(scoring_with(student, template="chat"), student)
    assert identity.template_date == "2024-07-26"
    assert "2024-07-26" in identity.in_words()


def test_a_file_of_a_model_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", "utf-8")
    before = folder_hash(tmp_path)
    (tmp_path / os.fsdecode(b"\xff.json")).write_text("{}", "utf-8")
    assert folder_hash(tmp_path) != before


def test_a_change_anywhere_in_a_large_file_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model_files, "_LARGE", 1000)
    weights = tmp_path / "m" / "model.safetensors"
    weights.parent.mkdir()
    found = []
    for place in range(0, 300_000, 30_000):
        content = bytearray(300_000)
        content[place] = 1
        weights.write_bytes(content)
        found += [folder_hash(weights.parent)] * 2
        assert folder_hash(weights.parent) == found[-1]  # remembered
    assert len(set(found)) == 10
    monkeypatch.setenv("CURATE_CACHE", "/dev/null/none")
    assert folder_hash(weights.parent) == found[-1]
