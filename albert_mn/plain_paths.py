"""Paths that TensorFlow would take for globs, made plain by links.

TensorFlow looks for a checkpoint's index as for a glob before it opens the file
of that name: it writes one to the folder `e[1]`, and does not see it there
afterwards. A backslash has the same effect; `*` and `?` match themselves.
"""

import functools
import os
import re
import tempfile

from data_prep import options, storage

_SIGNS = re.compile(r"[\[\\]")


def plain(path: str) -> str:
  """Returns a path without signs of globs to a checkpoint or a SavedModel.

  Where the path has some, it is one through a link, which is there until the
  process ends.

  Args:
    path: the folder of a SavedModel, or the prefix of a checkpoint.

  Raises:
    options.InputError: for a path that no link to a folder makes plain.
  """
  require(path)
  if not _SIGNS.search(path):
    return path
  full = os.path.abspath(path)
  if os.path.isdir(full):
    return _link(full)
  folder, name = os.path.split(full)
  if _SIGNS.search(name):
    raise _refused(path)
  return os.path.join(_link(folder), name)


def require(path: str) -> None:
  """Refuses a path in a bucket, where there are no links, with such signs.

  Raises:
    options.InputError: for one.
  """
  if storage.is_remote(path) and _SIGNS.search(path):
    raise _refused(path)


def _refused(path: str) -> options.InputError:
  return options.InputError(
    "a checkpoint whose name has no [ or \\, since TensorFlow takes it for a "
    "glob and does not find it",
    path,
    "give it another name",
  )


@functools.cache
def _link(folder: str) -> str:
  """Makes a link to a folder, under a plain name."""
  link = os.path.join(_place().name, str(_link.cache_info().currsize))
  os.symlink(folder, link)
  return link


@functools.cache
def _place() -> tempfile.TemporaryDirectory[str]:
  return tempfile.TemporaryDirectory(prefix="links-")
