"""Keeps batches of cleaned documents in a file, until all copies are known."""

import dataclasses
import pickle
import tempfile
from collections.abc import Iterator

import zstandard

from data_prep.base import options
from data_prep.corpus import deduplication, preparation

_LEVEL = 1  # the fastest of the usual levels


class Spool:
  """A file of batches. It has no name, so that a killed process leaves nothing.

  It is a context manager, which closes the file.

  Args:
    folder: the local folder of the file; None for the system's.
  """

  def __init__(self, folder: str | None) -> None:
    self._place = folder or tempfile.gettempdir()
    self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- closed by __exit__
    self._sizes: list[int] = []

  def __enter__(self) -> "Spool":
    return self

  def __exit__(self, *_: object) -> None:
    self._file.close()

  def append(self, batch: preparation.Batch) -> None:
    """Appends a batch without its signatures."""
    unsigned = dataclasses.replace(
      batch, signatures=deduplication.signatures([], 0)
    )
    content = zstandard.compress(pickle.dumps(unsigned), _LEVEL)
    self._sizes.append(len(content))
    with options.naming(self._place):
      self._file.write(content)

  def read(self) -> Iterator[preparation.Batch]:
    """Yields the batches in order; nothing can be appended afterwards."""
    with options.naming(self._place):
      self._file.seek(0)
    for size in self._sizes:
      yield pickle.loads(zstandard.decompress(self._file.read(size)))
