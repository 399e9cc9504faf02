"""Keeps the cleaned documents of a corpus that is not finished.

A run that is killed leaves its cleaned documents in a hidden folder:
`.NAME.begun` beside the output folder. If the output folder is in a bucket, is
a mount point, or lies in a folder that cannot be written, the hidden folder is
`.begun` in the output folder. The same command, given again, uses these
documents, and removes the hidden folder when the corpus is complete.

The hidden folder holds files called parts, each written completely. A part
begins with a line of JSON:

    {"made_by": "5a0c…", "batches": [["e1f2…", 0, false, 81234], …]}

`made_by` is the hash of the program and of the options that decide how
documents are cleaned. `batches` states for each batch of documents: the hash of
the path, size and times of its input file, the number of the batch in that
file, whether it is the last batch of that file, and its size in bytes. The
batches follow the line, as `packed_batches` makes them.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from absl import logging

from data_prep.base import options
from data_prep.corpus import (
  corpus_options,
  deduplication,
  packed_batches,
  preparation,
)
from data_prep.files import storage, whole_folders

# A part is written when it has so many bytes, or after some seconds: of the time
# at most a fiftieth is spent on writing.
_BYTES_A_PART = 16 << 20
_SECONDS_A_PART, _TIMES_THE_WRITING = 2.0, 50.0
_ENDING = ".part"


@dataclasses.dataclass(frozen=True)
class Place:
  """The place of a batch in the input.

  Attributes:
    file: the hash of the path, size and times of the batch's file.
    number: the number of the batch in the file, from 0.
    last: whether the batch is the last of the file.
  """

  file: str
  number: int
  last: bool


@dataclasses.dataclass(frozen=True)
class Task:
  """A batch of documents to clean, or a batch that an earlier run has cleaned.

  Attributes:
    name: the name of the batch's file.
    place: the place of the batch in the input.
    read: the number of bytes of the input up to the end of the batch.
    items: the raw documents; empty if an earlier run has cleaned them.
    packed: the cleaned documents, as `packed_batches.pack` returns them, if an
      earlier run has cleaned them; else b"".
  """

  name: str
  place: Place
  read: int
  items: list[Any]
  packed: bytes = b""


@dataclasses.dataclass(frozen=True)
class Done:
  """A batch of cleaned documents.

  Attributes:
    name: the name of the batch's file.
    place: the place of the batch in the input.
    read: the number of bytes of the input up to the end of the batch.
    packed: the cleaned documents, as `packed_batches.pack` returns them.
    signatures: the signatures of the documents that no rule dropped.
    kept: whether an earlier run has cleaned and kept the batch.
  """

  name: str
  place: Place
  read: int
  packed: bytes
  signatures: deduplication.Signatures
  kept: bool


@dataclasses.dataclass(frozen=True)
class Cleaner:
  """Callable that turns a Task into a Done; picklable, for worker processes.

  The raw documents of the task are cleaned, signed and packed. Documents that
  an earlier run has cleaned are only signed.

  Attributes:
    settings: the options of the corpus.
  """

  settings: corpus_options.Settings

  def __call__(self, task: Task) -> Done:
    if task.packed:
      batch = packed_batches.unpack(task.name, task.packed)
      batch = preparation.signed(batch, self.settings)
    else:
      batch = preparation.prepared((task.name, task.items), self.settings)
    return Done(
      task.name,
      task.place,
      task.read,
      task.packed or packed_batches.pack(batch),
      batch.signatures,
      bool(task.packed),
    )


@dataclasses.dataclass(frozen=True)
class _Kept:
  """A batch that is kept in a part.

  Attributes:
    place: the place of the batch in the input.
    part: the path of the part.
    start, size: where the packed batch begins in the part, and its size, in
      bytes.
  """

  place: Place
  part: str
  start: int
  size: int


class Begun:
  """The cleaned documents of an unfinished corpus, kept in its hidden folder.

  They are those that earlier runs of the command have left, and those that this
  run adds.

  Args:
    output_dir: the folder of the corpus, which this process owns.
    made_by: the hash of all that decides how documents are cleaned. The folder
      is emptied if it holds a part with another hash.
  """

  def __init__(self, output_dir: str, made_by: str) -> None:
    self._folder = whole_folders.begun(output_dir)
    self._made_by = made_by
    self._kept: dict[str, dict[int, _Kept]] = {}
    self._parts = 0  # the number of the next part
    self._read: tuple[str, bytes] = ("", b"")  # the part that was read last
    self._new: list[tuple[Place, bytes]] = []
    self._size = 0
    self._last_write, self._patience = time.monotonic(), _SECONDS_A_PART
    self._load()

  def _load(self) -> None:
    """Reads the first line of each part, to know which batches are kept.

    A part of another command, or of another version of the program, removes
    the folder.
    """
    names = [n for n in storage.below(self._folder) if n.endswith(_ENDING)]
    for name in names:
      if not self._index(name):
        logging.info(
          "the run that was broken off had other flags or another version of "
          "the program: starting afresh"
        )
        self.clear()
        return
    if self._kept:
      self._parts = 1 + max(int(n.removesuffix(_ENDING)) for n in names)
      count = sum(map(len, self._kept.values()))
      logging.info(
        "going on from %d batches of cleaned documents in %s",
        count,
        self._folder,
      )

  def _index(self, name: str) -> bool:
    """Notes the batches of a part.

    Args:
      name: the name of the part's file.

    Returns:
      whether the same options and program made the part; False also for a part
      whose first line is damaged.
    """
    path = os.path.join(self._folder, name)
    with storage.reading(path) as file:
      line = file.readline()
    try:
      index = json.loads(line)
      if index["made_by"] != self._made_by:
        return False
      start = len(line)
      for key, number, last, size in index["batches"]:
        place = Place(key, number, last)
        self._kept.setdefault(key, {})[number] = _Kept(place, path, start, size)
        start += size
    except (ValueError, TypeError, KeyError):
      return False
    return True

  def of_file(self, file: str) -> Iterator[tuple[Place, bytes]]:
    """Yields (place, packed batch) of a file's kept batches, from number 0.

    The iterator ends before the first number whose batch is not kept.

    Args:
      file: the hash of the file's path, size and times.
    """
    batches = self._kept.get(file, {})
    number = 0
    while number in batches:
      kept = batches[number]
      content = self._content(kept.part)
      yield kept.place, content[kept.start : kept.start + kept.size]
      number += 1

  def _content(self, part: str) -> bytes:
    """Returns the content of a part, from a cache of one part.

    Args:
      part: the path of the part.
    """
    if self._read[0] != part:
      self._read = (part, storage.read_bytes(part))
    return self._read[1]

  def add(self, place: Place, packed: bytes) -> None:
    """Keeps a batch of cleaned documents, for a run after a kill.

    Args:
      place: the place of the batch in the input.
      packed: the batch, as `packed_batches.pack` returns it.
    """
    self._new.append((place, packed))
    self._size += len(packed)
    waited = time.monotonic() - self._last_write
    if self._size >= _BYTES_A_PART or waited > self._patience:
      self._write()

  def _write(self) -> None:
    """Writes all batches that were added since the last part, as a new part."""
    began = time.monotonic()
    index = {
      "made_by": self._made_by,
      "batches": [
        [place.file, place.number, place.last, len(packed)]
        for place, packed in self._new
      ],
    }
    path = os.path.join(self._folder, f"{self._parts:06d}{_ENDING}")
    with storage.writing(path, "wb") as file:
      file.write(json.dumps(index).encode() + b"\n")
      file.writelines(packed for _, packed in self._new)
    self._new, self._size = [], 0
    self._parts += 1
    self._last_write = time.monotonic()
    taken = self._last_write - began
    self._patience = max(_SECONDS_A_PART, _TIMES_THE_WRITING * taken)

  @contextlib.contextmanager
  def used(self) -> Iterator[None]:
    """Context manager around the work that uses the kept documents.

    When the block ends, the hidden folder is removed. When the block raises an
    exception, the folder stays, and a log line says where it is.

    Raises:
      options.InputError: when the block raises packed_batches.DamagedError,
        because a kept batch is damaged; the folder is then removed.
    """
    try:
      yield
    except packed_batches.DamagedError as error:
      self.clear()
      raise options.InputError(
        f"whole batches of an earlier run in {self._folder}",
        str(error),
        "run it again: they were removed",
      ) from error
    except BaseException:
      if self._parts:
        logging.info(
          "what was cleaned stays in %s: the same command goes on from there, "
          "and removes it at its end",
          self._folder,
        )
      raise
    self.clear()

  def clear(self) -> None:
    """Removes the hidden folder and forgets its batches."""
    whole_folders.clear(self._folder)
    self._kept, self._parts = {}, 0


def file_hash(path: str) -> str:
  """Returns a hash of a file's path, size and times, for `Place.file`."""
  whole = path if storage.is_remote(path) else os.path.abspath(path)
  text = json.dumps([whole, storage.version(path)])
  return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[
    :24
  ]
