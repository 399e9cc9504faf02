"""The baseline printed beside every score: TF-IDF and a linear SVM.

On Eduge news such a baseline ties the published Mongolian transformers (0.909
against 0.90 and 0.88), so a score means little without it.
"""

import collections
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from absl import logging
from scipy import sparse
from sklearn import (
  base,
  feature_extraction,
  linear_model,
  multiclass,
  pipeline,
  svm,
)

NAME = "TF-IDF + linear SVM"

# Of training rows more are thinned out to these: n-grams of 100,000 news
# articles take about 10 GB (guess).
_MOST_ROWS = 100_000
# A float64 weight for every label and feature.
_MOST_WEIGHTS = 1 << 28


def predictions(
  texts: Sequence[str], labels: Sequence[str], new_texts: Sequence[str]
) -> list[str] | None:
  """Trains on texts and labels, returns the label of each new text.

  Deterministic: the SVM's seed is fixed, and C is left at 1.

  Args:
    texts: the training texts.
    labels: the label name of each.
    new_texts: the texts to classify.

  Returns:
    None where labels times n-grams are too many for an SVM.
  """
  found = _answers(
    svm.LinearSVC(random_state=0), texts, np.array(labels), new_texts,
    len(set(labels)),
  )  # fmt: skip
  return None if found is None else [str(label) for label in found]


def several(
  texts: Sequence[str], targets: np.ndarray, new_texts: Sequence[str]
) -> np.ndarray | None:
  """Does the same for [rows, labels] of 0 and 1: an SVM for each label."""
  model = multiclass.OneVsRestClassifier(svm.LinearSVC(random_state=0))
  return _answers(model, texts, targets, new_texts, targets.shape[1])


def numbers(
  texts: Sequence[str], values: np.ndarray, new_texts: Sequence[str]
) -> np.ndarray | None:
  """Does the same for numbers: ridge regression, the SVM's counterpart."""
  return _answers(linear_model.Ridge(), texts, values, new_texts, 1)


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
  for text, found in zip(texts, spans, strict=True):
    for start, end, kind in found:
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
      found = words[first:last]
      yield found[0].start(), found[-1].end(), tuple(w[0] for w in found)


def _matches(text: str, known: Mapping[tuple[str, ...], str]) -> list[Span]:
  found: list[Span] = []
  for start, end, words in _stretches(text):
    if words in known and (not found or start >= found[-1][1]):
      found.append((start, end, known[words]))
  return found


def _answers(
  model: svm.LinearSVC | linear_model.Ridge | multiclass.OneVsRestClassifier,
  texts: Sequence[str],
  targets: np.ndarray,
  new_texts: Sequence[str],
  outputs: int,
) -> np.ndarray | None:
  step = -(-len(texts) // _MOST_ROWS)
  if step > 1:
    logging.warning(
      "the baseline is trained on every %dth of %d rows", step, len(texts)
    )
  features = pipeline.make_union(
    _tfidf(_words((1, 2))),
    # Mongolian words carry many suffixes; parts of words see the stem.
    _tfidf(_PartsOfWords()),
  )
  vectors = features.fit_transform(list(texts[::step]))
  if outputs * vectors.shape[1] > _MOST_WEIGHTS:
    logging.warning(
      "no baseline: %d labels times %d n-grams are too many for an SVM",
      outputs,
      vectors.shape[1],
    )
    return None
  model.fit(vectors, targets[::step])
  return model.predict(features.transform(list(new_texts)))


def words(text: str) -> list[str]:
  """Returns the words that the baseline sees, й ё ө ү intact.

  `Сайн уу, ХОЁР найз?` gives сайн, уу, хоёр, найз.
  """
  return _words((1, 1)).build_analyzer()(text)


def _tfidf(counts: base.BaseEstimator) -> pipeline.Pipeline:
  weights = feature_extraction.text.TfidfTransformer(sublinear_tf=True)
  return pipeline.make_pipeline(counts, weights)


def _words(n_grams: tuple[int, int]) -> feature_extraction.text.CountVectorizer:
  return feature_extraction.text.CountVectorizer(
    ngram_range=n_grams,
    preprocessor=_composed,
    # scikit-learn's own pattern drops words of one letter.
    token_pattern=r"(?u)\b\w+\b",
  )


class _PartsOfWords(base.BaseEstimator):
  """Counts n-grams of letters, 2 to 5, that cross no word's end.

  The same numbers as CountVectorizer(analyzer="char_wb"), which cuts up each
  word wherever it stands; here each is cut up once, and multiplied.
  """

  def __init__(self) -> None:
    self._parts = feature_extraction.text.CountVectorizer(
      analyzer="char_wb", ngram_range=(2, 5), lowercase=False
    )

  def fit_transform(
    self, texts: Sequence[str], targets: object = None
  ) -> sparse.csr_matrix:
    """Learns the n-grams of texts; returns [texts, n-grams]."""
    del targets
    counts, words = self._counts(texts)
    return self._multiplied(counts, self._parts.fit_transform(words))

  def transform(self, texts: Sequence[str]) -> sparse.csr_matrix:
    """Returns [texts, n-grams] of those that were learnt."""
    counts, words = self._counts(texts)
    return self._multiplied(counts, self._parts.transform(words))

  @staticmethod
  def _counts(texts: Sequence[str]) -> tuple[sparse.csr_matrix, np.ndarray]:
    splitter = feature_extraction.text.CountVectorizer(
      analyzer=lambda text: _composed(text).split()
    )
    return splitter.fit_transform(texts), splitter.get_feature_names_out()

  @staticmethod
  def _multiplied(
    counts: sparse.csr_matrix, parts: sparse.csr_matrix
  ) -> sparse.csr_matrix:
    found = counts @ parts
    found.sort_indices()  # sums in one order
    return found


def _composed(text: str) -> str:
  # A decomposed й is и and a combining breve, which \w does not match: the
  # word would fall apart there.
  return unicodedata.normalize("NFC", text).lower()
