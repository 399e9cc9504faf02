"""Sorts pairs of numbers in bounded memory, however many pairs there are.

    with number_sort.Sorter(None, memory=1 << 26) as sorter:
      sorter.add(np.array([[7, 1], [5, 0]], np.uint64))
      list(sorter.blocks())  # [array([[5, 0]]), array([[7, 1]])]

A file holds runs of pairs, each sorted in memory. At the end the runs are
merged block by block. `external_sort` sorts records of bytes, one at a time;
for numbers the work on whole arrays is about a hundred times faster.
"""

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from data_prep.base import options

_BYTES = 16  # of a pair
# Bytes for each pair while a run is sorted: the pair twice, two indices.
_BYTES_IN_MEMORY = 48


class Sorter:
  """Sorts pairs of numbers: takes them in any order, yields them ascending.

  A sorter is a context manager; its end closes the temporary file. The file has
  no name, so that a killed process leaves nothing behind.

  Args:
    folder: the local folder of the file; None for the system's.
    memory: the largest size in bytes of the arrays in memory. The pairs with
      the same first number are all in memory at once, whatever their size.
  """

  def __init__(self, folder: str | None, memory: int) -> None:
    self._place = folder or tempfile.gettempdir()
    self._file: BinaryIO = tempfile.TemporaryFile(dir=self._place)  # noqa: SIM115 -- closed by __exit__
    self._most = max(2, memory // _BYTES_IN_MEMORY)
    self._held: list[np.ndarray] = []
    self._held_pairs = 0
    self._ends = [0]  # of the runs in the file, in pairs

  def __enter__(self) -> "Sorter":
    return self

  def __exit__(self, *_: object) -> None:
    self._file.close()

  def add(self, pairs: np.ndarray) -> None:
    """Adds pairs to sort: uint64 [pairs, 2], in any order."""
    for begin in range(0, len(pairs), self._most):
      part = pairs[begin : begin + self._most]
      if self._held_pairs + len(part) > self._most:
        self._write_run()
      self._held.append(part)
      self._held_pairs += len(part)

  def blocks(self) -> Iterator[np.ndarray]:
    """Yields all pairs in order, in arrays: uint64 [pairs, 2], never empty.

    The pairs are sorted by their first number, and by the second where the
    first is equal. Pairs with the same first number are in the same array.
    No pair can be added afterwards.
    """
    self._write_run()
    left = np.empty((0, 2), np.uint64)
    for block in self._merged():
      block = np.concatenate([left, block])
      cut = int(np.searchsorted(block[:, 0], block[-1, 0]))
      if cut:
        yield block[:cut]
      left = block[cut:]
    if len(left):
      yield left

  def _write_run(self) -> None:
    if not self._held:
      return
    run = np.concatenate(self._held)
    self._held, self._held_pairs = [], 0
    with options.naming(self._place):
      self._file.write(_in_order(run).data)
      self._file.flush()
    self._ends.append(self._ends[-1] + len(run))

  def _merged(self) -> Iterator[np.ndarray]:
    """Yields all pairs in order, merged from the sorted runs in the file.

    They come in arrays uint64 [pairs, 2] that fit in the given memory. Pairs
    with the same first number may be in two arrays.
    """
    runs = [
      _Run(self._file.fileno(), begin, end)
      for begin, end in itertools.pairwise(self._ends)
    ]
    size = max(1, self._most // max(1, len(runs)))
    while runs := [run for run in runs if run.fill(size)]:
      last = min((tuple(r.head[-1]) for r in runs if r.goes_on), default=None)
      yield _in_order(np.concatenate([run.taken(last) for run in runs]))


def _in_order(pairs: np.ndarray) -> np.ndarray:
  return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


@dataclasses.dataclass
class _Run:
  """A sorted run of pairs in the file: those that are not merged yet.

  Attributes:
    file: the descriptor of the file.
    begin, end: the part of the file that is still to be read: indices of pairs.
    head: the pairs that were read but not merged yet, uint64 [pairs, 2].
  """

  file: int
  begin: int
  end: int
  head: np.ndarray = dataclasses.field(
    default_factory=lambda: np.empty((0, 2), np.uint64)
  )

  @property
  def goes_on(self) -> bool:
    """Whether the file holds pairs of the run that were not read yet."""
    return self.begin < self.end

  def fill(self, size: int) -> bool:
    """Reads up to `size` pairs into the head if the head is empty.

    Returns:
      whether the head then holds any pair; False if the run has ended.
    """
    if not len(self.head) and self.goes_on:
      count = min(size, self.end - self.begin)
      content = os.pread(self.file, count * _BYTES, self.begin * _BYTES)
      self.head = np.frombuffer(content, np.uint64).reshape(-1, 2)
      self.begin += count
    return len(self.head) > 0

  def taken(self, last: tuple[int, int] | None) -> np.ndarray:
    """Removes pairs from the beginning of the head, and returns them.

    Args:
      last: the pair up to which, this pair included, pairs are taken; None for
        all pairs of the head.

    Returns:
      the pairs, uint64 [pairs, 2].
    """
    cut = len(self.head)
    if last is not None:
      begin, end = (
        int(np.searchsorted(self.head[:, 0], last[0], side))
        for side in ("left", "right")
      )
      among = self.head[begin:end, 1]
      cut = begin + int(np.searchsorted(among, last[1], "right"))
    taken, self.head = self.head[:cut], self.head[cut:]
    return taken
