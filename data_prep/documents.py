"""The corpus format: one sentence a line, a blank line between documents.

google-research/albert and bert read and write the same. A document is what
belongs together as running text: an article, an article's section, a chapter.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from data_prep import storage


@dataclasses.dataclass(frozen=True)
class Document:
  """A document and the number that stands for it wherever chance is keyed.

  Attributes:
    id: 64 bits of the content's hash and its occurrence number, so that it
      depends neither on the shard nor on the order of the others.
    sentences: in their order, none empty.
  """

  id: int
  sentences: tuple[str, ...]


def read(paths: Sequence[str]) -> Iterator[Document]:
  """Yields the documents of corpus files; a file's end ends a document."""
  seen: collections.Counter[bytes] = collections.Counter()
  for path in paths:
    for sentences in split(storage.lines(path)):
      digest = _digest(sentences)
      yield Document(_document_id(digest, seen[digest]), sentences)
      seen[digest] += 1


def split(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
  """Yields the runs of lines between blank lines."""
  sentences: list[str] = []
  for line in lines:
    if line.strip():
      sentences.append(line.strip())
    elif sentences:
      yield tuple(sentences)
      sentences = []
  if sentences:
    yield tuple(sentences)


def _digest(sentences: Sequence[str]) -> bytes:
  return hashlib.sha256("\n".join(sentences).encode()).digest()[:16]


def _document_id(digest: bytes, occurrence: int) -> int:
  number = occurrence.to_bytes(8, "little")
  hashed = hashlib.blake2b(digest + number, digest_size=8).digest()
  return int.from_bytes(hashed, "little")


def write(file: IO[str], sentences: Sequence[str]) -> None:
  """Appends one document to an open corpus file."""
  file.write("\n".join(sentences) + "\n\n")
