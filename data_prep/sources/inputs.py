"""Finds the files to read: globs, folders, and data sets in folders.

A folder stands for the files in it and in its subfolders. A folder that the
library `datasets` saved stands for the files that its state.json names.
"""

import collections
import posixpath
from collections.abc import Iterator
from typing import Any

from absl import logging

from data_prep.base import options
from data_prep.files import json_files, storage

_STATE, _SPLITS = "state.json", "dataset_dict.json"
# What stands beside text in the copy of a site or of a data set.
_BESIDE = frozenset(
  ".css .js .gif .ico .jpeg .jpg .png .svg .webp .avif .bmp .tif .tiff .woff "
  ".woff2 .ttf .eot .mp3 .mp4 .wav .webm .ogg .avi .mov .map".split()
)
_NO_DATA = ("readme", "license", "_success", "dataset_info")


def files(patterns: str) -> list[str]:
  """Returns the files that a list of globs and folders names, in order.

  Each file is returned once. The files of a glob or a folder are sorted; those
  of a saved data set have the order of its rows.

  Args:
    patterns: separated by commas; local, or gs://.

  Raises:
    options.InputError: for a pattern that matches nothing, for a folder without
      files to read, and for a saved data set whose files are missing.
  """
  paths: dict[str, None] = {}  # a set that keeps the order
  for pattern in storage.divided(patterns):
    folder = pattern.rstrip("/")
    if storage.is_folder(folder):
      below = list(_in_folder(folder))
      if not below:
        raise options.InputError(
          f"files to read in {folder}", "none", "name the files"
        )
      paths |= dict.fromkeys(below)
    else:
      paths |= dict.fromkeys(storage.matching(pattern))
  if not paths:
    storage.matching(patterns)  # raises, as for an empty list
  return list(paths)


def _in_folder(folder: str) -> Iterator[str]:
  """Yields the files to read in a folder, which may be a saved data set.

  Raises:
    options.InputError: for a saved data set whose list of files is malformed,
      or names a file that is missing.
  """
  if storage.exists(state := posixpath.join(folder, _STATE)):
    content = json_files.read_object(state)
    if "_data_files" in content:
      yield from _saved(folder, state, content)
      return
  if storage.exists(splits := posixpath.join(folder, _SPLITS)):
    for name in _names(splits, json_files.read_object(splits).get("splits")):
      yield from _in_folder(posixpath.join(folder, name))
    return
  yield from _below(folder)


def _saved(folder: str, state: str, content: dict[str, Any]) -> Iterator[str]:
  """Yields the files of a saved data set, in the order of its rows.

  Args:
    folder: the folder of the data set.
    state: the path of its state.json.
    content: the content of state.json.

  Raises:
    options.InputError: for a file that is missing, and for a name that leads
      outside.
  """
  entries = content["_data_files"]
  if not isinstance(entries, list):
    entries = [None]
  names = [
    entry.get("filename") if isinstance(entry, dict) else None
    for entry in entries
  ]
  for name in _names(state, names):
    path = posixpath.join(folder, name)
    if not storage.exists(path):
      raise options.InputError(
        f"the files that {state} names", f"no file at {path}", "copy it again"
      )
    yield path


def _names(path: str, names: object) -> list[str]:
  """Returns `names` if it is a list of names without folders.

  Args:
    path: the JSON file that lists the names, for messages.
    names: a value of JSON.

  Raises:
    options.InputError: for any other value.
  """
  if not isinstance(names, list) or not all(
    isinstance(name, str)
    and name
    and name == posixpath.basename(name)
    and name != ".."
    for name in names
  ):
    raise options.InputError(
      f"names of files in {path}", json_files.shown(names), "copy it again"
    )
  return names


def _below(folder: str) -> Iterator[str]:
  """Yields the files in a folder and its subfolders that may hold text.

  The log says how many files were skipped: hidden ones, pictures and the like,
  and files about the data.
  """
  passed_over: collections.Counter[str] = collections.Counter()
  for name in storage.below(folder):
    stem = posixpath.basename(name).lower()
    if any(part.startswith(".") for part in name.split("/")):
      passed_over["hidden"] += 1
    elif storage.kind(name) in _BESIDE:
      passed_over[f"{storage.kind(name)} files"] += 1
    elif stem.startswith(_NO_DATA):
      passed_over["about the data"] += 1
    else:
      yield posixpath.join(folder, name)
  if passed_over:
    reasons = ", ".join(f"{n} {reason}" for reason, n in passed_over.items())
    logging.info("%s: passed over: %s", folder, reasons)
