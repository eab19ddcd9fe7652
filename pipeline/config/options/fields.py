"""What a configuration's field says of itself; the command line and --config are made from it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from math import isfinite
from operator import ge, gt, le
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ...base.foreign_text import whole
from ...errors import UsageError

Place = Literal["in", "out", "journal"]
_LIMITS = (("min", "at least", ge), ("max", "at most", le), ("above", "above", gt))
Options = Mapping[str, Any]
"""The values of a command's options, by their names."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The values that a field takes: one item, or a tuple of them."""

    item: Any
    many: bool = False

    @property
    def choices(self) -> tuple[Any, ...]:
        """The closed set that an item is of, if there is one."""
        return get_args(self.item) if get_origin(self.item) is Literal else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """How the fields of a nested configuration become options of the outer one."""

    title: str
    rename: Mapping[str, str]
    default: Options
    help: Mapping[str, str]
    without: Collection[str]
    supply: Mapping[str, Callable[[Options], Any]]
    needs: Collection[str]


def option(
    default: Any = MISSING,
    *,
    help: str,
    name: str | None = None,
    flags: tuple[str, ...] = (),
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    place: Place | None = None,
    split: bool = True,
    parse: Callable[[str], Any] | None = None,
    text: Callable[[Any], Any] | None = None,
    absent: Callable[[], Any] | None = None,
    record: bool = True,
    argument: bool = False,
    preset: Any = None,
    title: str | None = None,
) -> Any:
    """A field that is the option `--field-name`, or `--name`.

    `place`: it names data that is read or written and may be in an object store. `split`: texts of
    a list are cut at commas. `parse` makes the value from its text, `text` what is recorded of it,
    `absent` the value where none is given. `record`: config.json keeps it. `argument`: it is typed
    without a flag. `preset`: what None stands for unless the preset says another. `title`: what
    --help puts it under.
    """
    metadata = {key: value for key, value in locals().items() if key != "default"}
    return field(default=default, metadata=metadata)


def embedded(
    title: str,
    *,
    rename: Mapping[str, str] | None = None,
    default: Options | None = None,
    help: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    supply: Mapping[str, Callable[[Options], Any]] | None = None,
    needs: Collection[str] = (),
    optional: bool = False,
) -> Any:
    """A field that is a configuration of its own, with its options under `title`.

    `rename`, `default` and `help` go by the options' names. The fields in `without` keep their
    defaults, those in `supply` follow from other options. Where `needs` names options and none of
    them is given, the field is None. An `optional` one may be None in Python alone.
    """
    embedding = Embedding(
        title=title,
        rename=rename or {},
        default=default or {},
        help=help or {},
        without=without,
        supply=supply or {},
        needs=needs,
    )
    return field(default=None if needs or optional else MISSING, metadata={"embedded": embedding})


def flag_of(name: str) -> str:
    """The option as it is typed.

    >>> flag_of("max_ifd")
    '--max-ifd'
    """
    return "--" + name.replace("_", "-")


def kinds_of(config: type) -> dict[str, Kind]:
    """What each field of a configuration takes."""
    return {name: _kind(hint) for name, hint in get_type_hints(config).items()}


def _kind(hint: Any) -> Kind:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    items = [part for part in parts if part is not type(None)]
    tuples = [part for part in items if get_origin(part) is tuple]
    return Kind(get_args(tuples[0])[0], many=True) if tuples else Kind(items[0])


def check_fields(config: Any) -> None:
    """UsageError for a field with a value that its type or metadata excludes."""
    kinds = kinds_of(type(config))
    for found in fields(config):
        about, value = found.metadata, getattr(config, found.name)
        if "help" not in about or about["parse"] or value is None:
            continue
        items = value if isinstance(value, tuple) else (value,)
        for item in items:
            check_item(flag_of(about["name"] or found.name), item, kinds[found.name], about)


def check_item(label: str, item: Any, kind: Kind, about: Options) -> None:
    """UsageError for a value that is no choice or out of range, or a name that cannot be noted."""
    if about["place"] == "out" and whole(str(item)) != str(item):
        raise UsageError(f"{label} {whole(str(item))}: the name is not UTF-8; choose another")
    if kind.choices and item not in kind.choices:
        raise UsageError(f"{label} takes {', '.join(kind.choices)}, not {item!r}")
    for key, says, holds in _LIMITS:
        if about[key] is not None and not holds(item, about[key]):
            raise UsageError(f"{label} must be {says} {about[key]}, not {item}")
    if isinstance(item, float) and not isfinite(item):
        raise UsageError(f"{label} must be a finite number, not {item}")
