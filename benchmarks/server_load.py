"""Measures how much idle and slow connections delay a server's other clients.

    python -m benchmarks.server_load --connections=1000

Good clients send requests to a server: without slow connections, with them, and
without them again. The program prints the times of the answers and their
ratios. Clients that keep their connection, and clients that make a new one for
each request, are measured separately. The weights are random. The clients, the
slow connections and the server run on the same cores.
"""

import concurrent.futures
import dataclasses
import http.client
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence

import numpy as np

from benchmarks import served_model, slow_callers
from data_prep.base import options

_SETTLE = 3  # seconds


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the connections, the clients and the model."""

  connections: int = options.option(
    1000,
    "Number of idle and slow connections.",
    minimum=1,
  )
  clients: int = options.option(
    16,
    "Number of good clients.",
    minimum=1,
  )
  seconds: float = options.option(
    15.0,
    "Length of a measurement.",
    above=0,
  )
  rounds: int = options.option(
    2,
    "Number of measurements with slow connections.",
    minimum=1,
  )
  config: str = options.option(
    "configs/albert_tiny.json",
    "JSON file with the shape of the model.",
  )
  sample: str = options.option(
    "sample",
    "Folder of the sample, from which the texts come.",
  )


def main(settings: Options) -> None:
  """Prints the answer times of good clients without and with slow clients."""
  texts = served_model.texts(settings.sample, 400)
  with tempfile.TemporaryDirectory() as folder:
    tokenizer = served_model.train_tokenizer(settings.sample, folder)
    model = os.path.join(folder, "model")
    served_model.save(settings.config, tokenizer, model)
    with served_model.served(model) as (address, _):
      for keep in (True, False):
        print("connections kept" if keep else "a connection a request")
        _compare(settings, address, texts, keep)


def _compare(
  settings: Options, address: str, texts: Sequence[str], keep: bool
) -> None:
  """Prints the answer times, alternately without and with slow connections.

  The last line has the ratios, with slow connections to without, of the median
  and of the 99th percentile over all rounds.

  Args:
    settings: the numbers of connections, clients, seconds and rounds.
    address: host and port of the server.
    texts: the texts to ask for.
    keep: whether a client keeps its connection.
  """
  port = int(address.rpartition(":")[2])

  def measured(name: str) -> np.ndarray:
    seconds = _ask(address, texts, settings.clients, settings.seconds, keep)
    print(f"  {name:18} {_shown(seconds)}", flush=True)
    return seconds

  _ask(address, texts, settings.clients, 3, keep)
  usual, beside = [measured("alone")], []
  for _ in range(settings.rounds):
    with slow_callers.holding(port, settings.connections):
      time.sleep(_SETTLE)
      beside.append(measured(f"{settings.connections} slow beside"))
    time.sleep(_SETTLE)
    usual.append(measured("alone"))
  p50, p99 = (
    np.percentile(np.concatenate(beside), share)
    / np.percentile(np.concatenate(usual), share)
    for share in (50, 99)
  )
  print(f"  ratios: p50 {p50:.2f}, p99 {p99:.2f}", flush=True)


def _ask(
  address: str,
  texts: Sequence[str],
  clients: int,
  seconds: float,
  keep: bool,
) -> np.ndarray:
  """Returns the seconds of each request of several clients, [requests].

  Args:
    address: host and port.
    texts: the texts to ask for, in turn.
    clients: number of clients; each runs in its own thread.
    seconds: how long the clients send requests.
    keep: whether a client keeps its connection.
  """
  lock, turns = threading.Lock(), itertools.cycle(texts)
  until = time.monotonic() + seconds

  def client(_: int) -> list[float]:
    connection, times = http.client.HTTPConnection(address, timeout=60), []
    while (began := time.monotonic()) < until:
      with lock:
        text = next(turns)
      connection.request(
        "POST",
        "/api/predict",
        json.dumps({"text": text}),
        {"Content-Type": "application/json"},
      )
      answer = connection.getresponse()
      content = answer.read()
      assert answer.status == 200, content
      if not keep:
        connection.close()
      times.append(time.monotonic() - began)
    connection.close()
    return times

  with concurrent.futures.ThreadPoolExecutor(clients) as threads:
    return np.concatenate(list(threads.map(client, range(clients))))


def _shown(seconds: np.ndarray) -> str:
  """Returns the 50th and 99th percentile and the maximum in ms, as text."""
  p50, p99, most = 1000 * np.percentile(seconds, [50, 99, 100])
  return (
    f"p50 {p50:6.1f} ms, p99 {p99:6.1f} ms, longest {most:6.1f} ms, "
    f"{len(seconds)} answers"
  )


if __name__ == "__main__":
  options.run(main, Options)
