"""A command's arguments that are URLs -> local paths, mirrored while it runs.

DATA at a URL stays what it is: `readers` fetches it.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from json import loads
from pathlib import Path
from typing import Any

from ..base.files import writable, write_text
from ..base.processes.ranks import are_several
from ..base.processes.sharding import share_of
from ..base.progress import say
from ..errors import CurateError, UsageError
from ..inputs.remote.urls import (
    as_url,
    cache_home,
    local_path,
    store_errors,
    store_of,
    url_options,
    valid_url,
)
from ..runs.directory import FORMAT
from ..runs.lock import holders, run_lock, turn_lock
from .lease import LOCK, hold_lease
from .mirror import CONFIG, Mirror
from .pushing import push_while_working

FILES = ("score", "generate", "evaluate", "report")  # what their --out names
WORK, PAGE = "work", "report.html"


@contextmanager
def with_local_paths(command: str, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A command's options with local paths for URLs. What it writes is pushed, also after an error.

    What is said meanwhile names the URLs. Raises CurateError for a store that cannot be reached and
    a run that another job holds, UsageError for a URL where none can be.
    """
    given = _checked(options)
    first = "run" if "run" in given else "data"
    source, out = _url(given.get(first)), _url(given.get("out"))
    if source is not None and first == "data" and not _is_run(source):
        source = None
    if first == "data" and "out" in given and given["out"] is None:
        out = source
    for url in filter(None, (_url(given.get(name)) for name in sorted(url_options()))):
        if url not in (source, out):
            say(f"reading {url}, of which a copy is kept in {cache_home() / 'data'}")
    if not (source or out):
        yield given
        return
    _refuse_several(given, out)
    with ExitStack() as stack:
        folders = _Folders(command, stack)
        if out is not None:
            is_file = source != out and _names_a_file(command, out)
            path = folders.read(out) if given.get("dry_run") else folders.write(out, is_file)
            given["out"] = path if given.get("out") is not None else None
        if source is not None:
            path = folders.write(source) if source == out else folders.read(source)
            given[first] = str(path)
            if command == "report" and given.get("out") is None:
                folders.push_at_end(source, PAGE)
        stack.enter_context(_naming(folders.shown))
        yield given


def _refuse_several(given: Mapping[str, Any], out: str | None) -> None:
    """UsageError where several processes are to write into one URL: a store has one writer."""
    if are_several():
        raise UsageError("several processes (torchrun) work on local folders: copy the run here")
    if out is not None and "shard" in given and not share_of(given["shard"], os.environ).whole:
        raise UsageError(
            f"tasks of an array cannot share a run at a URL ({out}): let them work in a folder on "
            "a shared file system, or give each its own data and URL, with --shard all"
        )


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """With a path for each file: URL; UsageError for any other where none can be."""
    given = dict(options)
    read, written = url_options(), url_options(("out",))
    for name, value in options.items():
        may_be = name in (written if isinstance(value, Path) else read)
        if not may_be and not isinstance(value, Path):
            continue
        url = _url(value)
        here = local_path(url) if url else None
        if here is not None:
            given[name] = here if isinstance(value, Path) else str(here)
        elif url and not may_be:
            raise UsageError(f"--{name.replace('_', '-')} takes a local file or folder, not {url}")
    return given


def _url(value: object) -> str | None:
    url = as_url(value)
    return valid_url(url) if url else None


def _is_run(url: str) -> bool:
    """Whether a run is there; for what cannot be looked at `readers` will say why."""
    store = store_of(url)
    with store_errors(url):
        try:
            config = loads(store.fs.cat_file(store.path(CONFIG)))
        except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
            return False
    return isinstance(config, dict) and config.get("curate_run") == FORMAT


class _Folders:
    """The working folders of one command; `shown` is what they stand for."""

    def __init__(self, command: str, stack: ExitStack) -> None:
        self.shown: dict[str, str] = {}
        self._command, self._stack = command, stack
        self._mirrors: dict[str, tuple[Mirror, Path]] = {}

    def write(self, url: str, is_file: bool = False) -> Path:
        """The working folder or file of a URL that this command holds from now on."""
        if url in self._mirrors:
            return self._mirrors[url][1]
        mirror, path = self._mirror(url, is_file=is_file)
        try:
            self._stack.enter_context(run_lock(mirror.home, self._command))
        except CurateError as error:
            raise CurateError(str(error).replace(str(mirror.home), url)) from None
        name = f".{path.name}{LOCK}" if is_file else LOCK
        lease = self._stack.enter_context(hold_lease(mirror.store, self._command, name=name))
        with turn_lock(mirror.home, self._command):
            mirror.pull()
        self._stack.enter_context(push_while_working(mirror, lease))
        return path

    def read(self, url: str) -> Path:
        """The folder with what is at a URL now; as it is where a process here works in it."""
        mirror, path = self._mirror(url)
        with turn_lock(mirror.home, self._command):
            if not any(holder.alive for holder in holders(mirror.home)):
                mirror.pull()
                mirror.pull_lock(LOCK)
        return path

    def push_at_end(self, url: str, name: str) -> None:
        """Bring one file there after the command."""
        mirror, _ = self._mirrors[url]
        self._stack.callback(mirror.push_one, name)

    def _mirror(self, url: str, *, is_file: bool = False) -> tuple[Mirror, Path]:
        home = cache_home() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16]
        parent, name = _parted(url)
        with writable(home):
            if not (home / "url").exists():
                write_text(home / "url", f"{url}\n")
        if is_file:
            only = (name, f"{name}.run")
            mirror = Mirror(store_of(parent), home, home / WORK, only=only)
            self.shown[str(mirror.folder)] = parent
        else:
            mirror = Mirror(store_of(url), home, home / WORK / name)
            self.shown[str(mirror.folder)] = url
        self._mirrors[url] = mirror, home / WORK / name
        return self._mirrors[url]


def _names_a_file(command: str, out: str) -> bool:
    """Whether a command's --out is a file, and not a folder."""
    return command in FILES or (command == "judge" and bool(Path(_parted(out)[1]).suffix))


def _parted(url: str) -> tuple[str, str]:
    """The folder and the name; a bucket is its own name.

    >>> _parted("s3://bucket/a/run"), _parted("memory://run")
    (('s3://bucket/a', 'run'), ('memory://', 'run'))
    """
    scheme, _, place = url.partition("://")
    folder, _, name = place.rpartition("/")
    return f"{scheme}://{folder}", name or "root"


@contextmanager
def _naming(shown: Mapping[str, str]) -> Iterator[None]:
    """What is said in the body names URLs in place of working folders."""
    out, err = (_Naming(stream, shown) for stream in (sys.stdout, sys.stderr))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    except CurateError as error:
        said = _named(str(error), shown)
        if said.startswith("cannot write"):
            said += f" (the working folder is in {cache_home()})"
        raise type(error)(said) from None


class _Naming:
    """A text stream whose readers see URLs."""

    def __init__(self, stream: Any, shown: Mapping[str, str]) -> None:
        self._stream, self._shown = stream, shown

    def write(self, text: str) -> int:
        """As the stream does."""
        self._stream.write(_named(text, self._shown))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _named(text: str, shown: Mapping[str, str]) -> str:
    for folder in sorted(shown, key=len, reverse=True):
        text = text.replace(folder, shown[folder])
    return text
