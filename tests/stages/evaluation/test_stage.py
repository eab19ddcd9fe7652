"""`curate evaluate`: a task of local files, against log-likelihoods worked out by hand."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.pipeline.base.checksums import read_checked, with_checksum
from curate.pipeline.config import EvaluateConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.stages.evaluation.benchmark import refuse_unknown
from curate.pipeline.stages.evaluation.stage import difference, evaluate, in_words

from ...scoring.tiny import llama, save_student

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-eval is not installed: pip install 'curate-reflection[eval]'",
)
pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = [
    {"question": f"Animal {number}?", "choices": [" can fly", " cannot", " list"],
     "answer": number % 3}
    for number in range(12)
]  # fmt: skip
TASK = """
task: flying
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""

FAR = """
task: far
dataset_path: nobody/nothing
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = folder / "flying.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    (folder / "flying.yaml").write_text(TASK.format(data=data), "utf-8")
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second model, of other weights."""
    model = llama(num_hidden_layers=1)
    return save_student(tmp_path_factory.mktemp("models") / "other", model)


def config(tasks: Path, model: Path | str, **more: Any) -> EvaluateConfig:
    given = {"tasks": ("flying",), "include_path": tasks, "device": "cpu", **more}
    return EvaluateConfig(model=str(model), **given)


def right(folder: Path, rows: list[dict[str, Any]]) -> list[bool]:
    """Whether the choice of the highest log-likelihood is the answer, one row at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def log_likelihood(question: str, choice: str) -> float:
        context = tokenizer(question)["input_ids"]
        ids = torch.tensor([tokenizer(question + choice)["input_ids"]])
        with torch.inference_mode():
            log_probs = model(ids).logits[0].double().log_softmax(-1)
        places = range(len(context), ids.shape[1])
        return float(sum(log_probs[place - 1, ids[0, place]] for place in places))

    best = [
        max(range(3), key=lambda n, row=row: log_likelihood(row["question"], row["choices"][n]))  # type: ignore[misc]
        for row in rows
    ]
    return [choice == row["answer"] for choice, row in zip(best, rows, strict=True)]


@needs_lm_eval
def test_a_task_of_local_files_beside_the_base_model(
    tmp_path: Path, tasks: Path, tiny_student: Path, other: Path
) -> None:
    out = tmp_path / "measured.json"
    found = evaluate(config(tasks, tiny_student, base=str(other), out=out)).as_dict()
    mine, base = right(tiny_student, ROWS), right(other, ROWS)
    cell = found["results"]["flying"]["acc"]
    n = len(ROWS)
    assert cell["value"] == pytest.approx(sum(mine) / n)
    assert cell["base_value"] == pytest.approx(sum(base) / n)
    p = sum(mine) / n
    assert cell["stderr"] == pytest.approx((p * (1 - p) / (n - 1)) ** 0.5)
    assert cell["difference"] == pytest.approx((sum(mine) - sum(base)) / n)
    assert found["samples"] == {"flying": n} and found["base"] == "other"
    assert json.loads(out.read_text("utf-8")) == found


@needs_lm_eval
def test_a_finished_task_is_not_measured_again(
    tmp_path: Path, tasks: Path, tiny_student: Path, other: Path
) -> None:
    out = tmp_path / "measured.json"
    first = evaluate(config(tasks, tiny_student, out=out, limit=4))
    assert first.as_dict()["samples"] == {"flying": 4}
    mine = right(tiny_student, ROWS[:4])
    assert first.as_dict()["results"]["flying"]["acc"]["value"] == pytest.approx(sum(mine) / 4)
    (kept,) = (tmp_path / "measured.json.run").glob("0-*.json")
    noted = read_checked(kept)
    assert noted is not None
    noted["metrics"]["flying"]["acc"]["value"] = 0.125
    kept.write_text(json.dumps(with_checksum(noted)), "utf-8")
    again = evaluate(config(tasks, tiny_student, out=out, limit=4)).as_dict()
    assert again["results"]["flying"]["acc"]["value"] == 0.125
    with pytest.raises(CurateError, match="made with models ="):
        evaluate(config(tasks, other, out=out, limit=4))
    with pytest.raises(CurateError, match="made with limit = 4"):
        evaluate(config(tasks, tiny_student, out=out))
    (tasks / "flying.jsonl").write_text(json.dumps(ROWS[0]) + "\n", "utf-8")
    with pytest.raises(CurateError, match="made with include ="):
        evaluate(config(tasks, tiny_student, out=out, limit=4))


@needs_lm_eval
def test_the_table(tasks: Path, tiny_student: Path, other: Path) -> None:
    header, row, note = in_words(evaluate(config(tasks, tiny_student, base=str(other))))
    assert header.split() == ["task", "metric", "tiny", "other", "difference"]
    assert row.startswith("flying  acc") and row.count("±") == 3 and "standard error" in note
    header, row, _ = in_words(evaluate(config(tasks, tiny_student)))
    assert header.split() == ["task", "metric", "tiny"] and row.count("±") == 1


GROUPS = {
    "animals": """
group: animals
task: [flying, swimming]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
""",
    "apart": """
group: apart
task: [flying, swimming]
""",
}


@needs_lm_eval
def test_a_group_is_one_row_or_its_members(tasks: Path, tiny_student: Path, other: Path) -> None:
    """As mmlu with its mean over all samples; a group that has no mean is shown by its members."""
    data = tasks / "swimming.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:5]), "utf-8")
    swimming = TASK.format(data=data).replace("task: flying", "task: swimming")
    (tasks / "swimming.yaml").write_text(swimming, "utf-8")
    for name, text in GROUPS.items():
        (tasks / f"{name}.yaml").write_text(text, "utf-8")
    given = config(tasks, tiny_student, base=str(other))
    found = evaluate(replace(given, tasks=tuple(GROUPS)))
    mine = right(tiny_student, ROWS) + right(tiny_student, ROWS[:5])
    results = found.as_dict()["results"]
    assert results["animals"]["acc"]["value"] == pytest.approx(sum(mine) / 17)
    assert results["swimming"]["acc"]["value"] == pytest.approx(sum(mine[12:]) / 5)
    assert found.as_dict()["samples"] == {"animals": 17, "apart": 17}
    names = [line.split()[0] for line in in_words(found)]
    assert names == ["task", "animals", "flying", "swimming", "±"]


@needs_lm_eval
def test_bad_input_is_one_sentence(tmp_path: Path, tasks: Path, tiny_student: Path) -> None:
    out = tmp_path / "out.json"

    def told(made: EvaluateConfig) -> str:
        with pytest.raises(CurateError) as problem:
            evaluate(made)
        assert not out.exists() and not out.with_name("out.json.run").exists()
        return str(problem.value)

    assert "no such model folder: ./nobody" in told(config(tasks, "./nobody", out=out))
    assert "no such model folder: ./base" in told(config(tasks, tiny_student, base="./base"))
    assert "nowhere is no folder" in told(config(tmp_path / "nowhere", tiny_student, out=out))
    (tasks / "flying.jsonl").unlink()
    given = config(tasks, tiny_student, out=out)
    assert "the task 'flying' cannot be run: " in told(given)
    (tasks / "far.yaml").write_text(FAR, "utf-8")
    far = told(replace(given, tasks=("far",)))
    assert "the task 'far' cannot be run: " in far and "no hub can be reached from here" in far


def test_an_unknown_task_is_named_with_the_nearest() -> None:
    known = ["arc_challenge", "arc_easy", "hellaswag"]
    refuse_unknown(["hellaswag", "arc_easy"], known)
    with pytest.raises(CurateError, match=r"no task 'hellaswagg'; near ones are hellaswag$"):
        refuse_unknown(["arc_easy", "hellaswagg"], known)
    with pytest.raises(CurateError, match=r"no task 'x'$"):
        refuse_unknown(["x"], known)


def test_without_lm_eval_the_sentence_says_how_to_install_it(
    tasks: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(CurateError, match=r'^evaluate needs lm-eval: pip install "curate-refl'):
        evaluate(config(tasks, tiny_student))


def test_a_difference_without_an_error_has_none() -> None:
    one, two = {"value": 0.5, "stderr": None}, {"value": 0.25, "stderr": 0.1}
    assert difference(one, two) == {"difference": 0.25, "difference_stderr": None}
    missing = {"value": "N/A", "stderr": None}
    assert difference(missing, two) == {"difference": None, "difference_stderr": None}
