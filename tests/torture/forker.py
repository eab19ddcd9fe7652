"""Runs `curate` in children of a process that has imported everything already.

    python -m tests.torture.forker MODULE...

takes orders on standard input, a JSON object a line: {"words", "shard", "said", "patience",
"folder"}. For each it says the child's number and, when that has ended, its exit code. `patience`
are seconds, with a server that is lost and with a request.
"""

import gc
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

from .server import ROOT

LIGHT = (
    "curate.cli", "curate.pipeline.stages.reflection.stage", "httpx2", "numpy", "pyarrow.parquet",
)  # fmt: skip
HEAVY = (
    *LIGHT, "torch", "datasets", "transformers", "safetensors.torch", "trl", "accelerate",
    "transformers.models.llama.modeling_llama", "matplotlib.pyplot",
    "curate.pipeline.stages.selection.stage", "curate.pipeline.stages.scoring",
    "curate.pipeline.scoring.scorer", "curate.pipeline.training.trainer",
)  # fmt: skip


def main(modules: Sequence[str]) -> None:
    """Import, then fork a child for each order; it has one thread until then."""
    for name in modules:
        importlib.import_module(name)
    gc.freeze()  # else each child copies what it only looks through
    print(len(os.listdir("/proc/self/task")), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _obey(order)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey(order: Mapping[str, Any]) -> NoReturn:
    """In the child: the command, with its own output and small shards."""
    from curate.cli import main as curate
    from curate.pipeline.llm.engines import choose as engines
    from curate.pipeline.llm.engines.servers import openai_server
    from curate.pipeline.stages.reflection.stage import reflect
    from curate.pipeline.stages.selection.stage import score_share, select

    said = os.open(order["said"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    os.chdir(order["folder"])
    for stage in (reflect, select, score_share):
        assert stage.__kwdefaults__ is not None
        stage.__kwdefaults__["shard_size"] = order["shard"]
    if order["patience"]:
        defaults = openai_server.OpenAIEngine.__init__.__kwdefaults__
        assert defaults is not None
        vars(engines)["PATIENCE"], defaults["timeout"] = order["patience"]
    sys.argv = ["curate", *order["words"]]
    code: Any = 70
    try:
        curate()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - what a user would see
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 70)


class Child:
    """A running command."""

    def __init__(self, pid: int, said: Path, answers: IO[str]) -> None:
        self.pid, self._said, self._answers = pid, said, answers
        self._code: int | None = None

    def send(self, number: signal.Signals) -> None:
        """A signal; one that has ended is not there to get it."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        if self._code is None:
            self._code = int(self._answers.readline())
        return self._code

    def killed_after(self, seconds: float) -> bool:
        """Kill it then, if it still runs; whether it did."""
        time.sleep(seconds)
        self.send(signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def said(self) -> str:
        """All that it wrote; nothing where it died before."""
        return self._said.read_text("utf-8", "replace") if self._said.exists() else ""


class Forker:
    """Starts commands, one at a time."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._orders, self._answers, self._folder = process.stdin, process.stdout, folder
        self.threads = int(self._answers.readline())
        self._number = 0

    def start(
        self,
        *words: str | Path,
        shard: int = 4,
        patience: tuple[float, float] | None = None,
        folder: Path = ROOT,
    ) -> Child:
        """`curate` with these words, in a folder."""
        self._number += 1
        said = self._folder / f"said-{self._number}.txt"
        order = {"words": [str(word) for word in words], "shard": shard, "said": str(said),
                 "patience": patience, "folder": str(folder)}  # fmt: skip
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        return Child(int(self._answers.readline()), said, self._answers)

    def run(self, *words: str | Path, shard: int = 4, code: int = 0) -> str:
        """The same to its end, which must be with this exit code; what it said."""
        child = self.start(*words, shard=shard)
        assert child.wait() == code, f"exit code {child.wait()}: {child.said}"
        assert "Traceback" not in child.said, child.said
        return child.said


@contextmanager
def forking(
    modules: Sequence[str], folder: Path, *, within: Sequence[str] = (), **environment: str
) -> Iterator[Forker]:
    """A forker that has imported these modules; `within` as in `serving`."""
    calm = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false", "CURATE_API_KEY": "", **environment}  # fmt: skip
    command = [*within, sys.executable, "-m", __name__, *modules]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | calm,
    ) as process:  # fmt: skip
        try:
            yield Forker(process, folder)
        finally:
            process.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
