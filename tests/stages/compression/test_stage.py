"""`curate bpc` against lm-eval's rolling likelihood, the paper's stream, and itself."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.pipeline.config import BpcConfig
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.scoring.forward.packing import Span
from curate.pipeline.stages.compression.documents_file import rows_in_parts
from curate.pipeline.stages.compression.stage import BpcResult, measure

from ...scoring.tiny import byte_level, llama, one_at_a_time, save_student

TEXTS = [
    "Say which of the animals in the list can fly, and tell me why the others cannot. " * 9,
    "Überraschung: 日本語のテキスト, and an emoji 🎉.",
    "x",
    "Below is an instruction that describes a task. " * 4,
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"id": f"d{i}", "text": t, "kind": "long" if len(t) > 99 else "short"}
            for i, t in enumerate(TEXTS)]  # fmt: skip
    return write(tmp_path / "corpus.jsonl", rows)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def run(data: Path, student: Path, **more: Any) -> BpcResult:
    return measure(
        BpcConfig(data=str(data), student=str(student), device="cpu", dtype="float32", **more)
    )


def rolling(student: Path, texts: list[str], window: int) -> list[float]:
    """lm-eval's log-likelihoods, one BOS in front of each document."""
    models = pytest.importorskip("lm_eval.models.huggingface")
    instance = pytest.importorskip("lm_eval.api.instance").Instance
    model = models.HFLM(
        pretrained=str(student),
        device="cpu",
        dtype="float32",
        max_length=window,
        add_bos_token=False,
        batch_size=1,
    )
    asked = [
        instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=i)
        for i, text in enumerate(texts)
    ]
    return [float(value) for value in model.loglikelihood_rolling(asked, disable_tqdm=True)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("window", [64, 255])
def test_it_equals_lm_evals_rolling_likelihood(
    corpus: Path, tiny_student: Path, tmp_path: Path, window: int
) -> None:
    out = tmp_path / "out.parquet"
    result = run(corpus, tiny_student, window=window, stride=window, out=out)
    theirs = rolling(tiny_student, TEXTS, window)
    ours = pq.read_table(out).column("nats").to_pylist()
    assert ours == pytest.approx([-value for value in theirs], rel=1e-5)
    size = sum(len(text.encode()) for text in TEXTS)
    assert result.total.bits_per_byte == pytest.approx(-sum(theirs) / size / math.log(2), rel=1e-5)


def test_every_token_of_a_document_is_scored_once_behind_its_context(
    corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    run(corpus, tiny_student, window=40, stride=16, out=out)
    ids = AutoTokenizer.from_pretrained(tiny_student)(TEXTS[0], add_special_tokens=False).input_ids
    sequence = [0, *ids]
    spans, start, end = [], 1, 41
    while start < len(sequence):
        part = sequence[max(end - 41, 0) : end]
        spans.append(Span(np.array(part, dtype=np.int32), len(part) - (end - start)))
        start, end = end, min(end + 16, len(sequence))
    means = one_at_a_time(AutoModelForCausalLM.from_pretrained(tiny_student), spans)
    nats = sum(mean * span.num_targets for mean, span in zip(means, spans, strict=True))
    row = pq.read_table(out).to_pylist()[0]
    assert row["nats"] == pytest.approx(nats, rel=1e-5)
    assert (row["tokens"], row["characters"]) == (len(ids), len(TEXTS[0]))


def test_reference_scores_one_stream_and_drops_its_tail(
    corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_student)
    stream = [token for text in TEXTS for token in tokenizer(text).input_ids]
    spans, previous = [], 1
    for begin in range(0, len(stream) - 40, 16):
        part = np.array(stream[begin : begin + 41], dtype=np.int32)
        spans.append(Span(part, previous - begin))
        previous = begin + 41
    means = one_at_a_time(AutoModelForCausalLM.from_pretrained(tiny_student), spans)
    nats = sum(mean * span.num_targets for mean, span in zip(means, spans, strict=True))
    result = run(corpus, tiny_student, window=40, stride=16, tokenization="reference")
    assert result.total.nats == pytest.approx(nats, rel=1e-5)
    assert result.total.tokens == previous - 1 < len(stream) - 1
    assert result.total.characters == sum(map(len, TEXTS))


@pytest.mark.parametrize("tokenization", ["exact", "reference"])
def test_batches_change_no_bit(corpus: Path, tiny_student: Path, tokenization: Any) -> None:
    results = [
        run(corpus, tiny_student, window=50, stride=20, tokenization=tokenization, batch_tokens=n)
        for n in (1, 64, 100_000)
    ]
    assert len({result.total.nats for result in results}) == 1


def test_groups_and_the_difference_to_a_base(
    corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    base = save_student(tmp_path / "base", llama(hidden_size=16))
    result = run(corpus, tiny_student, by="kind", base=str(base))
    other = run(corpus, base)
    assert {name: group.documents for name, group in result.groups.items()} == {
        "long": 2,
        "short": 2,
    }
    assert sum(g.nats for g in result.groups.values()) == pytest.approx(result.total.nats)
    assert result.difference is not None
    assert result.difference.bits_per_character == pytest.approx(
        result.total.bits_per_character - other.total.bits_per_character
    )


def test_empty_texts_and_rows_without_one_are_counted(tmp_path: Path, tiny_student: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "one"},
        {"text": ""},
        {"text": None},
        {"text": ["x"]},
        {"text": "one"},
    ]
    data = write(tmp_path / "c.jsonl", rows)
    result = run(data, tiny_student)
    assert result.statuses == {"ok": 2, "empty": 1} and result.rejected == 2
    assert (result.total.documents, result.total.characters) == (2, 6)
    with pytest.raises(CurateError, match=r"c\.jsonl:3"):
        run(data, tiny_student, strict=True)


def test_a_tokenizer_that_loses_characters_is_found(tmp_path: Path, corpus: Path) -> None:
    from tokenizers import normalizers

    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    student = save_student(tmp_path / "lossy", llama(), tokenizer)
    result = run(corpus, student)
    assert result.statuses == {"lossy": 3, "ok": 1}


def test_the_response_is_measured_where_there_is_no_text(
    tmp_path: Path, tiny_student: Path
) -> None:
    rows: list[dict[str, Any]] = [{"instruction": "Say", "output": "four"}]
    chats: list[dict[str, Any]] = [{"messages": [{"role": "user", "content": "Say"},
                           {"role": "assistant", "content": "four"}]}]  # fmt: skip
    results = [run(write(tmp_path / f"{i}.jsonl", r), tiny_student)
               for i, r in enumerate((rows, chats))]  # fmt: skip
    assert results[0].total == results[1].total and results[0].total.characters == 4


def test_a_finished_file_is_taken_up_and_no_other_is_replaced(
    corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    first = run(corpus, tiny_student, out=out, by="kind")
    again = run(corpus, tiny_student, out=out, by="kind")
    assert again.already_done and not first.already_done
    assert (again.total, again.groups) == (first.total, first.groups)
    with pytest.raises(CurateError, match="choose another --out"):
        run(corpus, tiny_student, out=out, by="kind", stride=9)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"window": 300}, ["300", "256"]),
        ({"window": 20, "stride": 21}, ["20", "21"]),
        ({"window": 20, "by": "colour"}, ["colour", "kind"]),
        ({"text_column": "body"}, ["body", "text"]),
        ({"tokenization": "reference", "window": 256, "text_column": "id"}, ["257"]),
    ],
)
def test_what_does_not_go_together_is_said(
    corpus: Path, tiny_student: Path, options: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises((CurateError, UsageError)) as raised:
        run(corpus, tiny_student, **options)
    for word in named:
        assert word in str(raised.value)


def test_an_empty_corpus_is_an_error(tmp_path: Path, tiny_student: Path) -> None:
    with pytest.raises(CurateError, match="empty"):
        run(write(tmp_path / "none.jsonl", []), tiny_student)
    with pytest.raises(CurateError, match="2 empty"):
        run(write(tmp_path / "blank.jsonl", [{"text": ""}] * 2), tiny_student)


@pytest.mark.parametrize("tokenization", ["exact", "reference"])
def test_an_interrupted_measurement_goes_on_to_the_same_file(
    corpus: Path, tiny_student: Path, tmp_path: Path, tokenization: Any
) -> None:
    options = {"window": 40, "stride": 16, "tokenization": tokenization}
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    expected = run(corpus, tiny_student, out=whole, **options)
    identity = json.loads(pq.read_schema(whole).metadata[b"curate"])
    rows = pq.read_table(whole).to_pylist()

    def interrupted(skip: int) -> Iterator[Any]:
        yield from rows[skip:2]
        raise KeyboardInterrupt

    parts = rows_in_parts(out, identity, interrupted, part_rows=1)
    with pytest.raises(KeyboardInterrupt):
        list(parts)
    assert not out.exists()
    found = run(corpus, tiny_student, out=out, **options)
    assert found.total == expected.total
    assert pq.read_table(out).to_pylist() == rows
    assert [path.name for path in tmp_path.glob(".*")] == []
