"""What is a URL of a store, which are refused, and what its errors become."""

from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.inputs.remote.urls import (
    as_url,
    local_path,
    modified,
    names_a_url,
    problem,
    store_errors,
    store_of,
    tag,
    valid_url,
)


@pytest.mark.parametrize(
    "text", ["s3://bucket/run", "gs://b", "hf://datasets/o/n/x.jsonl", "memory://a/b", "s3a://x/y"]
)
def test_a_url_is_known_as_text_and_as_a_path(text: str) -> None:
    assert as_url(text) == text
    assert as_url(Path(text)) == text


@pytest.mark.parametrize("text", ["run", "/a/b", "owner/name:train", "-", "C:/x", "a:b"])
def test_no_url(text: str) -> None:
    assert as_url(text) is None
    assert as_url(Path(text)) is None


def test_a_text_with_one_slash_is_no_url() -> None:
    assert as_url("memory:/run") is None


def test_only_where_files_are_named() -> None:
    assert names_a_url({"out": Path("s3://b/run"), "data": "x"})
    assert names_a_url({"journal": Path("s3://b/j")})
    assert not names_a_url({"base_url": ["http://localhost/v1"], "data": "x", "out": None})


def test_file_urls_are_paths() -> None:
    assert local_path("file:///tmp/x/run") == Path("/tmp/x/run")
    assert local_path(as_url(Path("file:///tmp/x/run")) or "") == Path("/tmp/x/run")
    assert local_path("local:///a") == Path("/a")
    assert local_path("s3://b/run") is None


SECRET = "wJalrXUtnFEMI"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIA:{SECRET}@bucket/run",
        f"s3://{SECRET}@bucket/run",
        f"https://host/x.jsonl?token={SECRET}",
    ],
)
def test_a_url_with_a_key_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="environment alone") as raised:
        valid_url(url)
    assert SECRET not in str(raised.value)


def test_what_is_no_key() -> None:
    assert valid_url("hf://datasets/o/n@refs/x.jsonl") == "hf://datasets/o/n@refs/x.jsonl"
    assert valid_url("abfs://box@account.net/run/") == "abfs://box@account.net/run"


def test_errors_are_one_sentence() -> None:
    with pytest.raises(CurateError, match="unknown scheme 'nowhere'"):
        store_of("nowhere://x/run")
    said = problem("s3://b/run", ImportError("Install s3fs to access S3"))
    assert said.endswith("pip install 'curate-reflection[s3]'")
    assert "no such bucket" in problem("s3://b/run", FileNotFoundError("b"))
    assert "access denied" in problem("s3://b/run", PermissionError("no"))
    no_keys = type("NoCredentialsError", (Exception,), {})("Unable to locate credentials")
    assert "no credentials for s3://b/run in the environment" in problem("s3://b/run", no_keys)
    assert problem("s3://b/run", OSError("a\nb")) == "cannot reach s3://b/run: a"


def test_an_error_of_this_machine_s_disk_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device", "/x/y")
    assert problem("s3://b/run", full).startswith("cannot write /x/y: No space left on device;")
    monkeypatch.setenv("CURATE_CACHE", "/nowhere/cache")
    denied = PermissionError(13, "Permission denied", "/nowhere/cache/runs")
    assert problem("s3://b/run", denied).startswith("cannot write /nowhere/cache/runs: Permission")


def test_no_secret_of_the_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert SECRET not in problem("s3://b/run", OSError(f"bad signature with {SECRET}"))


def test_the_tag_changes_with_the_object() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert tag({"size": 3, "ETag": "a"}) != tag({"size": 3, "ETag": "b"})
    assert tag({"size": 3, "created": when}) == tag({"size": 3, "created": when.timestamp()})
    assert tag({"size": 3}) == "3:"


def test_when_an_object_was_written() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    for given in (when, when.timestamp(), "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00Z"):
        assert modified({"LastModified": given}) == when.timestamp()
    assert modified({"size": 3}) is None


class Stalling(BaseHTTPRequestHandler):
    """Sends half of a file, and no more until the client has gone."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "20")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"0123456789")
        self.wfile.flush()
        self.rfile.read(1)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_web_server_may_be_slow_but_not_silent(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stalling) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        store = store_of(f"http://127.0.0.1:{server.server_port}/x.jsonl", silence=0.2)
        with pytest.raises(CurateError, match="stopped sending"), store_errors(store.url):
            store.fs.get_file(store.root, str(tmp_path / "x.jsonl"))
        assert store.fs.client_kwargs["timeout"].total is None
        server.shutdown()
