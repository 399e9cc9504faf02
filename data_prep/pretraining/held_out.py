"""Chooses the held-out documents, and finds training text that repeats them.

The corpus is read in portions. `measured` reads a portion. From the measures of
all portions, `survey` computes the id of every document, the held-out
documents, the amount of text, and a sample of the documents, from which the
size of the records is forecast. `survey` needs 12 bytes of memory for each
document, and about 40 while it chooses. `Likeness` holds a hash for each long
sentence (40 letters or more) of the held-out text.
"""

import array
import dataclasses
import hashlib
import heapq
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence

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
  """A sample of the documents, from which the size of the records is forecast.

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


# A negated exponential random number whose rate is the document's size; then
# the document's place (portion, number in it), its size and the document.
_Lot = tuple[float, tuple[int, int], float, documents.Document]


@dataclasses.dataclass(frozen=True)
class Measures:
  """The results of one reading of a portion of the corpus.

  Attributes:
    number: the number of the portion.
    files: the files of the portion.
    contents: uint64 [documents], hashes of the documents, in their order.
    clusters: uint32 [documents]; versions of a document have equal values.
    lots: a sample of the portion's documents: for each, minus its random
      number, (number of the portion, index in the portion), its letters times
      its weight, and the document.
    letters: weight → number of letters of the documents with this weight.
    longest: the largest number of sentences of a document of running text.
  """

  number: int
  files: Sequence[documents.Files]
  contents: np.ndarray
  clusters: np.ndarray
  lots: list[_Lot]
  letters: dict[float, int]
  longest: int


@dataclasses.dataclass(frozen=True)
class Portion:
  """A portion of the corpus, and which of its documents are held out.

  Attributes:
    files: the files of the portion.
    ids: uint64 [documents], in corpus order; random keys are made of them.
    held_out: bool [documents], whether a document is held out.
    clustered: whether versions of a document are held out together, so that
      versions in the training text can be left out; False where most documents
      are versions of each other.
  """

  files: Sequence[documents.Files]
  ids: np.ndarray
  held_out: np.ndarray
  clustered: bool

  def documents(self) -> Iterator[documents.Document]:
    """Yields the documents, in the order of `ids`."""
    return documents.read(self.files)


@dataclasses.dataclass(frozen=True)
class Overview:
  """The size of the corpus.

  Attributes:
    sample: a sample of the documents, for the forecast.
    letters: number of letters in the corpus; each document counts once,
      whatever its weight is.
    held_out_share: the share of the documents that is held out.
  """

  sample: Sample
  letters: int
  held_out_share: float


@dataclasses.dataclass(frozen=True)
class Survey:
  """The results of the first reading of the corpus.

  Attributes:
    portions: the portions of the corpus, with their held-out documents.
    overview: the size of the corpus, and a sample of it.
  """

  portions: list[Portion]
  overview: Overview


def measured(number: int, files: Sequence[documents.Files]) -> Measures:
  """Reads a portion of the corpus once, and measures its documents.

  Args:
    number: the number of the portion.
    files: the files of the portion.
  """
  contents, clusters = array.array("Q"), array.array("I")
  lots: list[_Lot] = []
  letters: dict[float, int] = {}
  longest = 0
  for place, document in enumerate(documents.read(files)):
    contents.append(document.content())
    clusters.append(_cluster(document.sentences, contents[-1]))
    own = sum(map(len, document.sentences))
    letters[document.weight] = letters.get(document.weight, 0) + own
    longest = max(longest, 0 if document.isolated else len(document.sentences))
    size = document.weight * own
    lot = -math.log((contents[-1] + 1) / 2**64) / size
    _keep_lowest(lots, (-lot, (number, place), size, document))
  return Measures(
    number,
    files,
    np.array(contents, np.uint64),
    np.array(clusters, np.uint32),
    lots,
    letters,
    longest,
  )


def survey(
  measures: Iterable[Measures], eval_fraction: float, at_least: int
) -> Survey:
  """Chooses the held-out documents and a sample of the corpus.

  Held-out documents are chosen by salted hashes. Versions of a document are
  held out together, if they share the sentence with the lowest hash (a MinHash
  of one value).

  Args:
    measures: the measures of all portions, in any order.
    eval_fraction: share of the documents to hold out; 0 for none.
    at_least: wanted number of training documents; and wanted number of held-out
      documents, if eval_fraction is above 0. If the corpus has too few for
      both, the training documents go first. Versions that stay together may
      miss both numbers.

  Raises:
    options.InputError: for a corpus without a sentence.
  """
  parts = sorted(measures, key=lambda part: part.number)
  contents = np.concatenate([part.contents for part in parts])
  if not len(contents):
    raise options.InputError(
      "a corpus with sentences", "none in its files", "build the corpus first"
    )
  if max(part.longest for part in parts) < 2:
    logging.warning(
      "no document has two sentences: only parts of a sentence longer than an "
      "example make a sentence pair. Documents are parted by blank lines, "
      "sentences by line ends."
    )
  clusters = np.concatenate([part.clusters for part in parts])
  held_out, clustered = _choose(contents, clusters, eval_fraction, at_least)
  ends = np.cumsum([len(part.contents) for part in parts])[:-1]
  numbers = np.split(documents.ids(contents), ends)
  chosen = np.split(held_out, ends)
  return Survey(
    [
      Portion(part.files, ids, mask, clustered)
      for part, ids, mask in zip(parts, numbers, chosen, strict=True)
    ],
    Overview(
      _sample(parts),
      sum(sum(part.letters.values()) for part in parts),
      float(held_out.mean()),
    ),
  )


def _sample(parts: Sequence[Measures]) -> Sample:
  """Returns the sample of a corpus, from the measures of its portions."""
  lowest: list[_Lot] = []
  weighted = 0.0
  for part in parts:
    weighted += sum(w * letters for w, letters in part.letters.items())
    for lot in part.lots:
      _keep_lowest(lowest, lot)
  lowest.sort(key=lambda lot: lot[:2])
  return Sample(
    tuple(document for *_, document in lowest),
    _shares(lowest, weighted),
    weighted,
  )


def _cluster(sentences: Sequence[str], content: int) -> int:
  """Returns the lowest checksum of a document's long sentences.

  Versions of a document, which share most sentences, are likely to have the
  same lowest checksum. For a document without a long sentence the result is a
  part of the hash of its content.

  Args:
    sentences: the sentences of the document.
    content: `documents.Document.content` of the document.
  """
  encoded = "\n".join(sentences).encode().split(b"\n")
  checksums = [
    zlib.crc32(data, SALT)
    for sentence, data in zip(sentences, encoded, strict=True)
    if len(sentence) >= _TELLING_LENGTH
  ]
  return min(checksums, default=content & 0xFFFFFFFF)


def _keep_lowest(lowest: list[_Lot], entry: _Lot) -> None:
  """Adds an entry to a weighted sample (Efraimidis and Spirakis 2006).

  The sample keeps at most 64 entries, those with the lowest random numbers, and
  the first 100 sentences of each document.

  Args:
    lowest: the sample, a heap, which is changed.
    entry: a document to add, as in Measures.lots.
  """
  full = len(lowest) == _SAMPLE_DOCUMENTS
  if full and entry[:2] < lowest[0][:2]:
    return
  lot, place, size, document = entry
  cut = dataclasses.replace(
    document, sentences=document.sentences[:_SAMPLE_SENTENCES]
  )
  push = heapq.heapreplace if full else heapq.heappush
  push(lowest, (lot, place, size, cut))


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
  """Chooses the held-out documents.

  Whole clusters are held out if that leaves documents to train on. Otherwise
  single documents are held out; if that is impossible too, no document is. A
  warning is logged in both cases.

  Args:
    contents: uint64 [documents], hashes of the documents.
    clusters: uint32 [documents]; versions of a document have equal values.
    eval_fraction: share of the documents to hold out; 0 for none.
    at_least: wanted number of training and of held-out documents, as in
      `survey`.

  Returns:
    bool [documents], whether each document is held out; and whether whole
    clusters were held out.
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
  """Chooses about `wanted` documents, by the salted hashes of their keys.

  All documents with the same key are chosen together. Keys are chosen, the
  lowest hash first, until they have `wanted` documents; the last key may exceed
  that number. A key of more documents than are wanted is skipped, such as that
  of a sentence which stands in every article.

  Args:
    keys: unsigned [documents], the key of each document.
    wanted: number of documents to choose.

  Returns:
    bool [documents], whether a document was chosen.
  """
  salted = randomness.bits(randomness.Purpose.HELD_OUT, SALT, keys)
  _, place, sizes = np.unique(salted, return_inverse=True, return_counts=True)
  fitting = np.where(sizes <= wanted, sizes, 0)
  chosen = (fitting > 0) & (np.cumsum(fitting) - fitting < wanted)
  return np.asarray(chosen[place])


@dataclasses.dataclass(frozen=True)
class Likeness:
  """Recognises text that repeats held-out text, to keep it out of training.

  Attributes:
    checksums: the checksums of held-out sentences of at least 40 letters. Only
      a sentence with such a checksum, which is fast to compute, is looked up in
      `digests`.
    digests: 64-bit hashes of the held-out sentences of at least 40 letters.
  """

  checksums: frozenset[int]
  digests: frozenset[int]

  @classmethod
  def of(cls, held_out: Iterable[documents.Document]) -> "Likeness":
    """Returns a Likeness that recognises the text of the given documents."""
    telling = [
      sentence.encode()
      for document in held_out
      for sentence in document.sentences
      if len(sentence) >= _TELLING_LENGTH
    ]
    return cls(
      frozenset(map(zlib.crc32, telling)), frozenset(map(_digest, telling))
    )

  @classmethod
  def of_portion(cls, portion: Portion) -> "Likeness":
    """Returns a Likeness that recognises a portion's held-out documents.

    If versions of a document are not held out together (portion.clustered is
    False), the result recognises nothing.
    """
    if not portion.clustered:
      return cls.of(())
    return cls.of(itertools.compress(portion.documents(), portion.held_out))

  @classmethod
  def union(cls, parts: Iterable["Likeness"]) -> "Likeness":
    """Returns a Likeness that recognises the text of every given Likeness."""
    checksums: set[int] = set()
    digests: set[int] = set()
    for part in parts:
      checksums |= part.checksums
      digests |= part.digests
    return cls(frozenset(checksums), frozenset(digests))

  def without(self, document: documents.Document) -> documents.Document | None:
    """Returns the part of a training document that may be trained on.

    A long sentence has 40 letters or more. Running text that shares at least
    half of its long sentences with held-out documents counts as a version of a
    held-out document: the result is None. Other running text is returned whole.
    A document of isolated lines is returned without the long lines that repeat
    held-out sentences; the result is None if no line is left.
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
    return zlib.crc32(data) in self.checksums and (
      _digest(data) in self.digests
    )


def _digest(data: bytes) -> int:
  digest = hashlib.blake2b(data, digest_size=8).digest()
  return int.from_bytes(digest, "little")
