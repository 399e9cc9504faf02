"""Keeps the cleaned documents of a corpus that is not finished.

A run that is killed leaves them in a hidden folder: `.NAME.begun` beside the
output folder, or `.begun` in it where that folder is in a bucket, a mount
point, or in a folder that cannot be written. The same command goes on from
them, and removes the folder when the corpus is complete.

The folder holds parts, each of them complete. A part begins with a line of JSON:

    {"made_by": "5a0c…", "batches": [["e1f2…", 0, false, 81234], …]}

`made_by` is the hash of the program and of the options that decide how
documents are cleaned. A batch has the hash of its file's path, size and times,
its number in that file, whether it is the last one there, and its size in bytes.
The batches follow, as `packed_batches` makes them.
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
    file: the hash of the file's path, size and times.
    number: the number of the batch in the file, from 0.
    last: whether it is the last one of the file.
  """

  file: str
  number: int
  last: bool


@dataclasses.dataclass(frozen=True)
class Task:
  """A batch of documents to clean, or one that an earlier run has cleaned.

  Attributes:
    name: the name of the file.
    place: the place of the batch.
    read: the bytes of the input up to the end of the batch.
    items: the raw documents; empty if they were cleaned before.
    packed: the cleaned documents if they were cleaned before, else b"".
  """

  name: str
  place: Place
  read: int
  items: list[Any]
  packed: bytes = b""


@dataclasses.dataclass(frozen=True)
class Done:
  """A cleaned batch.

  Attributes:
    name, place, read: as in the task.
    packed: the documents.
    signatures: their signatures.
    kept: whether an earlier run has kept the documents.
  """

  name: str
  place: Place
  read: int
  packed: bytes
  signatures: deduplication.Signatures
  kept: bool


@dataclasses.dataclass(frozen=True)
class Cleaner:
  """Cleans the documents of a task, in a worker process.

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
  """The place of a kept batch: in the input, and in a part."""

  place: Place
  part: str
  start: int
  size: int


class Begun:
  """The cleaned documents that earlier runs have left, and those of this run.

  Args:
    output_dir: the folder of the corpus, which this process owns.
    made_by: the hash of all that decides how documents are cleaned. Parts with
      another hash are removed.
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
    """Reads which batches the folder holds."""
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
    """Notes the batches of a part; returns whether it is of this command."""
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
    """Yields the kept batches of a file from the first one, without a gap.

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
    """Returns the content of a part; that of the last one is remembered."""
    if self._read[0] != part:
      self._read = (part, storage.read_bytes(part))
    return self._read[1]

  def add(self, place: Place, packed: bytes) -> None:
    """Keeps a batch for the next run.

    Args:
      place: the place of the batch.
      packed: its documents.
    """
    self._new.append((place, packed))
    self._size += len(packed)
    waited = time.monotonic() - self._last_write
    if self._size >= _BYTES_A_PART or waited > self._patience:
      self._write()

  def _write(self) -> None:
    """Writes a part of all batches that were added since the last one."""
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
    """Removes the folder after the block; after an error it says where it is.

    Batches that cannot be read end in one line.

    Raises:
      options.InputError: when a kept batch is damaged.
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
    """Removes the folder."""
    whole_folders.clear(self._folder)
    self._kept, self._parts = {}, 0


def file_hash(path: str) -> str:
  """Returns a hash of a file's path, size and times, for `Place`."""
  whole = path if storage.is_remote(path) else os.path.abspath(path)
  text = json.dumps([whole, storage.version(path)])
  return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[
    :24
  ]
