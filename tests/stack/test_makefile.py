"""`make` alone lists every command."""

from __future__ import annotations

import re
import subprocess

import pytest

from stack.__main__ import main
from warehouse.connection import REPOSITORY

TARGETS = {
    *("help", "env", "db", "transform", "verify", "demo", "demo-real", "up", "down", "clean"),
    *("test", "bench", "bench-ingest", "lint", "typecheck", "check"),
}


def test_make_alone_lists_every_target_with_one_line_each() -> None:
    done = subprocess.run(["make", "-s"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    listed = re.findall(r"^  make (\S+) +\S.*$", done.stdout, re.M)
    assert sorted(listed) == sorted(TARGETS)
    assert len(done.stdout.splitlines()) == len(TARGETS)


def test_every_target_in_the_file_is_listed_and_phony() -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"^([a-z][a-z-]*):", text, re.M)) == TARGETS
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M)
    assert phony is not None
    assert set(phony[1].split()) == TARGETS


@pytest.mark.parametrize("command", ["db", "up", "down", "clean", "demo"])
def test_every_command_that_make_calls_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"-m stack {command}\n" in (REPOSITORY / "Makefile").read_text(encoding="utf-8").replace(";", "\n")
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m stack")
