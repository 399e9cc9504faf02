"""Packs cleaned documents into few bytes, and unpacks them.

A packed batch is JSON in a frame of zstandard with a checksum. Signatures are
left out, since they are many bytes and follow from the sentences.
"""

import json
from typing import Any

import zstandard

from data_prep.corpus import preparation
from data_prep.sources import rows
from data_prep.text import cleaning

_LEVEL = 1  # the fastest of the usual levels


class DamagedError(Exception):
  """Bytes that `pack` did not make."""


def pack(batch: preparation.Batch) -> bytes:
  """Returns a batch as bytes, without its file's name and the signatures."""
  content = {
    "read": batch.read,
    "documents": [_packed(document) for document in batch.documents],
  }
  text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
  compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
  return compressor.compress(text.encode("utf-8", "surrogatepass"))


def unpack(file: str, packed: bytes) -> preparation.Batch:
  """Returns a packed batch, with no document signed.

  Args:
    file: the name of the file that the documents come from.
    packed: the result of `pack`.

  Raises:
    DamagedError: when the bytes are damaged.
  """
  try:
    text = zstandard.ZstdDecompressor().decompress(packed)
    content = json.loads(text.decode("utf-8", "surrogatepass"))
    documents, sentences, words = content["read"]
    return preparation.Batch(
      file,
      (documents, sentences, words),
      list(map(_unpacked, content["documents"])),
    )
  except (zstandard.ZstdError, ValueError, TypeError, KeyError) as error:
    raise DamagedError(str(error)) from error


def _packed(document: preparation.Document) -> dict[str, Any]:
  """Returns a document as JSON holds it; what is empty is left out."""
  verdict = document.result.verdict
  packed: dict[str, Any]
  match verdict:
    case cleaning.Keep():
      packed = {"keep": verdict.sentences}
    case rows.BadRow():
      packed = {"bad": [verdict.reason, verdict.example, verdict.row]}
    case cleaning.Drop():
      packed = {"drop": [verdict.reason, verdict.example]}
  if document.result.lines:
    packed["lines"] = document.result.lines
  if document.templates:
    packed["templates"] = document.templates
  return packed


def _unpacked(packed: dict[str, Any]) -> preparation.Document:
  """Returns the document that `_packed` was given, without a signature."""
  verdict: cleaning.Keep | cleaning.Drop
  if "keep" in packed:
    verdict = cleaning.Keep(tuple(packed["keep"]))
  elif "bad" in packed:
    verdict = rows.BadRow(*packed["bad"])
  else:
    verdict = cleaning.Drop(*packed["drop"])
  return preparation.Document(
    cleaning.Result(verdict, packed.get("lines", {})),
    templates=tuple(packed.get("templates", ())),
  )
