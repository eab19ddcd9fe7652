"""A working folder and its store: what goes there in which order, and what comes back."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.pipeline.base.files import replace_folder, write_text
from curate.pipeline.errors import CurateError
from curate.pipeline.inputs.remote.urls import store_of
from curate.pipeline.remote import mirror as mirrors
from curate.pipeline.remote import pushing
from curate.pipeline.remote.lease import Pace, hold_lease
from curate.pipeline.remote.mirror import Mirror
from curate.pipeline.remote.pushing import push_while_working
from curate.pipeline.runs.directory import RunDir

from . import dirstore  # noqa: F401 - registers itself

URL = "dirstore://bucket/run"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's folder."""
    monkeypatch.setenv("DIRSTORE", str(tmp_path / "store"))
    monkeypatch.setattr("curate.pipeline.remote.lease._SETTLES", 0)
    monkeypatch.setattr(pushing, "INTERVAL", 0.02)
    monkeypatch.setattr(pushing, "LONGEST", 0.1)
    monkeypatch.setattr(pushing, "RETRIES", (0.01, 0.02))
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def machine(folder: Path, only: tuple[str, ...] | None = None) -> Mirror:
    """A machine's working folder; made anew as by a process of its own."""
    return Mirror(store_of(URL), folder, folder / "work" / "run", only=only)


def files(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(errors="replace") for path in found}


def here(mirror: Mirror) -> dict[str, str]:
    return {n: t for n, t in files(mirror.folder).items() if "/." not in f"/{n}"}


def there(bucket: Path) -> dict[str, str]:
    return {n: t for n, t in files(bucket / "bucket" / "run").items() if "/." not in f"/{n}"}


def puts(bucket: Path) -> list[str]:
    """The names of all that was put there, in order; those removed with a minus."""
    log = bucket / ".puts"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.split()[0].replace("bucket/run/", "") for line in lines]


def made(mirror: Mirror, **contents: str) -> RunDir:
    """A run with these files, `a__b` for a/b.txt."""
    run = RunDir.create(mirror.folder, {"command": "test"})
    for name, text in contents.items():
        write_text(run.path / f"{name.replace('__', '/')}.txt", text)
    return run


def test_all_goes_there_in_a_safe_order_and_comes_back(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    run = made(one, candidates__b="1", candidates__a="2")
    run.finish_stage("reflect", {"records": 2})
    write_text(run.path / "late.txt", "3")
    (run.path / ".hidden").write_text("not this")
    (run.path / "candidates" / ".part.tmp").write_text("nor this")
    one.push(last=True)
    assert puts(bucket) == [
        "config.json", "candidates/b.txt", "candidates/a.txt", "late.txt", "manifest.json",
    ]  # fmt: skip
    assert there(bucket) == here(one)
    two = machine(tmp_path / "two")
    two.pull()
    assert here(two) == here(one)
    machine(tmp_path / "one").push(last=True)
    two.push(last=True)
    assert puts(bucket) == []  # nothing changed


def test_what_is_written_in_the_middle_waits_until_it_is_settled(
    bucket: Path, tmp_path: Path
) -> None:
    one = machine(tmp_path / "one")
    run = made(one)
    with (run.path / "growing.bin").open("w") as file:
        for _ in range(3):
            file.write("x")
            file.flush()
            one.push()
        assert "growing.bin" not in puts(bucket)
    one.push()
    assert puts(bucket) == ["growing.bin"]


def test_a_stage_leaves_the_manifest_before_its_files_change(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    run = made(one, candidates__a="1")
    run.finish_stage("reflect", {"records": 1})

    def select(*names: str) -> None:
        def fill(folder: Path) -> None:
            for name in names:
                (folder / name).write_text(f"{names}")

        run.forget_stage("select/s")
        replace_folder(run.path / "selected" / "s", fill)
        run.finish_stage("select/s", {"files": names})

    select("0-of-2", "1-of-2")
    one.push(last=True)
    puts(bucket)
    select("0-of-1")
    manifests: list[Any] = []
    one.store.fs.pipe_file = recording(one.store.fs.pipe_file, manifests)
    one.push(last=True)
    assert puts(bucket) == [
        "manifest.json", "selected/s/0-of-1", "-selected/s/0-of-2",
        "-selected/s/1-of-2", "manifest.json",
    ]  # fmt: skip
    assert [sorted(m["stages"]) for m in manifests] == [["reflect"], ["reflect", "select/s"]]
    assert there(bucket) == here(one)


def recording(put: Callable[..., None], manifests: list[Any]) -> Callable[..., None]:
    def pipe_file(path: str, value: bytes, **more: Any) -> None:
        if path.endswith("manifest.json"):
            manifests.append(json.loads(value))
        put(path, value, **more)

    return pipe_file


def test_a_journal_is_pushed_as_it_grows_and_the_traffic_stays_linear(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine(tmp_path / "one")
    journal = made(one).path / "journal" / "x.jsonl"
    journal.parent.mkdir()
    with journal.open("w") as file:
        for _ in range(2000):
            file.write("y" * 99 + "\n")
            file.flush()
            one.push()
    sizes = [int(line.split()[1]) for line in (bucket / ".puts").read_text().splitlines()[1:]]
    assert len(sizes) > 20 and sum(sizes) < 13 * 200_000
    assert sizes[-1] >= 200_000 / 1.1
    monkeypatch.setattr(mirrors, "AGE", 0.0)
    with journal.open("a") as file:
        file.write("z\n")
    one.push()
    assert there(bucket)["journal/x.jsonl"] == journal.read_text()


# --- both sides changed ---------------------------------------------------------------------------


def both(bucket: Path, tmp_path: Path, name: str, mine: str, theirs: str) -> Mirror:
    """A machine where `name` is `mine`, with `theirs` in the store, since both had the same."""
    one = machine(tmp_path / "one")
    made(one)
    write_text(one.folder / name, "a\n")
    one.push(last=True)
    for text, place in ((mine, one.folder), (theirs, bucket / "bucket" / "run")):
        (place / name).write_text(text)
    again = machine(tmp_path / "one")
    again.pull()
    return again


@pytest.mark.parametrize(("mine", "theirs"), [("a\nb\n", "a\nb\nc\n"), ("a\nb\nc\n", "a\nb\n")])
def test_the_longer_of_two_journals_wins(
    bucket: Path, tmp_path: Path, mine: str, theirs: str
) -> None:
    one = both(bucket, tmp_path, "journal/x.jsonl", mine, theirs)
    one.push(last=True)
    assert here(one) == there(bucket)
    assert here(one)["journal/x.jsonl"] == "a\nb\nc\n"


def test_of_two_journals_that_differ_both_are_kept(bucket: Path, tmp_path: Path) -> None:
    one = both(bucket, tmp_path, "journal/x.jsonl", "a\nmine\n", "a\ntheirs\n")
    one.push(last=True)
    assert here(one) == there(bucket)
    journals = [text for name, text in here(one).items() if name.startswith("journal/")]
    assert sorted(journals) == ["a\nmine\n", "a\ntheirs\n"]
    assert all(name.endswith(".jsonl") for name in here(one) if name.startswith("journal/"))


def test_of_all_else_what_is_there_wins_and_the_other_is_set_aside(
    bucket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = both(bucket, tmp_path, "x.txt", "mine", "theirs")
    assert here(one)["x.txt"] == "theirs"
    (aside,) = (tmp_path / "one" / "set-aside").glob("*/x.txt")
    assert aside.read_text() == "mine"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and str(aside.parent) in said[0] and URL in said[0]


def test_the_same_on_both_sides_is_no_conflict(bucket: Path, tmp_path: Path) -> None:
    """As after a push that was not noted any more."""
    one = both(bucket, tmp_path, "x.txt", "same", "same")
    assert not (tmp_path / "one" / "set-aside").exists()
    puts(bucket)
    one.push(last=True)
    assert puts(bucket) == []


def test_a_journal_that_was_removed_there_is_not_lost(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    made(one)
    write_text(one.folder / "journal" / "x.jsonl", "a\n")
    one.push(last=True)
    (bucket / "bucket" / "run" / "journal" / "x.jsonl").unlink()
    write_text(one.folder / "journal" / "x.jsonl", "a\nb\n")
    again = machine(tmp_path / "one")
    again.pull()
    again.push(last=True)
    assert there(bucket)["journal/x.jsonl"] == "a\nb\n"


def test_what_was_removed_on_one_side_is_removed_on_the_other(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    made(one, a="1", b="2", c="3")
    one.push(last=True)
    (one.folder / "a.txt").unlink()
    (bucket / "bucket" / "run" / "b.txt").unlink()
    again = machine(tmp_path / "one")
    again.pull()
    again.push(last=True)
    assert set(here(again)) == set(there(bucket)) == {"config.json", "c.txt"}


@pytest.mark.parametrize("replaced", [True, False])
def test_another_run_or_none_there_sets_the_folder_aside(
    bucket: Path, tmp_path: Path, replaced: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    one = machine(tmp_path / "one")
    made(one, a="1")
    one.push(last=True)
    shutil.rmtree(bucket / "bucket" / "run")
    if replaced:
        other = machine(tmp_path / "other")
        made(other, b="2")
        other.push(last=True)
    again = machine(tmp_path / "one")
    write_text(again.folder / "late.txt", "unpushed")
    again.pull()
    assert set(here(again)) == ({"config.json", "b.txt"} if replaced else set())
    (aside,) = (tmp_path / "one" / "set-aside").iterdir()
    assert set(files(aside)) == {"config.json", "a.txt", "late.txt"}
    assert str(aside) in capsys.readouterr().err
    again.push(last=True)
    assert set(there(bucket)) == set(here(again))


def test_an_index_that_is_lost_costs_traffic_alone(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    made(one, a="1")
    write_text(one.folder / "journal" / "x.jsonl", "a\n")
    one.push(last=True)
    write_text(one.folder / "journal" / "x.jsonl", "a\nb\n")
    (tmp_path / "one" / "index.jsonl").unlink()
    again = machine(tmp_path / "one")
    again.pull()
    again.push(last=True)
    assert here(again) == there(bucket)
    assert there(bucket)["journal/x.jsonl"] == "a\nb\n"
    assert not (tmp_path / "one" / "set-aside").exists()


def test_what_is_older_there_is_older_here(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    made(one, a="1")
    one.push(last=True)
    os.utime(bucket / "bucket" / "run" / "a.txt", (1000, 1000))
    two = machine(tmp_path / "two")
    two.pull()
    assert (two.folder / "a.txt").stat().st_mtime == 1000


def test_names_that_lead_elsewhere_are_no_files_of_a_run(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    made(one)
    one.push(last=True)
    (bucket / "bucket" / "run" / ".evil").mkdir()
    (bucket / "bucket" / "run" / ".evil" / "x").write_text("y")
    two = machine(tmp_path / "two")
    find = two.store.fs.find
    two.store.fs.find = lambda root, **more: {
        **find(root, **more),
        "bucket/run/../../etc": {"size": 1, "ETag": "e"},
        "bucket/run//x": {"size": 1, "ETag": "e"},
    }
    two.pull()
    assert set(here(two)) == {"config.json"}
    assert not (two.folder / ".evil").exists()


def test_a_file_and_its_run_are_mirrored_among_others(bucket: Path, tmp_path: Path) -> None:
    root = bucket / "bucket" / "run"
    root.mkdir(parents=True)
    (root / "other.json").write_text("theirs")
    one = Mirror(store_of(URL), tmp_path / "h", tmp_path / "h/work", only=("a.json", "a.json.run"))
    one.pull()
    write_text(one.folder / "a.json", "1")
    write_text(one.folder / "a.json.run" / "journal" / "x.jsonl", "r\n")
    write_text(one.folder / "stray", "no")
    one.push(last=True)
    assert set(there(bucket)) == {"other.json", "a.json", "a.json.run/journal/x.jsonl"}


# --- while a command works ------------------------------------------------------------------------


def working(mirror: Mirror, work: Callable[[], None]) -> None:
    with hold_lease(mirror.store, "test", pace=Pace(beat=0.05)) as lease:
        mirror.pull()
        with push_while_working(mirror, lease):
            work()


def eventually(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_what_is_finished_goes_there_while_the_command_works(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")

    def work() -> None:
        made(one, a="1")
        eventually(lambda: "a.txt" in there(bucket))
        write_text(one.folder / "b.txt", "2")

    working(one, work)
    assert set(there(bucket)) == {"config.json", "a.txt", "b.txt"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CurateError("no room"), ValueError("bug")])
def test_all_goes_there_whatever_ends_the_command(
    bucket: Path, tmp_path: Path, error: BaseException
) -> None:
    one = machine(tmp_path / "one")

    def work() -> None:
        made(one, a="1")
        raise error

    with pytest.raises(type(error)):
        working(one, work)
    assert set(there(bucket)) == {"config.json", "a.txt"}


def test_a_store_that_is_down_for_a_while_is_waited_for(
    bucket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = machine(tmp_path / "one")

    def work() -> None:
        made(one, a="1")
        (bucket / ".down").touch()
        write_text(one.folder / "b.txt", "2")
        time.sleep(0.5)
        (bucket / ".down").unlink()
        eventually(lambda: "b.txt" in there(bucket))

    working(one, work)
    said = capsys.readouterr().err
    assert said.count("the store is down") == 1 and said.count("is reached again") == 1


def test_a_store_that_stays_down_loses_nothing(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")

    def work() -> None:
        made(one, a="1")
        (bucket / ".down").touch()

    with pytest.raises(
        CurateError, match=f"the store is down; what was made is whole in {one.home}"
    ):
        working(one, work)

    def fail() -> None:
        write_text(one.folder / "b.txt", "2")
        (bucket / ".down").touch()
        raise CurateError("no room")

    (bucket / ".down").unlink()
    with pytest.raises(CurateError, match=r"no room; and cannot reach .* the same command goes on"):
        working(machine(tmp_path / "one"), fail)
    (bucket / ".down").unlink()
    working(machine(tmp_path / "one"), lambda: None)
    assert set(there(bucket)) == {"config.json", "a.txt", "b.txt"}


def test_whoever_was_taken_for_dead_pushes_nothing_more(bucket: Path, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")

    def work() -> None:
        made(one, a="1")
        eventually(lambda: "a.txt" in there(bucket))
        lock = bucket / "bucket" / "run" / ".lock"
        lock.write_text(json.dumps({"token": "x", "what": "select", "pid": 7, "host": "far"}))
        write_text(one.folder / "b.txt", "2")

    with pytest.raises(
        CurateError, match=f"taken over: .* process 7 on far; .* stays in {one.home}"
    ):
        working(one, work)
    assert "b.txt" not in there(bucket)
