"""Sorts records by key in bounded memory, however many records there are.

An entry is (key, record): an int of 64 bits and bytes. The keys are hashes, so
their first bits spread the entries evenly over files. A file that fits in
memory is sorted there; a larger file is spread over further files by the next
bits.
"""

import contextlib
import itertools
import pathlib
import struct
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from data_prep.base import options

Entry = tuple[int, bytes]  # a 64-bit key and a record

_HEADER = struct.Struct("<QQ")  # key and length
_BITS = 6  # bits of the key that choose one of 64 files, open at a time
_KEY_BITS = 64
# Python's own bytes of an entry beside the record: tuple, integer, bytes
# object, place in a list.
_BYTES_AN_ENTRY = 140


def append(file: BinaryIO, entries: Iterable[Entry]) -> None:
  """Appends entries to a file, in the format that `read` reads."""
  for entry in entries:
    file.write(_framed(entry))


def _framed(entry: Entry) -> bytes:
  """Returns an entry as in a file: key and length as uint64, and the record."""
  key, record = entry
  return _HEADER.pack(key, len(record)) + record


def read(file: BinaryIO) -> Iterator[Entry]:
  """Yields the entries that `append` wrote."""
  while header := file.read(_HEADER.size):
    key, length = _HEADER.unpack(header)
    yield key, file.read(length)


def ordered(
  entries: Iterable[Entry], folder: str | None, memory: int
) -> Iterator[bytes]:
  """Yields the records in the order of their keys.

  Records with the same key are in the order of their bytes.

  Args:
    entries: (key, record) in any order; read once.
    folder: the folder for temporary files; None for the system's.
    memory: the largest size in bytes of the entries in memory, which one entry
      may exceed. More entries go through temporary files. Entries with the same
      key are all in memory at once, whatever their size.
  """
  yield from _ordered(iter(entries), folder, memory, _KEY_BITS)


def _ordered(
  entries: Iterator[Entry], folder: str | None, memory: int, bits: int
) -> Iterator[bytes]:
  """Yields the records in order, as `ordered`, for keys with equal high bits.

  Args:
    entries: (key, record) in any order.
    folder, memory: those of `ordered`.
    bits: number of low bits in which the keys may differ.
  """
  held, size = [], 0
  for entry in entries:
    held.append(entry)
    size += len(entry[1]) + _BYTES_AN_ENTRY
    if size > memory and bits > 0:
      break
  else:
    yield from (record for _, record in sorted(held))
    return
  bits = max(bits - _BITS, 0)
  with tempfile.TemporaryDirectory(prefix="sort-", dir=folder) as place:
    paths = [pathlib.Path(place, str(i)) for i in range(1 << _BITS)]
    _spread(itertools.chain(_emptied(held), entries), paths, bits)
    for path in paths:
      with path.open("rb") as file:
        yield from _ordered(read(file), folder, memory, bits)
      path.unlink()


def _emptied(held: list[Entry]) -> Iterator[Entry]:
  """Yields the entries of a list and removes them, which frees the memory."""
  while held:
    yield held.pop()


def _spread(
  entries: Iterator[Entry], paths: list[pathlib.Path], shift: int
) -> None:
  """Writes each entry to one of 64 files, which six bits of its key choose.

  Args:
    entries: the entries.
    paths: the paths of the 64 files.
    shift: the number of bits of the key below the six bits.
  """
  with options.naming(str(paths[0].parent)), contextlib.ExitStack() as stack:
    files = [stack.enter_context(path.open("wb")) for path in paths]
    for entry in entries:
      part = files[entry[0] >> shift & len(files) - 1]
      part.write(_framed(entry))
