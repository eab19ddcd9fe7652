"""URLs of object stores: what is one, the file system behind it, what goes wrong in one sentence.

Loads fsspec only where a URL is opened.
"""

import errno
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ... import config
from ...config.options.flat import options_of
from ...errors import CurateError, UsageError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/(/?)")
_REMOTE = ("in", "out")
_HERE = ("file", "local")
_ACCOUNTS = ("abfs", "abfss")  # container@account is an address there
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_TAGS = ("ETag", "etag", "generation", "md5Hash", "blob_id", "oid", "content_md5", "mtime",
         "LastModified", "last_modified", "created")  # fmt: skip
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
SILENCE = 60.0
"""Seconds for which a web server may send nothing; a whole file may take as long as it needs."""
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "HF_TOKEN")


def as_url(value: object) -> str | None:
    """The URL that a string is, or that a Path was before it lost a slash; None for all else.

    >>> as_url("s3://bucket/run"), as_url(Path("s3://bucket/run")), as_url("a:/b")
    ('s3://bucket/run', 's3://bucket/run', None)
    """
    found = _URL.match(str(value)) if isinstance(value, str | Path) else None
    if found is None or not (found[2] or isinstance(value, Path)):
        return None
    return f"{found[1]}://{str(value)[found.end() :]}"


def url_options(places: Collection[str] = _REMOTE) -> frozenset[str]:
    """The options that may be URLs, by what the configurations' fields say of their `place`."""
    commands = [c for c in vars(config).values() if isinstance(c, type) and is_dataclass(c)]
    every = (item for command in commands for item in options_of(command).items())
    return frozenset(name for name, option in every if option.about["place"] in places)


def names_a_url(options: Mapping[str, object]) -> bool:
    """Whether one of a command's options is a URL where files are named."""
    urls = {name: value for name, value in options.items() if as_url(value)}
    may_be = url_options() if urls else frozenset()
    return any(name in may_be or isinstance(value, Path) for name, value in urls.items())


def scheme(url: str) -> str:
    """What stands before `://`."""
    return url.partition("://")[0]


def local_path(url: str) -> Path | None:
    """The path that a file: URL is; None for a store's."""
    if scheme(url) not in _HERE:
        return None
    return Path("/" + url.partition("://")[2].lstrip("/"))


def valid_url(url: str) -> str:
    """The URL without slashes at its end. UsageError, which repeats nothing, for one with a key."""
    parts = urlsplit(url)
    named = parts.password or (parts.username and parts.scheme not in _ACCOUNTS)
    if named or parts.query:
        raise UsageError(
            f"a {parts.scheme}:// URL with a key or a query in it is refused: credentials come "
            "from the environment alone"
        )
    if "::" in url:
        raise UsageError(f"{url}: URLs within URLs are not known")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of an object store."""

    url: str
    fs: Any
    root: str

    def path(self, name: str) -> str:
        """Where the file system has an object of the folder."""
        return f"{self.root}/{name}"


def store_of(url: str, *, silence: float = SILENCE) -> Store:
    """The store of a URL. CurateError for an unknown scheme and a package that is not installed."""
    from fsspec.core import url_to_fs

    with store_errors(url):
        web = _patience(silence) if scheme(url) in ("http", "https") else {}
        fs, root = url_to_fs(url, use_listings_cache=False, **web)
    return Store(url, fs, root.rstrip("/"))


def _patience(silence: float) -> dict[str, Any]:
    """Limits for a web server in place of aiohttp's, which are five minutes for a whole file."""
    from aiohttp import ClientTimeout

    limits = ClientTimeout(total=None, sock_connect=silence, sock_read=silence)
    return {"client_kwargs": {"timeout": limits}}


def stays_inside(name: str) -> bool:
    """Whether what a listing calls an object is a path below its folder.

    >>> stays_inside("a/b.jsonl"), stays_inside("a/../../b.jsonl"), stays_inside("/etc/passwd")
    (True, False, False)
    """
    parts = name.replace(os.sep, "/").split("/")
    return "\0" not in name and not any(part in ("", ".", "..") for part in parts)


def tag(info: Mapping[str, Any]) -> str:
    """What changes when an object does, by what a listing tells of it."""
    known: Any = next((info[name] for name in _TAGS if info.get(name) is not None), "")
    known = known.timestamp() if hasattr(known, "timestamp") else known
    return f"{info.get('size')}:{known}"


def modified(info: Mapping[str, Any]) -> float | None:
    """When an object was written, in seconds of the epoch by the store's clock."""
    known: Any = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    if isinstance(known, str):
        from datetime import datetime

        known = datetime.fromisoformat(known)
    if hasattr(known, "timestamp"):
        return float(known.timestamp())
    return float(known) if isinstance(known, int | float) else None


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn what a store or its client says into one sentence."""
    try:
        yield
    except CurateError:
        raise
    except Exception as error:  # noqa: BLE001 - each client raises kinds of its own
        raise CurateError(problem(url, error)) from None


def problem(url: str, error: Exception) -> str:
    """What is wrong with a store, in one sentence, and what to do where that is known."""
    name = type(error).__name__
    if isinstance(error, OSError) and _is_here(error):
        place, said = error.filename or cache_home(), error.strerror
        return f"cannot write {place}: {said}; make room there, or set CURATE_CACHE"
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(scheme(url))
        install = f"pip install 'curate-reflection[{extra}]'" if extra else _said(error)
        return f"{url} needs a package that is not installed: {install}"
    if isinstance(error, ValueError) and "Protocol not known" in str(error):
        return f"{url}: unknown scheme {scheme(url)!r}; known are file, s3, gs, hf and fsspec's"
    if "Credentials" in name:
        return f"no credentials for {url} in the environment ({_said(error)})"
    if isinstance(error, FileNotFoundError):
        return f"no such bucket, folder or object: {url}"
    if isinstance(error, PermissionError):
        return f"{url}: access denied ({_said(error)})"
    if isinstance(error, TimeoutError):
        return f"{url}: the server does not answer, or stopped sending; try again later"
    return f"cannot reach {url}: {_said(error)}"


def _is_here(error: OSError) -> bool:
    """Whether it is this machine's disk that an error is about."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return full or str(error.filename or "").startswith(str(cache_home()))


def _said(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    for secret in filter(None, map(os.environ.get, _SECRETS)):
        text = text.replace(secret, "***")
    return text[:200]


def cache_home() -> Path:
    """Where working folders and copies of data are: $CURATE_CACHE, else ~/.cache/curate."""
    return Path(os.environ.get("CURATE_CACHE") or "~/.cache/curate").expanduser().resolve()
