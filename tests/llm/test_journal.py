"""The journal: kill -9, damage, several writers, memory, a full disk."""

import json
import re
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from curate.pipeline.errors import CurateError
from curate.pipeline.llm.journal import Journal
from curate.pipeline.llm.protocol import Reply, Request, request_key, storable


def request(number: int = 0, *, max_tokens: int = 100) -> Request:
    return Request(
        id=f"r{number}",
        slot="both",
        messages=({"role": "user", "content": "hi"},),
        max_tokens=max_tokens,
        temperature=0.0,
        seed=None,
        key=f"{number:032x}"[::-1],
    )


def reply(text: str, **fields: int | str | None) -> Reply:
    defaults = {"finish_reason": "stop", "prompt_tokens": 5, "completion_tokens": 7}
    return Reply(text=text, max_tokens=100, **{**defaults, **fields})  # type: ignore[arg-type]


def write(folder: Path, *texts: str, run: str = "run") -> Path:
    """One segment, text n under the key of request n."""
    journal = Journal(folder, run=run, model="m")
    before = set(folder.glob("*")) if folder.exists() else set()
    for number, text in enumerate(texts):
        journal.append(request(number), reply(text))
    journal.close()
    [segment] = set(folder.glob("*")) - before
    return segment


def texts(journal: Journal, *numbers: int) -> list[list[str]]:
    found = [[one.text for one in journal.attempts(request(number).key)] for number in numbers]
    journal.close()
    return found


def test_key_is_of_what_determines_a_reply() -> None:
    message = {"role": "user", "content": "hi"}

    def key(**changed: object) -> str:
        fields: dict[str, object] = {
            "model": "m",
            "revision": None,
            "messages": [message],
            "prompt_version": "p",
            "temperature": 0,
            "seed": None,
        }
        return request_key(**{**fields, **changed})  # type: ignore[arg-type]

    assert key() == key(temperature=0.0) == key(messages=({"content": "hi", "role": "user"},))
    assert len(key()) == 32
    others = [
        key(model="n"),
        key(revision="r"),
        key(messages=[message, message]),
        key(prompt_version="q"),
        key(temperature=0.5),
        key(seed=0),
        key(recorded_as=("1", "both")),
        key(recorded_as=("1", "response")),
        key(sample=0),
        key(sample=1),
    ]
    assert len({key(), *others}) == 11


def test_the_keys_of_todays_requests_stay() -> None:
    """Journals of earlier versions go on serving."""
    messages = [{"role": "user", "content": "hi é\ud800"}]
    plain = request_key(
        model="m", revision=None, messages=messages, prompt_version="p", temperature=0, seed=None
    )
    recorded = request_key(
        model="m", revision="r", messages=messages, prompt_version="p", temperature=0.7, seed=3,
        recorded_as=("1", "both", "0123456789abcdef"),
    )  # fmt: skip
    assert plain == "d11506f6bcdfb9287667f3c510a38968"
    assert recorded == "eb0cca26ba1e4d0642da4c94e0a51e09"


def test_reasoning_has_a_field_of_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path, run="run", model="m")
    journal.append(request(1), reply("<think>a</think>b"))
    journal.append(request(2), reply("<think>b", reasoning="a\ud800"))
    journal.append(request(3), reply("b"))
    found = [journal.attempts(request(number).key)[0] for number in (1, 2, 3)]
    assert [(one.text, one.reasoning) for one in found] == [
        ("b", "a"), ("", "a\ufffd\n\nb"), ("b", None),
    ]  # fmt: skip
    journal.close()


def test_entries_that_hold_their_reasoning_in_the_text_are_read_without_it(tmp_path: Path) -> None:
    segment = write(tmp_path, "TEXT")
    line = re.sub(rb',"reasoning":null,"check":"\w+"\}\n', b"", segment.read_bytes())
    line = line.replace(b"TEXT", b"<think>a</think>b")
    segment.write_bytes(line + b',"check":"%08x"}\n' % zlib.crc32(line))
    journal = Journal(tmp_path, run="run")
    (found,) = journal.attempts(request(0).key)
    assert (journal.damaged, found.text, found.reasoning) == (0, "b", "a")
    journal.close()


def test_what_is_appended_is_there_at_once_and_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a" / "journal", run="run", model="m")
    assert not (tmp_path / "a").exists()
    first = reply("one\n\u2028 é 漢", endpoint="http://x/v1")
    second = reply("", finish_reason="length", prompt_tokens=None, completion_tokens=None)
    journal.append(request(1), first)
    journal.append(request(1), second)
    assert journal.attempts(request(1).key) == [first, second]
    assert journal.attempts(request(2).key) == []
    journal.close()
    again = Journal(tmp_path / "a" / "journal", run="other")
    assert again.attempts(request(1).key) == [first, second]
    assert (len(again), again.damaged) == (2, 0)
    again.close()


def test_a_line_holds_who_asked_what(tmp_path: Path) -> None:
    line = json.loads(write(tmp_path, "x").read_text())
    assert (line["id"], line["candidate"], line["model"], line["run"]) == ("r0", "both", "m", "run")
    assert line["max_tokens"] == 100
    assert abs(line["time"] - time.time()) < 60


def test_unstorable_text_is_made_safe(tmp_path: Path) -> None:
    write(tmp_path, "a\ud83d b\x00c")
    assert texts(Journal(tmp_path, run="run"), 0) == [["a\ufffd b\ufffdc"]]
    assert storable("😀") == "😀"


def test_attempts_of_several_processes_come_in_order_of_time(tmp_path: Path) -> None:
    first, second = (Journal(tmp_path, run=run) for run in "ab")
    for number, journal in enumerate((second, first, second)):
        journal.append(request(), reply(str(number)))
    first.close()
    second.close()
    assert len(list(tmp_path.iterdir())) == 2
    reader = Journal(tmp_path, run="c")
    assert texts(reader, 0) == [["0", "1", "2"]]
    assert (reader.spent("a"), reader.spent("b"), reader.spent("c")) == ((5, 7), (10, 14), (0, 0))


def test_silent_servers_are_charged_the_worst_case(tmp_path: Path) -> None:
    journal = Journal(tmp_path, run="run")
    journal.append(request(), reply("x", prompt_tokens=None, completion_tokens=None))
    prompt, completion = journal.spent("run")
    assert prompt > 2
    assert completion == 100
    journal.close()


@pytest.mark.parametrize("at", [0, 5, 60, -30, -2])
def test_a_rotten_byte_hides_only_its_own_line(tmp_path: Path, at: int) -> None:
    segment = write(tmp_path, "first", "second", "third")
    lines = segment.read_bytes().splitlines(keepends=True)
    rotten = bytearray(lines[1])
    rotten[at] ^= 0x01
    segment.write_bytes(lines[0] + rotten + lines[2])
    journal = Journal(tmp_path, run="run")
    assert (len(journal), journal.damaged) == (2, 1)
    assert texts(journal, 0, 1, 2) == [["first"], [], ["third"]]


def test_a_lost_newline_hides_nothing(tmp_path: Path) -> None:
    segment = write(tmp_path, "first", "second", "third")
    segment.write_bytes(segment.read_bytes().replace(b"\n", b""))
    journal = Journal(tmp_path, run="run")
    assert journal.damaged == 0
    assert texts(journal, 0, 1, 2) == [["first"], ["second"], ["third"]]


def test_every_torn_end_leaves_what_was_before(tmp_path: Path) -> None:
    segment = write(tmp_path, "first", "second")
    whole = segment.read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole) - 1):
        segment.write_bytes(whole[:end])
        journal = Journal(tmp_path, run="run")
        assert texts(journal, 0, 1) == [["first"], []]
        assert journal.damaged == (end > start)


def test_a_line_that_rots_while_open_is_skipped(tmp_path: Path) -> None:
    segment = write(tmp_path, "first")
    journal = Journal(tmp_path, run="run")
    segment.write_bytes(segment.read_bytes().replace(b"first", b"fir\x00t"))
    assert texts(journal, 0) == [[]]
    assert journal.damaged == 1


@pytest.mark.parametrize("finish", ["stop", None])
def test_a_whole_reply_serves_what_it_fits_in(finish: str | None) -> None:
    whole = reply("x", finish_reason=finish)
    assert whole.serves(100)
    assert whole.serves(5000)
    assert whole.serves(7)
    assert not whole.serves(6)
    assert not reply("x", finish_reason=finish, completion_tokens=None).serves(99)
    assert reply("x", finish_reason="length", completion_tokens=100).serves(5000)


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from curate.pipeline.llm.journal import Journal
from curate.pipeline.llm.protocol import Reply, Request

def append(start, pipe):
    journal = Journal(Path(sys.argv[1]), run="run")
    for number in range(start, 10**9):
        message = {"role": "user", "content": "hi"}
        journal.append(
            Request(id=str(number), slot="both", messages=(message,), max_tokens=9,
                    temperature=0.0, seed=None, key=f"{number:032x}"[::-1]),
            Reply(text=f"{number} " * (number * 7919 % 3000), finish_reason="stop", max_tokens=9),
        )
        os.write(pipe, b"%d\\n" % number)

random.seed(1)
start = 0
for _ in range(30):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        append(start, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as acknowledged:
        said = acknowledged.readline()  # it is at work
        time.sleep(random.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        said += acknowledged.read()
    os.waitpid(child, 0)
    start = int(said.splitlines()[-1]) + 1
print(start)
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A process forks 30 writers, one after the other, and kills each at a random moment."""
    command = [sys.executable, "-c", KILLER, str(tmp_path)]
    acknowledged = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert acknowledged > 30
    journal = Journal(tmp_path, run="run")
    assert len(list(tmp_path.iterdir())) == 30
    for number in range(acknowledged):
        found = journal.attempts(f"{number:032x}"[::-1])
        assert {one.text for one in found} == {f"{number} " * (number * 7919 % 3000)}
    assert journal.damaged <= 30  # a torn end a kill at most: it was never acknowledged
    journal.close()


def test_the_index_is_small(tmp_path: Path) -> None:
    """Below 200 bytes an entry: 300,000 stay below 60 MB, however long their texts."""
    entries = 40_000
    body = write(tmp_path, "some text").read_bytes().rpartition(b',"check"')[0]
    with (tmp_path / "big.jsonl").open("wb") as file:
        for number in range(entries):
            key = b"%015x" % (number * 2654435761 % 2**60) + b"0" * 17
            line = body.replace(b"0" * 32, key, 1)
            file.write(line + b',"check":"%08x"}\n' % zlib.crc32(line))
    tracemalloc.start()
    journal = Journal(tmp_path, run="run")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(journal), journal.damaged) == (entries + 1, 0)
    assert held < 200 * entries
    journal.close()


def test_a_full_disk_is_one_sentence_and_what_was_there_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the kernel refuses writes alike."""
    journal = Journal(tmp_path, run="run")
    journal.append(request(0), reply("kept"))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(CurateError, match=f"cannot write the journal in {tmp_path}"):
            journal.append(request(1), reply("lost " * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    journal.append(request(2), reply("after"))
    assert texts(journal, 0, 1, 2) == [["kept"], [], ["after"]]
    again = Journal(tmp_path, run="run")
    assert again.damaged == 1
    assert texts(again, 0, 1, 2) == [["kept"], [], ["after"]]


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CurateError, match="cannot read the journal"):
        Journal(tmp_path / "file", run="run")
    journal = Journal(tmp_path / "file" / "below", run="run")
    with pytest.raises(CurateError, match=r"cannot write the journal .*: not a directory"):
        journal.append(request(), reply("x"))


def test_a_run_that_was_moved_is_not_made_anew(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    journal = Journal(tmp_path / "run" / "journal", run="run")
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(CurateError, match=r"cannot write the journal .* not there any more"):
        journal.append(request(), reply("x"))
    assert not (tmp_path / "run").exists()


def test_replies_reach_the_disk_within_about_a_second(tmp_path: Path) -> None:
    """Seen from outside: strace is not everywhere, but the group that waits is."""
    journal = Journal(tmp_path, run="run")
    journal.append(request(), reply("x"))
    writer = journal._writer
    assert writer is not None
    deadline = time.monotonic() + 60
    while writer._unsynced and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not writer._unsynced
    journal.close()
