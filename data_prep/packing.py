"""Several examples a row of a record, so that hardly a position is padding.

Sequence packing (Krell et al. 2021, arXiv 2107.02027): attention stays inside
of each example, positions begin anew, and each [CLS] has its own label, so a
row's losses are the sum of its examples'. `сайн байна уу`, five pieces with
[CLS] and [SEP], shares a row of 16 with two others:

    input_mask               1 1 1 1 1 2 2 2 2 2 2 3 3 3 3 0
    next_sentence_positions  0 5
"""

import dataclasses

import numpy as np

# A row has a label for each so many of its positions. Running text is seldom
# cut shorter; a row of shorter ones ends before its positions do.
_POSITIONS_A_LABEL = 16


def labels(max_seq_length: int) -> int:
  """Returns how many examples share a row at most."""
  return max(2, max_seq_length // _POSITIONS_A_LABEL)


@dataclasses.dataclass(frozen=True)
class Places:
  """Where each example goes.

  Attributes:
    row: int64 [examples], in the packed batch.
    number: int64 [examples], among those of its row, from 0.
    start: int64 [examples], its first position.
    shape: rows, positions and labels of the packed batch.
  """

  row: np.ndarray
  number: np.ndarray
  start: np.ndarray
  shape: tuple[int, int, int]

  def lay(
    self, values: np.ndarray, mask: np.ndarray, filler: int
  ) -> np.ndarray:
    """Lays [examples, length] into [rows, length], where `mask` is true."""
    example, column = np.nonzero(mask)
    laid = np.full(self.shape[:2], filler, values.dtype)
    place = self.row[example], self.start[example] + column
    laid[place] = values[example, column]
    return laid

  def numbers(self, mask: np.ndarray) -> np.ndarray:
    """Returns each position's example, from 1; 0 on padding; [rows, length]."""
    each = np.broadcast_to(self.number[:, None] + 1, mask.shape)
    return self.lay(each, mask, 0)

  def one_each(self, values: np.ndarray, filler: int) -> np.ndarray:
    """Lays [examples] into [rows, labels]."""
    laid = np.full((self.shape[0], self.shape[2]), filler, np.int64)
    laid[self.row, self.number] = values
    return laid

  def first(self) -> np.ndarray:
    """Returns the example that begins each row, int64 [rows]."""
    return np.nonzero(self.number == 0)[0][
      np.argsort(self.row[self.number == 0])
    ]


def places(
  lengths: np.ndarray, order: np.ndarray, max_seq_length: int
) -> Places:
  """Puts each example into the row that it fills best, long ones first.

  Args:
    lengths: int64 [examples], pieces with the special ones.
    order: uint64 [examples], decides between those of one length.
    max_seq_length: positions of a row.
  """
  placements = np.zeros((3, len(lengths)), np.int64)
  most = labels(max_seq_length)
  counts: list[int] = []  # examples, by row
  # Rows by what is left of them; a bit of `rooms` says where there is one.
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
