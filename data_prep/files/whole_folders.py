"""Replaces folders as a whole, so that a folder's content is complete.

    with whole_folders.replacing("run/best", is_part) as folder:
      ...  # write all files into `folder`, the manifest last

Until the block has succeeded, the earlier files stay as they are: a full disk
costs only the new files. Then a local folder that holds only our files is
replaced in one step, by renaming. Elsewhere (in a bucket, at a mount point, in
the current folder, beside files of the user) the new files are written to the
subfolder `.unfinished` and moved up one by one, the manifest last. If a process
ends before the last move, the next process moves the remaining files
(`finish`).
"""

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

from data_prep.files import manifest, ownership, storage

# Function from a name to whether one of our programs wrote that file or
# subfolder. If so, it is removed unless it is among the new files.
IsOurs = Callable[[str], bool]

_BEGUN = ".begun"
UNFINISHED = ".unfinished"  # hidden: `unfinished` may be a folder of the user
# File in a complete `.unfinished`, with the names of all files that move up.
_MOVES = "moves.json"

# Arguments of Linux's renameat2: paths are relative to the current folder, and
# two names are exchanged.
_FROM_CURRENT_FOLDER, _EXCHANGE = -100, 2


@contextlib.contextmanager
def replacing(folder: str, is_ours: IsOurs) -> Iterator[str]:
  """Yields an empty folder whose files will replace those in `folder`.

  When the block ends, the new files are put in place. If the block raises an
  error, they are removed, and the files in `folder` are unchanged.

  Args:
    folder: local or gs://; it need not exist yet.
    is_ours: takes the name of a file in `folder`; returns whether one of our
      programs wrote it, so that it may be removed. All other files are kept.

  Raises:
    OSError, options.InputError: when the folder cannot be written. The earlier
      files are then still there, complete. Only an error while files are moved
      up one by one leaves a mixture, which the next call of `finish` completes.
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
    with contextlib.suppress(Exception):  # the first error is to be reported
      clear(aside)
    raise
  if renamed:
    _take_name(aside, os.path.realpath(folder))
  else:
    _move_up(folder, is_ours)


@contextlib.contextmanager
def trial(folder: str) -> Iterator[str]:
  """Yields an empty temporary folder, for files to check before they are kept.

  The temporary folder is on the same disk as a local `folder`, where a large
  model has room, and is removed after the block. Remains of a killed process
  are removed first.

  Args:
    folder: the later place of the files, local or gs://; this process is its
      owner.
  """
  if storage.is_remote(folder):
    with tempfile.TemporaryDirectory() as place:
      yield place
    return
  above, name = os.path.split(os.path.realpath(folder))
  place = os.path.join(above, f".{name}.trial")
  clear(place)
  os.makedirs(place)
  try:
    yield place
  finally:
    shutil.rmtree(place, ignore_errors=True)


def begun(folder: str) -> str:
  """Returns the path of a folder for unfinished work on an output folder.

  A run after a kill finds the work there. The path is beside a local `folder`,
  but inside `folder` if that is in a bucket or a mount point, or if nothing can
  be written beside it. The caller makes the folder and clears it.

  Args:
    folder: the output folder, local or gs://.
  """
  if storage.is_remote(folder):
    return f"{folder.rstrip('/')}/{_BEGUN}"
  target = os.path.realpath(folder)
  above, name = os.path.split(target)
  if os.path.ismount(target) or not os.access(storage.standing(above), os.W_OK):
    return os.path.join(target, _BEGUN)
  return os.path.join(above, f".{name}{_BEGUN}")


def finish(folder: str, is_ours: IsOurs) -> None:
  """Completes the replacement of a folder that an ended process began.

  If all new files were written, those that were not moved yet are moved; if
  not, the new files are removed. Nothing is done if another process owns the
  folder or a folder above it: it may be at work.

  Args:
    folder: the folder that is being replaced, local or gs://.
    is_ours: function from the name of a file to whether our programs wrote it.
  """
  aside = os.path.join(folder, UNFINISHED)
  if not _is_left(folder, aside) or ownership.is_anothers(folder):
    return
  if storage.exists(os.path.join(aside, _MOVES)):
    _move_up(folder, is_ours)
  else:
    clear(aside)
  if storage.is_remote(folder):
    return
  beside, target = _beside(folder), os.path.realpath(folder)
  earlier = _earlier(beside)
  if os.path.isdir(earlier) and not os.path.exists(target):
    # Between the two renames of `_take_name`: `beside` is complete.
    os.rename(beside if os.path.isdir(beside) else earlier, target)
  clear(beside)
  clear(earlier)


def _is_left(folder: str, aside: str) -> bool:
  """Returns whether an earlier process left a temporary folder.

  Args:
    folder: the folder that was to be replaced.
    aside: the temporary subfolder of `folder`. The two temporary folders beside
      a local folder are looked for too.
  """
  if storage.is_remote(folder):
    return bool(storage.below(aside))
  beside = _beside(folder)
  return any(map(os.path.lexists, (aside, beside, _earlier(beside))))


def _beside(folder: str) -> str:
  """Returns the path beside a local folder where its new files are written."""
  above, name = os.path.split(os.path.realpath(folder))
  return os.path.join(above, f".{name}{UNFINISHED}")


def _earlier(beside: str) -> str:
  """Returns the temporary path of the earlier folder while it is replaced.

  Args:
    beside: the result of `_beside`.
  """
  return f"{beside}.earlier"


def _can_be_renamed(folder: str, is_ours: IsOurs) -> bool:
  """Returns whether a local folder may be replaced by renaming.

  A folder may be renamed if it does not exist yet, or contains only files of
  our programs. It may not if it is a mount point, which the system does not
  rename, if it is or contains the current folder, since a shell would stay in
  the old one, or if the folder above it cannot be written.

  Args:
    folder: the folder.
    is_ours: function from the name of a file to whether our programs wrote it.
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
  """Renames a complete folder to `target`, and removes the earlier folder.

  Args:
    aside: the complete folder.
    target: the path of the earlier folder, which need not exist.

  Raises:
    OSError: when `aside` cannot be renamed; the earlier folder is then at
      `target`.
  """
  if not os.path.lexists(target):
    os.rename(aside, target)
    return
  shutil.copymode(target, aside)
  try:
    _exchange(aside, target)
    old = aside
  except OSError:  # the system or the disk has no such exchange
    old = _earlier(aside)
    os.rename(target, old)
    try:
      os.rename(aside, target)
    except BaseException:
      os.rename(old, target)
      raise
  shutil.rmtree(old, ignore_errors=True)  # `finish` removes what is left


def _exchange(first: str, second: str) -> None:
  """Exchanges the names of two folders in one step.

  Raises:
    OSError: when the system or the disk cannot do it.
  """
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
  """Writes the list of the files to move from the temporary folder `aside`.

  The list is the sign that these files are complete.
  """
  names = storage.below(aside)
  with storage.writing(os.path.join(aside, _MOVES)) as file:
    json.dump(names, file, ensure_ascii=False)


def _move_up(folder: str, is_ours: IsOurs) -> None:
  """Moves the files of `.unfinished` to their place in `folder`.

  The manifest is moved last. Just before it, earlier files of our programs that
  are not among the new ones are removed.

  It can be called again after an interruption at any point.
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
  clear(aside)


def _remove_others(folder: str, keep: set[str], is_ours: IsOurs) -> None:
  """Removes the earlier files of our programs in a folder.

  Args:
    folder: the folder; its `.unfinished` is left as it is.
    keep: the names of the new files, which stay.
    is_ours: function from the name of a file to whether our programs wrote it.
  """
  for name in storage.below(folder):
    inside = name.startswith(f"{UNFINISHED}/")
    if not inside and name not in keep and is_ours(name):
      storage.remove(os.path.join(folder, name))


def clear(folder: str) -> None:
  """Removes a folder with all its files, if it exists.

  In a bucket the list of moves is removed first.
  """
  if storage.is_remote(folder):
    names = storage.below(folder)
    for name in sorted(names, key=lambda name: name != _MOVES):
      storage.remove(os.path.join(folder, name))
  elif os.path.lexists(folder):
    shutil.rmtree(folder)


def _sync(folder: str) -> None:
  """Fsyncs all files below a local folder; does nothing for a gs:// folder."""
  if storage.is_remote(folder):
    return
  for name in storage.below(folder):
    with open(os.path.join(folder, name), "rb") as file:
      os.fsync(file.fileno())
