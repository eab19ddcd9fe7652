"""Texts and files of strangers, made fit to be written and read: whole, on one line, regular."""

import errno
import json
import re
from pathlib import Path

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_PASSWORD = re.compile(r"(:/{1,2}[^\s/@:]{0,200}:)[^\s/@]{1,200}@")


def regular(path: Path) -> Path:
    """The path. OSError for a pipe or a device, which may be read for ever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return path


def whole(text: str) -> str:
    r"""The text with whole characters only: a lone surrogate becomes U+FFFD.

    >>> whole("a\ud800b")
    'a\ufffdb'
    """
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        # A surrogate pair that was escaped in two halves is one character after all.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def one_line(text: str) -> str:
    r"""The text on one line, as a Markdown page may have it: a space for breaks and controls.

    >>> one_line("mit\n---\nlicense: none")
    'mit --- license: none'
    """
    return _BREAKS.sub(" ", whole(text)).strip()


def yaml_text(text: str) -> str:
    r"""The text as a YAML scalar on one line, for a card's front matter.

    >>> yaml_text("mit\ntags: [x]")
    '"mit tags: [x]"'
    """
    return json.dumps(one_line(text), ensure_ascii=False)


def without_passwords(text: str) -> str:
    """The text with the passwords of URLs in it hidden, for messages.

    >>> without_passwords("cannot read ftp://user:secret@host/x")
    'cannot read ftp://user:***@host/x'
    """
    return _PASSWORD.sub(r"\1***@", text)
