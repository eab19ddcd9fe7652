"""The command line: its options, frozen; exit codes; and one sentence for each bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import typer.main
from typer.testing import CliRunner

from curate.cli import app
from curate.pipeline.commandline.running import Output, register
from curate.pipeline.commands import status
from curate.pipeline.config import StatusConfig, TemplateName

from .llm.batch_server import BatchServer
from .llm.faulty_server import Answer, FaultyServer, Received, always, completion, error
from .scoring.tiny import byte_level, save_student

ROWS = [
    {"id": "first", "instruction": "Say one.", "output": "One."},
    {"id": "second", "instruction": "Say two.", "output": "Two."},
]
REPLIES = [
    {"id": row["id"], "candidate": kind, "reply": text}
    for row in ROWS
    for kind, text in (
        ("instruction", "[New Instruction] Count to two. [End] [New Answer] 1, 2. [End]"),
        ("response", "[Better Answer] It is said: one. [End]"),
        ("both", "[Better Answer] 1 and 2. [End]"),
    )
]

# --- the interface, frozen ------------------------------------------------------------------------

FROZEN = Path(__file__).with_name("options.txt")
# INTERFACE.md; its `…` aside.
PROMISED = {
    "reflect": "--out --teacher --engine --base-url --replies --journal --concurrency --max-tokens "
    "--temperature --seed --limit --dry-run --max-cost --max-total-tokens --retry --prompts",
    "select": "--student --out --template --tokenization --max-length --batch-tokens --device "
    "--dtype --score-all --max-ifd --max-rifd --only-improved --prefer-passing --top --rank-by",
    "finetune": "--model --out --preset --epochs --learning-rate --batch-size --max-length",
    "run": "--out --teacher --student --schedule",
    "score": "--student --out --template --tokenization --max-length --batch-tokens --device "
    "--dtype",
    "compare": "",
    "align": "--model --out --loss --beta --nll-weight --delta --desirable-weight "
    "--undesirable-weight --label-smoothing --reference --reference-update --alpha --every",
    "pairs": "--student --choose --beta --keep --against --out --min-margin --max-length-ratio "
    "--balance-length --tier --decontaminate --seed",
    "explain": "",
    "generate": "--model --out",
    "judge": "--judge --from-log --json",
    "evaluate": "--model --tasks",
    "status": "",
    "export": "",
    "report": "--out",
    "demo": "",
    "bpc": "--student --base --text-column --window --stride --tokenization --by --out --json",
    "solve": "--out --teacher --strategy --samples --temperature --shots --num-shots "
    "--task-column --answer-column",
    "check": "--checker --keep --min-pass-rate --max-pass-rate --out --json",
}


def commands() -> dict[str, Any]:
    found: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return found


def options_of(command: Any) -> set[str]:
    return {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-") and name != "--help"
    }


def listing() -> str:
    """All arguments and options with their defaults; options.txt holds what is promised of them."""
    lines = ["# Written by `python -m tests.test_cli`: a change here is one of the interface."]
    for name, command in commands().items():
        lines.append(f"\n{name}")
        for parameter in command.params:
            names = ", ".join((*parameter.opts, *parameter.secondary_opts))
            usual = (
                ""
                if parameter.default is None or parameter.default is False
                else f" = {parameter.default}"
            )
            lines.append(f"  {names}{usual}{' (required)' if parameter.required else ''}")
    return "\n".join(lines) + "\n"


def test_the_commands_and_their_options_are_these() -> None:
    assert listing() == FROZEN.read_text("utf-8")


@pytest.mark.parametrize("name", PROMISED)
def test_the_promised_options_are_there(name: str) -> None:
    promised = {"--config", "--json", *PROMISED[name].split()}
    assert promised <= options_of(commands()[name])


@pytest.mark.parametrize("name", PROMISED)
def test_every_option_is_explained(name: str) -> None:
    for parameter in commands()[name].params:
        assert parameter.help, f"{name} {parameter.name}"
    assert commands()[name].help


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [
        ("reflect", "engine", "auto"),
        ("reflect", "max_tokens", 2048),
        ("reflect", "temperature", 0.0),
        ("select", "template", "auto"),
        ("select", "tokenization", "exact"),
        ("select", "rank_by", "ifd"),
        ("select", "max_ifd", 1.0),
        ("select", "max_rifd", 1.0),
        ("select", "device", "auto"),
        ("select", "dtype", "auto"),
        ("run", "schedule", "all"),
    ],
)
def test_the_promised_defaults(name: str, option: str, default: object) -> None:
    (parameter,) = [p for p in commands()[name].params if p.name == option]
    assert parameter.default == default


# --- running it -----------------------------------------------------------------------------------


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what is wrong; click writes its own in capitals."""
        return [line for line in self.err.splitlines() if line.lower().startswith("error: ")]


Curate = Callable[..., Ended]


@pytest.fixture
def curate(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Curate]:
    """Runs a command line in this process."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.delenv("CURATE_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments])
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with data, replies and a few bad inputs."""
    written(tmp_path / "ok.jsonl", ROWS)
    written(tmp_path / "replies.jsonl", REPLIES)
    written(tmp_path / "columns.jsonl", [{"question": "a", "answer": "b", "topic": "c"}])
    (tmp_path / "empty.jsonl").write_text("", "utf-8")
    (tmp_path / "broken.json").write_text('[\n{"instruction": "a", "output": "b"},\n{"ins', "utf-8")
    lines = (tmp_path / "ok.jsonl").read_text("utf-8")
    (tmp_path / "broken.jsonl").write_text(f'{lines}{{"instruction": "c", \n', "utf-8")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / "notes.txt").write_text("no data", "utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine", "utf-8")
    (tmp_path / "odd.parquet").write_text("not Parquet", "utf-8")
    return tmp_path


RECORDED = "--engine recorded --replies replies.jsonl"
BAD: list[tuple[str, int, str]] = [
    # data
    (f"reflect none.jsonl --out run {RECORDED}", 1, "no such file or folder: none.jsonl"),
    (f"reflect nothing --out run {RECORDED}", 1, "the folder nothing holds no data"),
    (f"reflect broken.json --out run {RECORDED}", 1, "malformed JSON in broken.json, line 3"),
    (f"reflect broken.jsonl --out run --strict {RECORDED}", 1, r"broken\.jsonl:3: malformed JSON"),
    (f"reflect odd.parquet --out run {RECORDED}", 1, r"cannot read odd\.parquet"),
    (f"reflect full/thesis.doc --out run {RECORDED}", 1, "unknown format; known are .json"),
    (
        f"reflect columns.jsonl --out run {RECORDED}",
        1,
        "no column 'instruction' nor 'output'; its columns are question, answer, topic.*"
        "--instruction-column",
    ),
    (
        f"reflect columns.jsonl --instruction-column question --out run {RECORDED}",
        1,
        "no column 'output'; its columns are question, answer, topic",
    ),
    (f"reflect empty.jsonl --out run {RECORDED}", 1, r"empty\.jsonl is empty"),
    ("reflect none.jsonl --dry-run", 1, "no such file or folder"),
    # where to
    (f"reflect ok.jsonl {RECORDED}", 2, "--out is needed"),
    (
        "select ok.json --student STUDENT",
        2,
        "--out is needed: ok.json is .*nearest there is ok.jsonl",
    ),
    ("score ok.jsonl --student STUDENT", 2, "Missing option .*'--out'"),
    (f"reflect ok.jsonl --out full {RECORDED}", 1, "full is not empty and no run of curate"),
    (f"reflect ok.jsonl --out empty.jsonl {RECORDED}", 1, "is a file, not a run directory"),
    (f"reflect ok.jsonl --out empty.jsonl/run {RECORDED}", 1, "cannot write empty.jsonl/run"),
    ("select ok.jsonl --student STUDENT --out empty.jsonl/run", 1, "cannot write"),
    ("score ok.jsonl --student STUDENT --out empty.jsonl/s.parquet", 1, "cannot write"),
    ("finetune ok.jsonl --model STUDENT --preset demo --out empty.jsonl/m", 1, "cannot write"),
    ("score ok.jsonl --student STUDENT --out nothing", 1, "is a folder"),
    # the teacher
    ("reflect ok.jsonl --out run --engine openai --teacher t", 2, "--base-url"),
    ("reflect ok.jsonl --out run --base-url http://localhost:1/v1", 2, "--teacher is needed"),
    ("reflect ok.jsonl --out run --teacher t --base-url nowhere", 1, "no address like http"),
    ("reflect ok.jsonl --out run --engine recorded", 2, "needs --replies"),
    ("reflect ok.jsonl --out run --replies none.jsonl", 1, r"cannot read the replies none\.jsonl"),
    ("reflect ok.jsonl --out run --replies ok.jsonl", 1, r"ok\.jsonl, line 1: no 'candidate'"),
    (f"reflect ok.jsonl --out run --prompts nothing {RECORDED}", 1, "cannot read the prompt"),
    (f"reflect ok.jsonl --out run --retry lost {RECORDED}", 2, "--retry takes .*, not 'lost'"),
    (f"reflect ok.jsonl --out run --max-cost 1 {RECORDED}", 1, "--price-in"),
    (
        f"reflect ok.jsonl --out run --max-cost 1 --max-total-tokens 9 {RECORDED}",
        2,
        "not both",
    ),
    # the student
    ("select ok.jsonl --out run --student nobody/", 1, "nobody"),
    ("select ok.jsonl --out run --student ./nobody", 1, "nobody"),
    ("select ok.jsonl --out run --student nothing", 1, "nothing"),
    ("finetune ok.jsonl --out model --model ./nobody", 1, "nobody"),
    (f"run ok.jsonl --out run --student ./nobody {RECORDED}", 1, "nobody"),
    (f"run ok.jsonl --out run --student STUDENT --epochs=-1 {RECORDED}", 2, "epochs"),
    (f"run ok.jsonl --out run --student STUDENT --batch-size 0 {RECORDED}", 2, "--batch-size"),
    ("select ok.jsonl --out run --student STUDENT --template latin", 2, "latin"),
    ("select ok.jsonl --out run --student STUDENT --tokenization magic", 2, "magic"),
    ("select ok.jsonl --out run --student STUDENT --device gpu", 1, "--device gpu"),
    ("select ok.jsonl --out run --student STUDENT --max-length 9999", 1, "9999.*256"),
    ("select ok.jsonl --out run --student STUDENT --executor slurm", 2, "slurm"),
    (
        "select ok.jsonl --out run --student STUDENT --workers 2",
        2,
        "--workers is for --executor ray",
    ),
    ("score ok.jsonl --out s.parquet --student STUDENT --executor ray --workers 0", 2, "--workers"),
    (
        "score ok.jsonl --out s.parquet --student STUDENT --executor ray --device cuda:0,1",
        2,
        "--device takes auto, cpu or cuda, not 'cuda:0,1'",
    ),
    (
        "select ok.jsonl --out run --student STUDENT --executor ray --shard 1/2",
        2,
        "shares the shards out itself, not share 1/2",
    ),
    ("score ok.jsonl --student STUDENT --out s.csv", 2, "written as Parquet"),
    ("reflect okk.jsonl --out run --teacher t --base-url http://localhost:1", 1, "nearest .* ok.j"),
    # numbers
    ("select ok.jsonl --out run --student STUDENT --top many", 2, "--top takes .*'many'"),
    ("select ok.jsonl --out run --student STUDENT --top 101%", 2, "--top takes"),
    ("select ok.jsonl --out run --student STUDENT --top=-3", 2, "--top takes"),
    ("select ok.jsonl --out run --student STUDENT --top 0%", 2, "--top takes"),
    ("select ok.jsonl --out run --student STUDENT --max-ifd=-1", 2, "--max-ifd"),
    ("select ok.jsonl --out run --student STUDENT --max-rifd=nan", 2, "--max-rifd"),
    ("select ok.jsonl --out run --student STUDENT --max-length=-1", 2, "--max-length"),
    ("select ok.jsonl --out run --student STUDENT --batch-tokens 0", 2, "--batch-tokens"),
    (f"reflect ok.jsonl --out run --limit=-1 {RECORDED}", 2, "--limit"),
    (f"reflect ok.jsonl --out run --shard 3/3 {RECORDED}", 2, "--shard takes i/n .*'3/3'"),
    ("select ok.jsonl --out run --student STUDENT --shard half", 2, "--shard takes"),
    (f"reflect ok.jsonl --out run --shard 0/2 --max-total-tokens 9 {RECORDED}", 2, "the others"),
    (f"reflect ok.jsonl --out run --concurrency 0 {RECORDED}", 2, "--concurrency"),
    (f"reflect ok.jsonl --out run --max-tokens=-5 {RECORDED}", 2, "--max-tokens"),
    (f"reflect ok.jsonl --out run --max-tokens many {RECORDED}", 2, "--max-tokens"),
    (f"reflect ok.jsonl --out run --temperature=-0.5 {RECORDED}", 2, "--temperature"),
    (f"reflect ok.jsonl --out run --max-cost=-1 {RECORDED}", 2, "--max-cost"),
    (f"reflect ok.jsonl --out run --price-in=-1 {RECORDED}", 2, "--price-in"),
    ("finetune ok.jsonl --out model --model STUDENT --epochs=-1", 2, "epochs"),
    ("finetune ok.jsonl --out model --model STUDENT --learning-rate 0", 2, "--learning-rate"),
    ("finetune ok.jsonl --out model --model STUDENT --fsdp", 2, "several processes, and here is"),
    ("finetune ok.jsonl --out model --model STUDENT --report-to moon", 1, "no tracker .*'moon'"),
    ("finetune ok.jsonl --out model --model PLAIN --template chat", 1, "no chat template"),
    ("finetune ok.jsonl --out model --model STUDENT --seed=-1", 2, "--seed"),
    ("finetune ok.jsonl --out model --model STUDENT --save-steps=-1", 2, "--save-steps"),
    ("finetune ok.jsonl --out model --model STUDENT --weight-decay=-1", 2, "--weight-decay"),
    ("finetune ok.jsonl --out model --model STUDENT --lora-dropout 7", 2, "--lora-dropout"),
    # comparing
    ("compare nothing --model STUDENT --out c", 1, "nothing: no run of curate"),
    ("compare nothing --model STUDENT --out c --sets best", 2, "--sets takes .*'best'"),
    ("compare nothing --model STUDENT --out c --seeds one", 2, "--seeds takes .*'one'"),
    ("compare nothing --model STUDENT --out c --epochs=-1", 2, "epochs"),
    # usage
    ("reflect ok.jsonl --out run --colour red", 2, "No such option: --colour"),
    ("reflect", 2, "Missing argument"),
    ("select ok.jsonl --out run", 2, "Missing option '--student'"),
    ("reflect ok.jsonl more.jsonl --out run", 2, "unexpected extra argument"),
    ("ponder", 2, "No such command 'ponder'"),
    ("explain nothing x", 1, "nothing: no run of curate"),
    ("explain none x", 1, "none: no such run directory"),
    # answers
    ("generate ok.jsonl --model ./nobody --out a.json", 1, "no such model folder: ./nobody"),
    ("generate ok.jsonl --model nothing --out a.json", 1, "nothing is no model folder"),
    ("generate none.jsonl --model STUDENT --out a.json", 1, "no such file or folder: none.jsonl"),
    ("generate empty.jsonl --model STUDENT --out a.json", 1, r"empty\.jsonl is empty"),
    ("generate ok.jsonl --model STUDENT --out ok.jsonl", 1, "was not made by this command"),
    ("generate ok.jsonl --model STUDENT --out empty.jsonl/a.json", 1, "cannot write"),
    ("generate ok.jsonl --model STUDENT --out a.json --format html", 2, "html"),
    ("generate ok.jsonl --model STUDENT --out a.json --engine recorded", 2, "recorded"),
    ("generate ok.jsonl --model m --out a.json --engine openai", 2, "--base-url"),
    # benchmark tasks
    ("evaluate --model ./nobody --tasks arc_easy", 1, "no such model folder: ./nobody"),
    ("evaluate --model STUDENT --base nothing --tasks arc_easy", 1, "nothing is no model folder"),
    ("evaluate --model STUDENT --tasks arc_easy --include-path none", 1, "none is no folder"),
    ("evaluate --model STUDENT --tasks arc_easy --out ok.jsonl", 1, "was not made by this command"),
    ("evaluate --model STUDENT --tasks ,", 2, "--tasks is empty"),
    ("evaluate --model STUDENT", 2, "Missing option '--tasks'"),
    # the judge
    ("judge", 2, "two files of answers are needed, A and B, or --from-log FILE"),
    ("judge ok.jsonl --judge j", 2, "two files of answers"),
    ("judge ok.jsonl ok.jsonl", 2, "--judge is needed"),
    ("judge ok.jsonl ok.jsonl --from-log ok.jsonl", 2, "give no answers"),
    ("judge ok.jsonl none.jsonl --judge j", 1, "no such file or folder: none.jsonl"),
    ("judge ok.jsonl empty.jsonl --judge j", 1, r"empty\.jsonl is empty"),
    ("judge ok.jsonl columns.jsonl --judge j", 1, "no column 'instruction' nor 'output'"),
    ("judge ok.jsonl replies.jsonl --output-column reply --judge j", 1, "no column"),
    (
        "judge ok.jsonl ok.jsonl --judge ./nobody --engine transformers",
        1,
        "./nobody",
    ),
    ("judge --from-log none.json", 1, "no such file or folder: none.json"),
    ("judge --from-log ok.jsonl", 1, "no log of judgements: its columns are id, instruction"),
    ("export nothing --to jsonl --out out", 1, "nothing: no run of curate"),
    ("export nothing --to paper --out out", 2, "paper"),
    ("status nothing", 1, "nothing: no run of curate"),
    ("status ok.jsonl", 1, "ok.jsonl: no run of curate"),
    ("report nothing", 1, "nothing: no run of curate"),
    ("report none", 1, "none: no such run directory"),
]


@pytest.fixture(scope="session")
def plain_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student whose tokenizer has no chat template."""
    folder = tmp_path_factory.mktemp("plain") / "student"
    return save_student(folder, tokenizer=byte_level(chat=None))


@pytest.mark.parametrize(("line", "code", "says"), BAD, ids=[line for line, _, _ in BAD])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    place: Path,
    curate: Curate,
    tiny_student: Path,
    plain_student: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    students = {"STUDENT": str(tiny_student), "PLAIN": str(plain_student)}
    ended = curate(*(students.get(word, word) for word in line.split()))
    assert ended.code == code, ended
    assert len(ended.errors) == 1, ended.err
    assert re.search(says, ended.errors[0]), ended.errors[0]
    assert "Traceback" not in ended.err and not ended.out
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert after == before, sorted(set(after) ^ set(before))


def test_bad_input_does_not_bar_the_corrected_command(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    named = ["--instruction-column", "question", "--output-column", "answer"]
    teacher = RECORDED.split()
    assert curate("reflect", "columns.jsonl", "--out", "a", *teacher).code == 1
    assert curate("reflect", "columns.jsonl", "--out", "a", *teacher, *named).code == 3
    student = ["--student", tiny_student]
    assert curate("select", "columns.jsonl", "--out", "b", *student).code == 1
    assert curate("select", "columns.jsonl", "--out", "b", *student, *named).code == 0


def test_bad_input_does_not_bar_the_corrected_score(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    line = ["score", "columns.jsonl", "--out", "c.parquet", "--student", tiny_student]
    assert curate(*line).code == 1
    named = ["--instruction-column", "question", "--output-column", "answer"]
    assert curate(*line, *named).code == 0


def test_another_configuration_is_refused_by_its_field(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert curate("reflect", "ok.jsonl", "--out", "run", *RECORDED.split()).code == 0
    for changed, field in (
        (["ok.jsonl", "--temperature", "0.5"], "temperature"),
        (["ok.jsonl", "--teacher", "another"], "teacher"),
        (["replies.jsonl", "--instruction-column", "reply", "--output-column", "id"], "columns"),
    ):
        ended = curate("reflect", *changed, "--out", "run", *RECORDED.split())
        assert ended.code == 1 and f"run was made with {field} = " in ended.errors[0]


def test_an_id_that_is_not_there_suggests_near_ones(
    place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    curate("reflect", "ok.jsonl", "--out", "run", *RECORDED.split())
    ended = curate("explain", "run", "frist")
    assert ended.code == 1
    assert ended.errors == ["error: no record has the id 'frist'; near ones are first"]
    told = curate("explain", "run", "fir")
    assert told.code == 0 and told.out.startswith("record first\n")
    told = curate("explain", "run", "first", "--json")
    assert json.loads(told.out)["id"] == "first" and not told.err


# --- options from a file, results for programs ----------------------------------------------------


def test_what_is_typed_wins_over_a_file(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    Path("own.yaml").write_text(
        f"data: ok.jsonl\nout: run\nreplies: replies.jsonl\nstudent: {tiny_student}\ndevice: cpu\n"
        "no_finetune: true\nmax-ifd: 0.000001\n",
        "utf-8",
    )
    none = curate("run", "--config", "own.yaml")
    assert none.code == 0 and "selected 0 of 2 records" in none.out, none
    typed = curate("run", "--config", "own.yaml", "--max-ifd", "9", "--max-rifd", "9")
    assert typed.code == 0 and "selected 2 of 2 records" in typed.out, typed


def test_a_run_s_config_json_begins_another(
    place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert curate("reflect", "ok.jsonl", "-o", "run", *RECORDED.split(), "--limit", "1").code == 0
    again = curate("reflect", "--config", "run/config.json", "-o", "other", "--json")
    assert again.code == 0 and json.loads(again.out)["records"] == 1
    first, second = (
        json.loads(Path(run, "config.json").read_text("utf-8")) for run in ("run", "other")
    )
    assert first["identity"] == second["identity"] and first["options"] == second["options"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_idf: 1", r"max_idf in own\.yaml; the nearest one is max_ifd"),
        ("max_ifd: high", r"max_ifd in own\.yaml takes a number"),
        ("max_ifd: [", r"cannot read --config own\.yaml"),
    ],
)
def test_a_bad_file_of_options_is_one_sentence(
    place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.chdir(place)
    Path("own.yaml").write_text(text, "utf-8")
    ended = curate("select", "ok.jsonl", "--student", "s", "-o", "run", "--config", "own.yaml")
    assert ended.code == 2 and len(ended.errors) == 1 and re.search(says, ended.errors[0])
    missing = curate("select", "ok.jsonl", "--student", "s", "--config", "none.yaml")
    assert missing.code == 2 and "none.yaml" in missing.errors[0]


def test_help_is_in_titled_groups_with_an_example(curate: Curate) -> None:
    told = curate("run", "-h").out
    titles = re.findall(r"^(\w[\w ]*):$", told, re.MULTILINE)
    assert titles[0] == "Arguments" and titles[-1] == "Example"
    assert {"Options", "Input", "Teacher", "Scoring", "Selection", "Training"} <= set(titles)
    assert "\n  curate run data.jsonl --out run " in told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell: str) -> None:
    program = "import sys; sys.argv[0] = 'curate'; from curate.cli import main; main()"
    environment = {**os.environ, "_CURATE_COMPLETE": f"complete_{shell}", "COMP_CWORD": "2",
                   "COMP_WORDS": "curate select --max", "_TYPER_COMPLETE_ARGS":
                   "curate select --max", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert "--max-ifd" in done.stdout and "--max-rifd" in done.stdout, done


# --- exit codes -----------------------------------------------------------------------------------


def asked(server: FaultyServer, place: Path, *more: object) -> list[object]:
    return [
        "reflect", place / "ok.jsonl", "--out", place / "run", "--teacher", "t",
        "--base-url", server.url, *more,
    ]  # fmt: skip


def test_exit_codes_of_reflect(place: Path, curate: Curate) -> None:
    with FaultyServer() as server:
        dry = curate(*asked(server, place, "--dry-run"))
        assert (dry.code, dry.err) == (0, "reflect: loading libraries for t\n")
        assert dry.out.startswith("2 records, 6 calls")
        assert not (place / "run").exists() and not server.requests
        server.behaviour = always(error(401))
        assert curate(*asked(server, place)).code == 1
        server.behaviour = None
        server.requests.clear()
        budget = curate(*asked(server, place, "--max-total-tokens", "3000"))
        assert budget.code == 4 and len(budget.errors) == 1 and "larger budget" in budget.err
        server.behaviour = always(completion("No markers."))
        finished = curate(*asked(server, place))
        assert finished.code == 3 and "unparsed" in finished.out
        server.behaviour = None
        rescued = curate(*asked(server, place, "--retry", "unparsed"))
        assert rescued.code == 0 and "candidates: 6 ok" in rescued.out
        again = curate(*asked(server, place))
        assert again.code == 0 and ": 0 replies asked for" in again.out


def test_exit_codes_of_select_and_run(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    student = ["--student", tiny_student, "--device", "cpu"]
    done = curate("run", "ok.jsonl", "--out", "run", *RECORDED.split(), *student, "--no-finetune")
    assert done.code == 0 and "selected " in done.out and "candidates: 6 ok" in done.out
    again = curate("select", "run", *student, "--max-ifd", "9", "--max-rifd", "9")
    assert again.code == 0 and "selected 2 of 2 records" in again.out
    written(place / "replies.jsonl", REPLIES[:4])
    partly = curate(
        "run", "ok.jsonl", "--out", "partly", *RECORDED.split(), *student, "--no-finetune"
    )
    assert partly.code == 3 and "2 failed" in partly.out
    budget = ["--teacher", "t", "--max-total-tokens", "900"]
    with FaultyServer() as server:
        stopped = curate(
            "run", "ok.jsonl", "--out", "dear", "--base-url", server.url, *budget, *student
        )
        assert stopped.code == 4 and not server.requests


def test_run_passes_its_training_options_on(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    done = curate(
        "run", "ok.jsonl", "--out", "run", *RECORDED.split(), "--student", tiny_student,
        "--device", "cpu", "--max-ifd", "9", "--max-rifd", "9", "--preset", "demo",
        "--max-steps", "1", "--learning-rate", "0.001", "--batch-size", "2",
        "--finetune-max-length", "200", "--held-out-data", "ok.jsonl",
    )  # fmt: skip
    assert done.code == 0 and "trained on 2 rows in 1 step:" in done.out, done
    settings = json.loads((place / "run/model/training.json").read_text("utf-8"))["settings"]
    asked = {"max_steps": 1, "learning_rate": 0.001, "batch_size": 2, "max_length": 200}
    assert asked.items() <= settings.items() and settings["device"] == "cpu"


def test_nothing_is_trained_on_an_empty_or_a_missing_selection(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    student = ["--student", tiny_student, "--device", "cpu"]
    training = ["--model", tiny_student, "--out", "model", "--preset", "demo"]
    curate("reflect", "ok.jsonl", "--out", "run", *RECORDED.split())
    for name in ("finetune", "compare"):
        ended = curate(name, "run", *training)
        assert ended.code == 1 and "no selection yet: run `curate select`" in ended.errors[0]
    curate("select", "run", *student, "--max-ifd", "0.000001")
    for name in ("finetune", "compare"):
        ended = curate(name, "run", *training)
        assert ended.code == 1 and "empty" in ended.errors[0], ended
    assert not Path("model").exists()


def test_results_go_to_stdout_and_progress_to_stderr(place: Path, curate: Curate) -> None:
    with FaultyServer() as server:
        ended = curate(*asked(server, place))
    assert len(ended.out.splitlines()) == 2 and ended.out.startswith("reflected 2 records")
    loading, progress, following = ended.err.splitlines()
    assert loading == "reflect: loading libraries for t" and progress.startswith("reflect  2/2")
    assert following == f"next: curate select {place / 'run'} --student STUDENT"


def test_quiet_and_verbose_go_behind_any_command(place: Path, curate: Curate) -> None:
    with FaultyServer() as server:
        quiet = curate(*asked(server, place), "--quiet")
    assert quiet.code == 0 and quiet.err == "" and quiet.out.startswith("reflected 2 records")
    failed = curate("explain", place / "run", "x", "--verbose")
    assert failed.code == 1 and "Traceback" in failed.err and failed.err.count("error: ") == 1


def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    """Wherever it is come upon, as in a folder of another user."""

    def read(config: StatusConfig) -> Output:
        return Output(result=None, lines=Path(config.run).read_text("utf-8"))

    own = typer.Typer()
    register(own, status, read, example="", trains=False)
    found = CliRunner().invoke(own, [str(tmp_path)])
    assert found.exit_code == 1 and found.stderr.count("\n") == 1
    assert f"error: cannot use {tmp_path}: " in found.stderr


def test_help_lists_each_command_once(curate: Curate) -> None:
    told = re.findall(r"^  ([a-z]+)  +[A-Z]", curate("--help").out, re.M)
    assert sorted(told) == sorted(commands()) and told[0] == "demo"


def test_next_is_what_status_ends_with(place: Path, curate: Curate) -> None:
    with FaultyServer() as server:
        curate(*asked(server, place))
    told = curate("next", place / "run").out
    assert told and curate("status", place / "run").out.endswith(f"next: {told}")


def test_a_dry_run_of_all_stages_writes_nothing(
    place: Path, curate: Curate, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    whole = ["run", "ok.jsonl", "--out", "run", *RECORDED.split(), "--device", "cpu"]
    for schedule, calls in (("all", 6), ("selective", 4)):
        ended = curate(*whole, "--student", tiny_student, "--schedule", schedule, "--dry-run")
        assert ended.code == 0 and f"2 records, {calls} calls" in ended.out, ended
        assert "tiny" in ended.out and "run/model" in ended.out
    assert curate(*whole, "--student", "./nobody", "--dry-run").code == 1
    assert not Path("run").exists()


@pytest.mark.parametrize("words", [(), ("explain", "a", "b")], ids=["command", "argument"])
def test_a_word_too_many_is_told_without_its_password(curate: Curate, words: Sequence[str]) -> None:
    ended = curate(*words, "ftp://user:S3cret@host/\u202ex")
    assert ended.code == 2 and "ftp://user:***@host/" in ended.err
    assert "S3cret" not in ended.err and "\u202e" not in ended.err


def test_several_servers_may_be_given(place: Path, curate: Curate) -> None:
    with FaultyServer() as server, FaultyServer() as other:
        ended = curate(*asked(server, place, "--base-url", other.url))
        assert ended.code == 0 and server.requests and other.requests
        twice = curate(*asked(server, place, "--base-url", server.url))
    assert twice.code == 2 and "twice" in twice.errors[0]


def test_the_key_comes_from_the_environment_alone(
    place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CURATE_API_KEY", "OPENAI_API_KEY"):
        key = f"sk-{variable.lower()}-0123456789"
        monkeypatch.setenv(variable, key)
        echo = always(error(401, f"Incorrect API key provided: {key}"))
        with FaultyServer(echo) as server:
            ended = curate(*asked(server, place))
            assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {key}"}
        assert ended.code == 1 and key not in ended.err + ended.out
        monkeypatch.delenv(variable)
    assert not any("key" in name for command in commands().values() for name in options_of(command))


def test_a_judge_and_a_model_that_answers_take_the_options_of_asking(
    place: Path, curate: Curate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    written(Path("other.jsonl"), [{**row, "output": "Else."} for row in ROWS])
    limits = ["--rpm", "60000", "--tpm", "9000000", "--max-cost", "1", "--price-in", "1",
              "--price-out", "1", "--journal", "kept"]  # fmt: skip
    with BatchServer() as server:
        asking = ["--base-url", server.url, "--batch-api", "--batch-poll", "0.05", *limits]
        judged = curate("judge", "ok.jsonl", "other.jsonl", "--judge", "j", "-o", "v", *asking)
        assert judged.code == 3 and ": 4 replies asked for" in judged.out, judged
        asked = curate("generate", "ok.jsonl", "--model", "m", "-o", "a.json", *asking)
        assert asked.code == 0 and "; 2 replies asked for" in asked.out, asked
    assert list(Path("kept").glob("*.jsonl"))
    budget = ["--max-total-tokens", "9", "--base-url", server.url]
    stopped = curate("judge", "ok.jsonl", "other.jsonl", "--judge", "k", "-o", "w", *budget)
    assert stopped.code == 4


@pytest.mark.parametrize("schedule", ["all", "selective"])
def test_standard_input_is_data_in_both_schedules(
    place: Path,
    curate: Curate,
    tiny_student: Path,
    monkeypatch: pytest.MonkeyPatch,
    schedule: str,
) -> None:
    monkeypatch.chdir(place)
    with (place / "ok.jsonl").open(encoding="utf-8") as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        done = curate(
            "run", "-", "--out", "run", "--replies", "replies.jsonl", "--student", tiny_student,
            "--device", "cpu", "--schedule", schedule, "--no-finetune",
        )  # fmt: skip
    assert done.code == 0, done.err
    assert "of 2 records" in done.out


def test_interrupted_is_130(place: Path) -> None:
    def hold(request: Received) -> Answer:
        return Answer(delay=30)

    with FaultyServer(hold) as server:
        command = [sys.executable, "-c", "from curate.cli import main; main()"]
        command += map(str, asked(server, place))
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while not server.requests:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[1:] == ["interrupted: the same command goes on from here"]


@pytest.mark.parametrize(
    ("redirections", "encoding", "code", "says"),
    [
        ("2>&-", "utf-8", 0, ""),
        ("<&-", "utf-8", 0, ""),
        (">/dev/full", "utf-8", 1, "standard output cannot be written"),
        ("2>/dev/full", "utf-8", 0, ""),
        ("", "ascii", 0, ""),
    ],
)
def test_streams_that_are_closed_full_or_of_another_encoding(
    place: Path, redirections: str, encoding: str, code: int, says: str
) -> None:
    """The work is done, and nothing else ends up in a file whose number was free."""
    command = f"'{sys.executable}' -c 'from curate.cli import main; main()'"
    words = "reflect ok.jsonl --out 'r\u05e9' --replies replies.jsonl"
    done = subprocess.run(
        f"{command} {words} {redirections}", shell=True, cwd=place, capture_output=True, text=True,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and says in done.stderr
    assert (place / "r\u05e9" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "option", "choices"),
    [
        ("reflect", "--engine", "auto|openai|vllm|transformers|recorded"),
        ("select", "--tokenization", "exact|reference"),
        ("select", "--dtype", "auto|float32|bfloat16|float16"),
        ("select", "--rank-by", "ifd|rifd"),
        ("select", "--executor", "local|ray"),
        ("finetune", "--preset", "paper-7b|paper-13b|lora|demo"),
        ("run", "--schedule", "all|selective"),
        ("generate", "--format", "alpaca_eval|mt_bench|jsonl"),
    ],
)
def test_the_promised_choices(curate: Curate, name: str, option: str, choices: str) -> None:
    told = re.sub(r"\s", "", curate(name, "--help").out)
    assert re.search(rf"{option}[<\[(]{re.escape(choices)}[>\])]", told)


def test_the_templates_are_named(curate: Curate) -> None:
    told = curate("select", "--help").out
    assert all(name in told for name in get_args(TemplateName))


def test_version_and_help(curate: Curate) -> None:
    assert curate("--version") == Ended(0, f"{version('curate-reflection')}\n", "")
    for name in PROMISED:
        told = curate(name, "--help")
        assert told.code == 0 and not told.err
        assert all(option in told.out for option in options_of(commands()[name]))
    assert curate("--help").out.count("Exit codes: 0 done; 1 an error") == 1


if __name__ == "__main__":
    FROZEN.write_text(listing(), "utf-8")
