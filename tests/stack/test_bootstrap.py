"""`make env` says what is missing, and does nothing when .venv is as the lock file says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from warehouse.connection import REPOSITORY


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the files that `make env` reads."""
    (tmp_path / "stack").mkdir()
    for name in ("stack/bootstrap.sh", "pyproject.toml", "uv.lock"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(checkout: Path, name: str, script: str) -> Path:
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def bootstrap(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{checkout / 'bin'}:/usr/bin:/bin"
    return subprocess.run(
        [str(checkout / "stack" / "bootstrap.sh")],
        env={"PATH": path, "HOME": str(checkout), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_a_python_it_knows_it_says_which_it_needs(checkout: Path) -> None:
    old = program(checkout, "old-python", "exit 1")
    done = bootstrap(checkout, PYTHON=str(old))
    assert done.returncode == 1
    assert "no Python from 3.11 to 3.13 found" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_a_python_that_is_too_new_is_refused(checkout: Path) -> None:
    new = program(checkout, "new-python", f'exec {sys.executable} -c "import sys; sys.version_info = (3, 14); $2"')
    done = bootstrap(checkout, PYTHON=str(new))
    assert (done.returncode, "no Python from 3.11 to 3.13 found" in done.stderr) == (1, True)


def test_without_the_venv_module_it_says_what_to_install(checkout: Path) -> None:
    # Knows its version, but has no ensurepip, like Debian's python3 without python3-venv.
    bare = checkout / "bin" / "bare-python"
    program(checkout, bare.name, f'case "$2" in *ensurepip*) exit 1;; *version_info*) echo {bare};; esac')
    done = bootstrap(checkout, PYTHON=str(bare))
    assert done.returncode == 1
    assert "cannot make virtual environments" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def fake_uv(checkout: Path) -> Path:
    """A uv that notes how it was called and makes a .venv with our Python in it."""
    notes = checkout / "uv-calls"
    program(
        checkout,
        "uv",
        f'[ "$1" = --version ] && exit 0\n'
        f'echo "$* | $UV_PYTHON_DOWNLOADS | $UV_CACHE_DIR | ${{PYTHONDONTWRITEBYTECODE-unset}}" >>{notes}\n'
        f"mkdir -p .venv/bin && ln -sf {os.path.realpath(sys.executable)} .venv/bin/python",
    )
    return notes


def test_uv_is_asked_for_exactly_the_lock_file_and_never_for_a_python(checkout: Path) -> None:
    notes = fake_uv(checkout)
    done = bootstrap(checkout, PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr
    expected = f"sync --locked --compile-bytecode --quiet | never | {checkout / 'var' / 'uv-cache'} | unset"
    assert notes.read_text(encoding="utf-8").splitlines() == [expected]


def test_a_second_call_does_nothing_until_the_lock_file_changes(checkout: Path) -> None:
    notes = fake_uv(checkout)
    assert bootstrap(checkout, PYTHON=sys.executable).returncode == 0
    again = bootstrap(checkout, PYTHON=sys.executable)
    assert (again.returncode, again.stdout) == (0, "")
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 1
    with (checkout / "uv.lock").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert bootstrap(checkout, PYTHON=sys.executable, UV_CACHE_DIR="/elsewhere").returncode == 0
    first, second = notes.read_text(encoding="utf-8").splitlines()
    assert "| /elsewhere |" in second != first


def test_a_build_that_was_cut_off_is_done_again(checkout: Path) -> None:
    notes = fake_uv(checkout)
    assert bootstrap(checkout, PYTHON=sys.executable).returncode == 0
    (checkout / ".venv" / "bin" / "python").unlink()
    assert bootstrap(checkout, PYTHON=sys.executable).returncode == 0
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 2
