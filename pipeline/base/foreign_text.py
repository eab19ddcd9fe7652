"""Texts of strangers, made fit for files: whole characters, one line."""

import json
import re

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


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
