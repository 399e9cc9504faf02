"""Texts as a model reads them: framed, in pairs, cut, or in windows."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_prep import options, tokenization

Text = str | tuple[str, str]

# Pieces of an input where nobody says otherwise, as google-research's
# run_classifier.py has it.
USUAL_LENGTH = 128
# Pieces of the longest input that is trained on: dropout numbers the places of
# an attention matrix by 12 bits for its row and 12 for its column.
LONGEST = 4096

# What to read of a text that is longer than the model.
HEAD, HEAD_TAIL, WINDOWS = LONG_TEXTS = ("head", "head_tail", "windows")


def head_pieces(room: int) -> int:
  """How many of `room` pieces HEAD_TAIL takes from the beginning of a text."""
  return room // 4


def both_ends(size: int, room: int) -> np.ndarray:
  """Returns which of `size` pieces HEAD_TAIL reads, where they are too many."""
  head = head_pieces(room)
  return np.r_[:head, size - room + head : size]


def window_step(room: int) -> int:
  """How many pieces after another a window of WINDOWS begins."""
  return (room + 1) // 2


@dataclasses.dataclass(frozen=True)
class Framed:
  """What the model reads of some texts.

  Attributes:
    ids: of each input, `[CLS] … [SEP]`, int32.
    seconds: [inputs] where the second text begins, the length where none does.
    owners: [inputs] which text each is of, ascending; a text has one, or
      several windows.
    starts: [inputs] which of its text's pieces stands behind [CLS].
    sizes: [texts] the pieces of each.
    read: [texts] how many of them some input holds.
  """

  ids: list[np.ndarray]
  seconds: np.ndarray
  owners: np.ndarray
  starts: np.ndarray
  sizes: np.ndarray
  read: np.ndarray

  def counts(self, max_seq_length: int) -> "Counts":
    """Returns how much of them was too long, and how much is not read."""
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
    """How many texts are not read to their end."""
    return int((self.read < self.sizes).sum())

  def pooled(self, scores: np.ndarray) -> np.ndarray:
    """Returns the mean of [inputs, …] over the inputs of each text."""
    if len(self.ids) == len(self.sizes):
      return scores
    firsts = np.searchsorted(self.owners, np.arange(len(self.sizes)))
    counts = np.diff(np.append(firsts, len(self.ids)))
    return np.add.reduceat(scores, firsts) / counts[:, None].astype("f4")

  def shares(self) -> np.ndarray:
    """Returns [inputs] float32: 1, or of n windows 1 / n each."""
    counts = np.bincount(self.owners, minlength=len(self.sizes))
    return (1 / counts[self.owners]).astype(np.float32)


class Counts(NamedTuple):
  """What became of long texts.

  Attributes:
    texts, long: how many, and how many of them are longer than an input.
    pieces, lost: of all texts, and those that no input holds.
    inputs: windows, and texts that need none.
  """

  texts: int = 0
  long: int = 0
  pieces: int = 0
  lost: int = 0
  inputs: int = 0

  def plus(self, addend: "Counts") -> "Counts":
    """Returns the sums."""
    return Counts(*map(sum, zip(self, addend, strict=True)))

  def said(self, max_seq_length: int) -> str:
    """Says it in a line; "" where no text is too long."""
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
  """Frames texts for one model.

    Framer(tokenizer, 128).frame(["сайн байна уу"]).ids
    # [CLS] ▁сайн ▁байна ▁уу [SEP]

  Args:
    tokenizer: of the model that will read the ids.
    max_seq_length: ids of an input, the special ones included.
    long_text: "head": the beginning of a longer text is read; "head_tail": a
      quarter from its beginning and the rest from its end (Sun et al. 2019,
      arXiv 1905.05583, section 5.3.1); "windows": all of it, in windows that
      overlap by half. Of a pair the longer text is cut first, at its end.
    remembered: of how many texts to keep the pieces, by the hash of the text.

  Attributes:
    counts: of all that was framed.
  """

  def __init__(
    self,
    tokenizer: tokenization.Tokenizer,
    max_seq_length: int,
    long_text: str = HEAD,
    remembered: int = 0,
  ):
    self.tokenizer, self.max_seq_length = tokenizer, max_seq_length
    self.long_text = long_text
    self.counts = Counts()
    self._most = remembered
    self._known: dict[bytes, np.ndarray] = {}

  def frame(self, texts: Sequence[Text]) -> Framed:
    """Returns the inputs of texts, or of pairs of them.

    Raises:
      options.InputError: for a single text, whose letters are texts to Python.
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
    made: list[tuple[np.ndarray, int, int, int]] = []
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
      made += [(*part, owner) for part in parts]
    columns = list(zip(*made, strict=True)) or [(), (), (), ()]
    seconds, starts, owners = (np.array(c, np.int64) for c in columns[1:])
    framed = Framed(list(columns[0]), seconds, owners, starts, sizes, read)
    self.counts = self.counts.plus(framed.counts(self.max_seq_length))
    return framed

  def _pieces(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Tokenises, each text once where it is remembered."""
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
    whole = self.long_text == WINDOWS
    return size if whole else min(size, self.max_seq_length - 2)

  def _single(self, pieces: np.ndarray) -> list[tuple[np.ndarray, int, int]]:
    """Returns ids, where a second text begins, and the first piece's place."""
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
    """Returns `[CLS] first [SEP] second [SEP]`, the longer one cut first.

    What google-research/bert's _truncate_seq_pair does piece by piece.
    """
    room = max(self.max_seq_length - 3, 0)
    size = min(len(first), max(room - len(second), (room + 1) // 2))
    cls, sep = [self.tokenizer.cls_id], [self.tokenizer.sep_id]
    parts = (cls, first[:size], sep, second[: room - size], sep)
    return np.concatenate(parts).astype(np.int32), size + 2, 0
