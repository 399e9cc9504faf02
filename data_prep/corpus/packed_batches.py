"""Packs cleaned documents into few bytes, and unpacks them; a file for them.

A packed batch is a zstandard frame with a checksum. The frame holds a line of
JSON, and then the kept sentences, one on each line: JSON of the sentences too
would take twice as long. Signatures are left out: they are many bytes, and can
be computed again from the sentences.
"""

import itertools
import json
import tempfile
from collections.abc import Iterator
from typing import Any

import zstandard

from data_prep.base import options
from data_prep.corpus import preparation
from data_prep.sources import rows
from data_prep.text import cleaning

_LEVEL = 1  # the fastest of the usual levels


class DamagedError(Exception):
  """Raised for bytes that are no packed batch, or a damaged one."""


def pack(batch: preparation.Batch) -> bytes:
  """Returns a batch as bytes, without the signatures and the file's name."""
  about = {
    "read": batch.read,
    "documents": [_packed(document) for document in batch.documents],
  }
  verdicts = [document.result.verdict for document in batch.documents]
  sentences = itertools.chain.from_iterable(
    verdict.sentences
    for verdict in verdicts
    if isinstance(verdict, cleaning.Keep)
  )
  line = json.dumps(about, ensure_ascii=False, separators=(",", ":"))
  text = "\n".join([line, *sentences])
  compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
  return compressor.compress(text.encode("utf-8", "surrogatepass"))


def unpack(file: str, packed: bytes) -> preparation.Batch:
  """Returns the batch in packed bytes, without the signatures of documents.

  Args:
    file: the name of the file that the documents come from, which the bytes do
      not contain.
    packed: the result of `pack`.

  Raises:
    DamagedError: when the bytes are damaged.
  """
  try:
    text = zstandard.ZstdDecompressor().decompress(packed)
    line, *sentences = text.decode("utf-8", "surrogatepass").split("\n")
    about = json.loads(line)
    left = iter(sentences)
    documents, read_sentences, words = about["read"]
    return preparation.Batch(
      file,
      (documents, read_sentences, words),
      [_unpacked(document, left) for document in about["documents"]],
    )
  except (zstandard.ZstdError, ValueError, TypeError, KeyError) as error:
    raise DamagedError(str(error)) from error


def _packed(document: preparation.Document) -> int | dict[str, Any]:
  """Returns a document as a JSON value, without its kept sentences.

  The value is the number of sentences for a kept document of which nothing was
  dropped or changed. Otherwise it is a dict: "keep" (the number of sentences),
  "bad" or "drop" (the reason and an example), "lines" and "templates".
  """
  verdict = document.result.verdict
  packed: dict[str, Any]
  match verdict:
    case cleaning.Keep():
      packed = {"keep": len(verdict.sentences)}
    case rows.BadRow():
      packed = {"bad": [verdict.reason, verdict.example, verdict.row]}
    case cleaning.Drop():
      packed = {"drop": [verdict.reason, verdict.example]}
  if document.result.lines:
    packed["lines"] = document.result.lines
  if document.templates:
    packed["templates"] = document.templates
  return packed["keep"] if packed.keys() == {"keep"} else packed


def _unpacked(
  packed: int | dict[str, Any], sentences: Iterator[str]
) -> preparation.Document:
  """Returns the document that a JSON value describes: the inverse of `_packed`.

  Args:
    packed: the result of `_packed` for the document.
    sentences: yields the kept sentences of this and the following documents;
      those of this document are taken.
  """
  if isinstance(packed, int):
    packed = {"keep": packed}
  verdict: cleaning.Keep | cleaning.Drop
  if "keep" in packed:
    verdict = cleaning.Keep(tuple(itertools.islice(sentences, packed["keep"])))
  elif "bad" in packed:
    verdict = rows.BadRow(*packed["bad"])
  else:
    verdict = cleaning.Drop(*packed["drop"])
  return preparation.Document(
    cleaning.Result(verdict, packed.get("lines", {})),
    templates=tuple(packed.get("templates", ())),
  )


class Spool:
  """A temporary file that holds packed batches until all copies are known.

  The file has no name, so that a killed process leaves nothing behind. A spool
  is a context manager; its end closes the file.

  Args:
    folder: the local folder of the file; None for the system's.
  """

  def __init__(self, folder: str | None) -> None:
    self._place = folder or tempfile.gettempdir()
    self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- closed by __exit__
    self._batches: list[tuple[str, int]] = []  # name of the file, bytes

  def __enter__(self) -> "Spool":
    return self

  def __exit__(self, *_: object) -> None:
    self._file.close()

  def append(self, file: str, packed: bytes) -> None:
    """Appends a packed batch.

    Args:
      file: the name of the input file that the batch comes from.
      packed: the result of `pack`.
    """
    self._batches.append((file, len(packed)))
    with options.naming(self._place):
      self._file.write(packed)

  def read(self) -> Iterator[preparation.Batch]:
    """Yields the unpacked batches in order, without signatures of documents.

    Nothing can be appended afterwards.
    """
    with options.naming(self._place):
      self._file.seek(0)
    for file, size in self._batches:
      yield unpack(file, self._file.read(size))
