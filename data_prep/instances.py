"""Documents to segment pairs: which spans of text stand in which example.

As google-research/albert's create_instances_from_document, with two
differences. A chunk of one sentence, which upstream pairs with another
document under the label "wrong order" (so that topic gives the answer away),
becomes `[CLS] A [SEP]` with label NO_PAIR. And too long pairs lose a share of
their ends chosen by one draw, not one draw a piece.
"""

import bisect
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
  document_ids: Sequence[int],
  ends: Sequence[Sequence[int]],
  *,
  max_seq_length: int,
  short_seq_prob: float,
  duplicates: int,
  seed: int,
) -> Instances:
  """Cuts documents into instances, several times over.

  Sentences are gathered until they fill the sequence; the gathered chunk is
  parted in two at a sentence border, and the parts are swapped half the time.

  Args:
    document_ids: [documents], key the chance.
    ends: where each sentence of each document ends in its stream of pieces;
      the first begins at 0, and each document where the one before ended.
    max_seq_length: pieces of an example, special ones included.
    short_seq_prob: share of the documents whose instances are shorter (BERT
      paper, appendix A.2), so that the model sees all lengths.
    duplicates: how often each document is used.
    seed: of the whole data set.
  """
  ids = np.array(document_ids, np.uint64)
  targets = _targets(ids, duplicates, max_seq_length - 3, short_seq_prob, seed)
  rows: list[tuple[int, int, int, int, int]] = []
  for place, wanted in enumerate(targets.tolist()):
    borders = [0, *ends[place]]
    for duplicate, target in enumerate(wanted):
      rows += [
        (place, duplicate, number, first, last)
        for number, (first, last) in enumerate(_chunks(borders, target))
      ]
  table = np.array(rows, np.int64).reshape(-1, 5)
  document, start, stop = table[:, 0], table[:, 3], table[:, 4]
  keys = table[:, :3].astype(np.uint64)
  keys[:, 0] = ids[document]
  lengths = [len(e) + 1 for e in ends]
  begin = np.cumsum([0, *lengths], dtype=np.int64)[:-1][document]
  flat = _stream_borders(ends)
  end_of_a = randomness.uniform(_PURPOSE.SEGMENT_END, seed, *keys.T)
  middle = start + 1 + (end_of_a * (stop - start - 1)).astype(np.int64)
  swap = randomness.uniform(_PURPOSE.SWAP, seed, *keys.T) < 0.5
  cuts = flat[begin + start], flat[begin + middle], flat[begin + stop]
  return _truncated(
    _pairs(keys, *cuts, stop - start < 2, swap), max_seq_length, seed
  )


def _targets(
  ids: np.ndarray, duplicates: int, most: int, short_seq_prob: float, seed: int
) -> np.ndarray:
  """Returns how long the examples should be, int64 [documents, duplicates]."""
  draw = (seed, ids[:, None], np.arange(duplicates)[None])
  short = randomness.uniform(_PURPOSE.SHORT, *draw) < short_seq_prob
  length = 2 + randomness.below(most - 1, _PURPOSE.SHORT_LENGTH, *draw)
  return np.where(short, length, most)


def _chunks(borders: Sequence[int], target: int) -> list[tuple[int, int]]:
  """Returns sentence ranges [first, last) of at least `target` pieces each."""
  chunks, first, end = [], 0, len(borders) - 1
  while first < end:
    full = bisect.bisect_left(borders, borders[first] + target, first + 1)
    last = min(full, end)
    chunks.append((first, last))
    first = last
  return chunks


def _stream_borders(ends: Sequence[Sequence[int]]) -> np.ndarray:
  """Returns every document's borders, 0 first, as places in one stream."""
  borders, offset = [], 0
  for of_document in ends:
    borders.append(np.array([0, *of_document], np.int64) + offset)
    offset += of_document[-1]
  return np.concatenate(borders or [np.zeros(0, np.int64)])


def _pairs(
  keys: np.ndarray,
  begin: np.ndarray,
  middle: np.ndarray,
  stop: np.ndarray,
  lone: np.ndarray,
  swap: np.ndarray,
) -> Instances:
  """Lays segments A and B into the chunks; `lone` ones have no border."""
  swap = swap & ~lone
  middle = np.where(lone, stop, middle)
  starts = np.stack(
    [np.where(swap, middle, begin), np.where(swap, begin, middle)], 1
  )
  front, back = middle - begin, stop - middle
  lengths = np.stack(
    [np.where(swap, back, front), np.where(swap, front, back)], 1
  )
  starts[lone, 1] = 0
  labels = np.where(lone, NO_PAIR, np.where(swap, SWAPPED, IN_ORDER))
  return Instances(keys, starts, lengths, labels)


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
