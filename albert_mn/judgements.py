"""What a model said of held-out rows, as numbers: by scikit-learn and scipy."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics

from albert_mn import calibration, problems

# Two-sided 95 % of the normal distribution.
_Z = 1.959963984540054


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
  """Returns the 95 % interval of a proportion (Wilson 1927).

  Unlike accuracy ± 2 standard errors it stays inside [0, 1] and does not
  shrink to nothing at 0 or 1: 10 of 10 gives 0.722 to 1.
  """
  share, z2 = correct / total, _Z * _Z
  middle = (share + z2 / (2 * total)) / (1 + z2 / total)
  spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
  half = _Z * spread / (1 + z2 / total)
  return max(0.0, middle - half), min(1.0, middle + half)


class Mistake(NamedTuple):
  """A wrong answer.

  Attributes:
    row: its place.
    true, said: in words.
    much: how sure of it, or how far off: `Judgement.MUCH` says which.
  """

  row: int
  true: str
  said: str
  much: float


@dataclasses.dataclass(frozen=True)
class Judgement:
  """Answers beside the truth.

  Attributes:
    MUCH: what orders the mistakes.
    names: of the labels.
    truth, answers: [rows] numbers of labels; [rows, labels] of 0 and 1 where
      there may be several; [rows] values of a regression.
    sure: the probability of what was said, [rows]; [rows, labels] where there
      may be several; None where only answers are known, as of the baseline.
  """

  MUCH: ClassVar[str] = "probability"

  names: Sequence[str]
  truth: np.ndarray
  answers: np.ndarray
  sure: np.ndarray | None = None

  def scores(self) -> dict[str, float]:
    """Returns the measures of the whole."""
    raise NotImplementedError

  def right(self) -> np.ndarray:
    """Returns [rows]: higher is better; what a paired test compares."""
    raise NotImplementedError

  def mistakes(self, most: int) -> list[Mistake]:
    """Returns the worst; none where nothing says how bad they are."""
    raise NotImplementedError

  def part(self, rows: np.ndarray) -> "Judgement":
    """Returns the same of some of the rows."""
    return dataclasses.replace(
      self,
      truth=self.truth[rows],
      answers=self.answers[rows],
      sure=None if self.sure is None else self.sure[rows],
    )

  @staticmethod
  def joined(parts: Sequence["Judgement"]) -> "Judgement":
    """Returns one judgement of the rows of all; the inverse of `part`."""
    sure = [part.sure for part in parts if part.sure is not None]
    return dataclasses.replace(
      parts[0],
      truth=np.concatenate([part.truth for part in parts]),
      answers=np.concatenate([part.answers for part in parts]),
      sure=np.concatenate(sure) if sure else None,
    )

  def table(self) -> str:
    """Returns the scores of each label, as scikit-learn prints them."""
    return metrics.classification_report(
      self.truth,
      self.answers,
      labels=range(len(self.names)),
      # A line break in a label would end its line.
      target_names=[" ".join(name.split()) for name in self.names],
      digits=3,
      zero_division=0.0,
    )

  def per_label(self) -> list[tuple[str, float, float, float, int]]:
    """Returns name, precision, recall, F1 and support of each label."""
    found = metrics.precision_recall_fscore_support(
      self.truth,
      self.answers,
      labels=range(len(self.names)),
      zero_division=0.0,
    )
    columns = zip(
      *(np.asarray(column).tolist() for column in found), strict=True
    )
    return [(name, *row) for name, row in zip(self.names, columns, strict=True)]

  def bins(self) -> list[calibration.Bin]:
    """Returns how sure and how right, by stretches; [] where unknown."""
    return []

  def share_right(self, name: str) -> dict[str, float]:
    """Returns the share of rows that are right, and its 95 % interval."""
    right, total = int(self.right().sum()), len(self.truth)
    low, high = wilson_interval(right, total)
    return {name: right / total, f"{name}_low": low, f"{name}_high": high}

  def _averages(self, kinds: Sequence[str]) -> dict[str, float]:
    found = {}
    for kind in kinds:
      values = metrics.precision_recall_fscore_support(
        self.truth, self.answers, average=kind, zero_division=0.0,
        labels=range(len(self.names)),
      )  # fmt: skip
      for name, value in zip(
        ("precision", "recall", "f1"), values, strict=False
      ):
        found[f"{kind}_{name}"] = float(value)
    return found

  def _calibration(self) -> dict[str, float]:
    bins = self.bins()
    if not bins:
      return {}
    return {"expected_calibration_error": calibration.expected_error(bins)}


class OneLabel(Judgement):
  """One label a row."""

  def scores(self) -> dict[str, float]:
    return {
      **self.share_right("accuracy"),
      **self._averages(["macro", "weighted"]),
      **self._calibration(),
    }

  def right(self) -> np.ndarray:
    return self.truth == self.answers

  def bins(self) -> list[calibration.Bin]:
    if self.sure is None:
      return []
    return calibration.bins(self.sure, self.right())

  def mistakes(self, most: int) -> list[Mistake]:
    if self.sure is None:
      return []
    wrong = np.flatnonzero(~self.right())
    wrong = wrong[np.argsort(-self.sure[wrong], kind="stable")][:most]
    return [
      Mistake(
        row,
        self.names[self.truth[row]],
        self.names[self.answers[row]],
        float(self.sure[row]),
      )
      for row in wrong.tolist()
    ]


class SeveralLabels(Judgement):
  """Any number of labels a row."""

  def scores(self) -> dict[str, float]:
    return {
      **self.share_right("exact_rows"),
      **self._averages(["micro", "macro", "weighted"]),
      **self._calibration(),
    }

  def right(self) -> np.ndarray:
    return (self.truth == self.answers).all(axis=1)

  def bins(self) -> list[calibration.Bin]:
    """Each label of each row counts as an answer."""
    if self.sure is None:
      return []
    return calibration.bins(
      self.sure.ravel(), (self.truth == self.answers).ravel()
    )

  def mistakes(self, most: int) -> list[Mistake]:
    """Each label of each row counts as an answer."""
    if self.sure is None:
      return []
    wrong = np.argwhere(self.truth != self.answers)
    order = np.argsort(-self.sure[tuple(wrong.T)], kind="stable")[:most]
    found = []
    for row, label in wrong[order].tolist():
      words = self.names[label], f"not {self.names[label]}"
      true, said = words if self.truth[row, label] else words[::-1]
      found.append(Mistake(row, true, said, float(self.sure[row, label])))
    return found


class Numbers(Judgement):
  """A number a row."""

  MUCH = "off by"

  def scores(self) -> dict[str, float]:
    error = self.answers - self.truth
    varied = self.answers.std() > 0 and self.truth.std() > 0
    pearson, spearman = (
      (
        float(stats.pearsonr(self.truth, self.answers).statistic),
        float(stats.spearmanr(self.truth, self.answers).statistic),
      )
      if varied and len(error) > 1
      else (math.nan, math.nan)
    )
    return {
      "mean_squared_error": float(np.square(error).mean()),
      "mean_absolute_error": float(np.abs(error).mean()),
      "pearson": pearson,
      "spearman": spearman,
    }

  def right(self) -> np.ndarray:
    return -np.abs(self.answers - self.truth)

  def mistakes(self, most: int) -> list[Mistake]:
    off = np.abs(self.answers - self.truth)
    worst = np.argsort(-off, kind="stable")[:most]
    return [
      Mistake(
        row,
        f"{self.truth[row]:.6g}",
        f"{self.answers[row]:.6g}",
        float(off[row]),
      )
      for row in worst.tolist()
      if off[row]
    ]

  def table(self) -> str:
    return "\n".join(
      f"{name.replace('_', ' '):>20} {value:.4g}"
      for name, value in self.scores().items()
    )

  def per_label(self) -> list[tuple[str, float, float, float, int]]:
    return []


_KINDS: Mapping[str, type[Judgement]] = {
  problems.CLASS: OneLabel,
  problems.MULTI_LABEL: SeveralLabels,
  problems.REGRESSION: Numbers,
}


def of(
  problem: problems.Problem, targets: np.ndarray, probabilities: np.ndarray
) -> Judgement:
  """Judges what a model tells.

  Args:
    problem: what was predicted.
    targets: of the rows.
    probabilities: [rows, outputs] of `Predictor.probabilities`.
  """
  kind = _KINDS[problem.TYPE]
  if problem.TYPE == problems.CLASS:
    sure = probabilities.max(axis=1)
    return kind(problem.names, targets, probabilities.argmax(axis=1), sure)
  if problem.TYPE == problems.MULTI_LABEL:
    answers = (probabilities > 0.5).astype(int)
    sure = np.maximum(probabilities, 1 - probabilities)
    return kind(problem.names, targets.astype(int), answers, sure)
  truth = problem.probabilities(targets[:, None])[:, 0]
  return kind(problem.names, truth, probabilities[:, 0])


def sign_test(one: np.ndarray, other: np.ndarray) -> tuple[int, int, float]:
  """Returns on how many rows each is better, and the p-value of no difference.

  The exact sign test; of right and wrong it is McNemar's exact test.
  """
  ours, theirs = int((one > other).sum()), int((other > one).sum())
  if not ours + theirs:
    return ours, theirs, 1.0
  return ours, theirs, float(stats.binomtest(ours, ours + theirs).pvalue)
