"""Counts pieces, and how often pieces stand near each other.

`count` sums integers over sequences of piece ids. The sums depend neither on
the order of the sequences nor on the number of processes. The memory depends
on the vocabulary alone: the tables have a row for each piece, and a column for
each of the most frequent pieces (`most_contexts`).
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable

import numpy as np
import scipy.sparse

from data_prep.base import parallel

# Largest number of cells of a table, 0.5 GB, unless the vocabulary is so large
# that _FEWEST_CONTEXTS columns take more: 1 GB for 30,000 pieces.
_MOST_CELLS, _FEWEST_CONTEXTS = 1 << 26, 1 << 12

# The largest distance of two pieces that count as neighbours. Neighbours at
# distance d add 1 / d, in units of 1 / 60: 60 is the least common multiple of 1
# to 6.
WINDOW = 6
_UNIT = 60

# Sequences are cut into blocks of this many pieces. Pieces of one block count
# as being about one subject.
BLOCK = 64
# The largest number of times that a piece counts in a block, so that a refrain
# does not outweigh a text.
_MOST_IN_BLOCK = 2


@dataclasses.dataclass(frozen=True)
class Counts:
  """The counts of pieces and of pairs of pieces, summed over all sequences.

  Attributes:
    frequencies: int64 [vocab_size], occurrences of each piece.
    contexts: int64 [contexts], the ids of the pieces that have a column,
      ascending.
    near: int64 [vocab_size, contexts]: a row is a piece a, a column a piece b.
      The value is the sum of 60 / distance over all pairs of an a and a b in
      one sequence that are at most WINDOW (6) positions apart, in either order.
    together: int64 [vocab_size, contexts]: the number of pairs of an a and a b
      in the same block of 64 positions. A piece counts at most twice in a
      block; pairs of a piece with itself are 0.
  """

  frequencies: np.ndarray
  contexts: np.ndarray
  near: np.ndarray
  together: np.ndarray


def count(
  stretches: Iterable[np.ndarray],
  frequencies: np.ndarray,
  workers: int = 0,
  contexts: int = 0,
) -> Counts:
  """Returns the counts of pieces, and of pieces that stand near each other.

  Args:
    stretches: int32 [n] each, concatenated sequences of piece ids, with −1
      after each sequence and in place of every special piece.
    frequencies: int64 [vocab_size], the result of `frequencies` for the same
      stretches.
    workers: number of processes; 0 starts one for each core. The sums do not
      depend on it.
    contexts: the largest number of columns; 0 means `most_contexts`.
  """
  most = contexts or most_contexts(len(frequencies))
  order = np.argsort(-frequencies, kind="stable")[:most]
  columns = np.sort(order[frequencies[order] > 0])
  shape = (len(frequencies), len(columns))
  near, together = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
  pairs = functools.partial(_pairs, columns=columns, vocab_size=shape[0])
  with contextlib.closing(
    parallel.ordered(pairs, stretches, workers)
  ) as results:
    for part_near, part_together in results:
      _add(near, part_near)
      _add(together, part_together)
  return Counts(frequencies, columns, near, together)


def most_contexts(vocab_size: int) -> int:
  """Returns the largest number of columns of a table for a vocabulary.

  In a vocabulary of at most 8,192 pieces, every piece may have a column. A
  larger vocabulary has fewer columns, but at least 4,096, to save memory: fewer
  columns cost little accuracy.
  """
  return max(_FEWEST_CONTEXTS, _MOST_CELLS // vocab_size)


def frequencies(stretches: Iterable[np.ndarray], vocab_size: int) -> np.ndarray:
  """Returns how often each piece occurs, int64 [vocab_size].

  Args:
    stretches: int32 [n] each, concatenated sequences of piece ids, with −1
      after each sequence and in place of every special piece.
    vocab_size: number of pieces.
  """
  total = np.zeros(vocab_size, np.int64)
  for ids in stretches:
    total += np.bincount(ids[ids >= 0], minlength=vocab_size)
  return total


def _add(table: np.ndarray, part: scipy.sparse.csr_matrix) -> None:
  """Adds a sparse matrix of sums to a table of the same shape, in place."""
  rows = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
  table[rows, part.indices] += part.data


def _pairs(
  ids: np.ndarray, columns: np.ndarray, vocab_size: int
) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
  """Returns the sums `near` and `together` of `Counts` for one stretch.

  Args:
    ids: int32 [n], concatenated sequences of piece ids, with −1 after each
      sequence and in place of every special piece.
    columns: int64 [contexts], the ids of the pieces that have a column.
    vocab_size: number of pieces.

  Returns:
    two int64 matrices [vocab_size, contexts].
  """
  return (
    _near(ids, vocab_size)[:, columns].tocsr(),
    _together(ids, columns, vocab_size),
  )


def _near(ids: np.ndarray, vocab_size: int) -> scipy.sparse.csr_matrix:
  """Returns the sum of 60 / distance for each pair of neighbouring pieces.

  Neighbours are at most WINDOW (6) positions apart, in one sequence. The result
  is int64 [vocab_size, vocab_size] and symmetric.

  Args:
    ids: int32 [n], concatenated sequences of piece ids, with −1 after each
      and in place of every special piece.
    vocab_size: number of pieces.
  """
  shape = (vocab_size, vocab_size)
  sequence = np.cumsum(ids < 0)
  total = scipy.sparse.csr_matrix(shape, dtype=np.int64)
  for distance in range(1, WINDOW + 1):
    left, right = ids[:-distance], ids[distance:]
    # Each −1 begins a new sequence number, so that no pair crosses a −1.
    inside = (sequence[:-distance] == sequence[distance:]) & (left >= 0)
    weights = np.full(np.count_nonzero(inside), _UNIT // distance, np.int64)
    total += scipy.sparse.coo_matrix(
      (weights, (left[inside], right[inside])), shape=shape
    ).tocsr()
  return total + total.T


def _together(
  ids: np.ndarray, columns: np.ndarray, vocab_size: int
) -> scipy.sparse.csr_matrix:
  """Returns how often two pieces occur in the same block of 64 positions.

  The result is int64 [vocab_size, contexts]: the number of pairs of occurrences
  of the two pieces. In a block a piece counts at most twice. Pairs of a piece
  with itself are 0.

  Args:
    ids: int32 [n], concatenated sequences of piece ids, with −1 after each
      and in place of every special piece.
    columns: int64 [contexts], the ids of the pieces that have a column.
    vocab_size: number of pieces.
  """
  block, pieces = _blocks(ids)
  occurrences = scipy.sparse.csr_matrix(
    (np.ones(len(pieces), np.int64), (block, pieces)),
    shape=(int(block.max(initial=-1)) + 1, vocab_size),
  )
  occurrences.sum_duplicates()
  occurrences.data = np.minimum(occurrences.data, _MOST_IN_BLOCK)
  pairs = (occurrences.T @ occurrences[:, columns]).tocoo()
  # Pairs of a piece with itself tell nothing about it.
  distinct = pairs.row != columns[pairs.col]
  return scipy.sparse.csr_matrix(
    (pairs.data[distinct], (pairs.row[distinct], pairs.col[distinct])),
    shape=pairs.shape,
  )


def _blocks(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Cuts the pieces between two −1s into blocks of 64; the last may be shorter.

  Every −1 ends a block, also that of a special piece within a sequence.

  Args:
    ids: int32 [n], concatenated sequences of piece ids, with −1 after each
      and in place of every special piece.

  Returns:
    two int arrays [m] with an entry for each piece that is not special: the
    number of its block, and its id.
  """
  real = ids >= 0
  sequence, pieces = np.cumsum(~real)[real], ids[real]
  starts = np.flatnonzero(np.diff(sequence, prepend=-1))
  lengths = np.diff(np.append(starts, len(pieces)))
  place = np.arange(len(pieces)) - np.repeat(starts, lengths)
  return np.cumsum(place % BLOCK == 0) - 1, pieces
