"""Is scoring right on this GPU, the same to the bit, and how fast? One command, some nine minutes.

    python benchmarks/device_check.py                      # on CUDA
    python benchmarks/device_check.py --device cpu --tiny  # the same steps without a GPU

Takes torch, transformers, triton, pyarrow, typer and pytest; nothing is installed and no network is
used. Each step is a process with a time limit, so that an illegal access or a hang costs one step.
What is found is written at once: results.json and results.md in --out, failed checks first. The exit
code is 1 where a check failed that must hold. Weights are random.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The seconds that each step may take, in this order: what must hold before what is fast.
LIMITS = {"env": 45, "tests": 120, "kernels": 45, "cli": 100, "oom": 45, "families": 70,
          "small": 150, "head": 80, "large": 170}  # fmt: skip
SLOWER = 40
"""So much longer may a step take on a CPU."""


class Notes:
    """What a step finds: a JSON object a line, on disk at once."""

    def __init__(self, path: Path, step: str) -> None:
        self.path, self.step = path, step

    def __call__(self, what: str, value: object, ok: bool | None = None, **figures: float) -> None:
        """`ok` is None for a figure, and for a check whether it held."""
        row = {"step": self.step, "what": what, "value": str(value), "ok": ok, **figures}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"[{self.step}] {'FAILED ' if ok is False else ''}{what}: {value}", flush=True)

    @contextmanager
    def part(self, what: str, *, must: bool = False) -> Iterator[None]:
        """A part that raises is noted, and the step goes on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a card or a library raises
            said = (str(error).strip().splitlines() or [""])[0][:300]
            self(what, f"did not run: {type(error).__name__}: {said}", ok=False if must else None)

    def read(self) -> list[dict[str, Any]]:
        """All rows so far, of all steps."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines]


def main() -> int:
    """Run the steps one after another, write and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: to try the steps")
    parser.add_argument("--only", default=",".join(LIMITS), help="steps, with commas between")
    parser.add_argument("--seconds", type=float, default=580.0, help="for all steps on a GPU")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or "device-check"))
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        import device_steps

        device_steps.run(options.step, Notes(options.notes, options.step), options)
        return 0
    with tempfile.TemporaryDirectory() as name:
        rows = steps(options, Path(name))
    failed = [row for row in rows if row["ok"] is False]
    print("\n".join(page(rows, options)))
    return 1 if failed else 0


def steps(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Each step in a process; what they noted."""
    (folder / "site").mkdir()
    (folder / "site" / "curate").symlink_to(ROOT)  # as it is installed
    scale = SLOWER if options.device == "cpu" else 1
    ends, notes = time.monotonic() + scale * options.seconds, folder / "notes.jsonl"
    for step in options.only.split(","):
        note = Notes(notes, step)
        limit = min(scale * LIMITS[step], ends - time.monotonic())
        if limit < 15:
            note(step, "not run: no time is left", ok=False)
            continue
        run_step(step, options, note, limit)
        write(note.read(), options)
    return Notes(notes, "").read()


def run_step(step: str, options: argparse.Namespace, note: Notes, limit: float) -> None:
    """One step in a process of its own, which is ended at its limit."""
    command = [sys.executable, __file__, "--step", step, "--notes", str(note.path),
               "--device", options.device, *(["--tiny"] if options.tiny else [])]  # fmt: skip
    begun = time.monotonic()
    try:
        done = subprocess.run(command, env=environment(note.path.parent, options.device, limit),
                              stderr=subprocess.PIPE, text=True, timeout=limit)  # fmt: skip
        if done.returncode:
            note(step, f"exit code {done.returncode}: {done.stderr.strip()[-400:]}", ok=False)
    except subprocess.TimeoutExpired:
        note(step, f"stopped after {limit:.0f} s", ok=False)
    note("seconds", f"{time.monotonic() - begun:.0f}")


def environment(folder: Path, device: str, limit: float) -> dict[str, str]:
    """Ours beside what is set; `DEVICE_CHECK_ENDS` tells a step when to leave figures out."""
    path = os.pathsep.join(filter(None, (str(folder / "site"), os.environ.get("PYTHONPATH"))))
    ours = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
            "TRITON_CACHE_DIR": str(folder / "triton"), "PYTHONDONTWRITEBYTECODE": "1",
            "DEVICE_CHECK_ENDS": str(time.time() + limit - 8)}  # fmt: skip
    return {**os.environ, **ours, **({"TRITON_INTERPRET": "1"} if device == "cpu" else {})}


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """results.json and results.md."""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.out / "results.md").write_text("\n".join(page(rows, options)) + "\n")


def page(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[str]:
    """The table as Markdown; what failed comes first."""
    failed = [row for row in rows if row["ok"] is False]
    held = sum(row["ok"] is True for row in rows)
    lines = [f"# Device check: {options.device}{', tiny' if options.tiny else ''}", "",
             f"{date.today()}; {held} checks held, {len(failed)} failed.", ""]  # fmt: skip
    lines += [f"- FAILED: {row['step']}, {row['what']}: {row['value']}" for row in failed]
    for step in dict.fromkeys(row["step"] for row in rows):
        lines += ["", f"## {step}", "", "| | | |", "|---|---|---|"]
        for row in (row for row in rows if row["step"] == step):
            mark = {True: "held", False: "FAILED", None: ""}[row["ok"]]
            lines.append(f"| {row['what']} | {row['value'].replace('|', '/')} | {mark} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
