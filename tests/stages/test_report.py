"""`curate report`: every number equals one recomputed from the files by plain code."""

import hashlib
import json
import math
import re
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest

from curate.pipeline.config import InputConfig, ScoringConfig, SelectConfig
from curate.pipeline.errors import CurateError
from curate.pipeline.reporting.numbers.contents import run_numbers, student_numbers
from curate.pipeline.reporting.numbers.reading import candidate_rows, read_student, student_keys
from curate.pipeline.runs.directory import RunDir
from curate.pipeline.stages.report import report
from curate.pipeline.stages.selection.stage import select

from ..reporting.reading_html import Page
from ..reporting.runs import HOSTILE, LONG_LINE, reflected, whole

Numbers = dict[str, float]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    return whole(tmp_path_factory.mktemp("reported"), tiny_student)


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return report(str(run)).out.read_text("utf-8")


# --- the numbers ----------------------------------------------------------------------------------


def parquet(folder: Path) -> Rows:
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def arrow(folder: Path) -> Rows:
    rows: Rows = datasets.load_from_disk(str(folder)).to_list()
    return rows


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def spread(key: str, values: list[float]) -> Numbers:
    found: Numbers = {f"{key}.count": len(values)}
    if values:
        shares = {"p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
        found |= {f"{key}.{name}": quantile(values, share) for name, share in shares.items()}
        found[f"{key}.mean"] = math.fsum(values) / len(values)
    return found


def length(row: dict[str, Any]) -> int:
    return len(row["instruction"]) + len(row["input"] or "")


def known(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


def of_the_run(run: Path) -> Iterator[tuple[str, float]]:
    candidates = parquet(run / "candidates")
    stage = RunDir.open(run).stage("reflect") or {}
    for (kind, status), n in Counter((c["candidate"], c["status"]) for c in candidates).items():
        yield f"status.{kind}.{status}", n
    reflections = [c for c in candidates if c["candidate"] != "original" and c["reason"]]
    for (status, reason), n in Counter((c["status"], c["reason"]) for c in reflections).items():
        yield f"reason.{status}.{reason}", n
    yield "teacher.prompt", stage["tokens"]["prompt"]
    yield "teacher.completion", stage["tokens"]["completion"]
    yield "teacher.cost", stage["cost_usd"]
    yield "teacher.seconds", stage["seconds"]
    yield "unused", len(json.loads((run / "rejected_input.json").read_text("utf-8")))


PASSED = ("kept", "contaminated", "below_top", "not_diverse")


def steps(run: Path, kept: Rows, dropped: Rows) -> dict[str, dict[str, int]]:
    """The flow's table, from the rows themselves."""
    rows = kept + dropped
    rules = {name: Counter(row["decision"][f"{name}_rule"] for row in rows)
             for name in ("instruction", "response", "filter")}  # fmt: skip
    passed = {code: n for code, n in rules["filter"].items() if code in PASSED}
    candidates = parquet(run / "candidates")
    records = len({c["id"] for c in candidates})
    found: dict[str, dict[str, int]] = {
        "input": {"records": records, "duplicates": 1, "rejected": 2},
        "versions": dict(Counter(f"{c['candidate']} {c['status']}" for c in candidates)),
        "instruction": dict(rules["instruction"]),
        "response": dict(rules["response"]),
        "filter": {"passed": sum(passed.values())}
        | {code: n for code, n in rules["filter"].items() if code not in passed},
        "result": {"selected": len(kept), "rejected": len(dropped)},
    }
    return found | ({"top": passed} if set(passed) - {"kept"} else {})


def of_a_student(run: Path, key: str) -> Iterator[tuple[str, float]]:
    kept, dropped = arrow(run / "selected" / key), arrow(run / "rejected" / key)
    entry = RunDir.open(run).stage(f"select/{key}") or {}
    yield "decided", len(kept) + len(dropped)
    yield "selected", len(kept)
    yield "rejected", len(dropped)
    yield "near_ties", sum(row["decision"]["near_tie"] for row in kept + dropped)
    yield "sequences", entry["counts"]["sequences"]
    yield "seconds", entry["seconds"]
    yield "throughput", entry["counts"]["sequences"] / entry["seconds"]
    for kind in ("original", "instruction", "response", "both"):
        yield f"version.{kind}", sum(row["candidate"] == kind for row in kept)
    for step, outcomes in steps(run, kept, dropped).items():
        total = sum(outcomes.values())
        yield f"flow.{step}.total", total
        for code, n in outcomes.items():
            yield f"flow.{step}.{code}", n
            yield f"flow.{step}.{code}.share", n / total
    for row in dropped:
        rule = row["decision"]["filter_rule"]
        reason = row["reason"] if rule.endswith("_unscored") else ""
        same = [r for r in dropped if r["decision"]["filter_rule"] == rule]
        yield (
            f"drop.{rule}.{reason}",
            sum(r["reason"] == reason for r in same) if reason else len(same),
        )


def of_scores(run: Path, key: str) -> Iterator[tuple[str, float]]:
    scores = parquet(run / "scores" / key)
    kept, dropped = arrow(run / "selected" / key), arrow(run / "rejected" / key)
    settings = (RunDir.open(run).stage(f"select/{key}") or {})["settings"]
    for side in ("ifd", "rifd"):
        limit = settings[f"max_{side}"]
        yield f"limit.{side}", limit
        groups = {
            "original": [s for s in scores if s["candidate"] == "original"],
            "reflected": [s for s in scores if s["candidate"] != "original"],
            "kept": kept,
            "dropped": dropped,
        }
        for group, rows in groups.items():
            values = known(rows, side)
            yield from spread(f"score.{side}.{group}", values).items()
            yield f"score.{side}.{group}.above", sum(value >= limit for value in values)
        asked = Counter((s["candidate"], s[f"{side}_status"]) for s in scores)
        for (kind, status), n in asked.items():
            if status:
                yield f"score_status.{side}.{kind}.{status}", n
        for (status, reason), n in Counter(
            (s[f"{side}_status"], s[f"{side}_reason"]) for s in scores if s[f"{side}_reason"]
        ).items():
            yield f"failure.{side}.{status}.{reason}", n
        if side == "ifd":
            yield from bits(run, scores, groups)
    originals = [c for c in parquet(run / "candidates") if c["candidate"] == "original"]
    for when, rows in (("before", originals), ("after", kept)):
        yield from spread(f"length.instruction.{when}", [length(row) for row in rows]).items()
        yield from spread(f"length.response.{when}", [len(row["output"]) for row in rows]).items()


def bits(run: Path, scores: Rows, groups: dict[str, Rows]) -> Iterator[tuple[str, float]]:
    """Of the responses that were scored whole."""
    texts = {(c["id"], c["candidate"]): c["output"] for c in parquet(run / "candidates")}
    whole = {(s["id"], s["candidate"]): s for s in scores if s["ifd_status"] == "ok"}
    for group, rows in groups.items():
        pairs = {(row["id"], row["candidate"]) for row in rows} & set(whole)
        if pairs:
            characters = sum(len(texts[pair]) for pair in pairs)
            yield f"bits.{group}.rows", len(pairs)
            for name, nll in (
                ("alone", "nll_response"),
                ("given", "nll_response_given_instruction"),
            ):
                nats = sum(whole[p][nll] * whole[p]["num_response_tokens"] for p in pairs)
                yield f"bits.{group}.{name}", nats / math.log(2) / characters


def distinct_2(rows: Rows) -> float:
    pairs = []
    for row in rows:
        words = f"{row['instruction']} {row['input'] or ''}".lower().split()
        pairs += [tuple(words[place : place + 2]) for place in range(len(words) - 1)]
    return len(set(pairs)) / len(pairs)


def of_baselines(run: Path, key: str) -> Iterator[tuple[str, float]]:
    scores = {(s["id"], s["candidate"]): s for s in parquet(run / "scores" / key)}
    folders = sorted((run / "baselines" / key).glob("*"))
    sets = {"selected": run / "selected" / key, **{f.name: f for f in folders}} if folders else {}
    if sets:
        yield "most_apart", 10
    for name, folder in sets.items():
        rows = arrow(folder)
        for row in rows:
            score = scores[row["id"], row["candidate"]]
            row |= {s: score[s] if row[s] is None else row[s] for s in ("ifd", "rifd")}
        yield f"set.{name}.rows", len(rows)
        yield f"set.{name}.instruction.mean", math.fsum(map(length, rows)) / len(rows)
        lengths = [float(len(row["output"])) for row in rows]
        yield f"set.{name}.response.mean", math.fsum(lengths) / len(rows)
        yield f"set.{name}.response.median", quantile(lengths, 0.5)
        if name != "selected":
            wanted = sorted(len(row["output"]) for row in arrow(sets["selected"]))
            apart = [abs(a - b) for a, b in zip(sorted(lengths), wanted, strict=True)]
            yield f"set.{name}.apart.share", sum(apart) / sum(wanted)
        both = [row for row in rows if row["ifd"] is not None and row["rifd"] is not None]
        yield f"set.{name}.scored", len(both)
        for side in ("ifd", "rifd") if both else ():
            yield f"set.{name}.{side}.mean", math.fsum(row[side] for row in both) / len(both)
        yield f"set.{name}.distinct_2", distinct_2(rows)


def of_what_was_made(run: Path) -> Iterator[tuple[str, float]]:
    about = json.loads((run / "model" / "training.json").read_text("utf-8"))["result"]
    assert about["held_out_after"] != about["held_out_before"]
    for name in ("rows", "steps", "seconds"):
        yield f"training.model.{name}", about[name]
    for name in ("before", "after"):
        yield f"training.model.{name}", about[f"held_out_{name}"]
    yield "training.model.first", about["train_loss"][0][1]
    yield "training.model.last", about["train_loss"][-1][1]
    pairs = arrow(run / "made" / "pairs")
    yield "pairs.made/pairs.pairs", len(pairs)
    yield "pairs.made/pairs.left_out", len(arrow(run / "made" / "pairs" / "left_out"))
    yield "pairs.made/pairs.near_ties", sum(row["near_tie"] for row in pairs)
    longer = [len(p["chosen"][-1]["content"]) > len(p["rejected"][-1]["content"]) for p in pairs]
    yield "pairs.made/pairs.longer.share", sum(longer) / len(pairs)


def combinations(run: Path, key: str) -> dict[tuple[Any, ...], Rows]:
    found: dict[tuple[Any, ...], Rows] = {}
    for name in ("selected", "rejected"):
        for row in arrow(run / name / key):
            d = row["decision"]
            rules = (d["instruction_rule"], d["response_rule"], d["filter_rule"])
            found.setdefault((name, *rules), []).append(row)
    return found


def of_examples(run: Path, key: str) -> Iterator[tuple[str, float]]:
    for rows in combinations(run, key).values():
        row = min(rows, key=lambda row: str(row["id"]))
        begin, decision = f"example.{row['id']}", row["decision"]
        yield f"{begin}.count", len(rows)
        values = {
            "ifd": row["ifd"],
            "rifd": row["rifd"],
            "instruction.old": decision["ifd_original"],
            "instruction.new": decision["ifd_instruction"],
            "response.old": decision["rifd_incumbent"],
            "response.new": decision["rifd_challenger"],
        }
        yield from ((f"{begin}.{name}", v) for name, v in values.items() if v is not None)


def expected(run: Path) -> Numbers:
    found = {**dict(of_the_run(run)), **dict(of_what_was_made(run))}
    folders = sorted((run / "selected").iterdir())
    first = {row["id"] for row in arrow(folders[0])}
    for folder in folders:
        key = folder.name
        found[f"{key}.shared"] = sum(row["id"] in first for row in arrow(folder))
        for part in (of_a_student, of_scores, of_baselines, of_examples):
            found |= {f"{key}.{name}": value for name, value in part(run, key)}
    return found


def test_every_number_is_one_recomputed_from_the_files(run: Path, html: str) -> None:
    numbers = [n for n in Page(html).numbers if not n.key.startswith("beyond.")]
    wanted = expected(run)
    assert {number.key for number in numbers} == set(wanted)
    for number in numbers:
        assert float(number.value) == pytest.approx(wanted[number.key], rel=1e-12), number
        shown = float(number.shown.replace(",", "").removesuffix(" %"))
        share = 100 if number.key.endswith(".share") else 1
        digits = len(number.shown.removesuffix(" %").partition(".")[2])
        assert abs(shown - share * wanted[number.key]) <= 0.5 * 10**-digits + 1e-9, number
    counts = [n for n in wanted.values() if n and not float(n).is_integer()]
    assert len(counts) > 50 and len(wanted) > 400


def test_no_number_in_a_table_is_unmarked(html: str) -> None:
    """A cell of figures holds nothing but a marked number; configuration and versions aside."""
    for cell in re.findall(r"<td>(.*?)</td>", html, re.S):
        bare = unescape(re.sub(r"<data .*?</data>|<code>.*?</code>|<[^>]*>", "", cell))
        assert not re.search(r"\d", bare), cell


def test_what_lies_outside_a_frame_is_counted(run: Path, html: str) -> None:
    numbers = {n.key: int(n.value) for n in Page(html).numbers if n.key.startswith("beyond.")}
    keys = sorted(path.name for path in (run / "selected").iterdir())
    checked = 0
    for place, key in enumerate(keys):
        scores = parquet(run / "scores" / key)
        settings = (RunDir.open(run).stage(f"select/{key}") or {})["settings"]
        rows = arrow(run / "selected" / key) + arrow(run / "rejected" / key)
        for side in ("ifd", "rifd"):
            values = known(scores, side)
            top = quantile(values + known(rows, side), 0.995)
            del top  # the histogram's frame is that of the candidates alone
            end = max(quantile(values, 0.995), 1.1 * settings[f"max_{side}"])
            end = math.ceil(10 * end) / 10
            assert numbers.get(f"beyond.s{place}-{side}", 0) == sum(value > end for value in values)
            checked += sum(value > end for value in values)
    assert checked


def test_the_flow_figure_shows_the_numbers_of_its_table(run: Path, html: str) -> None:
    shown = [text.strip() for text in Page(html).svg_texts]
    for key in student_keys(RunDir.open(run)):
        kept, dropped = arrow(run / "selected" / key), arrow(run / "rejected" / key)
        found = steps(run, kept, dropped)
        rules = Counter(row["decision"]["filter_rule"] for row in kept + dropped)
        for number in (*found["input"].values(), *found["result"].values(), *rules.values()):
            assert str(number) in shown, number
        for code, number in found["result"].items():
            assert f"{number}  {code}" in shown
    assert shown.count("41") == 2 and shown.count("41  input rows") == 2


# --- the texts ------------------------------------------------------------------------------------


def test_the_examples_are_whole_and_inert(run: Path, html: str) -> None:
    page = Page(html)
    key = sorted(path.name for path in (run / "selected").iterdir())[0]
    candidates = {(c["id"], c["candidate"]): c for c in parquet(run / "candidates")}
    wanted = []
    for rows in combinations(run, key).values():
        id = min(str(row["id"]) for row in rows)
        wanted.append(candidates[id, "original"])
    shown = _joined(html)
    for candidate in wanted:
        for name in ("instruction", "output"):
            assert candidate[name].replace("\0", "\u2400") in shown, candidate["id"]
    assert HOSTILE.replace("\0", "\u2400") in shown and LONG_LINE in shown
    assert "img" not in page.tags
    assert {tag for tag, name, _ in page.attributes if name.startswith("on")} == set()
    assert html.count("<style") == 1


def _joined(html: str) -> list[str]:
    """The texts, what was folded put back behind its beginning."""
    return ["".join(t) for t in _texts(Page(html).texts)]


def _texts(texts: list[str]) -> Iterator[list[str]]:
    for place, text in enumerate(texts):
        yield [text]
        if place + 1 < len(texts):
            yield [text, texts[place + 1]]


def scripts(html: str) -> list[tuple[str, str]]:
    """What stands between `<script` and `>`, and the text, as a parser finds them."""
    return re.findall(r"<script\b([^>]*)>(.*?)</script", html, re.S | re.I)


def test_the_only_script_is_the_one_that_the_policy_allows(run: Path, html: str) -> None:
    (own,) = [text for about, text in scripts(html) if not about]
    digest = b64encode(hashlib.sha256(own.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert f"script-src 'sha256-{digest}';" in policy and "unsafe" not in policy.split("script")[1]
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval|Function|fetch", own)
    data = [text for about, text in scripts(html) if about == ' type="application/jsonl"']
    assert len(data) == len(list((run / "selected").iterdir())) == len(scripts(html)) - 1
    assert "<" not in "".join(data)


def test_all_records_are_beside_the_page_and_in_it(run: Path, html: str) -> None:
    candidates = {(c["id"], c["candidate"]): c for c in parquet(run / "candidates")}
    data = [text for about, text in scripts(html) if about]
    for key, embedded in zip(student_keys(RunDir.open(run)), data, strict=True):
        lines = (run / f"report.{key}.jsonl").read_bytes().decode().split("\n")[:-1]
        found = [json.loads(line) for line in lines]
        assert [json.loads(line) for line in embedded.split("\n")[:-1]] == found
        rows = {row["id"]: row for n in ("selected", "rejected") for row in arrow(run / n / key)}
        assert [record["id"] for record in found] == list(dict.fromkeys(id for id, _ in candidates))
        for record in found:
            row, decision = rows[record["id"]], rows[record["id"]]["decision"]
            for name in ("candidate", "ifd", "rifd", "reason"):
                assert record.get(name) == row.get(name)
            for step in ("instruction", "response", "filter"):
                assert record[f"{step}_rule"] == decision[f"{step}_rule"]
            assert record["before"] == texts(candidates[record["id"], "original"])
            changed = row["candidate"] != "original"
            assert record.get("after") == (texts(row) if changed else None)


def texts(row: dict[str, Any]) -> dict[str, str]:
    return {name: row[name] for name in ("instruction", "input", "output") if row[name]}


def test_what_to_filter_by_is_what_there_is(run: Path, html: str) -> None:
    wanted = Counter[str]()
    for key in student_keys(RunDir.open(run)):
        rows = arrow(run / "selected" / key) + arrow(run / "rejected" / key)
        wanted.update({row["candidate"] for row in rows})
        for step in ("instruction", "response", "filter"):
            wanted.update({row["decision"][f"{step}_rule"] for row in rows})
    assert Counter(v for tag, name, v in Page(html).attributes if tag == "option" and v) == wanted


def test_nothing_is_fetched(run: Path, html: str) -> None:
    page = Page(html)
    links = [v for _, name, v in page.attributes if name in ("href", "src", "xlink:href", "action")]
    beside = {f"report.{path.name}.jsonl" for path in (run / "selected").iterdir()}
    assert {link for link in links if not link.startswith("#")} == beside
    assert "default-src 'none'" in html and "@import" not in html
    assert "\0" not in html and "url(http" not in html
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = {
        v for _, name, value in page.attributes if name == "aria-labelledby" for v in value.split()
    }
    assert named <= set(ids)
    assert page.tags.count("svg") == page.tags.count("desc") == page.tags.count("title") - 1


def test_the_same_run_gives_the_same_page(run: Path, html: str, tmp_path: Path) -> None:
    again = report(str(run), out=tmp_path / "deep" / "again.html")
    assert again.out.read_text("utf-8").replace("again.", "report.") == html
    keys = sorted(path.name for path in (run / "selected").iterdir())
    beside = [f"again.{key}.jsonl" for key in keys]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["again.html", *beside]


# --- students and unfinished runs -----------------------------------------------------------------


def test_one_student_of_several(run: Path, tmp_path: Path) -> None:
    about = RunDir.open(run)
    both = sorted(path.name for path in (run / "selected").iterdir())
    one = report(str(run), out=tmp_path / "one.html", selections=[both[1]])
    assert one.students == [both[1]] and both[0] not in one.out.read_text("utf-8")
    assert student_keys(about) == both
    assert student_keys(about, [both[0][:7]]) == [both[0]]
    with pytest.raises(CurateError, match="stands for several .*" + both[1]):
        report(str(run), selections=["tiny"])
    with pytest.raises(CurateError, match="--selection 'other' is none of .*" + both[0]):
        report(str(run), selections=["other"])


def test_selections_of_one_student_stand_side_by_side(tmp_path: Path, tiny_student: Path) -> None:
    run = reflected(tmp_path)
    scoring = ScoringConfig(student=str(tiny_student), device="cpu")
    made = [
        select(SelectConfig(input=InputConfig(data=str(run)), scoring=scoring, **settings))
        for settings in ({"max_ifd": 9.0}, {"name": "strict", "max_ifd": 1.0})
    ]
    both = [one.selection for one in made]
    assert student_keys(RunDir.open(run)) == both == [both[0], f"{both[0]}~strict"]
    text = report(str(run), selections=["strict", both[0]]).out.read_text("utf-8")
    told = {number.key: float(number.value) for number in Page(text).numbers}
    ids = [set(datasets.load_from_disk(str(one.selected))["id"]) for one in made]
    assert 0 < len(ids[1]) < len(ids[0])
    for key, own in zip(both, ids, strict=True):
        assert told[f"{key}.selected"] == len(own)
        assert told[f"{key}.shared"] == len(own & ids[1])
    assert told[f"{both[1]}.limit.ifd"] == 1.0


@pytest.mark.parametrize("cost", ["unknown", "not sold by the token"])
def test_a_cost_that_is_not_known_is_no_number(tmp_path: Path, cost: str) -> None:
    run = RunDir.open(reflected(tmp_path))
    stage = run.stage("reflect") or {}
    assert (stage["cost_usd"], stage["cost"]) == (None, "not sold by the token")
    run.finish_stage("reflect", {**stage, "cost": cost})
    text = report(str(run.path)).out.read_text("utf-8")
    assert f"<dt>cost</dt><dd>{cost}</dd>" in text
    assert "teacher.cost" not in {number.key for number in Page(text).numbers}


def test_a_run_in_which_nothing_has_happened(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", {"command": "reflect", "teacher": "t<b>"}, data="d.jsonl")
    made = report(str(tmp_path / "run"))
    assert "No shard of candidates is finished yet" in made.notices[0]
    assert "t&lt;b&gt;" in made.out.read_text("utf-8")


def test_reflection_that_has_not_finished(tmp_path: Path) -> None:
    run = reflected(tmp_path)
    RunDir.open(run).forget_stage("reflect")
    made = report(str(run))
    assert made.notices == [
        "Not all records have their versions yet. What follows is of the 38 records in finished "
        "shards; curate reflect goes on where it stopped.",
        "No student has selected yet.",
    ]
    text = made.out.read_text("utf-8")
    assert "38 records in finished shards" in text and "run curate select" in text
    numbers = {number.key: int(number.value) for number in Page(text).numbers}
    assert numbers["status.both.failed"] == 5 and numbers["records"] == 38


def notices(run: Path) -> list[str]:
    """What the report says of a run's one student, without drawing it."""
    about = RunDir.open(run)
    candidates = candidate_rows(about)
    numbers = run_numbers(about, candidates)
    (key,) = student_keys(about)
    student = read_student(about, key)
    return student_numbers(about, candidates, numbers, student).notices


def test_a_selection_that_is_not_there_or_not_of_these_candidates(
    tmp_path: Path, tiny_student: Path
) -> None:
    run = reflected(tmp_path)
    scoring = ScoringConfig(student=str(tiny_student), device="cpu")
    select(SelectConfig(input=InputConfig(data=str(run)), scoring=scoring))
    about = RunDir.open(run)
    (key,) = student_keys(about)
    rows = about.read_shard(about.shard_path(0))
    about.write_shard(0, rows[: 4 * 30])
    assert "The candidates have changed" in notices(run)[0]
    about.write_shard(0, rows)
    assert notices(run) == []
    about.forget_stage(f"select/{key}")
    assert "was not finished" in notices(run)[0]
    (run / "decisions" / key).rename(tmp_path / "away")
    made = report(str(run))
    assert "nothing has been selected yet" in made.notices[0] and made.students == [key]
    assert Page(made.out.read_text("utf-8")).numbers


# --- bad input ------------------------------------------------------------------------------------


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="no such run directory"):
        report(str(tmp_path / "none"))
    with pytest.raises(CurateError, match="no run of curate"):
        report(str(tmp_path))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", {"command": "reflect"}).path
    (tmp_path / "file").write_text("mine", "utf-8")
    with pytest.raises(CurateError, match=r"cannot write .*file"):
        report(str(run), out=tmp_path / "file" / "report.html")
    with pytest.raises(CurateError, match="is a folder"):
        report(str(run), out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]
    assert [path.name for path in run.iterdir()] == ["config.json"]


@pytest.mark.parametrize("place", ["candidates/part-00000.parquet", "scores/*/part-00000.parquet",
                                   "selected/*/*.arrow", "rejected_input.json"])  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, run: Path, place: str) -> None:
    mine = Path(shutil.copytree(run, tmp_path / "mine"))
    damaged = sorted(mine.glob(place))[0]
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(CurateError) as refused:
        report(str(mine))
    assert str(damaged.parent.name) in str(refused.value) and "\n" not in str(refused.value)
