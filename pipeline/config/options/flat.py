"""The options of a configuration, and the configuration that their values make."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from ...errors import UsageError
from .fields import Embedding, Kind, Options, check_item, flag_of, kinds_of

C = TypeVar("C")
Label = Callable[[str], str]
"""An option's name -> what an error calls it."""
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a command; `path` leads to its field in the configuration."""

    name: str
    path: tuple[str, ...]
    kind: Kind
    default: Any
    required: bool
    help: str
    title: str | None
    about: Options


def options_of(config: type) -> dict[str, Option]:
    """The options of a configuration and of all that are embedded in it, by name."""
    found = list(_options(config, (), None))
    by_name = {option.name: option for option in found}
    assert len(by_name) == len(found), f"{config.__name__} has two options of one name"
    return by_name


def _options(config: type, path: tuple[str, ...], title: str | None) -> Iterator[Option]:
    kinds = kinds_of(config)
    for field in fields(config):
        about, here, kind = field.metadata, (*path, field.name), kinds[field.name]
        if "embedded" in about:
            yield from _embedded_options(kind.item, here, about["embedded"])
        elif "help" in about:
            yield Option(
                name=about["name"] or field.name,
                path=here,
                kind=kind,
                default=None if field.default is MISSING or about["absent"] else field.default,
                required=field.default is MISSING,
                help=about["help"],
                title=about["title"] or title,
                about=about,
            )


def _embedded_options(
    config: type, path: tuple[str, ...], embedding: Embedding
) -> Iterator[Option]:
    for option in _options(config, path, embedding.title):
        name = option.name
        if option.path[len(path)] not in (*embedding.without, *embedding.supply):
            yield replace(
                option,
                name=embedding.rename.get(name, name),
                default=embedding.default.get(name, option.default),
                help=embedding.help.get(name, option.help),
                required=option.required and not embedding.needs,
            )


def known(options: Mapping[str, Option], name: str, *, label: Label = flag_of) -> Option:
    """The option of that name. UsageError, which names the nearest one, if there is none."""
    if name not in options:
        (nearest,) = difflib.get_close_matches(name, options, n=1, cutoff=0)
        raise UsageError(f"unknown option {label(name)}; the nearest one is {nearest}")
    return options[name]


# --- values -> configuration ----------------------------------------------------------------------


def configured(config: type[C], given: Options, *, label: Label = flag_of) -> C:
    """The configuration with these options; None stands for an option that is not given.

    Raises UsageError for an unknown option, a missing one, and a value of another type.
    """
    options = options_of(config)
    values = {name: option.default for name, option in options.items()}
    for name, value in given.items():
        option = known(options, name, label=label)
        if value is not None:
            values[name] = converted(option, value, label=label)
    for name, option in options.items():
        if option.required and values[name] is None:
            raise UsageError(f"{label(name)} is missing: {option.help}")
    return cast(C, _Builder(options, values).build(config))


class _Builder:
    """Makes a configuration, and those embedded in it, from the values of all options."""

    def __init__(self, options: Mapping[str, Option], values: Options) -> None:
        self._options, self._values = options, values
        self._names = {option.path: name for name, option in options.items()}

    def build(
        self, config: type, path: tuple[str, ...] = (), embedding: Embedding | None = None
    ) -> Any:
        """The configuration whose fields' paths begin with `path`."""
        kinds = kinds_of(config)
        arguments: dict[str, Any] = {}
        for field in fields(config):
            if embedding and field.name in embedding.supply:
                arguments[field.name] = embedding.supply[field.name](self._values)
            elif not embedding or field.name not in embedding.without:
                here = (*path, field.name)
                arguments |= self._argument(field, kinds[field.name].item, here)
        return config(**arguments)

    def _argument(self, field: Field[Any], item: Any, path: tuple[str, ...]) -> dict[str, Any]:
        """The field with its value; nothing where its default holds."""
        if "embedded" in field.metadata:
            embedding = field.metadata["embedded"]
            if self._is_wanted(embedding, path):
                return {field.name: self.build(item, path, embedding)}
        elif path in self._names and self._values[self._names[path]] is not None:
            return {field.name: self._values[self._names[path]]}
        elif field.metadata.get("absent"):
            return {field.name: field.metadata["absent"]()}
        return {}

    def _is_wanted(self, embedding: Embedding, path: tuple[str, ...]) -> bool:
        needs = embedding.needs
        if not needs or any(self._values[name] is not None for name in needs):
            return True
        for name, option in self._options.items():
            if option.path[: len(path)] == path and self._values[name] != option.default:
                needed = " or ".join(map(flag_of, needs))
                raise UsageError(f"{flag_of(name)} goes with {needed}, which is not given")
        return False


def converted(option: Option, value: Any, *, label: Label = flag_of) -> Any:
    """The option's value from what a file, a caller or a command line gives. UsageError."""
    name, about = label(option.name), option.about
    if about["parse"] is not None:
        return _parsed(about["parse"], value, name) if isinstance(value, str) else value
    if not option.kind.many:
        return _item(option, value, name)
    given = value if isinstance(value, list | tuple) else (value,)
    parts = [part for one in given for part in _parts(one, split=about["split"])]
    return tuple(_item(option, part, name) for part in parts)


def _parsed(parse: Callable[[str], Any], text: str, name: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{name} {text[:80]!r}: {str(error).lower()}") from None


def _parts(value: Any, *, split: bool) -> list[Any]:
    if not (split and isinstance(value, str)):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _item(option: Option, value: Any, name: str) -> Any:
    kind = option.kind
    says, read = _READERS[str if kind.choices else kind.item]
    try:
        item = read(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} takes {says}, not {_cut(value)!r}") from None
    check_item(name, item, kind, option.about)
    return item


def _cut(value: Any) -> Any:
    return value[:80] if isinstance(value, str) else value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value not in _BOOLEANS:
        raise ValueError
    return _BOOLEANS[value]


def _integer(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Path):
        raise TypeError
    return value if isinstance(value, str) else str(value)


_READERS: dict[Any, tuple[str, Callable[[Any], Any]]] = {
    bool: ("true or false", _boolean),
    int: ("a whole number", _integer),
    float: ("a number", _number),
    str: ("a text", _text),
    Path: ("a path", Path),
}
