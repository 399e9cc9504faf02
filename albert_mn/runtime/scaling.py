"""Predicts the held-out loss of a pretraining run, from runs that were measured.

RUNS are the runs of `python -m benchmarks.pretraining_scaling`: three sizes of
ALBERT at three budgets each, every run with a schedule of its own. `Fit` is a
nonlinear regression with its prediction interval. UNSEEN is a measured run that
is not in the fit.

    Fit(RUNS).predict(shape("albert_mini"), sequences=20_000).loss

Text that is read again is worth less than new text (`effective`).
"""

import dataclasses
import functools
import math
import os
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from albert_mn.models import configs
from albert_mn.runtime import throughput
from data_prep.base import release

# What all runs have in common: records of 64 pieces with 20 % of them masked,
# 8,000 pieces, corpus statistics as the initial weights, Muon at a peak rate of
# 0.001, batches of 32 sequences.
LENGTH, MASKED, PREDICTIONS, VOCAB_SIZE = 64, 0.2, 13, 8000
BATCH, RATE = 32, 0.001
# The text of the runs, and its sequences, without those that are held out.
WORDS, SEQUENCES = 1_498_425, 37_740


@dataclasses.dataclass(frozen=True)
class Run:
  """A pretraining run that was measured.

  Attributes:
    config: name of a file in the folder configs, without its ending.
    steps: steps of BATCH sequences.
    seconds: CPU-seconds of all steps on one core.
    loss: masked_lm_loss on held-out records at the end.
  """

  config: str
  steps: int
  seconds: float
  loss: float

  @property
  def sequences(self) -> int:
    """The number of sequences that the run has read."""
    return self.steps * BATCH


# Measured on one core, much other work beside it, 2026-12-01.
RUNS = (
  Run("albert_tiny", 81, 25.2, 7.087),
  Run("albert_tiny", 242, 84.5, 6.790),
  Run("albert_tiny", 725, 228.5, 6.693),
  Run("albert_mini", 19, 26.3, 7.407),
  Run("albert_mini", 58, 79.0, 7.099),
  Run("albert_mini", 174, 207.8, 6.542),
  Run("albert_small", 10, 25.2, 7.525),
  Run("albert_small", 29, 74.0, 7.395),
  Run("albert_small", 88, 223.2, 7.231),
)
UNSEEN = Run("albert_mn_tiny", 210, 132.2, 6.290)
# FLOPs a second of float32 matrix products on the same core, at the same time.
PEAK = 7.6e10
# CPU-seconds of a run that are no steps: the start, the counts, the graph, and a
# few evaluations. A run of 60 steps by a plan's command took 56.
PREPARATION = 60.0
# Where the search for the five numbers of `expected_loss` begins.
_GUESS = (7.6, 6.6, 0.5, 4.4, 0.4)
# Share of the runs of which a prediction interval is to hold.
LEVEL = 0.9

# The number of passes over a text after which half and more of the worth of
# further passes is gone: R* of Muennighoff et al. 2023 (arXiv 2305.16264),
# for data. Up to four passes are nearly as good as new text.
_PASSES = 15.4
# Vocabulary size → pieces a word (docs/log.md, 2026-11-23).
_PIECES = {4000: 1.790, 8000: 1.556, 16000: 1.401, 32000: 1.300}


@functools.cache
def shape(name: str, vocab_size: int = VOCAB_SIZE) -> configs.AlbertConfig:
  """Returns a config of the folder configs, with another vocabulary size.

  Args:
    name: name of the file, without its ending.
    vocab_size: number of pieces; 0 takes the number in the file.
  """
  path = os.path.join(release.folder("configs"), f"{name}.json")
  config = configs.AlbertConfig.from_file(path)
  return dataclasses.replace(config, vocab_size=vocab_size or config.vocab_size)


def flops(config: configs.AlbertConfig, sequences: int) -> float:
  """Returns the floating-point operations of training on some sequences.

  Args:
    config: the model's shape.
    sequences: number of sequences.
  """
  return throughput.step_flops(config, 1, LENGTH, PREDICTIONS) * sequences


def pieces_per_word(vocab_size: int) -> float:
  """Returns the approximate number of pieces of a word, by vocabulary size.

  Between the measured vocabulary sizes the number is interpolated; outside of
  them it is that of the nearest size.

  Args:
    vocab_size: number of pieces of the tokenizer.
  """
  sizes = np.log(list(_PIECES))
  return float(np.interp(math.log(vocab_size), sizes, list(_PIECES.values())))


def sequences_of(words: int, vocab_size: int) -> int:
  """Returns the approximate number of sequences of LENGTH pieces in a text.

  Args:
    words: words of the text.
    vocab_size: number of pieces of the tokenizer.
  """
  per_word = SEQUENCES / WORDS * pieces_per_word(vocab_size)
  return max(1, round(words * per_word / pieces_per_word(VOCAB_SIZE)))


def effective(sequences: int, unique: int) -> float:
  """Returns the number of new sequences that are worth as much as a run reads.

  A sequence that is read again is worth less than a new one. Muennighoff et al.
  2023: U + U·R*·(1 − exp(−R / R*)), of U unique sequences that are read R more
  times.

  Args:
    sequences: number of sequences that the run reads.
    unique: number of sequences in the text.
  """
  repeated = max(0.0, sequences / unique - 1)
  first = min(sequences, unique)
  return first + unique * _PASSES * (1 - math.exp(-repeated / _PASSES))


def share_of_peak(name: str) -> float:
  """Returns the speed at which a config trained, as a share of PEAK.

  For a size without a measured run it is the share of all runs together.

  Args:
    name: name of the config.
  """
  runs = [run for run in (*RUNS, UNSEEN) if run.config == name] or RUNS
  work = sum(flops(shape(run.config), run.sequences) for run in runs)
  return work / sum(run.seconds for run in runs) / PEAK


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A predicted loss.

  Attributes:
    loss: the expected loss.
    low, high: the ends of the prediction interval: the loss of a new run that
      is like the runs of the fit lies between them with a probability of LEVEL.
  """

  loss: float
  low: float
  high: float

  def __str__(self) -> str:
    return f"{self.loss:.2f} ({self.low:.2f} to {self.high:.2f})"

  def times(self, factor: float) -> "Prediction":
    """Returns the prediction with all numbers multiplied by a factor."""
    return Prediction(*(factor * x for x in dataclasses.astuple(self)))


def applied_weights(config: configs.AlbertConfig) -> int:
  """Returns the number of weights in the matrices of all layers.

  A weight that several layers share counts once for each of these layers.
  """
  hidden = config.hidden_size
  block = 4 * hidden * hidden + 2 * hidden * config.intermediate_size
  return config.num_hidden_layers * config.inner_group_num * block


def expected_loss(
  numbers: np.ndarray, config: configs.AlbertConfig, sequences: float
) -> float:
  """Returns the loss of a run by the formula that `Fit` fits.

  The loss begins at a, the loss of weights from statistics, and falls to a
  floor F like F + (a − F) / (1 + n / h), with n the number of steps of BATCH
  sequences. The floor depends on the width E of the embeddings: F = b - c ln(E
  / 64). The number h of steps to half of the way depends on N, the result
  of `applied_weights`: ln h = d + e ln(N / 10^6).

  Args:
    numbers: a, b, c, d, e.
    config: the model's shape.
    sequences: the number of new sequences that are worth as much as those that
      the run reads.
  """
  start, floor, width, half, size = numbers
  floor = floor - width * math.log(config.embedding_size / 64)
  half = math.exp(half + size * math.log(applied_weights(config) / 1e6))
  return float(floor + (start - floor) / (1 + sequences / BATCH / half))


class Fit:
  """The formula of `expected_loss`, fitted to measured runs by least squares.

  The interval is that of nonlinear regression for a new observation: Student's
  t times s·√(1 + g (JᵀJ)⁻¹ gᵀ), with s the deviation of the residuals, J their
  derivatives by the numbers and g those of the prediction (Seber and Wild 1989,
  section 5.1).

  Args:
    runs: the measured runs, more than the formula has numbers.
  """

  def __init__(self, runs: Sequence[Run]) -> None:
    def residuals(numbers: np.ndarray) -> list[float]:
      return [
        expected_loss(numbers, shape(run.config), run.sequences) - run.loss
        for run in runs
      ]

    solved = optimize.least_squares(residuals, _GUESS, max_nfev=10_000)
    self.numbers: np.ndarray = solved.x
    self._spread = np.linalg.pinv(solved.jac.T @ solved.jac)
    self._freedom = len(runs) - len(_GUESS)
    self.deviation = math.sqrt(2 * solved.cost / self._freedom)

  def predict(
    self, config: configs.AlbertConfig, sequences: float
  ) -> Prediction:
    """Predicts the loss of a run that is not in the fit, with its interval.

    Args:
      config: the model's shape.
      sequences: the number of new sequences that are worth as much as those
        that the run reads.
    """
    loss = expected_loss(self.numbers, config, sequences)
    slopes = optimize.approx_fprime(
      self.numbers, expected_loss, 1e-6, config, sequences
    )
    t = stats.t.ppf((1 + LEVEL) / 2, self._freedom)
    variance = 1 + slopes @ self._spread @ slopes
    reach = float(t * self.deviation * math.sqrt(variance))
    return Prediction(loss, loss - reach, loss + reach)


@functools.cache
def fit() -> Fit:
  """Returns the formula fitted to the measured runs, RUNS."""
  return Fit(RUNS)
