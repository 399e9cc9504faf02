"""The baseline that every score is compared with: TF-IDF and a linear SVM.

On Eduge news the accuracy of such a baseline, 0.909, is about that of the
published Mongolian transformers, 0.90 and 0.88; so a score alone means little.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from albert_mn.tasks import ngrams, problems
from data_prep.classification import classifier_data

NAME = "TF-IDF + linear SVM"

# Largest number of training rows to use; if there are more, every n-th row is
# taken. The n-grams of 100,000 news articles take about 10 GB (guess).
_MOST_ROWS = 100_000
# Largest number of word n-grams, and of letter n-grams: 701 sentences have
# 51,411.
_MOST_NGRAMS = 1 << 18
# Largest number of weights of all outputs together, 256 MB in float32; and the
# fewest n-grams for each output, below which there is no baseline.
_MOST_WEIGHTS, _FEWEST_NGRAMS = 1 << 26, 1 << 11


@dataclasses.dataclass(frozen=True)
class Linear:
  """A linear model on the TF-IDF vectors of texts.

  Attributes:
    grams: the n-grams, in the order of the columns of `weights`.
    weights: float32 [outputs, n-grams].
    shift: float32 [outputs], the constant of each output.
  """

  grams: ngrams.NGrams
  weights: np.ndarray
  shift: np.ndarray

  def scores(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the scores of texts, float64 [texts, outputs].

    For labels, a score above 0 means that the text has the label: it is
    proportional to the distance from an SVM's boundary. For a regression it is
    the standardised number.
    """
    return self.scores_of(self.grams.matrix(texts))

  def scores_of(self, matrix: Any) -> np.ndarray:
    """Returns the scores of texts, float64 [texts, outputs].

    Args:
      matrix: the TF-IDF vectors of the texts, from `NGrams.matrix`.
    """
    return matrix @ self.weights.T.astype(np.float64) + self.shift


def fitted(
  problem: problems.Problem,
  texts: Sequence[str],
  targets: np.ndarray,
  balanced: bool = False,
) -> Linear | None:
  """Returns a linear model fitted to training rows.

  For labels the model is a linear SVM for each label against all others, with C
  = 1; for numbers it is ridge regression. The result is deterministic: the
  SVM's seed is fixed. Of more than 100,000 rows, only every n-th is used, so
  that at most 100,000 are left. With more than 16,384 labels, the function logs
  a warning and returns None.

  Args:
    problem: the kind of prediction; not entities.
    texts: the texts of the training rows; at least one.
    targets: their targets, as `Problem.targets` returns them.
    balanced: whether an SVM gives each label the same weight, however rare it
      is.
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
  """Fits a linear model for each output; yields (weights, constant) of each.

  The order is that of the outputs. Weights are [n-grams]. A label that all rows
  have gets the weights 0.0 and the constant 1; a label that no row has gets the
  weights 0.0 and the constant -1.

  Args:
    problem: the kind of prediction.
    matrix: the TF-IDF vectors of the rows.
    targets: the targets of the rows.
    balanced: whether an SVM gives each label the same weight.
  """
  # Imported here, because a machine that only predicts needs no scikit-learn.
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
  """Returns a row's text; for a pair, both texts with a space between them."""
  return " ".join(filter(None, (row.text, row.text_pair)))


Span = tuple[int, int, str]

_WORD = re.compile(r"\w+")
_LONGEST = 8  # words of the longest known entity


def entities(
  texts: Sequence[str], spans: Sequence[Sequence[Span]], new: Sequence[str]
) -> list[list[Span]]:
  """Returns the entities of new texts that the training rows contain too.

  An entity is recognised by its words, at most eight; letter case matters,
  punctuation between the words does not. The search goes from left to right,
  and at each word the longest match wins. A match gets the type that its words
  had most often in the training rows. Words that in the training rows are an
  entity at most half of the time are skipped.

  Args:
    texts: the texts of the training rows.
    spans: (start, end, type) of each entity in these texts.
    new: the texts to search.

  Returns:
    (start, end, type) of each entity, from left to right, for each new text.
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
  """Yields (start, end, words) of each sequence of up to eight words in a text.

  `start` and `end` are character offsets. Sequences are in the order of their
  first words; among those with the same first word, the longest is first.
  """
  words = list(_WORD.finditer(text))
  for first in range(len(words)):
    for last in range(min(first + _LONGEST, len(words)), first, -1):
      stretch = words[first:last]
      yield stretch[0].start(), stretch[-1].end(), tuple(w[0] for w in stretch)


def _matches(text: str, known: Mapping[tuple[str, ...], str]) -> list[Span]:
  """Returns (start, end, type) of each known entity in a text, left to right.

  `start` and `end` are character offsets. Entities do not overlap: the first
  entity wins, and the longest of the entities that start at the same word.

  Args:
    text: the text to search.
    known: words of an entity → its type.
  """
  spans: list[Span] = []
  for start, end, words in _stretches(text):
    if words in known and (not spans or start >= spans[-1][1]):
      spans.append((start, end, known[words]))
  return spans
