"""Documents to segment pairs: which spans of text stand in which example.

As google-research/albert's create_instances_from_document, with two
differences. A chunk of one sentence, which upstream pairs with another
document under the label "wrong order" (so that topic gives the answer away),
becomes `[CLS] A [SEP]` with label NO_PAIR. And too long pairs lose a share of
their ends chosen by one draw, not one draw a piece.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep import randomness

IN_ORDER, SWAPPED, NO_PAIR = 0, 1, -1
_PURPOSE = randomness.Purpose


@dataclasses.dataclass(frozen=True)
class Instances:
  """Segment pairs as spans of a flat stream of pieces, one row an instance.

  Attributes:
    keys: uint64 [rows, 3], document id, duplicate, number in the document:
      what all chance about the instance is keyed by.
    starts: int64 [rows, 2], where segments A and B begin in the stream.
    lengths: int64 [rows, 2], their pieces; B's is 0 where there is no pair.
    labels: int64 [rows], IN_ORDER, SWAPPED or NO_PAIR.
  """

  keys: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  labels: np.ndarray


def create(
  document_id: int,
  ends: Sequence[int],
  *,
  max_seq_length: int,
  short_seq_prob: float,
  duplicate: int,
  seed: int,
) -> Instances:
  """Cuts one document into instances, once.

  Sentences are gathered until they fill the sequence; the gathered chunk is
  parted in two at a sentence border, and the parts are swapped half the time.

  Args:
    document_id: keys the chance.
    ends: where each sentence ends in the document's stream of pieces; the
      first begins at 0.
    max_seq_length: pieces of an example, special ones included.
    short_seq_prob: share of the documents whose instances are shorter (BERT
      paper, appendix A.2), so that the model sees all lengths.
    duplicate: which pass over the document this is.
    seed: of the whole data set.
  """
  draw = (seed, document_id, duplicate)
  most = max_seq_length - 3
  target = most
  if randomness.uniform(_PURPOSE.SHORT, *draw) < short_seq_prob:
    target = 2 + int(randomness.below(most - 1, _PURPOSE.SHORT_LENGTH, *draw))
  borders = [0, *ends]
  chunks = _chunks(borders, target)
  numbers = np.arange(len(chunks))
  ends_of_a = randomness.uniform(_PURPOSE.SEGMENT_END, *draw, numbers)
  swaps = randomness.uniform(_PURPOSE.SWAP, *draw, numbers) < 0.5
  rows = [
    _pair(borders, first, last, ends_of_a[i], bool(swaps[i]))
    for i, (first, last) in enumerate(chunks)
  ]
  table = np.array(rows, np.int64).reshape(-1, 5)
  keys = np.zeros((len(rows), 3), np.uint64)
  keys[:, 0], keys[:, 1], keys[:, 2] = document_id, duplicate, numbers
  found = Instances(keys, table[:, :2], table[:, 2:4], table[:, 4])
  return _truncated(found, max_seq_length, seed)


def _chunks(borders: Sequence[int], target: int) -> list[tuple[int, int]]:
  """Returns sentence ranges [first, last) of at least `target` pieces each."""
  chunks, first = [], 0
  for last in range(1, len(borders)):
    full = borders[last] - borders[first] >= target
    if full or last == len(borders) - 1:
      chunks.append((first, last))
      first = last
  return chunks


def _pair(
  borders: Sequence[int], first: int, last: int, end: float, swap: bool
) -> tuple[int, int, int, int, int]:
  """Returns start of A and B, length of A and B, label."""
  if last - first < 2:
    return (borders[first], 0, borders[last] - borders[first], 0, NO_PAIR)
  middle = borders[first + 1 + int(end * (last - first - 1))]
  begin, stop = borders[first], borders[last]
  if swap:
    return (middle, begin, stop - middle, middle - begin, SWAPPED)
  return (begin, middle, middle - begin, stop - middle, IN_ORDER)


def _truncated(found: Instances, max_seq_length: int, seed: int) -> Instances:
  """Shortens the longer segment first, at both its ends, until all fits."""
  a, b = found.lengths[:, 0], found.lengths[:, 1]
  # A lone segment needs no second [SEP].
  most = np.where(
    found.labels == NO_PAIR, max_seq_length - 2, max_seq_length - 3
  )
  excess = np.maximum(a + b - most, 0)
  from_longer = np.minimum(excess, np.abs(a - b))
  rest = excess - from_longer
  cut_a = np.where(a > b, from_longer, 0) + rest // 2
  cut_b = np.where(a > b, 0, from_longer) + rest - rest // 2
  cuts = np.stack([cut_a, cut_b], 1)
  purposes = (_PURPOSE.TRUNCATE_A, _PURPOSE.TRUNCATE_B)
  from_front = np.stack(
    [
      randomness.below(cuts[:, i] + 1, purpose, seed, *found.keys.T)
      for i, purpose in enumerate(purposes)
    ],
    1,
  )
  return dataclasses.replace(
    found, starts=found.starts + from_front, lengths=found.lengths - cuts
  )


def concatenate(
  parts: Sequence[Instances], offsets: Sequence[int]
) -> Instances:
  """Joins the instances of documents whose streams begin at `offsets`."""
  return Instances(
    np.concatenate([part.keys for part in parts]),
    np.concatenate(
      [part.starts + at for part, at in zip(parts, offsets, strict=True)]
    ),
    np.concatenate([part.lengths for part in parts]),
    np.concatenate([part.labels for part in parts]),
  )


@dataclasses.dataclass(frozen=True)
class Sequences:
  """Instances laid out in rows of max_seq_length pieces.

  Attributes:
    ids: int64 [rows, length], padded.
    mask: bool [rows, length], where there is a piece.
    segments: int64 [rows, length], 1 in B and its [SEP].
    text: bool [rows, length], where there is a piece of text: no special one.
  """

  ids: np.ndarray
  mask: np.ndarray
  segments: np.ndarray
  text: np.ndarray


def assemble(
  found: Instances,
  stream: np.ndarray,
  *,
  max_seq_length: int,
  pad_id: int,
  cls_id: int,
  sep_id: int,
) -> Sequences:
  """Lays out `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]` without a pair.

  Args:
    found: spans of the stream.
    stream: int32 [pieces].
    max_seq_length: the rows' length.
    pad_id, cls_id, sep_id: looked up in the tokenizer.
  """
  column = np.arange(max_seq_length)[None]
  a, b = found.lengths[:, :1], found.lengths[:, 1:]
  paired = (found.labels != NO_PAIR)[:, None]
  in_a = (column >= 1) & (column <= a)
  in_b = paired & (column >= a + 2) & (column < a + 2 + b)
  ends = np.where(paired, a + b + 3, a + 2)
  place = np.where(in_a, found.starts[:, :1] + column - 1, 0)
  place = np.where(in_b, found.starts[:, 1:] + column - a - 2, place)
  text = in_a | in_b
  ids = np.where(text, stream[place], pad_id).astype(np.int64)
  ids[:, 0] = cls_id
  ids[(column == a + 1) | (paired & (column == ends - 1))] = sep_id
  mask = column < ends
  return Sequences(ids, mask, ((column > a + 1) & mask).astype(np.int64), text)
