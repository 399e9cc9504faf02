"""Calibration: whether answers with probability 0.9 are right 9 times of 10.

Guo et al. 2017 (arXiv 1706.04599): the expected calibration error, and the
temperature that corrects most of it.
"""

from typing import NamedTuple

import numpy as np
from scipy import optimize

from albert_mn.tasks import problems

BINS = 15  # as in Guo et al. 2017


class Bin(NamedTuple):
  """The answers whose probability lies in one interval.

  Attributes:
    low, high: the bounds of the interval. A probability equal to `low` is in
      the interval below; 0 is in the first.
    rows: number of answers; at least 1.
    confidence: mean probability of the answers.
    accuracy: share of the answers that are correct, from 0 to 1.
  """

  low: float
  high: float
  rows: int
  confidence: float
  accuracy: float


def bins(
  confidence: np.ndarray, right: np.ndarray, count: int = BINS
) -> list[Bin]:
  """Groups answers by their probability; returns the groups in ascending order.

  The intervals of probability have equal width. Intervals without an answer are
  left out.

  Args:
    confidence: [rows], the probability of the given answer.
    right: [rows], whether the answer is correct.
    count: number of intervals between 0 and 1.
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
  """Returns the expected calibration error, from 0 to 1.

  The error is the mean of |confidence − accuracy| over the bins, weighted by
  rows; 0 without bins.
  """
  rows = sum(interval.rows for interval in intervals)
  return sum(
    interval.rows * abs(interval.confidence - interval.accuracy)
    for interval in intervals
  ) / max(rows, 1)


def temperature(
  problem: problems.Problem, logits: np.ndarray, targets: np.ndarray
) -> float:
  """Returns the number by which to divide logits so that their loss is lowest.

  The search covers 1/20 to 20.

  Args:
    problem: a problem of one label or several labels.
    logits: [rows, labels] of rows that the model was not trained on.
    targets: the targets of these rows, as `Problem.targets` returns them.
  """

  def loss(logarithm: float) -> float:
    return problem.mean_loss(logits / np.exp(logarithm), targets)

  # The optimum lies beyond a factor of 20 only if all rows are right or there
  # are few rows.
  limit = float(np.log(20))
  minimum = optimize.minimize_scalar(
    loss, bounds=(-limit, limit), method="bounded"
  )
  return float(np.exp(minimum.x))
