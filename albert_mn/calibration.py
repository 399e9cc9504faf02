"""Whether 0.9 means nine of ten: how sure a model is, against how right.

Guo et al. 2017 (arXiv 1706.04599): the expected calibration error, and the one
number that mends most of it.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize

from albert_mn import problems

BINS = 15  # Guo et al.'s


class Bin(NamedTuple):
  """Rows whose probability lies in one stretch.

  Attributes:
    low, high: its ends; the upper one belongs to it.
    rows: how many.
    confidence: their mean probability.
    accuracy: the share of them that is right.
  """

  low: float
  high: float
  rows: int
  confidence: float
  accuracy: float


def bins(
  confidence: np.ndarray, right: np.ndarray, count: int = BINS
) -> list[Bin]:
  """Sorts rows into stretches of equal width; leaves out empty ones.

  Args:
    confidence: [rows] the probability of what was said.
    right: [rows] whether it was right.
    count: stretches between 0 and 1.
  """
  edges = np.linspace(0, 1, count + 1)
  place = np.clip(np.searchsorted(edges, confidence) - 1, 0, count - 1)
  return [
    Bin(
      float(edges[b]),
      float(edges[b + 1]),
      int(inside.sum()),
      float(confidence[inside].mean()),
      float(right[inside].mean()),
    )
    for b in range(count)
    if (inside := place == b).any()
  ]


def expected_error(intervals: list[Bin]) -> float:
  """Returns the mean distance of confidence and accuracy, by rows."""
  rows = sum(interval.rows for interval in intervals)
  return sum(
    interval.rows * abs(interval.confidence - interval.accuracy)
    for interval in intervals
  ) / max(rows, 1)


def temperature(
  problem: problems.Problem, logits: np.ndarray, targets: np.ndarray
) -> float:
  """Returns what to divide logits by so that their loss is least.

  Args:
    problem: with probabilities: one label or several.
    logits: [rows, labels] of rows that were not trained on.
    targets: theirs.
  """

  def loss(logarithm: float) -> float:
    return problem.mean_loss(logits / np.exp(logarithm), targets)

  # Beyond a factor of 20 the rows are all right, or few.
  limit = float(np.log(20))
  minimum = optimize.minimize_scalar(
    loss, bounds=(-limit, limit), method="bounded"
  )
  return float(np.exp(minimum.x))
