"""The floors of CONTRIBUTING.md, read from the imports; and what `curate --help` loads."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import curate.cli

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "trl", "vllm", "datasets", "lm_eval", "matplotlib"}
MODULES = sorted((ROOT / "pipeline").rglob("*.py"))


def floors() -> dict[str, int]:
    """Each room's floor by CONTRIBUTING.md's table: a folder's name or a module's."""
    found = {}
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for floor, rooms in re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE):
        for room in re.findall(r"`([\w/.]+)`", rooms):
            found[room.removesuffix("/").removesuffix(".py")] = int(floor)
    return found


FLOORS = floors()


def room_of(module: str) -> str | None:
    """`curate.pipeline.ROOM…` -> ROOM; None for the package itself and what is not of it."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["curate", "pipeline"] and len(parts) > 2 else None


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("curate", *parts)).removesuffix(".__init__")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """The absolute names of the modules (or names in them) that a file imports."""
    tree = ast.parse(path.read_text("utf-8"))
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in executed_at_import(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def executed_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes outside functions; `if TYPE_CHECKING` is not executed either."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from executed_at_import(node)


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(name_of(path)) for path in MODULES} - {None}
    assert rooms == set(FLOORS)
    assert set(FLOORS.values()) == set(range(1, 14))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT / "pipeline")))
def test_a_room_imports_from_floors_below_or_itself(path: Path) -> None:
    own = room_of(name_of(path))
    for name in imports(path):
        assert not re.match(r"(curate\.)?cli\b", name), f"{path} imports the command line"
        assert name.split(".")[0] != "pipeline", f"{path}: a bare import of {name}"
        room = room_of(name)
        if room is None or own is None or room == own:
            continue
        assert FLOORS[room] < FLOORS[own], f"{path}: {own} (floor {FLOORS[own]}) imports {name}"


def test_the_files_that_the_house_names_are_there() -> None:
    named = re.findall(r"`(\w+/[\w/]+\.py)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    there = [any((ROOT / base / path).is_file() for base in ("", "pipeline")) for path in named]
    assert len(named) > 20
    assert [path for path, found in zip(named, there, strict=True) if not found] == []


def test_the_stages_meet_through_files_alone() -> None:
    for path in (ROOT / "pipeline" / "stages").rglob("*.py"):
        own = name_of(path).split(".")[3:4]
        for name in imports(path):
            assert room_of(name) != "stages" or name.split(".")[3:4] == own, f"{path}: {name}"


def test_lm_eval_has_one_home() -> None:
    homes = {path for path in MODULES for name in imports(path) if name.split(".")[0] == "lm_eval"}
    assert homes == {ROOT / "pipeline" / "stages" / "evaluation" / "benchmark.py"}


def test_trl_has_one_home() -> None:
    homes = {path for path in MODULES for name in imports(path) if name.split(".")[0] == "trl"}
    assert homes == {ROOT / "pipeline" / "training" / "trainer.py"}


@pytest.mark.parametrize(
    "path", [*MODULES, ROOT / "cli.py"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_heavy_libraries_are_imported_in_functions(path: Path) -> None:
    heavy = {name.split(".")[0] for name in imports(path, top_level=True)} & HEAVY
    numeric = room_of(name_of(path)) in ("scoring", "training")
    assert heavy <= ({"torch"} if numeric else set())


def test_vllm_is_never_imported() -> None:
    assert not [p for p in MODULES for name in imports(p) if name.split(".")[0] == "vllm"]


def test_the_package_is_the_one_of_this_checkout() -> None:
    assert Path(curate.cli.__file__).resolve() == ROOT / "cli.py"


HELP = """
import json, sys
sys.argv[0] = "curate"
from curate.cli import app
for arguments in ([], *([name] for name in sys.argv[1:])):
    try:
        app([*arguments, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
COMMANDS = [
    "reflect",
    "select",
    "score",
    "finetune",
    "run",
    "compare",
    "explain",
    "report",
    "generate",
    "judge",
    "pairs",
    "evaluate",
    "status",
    "next",
    "export",
    "demo",
    "bpc",
    "solve",
    "check",
    "synthesize",
    "improve",
]


def test_help_loads_no_heavy_library_and_names_each_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stderr)}
    assert not loaded & {*HEAVY, "pyarrow", "numpy", "httpx2"}
    overview = done.stdout.partition("Usage: curate reflect")[0]
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", overview, re.MULTILINE), name
        assert f"Usage: curate {name} " in done.stdout


REPLIES = "data/demo/replies.jsonl"
WITHOUT = """
import sys
absent, *sys.argv[1:] = sys.argv[1:]
sys.modules.update(dict.fromkeys(absent.split(",")))
from curate.cli import main
main()
"""


def without(absent: str, *arguments: str) -> None:
    """`curate` where these libraries are not installed."""
    command = [sys.executable, "-c", WITHOUT, absent, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_recorded_replies_and_scores_take_few_libraries(tmp_path: Path) -> None:
    run, replies = str(tmp_path / "run"), ("--engine", "recorded", "--replies", REPLIES)
    reflected = ("reflect", "data/demo/records.jsonl", *replies, "--limit", "2", "--out", run)
    without("httpx2,datasets", *reflected)
    # transformers itself takes httpx2.
    without("datasets", "select", run, "--student", "data/demo/student", "--shard", "0/2")
    assert len(list((tmp_path / "run" / "scores").rglob("*.parquet"))) == 1
