"""Fits a model's temperature, and its blend with the TF-IDF baseline.

Both are fitted on rows from which the networks did not learn.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from albert_mn.scoring import calibration
from albert_mn.tasks import baseline, blend, problems, task_rows
from data_prep.classification import classifier_data

Rows = Sequence[classifier_data.Row]


@dataclasses.dataclass(frozen=True)
class Unseen:
  """Rows from which some networks did not learn.

  Attributes:
    train: the rows from which these networks learnt.
    rows: the unseen rows.
    networks: one function for each network that did not learn from `rows`; it
      returns the network's logits of `rows`, [rows, outputs].
  """

  train: Rows
  rows: Rows
  networks: Sequence[Callable[[], np.ndarray]]

  @functools.cached_property
  def logits(self) -> np.ndarray:
    """The mean of the networks' logits, [rows, outputs]."""
    return np.mean([logits() for logits in self.networks], axis=0)


class Evidence:
  """The rows on which the temperature and the blend are fitted.

  Args:
    problem: the kind of prediction.
    parts: one part with rows from which no network has learnt; or for each
      network a part with rows from which this network has not learnt. No row is
      in two parts.
    balanced: whether every label has the same total weight, however many rows
      it has.

  Attributes:
    size: the number of rows in all parts.
  """

  def __init__(
    self, problem: problems.Problem, parts: Sequence[Unseen], balanced: bool
  ) -> None:
    self._problem, self._parts, self._balanced = problem, parts, balanced
    self._rows = [row for part in parts for row in part.rows]
    self.size = len(self._rows)

  @functools.cached_property
  def _logits(self) -> np.ndarray:
    return np.concatenate([part.logits for part in self._parts])

  @functools.cached_property
  def _targets(self) -> np.ndarray:
    return self._problem.targets(self._rows)

  def temperature(self) -> float:
    """Returns the temperature that fits the networks' logits; logs it.

    The logits of the answer are to be divided by the temperature
    (calibration.temperature).
    """
    fitted = calibration.temperature(self._problem, self._logits, self._targets)
    logging.info("temperature fitted on the validation rows: %.3f", fitted)
    return fitted

  def blended(self, learnable: Rows, temperature: float) -> blend.Blend | None:
    """Returns the blend of the networks with a fitted TF-IDF baseline.

    The factors are chosen with baselines that were fitted to the rows from
    which the networks learnt. The baseline in the result is fitted to all
    learnable rows.

    Args:
      learnable: all rows from which the baseline may learn.
      temperature: divisor of the networks' logits if the networks answer alone.

    Returns:
      the blend; None for fewer than 10 unseen rows, for more than 16,384
        labels, and for entities. Then the network answers alone, and the reason
        is logged.
    """
    if fault := self._fault():
      logging.info("blend: the network answers alone: %s", fault)
      return None
    scores = []
    for part in self._parts:
      linear = self._fitted(part.train)
      if not linear:
        logging.info(
          "blend: the network answers alone: there is no baseline for so many "
          "labels"
        )
        return None
      scores.append(linear.scores(_texts(part.rows)))
    factors = blend.chosen(
      self._problem,
      self._logits,
      np.concatenate(scores),
      self._targets,
      temperature,
      self._problem.weights(self._targets) if self._balanced else None,
    )
    logging.info("blend: %s", factors.summary())
    if len(learnable) > len(self._parts[-1].train):
      linear = self._fitted(learnable)
    assert linear, "as many labels as before"
    return blend.Blend(linear, factors)

  def _fault(self) -> str:
    """Returns the reason why no blend can be chosen, or "" if there is none."""
    if self._problem.TYPE == problems.ENTITIES:
      return "the baseline of entities has no probabilities"
    if self.size < blend.FEWEST_ROWS:
      return (
        f"{self.size} validation rows are too few to choose by; give "
        "--validation_file, or at least "
        f"{task_rows.FEWEST_TO_SPARE} training rows"
      )
    return ""

  def _fitted(self, rows: Rows) -> baseline.Linear | None:
    """Returns the TF-IDF baseline fitted to rows; None for too many labels.

    Too many are more than 16,384 labels.
    """
    targets = self._problem.targets(rows)
    return baseline.fitted(self._problem, _texts(rows), targets, self._balanced)


def _texts(rows: Rows) -> list[str]:
  """Returns the texts of rows for the TF-IDF baseline; a pair is one text."""
  return list(map(baseline.text_of, rows))
