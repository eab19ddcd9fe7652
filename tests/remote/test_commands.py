"""The command line with URLs: a run in a store is the run that it would be here, whatever happens.

Stores: fsspec's memory in this process; one over a folder that knows no append, rename or link; and
S3, served by moto where s3fs and moto are installed.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.cli import app
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.readers import open_source
from curate.pipeline.inputs.remote.urls import store_of
from curate.pipeline.remote import pushing
from curate.pipeline.runs.directory import RunDir

from ..llm.faulty_server import Answer, FaultyServer, Received, completion
from ..llm.records_asked import MODEL, journaled, key_of, naming, records, written
from ..stages.reflection.test_stage import Server
from . import dirstore
from .test_mirror import eventually, files

ROWS = [
    {"id": "first", "instruction": "Say one.", "output": "One."},
    {"id": "second", "instruction": "Say two.", "output": "Two."},
]
REPLIES = [
    {"id": row["id"], "candidate": kind, "reply": text}
    for row in ROWS
    for kind, text in (
        ("instruction", "[New Instruction] Count to two. [End] [New Answer] 1, 2. [End]"),
        ("response", "[Better Answer] It is said: one. [End]"),
        ("both", "[Better Answer] 1 and 2. [End]"),
    )
]


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Curate = Callable[..., Ended]


@pytest.fixture
def curate(capfd: pytest.CaptureFixture[str]) -> Iterator[Curate]:
    """Runs a command line in this process."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*words: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words])
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with data and replies to work in, a cache and a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DIRSTORE", str(tmp_path / "store"))
    monkeypatch.setattr("curate.pipeline.remote.lease._SETTLES", 0)
    monkeypatch.setattr(pushing, "RETRIES", (0.01,))
    (tmp_path / "store").mkdir()
    written(tmp_path / "ok.jsonl", ROWS)
    written(tmp_path / "replies.jsonl", REPLIES)
    yield tmp_path
    memory = store_of("memory://").fs
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


RECORDED = ("--replies", "replies.jsonl")


def content(run: Path) -> dict[str, Any]:
    """What a run holds, without times and ids: its tables, and what the manifest counts."""
    tables = {
        path.relative_to(run).as_posix(): pq.read_table(path).to_pylist()
        for path in sorted(run.rglob("*.parquet"))
    }
    for path in sorted(run.rglob("*.arrow")):
        tables[path.relative_to(run).as_posix()] = pa.ipc.open_stream(path).read_all().to_pylist()
    stages = RunDir.open(run).manifest["stages"]
    entries = {s: {k: v for k, v in e.items() if k != "seconds"} for s, e in stages.items()}
    return {"tables": tables, "stages": entries, "identity": RunDir.open(run).config["identity"]}


def copied(url: str, folder: Path) -> Path:
    """All objects of a store's folder as files."""
    store = store_of(url)
    store.fs.invalidate_cache()
    for path in store.fs.find(store.root):
        place = folder / path.removeprefix(f"{store.root}/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(store.fs.cat_file(path))
    return folder


# --- the whole job --------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["memory://bucket/run", "dirstore://bucket/run"])
def test_a_run_in_a_store_is_the_run_it_would_be_here(
    run: str,
    curate: Curate,
    tiny_student: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    student = ("--student", tiny_student, "--device", "cpu")
    done = curate("reflect", "ok.jsonl", "--out", run, *RECORDED)
    assert done.code == 0 and f"into {run}: 6 replies asked for" in done.out
    done = curate("select", run, *student)
    assert done.code == 0 and f"records: {run}/selected/tiny-" in done.out
    done = curate("status", run)
    assert done.code == 0 and done.out.startswith(f"{run}: from ok.jsonl")
    assert "reflect  finished  2 of 2 records" in done.out
    assert "select/tiny-" in done.out and "were made after it" not in done.out
    assert json.loads(curate("status", run, "--json").out)["run"] == run
    done = curate("report", run)
    assert done.code == 0 and f"{run}/report.html" in done.out
    done = curate("explain", run, "first")
    assert done.code == 0 and "Count to two" in done.out
    said = done.out + done.err
    assert str(place / "cache") not in said
    curate("reflect", "ok.jsonl", "--out", "here", *RECORDED)
    curate("select", "here", *student)
    there = copied(run, place / "copy")
    assert content(there) == content(place / "here")
    names = {name for name in files(there) if not name.startswith("journal/")}
    assert names == {*files_of_run(place / "here"), "report.html"}
    assert "<html" in (there / "report.html").read_text("utf-8")
    # Elsewhere: a machine that has nothing yet.
    monkeypatch.setenv("CURATE_CACHE", str(place / "elsewhere"))
    again = curate("select", run, *student, "--max-ifd", "0.5")
    assert again.code == 0
    assert json.loads(curate("status", run, "--json").out)["stages"][1]["state"] == "finished"
    again = curate("reflect", "ok.jsonl", "--out", run, *RECORDED)
    assert "0 replies asked for" in again.out


def files_of_run(run: Path) -> set[str]:
    names = (path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    return {name for name in names if "/." not in f"/{name}" and not name.startswith("journal/")}


def test_file_urls_are_local_paths(curate: Curate, place: Path) -> None:
    run = f"file://{place}/x/run"
    data = f"file://{place}/ok.jsonl"
    done = curate("reflect", data, "--out", run, "--replies", f"file://{place}/replies.jsonl")
    assert done.code == 0 and f"into {place}/x/run" in done.out
    assert (place / "x" / "run" / "manifest.json").exists()
    assert not (place / "cache").exists()
    assert curate("status", run).code == 0


def test_all_in_one_go_and_what_comes_of_it(
    curate: Curate, tiny_student: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, student = "memory://b/run", ("--student", tiny_student, "--device", "cpu")
    done = curate(
        "run", "ok.jsonl", "--out", run, *student, *RECORDED, "--no-finetune", "--max-ifd", "99",
        "--max-rifd", "99",
    )  # fmt: skip
    assert done.code == 0, done.err
    done = curate("export", run, "--to", "jsonl", "--out", "memory://b/exported")
    assert done.code == 0 and "memory://b/exported" in done.out
    rows = copied("memory://b/exported", place / "exported") / "data.jsonl"
    assert len(rows.read_text().splitlines()) == 2
    done = curate("score", run, *student, "--out", "memory://b/scores.parquet")
    assert done.code == 0 and "scored 8 rows: memory://b/scores.parquet" in done.out
    assert (
        "already scored" in curate("score", run, *student, "--out", "memory://b/scores.parquet").out
    )
    done = curate("report", run, "--out", "memory://b/page.html")
    assert done.code == 0 and "memory://b/page.html" in done.out
    names = set(store_of("memory://").fs.find("/b", maxdepth=1))
    assert names == {"/b/scores.parquet", "/b/page.html"}
    done = curate("finetune", run, "--model", tiny_student, "--preset", "demo", "--max-steps", 1,
                  "--device", "cpu", "--out", "memory://b/model")  # fmt: skip
    assert done.code == 0 and "memory://b/model" in done.out, done.err
    assert {"model.safetensors", "training.json"} <= files_named("memory://b/model")
    monkeypatch.setenv("CURATE_CACHE", str(place / "elsewhere"))
    done = curate("finetune", run, "--model", tiny_student, "--preset", "demo", "--max-steps", 1,
                  "--device", "cpu", "--out", "memory://b/model")  # fmt: skip
    assert "already trained" in done.out


def files_named(url: str) -> set[str]:
    store = store_of(url)
    return {path.removeprefix(f"{store.root}/") for path in store.fs.find(store.root)}


# --- data -----------------------------------------------------------------------------------------


def test_data_at_a_url_is_the_same_input_as_its_copy_here(curate: Curate, place: Path) -> None:
    fs = store_of("memory://").fs
    fs.pipe_file("/d/ok.jsonl", (place / "ok.jsonl").read_bytes())
    assert curate("reflect", "memory://d/ok.jsonl", "--out", "a", *RECORDED).code == 0
    assert "0 replies asked for" in curate("reflect", "ok.jsonl", "--out", "a", *RECORDED).out
    config = RunDir.open("a").config
    assert config["data"] == "memory://d/ok.jsonl"
    assert open_source("memory://d/ok.jsonl").fingerprint == open_source("ok.jsonl").fingerprint
    assert "memory://d/ok.jsonl" in curate("status", "a").out
    fs.pipe_file("/d/ok.jsonl", b'{"instruction": "New?", "output": "Yes."}\n')
    done = curate("reflect", "memory://d/ok.jsonl", "--out", "a", *RECORDED)
    assert done.code == 1 and "a was made with the input" in done.err


def test_folders_at_a_url(place: Path) -> None:
    import datasets

    fs = store_of("memory://").fs
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), "one.parquet")
    for name in ("1.parquet", ".2.parquet", "3.txt", "sub/4.parquet"):
        fs.pipe_file(f"/d/set/{name}", (place / "one.parquet").read_bytes())
    assert [row.place for row in open_source("memory://d/set").rows()] == ["1.parquet:1"]
    datasets.disable_progress_bars()
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    saved.save_to_disk(str(place / "saved"))
    for path in (place / "saved").rglob("*"):
        if path.is_file():
            fs.pipe_file(f"/d/saved/{path.relative_to(place / 'saved')}", path.read_bytes())
    for url, here in (("memory://d/saved", "saved"), ("memory://d/saved/train", "saved/train")):
        assert open_source(url).fingerprint == open_source(here).fingerprint
        assert len(list(open_source(url).rows())) == 2


@pytest.mark.parametrize("name", ["../../../mine.jsonl", "a/../../../../mine.jsonl", "/mine.jsonl"])
@pytest.mark.parametrize("saved", [False, True])
def test_a_listing_cannot_name_what_is_outside(place: Path, name: str, saved: bool) -> None:
    store = place / "store"
    (store / "set").mkdir()
    written(store / "set" / "a.jsonl", ROWS)
    if saved:
        (store / "set" / "state.json").write_text("{}")
    (store / ".listed").write_text(name)
    mine = place / "cache" / "mine.jsonl"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(CurateError, match="which is not in that folder"):
        open_source("dirstore://set")
    assert [path for path in place.rglob("mine.jsonl")] == [mine] and mine.read_text() == "mine"


# --- what is refused ------------------------------------------------------------------------------

SECRET = "wJalrXUtnFEMI"
BAD = [
    ("reflect ok.jsonl --out nowhere://x/run", 1, "unknown scheme 'nowhere'"),
    ("reflect nowhere://x.jsonl --out run", 1, "unknown scheme 'nowhere'"),
    ("reflect memory://none.jsonl --out run", 1, "no such bucket, folder or object: memory://none"),
    ("reflect memory://none.jsonl --out memory://b/run", 1, "no such bucket, folder or object"),
    ("status memory://none", 1, "memory://none: no such run directory"),
    ("explain memory://none x", 1, "memory://none: no such run directory"),
    ("report memory://none", 1, "memory://none: no such run directory"),
    ("reflect ok.jsonl --out memory://b/run --journal memory://j", 2, "--journal takes a local"),
    ("reflect ok.jsonl --out run --prompts s3://b/prompts", 2, "--prompts takes a local"),
    (f"reflect ok.jsonl --out s3://AK:{SECRET}@bucket/run", 2, "with a key or a query"),
    (f"reflect https://h/x.jsonl?token={SECRET} --out run", 2, "with a key or a query"),
    ("reflect ok.jsonl --out dirstore://b/run", 1, "the store is down"),
    ("status dirstore://b/run", 1, "the store is down"),
    ("reflect dirstore://ok.jsonl --out run", 1, "the store is down"),
]


@pytest.mark.parametrize(("line", "code", "said"), BAD, ids=[line for line, *_ in BAD])
def test_each_mistake_is_one_sentence(
    line: str, code: int, said: str, curate: Curate, place: Path
) -> None:
    (place / "store" / ".down").touch()
    recorded = RECORDED if line.startswith("reflect") else ()
    done = curate(*line.split(), *recorded)
    errors = [part for part in done.err.splitlines() if part.startswith("error: ")]
    assert done.code == code, done.err
    assert len(errors) == 1 and said in errors[0], done.err
    assert "Traceback" not in done.err and SECRET not in done.err + done.out
    assert not any(SECRET in text for text in files(place).values())
    (place / "store" / ".down").unlink()
    assert not [path for path in (place / "store").rglob("*") if path.is_file()]


def test_a_package_that_is_missing_is_named(
    curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    done = curate("reflect", "ok.jsonl", "--out", "s3://b/run", *RECORDED)
    assert done.code == 1 and "pip install 'curate-reflection[s3]'" in done.err


def test_another_configuration_is_refused_by_its_field(curate: Curate) -> None:
    line = ("reflect", "ok.jsonl", "--out", "memory://b/run", *RECORDED)
    assert curate(*line).code == 0
    done = curate(*line, "--temperature", "0.5")
    assert done.code == 1
    assert "error: memory://b/run was made with temperature = 0.0, now it is 0.5" in done.err


# --- processes ------------------------------------------------------------------------------------


@pytest.fixture(params=["dirstore", "s3"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a store that other processes see too."""
    if request.param == "dirstore":
        yield "dirstore://bucket"
        return
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    import fsspec

    fsspec.filesystem("s3").clear_instance_cache()
    name = f"bucket{random.Random(port).randrange(10**9)}"
    store_of(f"s3://{name}").fs.mkdir(name)
    yield f"s3://{name}"
    server.stop()


def child(*words: object) -> list[str]:
    """`curate` in a process of its own, with small shards, which pushes often."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(dirstore.__file__).parent)!r})\n"
        "import dirstore\n"
        "import curate.pipeline.remote.pushing as p; p.INTERVAL = 0.05; p.RETRIES = (0.1,)\n"
        "import curate.pipeline.remote.lease as l; l._SETTLES = 0\n"
        "import curate.pipeline.stages.reflection.stage as r; r.SHARD = 10\n"
        "from curate.cli import main; main()"
    )
    return [sys.executable, "-c", program, *map(str, words)]


def asking(data: Path, run: str, server: FaultyServer) -> list[str]:
    return child(
        "reflect", data, "--out", run, "--teacher", MODEL, "--base-url", server.url,
        "--max-tokens", 256, "--concurrency", 4,
    )  # fmt: skip


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    said = process.communicate(timeout=60)[1].decode()
    assert "Traceback" not in said, said
    return process.returncode, said


def started(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def late(request: Received) -> Answer:
    return replace(completion(naming(request)), delay=0.01)


def in_store(run: str, folder: Path) -> set[str]:
    """The keys of the replies that the store holds."""
    return journaled(copied(run, folder) / "journal")


def test_kill_at_any_moment_loses_nothing_that_was_there(
    bucket: str, place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine asks again for nothing that its own folder or the store holds."""
    data, run = written(place / "data.jsonl", records(30)), f"{bucket}/run"
    moments = random.Random(3)
    with Server(late) as server:
        for kills, machine in enumerate((0, 0, 1, 0)):
            monkeypatch.setenv("CURATE_CACHE", str(place / f"machine-{machine}"))
            begun = len(server.requests)
            known = in_store(run, place / f"copy-{kills}")
            for journal in (place / f"machine-{machine}").glob("runs/*/work/run/journal"):
                known |= journaled(journal)
            process = started(asking(data, run, server))
            if kills < 3:
                wanted = begun + moments.choice((5, 20, 40))
                eventually(lambda n=wanted, p=process: len(server.requests) >= n or p.poll() == 0)  # type: ignore[misc]
                time.sleep(moments.uniform(0, 0.2))
                process.kill()
            code, said = ended(process)
            again = {key_of(request) for request in server.requests[begun:]} & known
            assert not again, f"{len(again)} replies were asked for again"
        assert code == 0, said
        monkeypatch.setattr("curate.pipeline.stages.reflection.stage.SHARD", 10)
        assert curate(*asking(data, "here", server)[3:]).code == 0
    disturbed, here = content(copied(run, place / "copy")), content(place / "here")
    for found in (disturbed, here):
        for of_requests in ("tokens", "damaged_journal_lines"):  # in flight when it was killed
            found["stages"]["reflect"].pop(of_requests)
    assert disturbed == here


def test_a_second_job_says_who_holds_the_run_and_a_term_ends_in_the_store(
    bucket: str, place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = written(place / "data.jsonl", records(40)), f"{bucket}/run"
    with Server(late) as server:
        process = started(asking(data, run, server))
        eventually(lambda: len(server.requests) > 20)
        said = f"{run} is in use: `curate reflect` runs as process {process.pid} on "
        second = curate("reflect", "ok.jsonl", "--out", run, *RECORDED)
        assert second.code == 1 and said in second.err
        monkeypatch.setenv("CURATE_CACHE", str(place / "second"))  # by its lease in the store
        second = curate("reflect", "ok.jsonl", "--out", run, *RECORDED)
        assert second.code == 1 and said in second.err
        status = json.loads(curate("status", run, "--json").out)
        assert [(h["pid"], h["alive"]) for h in status["holders"]] == [(process.pid, True)]
        assert (status["stages"][0]["state"], status["next"]) == ("running", [])
        process.send_signal(signal.SIGTERM)
        code, _ = ended(process)
        assert code == 130
        (work,) = (place / "cache" / "runs").glob("*/work/run/journal")
        assert in_store(run, place / "copy") == journaled(work)
        begun = len(server.requests)
        monkeypatch.setenv("CURATE_CACHE", str(place / "third"))
        assert ended(started(asking(data, run, server)))[0] == 0
        assert begun < len(server.requests) <= 120 + 8
    assert RunDir.open(copied(run, place / "whole")).manifest["stages"]["reflect"]["records"] == 40


def test_slow_and_failing_puts(place: Path) -> None:
    """What was made is in the working folder, and the same command brings it there."""
    data, run = written(place / "data.jsonl", records(20)), "dirstore://bucket/run"
    (place / "store" / ".slow").write_text("0.05")
    with Server() as server:
        process = started(asking(data, run, server))
        eventually(lambda: len(server.requests) > 20)
        (place / "store" / ".down").touch()
        code, said = ended(process)
        assert code == 1
        assert f"the store is down; what was made is whole in {place / 'cache' / 'runs'}" in said
        assert "the same command goes on" in said
        (place / "store" / ".down").unlink()
        asked = len(server.requests)
        code, said = ended(started(asking(data, run, server)))
        assert (code, len(server.requests)) == (0, asked), said
    reflected = RunDir.open(copied(run, place / "copy")).manifest["stages"]["reflect"]
    assert reflected["records"] == 20


# --- several tasks --------------------------------------------------------------------------------


def test_tasks_cannot_share_a_url(
    place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("reflect", "ok.jsonl", "--out", "memory://b/run", *RECORDED)
    done = curate(*line, "--shard", "1/2")
    assert done.code == 2 and "shared file system" in done.err and "memory://b/run" in done.err
    for name, value in (("ID", "1"), ("COUNT", "2"), ("MIN", "0")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert curate(*line).code == 2
    assert files_named("memory://b/run") == set()
    assert curate(*line, "--shard", "all").code == 0
