"""The baseline printed beside every score: TF-IDF and a linear SVM.

On Eduge news such a baseline ties the published Mongolian transformers (0.909
against 0.90 and 0.88), so a score means little without it.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from albert_mn import ngrams, problems
from data_prep import classifier_data

NAME = "TF-IDF + linear SVM"

# Of training rows more are thinned out to these: n-grams of 100,000 news
# articles take about 10 GB (guess).
_MOST_ROWS = 100_000
# N-grams of words, and as many of letters: those of 701 sentences are 51,411.
_MOST_NGRAMS = 1 << 18
# Numbers for all outputs together, 256 MB of float32; with so many outputs that
# fewer n-grams are left to each than the second number, there is no baseline.
_MOST_WEIGHTS, _FEWEST_NGRAMS = 1 << 26, 1 << 11


@dataclasses.dataclass(frozen=True)
class Linear:
  """A linear model on the TF-IDF of n-grams.

  Attributes:
    grams: what the columns of the weights stand for.
    weights: float32 [outputs, n-grams].
    shift: float32 [outputs].
  """

  grams: ngrams.NGrams
  weights: np.ndarray
  shift: np.ndarray

  def scores(self, texts: Sequence[str]) -> np.ndarray:
    """Returns float64 [texts, outputs]: an SVM's distances, or numbers."""
    return self.scores_of(self.grams.matrix(texts))

  def scores_of(self, matrix: Any) -> np.ndarray:
    """Returns the scores of rows of `NGrams.matrix`."""
    return matrix @ self.weights.T.astype(np.float64) + self.shift


def fitted(
  problem: problems.Problem,
  texts: Sequence[str],
  targets: np.ndarray,
  balanced: bool = False,
) -> Linear | None:
  """Fits a linear model to training rows.

  One label or several: a linear SVM for each label against the others, C = 1.
  Numbers: ridge regression, the SVM's counterpart. Deterministic: the SVM's
  seed is fixed.

  Args:
    problem: what is predicted; not entities.
    texts: of the training rows.
    targets: theirs, of `Problem.targets`.
    balanced: whether each label weighs the same in an SVM, however rare.

  Returns:
    None where there are too many labels for an SVM.
  """
  step = -(-len(texts) // _MOST_ROWS)
  if step > 1:
    logging.warning(
      "the baseline is trained on every %dth of %d rows", step, len(texts)
    )
    texts, targets = texts[::step], targets[::step]
  outputs = len(problem.names)
  most = min(_MOST_NGRAMS, _MOST_WEIGHTS // (2 * outputs))
  if most < _FEWEST_NGRAMS:
    logging.warning("no baseline: %d labels are too many for an SVM", outputs)
    return None
  grams = ngrams.NGrams.of(texts, most)
  rows = _of_each(problem, grams.matrix(texts), targets, balanced)
  weights = np.zeros((outputs, len(grams.idf)), np.float32)
  shift = np.zeros(outputs, np.float32)
  for output, (kernel, constant) in enumerate(rows):
    weights[output], shift[output] = kernel, constant
  return Linear(grams, weights, shift)


def _of_each(
  problem: problems.Problem, matrix: Any, targets: np.ndarray, balanced: bool
) -> Iterator[tuple[np.ndarray | float, float]]:
  """Yields the weights and the constant of each output."""
  # scikit-learn is not there where a model only answers.
  from sklearn import linear_model, svm

  if problem.TYPE == problems.REGRESSION:
    ridge = linear_model.Ridge().fit(matrix, targets)
    yield ridge.coef_, float(ridge.intercept_)
    return
  for output in range(len(problem.names)):
    column = targets if targets.ndim == 1 else targets[:, output]
    right = column == (output if targets.ndim == 1 else 1)
    if right.all() or not right.any():
      yield 0.0, 1.0 if right.all() else -1.0
    else:
      weight = "balanced" if balanced else None
      model = svm.LinearSVC(random_state=0, class_weight=weight)
      model.fit(matrix, right)
      yield model.coef_[0], float(model.intercept_[0])


def text_of(row: classifier_data.Row) -> str:
  """Returns what is read of a row: its text, or its two, one after the other."""
  return " ".join(filter(None, (row.text, row.text_pair)))


Span = tuple[int, int, str]

_WORD = re.compile(r"\w+")
_LONGEST = 8  # words of a known entity


def entities(
  texts: Sequence[str], spans: Sequence[Sequence[Span]], new: Sequence[str]
) -> list[list[Span]]:
  """Finds the entities of the training rows again, by their words.

  The longest match from the left wins, with the commonest type of its words;
  what is more often no entity in the training rows is left alone.
  """
  inside: dict[tuple[str, ...], collections.Counter[str]] = (
    collections.defaultdict(collections.Counter)
  )
  for text, text_spans in zip(texts, spans, strict=True):
    for start, end, kind in text_spans:
      inside[tuple(_WORD.findall(text[start:end]))][kind] += 1
  inside.pop((), None)
  seen = collections.Counter(
    words
    for text in texts
    for _, _, words in _stretches(text)
    if words in inside
  )
  known = {
    words: kinds.most_common(1)[0][0]
    for words, kinds in inside.items()
    if 2 * kinds.total() > seen[words]
  }
  return [_matches(text, known) for text in new]


def _stretches(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
  """Yields where up to eight words stand, longest first from each place."""
  words = list(_WORD.finditer(text))
  for first in range(len(words)):
    for last in range(min(first + _LONGEST, len(words)), first, -1):
      stretch = words[first:last]
      yield stretch[0].start(), stretch[-1].end(), tuple(w[0] for w in stretch)


def _matches(text: str, known: Mapping[tuple[str, ...], str]) -> list[Span]:
  spans: list[Span] = []
  for start, end, words in _stretches(text):
    if words in known and (not spans or start >= spans[-1][1]):
      spans.append((start, end, known[words]))
  return spans
