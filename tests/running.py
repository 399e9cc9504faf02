"""Runs the project's programs in separate processes, as a user would."""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tests import forks

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The names in eval_results.txt of a pretraining with sentence order.
EVAL_RESULTS = [
  "bits_per_character",
  "global_step",
  "loss",
  "masked_lm_accuracy",
  "masked_lm_loss",
  "sentence_order_accuracy",
  "sentence_order_accuracy_high",
  "sentence_order_accuracy_low",
  "sentence_order_loss",
]


def heed_ctrl_c() -> None:
  """Restores the default action of SIGINT; for `preexec_fn`.

  A shell starts background jobs with SIGINT ignored.
  """
  signal.signal(signal.SIGINT, signal.SIG_DFL)


def digests(folder: pathlib.Path) -> dict[str, str]:
  """Returns name → SHA-256 of each file in a folder, which has no subfolder."""
  return {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(folder.iterdir())
  }


class Programs:
  """Runs the project's programs in separate processes."""

  root = ROOT

  def run(self, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs `python COMMAND` from the root; any exit code is accepted.

    Standard output and standard error are captured as text. A program that
    imports TensorFlow runs in a fork, which need not import TensorFlow again.
    """
    if not forks.imports_tensorflow(command):
      return self.run_anew(*command)
    with (
      tempfile.TemporaryFile("w+", encoding="utf-8") as stdout,
      tempfile.TemporaryFile("w+", encoding="utf-8") as stderr,
    ):
      code = forks.Fork(command, stdout, stderr).wait()
      for file in (stdout, stderr):
        file.seek(0)
      return subprocess.CompletedProcess(
        command, code, stdout.read(), stderr.read()
      )

  def run_anew(self, *command: str) -> subprocess.CompletedProcess[str]:
    """Does what `run` does, always in a Python that imports all it needs."""
    return subprocess.run(
      [sys.executable, *command],
      cwd=ROOT,
      capture_output=True,
      text=True,
      check=False,
    )

  def succeed(self, *command: str) -> str:
    """Runs `python COMMAND`, requires exit code 0, returns standard error."""
    done = self.run(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr

  def refuse(self, *command: str) -> str:
    """Runs `python COMMAND`, requires its refusal, and returns the error line.

    A refusal is exit code 1, exactly one line that begins with `error: `, and no
    traceback.
    """
    done = self.run(*command)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


class Logged(forks.Fork):
  """A running program that imports TensorFlow, and what it says.

  Args:
    *command: the arguments of Python: the program and its flags.
    log: the file to whose end standard output and standard error go.
    **variables: environment variables beside those of this process.
  """

  def __init__(
    self, *command: str, log: pathlib.Path, **variables: str
  ) -> None:
    self._log = log
    with log.open("ab") as file:
      super().__init__(command, file, file, os.environ | variables)

  def said(self) -> str:
    """Returns what the file contains."""
    return self._log.read_text(encoding="utf-8")


@contextlib.contextmanager
def two_workers(*command: str) -> Iterator[list[Logged]]:
  """Starts a program as two TensorFlow workers; kills both after the block.

  Args:
    *command: the arguments of Python: the program and its flags.
  """
  ports = _free_ports(2)
  cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
  tasks = [{"type": "worker", "index": index} for index in range(2)]
  with tempfile.TemporaryDirectory() as folder:
    workers = [
      Logged(
        *command,
        log=pathlib.Path(folder, f"{task['index']}.log"),
        TF_CONFIG=json.dumps({"cluster": cluster, "task": task}),
      )
      for task in tasks
    ]
    try:
      yield workers
    finally:
      for worker in workers:
        worker.kill()
        worker.wait()


def _free_ports(count: int) -> list[int]:
  """Returns ports that no program uses at the moment."""
  held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
  ports = [server.getsockname()[1] for server in held]
  for server in held:
    server.close()
  return ports
