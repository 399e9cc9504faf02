"""Finds where text may be cut: after sentences, and inside long sentences."""

import dataclasses

import numpy as np

# A sentence that is longer than an example becomes segments of about this
# share of an example, so that several of them make its segments A and B.
_PARTS_AN_EXAMPLE = 4


@dataclasses.dataclass(frozen=True)
class Borders:
  """The positions in a stream of pieces where segments and examples may end.

  Attributes:
    ends: int64 [segments], ascending: the end of each segment. The first
      segment begins at 0, each further segment where the one before it ends.
    word: int64 [pieces + 1], for each position the last position at or before
      it where a word or a sentence begins.
  """

  ends: np.ndarray
  word: np.ndarray

  def cut(self, start: int, length: int) -> int:
    """Returns the position where to end a text of at most `length` pieces.

    It is the last position between two words within that length. If the first
    word is longer than `length`, it is start + length, inside that word.

    Args:
      start: the position where the text begins.
      length: at least 1; the stream must have as many pieces from `start` on.
    """
    place = int(self.word[start + length])
    return place if place > start else start + length

  def cuts(self, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Returns the results of `cut` for many texts at once, int64 [texts].

    Args:
      start: int64 [texts], the position where each text begins.
      length: int64 [texts], largest number of pieces of each text.
    """
    place = self.word[start + length]
    return np.where(place > start, place, start + length)

  def before(self, place: np.ndarray) -> np.ndarray:
    """Returns the last border at or before each position.

    The borders are the starts of the segments, and the end of the stream.

    Args:
      place: int64 array of positions; the result has its shape.
    """
    number = np.searchsorted(self.ends, place, "right")
    return np.where(number > 0, self.ends[number - 1], 0)

  def nearest(self, place: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Returns the end of a segment that is nearest to each position.

    Only ends greater than the position's `start` count. Of two equally near
    ends, the later is returned.

    Args:
      place: int64 array of positions in the stream, each after its `start`; the
        result has its shape.
      start: int64 array of the same shape.
    """
    number = np.searchsorted(self.ends, place)
    after, before = self.ends[number], self.ends[number - 1]
    nearer = (number > 0) & (before > start) & (place - before < after - place)
    return np.where(nearer, before, after)


def find(ends: np.ndarray, begins: np.ndarray, longest: int) -> Borders:
  """Returns the borders of a stream of pieces, from its sentences and words.

  Args:
    ends: int64 [sentences], the end of each sentence; a sentence without pieces
      ends where the one before it ends.
    begins: bool [pieces], whether a piece begins a word.
    longest: largest number of pieces of a sentence that stays whole.
  """
  ends = ends[np.diff(ends, prepend=0) > 0]
  if not len(ends):
    return Borders(ends, np.zeros(1, np.int64))
  place = np.arange(len(begins) + 1)
  begin = np.append(begins, True)
  begin[ends] = True
  word = np.maximum.accumulate(np.where(begin, place, 0))
  return Borders(_divided(ends, word, longest), word)


def _divided(ends: np.ndarray, word: np.ndarray, longest: int) -> np.ndarray:
  """Returns the ends of all sentences, and of the parts of long sentences.

  A sentence longer than `longest` is divided, between words if possible, into
  parts of about a quarter of `longest`.

  Args:
    ends: int64 [sentences], ascending; no sentence is empty.
    word: int64 [pieces + 1], as Borders.word.
    longest: largest number of pieces of a sentence that stays whole.
  """
  starts = np.concatenate([[0], ends[:-1]])
  sizes = ends - starts
  long = np.nonzero(sizes > longest)[0]
  if not len(long):
    return ends
  wanted = max(1, longest // _PARTS_AN_EXAMPLE)
  inner = [ends]
  for start, size in zip(starts[long], sizes[long], strict=True):
    parts = -(-size // wanted)
    inner.append(word[start + np.arange(1, parts) * size // parts])
  every = np.sort(np.concatenate(inner))
  return every[np.diff(every, prepend=0) > 0]
