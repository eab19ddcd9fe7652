"""The run directory: what may be taken up again, what is refused and in which words."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from curate.pipeline.base.checksums import read_checked
from curate.pipeline.base.files import read_parquet
from curate.pipeline.errors import CurateError
from curate.pipeline.records import CANDIDATES, Candidate
from curate.pipeline.runs.directory import RunDir, by_record, is_run

IDENTITY = {"command": "reflect", "input": "f" * 64, "teacher": "m", "seed": None}


def refusal(path: Path, identity: Mapping[str, object]) -> str:
    with pytest.raises(CurateError) as caught:
        RunDir.create(path, identity)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def group(id: str) -> list[Candidate]:
    return [
        Candidate(id=id, candidate=kind, instruction="é\u2028", input="", output="\x00 3")
        for kind in CANDIDATES
    ]


def test_made_and_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    run = RunDir.create(path, IDENTITY, data="x.jsonl")
    assert is_run(path) and is_run(str(path))
    assert [p.name for p in path.iterdir()] == ["config.json"]
    before = (path / "config.json").read_bytes()
    again = RunDir.create(str(path), dict(reversed(IDENTITY.items())), data="moved.jsonl")
    assert again.config == run.config == RunDir.open(path).config
    assert (path / "config.json").read_bytes() == before
    assert run.config["identity"] == IDENTITY
    assert run.config["data"] == "x.jsonl"


@pytest.mark.parametrize(
    ("changed", "field", "old", "new"),
    [
        ({"teacher": "other"}, "teacher", '"m"', '"other"'),
        ({"seed": 0}, "seed", "null", "0"),
        ({"revision": "abc"}, "revision", "null", '"abc"'),
        ({"input": "g" * 200}, "input", '"ffff', '"gggg'),
    ],
)
def test_another_identity_names_the_field(
    tmp_path: Path, changed: dict[str, object], field: str, old: str, new: str
) -> None:
    RunDir.create(tmp_path / "run", IDENTITY)
    message = refusal(tmp_path / "run", {**IDENTITY, **changed})
    assert f"{tmp_path}/run was made with {field} = {old}" in message
    assert f"now it is {new}" in message
    assert len(message) < len(str(tmp_path)) + 300


def test_a_field_that_is_no_more(tmp_path: Path) -> None:
    RunDir.create(tmp_path / "run", IDENTITY)
    assert "teacher" in refusal(
        tmp_path / "run", {k: v for k, v in IDENTITY.items() if k != "teacher"}
    )
    # None and absent are the same: a new option does not spoil the runs made before it.
    RunDir.create(tmp_path / "run", {**IDENTITY, "new option": None})


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_a_changed_character_is_told(tmp_path: Path, name: str) -> None:
    """Each one: what was written is damaged or, the sum's own name changed, still the same."""
    run = RunDir.create(tmp_path / "run", {"input": "abc"})
    run.finish_stage("reflect", {"records": 12})
    (run.path / "candidates").mkdir()
    whole = (run.path / name).read_text()
    for place in range(len(whole)):
        other = "9" if whole[place] != "9" else "8"
        (run.path / name).write_text(whole[:place] + other + whole[place + 1 :])
        try:
            assert RunDir.open(run.path).stage("reflect") == {"records": 12}
            assert run.config["identity"] == {"input": "abc"}
        except CurateError as error:
            assert f"{name} is damaged" in str(error)
        else:
            assert '"check"' not in (run.path / name).read_text() or other.isspace()


def test_a_run_that_was_moved_is_not_made_anew(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", {"input": "abc"})
    run.path.rename(tmp_path / "moved")
    for work in (
        lambda: run.write_shard(0, []),
        lambda: run.read_shard(run.shard_path(0)),
        lambda: run.finish_stage("reflect", {}),
    ):
        with pytest.raises(CurateError, match="is not there any more: if it was moved"):
            work()
    with pytest.raises(CurateError, match="other"), run.discarded_if_empty():
        raise CurateError("other")
    assert not run.path.exists()


@pytest.mark.parametrize(
    "config", [None, "", "{", "[]", '{"curate_run": 2, "identity": {}}', '{"identity": {}}']
)
def test_a_folder_that_is_no_run(tmp_path: Path, config: str | None) -> None:
    (tmp_path / ("notes.txt" if config is None else "config.json")).write_text(config or "mine")
    assert not is_run(tmp_path)
    assert "is not empty and no run of curate" in refusal(tmp_path, IDENTITY)
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(CurateError, match="no run of curate"):
        RunDir.open(tmp_path)


def test_hidden_leftovers_and_an_empty_folder_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("{}")
    (tmp_path / ".config.json.17.tmp").write_text("{")
    (tmp_path / ".x.new").mkdir()
    RunDir.create(tmp_path, IDENTITY)
    assert is_run(tmp_path)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert refusal(tmp_path / "file", IDENTITY) == f"{tmp_path}/file is a file, not a run directory"
    assert "cannot write" in refusal(tmp_path / "file" / "run", IDENTITY)
    assert (tmp_path / "file").read_text() == "x"
    with pytest.raises(CurateError, match="no such run directory"):
        RunDir.open(tmp_path / "none")


def test_a_parent_that_may_not_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not bind root")
    tmp_path.chmod(0o500)
    try:
        assert "cannot write" in refusal(tmp_path / "run", IDENTITY)
    finally:
        tmp_path.chmod(0o700)


def test_stages_in_the_manifest(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", IDENTITY)
    assert run.manifest == {} and run.stage("import") is None
    run.finish_stage("import", {"records": 1})
    run.finish_stage("select/a", {"n": 1})
    run.finish_stage("import", {"records": 2})
    assert run.stage("import") == {"records": 2}
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["run"] == run.config["id"]
    assert manifest["identity"] == IDENTITY
    assert {"python", "pyarrow", "curate-reflection"} <= set(manifest["versions"])
    run.forget_stage("import")
    run.forget_stage("never was")
    assert run.manifest["stages"] == {"select/a": {"n": 1}}


def test_shards_come_back_in_order(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", IDENTITY)
    assert run.shard_paths() == [] and list(run.records()) == []
    for index in (2, 0, 1):
        run.write_shard(index, group(f"{index}a") + group(f"{index}b")[:2], step="all")
    (run.candidates / ".part-00003.parquet.1.tmp").write_text("half")
    assert run.shard_paths() == [run.shard_path(index) for index in range(3)]
    assert list(run.records()) == [
        records for n in range(3) for records in (group(f"{n}a"), group(f"{n}b")[:2])
    ]
    found = read_parquet(run.shard_path(0))
    assert found is not None and found[1] == {"step": "all"}


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", IDENTITY)
    run.write_shard(0, group("a"))
    run.shard_path(0).write_bytes(run.shard_path(0).read_bytes()[:-20])
    with pytest.raises(CurateError) as caught:
        list(run.records())
    assert str(run.shard_path(0)) in str(caught.value)
    assert "again" in str(caught.value)


def test_records_of_a_shard() -> None:
    assert list(by_record([])) == []
    rows = group("a")[:1] + group("b") + group("c")[2:]
    assert [len(record) for record in by_record(rows)] == [1, 4, 2]


def test_many_that_create_it_at_once_get_the_same_run(tmp_path: Path) -> None:
    begin = Barrier(16)

    def create(number: int) -> str:
        begin.wait()
        run = RunDir.create(tmp_path / "run", {"input": "x"}, data=str(number))
        return str(run.config["id"])

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(create, range(16)))
    assert ids == {RunDir.open(tmp_path / "run").config["id"]}
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.json"]


def test_of_two_identities_that_create_it_at_once_one_is_refused(tmp_path: Path) -> None:
    begin = Barrier(8)

    def create(number: int) -> str:
        begin.wait()
        try:
            RunDir.create(tmp_path / "run", {"input": str(number % 2)})
        except CurateError as error:
            return str(error)
        return "made"

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(create, range(8)))
    assert ended.count("made") == 4
    assert all("was made with input = " in said for said in ended if said != "made")


def test_names_that_cannot_be(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    assert not is_run(long)
    assert "cannot write" in refusal(long, IDENTITY) and "too long" in refusal(long, IDENTITY)
    with pytest.raises(CurateError, match="no such run directory"):
        RunDir.open(long)
    with pytest.raises(CurateError, match="is not there"):
        _ = RunDir(long).config
    odd = tmp_path / os.fsdecode(b"run\xff")
    message = refusal(odd, IDENTITY)
    assert "not UTF-8" in message and message.encode() and not odd.exists()
    with pytest.raises(CurateError, match="not UTF-8"):
        RunDir.open(odd)


def test_a_run_may_note_names_that_are_not_utf_8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"replies\xff.jsonl")
    run = RunDir.create(tmp_path / "run", IDENTITY, options={"replies": odd})
    run.finish_stage("reflect", {"replies": odd})
    assert RunDir.create(run.path, IDENTITY).stage("reflect")
    assert read_checked(run.path / "config.json")


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_deep_json_is_damage(tmp_path: Path, name: str) -> None:
    run = RunDir.create(tmp_path / "run", IDENTITY)
    run.finish_stage("reflect", {})
    (run.path / name).write_text("[" * 100_000)
    with pytest.raises(CurateError, match=f"{name} is damaged"):
        _ = RunDir.open(run.path).manifest


READS = """
import os, sys
from curate.pipeline.errors import CurateError
from curate.pipeline.runs.directory import RunDir
os.setuid(65534)
try:
    RunDir.open(sys.argv[1])
except CurateError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="takes root, to become nobody")
def test_a_run_that_may_not_be_read(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", IDENTITY)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    for path, mode in ((run.path / "config.json", 0o600), (run.path, 0o700)):
        path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", READS, run.path], capture_output=True, text=True
        )
        assert done.stdout.startswith(f"cannot read {run.path}/config.json"), done
        path.chmod(0o755)
