"""Judgements: the answers of a model compared with the truth, as numbers.

Precision, recall and F1 are scikit-learn's, with one exception. If a label has
neither true nor predicted rows, all three are 1, so that fully correct answers
score 1.000 in every line. scikit-learn's zero_division also covers a label that
has true rows but is never predicted; its precision is 0 here.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import stats

from albert_mn.scoring import calibration
from albert_mn.tasks import problems

# Names of the three `measures` in the scores.
MEASURES = ("precision", "recall", "f1")

# Quantile of the normal distribution for a two-sided 95 % interval.
_Z = 1.959963984540054


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
  """Returns (low, high), a proportion's 95 % confidence interval (Wilson 1927).

  Unlike accuracy ± 2 standard errors it stays inside [0, 1], and has a positive
  width at 0 and 1: 10 of 10 gives 0.722 to 1.

  Args:
    correct: number of successes.
    total: number of trials; at least 1.
  """
  share, z2 = correct / total, _Z * _Z
  middle = (share + z2 / (2 * total)) / (1 + z2 / total)
  spread = math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
  half = _Z * spread / (1 + z2 / total)
  return max(0.0, middle - half), min(1.0, middle + half)


class Mistake(NamedTuple):
  """A wrong answer.

  Attributes:
    row: index of the row.
    true, answered: the true answer and the given answer, as text.
    much: the size of the mistake: the probability of the wrong answer, the
      absolute error, or the number of wrong entities (`Judgement.MUCH`).
  """

  row: int
  true: str
  answered: str
  much: float


@dataclasses.dataclass(frozen=True)
class Judgement:
  """The true answers to rows and the answers of a model; computes scores.

  Attributes:
    MUCH: the quantity in `Mistake.much`, such as "probability"; the largest
      mistakes come first.
    AVERAGES: the averages over labels that the scores include.
    names: the labels, by label number.
    truth, answers: the true and the given answers: [rows] of label numbers; for
      several labels per row, [rows, labels] of 0 and 1; for a regression,
      [rows] of numbers; for a tagger, [rows] of sets of entities.
    sure: the probability of each answer, [rows] or [rows, labels]; None if only
      answers are known, as for the baseline.
  """

  MUCH: ClassVar[str] = "probability"
  AVERAGES: ClassVar[Sequence[str]] = ()

  names: Sequence[str]
  truth: np.ndarray
  answers: np.ndarray
  sure: np.ndarray | None = None

  def scores(self) -> dict[str, float]:
    """Returns score name → value over all rows; there must be at least one row.

    For labels or entities the scores are the share of right rows (accuracy or
    exact_rows) with its 95 % interval, the AVERAGES, and, if `sure` is known,
    the expected calibration error.
    """
    raise NotImplementedError

  def right(self) -> np.ndarray:
    """Returns the quality of each row's answer, [rows]; higher is better.

    For labels and entities the quality is bool, whether the whole answer is
    right; for a regression it is minus the absolute error. `sign_test` compares
    the qualities of two judgements.
    """
    raise NotImplementedError

  def mistakes(self, most: int) -> list[Mistake]:
    """Returns at most `most` mistakes, the worst first.

    Of equally bad mistakes, that of the earlier row is first. For labels the
    result is [] if `sure` is None.
    """
    raise NotImplementedError

  def part(self, rows: np.ndarray) -> "Judgement":
    """Returns the judgement of a subset of the rows.

    Args:
      rows: bool [rows], which rows to take.
    """
    return dataclasses.replace(
      self,
      truth=self.truth[rows],
      answers=self.answers[rows],
      sure=None if self.sure is None else self.sure[rows],
    )

  @staticmethod
  def of_parts(parts: Sequence["Judgement"]) -> "Judgement":
    """Returns one judgement of all rows of several judgements, in their order.

    Args:
      parts: at least one judgement; all have the same labels, and either all or
        none have `sure`.
    """
    sure = [part.sure for part in parts if part.sure is not None]
    return dataclasses.replace(
      parts[0],
      truth=np.concatenate([part.truth for part in parts]),
      answers=np.concatenate([part.answers for part in parts]),
      sure=np.concatenate(sure) if sure else None,
    )

  def counts(self) -> np.ndarray:
    """Returns for each label the numbers from which its scores follow.

    Returns:
      int [labels, 3]: the number of rows that have the label as true label and
        as answer; of rows that have the label as answer; and of rows that have
        it as true label.

    Raises:
      NotImplementedError: for a regression.
    """
    raise NotImplementedError

  def table(self) -> str:
    """Returns a text table of the scores, in scikit-learn's format.

    The table has a line for each label, then the lines of `whole_rows`. For a
    regression it has only a line for each score.
    """
    rows: list[tuple[Any, ...]] = [
      # A line break in a label would break the table.
      (" ".join(name.split()), *scores)
      for name, *scores in self.per_label()
    ]
    support = sum(row[-1] for row in rows)
    whole: list[tuple[Any, ...]] = [
      (name, *row, support) for name, row in self.whole_rows()
    ]
    width = max(len(row[0]) for row in (*rows, ("weighted avg",)))
    head = "".join(
      f" {name:>9}" for name in ("precision", "recall", "f1-score", "support")
    )
    parts = [
      "\n".join(_line(width, row) for row in part) for part in (rows, whole)
    ]
    return "\n\n".join([f"{'':>{width}} {head}", *parts]) + "\n"

  def whole_rows(self) -> list[tuple[str, tuple[float | None, ...]]]:
    """Returns the lines below the labels in `table`, such as the averages.

    A line is (name, (precision, recall, F1)); a score of None is a blank cell.
    """
    return [(f"{kind} avg", self.average(kind)) for kind in self.AVERAGES]

  def per_label(self) -> list[tuple[str, float, float, float, int]]:
    """Returns (name, precision, recall, F1, support) of each label.

    The support is the number of rows that truly have the label. For a
    regression the result is [].
    """
    counts = self.counts()
    columns = [*measures(counts), counts[:, 2]]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(name, *row) for name, row in zip(self.names, rows, strict=True)]

  def average(self, kind: str) -> tuple[float, float, float]:
    """Returns (precision, recall, F1), averaged over all labels.

    Args:
      kind: "micro" counts the rows of all labels together; "macro" is the mean
        over labels; "weighted" is the mean weighted by the number of true rows,
        and equals "micro" if no label has a true row.
    """
    counts = self.counts()
    if kind == "weighted" and counts[:, 2].any():
      weights = counts[:, 2]
    elif kind == "macro":
      weights = None
    else:
      counts, weights = counts.sum(axis=0, keepdims=True), None
    return averaged(counts, weights)

  def note(self) -> str:
    """Returns a sentence on labels that do not occur; "" if all occur.

    A label occurs if it is the truth or the answer of at least one row.
    """
    if self.counts()[:, 1:].any(axis=1).all():
      return ""
    return (
      "A label that no row has and that was predicted for none counts as "
      "precision, recall and F1 of 1."
    )

  def bins(self) -> list[calibration.Bin]:
    """Returns the calibration bins that are not empty; [] if `sure` is None.

    For a regression and a tagger the result is [].
    """
    return []

  def share_right(self, name: str) -> dict[str, float]:
    """Returns the share of correct rows and the bounds of its 95 % interval.

    The keys of the result are `name`, `name`_low and `name`_high. There must be
    at least one row.

    Args:
      name: name of the share, such as "accuracy".
    """
    right, total = int(self.right().sum()), len(self.truth)
    low, high = wilson_interval(right, total)
    return {name: right / total, f"{name}_low": low, f"{name}_high": high}

  def _averages(self) -> dict[str, float]:
    """Returns name → average over labels, for each of AVERAGES.

    A name is, for example, micro_f1.
    """
    return {
      f"{kind}_{name}": value
      for kind in self.AVERAGES
      for name, value in zip(MEASURES, self.average(kind), strict=True)
    }

  def _calibration(self) -> dict[str, float]:
    """Returns {"expected_calibration_error": error}; {} if `bins` is empty."""
    bins = self.bins()
    if not bins:
      return {}
    return {"expected_calibration_error": calibration.expected_error(bins)}


def measures(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns precision, recall and F1, each float64 [...] from 0 to 1.

  Args:
    counts: int [..., 3], the numbers of correct, predicted and true rows. If no
      row is predicted and none is true, all three measures are 1; otherwise a
      measure with a divisor of 0 is 0.
  """
  hits, predicted, true = np.moveaxis(counts.astype(np.float64), -1, 0)
  empty = (predicted + true == 0).astype(np.float64)

  def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=empty.copy(), where=whole > 0)

  return (
    share(hits, predicted),
    share(hits, true),
    share(2 * hits, predicted + true),
  )


def averaged(
  counts: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float, float]:
  """Returns mean (precision, recall, F1) over labels or over rows.

  Args:
    counts: int [labels or rows, 3], the numbers of correct, predicted and true
      rows or labels.
    weights: [labels or rows], with a positive sum; None weighs all equally.
  """
  precision, recall, f1 = (
    float(np.average(each, weights=weights)) for each in measures(counts)
  )
  return precision, recall, f1


def _line(width: int, row: Sequence[Any]) -> str:
  """Returns a line of `Judgement.table`; a score of None is a blank cell.

  Args:
    width: number of characters of the first column.
    row: the name, then the scores.
  """
  name, *scores, support = row
  shown = ("" if score is None else f"{score:.3f}" for score in scores)
  cells = "".join(f" {cell:>9}" for cell in (*shown, support))
  return f"{name:>{width}} {cells}"


class OneLabel(Judgement):
  """The judgement of a task with one label a row.

  An answer of -1 is a label that is not in `names`. Only a baseline that was
  trained on other rows than the model gives such answers.
  """

  AVERAGES = ("macro", "weighted")

  def counts(self) -> np.ndarray:
    size = len(self.names)
    predicted = self.answers[self.answers >= 0]
    return np.stack(
      [
        np.bincount(numbers, minlength=size)
        for numbers in (self.truth[self.right()], predicted, self.truth)
      ],
      axis=1,
    )

  def whole_rows(self) -> list[tuple[str, tuple[float | None, ...]]]:
    """Returns the lines of the averages: accuracy, macro, weighted.

    If an answer is not one of `names`, the micro average is in place of the
    accuracy; otherwise the two are equal.
    """
    precision, recall, f1 = self.average("micro")
    if (self.answers < 0).any():
      return [("micro avg", (precision, recall, f1)), *super().whole_rows()]
    return [("accuracy", (None, None, f1)), *super().whole_rows()]

  def scores(self) -> dict[str, float]:
    return {
      **self.share_right("accuracy"),
      **self._averages(),
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
  """The judgement of a task with any number of labels a row."""

  AVERAGES = ("micro", "macro", "weighted")

  def counts(self) -> np.ndarray:
    return self._counts(axis=0)

  def _counts(self, axis: int) -> np.ndarray:
    """Returns numbers of correct, predicted and true labels, int [..., 3].

    Args:
      axis: 0 counts for each label; 1 counts for each row.
    """
    both = self.truth & self.answers
    return np.stack(
      [part.sum(axis=axis) for part in (both, self.answers, self.truth)], axis=1
    )

  def whole_rows(self) -> list[tuple[str, tuple[float | None, ...]]]:
    """Returns the lines of the averages over labels, then of "samples avg".

    "samples avg" is the average over rows.
    """
    return [
      *super().whole_rows(),
      ("samples avg", averaged(self._counts(axis=1))),
    ]

  def note(self) -> str:
    return (
      "A label that no row has and that was predicted for none counts as "
      "precision, recall and F1 of 1; so does, in the samples average, a row "
      "that has no label and got none."
    )

  def scores(self) -> dict[str, float]:
    return {
      **self.share_right("exact_rows"),
      **self._averages(),
      **self._calibration(),
    }

  def right(self) -> np.ndarray:
    return (self.truth == self.answers).all(axis=1)

  def bins(self) -> list[calibration.Bin]:
    """Returns the calibration bins; every label of every row is one answer."""
    if self.sure is None:
      return []
    return calibration.bins(
      self.sure.ravel(), (self.truth == self.answers).ravel()
    )

  def mistakes(self, most: int) -> list[Mistake]:
    """Returns the worst mistakes; every label of every row is one answer.

    A Mistake names the label or, if the row lacks it, "not" and the label.
    """
    if self.sure is None:
      return []
    wrong = np.argwhere(self.truth != self.answers)
    order = np.argsort(-self.sure[tuple(wrong.T)], kind="stable")[:most]
    mistakes = []
    for row, label in wrong[order].tolist():
      words = self.names[label], f"not {self.names[label]}"
      true, answered = words if self.truth[row, label] else words[::-1]
      mistakes.append(
        Mistake(row, true, answered, float(self.sure[row, label]))
      )
    return mistakes


class Numbers(Judgement):
  """The judgement of a regression, with one number a row."""

  MUCH = "off by"

  def scores(self) -> dict[str, float]:
    """Returns mean_squared_error, mean_absolute_error, pearson and spearman.

    pearson and spearman are correlations; they are NaN if all answers or all
    true numbers are equal, as with one row.
    """
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
    """Returns the negative absolute error of each row."""
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

  def note(self) -> str:
    return ""


_KINDS: Mapping[str, type[Judgement]] = {
  problems.CLASS: OneLabel,
  problems.MULTI_LABEL: SeveralLabels,
  problems.REGRESSION: Numbers,
}


def of(
  problem: problems.Problem, targets: np.ndarray, probabilities: np.ndarray
) -> Judgement:
  """Judges the answers that a model's probabilities give.

  The answer is the most probable label; for several labels per row, all labels
  above 0.5; for a regression, the number itself.

  Args:
    problem: the kind of prediction; not entities.
    targets: the targets of the rows, as `Problem.targets` returns them.
    probabilities: [rows, outputs], as `Predictor.probabilities` returns them.
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


def sign_test(
  our_scores: np.ndarray, their_scores: np.ndarray
) -> tuple[int, int, float]:
  """Returns (rows where ours is better, rows where theirs is better, p-value).

  The p-value is that of the exact, two-sided sign test of no difference; rows
  with equal scores do not count. If all rows have equal scores, it is 1. For
  scores of 0 and 1 this is McNemar's test.

  Args:
    our_scores, their_scores: [rows], as Judgement.right returns them.
  """
  ours, theirs = (
    int((our_scores > their_scores).sum()),
    int((their_scores > our_scores).sum()),
  )
  if not ours + theirs:
    return ours, theirs, 1.0
  return ours, theirs, float(stats.binomtest(ours, ours + theirs).pvalue)
