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

# 1 is a random segment B under random_next_sentence.
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
    labels: int64 [rows], IN_ORDER, SWAPPED (or random) or NO_PAIR.
  """

  keys: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Span:
  """A document in the stream of pieces; each begins where the last ended.

  Attributes:
    id: what chance about it is keyed by.
    ends: where each sentence ends, the first one beginning at 0; not empty.
    uses: how often it is cut into instances.
    isolated: its sentences make no pairs.
  """

  id: int
  ends: Sequence[int]
  uses: int = 1
  isolated: bool = False


def create(
  spans: Sequence[Span],
  *,
  max_seq_length: int,
  short_seq_prob: float,
  random_next_sentence: bool = False,
  seed: int,
) -> Instances:
  """Cuts documents into instances, each as often as it is used.

  Sentences are gathered until they fill the sequence; the gathered chunk is
  parted in two at a sentence border, and the parts are swapped half the time.

  Args:
    spans: the documents.
    max_seq_length: pieces of an example, special ones included.
    short_seq_prob: share of the documents whose instances are shorter (BERT
      paper, appendix A.2), so that the model sees all lengths.
    random_next_sentence: instead of swapping, take B from another document
      of `spans`, and leave the chunk's second part to the next one (BERT
      paper, section 3.1).
    seed: of the whole data set.
  """
  ids = np.array([span.id for span in spans], np.uint64)
  targets = _targets(
    ids,
    max((span.uses for span in spans), default=0),
    max_seq_length - 3,
    short_seq_prob,
    seed,
  )
  rows: list[tuple[int, int, int, int, int, bool]] = []
  random_next = random_next_sentence and len(spans) > 1
  for place, (span, wanted) in enumerate(
    zip(spans, targets.tolist(), strict=True)
  ):
    borders = [0, *span.ends]
    for use, target in enumerate(wanted[: span.uses]):
      if random_next and not span.isolated:
        chunks = _chunks_put_back(borders, target, (seed, ids[place], use))
      else:
        chunks = [(*chunk, False) for chunk in _chunks(borders, target)]
      rows += [
        (place, use, number, *chunk) for number, chunk in enumerate(chunks)
      ]
  table = np.array(rows, np.int64).reshape(-1, 6)
  document, start, stop = table[:, 0], table[:, 3], table[:, 4]
  keys = table[:, :3].astype(np.uint64)
  keys[:, 0] = ids[document]
  flat, begin = _stream_borders(spans)
  middle = _middles(start, stop, keys, seed)
  is_random = table[:, 5] == 1
  middle = np.where(is_random, stop, middle)
  isolated = np.array([span.isolated for span in spans], bool)[document]
  swap = randomness.uniform(_PURPOSE.SWAP, seed, *keys.T) < 0.5
  begin_a, begin_b, end_b = (
    flat[begin[document] + cut] for cut in (start, middle, stop)
  )
  lone = isolated | ((stop - start < 2) & ~is_random)
  swap = swap & (not random_next_sentence)
  found = _pairs(keys, begin_a, begin_b, end_b, lone, swap)
  target = targets[document, table[:, 1]]
  _add_random(found, is_random, document, target, spans, flat, begin, seed)
  return _truncated(found, max_seq_length, seed)


def _middles(
  start: np.ndarray, stop: np.ndarray, keys: np.ndarray, seed: int
) -> np.ndarray:
  """Returns where A ends: after any sentence of [start, stop) but the last."""
  end_of_a = randomness.uniform(_PURPOSE.SEGMENT_END, seed, *keys.T)
  return start + 1 + (end_of_a * (stop - start - 1)).astype(np.int64)


def _targets(
  ids: np.ndarray, uses: int, most: int, short_seq_prob: float, seed: int
) -> np.ndarray:
  """Returns how long the examples should be, int64 [documents, uses]."""
  draw = (seed, ids[:, None], np.arange(uses)[None])
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


def _chunks_put_back(
  borders: Sequence[int], target: int, key: tuple[int, int, int]
) -> list[tuple[int, int, bool]]:
  """As _chunks, where half of those of several sentences end with their A.

  Returns:
    (first, last, whether B is to come from another document).
  """
  end = len(borders) - 1
  seed, document, use = key
  keys = np.zeros((end, 3), np.uint64)
  keys[:, 0], keys[:, 1], keys[:, 2] = document, use, np.arange(end)
  is_random = randomness.uniform(_PURPOSE.RANDOM_NEXT, seed, *keys.T) < 0.5
  chunks: list[tuple[int, int, bool]] = []
  first = 0
  while first < end:
    full = bisect.bisect_left(borders, borders[first] + target, first + 1)
    last, number = min(full, end), len(chunks)
    random_next = bool(is_random[number]) and last - first > 1
    if random_next:
      at = np.array([first]), np.array([last])
      last = int(_middles(*at, keys[number : number + 1], seed)[0])
    chunks.append((first, last, random_next))
    first = last
  return chunks


def _add_random(
  found: Instances,
  chosen: np.ndarray,
  document: np.ndarray,
  target: np.ndarray,
  spans: Sequence[Span],
  flat: np.ndarray,
  begin: np.ndarray,
  seed: int,
) -> None:
  """Gives the chosen rows a B out of another document, in place.

  Args:
    found: of which these rows have no B yet.
    chosen: bool [rows].
    document: int64 [rows], each row's place in spans.
    target: int64 [rows], the pieces A and B should have together.
    spans, flat, begin: the documents and their borders in the stream.
    seed: of the data set.
  """
  rows = np.nonzero(chosen)[0]
  if not len(rows):
    return
  draw = (seed, *found.keys[rows].T)
  other = randomness.below(len(spans) - 1, _PURPOSE.OTHER_DOCUMENT, *draw)
  other += other >= document[rows]
  count = np.array([len(span.ends) for span in spans])[other]
  first = begin[other] + randomness.below(count, _PURPOSE.OTHER_SENTENCE, *draw)
  wanted = np.maximum(1, target[rows] - found.lengths[rows, 0])
  full = np.searchsorted(flat, flat[first] + wanted)
  last = np.minimum(full, begin[other] + count)
  found.starts[rows, 1] = flat[first]
  found.lengths[rows, 1] = flat[last] - flat[first]
  found.labels[rows] = SWAPPED


def _stream_borders(spans: Sequence[Span]) -> tuple[np.ndarray, np.ndarray]:
  """Returns every document's borders, its 0 first, as places in one stream.

  Returns:
    int64 [documents + sentences], and where each document's begin in it.
  """
  borders, offset = [np.zeros(0, np.int64)], 0
  for span in spans:
    borders.append(np.array([0, *span.ends], np.int64) + offset)
    offset += span.ends[-1]
  begins = np.cumsum([0, *map(len, borders)], dtype=np.int64)[1:-1]
  return np.concatenate(borders), begins


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
    mask: bool [rows, length], where there is a piece; once packed int64, the
      number of its example, from 1.
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
