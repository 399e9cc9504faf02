"""Documents that were there before, word for word or nearly.

Duplicates make a model learn by heart, and evaluation documents known (Lee et
al. 2022, arXiv 2107.06499). The first copy stays, in the order of the input.
"""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from data_prep import similarity

# As Lee et al. A word is what stands between white space, in lower case.
_RUNS = similarity.Runs(
  length=5, part_of_word=lambda letter: not letter.isspace()
)
# Thousands of documents made from one template agree in many bands without being
# near duplicates. Of each band the first so many are remembered, and a document
# is compared with so many of all bands, those that agree in the most bands.
_MOST_ALIKE = 1000

_WORD = re.compile(r"\w+")
# Shorter sentences (Тийм. Баярлалаа.) are everybody's.
_FEWEST_WORDS = 4


@dataclasses.dataclass(frozen=True)
class Signature:
  """What near duplicates of a document are found by.

  Attributes:
    runs: uint32 [at most 1,024], its hashed runs of five words.
    minima: uint32 [160], its MinHash.
  """

  runs: np.ndarray
  minima: np.ndarray


def signatures(documents: Sequence[Sequence[str]]) -> list[Signature]:
  """Returns the signature of each document; faster than one by one.

  Args:
    documents: the sentences of each.
  """
  texts = [" ".join(sentences).lower() for sentences in documents]
  sketches = similarity.sketches(texts, _RUNS)
  ends = np.cumsum(sketches.runs.sizes)[:-1]
  runs = np.split(sketches.runs.hashes, ends) if texts else []
  return list(map(Signature, runs, sketches.minima))


def signature(sentences: Sequence[str]) -> Signature:
  """Returns the signature of one document."""
  return signatures([sentences])[0]


class Duplicates:
  """Remembers the documents that it has seen.

  A document is a near duplicate if it is as similar to a document that was
  kept as the threshold says (`similarity.jaccard`). Documents that were dropped
  do not count: of a chain A, B, C in which only neighbours are similar enough,
  B goes as a copy of A, and C stays, since no copy of C was kept.

  Memory a document, measured on 40,000 documents: 120 bytes for exact
  duplicates alone. For near duplicates at a threshold of 0.8, 3.3 kB with 250
  words and 6.6 kB with 1,000 or more; at 0.5 and 0.6, 5.0 kB with 250 words and
  8.4 kB with 1,000 or more.

  Args:
    threshold: the similarity of two documents' runs of five words from which
      they are near duplicates; 0 to look for exact duplicates alone.
  """

  def __init__(self, threshold: float):
    self._seen: set[bytes] = set()
    self._threshold = threshold
    self._near = _Index(threshold) if threshold else None

  def seen(
    self, sentences: Sequence[str], signature: Signature | None
  ) -> str | None:
    """Remembers a document; returns how it was there before.

    Args:
      sentences: the document.
      signature: of the document; needed if there is a threshold.

    Returns:
      "exact duplicate", "near duplicate", or None for a new document.
    """
    digest = hashlib.sha256("\n".join(sentences).encode()).digest()[:16]
    if digest in self._seen:
      return "exact duplicate"
    self._seen.add(digest)
    if self._near is None:
      return None
    assert signature is not None, "near duplicates are found by signature"
    return None if self._near.add(signature) else "near duplicate"


class _Index:
  """Documents none of which is a near duplicate of an earlier one."""

  def __init__(self, threshold: float):
    self._threshold = threshold
    self._bands = similarity.bands(threshold)
    self._runs: list[np.ndarray] = []  # by the number of the document
    # Key of a band → the first document with it, and the others: most keys
    # are of one document.
    self._first: dict[int, int] = {}
    self._more: dict[int, list[int]] = {}

  def add(self, new: Signature) -> bool:
    """Adds a document unless it is a near duplicate; says whether it did."""
    (keys,) = similarity.band_keys(new.minima[None], self._bands).tolist()
    if self._holds(new.runs, self._proposed(keys)):
      return False
    number = len(self._runs)
    self._runs.append(new.runs.copy())  # it may be a part of a larger array
    for key in keys:
      if self._first.setdefault(key, number) == number:
        continue
      more = self._more.setdefault(key, [])
      if len(more) < _MOST_ALIKE:
        more.append(number)
    return True

  def _proposed(self, keys: Sequence[int]) -> list[int]:
    """Returns the documents that agree in a band, up to _MOST_ALIKE."""
    agreeing: collections.Counter[int] = collections.Counter()
    for key in keys:
      if key in self._first:
        agreeing[self._first[key]] += 1
        agreeing.update(self._more.get(key, ()))
    return [number for number, _ in agreeing.most_common(_MOST_ALIKE)]

  def _holds(self, runs: np.ndarray, proposed: Sequence[int]) -> bool:
    """Says whether one of the proposed documents is similar enough."""
    if not proposed:
      return False
    sets = similarity.Sets.of([runs, *(self._runs[n] for n in proposed)])
    kept = np.arange(1, len(sets.sizes))
    alike = similarity.jaccard(sets, np.zeros_like(kept), kept)
    return bool((alike >= self._threshold).any())


class Evaluation:
  """The texts of evaluation sets, which training must not see.

  A sentence is one of theirs when they share a run of eight words (the length
  that the PaLM report counts overlap in, arXiv 2204.02311, section 8), or all
  of its words where it has fewer. Case and punctuation do not count.

  Args:
    texts: of the sets.
  """

  _RUN = 8

  def __init__(self, texts: Iterable[str]):
    self._runs = {run for text in texts for run in self._runs_of(text)}

  def holds(self, sentence: str) -> bool:
    """Says whether a sentence overlaps with an evaluation text."""
    return not self._runs.isdisjoint(self._runs_of(sentence))

  def _runs_of(self, text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    count = len(words) - self._RUN + 1
    if count < 1:
      return [" ".join(words)] if len(words) >= _FEWEST_WORDS else []
    return [" ".join(words[i : i + self._RUN]) for i in range(count)]
