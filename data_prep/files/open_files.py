"""Notes which files are being read, and how far.

    with open_files.noted(path, file):
      ...  # open_files.bytes_read(path, False) says how far

The files are listed in the order in which they were opened. A file that is
opened while an archive is read is a copy of a member, so that the member's share
counts in that of the archive.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import IO


class _Open:
  """A file that is being read.

  Args:
    path: its path.
    file: the open file.

  Attributes:
    member: the places in the file between which the member of an archive lies
      whose copy was opened last.
  """

  def __init__(self, path: str, file: IO[bytes]) -> None:
    self.path, self._file = path, file
    self.member = (0, 0)

  def place(self) -> int:
    """Returns the number of bytes before the place where the reading goes on."""
    try:
      return self._file.tell()
    except (OSError, ValueError):  # it is closed, or a pipe
      return 0

  def share(self) -> float:
    """Returns the share of a local file that has been read, from 0 to 1."""
    try:
      return self.place() / max(1, os.path.getsize(self.path))
    except OSError:  # it is gone
      return 1.0

  def begin_member(self) -> None:
    """Notes that a copy of the bytes before this place is opened."""
    place = self.place()
    if place != self.member[1]:
      self.member = (self.member[1], place)


_open: list[_Open] = []


@contextlib.contextmanager
def noted(path: str, file: IO[bytes]) -> Iterator[None]:
  """Notes that a file is read inside the context.

  Args:
    path: its path.
    file: the open file, whose method `tell` is called.
  """
  entry = _Open(path, file)
  for outer in _open[-1:]:
    outer.begin_member()
  _open.append(entry)
  try:
    yield
  finally:
    _open.remove(entry)


def bytes_read(path: str, in_copies: bool) -> int:
  """Returns how many bytes of a file have been read; 0 if it is not open.

  Of a compressed file, the compressed bytes count.

  Args:
    path: the path of the file.
    in_copies: whether it is an archive, of which a member counts as far as its
      copy has been read, and not as far as it has been unpacked.
  """
  entries = list(_open)  # another thread may change it
  for number, entry in enumerate(entries):
    if entry.path == path:
      if not in_copies:
        return entry.place()
      begin, end = entry.member
      shares = [inner.share() for inner in entries[number + 1 : number + 2]]
      return begin + int((end - begin) * min([1.0, *shares]))
  return 0
