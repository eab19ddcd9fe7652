"""The report in a real browser: nothing foreign runs, nothing is fetched, nothing overflows."""

import json
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from curate.pipeline.stages.report import report

from ..reporting.runs import HOSTILE, LONG_LINE, selected
from ..training.data import scoring_with, select_from, write_jsonl

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# A page of the same origin looks into the report, which runs its own script alone.
LOOK = """<!doctype html><body style="margin:0">
<iframe src="report.html" width="{width}" height="900" style="border:0"></iframe>
<pre id="seen"></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  for (const fold of page.querySelectorAll("details")) fold.open = true;
  const wide = [...page.querySelectorAll("main *")].filter(e => !e.closest(".scroll, pre, svg")
    && e.getBoundingClientRect().right > root.clientWidth + 1).map(e => e.outerHTML.slice(0, 200));
  const shown = selector => page.querySelector(selector).getClientRects().length > 0;
  document.getElementById("seen").textContent = JSON.stringify({
    hacked: frame.contentWindow.hacked ?? null, title: page.title,
    foreign: [...page.querySelectorAll("script, img, iframe, object, embed, link")]
      .filter(e => e.parentElement !== page.body && e.type !== "application/jsonl").length,
    width: root.clientWidth, scroll: root.scrollWidth, wide,
    flows: [shown(".flow.wide"), shown(".flow.narrow")],
    paper: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    texts: [...page.querySelectorAll(".text")].map(e => e.textContent)});
};
</script>"""


class Site(SimpleHTTPRequestHandler):
    """Serves a folder and remembers what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path) -> Path:
    folder = tmp_path_factory.mktemp("site")
    run = selected(tmp_path_factory.mktemp("seen"), tiny_student)
    report(str(run), out=folder / "report.html")
    return folder


@pytest.fixture
def site(folder: Path) -> Iterator[tuple[str, list[str]]]:
    with served(folder) as mine:
        yield mine


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a folder, and what was asked for there."""

    class Mine(Site):
        asked: list[str] = []  # noqa: RUF012

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Mine, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Mine.asked
        server.shutdown()
        thread.join()


def browse(profile: Path, url: str, *more: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", f"--user-data-dir={profile}",
               "--virtual-time-budget=4000", "--window-size=1500,1000", *more, url]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def look(folder: Path, url: str, profile: Path, width: int, *more: str) -> dict[str, Any]:
    (folder / "look.html").write_text(LOOK.replace("{width}", str(width)), "utf-8")
    dom = browse(profile, f"{url}/look.html", "--dump-dom", *more)
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.S)
    assert found and found[1], dom[:500]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    return seen


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_runs_is_fetched_or_overflows(
    folder: Path, site: tuple[str, list[str]], tmp_path: Path, width: int
) -> None:
    url, asked = site
    seen = look(folder, url, tmp_path, width)
    assert (seen["hacked"], seen["foreign"]) == (None, 0)
    assert seen["title"] == "run <b> & co: what was kept, and why"
    assert seen["width"] <= width and seen["scroll"] == seen["width"], seen["wide"]
    assert seen["wide"] == []
    assert seen["flows"] == [width > 832, width <= 832]
    assert set(asked) <= {"/look.html", "/report.html", "/favicon.ico"}
    joined = ["".join(pair) for pair in zip(seen["texts"], seen["texts"][1:], strict=False)]
    assert HOSTILE.replace("\0", "\u2400") in seen["texts"] + joined
    assert LONG_LINE in seen["texts"] + joined


def test_escaping_alone_is_enough(
    folder: Path, site: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Without the policy that forbids scripts there are none either."""
    url, asked = site
    guarded = (folder / "report.html").read_text("utf-8")
    bare = re.sub(r"<meta http-equiv[^>]*>", "", guarded)
    assert bare != guarded
    try:
        (folder / "report.html").write_text(bare, "utf-8")
        seen = look(folder, url, tmp_path, 400)
    finally:
        (folder / "report.html").write_text(guarded, "utf-8")
    assert (seen["hacked"], seen["foreign"]) == (None, 0) and "/leak.png" not in asked


# Searches, filters and opens all that is found, as the questions of the page's address say.
SEARCH = """<!doctype html><iframe src="report.html"></iframe><pre id="seen"></pre><script>
const frame = document.querySelector("iframe"), given = new URLSearchParams(location.search);
// Requests, unlike timers, take real time of a browser whose time is virtual.
const until = async done => { while (!done()) await fetch(location.pathname); };
frame.onload = async () => {
  const page = frame.contentDocument, root = page.querySelector(".records");
  const find = selector => root.querySelector(selector);
  const before = find("[role=search]").hidden;
  if (find("[type=file]")) {
    const files = new DataTransfer(), text = await (await fetch(find("a").href)).text();
    files.items.add(new File([given.get("broken") ?? text], "records.jsonl"));
    find("[type=file]").files = files.files;
    find("[type=file]").dispatchEvent(new Event("change"));
  }
  await until(() => find("output").textContent);
  find("[type=search]").value = given.get("text") ?? "";
  for (const rule of root.querySelectorAll("select")) rule.value = given.get(rule.name) ?? "";
  find("select").dispatchEvent(new Event("change"));
  while (!find("button").hidden) find("button").click();
  const folds = [...root.querySelectorAll("details")];
  for (const fold of folds) fold.open = true;
  await until(() => folds.every(fold => fold.querySelector(".pair")));
  const all = selector => [...root.querySelectorAll(selector)].map(e => e.textContent);
  document.getElementById("seen").textContent = JSON.stringify({
    hacked: frame.contentWindow.hacked ?? null, before, number: all("output")[0],
    texts: all(".text"), commands: all(".copy"), badges: all(".badge"),
    boxes: [...new Set([...root.querySelectorAll(".unseen")].map(e => e.title))],
    tags: [...new Set([...root.querySelectorAll(".found *")].map(e => e.localName))].sort()});
};
</script>"""
FOUND_TAGS = ["bdi", "code", "details", "div", "h4", "h5", "p", "span", "summary"]


def search(folder: Path, url: str, profile: Path, **wanted: str) -> dict[str, Any]:
    (folder / "search.html").write_text(SEARCH, "utf-8")
    dom = browse(profile, f"{url}/search.html?{urlencode(wanted)}", "--dump-dom")
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.S)
    assert found and found[1], dom[:500]
    seen: dict[str, Any] = json.loads(unescape(found[1]))
    assert seen["hacked"] is None and set(seen["tags"]) <= set(FOUND_TAGS)
    return seen


def lines(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("report.*.jsonl")
    return [json.loads(line) for line in path.read_bytes().decode().split("\n") if line]


def texts_of(records: list[dict[str, Any]]) -> list[str]:
    shown = [r.get(side, {}).values() for r in records for side in ("before", "after")]
    return [text.replace("\0", "\u2400") for values in shown for text in values]


def test_records_are_searched_filtered_and_read(
    folder: Path, site: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, _ = site
    records = lines(folder)
    seen = search(folder, url, tmp_path)
    assert (seen["before"], seen["number"]) == (False, f"{len(records)} of {len(records)} records")
    assert [c.split("'")[-2] for c in seen["commands"]] == [record["id"] for record in records]
    assert seen["texts"] == texts_of(records)
    assert {"U+0000", "U+202E", "U+FEFF"} <= set(seen["boxes"])
    rule = records[-1]["instruction_rule"]
    some = search(folder, url, tmp_path, text="STONE", instruction_rule=rule)
    wanted = [r for r in records if r["instruction_rule"] == rule and "stone" in json.dumps(r)]
    assert 0 < len(wanted) < len(records)
    assert some["number"] == f"{len(wanted)} of {len(records)} records"


def test_many_records_are_read_from_the_file_beside(tmp_path: Path, tiny_student: Path) -> None:
    hostile = [
        *("</script><script>window.hacked=1</script>", "<!--<script>", "a\u2028b\u2029c", HOSTILE),
        *("\u202e\u2067" * 500, "long " * 210_000),
    ]
    rows = [
        {
            "id": f"{place}'$(x)`<b>\u202e",
            "candidate": kind,
            "instruction": text,
            "output": text + kind,
        }
        for place, text in enumerate(hostile)
        for kind in ("original", "response")
    ]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    made = select_from(data, tmp_path / "run", scoring_with(tiny_student))
    report(str(made.run), out=tmp_path / "report.html")
    assert "application/jsonl" not in (tmp_path / "report.html").read_text("utf-8")
    records = lines(tmp_path)
    assert [record["before"]["instruction"] for record in records] == hostile
    with served(tmp_path) as (url, _):
        seen = search(tmp_path, url, tmp_path / "profile")
        refused = search(tmp_path, url, tmp_path / "profile", broken="no record")
    assert seen["before"] and seen["number"] == f"{len(hostile)} of {len(hostile)} records"
    assert seen["texts"] == texts_of(records)
    quoted = [shlex.split(command)[-1] for command in seen["commands"]]
    assert quoted == [record["id"] for record in records]
    assert "cannot be read" in refused["number"] and not refused["texts"]


def test_it_prints(folder: Path, tmp_path: Path) -> None:
    browse(tmp_path / "profile", f"file://{folder}/report.html",
           f"--print-to-pdf={tmp_path}/report.pdf", "--no-pdf-header-footer")  # fmt: skip
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
