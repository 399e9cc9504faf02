"""The pool of text from which random second segments are drawn (BERT's task).

There is one pool for all training documents, and one for the held-out ones. The
text of a pool is chosen by hashes before the work is divided, so that a draw
does not depend on which documents are in a worker's task. google-research/bert
draws from the documents of one input file.
"""

import collections
import dataclasses
import functools
import hashlib
import heapq
import io
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.base import randomness
from data_prep.encoding import tokenization
from data_prep.files import storage
from data_prep.pretraining import segment_borders

# Letters of a pool: a share of the corpus, within bounds. The upper bound keeps
# the time to encode them small; the lower one is more than a model memorises.
_SHARE = 1 / 8
LEAST, MOST = 1 << 18, 1 << 24
# Largest share of one document in the pool: each document needs the text of
# another document.
_SHARE_OF_A_DOCUMENT = 1 / 2
# Letters of an excerpt for each piece of an example. With five letters a piece,
# an excerpt has the length of about three examples.
_LETTERS_A_PIECE = 16


class Excerpt(NamedTuple):
  """Neighbouring sentences of a document.

  Attributes:
    lot: 64 random bits; the excerpts with the lowest lots get into the pool.
    id: the id of the document.
    number: the number of the excerpt in its document, from 0.
    sentences: the sentences, each of at least one letter.
    letters: number of letters in all the sentences.
  """

  lot: int
  id: int
  number: int
  sentences: tuple[str, ...]
  letters: int


class Choice:
  """Chooses excerpts at random, which hold about an eighth of all text shown.

  A single document contributes at most half of the chosen text. The choice does
  not depend on the order of the documents. Besides the current document, at
  most twice as much text as is wanted is in memory.

  Args:
    max_seq_length: pieces of an example, which decides the length of excerpts.
    seed: the seed of the data set.
    letters: upper bound of the number of letters in all documents that `show`
      will get.
    least, most: bounds of the wanted number of letters. The last excerpt may
      go beyond it, and a short text gives fewer than `least`.
  """

  def __init__(
    self,
    max_seq_length: int,
    seed: int,
    letters: int,
    least: int = LEAST,
    most: int = MOST,
  ) -> None:
    self._size = _LETTERS_A_PIECE * max_seq_length
    self._chance = int(randomness.bits(randomness.Purpose.POOL, seed))
    self._least = least
    self._most = round(min(max(letters * _SHARE, least), most))
    self._kept: list[tuple[int, Excerpt]] = []  # a heap, the highest lot first
    self._held = self._letters = 0

  def show(self, number: int, sentences: Sequence[str]) -> None:
    """Adds a document, from which excerpts may be chosen.

    Args:
      number: the id of the document.
      sentences: the sentences of the document.
    """
    every = list(_excerpts(number, sentences, self._size, self._chance))
    self._letters += sum(excerpt.letters for excerpt in every)
    for excerpt in _lowest(every, self._most):
      self._keep(excerpt)
    self._trim()

  def _keep(self, excerpt: Excerpt) -> None:
    heapq.heappush(self._kept, (-excerpt.lot, excerpt))
    self._held += excerpt.letters

  def _trim(self) -> None:
    """Drops the excerpts with the highest lots.

    Twice as many letters as will be chosen stay, since the choice skips some
    excerpts of long documents.
    """
    while self._held > 2 * self._most:
      self._held -= heapq.heappop(self._kept)[1].letters

  def add(self, further: "Choice") -> None:
    """Adds the documents that were shown to `further`.

    Args:
      further: a Choice with the same arguments.
    """
    self._letters += further._letters
    for entry in further._kept:
      self._keep(entry[1])
    self._trim()

  def excerpts(self) -> list[Excerpt]:
    """Returns the chosen excerpts, sorted by document id and number."""
    wanted = max(self._letters * _SHARE, self._least)
    budget = round(min(wanted, self._most))
    chosen = _lowest([excerpt for _, excerpt in self._kept], budget)
    return sorted(chosen, key=lambda excerpt: (excerpt.id, excerpt.number))


def _excerpts(
  number: int, sentences: Sequence[str], size: int, chance: int
) -> Iterator[Excerpt]:
  """Cuts a document into excerpts of at most `size` letters, and yields them.

  A sentence longer than `size` is divided.

  Args:
    number: the id of the document.
    sentences: the sentences of the document.
    size: largest number of letters of an excerpt.
    chance: 64 random bits of the pool, from which the lots are drawn.
  """
  state = randomness.further(chance, number)
  gathered: list[str] = []
  letters = count = 0
  parts = (part for sentence in sentences for part in _parts(sentence, size))
  for part in parts:
    if letters and letters + len(part) > size:
      lot = randomness.further(state, count)
      yield Excerpt(lot, number, count, tuple(gathered), letters)
      gathered, letters, count = [], 0, count + 1
    gathered.append(part)
    letters += len(part)
  if letters:
    lot = randomness.further(state, count)
    yield Excerpt(lot, number, count, tuple(gathered), letters)


def _parts(sentence: str, size: int) -> Iterator[str]:
  """Cuts a sentence into parts of at most `size` letters; yields the parts.

  The sentence is cut between words if possible, and the space at the cut is
  dropped. A sentence of at most `size` letters is one part.
  """
  while len(sentence) > size:
    place = sentence.rfind(" ", 1, size + 1)
    place = place if place > 0 else size
    yield sentence[:place]
    sentence = sentence[place:].lstrip()
  if sentence:
    yield sentence


def _lowest(excerpts: Sequence[Excerpt], budget: int) -> list[Excerpt]:
  """Returns the excerpts with the lowest lots, `budget` letters or a few more.

  The last excerpt may exceed the budget. An excerpt is skipped if its document
  would have more than half of the budget.
  """
  chosen: list[Excerpt] = []
  of_document: collections.Counter[int] = collections.Counter()
  letters = 0
  for excerpt in sorted(excerpts):
    if letters >= budget:
      break
    own = of_document[excerpt.id] + excerpt.letters
    if own > budget * _SHARE_OF_A_DOCUMENT:
      continue
    of_document[excerpt.id] = own
    letters += excerpt.letters
    chosen.append(excerpt)
  return chosen


@dataclasses.dataclass(frozen=True)
class Pool:
  """The chosen text in pieces, in the order of the documents' ids.

  Attributes:
    pieces: int32 [pieces], the ids.
    borders: the borders of its segments; a random segment may begin at any
      segment.
    documents: uint64 [segments], ascending: the document of each segment.
    firsts: int64 [segments], the start of the running text around a segment:
      its excerpt, with adjacent excerpts of the document.
    lasts: int64 [segments], the end of that running text.
  """

  pieces: np.ndarray
  borders: segment_borders.Borders
  documents: np.ndarray
  firsts: np.ndarray
  lasts: np.ndarray

  def draw(
    self, documents: np.ndarray, chance: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws a random segment for each given document, from another document.

    Args:
      documents: uint64 [draws], the ids of the documents that get a segment.
      chance: float64 [draws], random numbers in [0, 1).

    Returns:
      three int64 [draws], positions in `pieces`: the start of the segment, and
        the start and the end of the running text around the segment.
    """
    low, high = (
      np.searchsorted(self.documents, documents, side)
      for side in ("left", "right")
    )
    own = high - low
    drawn = (chance * (len(self.documents) - own)).astype(np.int64)
    drawn += np.where(drawn >= low, own, 0)
    begin = np.where(drawn > 0, self.borders.ends[drawn - 1], 0)
    return begin, self.firsts[drawn], self.lasts[drawn]


def encoded(
  excerpts: Sequence[Excerpt],
  tokenizer: tokenization.Tokenizer,
  max_seq_length: int,
) -> Pool | None:
  """Returns the pool of excerpts; None if they are of fewer than two documents.

  Args:
    excerpts: the result of `Choice.excerpts`.
    tokenizer: the tokenizer of the examples.
    max_seq_length: pieces of an example.
  """
  text = tokenizer.encode([s for e in excerpts for s in e.sentences])
  pieces = np.concatenate([np.zeros(0, np.int32), *text])
  ends = np.cumsum(list(map(len, text)), dtype=np.int64)
  borders = segment_borders.find(
    ends, tokenizer.begins_words(pieces), max_seq_length - 3
  )
  last = np.cumsum([len(e.sentences) for e in excerpts], dtype=np.int64) - 1
  excerpt = np.searchsorted(ends[last], borders.ends)
  documents = np.array([e.id for e in excerpts], np.uint64)[excerpt]
  if len(np.unique(documents)) < 2:
    return None
  firsts, lasts = _running(excerpts, ends[last])
  return Pool(pieces, borders, documents, firsts[excerpt], lasts[excerpt])


def described(excerpts: Sequence[Excerpt], pool: Pool | None) -> str:
  """Returns a line for the log: the size of a pool, or why there is none."""
  if pool is None:
    return (
      "random second segments take two documents of running text, and there "
      "is one: every example has the label -1"
    )
  letters = sum(excerpt.letters for excerpt in excerpts)
  documents = len({excerpt.id for excerpt in excerpts})
  line = (
    f"random second segments come from a pool of {letters:,} letters of "
    f"{documents:,} documents"
  )
  if letters < LEAST:
    line += f"; there are no {LEAST:,} letters, so that segments return often"
  return line


def _running(
  excerpts: Sequence[Excerpt], ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the running text around each excerpt of a pool.

  The running text is the longest unbroken row of excerpts of the document that
  contains the excerpt: their numbers follow each other without a gap.

  Args:
    excerpts: the excerpts, sorted by document and number.
    ends: int64 [excerpts], the position in the pool where each excerpt ends.

  Returns:
    two int64 [excerpts]: the start and the end of the running text.
  """
  place = [(excerpt.id, excerpt.number) for excerpt in excerpts]
  after = [(number, count + 1) for number, count in place]
  goes_on = np.array([a == b for a, b in zip(after, place[1:], strict=False)])
  begins = np.nonzero(np.concatenate([[True], ~goes_on.astype(bool)]))[0]
  run = np.searchsorted(begins, np.arange(len(ends)), "right") - 1
  first = np.concatenate([[0], ends[begins[1:] - 1]])
  last = ends[np.append(begins[1:], len(ends)) - 1]
  return first[run], last[run]


def save(pool: Pool, folder: str, role: str) -> str:
  """Writes a pool to a file, whose name contains a hash of the content.

  Returns:
    the path of the file.
  """
  content = io.BytesIO()
  np.savez(
    content,
    pieces=pool.pieces,
    ends=pool.borders.ends,
    word=pool.borders.word,
    documents=pool.documents,
    firsts=pool.firsts,
    lasts=pool.lasts,
  )
  digest = hashlib.sha256(content.getbuffer()).hexdigest()[:16]
  path = os.path.join(folder, f"pool-{role}-{digest}.npz")
  with storage.writing(path, "wb") as file:
    file.write(content.getbuffer())
  return path


@functools.lru_cache(maxsize=2)
def load(path: str) -> Pool:
  """Returns the pool in a file that `save` wrote.

  A process caches the pools of the two files it has read last.
  """
  with np.load(io.BytesIO(storage.read_bytes(path))) as content:
    return Pool(
      content["pieces"],
      segment_borders.Borders(content["ends"], content["word"]),
      content["documents"],
      content["firsts"],
      content["lasts"],
    )
