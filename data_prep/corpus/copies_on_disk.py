"""Finds the copies among documents in bounded memory, however many there are.

    with copies_on_disk.Duplicates(0.8, folder, memory) as duplicates:
      duplicates.add(deduplication.signatures(documents, 0.8))
      list(duplicates.verdicts())  # [None, "near duplicate", ...]

The result is that of `deduplication.verdicts`. Each MinHash key has a list: the
kept documents with that key. `deduplication.verdicts` holds these lists in
memory, and the hashed runs of words of every document. Here, all of this is in
files:

1. The digests and keys of all documents are sorted (`number_sort`), which
   brings the documents with the same digest or key together. A key of a single
   document, as most are, needs no list. For the list of any other key, room is
   reserved in a file; the list's place is its offset there.
2. The facts about each document (that it is an exact duplicate, or the places
   of the lists of its keys) are sorted by the document's number.
3. In the order of the input, each document that has lists is compared with the
   documents in its lists, whose runs are read from a file.

A fact is a uint64: _IS_COPY for an exact duplicate; otherwise the number of the
band in the high bits and the place of the key's list in the low bits.

The files have no names, so that nothing is left of a killed process.
"""

import array
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.base import options
from data_prep.corpus import deduplication
from data_prep.files import number_sort
from data_prep.text import similarity

# The low bits of a number that hold the number of a document. Above them are,
# for a digest, 24 more of its bits; for a key, the number of its band.
_DOCUMENT = np.uint64(40)
_DOCUMENT_BITS = np.uint64((1 << 40) - 1)
# The low bits of a number that hold a place. Above them is the band's number.
_PLACE = np.uint64(56)
_PLACE_BITS = (1 << 56) - 1
_IS_COPY = np.uint64((1 << 64) - 1)  # instead of a place: an exact duplicate

_FIRST_READ = 8  # entries of a list that are read at first; most are shorter


class Duplicates:
  """Takes the signatures of documents; then tells which documents are copies.

  It is a context manager, which closes its files.

  Args:
    threshold: the threshold of the signatures.
    folder: the local folder of the files; None for the system's.
    memory: the largest size in bytes of the arrays that are sorted in memory.
      Beside them, up to 16 MB hold documents that were compared of late.

  Attributes:
    count: the number of documents that were added.
  """

  def __init__(self, threshold: float, folder: str | None, memory: int) -> None:
    self._threshold = threshold
    self._place = folder or tempfile.gettempdir()
    self.count = 0
    with contextlib.ExitStack() as stack:
      self._digests, self._keys, self._facts = (
        stack.enter_context(number_sort.Sorter(folder, memory // 3))
        for _ in range(3)
      )
      self._runs = stack.enter_context(_Runs(folder))
      self._lists = stack.enter_context(_Lists(folder))
      self._files = stack.pop_all()

  def __enter__(self) -> "Duplicates":
    return self

  def __exit__(self, *_: object) -> None:
    self._files.close()

  def add(self, signed: deduplication.Signatures) -> None:
    """Adds the signatures of the next documents in the order of the input."""
    count, bands = signed.keys.shape
    numbers = np.arange(self.count, self.count + count, dtype=np.uint64)
    self.count += count
    high = signed.digests[:, 1] & ~_DOCUMENT_BITS
    self._digests.add(np.stack([signed.digests[:, 0], high | numbers], axis=1))
    if bands:
      band = np.arange(bands, dtype=np.uint64) << _DOCUMENT
      keys = signed.keys.astype(np.uint64).ravel()
      numbered = (numbers[:, None] | band).ravel()
      self._keys.add(np.stack([keys, numbered], axis=1))
      self._runs.append(signed.runs)

  def verdicts(self) -> Iterator[str | None]:
    """Yields the verdict on each added document, in the order of the input.

    A verdict is deduplication.EXACT or NEAR for a copy, or None for a document
    to keep. No signature can be added afterwards.
    """
    with options.naming(self._place):
      for block in self._digests.blocks():
        self._facts.add(_exact_copies(block))
      for block in self._keys.blocks():
        self._facts.add(self._lists.placed(block))
      kept = deduplication.Kept(self._threshold, self._runs.read, self._lists)
      number = 0
      for document, facts in self._by_document():
        yield from itertools.repeat(None, document - number)
        number = document + 1
        if facts[-1] == _IS_COPY:
          yield deduplication.EXACT
        else:
          places = [fact & _PLACE_BITS for fact in facts]
          yield None if kept.add(document, places) else deduplication.NEAR
    yield from itertools.repeat(None, self.count - number)

  def _by_document(self) -> Iterator[tuple[int, list[int]]]:
    """Yields (number, facts) of each document about which there is a fact.

    The documents ascend; so do the facts of a document, each an int.
    """
    for block in self._facts.blocks():
      starts = _starts(block[:, 0])
      documents, facts = block[starts, 0], block[:, 1].tolist()
      ends = [*starts[1:].tolist(), len(block)]
      for document, begin, end in zip(
        documents.tolist(), starts.tolist(), ends, strict=True
      ):
        yield document, facts[begin:end]


def _starts(numbers: np.ndarray) -> np.ndarray:
  """Returns the int64 indices at which runs of equal numbers begin.

  Args:
    numbers: [n], in which equal numbers stand next to each other.
  """
  return np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])


def _exact_copies(digests: np.ndarray) -> np.ndarray:
  """Returns the facts for documents with the digest of an earlier document.

  Args:
    digests: uint64 [documents, 2], sorted: 64 bits of the digest; 24 bits of
      the digest above the number of the document.

  Returns:
    uint64 [copies, 2]: the number of the document; _IS_COPY.
  """
  high = digests[:, 1] >> _DOCUMENT
  same = (digests[1:, 0] == digests[:-1, 0]) & (high[1:] == high[:-1])
  copies = digests[1:, 1][same] & _DOCUMENT_BITS
  return np.stack([copies, np.full_like(copies, _IS_COPY)], axis=1)


class _Lists:
  """Lists of the numbers of kept documents, in a file.

  A list belongs to a key: it holds the kept documents with that key. In the
  file it is the documents' numbers plus one, as uint64, and a 0 at its end. The
  place of a list is its offset in the file, counted in uint64.

  Args:
    folder: the folder of the file; None for the system's.
  """

  def __init__(self, folder: str | None) -> None:
    self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 -- closed by __exit__
    self._end = 0  # of the places

  def __enter__(self) -> "_Lists":
    return self

  def __exit__(self, *_: object) -> None:
    self._file.close()

  def placed(self, keys: np.ndarray) -> np.ndarray:
    """Reserves room in the file for the list of each key of several documents.

    Lists are reserved from the end of the file on. A key of a single document
    gets no list.

    Args:
      keys: uint64 [pairs, 2], sorted, a row for each key of each document: the
        key; the number of the key's band in the high bits and the number of the
        document in the low bits. All rows of a key are in the same call.

    Returns:
      uint64 [facts, 2], a row for each row of `keys` whose key has a list: the
        number of the document; the fact (see the module): the number of the
        band in the high bits and the place of the list in the low bits.
    """
    starts = _starts(keys[:, 0])
    sizes = np.diff(starts, append=len(keys))
    # The last document of a list is the last one to read it, so that the 0
    # after it need not be there.
    room = np.where(
      sizes > 1, np.minimum(sizes, deduplication.MOST_KEPT + 1), 0
    )
    places = self._end + np.cumsum(room) - room
    self._end += int(room.sum())
    shared = np.repeat(sizes > 1, sizes)
    numbers = keys[shared, 1]
    place = np.repeat(places, sizes)[shared].astype(np.uint64)
    return np.stack(
      [numbers & _DOCUMENT_BITS, numbers >> _DOCUMENT << _PLACE | place], axis=1
    )

  def read(self, place: int) -> Sequence[int]:
    numbers = self._read(place, _FIRST_READ)
    if len(numbers) == _FIRST_READ:
      numbers = self._read(place, deduplication.MOST_KEPT)
    return [number - 1 for number in numbers]

  def _read(self, place: int, most: int) -> Sequence[int]:
    """Returns the first entries of a list, as uint64 document numbers plus one.

    Args:
      place: the offset of the list in the file, in uint64.
      most: largest number of entries to return.
    """
    content = os.pread(self._file.fileno(), 8 * most, 8 * place)
    numbers = array.array("Q", content)
    return numbers[: numbers.index(0)] if 0 in numbers else numbers

  def append(self, place: int, size: int, number: int) -> None:
    content = (number + 1).to_bytes(8, sys.byteorder)
    os.pwrite(self._file.fileno(), content, 8 * (place + size))


class _Runs:
  """The hashed word runs of documents, in two files without names.

  One file holds the uint32 hashes of all documents; the other the index in it
  at which each document's hashes end, as int64, after a 0.

  Args:
    folder: the folder of the files; None for the system's.
  """

  def __init__(self, folder: str | None) -> None:
    self._place = folder or tempfile.gettempdir()
    with contextlib.ExitStack() as stack:
      self._hashes, self._ends = (
        stack.enter_context(tempfile.TemporaryFile(dir=folder))
        for _ in range(2)
      )
      self._files = stack.pop_all()
    self._end = 0
    self._ends.write(bytes(8))

  def __enter__(self) -> "_Runs":
    return self

  def __exit__(self, *_: object) -> None:
    self._files.close()

  def append(self, runs: similarity.Sets) -> None:
    """Appends the hashed runs of the next documents of the input."""
    ends = self._end + np.cumsum(runs.sizes)
    self._end = int(ends[-1]) if len(ends) else self._end
    with options.naming(self._place):
      for file, numbers in ((self._hashes, runs.hashes), (self._ends, ends)):
        file.write(np.ascontiguousarray(numbers).tobytes())
        file.flush()

  def read(self, number: int) -> np.ndarray:
    """Returns the hashed runs of a document, uint32 [runs].

    Args:
      number: the number of the document in the order of the input, from 0.
    """
    bounds = os.pread(self._ends.fileno(), 16, 8 * number)
    begin, end = np.frombuffer(bounds, np.int64).tolist()
    content = os.pread(self._hashes.fileno(), 4 * (end - begin), 4 * begin)
    return np.frombuffer(content, np.uint32)
