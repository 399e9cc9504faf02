"""Notes which files are being read, and how far.

    with open_files.noted(path, file):
      ...  # open_files.bytes_read(path, in_copies=False) says how far

The module keeps a list of the open files, in the order of their opening. A
file that is opened while an archive is read is taken for the unpacked copy of
the member that the archive's reader has just passed. If half of the copy has
been read, half of this member's bytes in the archive count as read.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import IO


class _Open:
  """A file that is being read.

  Args:
    path: the path of the file.
    file: the open file.

  Attributes:
    member: for an archive, (begin, end) of the member whose unpacked copy was
      opened last, in bytes from the beginning of the archive.
  """

  def __init__(self, path: str, file: IO[bytes]) -> None:
    self.path, self._file = path, file
    self.member = (0, 0)

  def place(self) -> int:
    """Returns the position in the file in bytes; 0 for a pipe or closed file."""
    try:
      return self._file.tell()
    except (OSError, ValueError):  # it is closed, or a pipe
      return 0

  def share(self) -> float:
    """Returns the share of a local file that has been read, from 0 to 1.

    The result is 1 for a file that was removed.
    """
    try:
      return self.place() / max(1, os.path.getsize(self.path))
    except OSError:  # it is gone
      return 1.0

  def begin_member(self) -> None:
    """Notes that the copy of an archive's member is opened.

    The member ends at the present position in the archive, and begins where the
    member before it ended.
    """
    place = self.place()
    if place != self.member[1]:
      self.member = (self.member[1], place)


_open: list[_Open] = []


@contextlib.contextmanager
def noted(path: str, file: IO[bytes]) -> Iterator[None]:
  """Lists a file as open inside the context, for `bytes_read`.

  Args:
    path: the path of the file.
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
    in_copies: whether the file is an archive whose members are read from
      unpacked copies. If half of the copy of a member has been read, half of
      the member's bytes count, though all of them were unpacked.
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
