"""Tests that packages are pinned by hash, and root needs somebody's consent."""

import os
import pathlib
import pty
import re
import subprocess

import pytest

from tests import running

_LOCKS = sorted(running.ROOT.glob("requirements*.txt"))
# Packages that are installed by version alone; scripts/setup.sh says why.
_WITHOUT_HASHES = {"torch"}


@pytest.mark.parametrize("lock", _LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_hashes(lock: pathlib.Path) -> None:
  entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text("utf-8"))
  packages = [entry for entry in entries if re.match(r"[\w.-]+==", entry)]
  bare = [p.split()[0] for p in packages if "--hash=sha256:" not in p]
  assert packages
  assert not bare
  assert not any(re.match("(torch|nvidia-|cuda-)", p) for p in packages)


def test_what_the_scripts_install_is_held_against_hashes() -> None:
  """Each pip install checks hashes, except for PyTorch's, which is pinned."""
  installs = [
    " ".join(match.split())
    for path in sorted((running.ROOT / "scripts").iterdir())
    for match in re.findall(
      r"-m pip install(?:.*\\\n)*.*", path.read_text("utf-8")
    )
  ]
  unchecked = [x for x in installs if "--require-hashes" not in x]
  assert len(installs) == 3
  assert len(unchecked) == 1
  assert unchecked[0].endswith('"$torch"')
  pins = (running.ROOT / "requirements-interop.in").read_text("utf-8")
  assert {*re.findall(r"^(torch)==[\d.]+$", pins, re.M)} == _WITHOUT_HASHES


@pytest.fixture
def stubs(tmp_path: pathlib.Path) -> pathlib.Path:
  """A folder whose apt-get and sudo only write down that they were called."""
  for name in ("apt-get", "sudo"):
    path = tmp_path / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n')
    path.chmod(0o755)
  (tmp_path / "calls").touch()
  for name in ("env", "id", "true"):
    (tmp_path / name).symlink_to(f"/usr/bin/{name}")
  return tmp_path


def _install(stubs: pathlib.Path, answer: str | None, ci: str) -> str:
  """Runs install_chromium of scripts/test.sh; returns what it printed.

  Args:
    stubs: the only folder of the PATH.
    answer: what is typed at a terminal; None: there is no terminal.
    ci: the variable CI.
  """
  source = (running.ROOT / "scripts/test.sh").read_text("utf-8")
  functions = re.findall(
    r"^(?:may|install_chromium)\(\) \{.*?^\}", source, re.M | re.S
  )
  assert len(functions) == 2
  typed, terminal = pty.openpty()
  os.write(typed, f"{answer}\n".encode())
  try:
    done = subprocess.run(
      ["/bin/bash", "-euc", "\n".join([*functions, "install_chromium"])],
      stdin=subprocess.DEVNULL if answer is None else terminal,
      env={"PATH": str(stubs), "CI": ci},
      capture_output=True,
      text=True,
      check=True,
      timeout=60,
    )
  finally:
    os.close(typed)
    os.close(terminal)
  return done.stdout + done.stderr


@pytest.mark.parametrize(
  ("answer", "ci", "installs"),
  [
    (None, "", False),
    (None, "false", False),
    ("n", "", False),
    ("", "", False),
    ("y", "", True),
    (None, "true", True),
  ],
)
def test_nothing_is_installed_as_root_unless_somebody_agrees(
  stubs: pathlib.Path, answer: str | None, ci: str, installs: bool
) -> None:
  shown = _install(stubs, answer, ci)
  called = "apt-get install" in (stubs / "calls").read_text()
  assert called == installs
  assert ("nobody agreed to install it" in shown) != installs


def test_root_is_asked_for_in_two_known_places() -> None:
  """They are scripts/test.sh, after a question, and a script's TPU VM."""
  lines = {
    (path.name, line.strip())
    for path in sorted((running.ROOT / "scripts").iterdir())
    for line in path.read_text("utf-8").splitlines()
    if re.search(r"\b(?:sudo|apt-get|add-apt-repository)\b", line)
    and not re.match(r"\s*(?:#|'apt-get|sys\.exit)", line)
  }
  assert {name for name, _ in lines} == {"test.sh", "tpu_vm.sh"}
