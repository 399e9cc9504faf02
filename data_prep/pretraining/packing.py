"""Packs several examples into each row of a record, so that little is padding.

Sequence packing (Krell et al. 2021, arXiv 2107.02027): attention stays inside
each example, positions restart, and each [CLS] has its own label. So the loss
of a row is the sum of its examples' losses. `сайн байна уу`, five pieces with
[CLS] and [SEP], shares a row of 16 with an example of nine pieces:

    input_mask               1 1 1 1 1 1 1 1 1 2 2 2 2 2 0 0
    next_sentence_positions  0 9
"""

import dataclasses

import numpy as np

# Positions of a row for each of its labels. Examples of running text are seldom
# shorter; a row of shorter examples has no label left before it is full.
_POSITIONS_A_LABEL = 16


def labels(max_seq_length: int) -> int:
  """Returns the largest number of examples, and so labels, of a packed row.

  It is max_seq_length / 16, rounded down, and at least 2.
  """
  return max(2, max_seq_length // _POSITIONS_A_LABEL)


@dataclasses.dataclass(frozen=True)
class Places:
  """Where each example stands in a packed batch.

  Attributes:
    row: int64 [examples], the row of the example.
    number: int64 [examples], the example's number in its row, from 0.
    start: int64 [examples], the example's first position in its row.
    shape: (rows, positions of a row, largest number of examples of a row) of
      the packed batch.
  """

  row: np.ndarray
  number: np.ndarray
  start: np.ndarray
  shape: tuple[int, int, int]

  def lay(
    self, values: np.ndarray, mask: np.ndarray, filler: int
  ) -> np.ndarray:
    """Moves the values of each example to its place in the packed batch.

    Args:
      values: [examples, length], a value for each position of each example.
      mask: [examples, length], True for the values to move.
      filler: the value of padding.

    Returns:
      [rows, length], of the type of `values`.
    """
    example, column = np.nonzero(mask)
    laid = np.full(self.shape[:2], filler, values.dtype)
    place = self.row[example], self.start[example] + column
    laid[place] = values[example, column]
    return laid

  def numbers(self, mask: np.ndarray) -> np.ndarray:
    """Returns the number of the example at each position, [rows, length].

    The first example of a row has the number 1; padding has 0.

    Args:
      mask: [examples, length], True for the positions that hold a piece.
    """
    each = np.broadcast_to(self.number[:, None] + 1, mask.shape)
    return self.lay(each, mask, 0)

  def one_each(self, values: np.ndarray, filler: int) -> np.ndarray:
    """Moves one value of each example to the example's row and number.

    Args:
      values: [examples], a value for each example, such as its label.
      filler: the value where a row has fewer examples than others.

    Returns:
      int64 [rows, labels].
    """
    laid = np.full((self.shape[0], self.shape[2]), filler, np.int64)
    laid[self.row, self.number] = values
    return laid

  def first(self) -> np.ndarray:
    """Returns the index of the first example of each row, int64 [rows]."""
    return np.nonzero(self.number == 0)[0][
      np.argsort(self.row[self.number == 0])
    ]


def places(
  lengths: np.ndarray, order: np.ndarray, max_seq_length: int
) -> Places:
  """Packs examples into rows, by best fit, and returns their places.

  The examples are placed from the longest to the shortest. Each goes to the row
  with the least free room in which it fits, or begins a new row. A row takes at
  most `labels(max_seq_length)` examples.

  Args:
    lengths: int64 [examples], number of pieces, special ones included, at most
      max_seq_length.
    order: uint64 [examples]; examples of equal length are placed in ascending
      order of this number.
    max_seq_length: positions of a row.
  """
  placements = np.zeros((3, len(lengths)), np.int64)
  most = labels(max_seq_length)
  counts: list[int] = []  # examples, by row
  # Rows by their number of free positions; bit n of `rooms` says whether a row
  # has n.
  by_room: list[list[int]] = [[] for _ in range(max_seq_length + 1)]
  rooms = 0
  for example in np.lexsort((order, -lengths)).tolist():
    size = int(lengths[example])
    if fitting := rooms >> size:
      room = size + (fitting & -fitting).bit_length() - 1
      row = by_room[room].pop()
      if not by_room[room]:
        rooms ^= 1 << room
    else:
      room, row = max_seq_length, len(counts)
      counts.append(0)
    placements[:, example] = row, counts[row], max_seq_length - room
    counts[row] += 1
    if counts[row] < most:
      by_room[room - size].append(row)
      rooms |= 1 << room - size
  shape = (len(counts), max_seq_length, most)
  return Places(placements[0], placements[1], placements[2], shape)
