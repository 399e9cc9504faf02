"""Chooses the held-out documents, and finds training text that repeats them.

`survey` reads the corpus once. It returns every document's id, the held-out
documents, the amount of text, and a sample from which a forecast is made. It
needs 12 bytes of memory a document, and about 40 while it chooses. `Likeness`
holds a hash for each sentence of the held-out text.
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

from data_prep.base import options, randomness
from data_prep.files import documents

# The salt of the hashes that choose held-out documents. It is not the seed:
# another seed must not move documents from evaluation to training. The value is
# arbitrary.
SALT = 20190926

# Length in letters from which a sentence tells that two texts are versions of
# each other (guess). Shorter sentences occur in unrelated texts.
_TELLING_LENGTH = 40

_SAMPLE_DOCUMENTS = 64
_SAMPLE_SENTENCES = 100  # a document


@dataclasses.dataclass(frozen=True)
class Sample:
  """A sample of the documents, from which a forecast is made.

  Attributes:
    documents: the documents, chosen by their content, long ones more often than
      short ones; each is truncated to 100 sentences.
    shares: the share of the corpus's letters that each document represents.
    letters: number of letters in the whole corpus; each document counts as
      often as its weight says.
  """

  documents: tuple[documents.Document, ...]
  shares: tuple[float, ...]
  letters: float


@dataclasses.dataclass(frozen=True)
class Survey:
  """The results of one reading of the corpus.

  Attributes:
    ids: uint64 [documents], in corpus order; random keys are made of them.
    held_out: bool [documents], whether a document is held out.
    clustered: whether versions of a document are held out together, so that
      versions in the training text can be left out; False where most documents
      are versions of each other.
    sample: a sample of the documents, for the forecast.
    letters: number of letters in the corpus; each document counts once,
      whatever its weight is.
  """

  ids: np.ndarray
  held_out: np.ndarray
  clustered: bool
  sample: Sample
  letters: int


def survey(
  parts: Sequence[documents.Files], eval_fraction: float, at_least: int
) -> Survey:
  """Reads the corpus once; chooses the held-out documents and a sample.

  Held-out documents are chosen by salted hashes. Versions of a document are
  held out together, if they share the sentence with the lowest hash (a MinHash
  of one value).

  Args:
    parts: the corpus.
    eval_fraction: share of the documents to hold out; 0 for none.
    at_least: wanted number of training documents; and wanted number of held-out
      documents, if eval_fraction is above 0. If the corpus has too few for
      both, the training documents go first. Versions that stay together may
      miss both numbers.

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
  """Returns the lowest checksum of a document's long sentences.

  Versions of a document are likely to have the same one. For a document without
  a long sentence the result is a part of its content's hash.
  """
  encoded = "\n".join(sentences).encode().split(b"\n")
  checksums = [
    zlib.crc32(data, SALT)
    for sentence, data in zip(sentences, encoded, strict=True)
    if len(sentence) >= _TELLING_LENGTH
  ]
  return min(checksums, default=content & 0xFFFFFFFF)


# A negated exponential random number whose rate is the document's size; then
# the document's number, its size and the document.
_Lot = tuple[float, int, float, documents.Document]


def _keep_lowest(lowest: list[_Lot], entry: _Lot) -> None:
  """Adds an entry to a weighted sample (Efraimidis and Spirakis 2006).

  The sample keeps at most 64 entries, those with the lowest random numbers, and
  the first 100 sentences of each document.

  Args:
    lowest: the sample, a heap, which is changed.
    entry: the entry.
  """
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
  """Returns the share of the corpus's letters that each document represents.

  A document represents its size divided by the probability that it is in the
  sample: that its random number is below the highest number of the sample
  (Cohen and Kaplan 2007, bottom-k sketches). The shares add up to 1.

  Args:
    lowest: the sample.
    letters: number of letters of the corpus, with the documents' weights.
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
  """Returns whether each document is held out, and whether clusters were used.

  The first result is bool [documents]. Whole clusters are held out if that
  leaves documents to train on, else single documents, else none; a warning says
  so in the last two cases. For an eval_fraction of 0 none is held out.

  Args:
    contents: uint64 [documents], hashes of the documents.
    clusters: uint32 [documents]; versions of a document have equal values.
    eval_fraction, at_least: as in `survey`.
  """
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
  """Returns the documents of the keys with the lowest salted hashes.

  Keys are chosen until they have `wanted` documents; the last may go beyond. A
  key of more documents than are wanted is skipped, such as that of a sentence
  which stands in every article.

  Args:
    keys: unsigned [documents].
    wanted: number of documents.

  Returns:
    bool [documents], whether a document's key was chosen.
  """
  salted = randomness.bits(randomness.Purpose.HELD_OUT, SALT, keys)
  _, place, sizes = np.unique(salted, return_inverse=True, return_counts=True)
  fitting = np.where(sizes <= wanted, sizes, 0)
  chosen = (fitting > 0) & (np.cumsum(fitting) - fitting < wanted)
  return np.asarray(chosen[place])


class Likeness:
  """Recognises text that repeats held-out text, to keep it out of training.

  Args:
    held_out: the held-out documents.
  """

  def __init__(self, held_out: Iterable[documents.Document]) -> None:
    telling = [
      sentence.encode()
      for document in held_out
      for sentence in document.sentences
      if len(sentence) >= _TELLING_LENGTH
    ]
    # The checksum alone rules out nearly every sentence.
    self._checksums = frozenset(map(zlib.crc32, telling))
    self._digests = frozenset(map(_digest, telling))

  def without(self, document: documents.Document) -> documents.Document | None:
    """Returns the part of a document that may be trained on; None if nothing.

    A long sentence has 40 letters or more. Running text that shares at least
    half of its long sentences with held-out documents is a version of one of
    them: all of it is dropped; other running text is returned whole. Of
    isolated lines, only the long ones that repeat held-out sentences are
    dropped.
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
    """Returns whether a sentence occurs in the held-out text.

    For a sentence of less than 40 letters the result is False.
    """
    if len(sentence) < _TELLING_LENGTH:
      return False
    data = sentence.encode()
    return zlib.crc32(data) in self._checksums and (
      _digest(data) in self._digests
    )


def _digest(data: bytes) -> bytes:
  """Returns the 8-byte BLAKE2b of data."""
  return hashlib.blake2b(data, digest_size=8).digest()
