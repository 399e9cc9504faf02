"""Which documents are held out for evaluation, and what is like them.

A first reading of the corpus: every document's number, who is held out, how
much text there is, and a sample to make a forecast from. It holds 12 bytes a
document, some 40 while it chooses, and of the held-out text a hash a sentence.
"""

import array
import dataclasses
import hashlib
import heapq
import math
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging

from data_prep import documents, options, randomness

# Not the seed: another seed must not move documents from evaluation to
# training. The value is arbitrary.
SALT = 20190926

# Shorter sentences return in texts that have nothing to do with each other.
_TELLING_LENGTH = 40  # guess, in letters

_SAMPLE_DOCUMENTS = 64
_SAMPLE_SENTENCES = 100  # a document


@dataclasses.dataclass(frozen=True)
class Sample:
  """What to make a forecast from.

  Attributes:
    documents: chosen by their content alone, long ones first of all, cut.
    shares: of the corpus's letters, what each of them stands for.
    letters: of the whole corpus, times their weights.
  """

  documents: tuple[documents.Document, ...]
  shares: tuple[float, ...]
  letters: float


@dataclasses.dataclass(frozen=True)
class Survey:
  """What one reading of the corpus tells.

  Attributes:
    ids: uint64 [documents], in the corpus's order: what chance is keyed by.
    held_out: bool [documents].
    clustered: versions of a document are held out together, so that what is
      left of them may be left out; not where most documents are versions.
    sample: of its documents.
    letters: of the corpus, each document counted once whatever its weight.
  """

  ids: np.ndarray
  held_out: np.ndarray
  clustered: bool
  sample: Sample
  letters: int


def survey(
  parts: Sequence[documents.Files], eval_fraction: float, at_least: int
) -> Survey:
  """Reads the corpus and chooses whom to hold out, by salted hashes.

  Versions of a document are held out together, where they share the sentence
  of the lowest hash (a MinHash of one value).

  Args:
    parts: the corpus.
    eval_fraction: share of the documents; 0 for none.
    at_least: documents that are left to train on, where there are so many;
      and documents that are held out, where eval_fraction is above 0.

  Raises:
    options.InputError: for a corpus without a sentence.
  """
  contents, clusters = array.array("Q"), array.array("I")
  lowest: list[_Lot] = []
  letters, weighted, longest = 0, 0.0, 0
  for number, document in enumerate(documents.read(parts)):
    contents.append(document.content())
    clusters.append(_cluster(document.sentences, contents[-1]))
    own = sum(map(len, document.sentences))
    size = document.weight * own
    letters, weighted = letters + own, weighted + size
    longest = max(longest, 0 if document.isolated else len(document.sentences))
    lot = -math.log((contents[-1] + 1) / 2**64) / size
    _keep_lowest(lowest, (-lot, number, size, document))
  if not contents:
    raise options.InputError(
      "a corpus with sentences", "none in its files", "build the corpus first"
    )
  if longest < 2:
    logging.warning(
      "no document has two sentences: only parts of a sentence longer than an "
      "example make a sentence pair. Documents are parted by blank lines, "
      "sentences by line ends."
    )
  content = np.frombuffer(contents, np.uint64)
  held_out, clustered = _choose(
    content, np.frombuffer(clusters, np.uint32), eval_fraction, at_least
  )
  return Survey(
    ids=documents.ids(content),
    held_out=held_out,
    clustered=clustered,
    sample=Sample(
      tuple(document for *_, document in lowest),
      _shares(lowest, weighted),
      weighted,
    ),
    letters=letters,
  )


def _cluster(sentences: Sequence[str], content: int) -> int:
  """Returns what versions of a document are likely to have in common."""
  encoded = "\n".join(sentences).encode().split(b"\n")
  checksums = [
    zlib.crc32(data, SALT)
    for sentence, data in zip(sentences, encoded, strict=True)
    if len(sentence) >= _TELLING_LENGTH
  ]
  return min(checksums, default=content & 0xFFFFFFFF)


# Negated exponential number with the document's size as its rate, the
# document's number, its size, itself.
_Lot = tuple[float, int, float, documents.Document]


def _keep_lowest(lowest: list[_Lot], entry: _Lot) -> None:
  """Keeps the lowest lots: a sample by size (Efraimidis and Spirakis 2006)."""
  full = len(lowest) == _SAMPLE_DOCUMENTS
  if full and entry[:2] < lowest[0][:2]:
    return
  lot, number, size, document = entry
  cut = dataclasses.replace(
    document, sentences=document.sentences[:_SAMPLE_SENTENCES]
  )
  push = heapq.heapreplace if full else heapq.heappush
  push(lowest, (lot, number, size, cut))


def _shares(lowest: list[_Lot], letters: float) -> tuple[float, ...]:
  """Returns how much of the corpus's letters each of the sample stands for.

  Its size over its chance to be chosen, which is that of a lot below the
  highest one (Cohen and Kaplan 2007, bottom-k sketches).
  """
  if len(lowest) < _SAMPLE_DOCUMENTS:  # all of the corpus
    return tuple(size / letters for _, _, size, _ in lowest)
  highest = -lowest[0][0]
  stands = [size / -math.expm1(-size * highest) for _, _, size, _ in lowest]
  return tuple(size / sum(stands) for size in stands)


def _choose(
  contents: np.ndarray,
  clusters: np.ndarray,
  eval_fraction: float,
  at_least: int,
) -> tuple[np.ndarray, bool]:
  """Returns who is held out, bool [documents], and whether by clusters."""
  none = np.zeros(len(contents), bool)
  if not eval_fraction:
    return none, False
  wanted = max(at_least, round(len(contents) * eval_fraction))
  wanted = max(0, min(wanted, len(contents) - at_least))
  by_cluster = _lowest(clusters, wanted)
  if by_cluster.any() and not by_cluster.all():
    return by_cluster, True
  by_content = _lowest(contents, wanted)
  if by_content.any() and not by_content.all():
    logging.warning(
      "most documents have sentences in common, so that training will see "
      "sentences of those that are held out"
    )
    return by_content, False
  logging.warning(
    "the number of documents is %d, so nothing can be held out: documents are "
    "parted by blank lines",
    len(contents),
  )
  return none, False


def _lowest(keys: np.ndarray, wanted: int) -> np.ndarray:
  """Chooses keys by the lowest salted hash until there are enough documents.

  A key of more documents than are wanted, such as that of a sentence which
  stands in every article, is passed over.

  Args:
    keys: unsigned [documents].
    wanted: documents.

  Returns:
    bool [documents].
  """
  salted = randomness.bits(randomness.Purpose.HELD_OUT, SALT, keys)
  _, place, sizes = np.unique(salted, return_inverse=True, return_counts=True)
  fitting = np.where(sizes <= wanted, sizes, 0)
  chosen = (fitting > 0) & (np.cumsum(fitting) - fitting < wanted)
  return np.asarray(chosen[place])


class Likeness:
  """Tells what repeats the held-out text, so that nobody trains on it."""

  def __init__(self, held_out: Iterable[documents.Document]):
    telling = [
      sentence.encode()
      for document in held_out
      for sentence in document.sentences
      if len(sentence) >= _TELLING_LENGTH
    ]
    # The checksum is what nearly every sentence is turned away by.
    self._checksums = frozenset(map(zlib.crc32, telling))
    self._digests = frozenset(map(_digest, telling))

  def without(self, document: documents.Document) -> documents.Document | None:
    """Returns what may be trained on of a document, None for nothing.

    Running text that shares half of its telling sentences with held-out
    documents is a version of one of them. Isolated lines go one by one.
    """
    known = list(map(self._knows, document.sentences))
    if not any(known):
      return document
    if document.isolated:
      kept = tuple(
        s for s, k in zip(document.sentences, known, strict=True) if not k
      )
      return dataclasses.replace(document, sentences=kept) if kept else None
    telling = sum(len(s) >= _TELLING_LENGTH for s in document.sentences)
    return None if 2 * sum(known) >= telling else document

  def _knows(self, sentence: str) -> bool:
    if len(sentence) < _TELLING_LENGTH:
      return False
    data = sentence.encode()
    return zlib.crc32(data) in self._checksums and (
      _digest(data) in self._digests
    )


def _digest(data: bytes) -> bytes:
  return hashlib.blake2b(data, digest_size=8).digest()
