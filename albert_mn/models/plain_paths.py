"""Links that hide characters of paths that TensorFlow would read as globs.

TensorFlow looks for a checkpoint's index with a glob before it opens the file:
it writes a checkpoint in the folder `e[1]` and does not find it afterwards. A
backslash has the same effect; `*` and `?` match themselves.
"""

import functools
import os
import re
import tempfile

from data_prep.base import options
from data_prep.files import storage

_SIGNS = re.compile(r"[\[\\]")


def plain(path: str) -> str:
  r"""Returns a path without [ and \ for a checkpoint or a SavedModel.

  A path without these characters is returned unchanged. Otherwise the result
  leads through a symbolic link, which exists until the process ends.

  Args:
    path: the folder of a SavedModel, or the prefix of a checkpoint.

  Raises:
    options.InputError: when a link cannot help: in a bucket, or if the last
      part of a checkpoint's prefix contains [ or \.
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
  r"""Raises InputError for a path in a bucket that contains [ or \.

  Buckets have no links.
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
  r"""Returns the path of a symbolic link to a folder.

  The path of the link contains neither [ nor \. The first call for a folder
  makes the link, and later calls return the same path.
  """
  link = os.path.join(_place().name, str(_link.cache_info().currsize))
  os.symlink(folder, link)
  return link


@functools.cache
def _place() -> tempfile.TemporaryDirectory[str]:
  return tempfile.TemporaryDirectory(prefix="links-")
