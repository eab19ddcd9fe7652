"""The HTML page: numbers and figures in, one self-contained text out."""

import re
import shlex
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import Any

from markupsafe import Markup, escape

from . import labels
from .difference import Piece
from .figures.catalogue import Panels
from .figures.panels import Panel
from .numbers.contents import RunNumbers, StudentNumbers
from .numbers.reading import StudentTables
from .records import RecordsFile

FOLD = 900
"""Characters of a text that are shown before the rest is folded."""
# Controls, and marks that change the direction of what follows. Joiners of emoji and of scripts are
# left alone.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentPage:
    """One selection's part of the page; `shared`: the records that the first one keeps, too."""

    student: StudentTables
    numbers: StudentNumbers
    panels: Panels
    records: RecordsFile | None
    shared: int


def page(
    facts: Mapping[str, Any],
    about: RunNumbers,
    statuses: Panel | None,
    students: Sequence[StudentPage],
    made: Mapping[str, Any],
) -> str:
    """The whole page of a run, as text; `facts` are of the run as a whole, see `page.html`."""
    parts = {"facts": facts, "run": about, "statuses": statuses, "students": students, "made": made}
    script = _file("records.js")
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    return rendered("page.html", **parts, labels=labels, script=Markup(script), allowed=allowed)


def rendered(template: str, **values: Any) -> str:
    """A page of this folder with its values and the style."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_file),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "plain": plain,
        "folded": folded,
        "quoted": shlex.quote,
        "setting": setting,
        "thousands": lambda value: f"{value:,}",
        "fixed": lambda value, digits: f"{value:,.{digits}f}",
    }
    return environment.get_template(template).render(**values, style=Markup(_file("page.css")))


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def visible(text: str) -> Markup:
    """Text from the data, inert: escaped, and what is not seen in a box with its name.

    A mark that turns the direction of text ends with its box. NUL cannot stand in HTML: its sign
    stands for it.

    >>> visible("<b>\\0")
    Markup('&lt;b&gt;<bdi class="unseen" title="U+0000">\u2400</bdi>')
    """
    parts, done = [], 0
    for found in _UNSEEN.finditer(text):
        parts.append(escape(text[done : found.start()]))
        sign = {"\0": "\u2400", "\r": "&#13;"}.get(found[0], found[0])
        parts.append(Markup(f'<bdi class="unseen" title="U+{ord(found[0]):04X}">{sign}</bdi>'))
        done = found.end()
    return Markup("").join([*parts, escape(text[done:])])


def plain(text: str) -> str:
    """Text from the data where no box can stand, as in an attribute."""
    return _UNSEEN.sub("\ufffd", text)


def setting(value: Any) -> str:
    """A value of a configuration, in words.

    >>> setting([None, True, "a"])
    'not given, yes, a'
    >>> setting([None, None])
    'not given'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {setting(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        if value and all(one is None for one in value):
            return setting(None)
        return ", ".join(map(setting, value)) or "none"
    words = {None: "not given", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def folded(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece], int]:
    """The beginning of a long text, the rest of it, and the rest's length; short texts whole."""
    total = sum(len(piece.text) for piece in pieces)
    if total <= FOLD * 1.3:
        return list(pieces), [], 0
    first: list[Piece] = []
    rest: list[Piece] = []
    room = FOLD
    for piece in pieces:
        head, tail = piece.text[:room], piece.text[room:]
        room -= len(head)
        first += [Piece(head, piece.changed)] if head else []
        rest += [Piece(tail, piece.changed)] if tail else []
    return first, rest, total - FOLD
