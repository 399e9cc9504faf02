"""Simulates a full disk, and a disk that fails at a chosen moment.

Python calls its audit hooks before each change of the disk (PEP 578); a hook
that raises prevents the change. RLIMIT_FSIZE limits the writes of compiled
code, such as TensorFlow's.
"""

import contextlib
import errno
import os
import pathlib
import resource
import sys
from collections.abc import Iterator

_CHANGES = {
  "os.rename",
  "os.remove",
  "os.rmdir",
  "os.mkdir",
  "os.link",
  "os.symlink",
  "os.truncate",
  "shutil.rmtree",
  "shutil.move",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Faults:
  """Makes changes in a folder fail after a number of successful changes.

  Args:
    folder: only changes in this folder can fail.

  Attributes:
    left: number of changes that still succeed; if negative, all succeed.
    once: whether only one change fails, and later ones succeed again.
    seen: number of changes so far.
  """

  def __init__(self, folder: pathlib.Path) -> None:
    self._folder = str(folder)
    self.left, self.once, self.seen = -1, False, 0

  def _look(self, event: str, arguments: tuple[object, ...]) -> None:
    """Counts a change; raises OSError if the change is to fail.

    Args:
      event: the name of the audit event.
      arguments: its arguments, of which the first is the path.
    """
    if event == "open":
      path, _, flags = arguments
      changes = isinstance(flags, int) and bool(flags & _WRITES)
    else:
      path, changes = (*arguments, None)[0], event in _CHANGES
    if not changes or not str(path).startswith(self._folder):
      return
    self.seen += 1
    if self.left == 0:
      self.left = -1 if self.once else 0
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    self.left -= 1 if self.left > 0 else 0


_active: list[Faults] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
  """Passes an audit event to all active Faults."""
  for faults in _active:
    faults._look(event, arguments)


_hooked: list[bool] = []


@contextlib.contextmanager
def failing(
  folder: pathlib.Path, after: int = -1, once: bool = False
) -> Iterator[Faults]:
  """Lets `after` changes in a folder succeed, then makes changes fail.

  Yields the Faults, which count the changes. With -1 all changes succeed.

  Args:
    folder: the folder.
    after: number of successful changes.
    once: whether only one change fails.
  """
  if not _hooked:  # a hook cannot be removed
    sys.addaudithook(_hook)
    _hooked.append(True)
  faults = Faults(folder)
  faults.left, faults.once = after, once
  _active.append(faults)
  try:
    yield faults
  finally:
    _active.remove(faults)


@contextlib.contextmanager
def full(most: int) -> Iterator[None]:
  """Limits each file that this process writes to `most` bytes in the block."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
