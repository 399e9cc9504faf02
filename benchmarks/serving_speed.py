"""Measures how fast a server answers, alone and under load.

    python -m benchmarks.serving_speed --texts=400

The speed is compared with that of the model called in a loop. The weights are
random; the texts are the first eight words of texts of SIB-200. The clients run
on the same cores as the server. The CPU time is that of all threads of the
server, divided by the number of texts. If other programs run on the machine,
the CPU time is more reliable than the clock.
"""

import concurrent.futures
import dataclasses
import http.client
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from albert_mn.export import exports
from albert_mn.tasks import classifier
from benchmarks import served_model
from data_prep.base import options


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the models and the texts."""

  texts: int = options.option(
    400,
    "Number of texts in a measurement.",
    minimum=32,
  )
  configs: str = options.option(
    "configs/albert_tiny.json,configs/albert_base.json",
    "JSON files with the shapes of the models, separated by commas.",
  )
  sample: str = options.option(
    "sample",
    "Folder of the sample, from which the texts come.",
  )


@dataclasses.dataclass(frozen=True)
class Measured:
  """The times of several callers.

  Attributes:
    seconds: for each text, the time from its request to the answer.
    whole: seconds from the first request to the last answer.
    cpu: CPU seconds of the server in total; NaN if unknown.
  """

  seconds: np.ndarray
  whole: float
  cpu: float

  def __str__(self) -> str:
    p50, p95 = 1000 * np.percentile(self.seconds, [50, 95])
    count = len(self.seconds)
    return (
      f"p50 {p50:7.1f} ms, p95 {p95:7.1f} ms, {count / self.whole:7.1f} texts/s"
      f", {1000 * self.cpu / count:6.1f} CPU-ms a text"
    )


def main(settings: Options) -> None:
  """Prints times, texts per second and CPU time, for each model shape."""
  texts = served_model.texts(settings.sample, settings.texts)
  with tempfile.TemporaryDirectory() as folder:
    tokenizer = served_model.train_tokenizer(settings.sample, folder)
    for path in settings.configs.split(","):
      model = os.path.join(folder, pathlib.Path(path).stem)
      served_model.save(path, tokenizer, model)
      _compare(path, model, texts)


def _compare(name: str, model: str, texts: Sequence[str]) -> None:
  """Prints the speeds of one model: in a loop, as a SavedModel, as a server.

  Args:
    name: the name to print.
    model: the model directory.
    texts: the texts to ask for.
  """
  print(f"\n{name}, {len(texts)} texts", flush=True)
  predictor = classifier.Predictor.load(model)
  for text in texts[:40]:
    predictor.probabilities([text], 1)
  predictor.probabilities(texts[:64])
  loop = _timed(lambda text: predictor.probabilities([text], 1), texts, 1)
  print(f"  Predictor in a loop, one by one  {loop}", flush=True)
  saved = _saved_model(model)
  saved(texts[0])
  loop = _timed(saved, texts, 1)
  print(f"  SavedModel in a loop, one by one {loop}", flush=True)
  began, used = time.monotonic(), time.process_time()
  predictor.probabilities(texts)
  whole, used = time.monotonic() - began, time.process_time() - used
  print(
    f"  Predictor, 32 at once: {len(texts) / whole:.1f} texts/s, "
    f"{1000 * used / len(texts):.1f} CPU-ms a text"
  )
  measured = {}
  for batch in (1, 32):
    flag = f"--max_batch_size={batch}"
    with served_model.served(model, flag) as (address, pid):
      for clients in (1, 16):
        _ask_all(address, pid, texts[: 4 * clients], clients)
        measured[batch, clients] = _ask_all(address, pid, texts, clients)
        print(
          f"  --max_batch_size={batch:<3} {clients:2} clients  "
          f"{measured[batch, clients]}",
          flush=True,
        )
  gain = measured[1, 16].whole / measured[32, 16].whole
  less = measured[1, 16].cpu / measured[32, 16].cpu
  print(
    f"  16 clients: batches give {gain:.2f} times the texts a second, for "
    f"{1 / less:.2f} times the CPU a text"
  )


def _saved_model(model: str) -> Callable[[str], object]:
  """Exports a model; returns a function from a text to its probabilities."""
  folder = f"{model}_saved"
  exports.run(exports.Options(model_dir=model, output_dir=folder))
  loaded = tf.saved_model.load(folder)
  served = loaded.signatures["serving_default"]

  def ask(text: str) -> object:
    assert loaded, "its variables live as long as it does"
    return served(texts=tf.constant([text]))["probabilities"].numpy()

  return ask


def _timed(
  ask: Callable[[str], object], texts: Sequence[str], clients: int
) -> Measured:
  """Measures the calls of a function for every text, in this process.

  Args:
    ask: function that answers a text.
    texts: the texts.
    clients: number of threads that call `ask`.
  """

  def answer_seconds(text: str) -> float:
    began = time.monotonic()
    ask(text)
    return time.monotonic() - began

  began, used = time.monotonic(), time.process_time()
  if clients == 1:
    seconds = [answer_seconds(text) for text in texts]
  else:
    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
      seconds = list(threads.map(answer_seconds, texts))
  return Measured(
    np.array(seconds), time.monotonic() - began, time.process_time() - used
  )


def _ask_all(
  address: str, pid: int, texts: Sequence[str], clients: int
) -> Measured:
  """Measures the answers of a server; each client keeps its own connection.

  Args:
    address: host and port of the server.
    pid: the process id of the server, for the CPU time.
    texts: the texts to ask for.
    clients: number of clients.
  """
  idle = [http.client.HTTPConnection(address) for _ in range(clients)]

  def ask(text: str) -> None:
    connection = idle.pop()
    connection.request(
      "POST",
      "/api/predict",
      json.dumps({"text": text}),
      {"Content-Type": "application/json"},
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.read()
    idle.append(connection)

  used = _cpu_seconds(pid)
  measured = _timed(ask, texts, clients)
  for connection in idle:
    connection.close()
  return dataclasses.replace(measured, cpu=_cpu_seconds(pid) - used)


def _cpu_seconds(pid: int) -> float:
  """Returns the CPU seconds of a process, in all its threads (Linux)."""
  after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
  user, system = map(int, after_name.split()[11:13])
  return (user + system) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
  options.run(main, Options)
