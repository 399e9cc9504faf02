"""Runs the project's programs as a user would: in processes of their own."""

import hashlib
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def heed_ctrl_c() -> None:
  """For preexec_fn: a shell starts background jobs deaf to SIGINT."""
  signal.signal(signal.SIGINT, signal.SIG_DFL)


def digests(folder: pathlib.Path) -> dict[str, str]:
  """Returns name → sha256 of the files in a folder."""
  return {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.iterdir())
  }


class Programs:
  """Runs the project's programs in processes of their own."""

  root = ROOT

  def run(self, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs `python COMMAND` from the root, whatever comes of it."""
    return subprocess.run(
      [sys.executable, *command],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
    )

  def succeed(self, *command: str) -> str:
    """Runs it, requires success, returns what it logged."""
    done = self.run(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr

  def refuse(self, *command: str) -> str:
    """Runs it, requires one clear line, returns the line."""
    done = self.run(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]
