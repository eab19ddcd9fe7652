"""Typer's parameters and --help from the options of a configuration."""

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..base.foreign_text import without_passwords
from ..base.progress import error_text, inert
from ..config.options.fields import flag_of
from ..config.options.files import file_options
from ..config.options.flat import Option, options_of
from ..errors import CurateError

CONFIG, JSON, QUIET, VERBOSE = "config", "json", "quiet", "verbose"
"""The options that every command has."""
GROUPS = {
    "Begin here": ("demo", "run"),
    "The same, step by step": ("reflect", "select", "finetune"),
    "Look at it, hand it on": ("status", "next", "explain", "report", "export"),
    "Measure": ("compare", "score", "bpc", "evaluate", "generate", "judge"),
    "Preference pairs and loops": ("pairs", "align", "improve"),
    "New data": ("synthesize", "solve", "check"),
}
"""The commands as `curate --help` lists them."""


_Mistake: type[Any] = typer.BadParameter.__mro__[1]  # UsageError, of click's or of typer's own


class Commands(TyperGroup):
    """--help by the titles of `GROUPS`; mistakes without what a terminal obeys or a password."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Whole sentences, in one column for all groups."""
        widest = max(map(len, self.commands))
        for title, names in GROUPS.items():
            with formatter.section(title):
                rows = [(name.ljust(widest), self.commands[name].help) for name in names]
                formatter.write_dl(rows)

    def invoke(self, ctx: Any) -> Any:
        """What the words ask for."""
        try:
            return super().invoke(ctx)
        except _Mistake as mistake:
            mistake.message = inert(without_passwords(mistake.message))
            raise


class Help(TyperCommand):
    """--help with the options under their titles, and an example behind them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments, the command's own options, then those of each title."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = getattr(parameter, "rich_help_panel", None) or "Options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The example, on one line so that it can be copied."""
        formatter.write(f"\nExample:\n  {self.epilog}\n")


def parameters(config: type) -> list[inspect.Parameter]:
    """The command's parameters: arguments, options, and those that every command has."""
    ordered = sorted(
        options_of(config).values(),
        key=lambda option: (not option.about["argument"], not option.required),
    )
    return [*map(_parameter, ordered), _config_parameter(config), *_SWITCHES]


def _parameter(option: Option) -> inspect.Parameter:
    help, title = option.help, option.title
    if option.about["argument"]:
        name = option.name.upper()
        info = typer.Argument(help=help, metavar=name, rich_help_panel="Arguments")
    else:
        value = _metavar(option)
        info = typer.Option(*_names(option), help=help, metavar=value, rich_help_panel=title)
    default = inspect.Parameter.empty if option.required else option.default
    if isinstance(default, tuple):
        default = list(map(str, default)) or None
    return _keyword(option.name, Annotated[_type(option), info], default)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _names(option: Option) -> tuple[str, ...]:
    flag = flag_of(option.name)
    if option.kind.item is bool and option.default is None:  # where it is not off already
        flag = f"{flag}/{flag_of(f'no_{option.name}')}"
    return (*option.about["flags"], flag)


def _type(option: Option) -> Any:
    """What one occurrence is parsed to; the configuration does the rest."""
    if option.about["parse"] is not None:
        return str | None
    item: Any = list[str] if option.kind.many else option.kind.item
    return item if option.required or option.default is not None else item | None


def _metavar(option: Option) -> str | None:
    if not option.kind.many or option.about["parse"] is not None:
        return None
    item = "|".join(option.kind.choices) or option.kind.item.__name__
    return f"<{item}>{',…' if option.about['split'] else ''}"


def _config_parameter(config: type) -> inspect.Parameter:
    def read(ctx: typer.Context, path: Path | None) -> Path | None:
        if path is not None:
            try:
                ctx.default_map = file_options(config, path)
            except CurateError as error:
                raise typer.BadParameter(error_text(error), ctx=ctx) from None
        return path

    info = typer.Option(
        flag_of(CONFIG),
        help="Options from a YAML or JSON file, or a run's config.json; what is typed wins.",
        callback=read,
        is_eager=True,
    )
    return _keyword(CONFIG, Annotated[Path | None, info], None)


def _switch(name: str, help: str) -> inspect.Parameter:
    return _keyword(name, Annotated[bool, typer.Option(flag_of(name), help=help)], False)


_SWITCHES = (
    _switch(JSON, "The result as JSON."),
    _switch(QUIET, "Neither progress nor notes, on stderr; errors are said."),
    _switch(VERBOSE, "Progress every second, and an error's traceback."),
)
