"""Finds documents that are exact or near copies of earlier documents.

A model memorises duplicates, and an evaluation document that was seen in
training proves nothing (Lee et al. 2022, arXiv 2107.06499).

Which documents are dropped follows from the documents in the order of the input
alone:

- A document is an exact duplicate if an earlier document has the same
  sentences.
- Otherwise it is a near duplicate if its similarity (`similarity.jaccard`) to a
  kept earlier document is at least the threshold, and the two have the same key
  in some band. Dropped documents do not count: in a chain A, B, C in which only
  neighbours are similar enough, B is dropped as a copy of A, and C is kept,
  because B was not.

So the order of the input decides, and neither the number of processes nor of
machines. A document is only compared with documents that share a key with it:
the rule can be applied to each connected component of the documents, in which
an edge is a shared key, by itself (`verdicts`, in the order of the input).
`copies_on_disk` applies the rule to all documents at once, in bounded memory.
"""

import collections
import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from data_prep.text import similarity

EXACT, NEAR = "exact duplicate", "near duplicate"

# Runs of five words, as in Lee et al. A word is the text between white space,
# in lower case.
_RUNS = similarity.Runs(
  length=5, part_of_word=lambda letter: not letter.isspace()
)
# Thousands of documents made from one template agree in many bands without
# being near duplicates. So a document is compared with at most this many kept
# documents: those that agree with it in the most bands.
_MOST_ALIKE = 1000
# For a key, the first kept documents that have it are remembered.
MOST_KEPT = _MOST_ALIKE + 1

_READ = 4096  # documents whose runs stay in memory: at most 16 MB

_WORD = re.compile(r"\w+")
# Shorter sentences (Тийм. Баярлалаа.) occur in many texts by chance.
_FEWEST_WORDS = 4


@dataclasses.dataclass(frozen=True)
class Signatures:
  """The hashes by which copies of documents are recognised.

  Attributes:
    digests: uint64 [documents, 2], the first half of each document's SHA-256.
    keys: int64 [documents, bands], the keys of the bands of each document's
      MinHash; without a threshold there are no bands.
    runs: each document's hashed runs of five words; empty without a threshold.
  """

  digests: np.ndarray
  keys: np.ndarray
  runs: similarity.Sets

  def __len__(self) -> int:
    return len(self.digests)

  def take(self, number: int) -> "Signatures":
    """Returns the signature of one document.

    Args:
      number: the index of the document.
    """
    part = slice(number, number + 1)
    return Signatures(
      self.digests[part], self.keys[part], self.runs.take(np.array([number]))
    )

  @classmethod
  def concatenated(cls, parts: Sequence["Signatures"]) -> "Signatures":
    """Returns the signatures of several groups of documents as one Signatures.

    Args:
      parts: the signatures of each group, at least one group, in order.
    """
    return cls(
      np.concatenate([part.digests for part in parts]),
      np.concatenate([part.keys for part in parts]),
      similarity.Sets.concatenated([part.runs for part in parts]),
    )


def signatures(
  documents: Sequence[Sequence[str]], threshold: float
) -> Signatures:
  """Returns the signatures of documents.

  One call for many documents is faster than a call for each. The signature of a
  document does not depend on the other documents.

  Args:
    documents: the sentences of each document.
    threshold: the smallest similarity of near duplicates; 0 for exact
      duplicates alone.
  """
  digests = b"".join(map(_digest, documents))
  count = len(documents)
  keys = np.empty((count, 0), np.int64)
  runs = similarity.Sets(np.empty(0, np.uint32), np.zeros(count, np.int64))
  if threshold:
    texts = [" ".join(sentences).lower() for sentences in documents]
    bands = similarity.bands(threshold)
    sketches = similarity.sketches(texts, _RUNS, bands.used)
    keys, runs = similarity.band_keys(sketches.minima, bands), sketches.runs
  return Signatures(
    np.frombuffer(digests, np.uint64).reshape(count, 2), keys, runs
  )


def _digest(sentences: Sequence[str]) -> bytes:
  return hashlib.sha256("\n".join(sentences).encode()).digest()[:16]


def verdicts(signed: Signatures, threshold: float) -> list[str | None]:
  """Returns the verdict on each document, in order.

  A verdict is EXACT or NEAR for a copy of an earlier document, or None for a
  document to keep. The documents must be all documents of a corpus, or a
  connected component of them (see the module).

  Args:
    signed: the signatures of the documents, in the order of the input.
    threshold: the threshold with which the signatures were made.
  """
  ends = np.cumsum(signed.runs.sizes)
  runs = np.split(signed.runs.hashes, ends[:-1]) if len(signed) else []
  kept = Kept(threshold, runs.__getitem__, _InMemory())
  seen: set[bytes] = set()
  made: list[str | None] = []
  for number, (digest, keys) in enumerate(
    zip(map(bytes, signed.digests), signed.keys.tolist(), strict=True)
  ):
    if digest in seen:
      made.append(EXACT)
    else:
      seen.add(digest)
      made.append(None if kept.add(number, keys) else NEAR)
  return made


class Lists(Protocol):
  """Storage for the lists of kept documents: one list for each MinHash key.

  A list holds the numbers of the kept documents with its key. It is read and
  written by its place: an int that the storage or its caller chooses.
  """

  def read(self, place: int) -> Sequence[int]:
    """Returns the document numbers in a list; nothing for an unused place."""

  def append(self, place: int, size: int, number: int) -> None:
    """Appends the number of a document to a list.

    Args:
      place: the place of the list.
      size: the number of documents that are in the list.
      number: the number to append.
    """


class _InMemory:
  """`Lists` in memory; the place of a list is its key."""

  def __init__(self) -> None:
    self._lists: dict[int, list[int]] = {}

  def read(self, place: int) -> Sequence[int]:
    return self._lists.get(place, ())

  def append(self, place: int, size: int, number: int) -> None:
    self._lists.setdefault(place, []).insert(size, number)


class Kept:
  """The kept documents, with which each new document is compared.

  Args:
    threshold: the smallest similarity of near duplicates; 0 keeps all.
    runs: function from the number of a document to its hashed runs, uint32
      [runs].
    lists: the lists of the kept documents that share a key; empty at first.
  """

  def __init__(
    self, threshold: float, runs: Callable[[int], np.ndarray], lists: Lists
  ) -> None:
    self._threshold = threshold
    self._runs = functools.lru_cache(_READ)(runs)
    self._lists = lists

  def add(self, number: int, places: Sequence[int]) -> bool:
    """Compares a document with the kept documents that share a key with it.

    Args:
      number: the number of the document.
      places: the place of the list of each of the document's keys, in the order
        of the bands.

    Returns:
      True if the document is kept: it is then added to its lists. False if it
      is a near duplicate of a kept document.
    """
    alike = list(map(self._lists.read, places))
    if self._holds(number, _most_frequent(alike)):
      return False
    for place, before in zip(places, alike, strict=True):
      if len(before) < MOST_KEPT:
        self._lists.append(place, len(before), number)
    return True

  def _holds(self, number: int, proposed: Sequence[int]) -> bool:
    """Returns whether a document is a near duplicate of a kept document.

    Args:
      number: the number of the document.
      proposed: the numbers of the kept documents to compare it with.
    """
    if not proposed:
      return False
    sets = similarity.Sets.of([*map(self._runs, [number, *proposed])])
    kept = np.arange(1, len(sets.sizes))
    alike = similarity.jaccard(sets, np.zeros_like(kept), kept)
    return bool((alike >= self._threshold).any())


def _most_frequent(lists: Sequence[Sequence[int]]) -> list[int]:
  """Returns the document numbers that occur in the most lists, at most 1,000.

  Of equally frequent numbers, those that come first in the lists are taken.
  """
  frequencies: collections.Counter[int] = collections.Counter()
  for numbers in lists:
    frequencies.update(numbers)
  return [number for number, _ in frequencies.most_common(_MOST_ALIKE)]


class Evaluation:
  """The texts of evaluation sets, which a model must not see in training.

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
    """Returns the runs of eight neighbouring words in a text, as strings.

    The words are in lower case, without punctuation. The result for a text of
    four to seven words is one run of all its words; for a shorter text, [].
    """
    words = _WORD.findall(text.lower())
    count = len(words) - self._RUN + 1
    if count < 1:
      return [" ".join(words)] if len(words) >= _FEWEST_WORDS else []
    return [" ".join(words[i : i + self._RUN]) for i in range(count)]
