"""Cuts documents into segment pairs, which are spans of a stream of pieces.

The pairs are those of google-research/albert's create_instances_from_document,
with four differences. A chunk of one sentence, which upstream pairs with
another document under the label "wrong order" (so that topic gives the answer
away), becomes `[CLS] A [SEP]` with label NO_PAIR. Text that does not fit in an
example begins the next example, where upstream truncates it; a sentence that is
longer than an example becomes several segments. A random segment B is as long
as the text that it replaces, and comes from the pool of random_segments. And
each chunk draws whether it is short, where upstream draws for each document.
"""

import bisect
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.base import randomness
from data_prep.pretraining import random_segments, segment_borders

# Labels of an instance. With random_next_sentence, 1 means a random segment B.
IN_ORDER, SWAPPED, NO_PAIR = 0, 1, -1
_PURPOSE = randomness.Purpose
_SPECIAL_PIECES = 3  # [CLS], [SEP], [SEP]; one less without a segment B


@dataclasses.dataclass(frozen=True)
class Instances:
  """Segment pairs as spans of a flat stream of pieces, one row an instance.

  Attributes:
    keys: uint64 [rows, 3], the random key of the instance: document id, use of
      the document, number in the document.
    starts: int64 [rows, 2], the first positions of segments A and B in the
      stream. Random segments are in the pool of random_segments, whose
      positions follow those of the stream.
    lengths: int64 [rows, 2], pieces of A and B; 0 for B if there is no pair.
    labels: int64 [rows], IN_ORDER, SWAPPED (or random) or NO_PAIR.
  """

  keys: np.ndarray
  starts: np.ndarray
  lengths: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Span:
  """A document in the stream of pieces.

  Attributes:
    id: the number from which the random keys of the document are made.
    end: the position in the stream after the document's last piece. The
      document begins at the `end` of the span before.
    uses: how many times the document is cut into instances.
    isolated: whether the sentences are unrelated, and so make no pairs.
  """

  id: int
  end: int
  uses: int = 1
  isolated: bool = False


@dataclasses.dataclass(frozen=True)
class _Drawn:
  """The random numbers for each use of each document, as [documents][uses].

  Each is 64 random bits, from which the chunks' own draws are made.

  Attributes:
    shorts: for the draws whether a chunk is short, and how short.
    middles: for the draws of the end of segment A.
    randoms: for the draws whether segment B is random; None if no B is random.
    may_pair: whether chunks have a segment B at all.
  """

  shorts: list[list[int]]
  middles: list[list[int]]
  randoms: list[list[int]] | None
  may_pair: bool


class _Cuts(NamedTuple):
  """The parameters by which one use of a document is cut into chunks.

  Attributes:
    longest: largest number of pieces of a chunk.
    short_seq_prob: share of the chunks that are shorter.
    shorts, middles, randoms: 64 random bits each, the entries of _Drawn for
      this use; `middles` is None if no chunk has a segment B, `randoms` if no B
      is random.
  """

  longest: int
  short_seq_prob: float
  shorts: int
  middles: int | None
  randoms: int | None


# A chunk: start of A, end of A, end of the chunk (equal to the end of A if it
# has no B), and whether B is random.
_Chunk = tuple[int, int, int, bool]


def create(
  spans: Sequence[Span],
  borders: segment_borders.Borders,
  *,
  max_seq_length: int,
  short_seq_prob: float,
  random_next_sentence: bool = False,
  pool: random_segments.Pool | None = None,
  seed: int,
) -> Instances:
  """Cuts documents into instances, each document as often as it is used.

  Segments are gathered until they fill the sequence. The gathered chunk is
  split in two at a border of segments, and the two parts are swapped half the
  time. The chunks of a document contain its whole text.

  Args:
    spans: the documents.
    borders: the borders of the stream's segments; each document's end is one of
      them.
    max_seq_length: pieces of an example, special ones included.
    short_seq_prob: share of the chunks that are shorter (BERT paper, appendix
      A.2), so that the model sees all lengths. BERT's code draws once for each
      document, so that one long book may be cut into single sentences.
    random_next_sentence: whether B, half the time, comes from `pool` in place
      of swapping; the chunk's second part then begins the next chunk (BERT
      paper, section 3.1).
    pool: the text of random segments. Without a pool no instance has a pair
      then, since all pairs would have the same label.
    seed: the seed of the whole data set.
  """
  ids = np.array([span.id for span in spans], np.uint64)
  room = max_seq_length - _SPECIAL_PIECES
  drawn = _Drawn(
    shorts=_states(_PURPOSE.SHORT, spans, ids, seed),
    middles=_states(_PURPOSE.SEGMENT_END, spans, ids, seed),
    randoms=_states(_PURPOSE.RANDOM_NEXT, spans, ids, seed)
    if random_next_sentence
    else None,
    may_pair=not random_next_sentence or pool is not None,
  )
  table = _table(spans, borders, room, short_seq_prob, drawn)
  keys = table[:, :3].astype(np.uint64)
  keys[:, 0] = ids[table[:, 0]]
  begin, middle, stop = table[:, 3:6].T
  is_random = table[:, 6] == 1
  swap = randomness.uniform(_PURPOSE.SWAP, seed, *keys.T) < 0.5
  pairs = _pairs(keys, begin, middle, stop, swap & (not random_next_sentence))
  if is_random.any():
    assert pool is not None, "without a pool no chunk is one of a pair"
    _add_random(pairs, is_random, stop - middle, borders, pool, room, seed)
  return pairs


def _uses(spans: Sequence[Span]) -> np.ndarray:
  """Returns int64 [0, 1, … n − 1], where n is the largest `uses` of a span."""
  return np.arange(max((span.uses for span in spans), default=0))


def _states(
  purpose: randomness.Purpose, spans: Sequence[Span], ids: np.ndarray, seed: int
) -> list[list[int]]:
  """Returns 64 random bits for each use of each document: [documents][uses].

  Every document has as many entries as the document that is used most.

  Args:
    purpose: the purpose of the draw.
    spans: the documents.
    ids: uint64 [documents], the ids of the documents.
    seed: the seed of the data set.
  """
  draw = (seed, ids[:, None], _uses(spans)[None])
  return randomness.bits(purpose, *draw).tolist()


def _table(
  spans: Sequence[Span],
  borders: segment_borders.Borders,
  room: int,
  short_seq_prob: float,
  drawn: _Drawn,
) -> np.ndarray:
  """Cuts the documents; returns int64 [rows, 7], one row for each chunk.

  The columns are the index of the document in `spans`, the number of the use,
  the number of the chunk in this use, and the four values of `_chunks`: start,
  end of the first part, end, and whether segment B is random.

  Args:
    spans: the documents.
    borders: the borders of the stream's segments.
    short_seq_prob: share of the chunks that are shorter.
    room: largest number of pieces of a chunk with two segments.
    drawn: the random numbers.
  """
  ends = borders.ends.tolist()
  rows: list[tuple[int, int, int, int, int, int, bool]] = []
  begin = 0
  for place, span in enumerate(spans):
    pairs = drawn.may_pair and not span.isolated
    # Without a segment B there is no second [SEP].
    more = 0 if pairs else 1
    for use in range(span.uses):
      cuts = _Cuts(
        room + more,
        short_seq_prob,
        drawn.shorts[place][use],
        drawn.middles[place][use] if pairs else None,
        drawn.randoms[place][use] if pairs and drawn.randoms else None,
      )
      chunks = _chunks(begin, span.end, ends, borders, cuts)
      rows += [
        (place, use, number, *chunk) for number, chunk in enumerate(chunks)
      ]
    begin = span.end
  return np.array(rows, np.int64).reshape(-1, 7)


def _chunks(
  start: int,
  stop: int,
  ends: Sequence[int],
  borders: segment_borders.Borders,
  cuts: _Cuts,
) -> Iterator[_Chunk]:
  """Yields the chunks of a document, in the order of its text.

  A chunk is (start, end of its first part, end, whether segment B is random):
  positions in the stream and a bool. It ends with the segment in which it
  reaches `_target` pieces, or with the document; if that makes it longer than
  cuts.longest, it ends where `Borders.cut` says. The first part ends at a random
  border of segments inside the chunk; without one, or if cuts.middles is None, it
  is the whole chunk. After a chunk whose segment B is random, the
  next chunk begins where the first part ends.

  Args:
    start, stop: the first position of the document in the stream, and the first
      position after it.
    ends: `borders.ends` as a list of ints, for fast search.
    borders: the borders of the stream.
    cuts: how to cut.
  """
  number = 0
  first = bisect.bisect_right(ends, start)  # the end of the segment at `start`
  while start < stop:
    target = _target(cuts, number)
    last = bisect.bisect_left(ends, min(start + target, stop), first)
    end = ends[last]
    if end - start > cuts.longest:
      end = borders.cut(start, cuts.longest)
      last = bisect.bisect_left(ends, end, first)
    middle, is_random = end, False
    if cuts.middles is not None and last > first:
      chance = randomness.fraction(randomness.further(cuts.middles, number))
      middle = ends[first + int(chance * (last - first))]
      is_random = cuts.randoms is not None and (
        randomness.fraction(randomness.further(cuts.randoms, number)) < 0.5
      )
    yield start, middle, end, is_random
    number += 1
    start = middle if is_random else end
    first = bisect.bisect_right(ends, start, first)


def _target(cuts: _Cuts, number: int) -> int:
  """Returns the number of pieces that a chunk must reach before it ends.

  It is cuts.longest, or, for a share short_seq_prob of the chunks, a random
  number from 2 to cuts.longest.

  Args:
    cuts: how to cut the document.
    number: the number of the chunk in the document.
  """
  chance = randomness.fraction(randomness.further(cuts.shorts, number))
  if chance >= cuts.short_seq_prob:
    return cuts.longest
  # Below short_seq_prob, chance / short_seq_prob is uniform from 0 to 1.
  return 2 + int(chance / cuts.short_seq_prob * (cuts.longest - 1))


def _pairs(
  keys: np.ndarray,
  begin: np.ndarray,
  middle: np.ndarray,
  stop: np.ndarray,
  swap: np.ndarray,
) -> Instances:
  """Returns the instances of chunks: segments A and B, or A alone.

  Args:
    keys: uint64 [rows, 3], the random key of each chunk.
    begin, middle, stop: int64 [rows], the positions in the stream of the start
      of a chunk, the end of its first part, and its end. A chunk whose middle
      is its stop has no second part, and gives no segment B.
    swap: bool [rows], whether the second part becomes segment A.
  """
  lone = middle == stop
  swap = swap & ~lone
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


def _add_random(
  pairs: Instances,
  chosen: np.ndarray,
  displaced: np.ndarray,
  borders: segment_borders.Borders,
  pool: random_segments.Pool,
  room: int,
  seed: int,
) -> None:
  """Replaces segment B of the chosen rows by text of the pool, in place.

  The new segment B is about as long as the replaced text, and ends as that text
  does, with a segment or between words. So neither the length nor the end gives
  the label away.

  Args:
    pairs: the instances; their chosen rows have the replaced text as B.
    chosen: bool [rows], the rows that get a random B.
    displaced: int64 [rows], pieces of the replaced text.
    borders: the borders of the stream; the pool's positions begin at the
      stream's length.
    pool: the text of the random segments.
    room: largest number of pieces of A and B together.
    seed: the seed of the data set.
  """
  rows = np.nonzero(chosen)[0]
  keys, wanted = pairs.keys[rows], displaced[rows]
  most = room - pairs.lengths[rows, 0]
  chance = randomness.uniform(_PURPOSE.OTHER_SEGMENT, seed, *keys.T)
  start, first, last = pool.draw(keys[:, 0], chance)
  # Near the end of its running text, a segment begins earlier.
  latest = np.maximum(last - wanted, first)
  start = np.minimum(start, pool.borders.before(latest))
  with_segment = np.isin(pairs.starts[rows, 1] + wanted, borders.ends)
  nearest = pool.borders.nearest(np.minimum(start + wanted, last), start)
  end = np.where(with_segment, nearest, last)
  too_long = end - start > most
  end[too_long] = pool.borders.cuts(start[too_long], most[too_long])
  pairs.starts[rows, 1] = len(borders.word) - 1 + start
  pairs.lengths[rows, 1] = end - start
  pairs.labels[rows] = SWAPPED


@dataclasses.dataclass(frozen=True)
class Sequences:
  """Instances laid out in rows of max_seq_length pieces.

  Attributes:
    ids: int64 [rows, length], the piece ids, padded with the pad id.
    mask: bool [rows, length], True on pieces; in packed rows int64, the number
      of the example, from 1.
    segments: int64 [rows, length], 1 in B and its [SEP].
    text: bool [rows, length], True on pieces that are not special.
  """

  ids: np.ndarray
  mask: np.ndarray
  segments: np.ndarray
  text: np.ndarray


def assemble(
  pairs: Instances,
  stream: np.ndarray,
  *,
  max_seq_length: int,
  pad_id: int,
  cls_id: int,
  sep_id: int,
) -> Sequences:
  """Returns rows `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]` without a pair.

  Args:
    pairs: the instances, whose `starts` are positions in the stream.
    stream: int32 [pieces], at least one piece; the pool's pieces, if any,
      follow those of the documents.
    max_seq_length: the rows' length.
    pad_id, cls_id, sep_id: the tokenizer's ids.
  """
  column = np.arange(max_seq_length)[None]
  a, b = pairs.lengths[:, :1], pairs.lengths[:, 1:]
  paired = (pairs.labels != NO_PAIR)[:, None]
  in_a = (column >= 1) & (column <= a)
  in_b = paired & (column >= a + 2) & (column < a + 2 + b)
  ends = np.where(paired, a + b + 3, a + 2)
  place = np.where(in_a, pairs.starts[:, :1] + column - 1, 0)
  place = np.where(in_b, pairs.starts[:, 1:] + column - a - 2, place)
  text = in_a | in_b
  ids = np.where(text, stream[place], pad_id).astype(np.int64)
  ids[:, 0] = cls_id
  ids[(column == a + 1) | (paired & (column == ends - 1))] = sep_id
  mask = column < ends
  return Sequences(ids, mask, ((column > a + 1) & mask).astype(np.int64), text)
