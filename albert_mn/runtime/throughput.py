"""The speed of a run, compared with the peak speed of the hardware.

The arithmetic of a step follows from the model's shape, as in appendix B of
PaLM (Chowdhery et al. 2022, arXiv 2204.02311): operations that
rematerialisation repeats count once.
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

from albert_mn.models import configs
from albert_mn.runtime import distribution, runs

# TPU type → (peak FLOPs a second of a chip in bfloat16, units that an
# accelerator type counts for one chip). v3-8 counts cores and has 4 chips;
# v6e-8 has 8 chips: cloud.google.com/tpu/docs/v2, v3, v4, v5e, v5p, v6e.
_TPUS = {
  "v2": (45e12, 2),
  "v3": (123e12, 2),
  "v4": (275e12, 2),
  "v5litepod": (197e12, 1),
  "v5p": (459e12, 2),
  "v6e": (918e12, 1),
}

# Matrix products that take longer are timed well: the time to start one is then
# negligible (guess, in seconds).
_SECONDS_A_PRODUCT = 0.05
_TRIES = 3
# Side of the largest matrix to try; it has 256 MB in float32.
_LARGEST = 8192


@dataclasses.dataclass(frozen=True)
class Work:
  """The work of a training step, and the speeds to compare with.

  Attributes:
    steps: steps of the whole run.
    sequences: sequences per step.
    positions: positions per sequence.
    filled: share of the positions that are not padding, from 0 to 1; None if
      unknown.
    examples: sequences per epoch.
    flops: floating-point operations per step.
    peak: peak FLOPs per second of all devices; 0 if unknown.
    input_seconds: seconds that the input pipeline alone takes for a batch.
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
    """Mean number of positions in a step that are not padding.

    If the share of padding is unknown, all positions count.
    """
    share = 1.0 if self.filled is None else self.filled
    return self.sequences * self.positions * share


class Meter:
  """Measures the speed of training from `begin` to `metrics`.

  Args:
    work: the work of a step.
    clock: returns the time in seconds.
  """

  def __init__(
    self, work: Work, clock: Callable[[], float] = time.monotonic
  ) -> None:
    self._work, self._clock = work, clock
    self._began, self._first = 0.0, 0

  def begin(self, step: int) -> None:
    """Starts to measure.

    Args:
      step: the number of steps taken.
    """
    self._began, self._first = self._clock(), step

  def metrics(self, step: int) -> dict[str, float]:
    """Returns metric name → value for TensorBoard: progress and speed.

    epochs and tokens count from the start of the run. sequences_per_second and
    tokens_per_second are means since `begin`. input_share is the input
    pipeline's time as a share of a step. mfu is the share of the peak speed; it
    is missing if the peak is unknown.

    Args:
      step: the number of steps taken.
    """
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

  def text(self, step: int, metrics: dict[str, float]) -> str:
    """Returns metrics as text for the log, with the remaining time.

    An example is `0.67 epochs, 179,431 tokens; 77 sequences/s, 4,322 tokens/s,
    31 % of the peak, input 0.4 % of a step; 1h05m left`.

    Args:
      step: the number of steps taken.
      metrics: the result of the method `metrics`.
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

  Only matrix products count, with two operations for a multiplication and an
  addition; the rest is below a hundredth. A layer counts each time it is
  applied, although ALBERT's layers share weights. The backward pass takes two
  products for each of the forward pass.

  Args:
    config: the model's shape.
    sequences: sequences of the step.
    length: positions of a sequence, including padding, which is computed too.
    predictions: masked positions of a sequence; the masked-LM head computes
      only these.
  """
  hidden, embedding = config.hidden_size, config.embedding_size
  block = (
    4 * length * hidden * hidden  # query, key, value, output
    + 2 * length * length * hidden  # scores, and the weighted mean of v
    + 2 * length * hidden * config.intermediate_size
  )
  products = (
    (length * embedding * hidden if config.projects_embeddings else 0)
    + config.num_hidden_layers * config.inner_group_num * block
    + predictions * embedding * (hidden + config.vocab_size)
    + hidden * hidden  # the pooler
    + hidden * 2  # the sentence-order head
  )
  return 3.0 * 2.0 * products * sequences


def input_seconds(
  dataset: tf.data.Dataset,
  parts: int,
  seconds: float = 0.5,
  clock: Callable[[], float] = time.perf_counter,
) -> float:
  """Times the input pipeline alone; returns seconds per batch.

  If the result is below the time of a step, an accelerator never waits for
  input, and a CPU spends at most this time of each step on input. The wait
  inside a step cannot be measured: operations that read the clock are refused
  under op determinism, and with several devices the loop fetches batches in
  advance.

  Args:
    dataset: an endless dataset of this process's rows of the batches, from
      which nothing was read yet.
    parts: elements of the dataset that make one batch.
    seconds: least duration of the last, longest pass. Each pass takes twice as
      many elements as the pass before.
    clock: returns the time in seconds.
  """

  # One operation takes all elements. A Python iterator that is abandoned while
  # the pipeline works waits for it for ever, also after an error.
  def drained(elements: int) -> float:
    began = clock()
    dataset.take(elements).reduce(tf.constant(0), lambda n, _: n + 1).numpy()
    return clock() - began

  drained(parts)
  opening, taken = drained(parts), parts  # without opening files
  spent = 0.0
  while spent < seconds:
    taken *= 2
    spent = drained(taken) - opening
  return spent * parts / (taken - parts)


def peak(strategy: tf.distribute.Strategy) -> float:
  """Returns the peak speed of all devices, in FLOPs per second; 0 if unknown.

  The peak of a TPU follows from its type. On other devices a matrix product in
  the number format of the layers is timed.
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
  """Returns the best speed of products of square matrices, in FLOPs per second.

  The matrices have the number format of the layers. Their side doubles, from
  512 to at most 8,192, until a product takes 0.05 s. Of three products of a
  size the fastest counts.

  Args:
    clock: returns the time in seconds.
  """
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
  """Returns the peak bfloat16 speed of a TPU such as v3-8, in FLOPs per second.

  The speed is that of all chips of the TPU together; 0 if the type is unknown.
  """
  name, _, cores = accelerator.partition("-")
  chip, counted = _TPUS.get(name, (0.0, 1))
  return chip * int(cores) / counted if cores.isdigit() else 0.0


def accelerator_type() -> str:
  """Returns the accelerator type of this TPU VM, such as v3-8; "" if unknown.

  The type is read from the environment variable TPU_ACCELERATOR_TYPE, else from
  the metadata server
  (cloud.google.com/compute/docs/metadata/querying-metadata).
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
