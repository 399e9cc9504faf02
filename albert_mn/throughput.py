"""How fast a run is, measured against what the hardware could do.

A step's arithmetic follows from the model's shape, as in appendix B of PaLM
(Chowdhery et al. 2022, arXiv 2204.02311): what the model asks for counts, not
what rematerialisation computes again.
"""

import dataclasses
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import tensorflow as tf
import tf_keras
from absl import logging

from albert_mn import configs, distribution, runs

# What a chip does at most in bfloat16, FLOPs a second, and how many cores of
# a chip the number in an accelerator type counts (v3-8 has 4 chips, v6e-8 has
# 8): cloud.google.com/tpu/docs/v2, v3, v4, v5e, v5p, v6e.
_TPUS = {
  "v2": (45e12, 2),
  "v3": (123e12, 2),
  "v4": (275e12, 2),
  "v5litepod": (197e12, 1),
  "v5p": (459e12, 2),
  "v6e": (918e12, 1),
}

# Long enough that starting the product is none of its time (guess).
_SECONDS_A_PRODUCT = 0.05
_TRIES = 3
# 256 MB in float32; the largest that is tried.
_LARGEST = 8192


@dataclasses.dataclass(frozen=True)
class Work:
  """What a step does, and what it is measured against.

  Attributes:
    steps: of the whole run.
    sequences: of a step.
    positions: of a sequence.
    filled: the share of them that is not padding; None for unknown.
    examples: of an epoch.
    flops: of a step.
    peak: FLOPs a second of all devices; 0 for unknown.
    input_seconds: what `input_seconds` says of a batch.
  """

  steps: int
  sequences: int
  positions: int
  filled: float | None
  examples: int
  flops: float
  peak: float
  input_seconds: float

  @property
  def tokens(self) -> float:
    """What a step reads: positions without padding, on average.

    Where it is not known how many are padding, they count.
    """
    share = 1.0 if self.filled is None else self.filled
    return self.sequences * self.positions * share


class Meter:
  """Measures from one log line to the next.

  Args:
    work: what a step does.
    clock: gives seconds.
  """

  def __init__(self, work: Work, clock: Callable[[], float] = time.monotonic):
    self._work, self._clock = work, clock
    self._began, self._first = 0.0, 0

  def begin(self, step: int) -> None:
    """Starts to measure."""
    self._began, self._first = self._clock(), step

  def metrics(self, step: int) -> dict[str, float]:
    """Returns what happened since `begin`, under TensorBoard's names."""
    work = self._work
    seconds = self._clock() - self._began
    pace = (step - self._first) / seconds
    metrics = {
      "epochs": step * work.sequences / work.examples,
      "tokens": step * work.tokens,
      "sequences_per_second": pace * work.sequences,
      "tokens_per_second": pace * work.tokens,
      "input_share": pace * work.input_seconds,
    }
    if work.peak:
      metrics["mfu"] = pace * work.flops / work.peak
    return metrics

  def said(self, step: int, metrics: dict[str, float]) -> str:
    """Returns the same for a person, with the time that is left.

    `0.67 epochs, 179,431 tokens; 77 sequences/s, 4,322 tokens/s, 31 % of the
    peak, input 0.4 % of a step; 1h05m left`.
    """
    unit = "positions" if self._work.filled is None else "tokens"
    peak = f"{metrics['mfu']:.0%} of the peak, " if "mfu" in metrics else ""
    left = (self._work.steps - step) * self._work.sequences
    return (
      f"{metrics['epochs']:.2f} epochs, {_counted(metrics['tokens'])} {unit}; "
      f"{metrics['sequences_per_second']:,.0f} sequences/s, "
      f"{metrics['tokens_per_second']:,.0f} {unit}/s, "
      f"{peak}input {metrics['input_share']:.1%} of a step; "
      f"{runs.clock(left / metrics['sequences_per_second'])} left"
    ).replace("%", " %")


def _counted(number: float) -> str:
  for size, name in ((1e9, "billion"), (1e6, "million")):
    if number >= size:
      return f"{number / size:.2f} {name}"
  return f"{number:,.0f}"


def step_flops(
  config: configs.AlbertConfig, sequences: int, length: int, predictions: int
) -> float:
  """Returns the floating-point operations of a training step.

  Those of the matrix products, two a multiplication and addition; the rest is
  below a hundredth. A layer counts as often as it is applied, though ALBERT's
  share their weights. The gradient takes two products for each of the forward
  pass.

  Args:
    config: the shape.
    sequences: of the step.
    length: positions of a sequence, padding included: it is computed.
    predictions: masked positions of a sequence, on which alone the masked-LM
      head works.
  """
  hidden, embedding = config.hidden_size, config.embedding_size
  block = (
    4 * length * hidden * hidden  # query, key, value, output
    + 2 * length * length * hidden  # scores, and the mean by them
    + 2 * length * hidden * config.intermediate_size
  )
  products = (
    (length * embedding * hidden if config.projects_embeddings else 0)
    + config.num_hidden_layers * config.inner_group_num * block
    + predictions * embedding * (hidden + config.vocab_size)
    + hidden * hidden  # the pooler
    + hidden * 2  # the order of two segments
  )
  return 3.0 * 2.0 * products * sequences


def input_seconds(
  dataset: tf.data.Dataset,
  parts: int,
  seconds: float = 0.5,
  clock: Callable[[], float] = time.perf_counter,
) -> float:
  """Times the input pipeline with nobody computing; returns seconds a batch.

  Where that is below a step's time, an accelerator never waits for its input,
  and a CPU spends that share of its time on it at most. The wait inside of a
  step cannot be read: operations that tell the time are refused under op
  determinism, and next to several devices the loop takes its batches ahead.

  Args:
    dataset: a process's share of the batches, none of them taken.
    parts: its elements that make a batch.
    seconds: about how long to look.
    clock: gives seconds.
  """

  # In one operation each: an iterator of Python's that is given up while the
  # pipeline works, on an error too, waits for it for ever.
  def drained(elements: int) -> float:
    began = clock()
    dataset.take(elements).reduce(tf.constant(0), lambda n, _: n + 1).numpy()
    return clock() - began

  drained(parts)
  opening, taken = drained(parts), parts  # opening files is not the pace
  spent = 0.0
  while spent < seconds:
    taken *= 2
    spent = drained(taken) - opening
  return spent * parts / (taken - parts)


def peak(strategy: tf.distribute.Strategy) -> float:
  """Returns what all devices could do, in FLOPs a second; 0 for unknown.

  That of a TPU is known by its type; else a matrix product is timed, in the
  precision in which layers compute.
  """
  if isinstance(strategy, tf.distribute.TPUStrategy):
    kind = accelerator_type()
    flops = tpu_peak(kind)
    if not flops:
      logging.warning("mfu is left out: no peak known of TPU type %r", kind)
    return flops
  if tf.config.list_physical_devices("GPU"):
    devices = strategy.num_replicas_in_sync
  else:  # logical devices share one CPU
    devices = distribution.processes(strategy)
  measured = matrix_speed() * devices
  logging.info("matrix products reach %.3g FLOPs/s", measured)
  return measured


def matrix_speed(clock: Callable[[], float] = time.perf_counter) -> float:
  """Times products of square matrices; returns the best, in FLOPs a second."""
  kind = tf_keras.mixed_precision.global_policy().compute_dtype
  best, size, seconds = 0.0, 256, 0.0
  while seconds < _SECONDS_A_PRODUCT and size < _LARGEST:
    size *= 2
    matrix = tf.ones([size, size], kind)
    tried = []
    for _ in range(_TRIES):
      began = clock()
      tf.linalg.matmul(matrix, matrix)[0, 0].numpy()  # waits for a GPU
      tried.append(clock() - began)
    seconds = min(tried)
    best = max(best, 2.0 * size**3 / seconds)
  return best


def tpu_peak(accelerator: str) -> float:
  """Returns the peak of a TPU such as v3-8 or v5litepod-16; 0 for unknown."""
  name, _, cores = accelerator.partition("-")
  chip, counted = _TPUS.get(name, (0.0, 1))
  return chip * int(cores) / counted if cores.isdigit() else 0.0


def accelerator_type() -> str:
  """Asks the environment, then a TPU VM's metadata server; "" for unknown.

  cloud.google.com/compute/docs/metadata/querying-metadata
  """
  if named := os.environ.get("TPU_ACCELERATOR_TYPE"):
    return named
  host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
  request = urllib.request.Request(
    f"http://{host}/computeMetadata/v1/instance/attributes/accelerator-type",
    headers={"Metadata-Flavor": "Google"},
  )
  try:
    with urllib.request.urlopen(request, timeout=3) as answer:
      return str(answer.read().decode())
  except (urllib.error.URLError, TimeoutError) as error:
    logging.warning("no answer from %s: %s", host, error)
    return ""
