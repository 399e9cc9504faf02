"""Lets only one program at a time, the owner, write in an output folder.

    with ownership.owning(folder):
      ...  # nobody else writes there, nor in the folders above and below

The owner of a local folder holds a lock on the file `.NAME.lock` beside it. The
system releases the lock when the process ends, even if it is killed. The owner
of a folder in a bucket writes the object `.lock` in it, and writes it anew
every few seconds; an object that no longer changes was left by a dead process.
"""

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import IO

from absl import logging

from data_prep.base import options
from data_prep.files import gcs, storage

_NAME = ".lock"
# A lock is tried several times, because `is_anothers` of another process takes
# it for a moment.
_TRIES, _MOMENT = 6, 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

# Seconds between two writes of a lock object, and until an owner that no longer
# writes, having missed four, is taken for dead.
_BEAT, _PATIENCE = 15.0, 75.0

_held: set[str] = set()  # the folders of which this process is the owner


@dataclasses.dataclass(frozen=True)
class _Owner:
  """The process that owns a folder, as its lock describes it.

  Attributes:
    program: the name of the process's program.
    pid: the id of the process.
    host: the name of the machine on which the process runs.
    machine: the boot id of the machine and the namespace of its process ids; ""
      if they are unknown.
    token: random text, different for each owner.
  """

  program: str
  pid: int
  host: str
  machine: str
  token: str

  @classmethod
  def this(cls) -> "_Owner":
    """Returns a description of this process, with a new token."""
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0] or "python"
    return cls(
      program,
      os.getpid(),
      socket.gethostname(),
      _machine(),
      secrets.token_hex(),
    )

  @classmethod
  def of(cls, content: bytes) -> "_Owner | None":
    """Returns the owner that a lock's content describes.

    The result is None for content that is not complete.
    """
    try:
      return cls(**json.loads(content))
    except (ValueError, TypeError):
      return None

  def content(self, beat: int = 0) -> bytes:
    """Returns the content of a lock: the owner as JSON, after some spaces.

    Args:
      beat: the number of times that the lock was written anew. The number of
        spaces is `beat` modulo 100, so that the content changes each time.
    """
    return b" " * (beat % 100) + json.dumps(dataclasses.asdict(self)).encode()

  def is_gone(self) -> bool:
    """Returns whether the owner is known to have ended.

    The result is False for an owner on another or on an unknown machine.
    """
    if not self.machine or self.machine != _machine():
      return False
    try:
      os.kill(self.pid, 0)
    except ProcessLookupError:
      return True
    except OSError:  # another user's
      return False
    return False


def _machine() -> str:
  """Returns the boot id and the namespace of process ids of this machine.

  The result is "" on a system that does not tell them.
  """
  try:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
      return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ""


def _refused(folder: str, content: bytes) -> options.InputError:
  """Returns the error for a folder that another program owns.

  Args:
    folder: the folder.
    content: the content of the folder's lock, which names the program.
  """
  owner = _Owner.of(content)
  return options.InputError(
    f"{folder} for this program alone",
    f"{owner.program}, process {owner.pid} on {owner.host}, which writes there"
    if owner
    else "another program, which writes there",
    "let it end, or give another folder",
  )


@contextlib.contextmanager
def owning(*folders: str) -> Iterator[None]:
  """Makes this process the owner of output folders inside the context.

  In a bucket the function may wait 75 seconds, to see whether the process that
  wrote a lock still lives. Where local files cannot be locked, the folder has
  no owner, and a warning is logged.

  Args:
    *folders: local or gs://; they need not exist yet. "" is ignored.

  Raises:
    options.InputError: when another program, or this one, owns one of them; or
      when another program owns a folder above one of them, or a local folder
      directly in one of them. (Locks further down are not looked for: a folder
      may hold millions of files.)
  """
  with contextlib.ExitStack() as stack:
    for folder in filter(None, folders):
      remote = storage.is_remote(folder)
      stack.enter_context((_of_bucket if remote else _of_disk)(folder))
    yield


def is_anothers(folder: str) -> bool:
  """Returns whether another process owns a folder, or a folder above it.

  The result is False if this process owns the folder, or a folder between it
  and the other process's. In a bucket the result is True for the lock of a dead
  process too.
  """
  return _anothers(_with_those_above(folder)) is not None


def _anothers(places: Iterable[str]) -> str | None:
  """Returns the first of the given folders that another process owns.

  The search ends at a folder that this process owns. The result is None if no
  folder before has another owner. In a bucket, an owner may also be a process
  that has ended.
  """
  for place in places:
    if place in _held:
      return None
    if storage.is_remote(place):
      if gcs.get(f"{place}/{_NAME}"):
        return place
    elif any(map(_is_locked, _places(place))):
      return place
  return None


def _refuse_nested(folder: str) -> None:
  """Raises InputError if another process owns a folder around `folder`.

  Checked are all folders above it and, on a disk, the folders directly in it.
  In a bucket, a dead owner does not count.

  Raises:
    options.InputError: when another process owns such a folder; the message
      names the process.
  """
  place = _anothers(itertools.islice(_with_those_above(folder), 1, None))
  if storage.is_remote(folder):
    there = gcs.get(f"{place}/{_NAME}") if place else None
    if place and there and not _is_dead(f"{place}/{_NAME}", place, *there):
      raise _refused(place, there[0])
    return
  if place := place or _anothers_in(os.path.realpath(folder)):
    raise _refused(place, _lock_content(place))


def _anothers_in(target: str) -> str | None:
  """Returns a folder directly in a local folder that another process owns.

  The result is None if there is no such folder.
  """
  with contextlib.suppress(OSError):  # it does not exist yet
    return _anothers(
      os.path.join(target, name[1 : -len(_NAME)])
      for name in sorted(os.listdir(target))
      if name.startswith(".") and name.endswith(_NAME) and name != _NAME
    )
  return None


def _lock_content(target: str) -> bytes:
  """Returns the content of a local folder's lock file, if it is locked.

  The result is b"" if no other process holds the lock.
  """
  for path in filter(_is_locked, _places(target)):
    with contextlib.suppress(OSError), open(path, "rb") as file:
      return file.read()
  return b""


def _with_those_above(folder: str) -> Iterator[str]:
  """Yields a folder and all folders above the folder; the root or bucket last.

  Of a local folder the paths are absolute, with symbolic links resolved.
  """
  if storage.is_remote(folder):
    parts = folder.removeprefix(gcs.SCHEME).rstrip("/").split("/")
    for count in range(len(parts), 0, -1):
      yield gcs.SCHEME + "/".join(parts[:count])
    return
  place, last = os.path.realpath(folder), ""
  while place != last:
    yield place
    place, last = os.path.dirname(place), place


# On a disk.


def _places(target: str) -> tuple[str, str]:
  """Returns the two possible paths of the lock file of a local folder.

  The first path is beside the folder. The second path is in the folder; it is
  used if the first cannot be written.
  """
  above, name = os.path.split(target)
  return os.path.join(above, f".{name}{_NAME}"), os.path.join(target, _NAME)


@contextlib.contextmanager
def _of_disk(folder: str) -> Iterator[None]:
  """Makes this process the owner of a local folder inside the context.

  On a disk without file locks, it only logs a warning. Where no lock file can
  be written, neither beside the folder nor in it, the folder has no lock.

  Raises:
    options.InputError: when another process owns the folder, or a folder that
      `_refuse_nested` checks.
    OSError: for another error of the disk.
  """
  target = os.path.realpath(folder)
  with _above(target), contextlib.ExitStack() as stack:
    for path in _places(target):
      try:
        stack.enter_context(_locked(path, folder))
        break
      except (
        PermissionError,
        FileNotFoundError,
        NotADirectoryError,
        IsADirectoryError,
      ):
        # Where no lock can be written, no output can: that error is reported.
        continue
      except OSError as error:
        if error.errno == errno.EROFS:
          continue
        if error.errno not in _NO_LOCKS:
          raise
        logging.warning(
          "%s: the disk has no file locks; let no second program write there",
          folder,
        )
        break
    _refuse_nested(target)
    _held.add(target)
    stack.callback(_held.discard, target)
    yield


@contextlib.contextmanager
def _above(target: str) -> Iterator[None]:
  """Makes the missing folders above a target, if the system allows it.

  When the context ends, the new folders that are empty are removed.
  """
  above = os.path.dirname(target)
  made = []
  while not os.path.exists(above):
    made.append(above)
    above = os.path.dirname(above)
  with contextlib.suppress(OSError):  # the output's own error is reported
    os.makedirs(os.path.dirname(target), exist_ok=True)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      for folder in made:
        os.rmdir(folder)


@contextlib.contextmanager
def _locked(path: str, folder: str) -> Iterator[None]:
  """Holds the lock on a file inside the context, then removes the file.

  Args:
    path: the file, which is made if it is missing.
    folder: the folder that the file protects, for messages.

  Raises:
    options.InputError: when another process holds the lock.
    OSError: when the file cannot be opened, or the disk has no locks.
  """
  with _taken(path, folder) as file:
    with contextlib.suppress(OSError):  # a full disk; the lock holds anyway
      file.truncate(0)
      file.write(_Owner.this().content())
    try:
      yield
    finally:
      with contextlib.suppress(OSError):
        os.unlink(path)


def _taken(path: str, folder: str) -> IO[bytes]:
  """Opens and locks a file; returns the open file.

  Args:
    path: the lock file, which is made if it is missing.
    folder: the folder that the file protects, for messages.

  Raises:
    options.InputError: when another process holds the lock in all of _TRIES
      tries.
    OSError: when the file cannot be opened, or the disk has no locks.
  """
  for number in range(_TRIES):
    # Unbuffered, so that closing it has nothing to write to a full disk.
    file = os.fdopen(
      os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666),
      "r+b",
      buffering=0,
    )
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if _is_at(file, path):
        return file
      file.close()  # its owner left, and took the file away
    except BlockingIOError:
      content = file.read()
      file.close()
      if number == _TRIES - 1:
        raise _refused(folder, content) from None
      time.sleep(_MOMENT)
    except BaseException:
      file.close()
      raise
  raise _refused(folder, b"")


def _is_at(file: IO[bytes], path: str) -> bool:
  """Returns whether an open file is still the file at a path."""
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except FileNotFoundError:
    return False


def _is_locked(path: str) -> bool:
  """Returns whether another process holds the lock on a file.

  The result is False for a file that is missing or cannot be read.
  """
  try:
    with open(path, "rb") as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:  # no lock, or no permission
    return False
  return False


# In a bucket.


@contextlib.contextmanager
def _of_bucket(folder: str) -> Iterator[None]:
  """Makes this process the owner of a folder in a bucket inside the context.

  Raises:
    options.InputError: when another living process owns the folder or a folder
      above it.
  """
  place = folder.rstrip("/")
  path, owner = f"{place}/{_NAME}", _Owner.this()
  _refuse_nested(place)
  generation = _written(path, folder, owner)
  stop = threading.Event()
  beats = _Beats(path, folder, owner, generation, stop)
  beats.start()
  _held.add(place)
  try:
    yield
  finally:
    _held.discard(place)
    stop.set()
    beats.join()
    gcs.delete(path, beats.generation)


def _written(path: str, folder: str, owner: _Owner) -> int:
  """Writes the lock object, unless a living owner has written it already.

  Args:
    path: the lock object.
    folder: the folder that the object protects, for messages.
    owner: this process.

  Returns:
    the generation of the new object.

  Raises:
    options.InputError: when a living owner has written the object.
  """
  generation: int | None = 0
  while True:
    assert generation is not None
    if made := gcs.put(path, owner.content(), generation):
      return made
    if not (there := gcs.get(path)):
      generation = 0
      continue
    content, generation = there
    if not _is_dead(path, folder, content, generation):
      raise _refused(folder, content)
    logging.warning(
      "%s: its owner has ended; this program takes it over", folder
    )


def _is_dead(path: str, folder: str, content: bytes, generation: int) -> bool:
  """Returns whether the owner that wrote a lock object has ended.

  If the owner is not known to have ended, the function waits at most about
  _PATIENCE seconds: the result is False as soon as the object is written again,
  and True if it disappears or does not change.

  Args:
    path: the lock object.
    folder: the folder that the object protects, for messages.
    content, generation: content and generation of the object when it was last
      read.
  """
  owner = _Owner.of(content)
  if owner and owner.is_gone():
    return True
  logging.warning(
    "%s; waiting up to %d s to see whether it lives",
    _refused(folder, content),
    _PATIENCE,
  )
  end = time.monotonic() + _PATIENCE
  while time.monotonic() < end:
    time.sleep(min(1.0, _PATIENCE / 10))
    there = gcs.get(path)
    if not there or there[1] != generation:
      return not there
  return True


class _Beats(threading.Thread):
  """A thread that rewrites the lock object every few seconds.

  The new generations are the sign of a living owner.
  """

  def __init__(
    self,
    path: str,
    folder: str,
    owner: _Owner,
    generation: int,
    stop: threading.Event,
  ) -> None:
    super().__init__(daemon=True)
    self._path, self._folder, self._owner = path, folder, owner
    self.generation, self._stop_event = generation, stop

  def run(self) -> None:
    beat = 0
    while not self._stop_event.wait(_BEAT):
      beat += 1
      try:
        made = gcs.put(self._path, self._owner.content(beat), self.generation)
      except options.InputError as error:
        logging.warning("%s", error)  # the next beat tries again
        continue
      if not made:
        self._leave()
      self.generation = made

  def _leave(self) -> None:
    """Prints an error and ends the process with exit code 1, at once.

    The process was suspended, and another program has taken over the folder.
    """
    there = gcs.get(self._path)
    error = _refused(self._folder, there[0] if there else b"")
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)
