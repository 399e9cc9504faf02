"""Folders that are replaced as a whole: what stands under a name is complete.

    with whole_folders.replacing("run/best", is_part) as folder:
      ...  # write all files into `folder`, the manifest last

Until the block has ended well, the earlier files stay as they are: a full disk
costs the new ones alone. Then a local folder that holds nothing else takes the
name of the earlier one in one step. Elsewhere (in a bucket, at a mount point,
in the current folder, beside files of the user) the new files, which lie in the
subfolder `.unfinished`, move up one by one, the manifest last; where a process
ends before the last one, the next one moves the others (`finish`).
"""

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

from data_prep import manifest, ownership, storage

# Says of a name in a folder, that of a file or subfolder, whether a program of
# ours wrote it, so that it goes where it is not among the new files.
IsOurs = Callable[[str], bool]

UNFINISHED = ".unfinished"  # hidden: `unfinished` may be a folder of the user
# In `.unfinished` once it is complete: the names of all files that move up.
_MOVES = "moves.json"

# Of Linux's renameat2: paths are relative to the current folder, and two names
# are exchanged.
_FROM_CURRENT_FOLDER, _EXCHANGE = -100, 2


@contextlib.contextmanager
def replacing(folder: str, is_ours: IsOurs) -> Iterator[str]:
  """Gives an empty folder whose files take the place of those in `folder`.

  Args:
    folder: local or gs://; it need not be there yet.
    is_ours: of the names in it, those that may go; others stay.

  Raises:
    OSError, options.InputError: where it cannot be written. What was there
      before is still there then, whole.
  """
  finish(folder, is_ours)
  renamed = not storage.is_remote(folder) and _can_be_renamed(folder, is_ours)
  aside = _beside(folder) if renamed else os.path.join(folder, UNFINISHED)
  try:
    storage.make_folder(aside)
    yield aside
    _sync(aside)
    if not renamed:
      _note_moves(aside)
  except BaseException:
    with contextlib.suppress(Exception):  # the first error is the one to tell
      _clear(aside)
    raise
  if renamed:
    _take_name(aside, os.path.realpath(folder))
  else:
    _move_up(folder, is_ours)


@contextlib.contextmanager
def trial(folder: str) -> Iterator[str]:
  """Gives an empty local folder for what is checked before it goes to `folder`.

  It lies beside a local folder, where a large model has room, and ends with the
  block. What a killed process left of one is removed.

  Args:
    folder: local or gs://; this process is its owner.
  """
  if storage.is_remote(folder):
    with tempfile.TemporaryDirectory() as place:
      yield place
    return
  above, name = os.path.split(os.path.realpath(folder))
  place = os.path.join(above, f".{name}.trial")
  _clear(place)
  os.makedirs(place)
  try:
    yield place
  finally:
    shutil.rmtree(place, ignore_errors=True)


def finish(folder: str, is_ours: IsOurs) -> None:
  """Moves into `folder` what an earlier process had complete but not moved.

  What an earlier process left unfinished is removed. Where another process owns
  the folder, or one that it is in, that one is at work, and all is left to it.

  Args:
    folder: as that of `replacing`.
    is_ours: likewise.
  """
  aside = os.path.join(folder, UNFINISHED)
  if not _is_left(folder, aside) or ownership.is_anothers(folder):
    return
  if storage.exists(os.path.join(aside, _MOVES)):
    _move_up(folder, is_ours)
  else:
    _clear(aside)
  if storage.is_remote(folder):
    return
  beside, target = _beside(folder), os.path.realpath(folder)
  earlier = _earlier(beside)
  if os.path.isdir(earlier) and not os.path.exists(target):
    # Between the two renames of `_take_name`: `beside` is complete.
    os.rename(beside if os.path.isdir(beside) else earlier, target)
  _clear(beside)
  _clear(earlier)


def _is_left(folder: str, aside: str) -> bool:
  """Says whether there is anything that is not in its place."""
  if storage.is_remote(folder):
    return bool(storage.below(aside))
  beside = _beside(folder)
  return any(map(os.path.lexists, (aside, beside, _earlier(beside))))


def _beside(folder: str) -> str:
  """Returns where a local folder is written before it takes its name."""
  above, name = os.path.split(os.path.realpath(folder))
  return os.path.join(above, f".{name}{UNFINISHED}")


def _earlier(beside: str) -> str:
  return f"{beside}.earlier"


def _can_be_renamed(folder: str, is_ours: IsOurs) -> bool:
  """Says whether a local folder may give its name to another one.

  A mount point cannot be renamed. In the current folder a shell would stay
  behind in the old one, and files of the user would go with it.
  """
  target = os.path.realpath(folder)
  here = os.path.realpath(os.curdir)
  if os.path.commonpath([here, target]) == target:
    return False
  if not os.access(storage.standing(os.path.dirname(target)), os.W_OK):
    return False
  if not os.path.lexists(target):
    return True
  return (
    os.path.isdir(target)
    and not os.path.ismount(target)
    and all(map(is_ours, os.listdir(target)))
  )


def _take_name(aside: str, target: str) -> None:
  """Puts a complete folder under its name, in the place of an earlier one."""
  if not os.path.lexists(target):
    os.rename(aside, target)
    return
  shutil.copymode(target, aside)
  try:
    _exchange(aside, target)
    old = aside
  except OSError:  # not on this system, or not on this disk
    old = _earlier(aside)
    os.rename(target, old)
    try:
      os.rename(aside, target)
    except BaseException:
      os.rename(old, target)
      raise
  shutil.rmtree(old, ignore_errors=True)  # `finish` takes what is left of it


def _exchange(first: str, second: str) -> None:
  """Exchanges the names of two folders in one step."""
  library = ctypes.CDLL(None, use_errno=True)
  if not hasattr(library, "renameat2"):
    raise OSError("renameat2 is not there")
  failed = library.renameat2(
    _FROM_CURRENT_FOLDER,
    os.fsencode(first),
    _FROM_CURRENT_FOLDER,
    os.fsencode(second),
    _EXCHANGE,
  )
  if failed:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), first)


def _note_moves(aside: str) -> None:
  names = storage.below(aside)
  with storage.writing(os.path.join(aside, _MOVES)) as file:
    json.dump(names, file, ensure_ascii=False)


def _move_up(folder: str, is_ours: IsOurs) -> None:
  """Moves the files of `.unfinished` to their place, the manifest last.

  Cut off anywhere, it can be called again.
  """
  aside = os.path.join(folder, UNFINISHED)
  moves = json.loads(storage.read_bytes(os.path.join(aside, _MOVES)))
  left = set(storage.below(aside)) - {_MOVES}
  if manifest.NAME in left:
    storage.remove(os.path.join(folder, manifest.NAME))
  for name in sorted(left, key=lambda name: (name == manifest.NAME, name)):
    if name == manifest.NAME:
      _remove_others(folder, set(moves), is_ours)
    storage.move(os.path.join(aside, name), os.path.join(folder, name))
  _clear(aside)


def _remove_others(folder: str, keep: set[str], is_ours: IsOurs) -> None:
  """Removes files of ours that an earlier set had and the new one has not."""
  for name in storage.below(folder):
    inside = name.startswith(f"{UNFINISHED}/")
    if not inside and name not in keep and is_ours(name):
      storage.remove(os.path.join(folder, name))


def _clear(folder: str) -> None:
  """Removes a folder with all that is in it, if it is there."""
  if storage.is_remote(folder):
    names = storage.below(folder)
    for name in sorted(names, key=lambda name: name != _MOVES):
      storage.remove(os.path.join(folder, name))
  elif os.path.lexists(folder):
    shutil.rmtree(folder)


def _sync(folder: str) -> None:
  """Sees all files of a local folder to the disk, before its name says so."""
  if storage.is_remote(folder):
    return
  for name in storage.below(folder):
    with open(os.path.join(folder, name), "rb") as file:
      os.fsync(file.fileno())
