"""Runs our server in a separate process."""

import contextlib
import pathlib
import re
import signal
import time
from collections.abc import Iterator

import requests

from tests import running


class Serving:
  """A running server.

  Args:
    model_dir: the model directory to serve.
    log: the file to whose end the server's output goes.
    *flags: further flags of the server.

  Attributes:
    process: the server's process.
    url: the server's address, without a slash at the end.
    log: the file to whose end its output goes.
  """

  def __init__(self, model_dir: str, log: pathlib.Path, *flags: str) -> None:
    self.log = log
    self.process = running.Logged(
      "-m",
      "bert_tweet.serve",
      f"--model_dir={model_dir}",
      "--port=0",
      *flags,
      log=log,
    )
    self.url = self._wait()

  def _wait(self) -> str:
    """Returns the server's address as soon as it answers.

    Raises:
      AssertionError: when it does not answer within two minutes.
    """
    until = time.monotonic() + 120
    while time.monotonic() < until and self.process.poll() is None:
      if address := re.search(r" at (http://\S+)/", self.log.read_text()):
        with contextlib.suppress(requests.ConnectionError):
          requests.get(f"{address[1]}/healthz", timeout=60)
          return address[1]
      time.sleep(0.05)
    self.process.kill()
    raise AssertionError(self.log.read_text())

  def stop(self) -> int:
    """Ends the server with SIGTERM; returns its exit code."""
    self.process.send_signal(signal.SIGTERM)
    return self.process.wait(timeout=60)


@contextlib.contextmanager
def serving(
  model_dir: str, log: pathlib.Path, *flags: str
) -> Iterator[Serving]:
  """Starts a server; yields it when it answers; kills it after the block."""
  server = Serving(model_dir, log, *flags)
  try:
    yield server
  finally:
    server.process.kill()
    server.process.wait()
