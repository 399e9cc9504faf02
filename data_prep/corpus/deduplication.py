"""Finds documents that are exact or near copies of earlier documents.

A model memorises duplicates, and an evaluation document that was seen in
training proves nothing (Lee et al. 2022, arXiv 2107.06499). The first copy
stays, in the order of the input.
"""

import collections
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np

from data_prep.text import similarity

# Runs of five words, as in Lee et al. A word is the text between white space,
# in lower case.
_RUNS = similarity.Runs(
  length=5, part_of_word=lambda letter: not letter.isspace()
)
# Thousands of documents made from one template agree in many bands without
# being near duplicates. So the index keeps at most this many documents for the
# key of a band, and compares a document with at most this many: those that
# agree with the document in the most bands.
_MOST_ALIKE = 1000

_WORD = re.compile(r"\w+")
# Shorter sentences (Тийм. Баярлалаа.) occur in many texts by chance.
_FEWEST_WORDS = 4


@dataclasses.dataclass(frozen=True)
class Signature:
  """The hashes by which near duplicates of a document are recognised.

  Attributes:
    runs: uint32 [at most 1,024], the document's hashed runs of five words.
    minima: uint32 [160], the document's MinHash.
  """

  runs: np.ndarray
  minima: np.ndarray


def signatures(documents: Sequence[Sequence[str]]) -> list[Signature]:
  """Returns the signature of each document.

  One call for many documents is faster than a call for each.

  Args:
    documents: the sentences of each document.
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
  """Remembers the documents that it has seen, and recognises their copies.

  A document is a near duplicate if its similarity (`similarity.jaccard`) to a
  kept document is at least the threshold. Dropped documents do not count: in a
  chain A, B, C in which only neighbours are similar enough, B is dropped as a
  copy of A, and C is kept, because B was not.

  Memory of a document, measured on 40,000 documents: 120 bytes for exact
  duplicates alone. For near duplicates at a threshold of 0.8, 3.3 kB with 250
  words and 6.6 kB with 1,000 or more; at 0.5 and 0.6, 5.0 kB with 250 words and
  8.4 kB with 1,000 or more.

  Args:
    threshold: the smallest similarity of two documents' runs of five words at
      which they are near duplicates; 0 looks for exact duplicates alone.
  """

  def __init__(self, threshold: float) -> None:
    self._seen: set[bytes] = set()
    self._threshold = threshold
    self._near = _Index(threshold) if threshold else None

  def seen(
    self, sentences: Sequence[str], signature: Signature | None
  ) -> str | None:
    """Remembers a document; returns the kind of duplicate that it is.

    Args:
      sentences: the document.
      signature: its signature; needed if there is a threshold.

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
  """An index of kept documents, by the band keys of their MinHash."""

  def __init__(self, threshold: float) -> None:
    self._threshold = threshold
    self._bands = similarity.bands(threshold)
    self._runs: list[np.ndarray] = []  # by the number of the document
    # Key of a band → the first document with this key, and the later ones.
    # Most keys have one document only.
    self._first: dict[int, int] = {}
    self._more: dict[int, list[int]] = {}

  def add(self, new: Signature) -> bool:
    """Adds a document and returns True, unless it is a near duplicate."""
    (keys,) = similarity.band_keys(new.minima[None], self._bands).tolist()
    if self._holds(new.runs, self._proposed(keys)):
      return False
    number = len(self._runs)
    self._runs.append(new.runs.copy())  # a view would keep a larger array
    for key in keys:
      if self._first.setdefault(key, number) == number:
        continue
      more = self._more.setdefault(key, [])
      if len(more) < _MOST_ALIKE:
        more.append(number)
    return True

  def _proposed(self, keys: Sequence[int]) -> list[int]:
    """Returns the numbers of kept documents that share a band key.

    They are at most 1,000, those with the most shared keys.

    Args:
      keys: the band keys of a new document.
    """
    agreeing: collections.Counter[int] = collections.Counter()
    for key in keys:
      if key in self._first:
        agreeing[self._first[key]] += 1
        agreeing.update(self._more.get(key, ()))
    return [number for number, _ in agreeing.most_common(_MOST_ALIKE)]

  def _holds(self, runs: np.ndarray, proposed: Sequence[int]) -> bool:
    """Returns whether one of the proposed documents is similar enough.

    Args:
      runs: the hashed runs of a new document.
      proposed: the numbers of kept documents.
    """
    if not proposed:
      return False
    sets = similarity.Sets.of([runs, *(self._runs[n] for n in proposed)])
    kept = np.arange(1, len(sets.sizes))
    alike = similarity.jaccard(sets, np.zeros_like(kept), kept)
    return bool((alike >= self._threshold).any())


class Evaluation:
  """The texts of evaluation sets, which training must not see.

  A sentence overlaps with a text if both contain the same run of eight words
  (the length by which the PaLM report counts overlap, arXiv 2204.02311, section
  8). A sentence of four to seven words overlaps only with a text of exactly
  these words; a shorter sentence never overlaps. Case and punctuation do not
  count.

  Args:
    texts: the texts of the evaluation sets.
  """

  _RUN = 8

  def __init__(self, texts: Iterable[str]) -> None:
    self._runs = {run for text in texts for run in self._runs_of(text)}

  def holds(self, sentence: str) -> bool:
    """Returns whether a sentence overlaps with an evaluation text."""
    return not self._runs.isdisjoint(self._runs_of(sentence))

  def _runs_of(self, text: str) -> list[str]:
    """Returns the runs of eight words by which a text is compared.

    A text of four to seven words is one run; a shorter one has none.
    """
    words = _WORD.findall(text.lower())
    count = len(words) - self._RUN + 1
    if count < 1:
      return [" ".join(words)] if len(words) >= _FEWEST_WORDS else []
    return [" ".join(words[i : i + self._RUN]) for i in range(count)]
