"""What the selections of a run are called: `<student>`, or `<student>~<name>` by `--name`."""

from collections.abc import Collection

from ..errors import CurateError
from .directory import RunDir, selection_key, student_of


def selection_keys(run: RunDir) -> list[str]:
    """All selections, begun or finished; a student that is only scored stands for itself."""
    stages = (name.partition("/") for name in run.manifest.get("stages", {}))
    keys = {key for stage, _, key in stages if stage == "select"}
    keys |= {path.name for path in (run.path / "selected").glob("[!.]*") if path.is_dir()}
    for path in (run.path / "scores").glob("[!.]*/options*.json"):
        keys.add(selection_key(path.parent.name, path.stem.partition("~")[2]))
    return sorted(keys | set(scored_students(run)) - {student_of(key) for key in keys})


def scored_students(run: RunDir) -> list[str]:
    """The folders in `scores/`."""
    return sorted(path.name for path in (run.path / "scores").glob("[!.]*") if path.is_dir())


def found_key(run: RunDir, wanted: str, keys: Collection[str], *, flag: str = "selection") -> str:
    """The key that is so called: by its whole, by its name, or by its beginning.

    Raises CurateError for a name that is not there, or not unique.
    """
    named = [key for key in keys if key.partition("~")[2] == wanted]
    begun = [key for key in keys if key.startswith(wanted)]
    found = [wanted] if wanted in keys else named or begun
    if len(found) != 1:
        what = "stands for several" if found else "is none"
        have = ", ".join(found or sorted(keys)) or "it has none yet"
        raise CurateError(f"--{flag} {wanted!r} {what} of {run.path}: {have}")
    return found[0]


def label_of(key: str) -> str:
    """The name that a selection was given, else the student's."""
    return key.partition("~")[2] or key
