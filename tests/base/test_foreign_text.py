"""Files that may be read, and passwords that may not be shown."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.pipeline.base.foreign_text import regular

PASSWORD = "S3cret"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(OSError, match="regular"):
            regular(path)
    for path in (tmp_path, tmp_path / "missing", Path(__file__)):
        assert regular(path) == path
    asked = ["reflect", __file__, "--out", str(tmp_path / "run"), "--teacher", "m"]
    for option in ("--replies", "--prices", "--config", "--prompts"):
        (tmp_path / "reflect_response.txt").unlink(missing_ok=True)
        os.mkfifo(tmp_path / "reflect_response.txt")
        given = tmp_path if option == "--prompts" else pipe
        assert CliRunner().invoke(app, [*asked, option, str(given)]).exit_code in (1, 2)


@pytest.mark.parametrize("option", ["--config", "--prices", "--replies", "--base-url"])
def test_a_password_in_a_url_is_not_shown(option: str, tmp_path: Path) -> None:
    words = [
        "reflect",
        str(tmp_path / "no.jsonl"),
        "--out",
        str(tmp_path / "run"),
        "--teacher",
        "m",
    ]
    found = CliRunner().invoke(app, [*words, option, f"ftp://user:{PASSWORD}@host/x"])
    assert found.exit_code in (1, 2) and PASSWORD not in found.output
