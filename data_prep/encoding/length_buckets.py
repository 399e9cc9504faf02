"""Puts encoded texts into batches of a few static lengths.

A tweet of 20 pieces need not cost the 128 positions that the longest text
needs. Texts of similar length are put into a batch, padded to a length from a
short list, so that a compiled step is traced only a few times.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.encoding import framing, tokenization

# The shortest length: 1 % of news sentences are shorter. With 24, 48, 96 …
# between the powers of two, the throughput of sentences at 128 is 97 % of that
# with every eighth length (without them 73 %; docs/log.md).
SHORTEST = 16


@dataclasses.dataclass(frozen=True)
class Batch:
  """Rows of similar length; the last rows may be empty, with weight 0.

  Attributes:
    rows: int [real rows], the index of the text in each row that is not empty.
    input_ids: [batch, length] int32, padded with the tokenizer's pad id.
    input_mask: [batch, length] int32, 1 on pieces, and on the first position of
      an empty row.
    segment_ids: [batch, length] int32, 1 on the second text of a pair.
    weights: [batch] float32, 1 for a real row.
  """

  rows: np.ndarray
  input_ids: np.ndarray
  input_mask: np.ndarray
  segment_ids: np.ndarray
  weights: np.ndarray

  def part(self, first: int, last: int, length: int | None = None) -> "Batch":
    """Returns the rows from `first` to before `last`.

    Args:
      first, last: indices of rows.
      length: length to which the rows are cut; None for the whole length.
    """
    places = slice(first, last), slice(length)
    return Batch(
      self.rows[first:last],
      self.input_ids[places],
      self.input_mask[places],
      self.segment_ids[places],
      self.weights[first:last],
    )


def encode(
  tokenizer: tokenization.Tokenizer, texts: Sequence[str], max_seq_length: int
) -> tuple[list[np.ndarray], int]:
  """Encodes texts as `[CLS] text [SEP]`; truncates texts that are too long.

  Args:
    tokenizer: the tokenizer of the model that will read the ids.
    texts: `сайн байна уу` gives [CLS] ▁сайн ▁байна ▁уу [SEP].
    max_seq_length: largest number of ids of a text, special ones included; of a
      longer text the beginning is encoded.

  Returns:
    (int32 ids of each text, number of truncated texts).
  """
  framed = framing.Framer(tokenizer, max_seq_length).frame(texts)
  return framed.ids, framed.cut


def lengths(max_seq_length: int) -> list[int]:
  """Returns the static lengths, ascending: 16, 24, 32, 48 … max_seq_length.

  They are 16 · 2^n and 24 · 2^n below max_seq_length, and max_seq_length.
  """
  sizes, length = [], SHORTEST
  while length < max_seq_length:
    sizes += [length, length * 3 // 2]
    length *= 2
  return [size for size in sizes if size < max_seq_length] + [max_seq_length]


def batches(
  encoded: Sequence[np.ndarray],
  batch_size: int,
  max_seq_length: int,
  pad_id: int,
  rng: np.random.Generator | None = None,
  second_starts: np.ndarray | None = None,
) -> Iterator[Batch]:
  """Yields ceil(texts / batch_size) batches that contain every text once.

  The length of a batch is a static length of `lengths`: usually the shortest
  that its longest text needs. Texts that fill no batch of their own length are
  in a batch of a longer one.

  Args:
    encoded: ids of each text, at most max_seq_length.
    batch_size: rows of every batch; the last one is filled with empty rows.
    max_seq_length: the longest length of a batch.
    pad_id: the id of padding.
    rng: shuffles the texts and the batches, for training; None sorts the texts
      by length, for evaluation and prediction.
    second_starts: [texts], the start of the second text in each; None if no
      input has a second text.
  """
  sizes = np.array([len(ids) for ids in encoded])
  order = (
    np.argsort(sizes, kind="stable")
    if rng is None
    else rng.permutation(len(encoded))
  )
  groups = _groups(order, sizes, batch_size, lengths(max_seq_length))
  if rng is not None:
    groups = [groups[index] for index in rng.permutation(len(groups))]
  for rows, length in groups:
    yield _padded(rows, encoded, batch_size, length, pad_id, second_starts)


def fitted(batch: Batch) -> Iterator[tuple[int, Batch]]:
  """Divides a batch into parts with less padding, and yields the parts.

  A batch of `batches` may hold texts that need a shorter static length.
  Neighbouring rows for which the same static length suffices become a part,
  which is as long as its longest row. Empty rows are left out.

  Yields:
    the index of the part's first row in the batch, and the part.
  """
  sizes = batch.input_mask[: len(batch.rows)].sum(axis=1)
  bucket = np.searchsorted(lengths(batch.input_ids.shape[1]), sizes)
  ends = [*(np.flatnonzero(np.diff(bucket)) + 1).tolist(), len(sizes)]
  for first, last in itertools.pairwise([0, *ends]):
    if last > first:
      yield first, batch.part(first, last, int(sizes[first:last].max()))


def _groups(
  order: np.ndarray,
  sizes: np.ndarray,
  batch_size: int,
  static_lengths: Sequence[int],
) -> list[tuple[np.ndarray, int]]:
  """Returns (indices of texts, static length) of each batch.

  Texts that fill no batch of their length are added to the next longer one.

  Args:
    order: the texts in order.
    sizes: the number of ids of each text.
    batch_size: rows of a batch.
    static_lengths: the result of `lengths`.
  """
  bucket = np.searchsorted(static_lengths, sizes[order])
  over, groups = order[:0], []
  for number, length in enumerate(static_lengths):
    waiting = np.concatenate((over, order[bucket == number]))
    full = len(waiting) - len(waiting) % batch_size
    groups += [
      (waiting[start : start + batch_size], length)
      for start in range(0, full, batch_size)
    ]
    over = waiting[full:]
  if len(over):
    longest = sizes[over].max()
    fitting = next(size for size in static_lengths if size >= longest)
    groups.append((over, fitting))
  return groups


def _padded(
  rows: np.ndarray,
  encoded: Sequence[np.ndarray],
  batch_size: int,
  length: int,
  pad_id: int,
  second_starts: np.ndarray | None,
) -> Batch:
  """Returns the batch of the texts `rows`, padded to `length`.

  Args:
    rows: the indices of the texts, at most batch_size.
    encoded: the ids of each text.
    batch_size: rows of the batch; rows without a text are empty.
    length: positions of a row.
    pad_id: the id of padding.
    second_starts: [texts], the start of the second text in each; None if no
      input has a second text.
  """
  input_ids = np.full((batch_size, length), pad_id, np.int32)
  input_mask = np.zeros((batch_size, length), np.int32)
  segment_ids = np.zeros((batch_size, length), np.int32)
  for place, row in enumerate(rows):
    input_ids[place, : len(encoded[row])] = encoded[row]
    input_mask[place, : len(encoded[row])] = 1
    if second_starts is not None:
      segment_ids[place, second_starts[row] : len(encoded[row])] = 1
  # An empty row attends to its first position: a softmax over nothing but
  # masked positions is a number in some implementations and NaN in others.
  input_mask[len(rows) :, 0] = 1
  weights = (np.arange(batch_size) < len(rows)).astype(np.float32)
  return Batch(rows, input_ids, input_mask, segment_ids, weights)
