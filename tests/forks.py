"""Runs programs in forks of a process that has imported TensorFlow.

A new Python needs 8 seconds of a core to import what run_classifier.py imports,
and a fork of a Python that has done so needs none. The fork has arguments,
streams, environment, signals, exit code and end of its own: only the imports
and the seed of the hashes of strings are those of the first process. Threads do
not survive a fork: the first process has no thread but those of OpenBLAS, which
starts them anew, since TensorFlow starts threads with its first operation.
"""

import functools
import gc
import importlib
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SCRIPTS = ("run_classifier.py", "run_pretraining.py")
_PACKAGES = ("albert_mn.", "bert_tweet.")
# What the programs import: a program itself must not be imported before it runs.
_IMPORTED = (
  "run_classifier",
  "run_pretraining",
  "albert_mn.export.exports",
  "albert_mn.formats.conversion",
  "bert_tweet.server",
)
_MODULE = "-m"  # the option of Python before a module's name
_SERVER = "import sys; from tests import forks; forks.serve(int(sys.argv[1]))"
_LARGEST = 100_000  # bytes of a request: flags and environment


def imports_tensorflow(command: Sequence[str]) -> bool:
  """Returns whether `python COMMAND` is a program that imports TensorFlow."""
  if command[0] == _MODULE:
    return command[1].startswith(_PACKAGES)
  return pathlib.Path(command[0]).name in _SCRIPTS


class Fork:
  """A running program; like subprocess.Popen, as far as tests need it.

  Args:
    command: the arguments of Python: a file or `-m` and a module, and flags.
    stdout: receives the program's standard output.
    stderr: receives the program's standard error.
    environment: the variables of the program; those of this process if None.

  Attributes:
    pid: the number of the process.
    returncode: the exit code as subprocess.Popen has it; None until `poll` or
      `wait` has seen the end.
  """

  def __init__(
    self,
    command: Sequence[str],
    stdout: IO[Any],
    stderr: IO[Any],
    environment: Mapping[str, str] | None = None,
  ) -> None:
    variables = os.environ if environment is None else environment
    request = {"command": command, "environment": dict(variables)}
    self.pid = _ask(request, stdout.fileno(), stderr.fileno())
    self.returncode: int | None = None
    self._ended = os.pidfd_open(self.pid)

  def poll(self) -> int | None:
    """Returns the exit code, or None while the program runs."""
    if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
      self.returncode = _ask({"ended": self.pid})
      os.close(self._ended)
    return self.returncode

  def wait(self, timeout: float | None = None) -> int:
    """Returns the exit code when the program has ended.

    Raises:
      subprocess.TimeoutExpired: when it has not after `timeout` seconds.
    """
    if self.returncode is None:
      select.select([self._ended], [], [], timeout)
    if (code := self.poll()) is None:
      raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
    return code

  def send_signal(self, number: int) -> None:
    """Sends a signal; does nothing when the program has ended."""
    if self.poll() is None:
      os.kill(self.pid, number)

  def kill(self) -> None:
    """Sends SIGKILL; does nothing when the program has ended."""
    self.send_signal(signal.SIGKILL)


@functools.cache
def _first() -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
  """Starts the process that is forked; it ends when this process ends."""
  ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
  with theirs:
    process = subprocess.Popen(
      [sys.executable, "-c", _SERVER, str(theirs.fileno())],
      cwd=_ROOT,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      pass_fds=[theirs.fileno()],
    )
  return ours, process


def _ask(request: Mapping[str, object], *streams: int) -> int:
  """Returns the answer of the first process: a process or an exit code."""
  to_first, _ = _first()
  socket.send_fds(to_first, [json.dumps(request).encode()], streams)
  answer = to_first.recv(_LARGEST)
  assert answer, "the process that imports TensorFlow has ended"
  return int(answer)


def _next_command(asked: socket.socket) -> Sequence[str]:
  """Answers requests without an end; in a fork, returns the fork's command."""
  while True:
    message, streams, _, _ = socket.recv_fds(asked, _LARGEST, 2)
    if not message:
      sys.exit()
    request = json.loads(message)
    if "ended" in request:
      _, status = os.waitpid(request["ended"], 0)
      asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    elif pid := os.fork():
      for stream in streams:
        os.close(stream)
      asked.send(str(pid).encode())
    else:
      return _become(request, streams)


def _become(request: Mapping[str, Any], streams: Sequence[int]) -> list[str]:
  """Takes the streams and the environment of a request; returns its command."""
  for number, stream in enumerate(streams, start=1):
    os.dup2(stream, number)
    os.close(stream)
  os.environ.clear()
  os.environ.update(request["environment"])
  return list(request["command"])


def _run(command: Sequence[str]) -> None:
  """Runs a program as `python COMMAND` does."""
  if command[0] == _MODULE:
    sys.argv = list(command[1:])
    runpy.run_module(command[1], run_name="__main__", alter_sys=True)
  else:
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")


def serve(descriptor: int) -> None:
  """Imports TensorFlow, then forks as the process asks that started this one.

  Args:
    descriptor: the number of the open socket to that process.
  """
  for module in _IMPORTED:
    importlib.import_module(module)
  gc.freeze()  # a fork's collections leave alone what was imported
  with socket.socket(fileno=descriptor) as asked:
    command = _next_command(asked)
  _run(command)
