"""Turns texts into inputs of a model: single texts, pairs, windows of texts."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_prep.base import options
from data_prep.encoding import tokenization

Text = str | tuple[str, str]

# Default of the largest number of pieces of an input, as in google-research's
# run_classifier.py.
USUAL_LENGTH = 128
# Pieces of the longest input that may be trained on: dropout numbers the places
# of an attention matrix by 12 bits for its row and 12 for its column.
LONGEST = 4096

# The ways to read a text that is longer than an input of the model.
HEAD, HEAD_TAIL, WINDOWS = LONG_TEXTS = ("head", "head_tail", "windows")


def head_pieces(room: int) -> int:
  """Returns how many of `room` pieces HEAD_TAIL reads from a text's beginning.

  It is a quarter of `room`, rounded down; the other pieces are from the end.
  """
  return room // 4


def both_ends(size: int, room: int) -> np.ndarray:
  """Returns the indices of the pieces that HEAD_TAIL reads, int [room].

  The indices ascend: `head_pieces(room)` from the beginning of the text, the
  rest from its end.

  Args:
    size: number of pieces of the text, at least `room`.
    room: number of pieces to read.
  """
  head = head_pieces(room)
  return np.r_[:head, size - room + head : size]


def window_step(room: int) -> int:
  """Returns how many pieces after a window the next window begins.

  The last window of a text may begin earlier, so that it is full.

  Args:
    room: number of the text's pieces in a window.
  """
  return (room + 1) // 2


@dataclasses.dataclass(frozen=True)
class Framed:
  """The inputs made of texts.

  Attributes:
    ids: the int32 ids of each input, `[CLS] … [SEP]`.
    second_starts: [inputs], the start of the second text; the input's length if
      it has no second text.
    owners: [inputs], the index of each input's text, ascending; a text has one
      input, or several windows.
    starts: [inputs], the index in the text of the piece after [CLS].
    sizes: [texts], the number of pieces of each text.
    read: [texts], the number of these pieces that are in an input.
  """

  ids: list[np.ndarray]
  second_starts: np.ndarray
  owners: np.ndarray
  starts: np.ndarray
  sizes: np.ndarray
  read: np.ndarray

  def counts(self, max_seq_length: int) -> "Counts":
    """Counts the texts, the too long texts, the pieces, and the lost pieces.

    Args:
      max_seq_length: largest number of ids of an input.
    """
    long = self.sizes > max_seq_length - 2
    return Counts(
      len(self.sizes),
      int(long.sum()),
      int(self.sizes.sum()),
      int((self.sizes - self.read).sum()),
      len(self.ids),
    )

  @property
  def cut(self) -> int:
    """The number of texts of which some pieces are in no input."""
    return int((self.read < self.sizes).sum())

  def pooled(self, scores: np.ndarray) -> np.ndarray:
    """Returns the mean of scores over each text's inputs, [texts, n].

    Args:
      scores: [inputs, n].
    """
    if len(self.ids) == len(self.sizes):
      return scores
    firsts = np.searchsorted(self.owners, np.arange(len(self.sizes)))
    counts = np.diff(np.append(firsts, len(self.ids)))
    return np.add.reduceat(scores, firsts) / counts[:, None].astype("f4")

  def shares(self) -> np.ndarray:
    """Returns the weight of each input: 1, or 1 / n for a text of n windows.

    The result is float32 [inputs].
    """
    counts = np.bincount(self.owners, minlength=len(self.sizes))
    return (1 / counts[self.owners]).astype(np.float32)


class Counts(NamedTuple):
  """Counts of texts that are too long, and of the pieces that they lose.

  Attributes:
    texts, long: number of texts, and of texts (pairs too) of more pieces than
      max_seq_length - 2.
    pieces, lost: pieces of all texts, and pieces that are in no input.
    inputs: the number of inputs: windows, and texts that need no windows.
  """

  texts: int = 0
  long: int = 0
  pieces: int = 0
  lost: int = 0
  inputs: int = 0

  def plus(self, addend: "Counts") -> "Counts":
    """Returns the sums of two counts, field by field."""
    return Counts(*map(sum, zip(self, addend, strict=True)))

  def summary(self, max_seq_length: int) -> str:
    """Returns one line about the long texts; "" if no text is too long.

    Args:
      max_seq_length: largest number of ids of an input.
    """
    if not self.long:
      return ""
    start = (
      f"{self.long} of {self.texts} texts are longer than {max_seq_length} "
      "pieces"
    )
    if not self.lost:
      windows = self.inputs - self.texts + self.long
      return f"{start}: they are read in {windows} windows"
    lost = 100 * self.lost / self.pieces
    return f"{start}: {lost:.1f} % of all pieces are not read (--long_text)"


class Framer:
  """Turns texts into the inputs of one model.

    Framer(tokenizer, 128).frame(["сайн байна уу"]).ids
    # [CLS] ▁сайн ▁байна ▁уу [SEP]

  Args:
    tokenizer: the tokenizer of the model that will read the ids.
    max_seq_length: largest number of ids of an input, special ones included.
    long_text: the part of a longer text to read. "head": its beginning;
      "head_tail": a quarter from its beginning and the rest from its end (Sun
      et al. 2019, arXiv 1905.05583, section 5.3.1); "windows": all of it, in
      windows that overlap by half. For a pair, the longer text is truncated
      first.
    remembered: largest number of texts whose pieces are kept, the first that
      come, so that such a text is not encoded again; 0 keeps none.

  Attributes:
    counts: the counts of all texts that were framed.
  """

  def __init__(
    self,
    tokenizer: tokenization.Tokenizer,
    max_seq_length: int,
    long_text: str = HEAD,
    remembered: int = 0,
  ) -> None:
    self.tokenizer, self.max_seq_length = tokenizer, max_seq_length
    self.long_text = long_text
    self.counts = Counts()
    self._most = remembered
    self._known: dict[bytes, np.ndarray] = {}

  def frame(self, texts: Sequence[Text]) -> Framed:
    """Returns the inputs of texts, or of pairs of texts, in their order.

    The counts are added to `self.counts`.

    Args:
      texts: strings, or (first, second) for pairs.

    Raises:
      options.InputError: for one string in place of a list of texts.
    """
    if isinstance(texts, str):
      raise options.InputError(
        "a list of texts", f"the text {texts[:60]!r}", "give it as [text]"
      )
    firsts = [text if isinstance(text, str) else text[0] for text in texts]
    pairs = [text[1] for text in texts if not isinstance(text, str)]
    first_pieces, second_pieces = (
      self._pieces(firsts),
      iter(self._pieces(pairs)),
    )
    inputs: list[tuple[np.ndarray, int, int, int]] = []
    sizes, read = np.zeros([2, len(texts)], np.int64)
    for owner, (text, pieces) in enumerate(
      zip(texts, first_pieces, strict=True)
    ):
      if isinstance(text, str):
        parts = self._single(pieces)
        sizes[owner] = len(pieces)
        read[owner] = self._read(len(pieces))
      else:
        second = next(second_pieces)
        parts = [self._pair(pieces, second)]
        sizes[owner] = len(pieces) + len(second)
        read[owner] = len(parts[0][0]) - 3
      inputs += [(*part, owner) for part in parts]
    columns = list(zip(*inputs, strict=True)) or [(), (), (), ()]
    second_starts, starts, owners = (np.array(c, np.int64) for c in columns[1:])
    framed = Framed(
      list(columns[0]), second_starts, owners, starts, sizes, read
    )
    self.counts = self.counts.plus(framed.counts(self.max_seq_length))
    return framed

  def _pieces(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the int32 ids of each text, from a cache for remembered texts."""
    if not self._most:
      return self.tokenizer.encode(texts)
    keys = [
      hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts
    ]
    new = {
      key: text
      for key, text in zip(keys, texts, strict=True)
      if key not in self._known
    }
    encoded = dict(
      zip(new, self.tokenizer.encode(list(new.values())), strict=True)
    )
    known = {key: self._known[key] for key in keys if key not in encoded}
    room = self._most - len(self._known)
    self._known |= dict(list(encoded.items())[: max(room, 0)])
    return [known[key] if key in known else encoded[key] for key in keys]

  def _read(self, size: int) -> int:
    """Returns how many pieces of a single text are in some input.

    Args:
      size: number of pieces of the text.
    """
    whole = self.long_text == WINDOWS
    return size if whole else min(size, self.max_seq_length - 2)

  def _single(self, pieces: np.ndarray) -> list[tuple[np.ndarray, int, int]]:
    """Returns the inputs of a single text: several with WINDOWS, else one.

    An input is (ids with [CLS] and [SEP], the number of ids, the index in the
    text of the input's first piece).

    Args:
      pieces: int32 ids of the text.
    """
    room = self.max_seq_length - 2
    starts = [0]
    if len(pieces) > room and self.long_text == WINDOWS:
      starts = [*range(0, len(pieces) - room, window_step(room))]
      starts.append(len(pieces) - room)
    elif len(pieces) > room and self.long_text == HEAD_TAIL:
      pieces = pieces[both_ends(len(pieces), room)]
    cls, sep = [self.tokenizer.cls_id], [self.tokenizer.sep_id]
    windows = [
      np.concatenate((cls, pieces[start : start + room], sep)).astype(np.int32)
      for start in starts
    ]
    return [
      (ids, len(ids), start) for ids, start in zip(windows, starts, strict=True)
    ]

  def _pair(
    self, first: np.ndarray, second: np.ndarray
  ) -> tuple[np.ndarray, int, int]:
    """Returns (ids of a pair, start of the second text, 0).

    The ids are `[CLS] first [SEP] second [SEP]`. The longer text is truncated
    first: the result is that of google-research/bert's _truncate_seq_pair,
    which removes one piece at a time.
    """
    room = max(self.max_seq_length - 3, 0)
    size = min(len(first), max(room - len(second), (room + 1) // 2))
    cls, sep = [self.tokenizer.cls_id], [self.tokenizer.sep_id]
    parts = (cls, first[:size], sep, second[: room - size], sep)
    return np.concatenate(parts).astype(np.int32), size + 2, 0
