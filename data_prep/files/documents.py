"""The corpus format: one sentence a line, a blank line between documents.

google-research/albert and bert use the same format. A document is one running
text: an article, a section of an article, a chapter.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np

from data_prep.base import options
from data_prep.files import contents, storage

# Lines in a group of isolated lines. Such lines form no documents; a group is
# held out, or used, as a whole.
_LINES_A_GROUP = 100

# Bytes of files with which a portion of the corpus is full.
_BYTES_A_PORTION = 64 << 20

# Larger weights are taken for typing errors.
_LARGEST_WEIGHT = 1e6


@dataclasses.dataclass(frozen=True)
class Document:
  """Sentences that belong together.

  Attributes:
    sentences: the sentences of the document in order; no sentence is empty.
    weight: how often the document is used, relative to a weight of 1.
    isolated: whether the lines are unrelated, as headlines are.
  """

  sentences: tuple[str, ...]
  weight: float = 1.0
  isolated: bool = False

  def content(self) -> int:
    """Returns the first 8 bytes of the sentences' SHA-256 as an unsigned int.

    The sentences are joined by line feeds; the first byte is the lowest.
    """
    digest = hashlib.sha256("\n".join(self.sentences).encode()).digest()
    return int.from_bytes(digest[:8], "little")


@dataclasses.dataclass(frozen=True)
class Files:
  """Corpus files whose documents have the same weight and kind of lines.

  Attributes:
    paths: the paths of the files.
    weight, isolated: those of each Document in the files.
  """

  paths: tuple[str, ...]
  weight: float = 1.0
  isolated: bool = False


def weighted(patterns: str, isolated: bool = False) -> list[Files]:
  """Returns one Files for each pattern of a list, as `news*.txt:2,books.txt`.

  A pattern without a weight has weight 1. A file that two patterns match
  belongs to the Files of the first pattern only.

  Args:
    patterns: glob patterns with weights, separated by commas.
    isolated: whether the lines of the files are unrelated.

  Raises:
    options.InputError: for a pattern that no file matches, for a file that is
      not plain text, and for a weight that is not above 0, too large, or not
      finite.
  """
  weighted_files: list[Files] = []
  known: set[str] = set()
  for pattern in storage.divided(patterns):
    path, weight = _weight(pattern)
    new = [path for path in storage.matching(path) if path not in known]
    for name in new:
      contents.require(name, [contents.TEXT], "one sentence a line")
    known.update(new)
    weighted_files.append(Files(tuple(new), weight, isolated))
  return weighted_files


def _weight(pattern: str) -> tuple[str, float]:
  """Returns (pattern, weight) of `pattern:weight`.

  The weight is 1 if there is no colon, if no number follows the last colon, or
  if a file is named `pattern:weight` itself.

  Raises:
    options.InputError: for a weight that is not above 0, or too large.
  """
  path, colon, text = pattern.rpartition(":")
  try:
    named = not colon or not path or storage.exists(pattern)
    weight = None if named else float(text)
  except ValueError:
    weight = None
  if weight is None:
    return pattern, 1.0
  if not 0 < weight <= _LARGEST_WEIGHT:  # nan is refused too
    raise options.InputError(
      f"weights above 0 and of at most {_LARGEST_WEIGHT:,.0f}",
      pattern,
      "give another weight, or leave the files out",
    )
  return path, weight


def portions(parts: Iterable[Files]) -> list[list[Files]]:
  """Divides corpus files into portions, each of which one worker reads.

  The files stay in order. A portion ends with the file with which it reaches 64
  MiB on the disk. So the sizes of the files alone decide the portions.

  Args:
    parts: the corpus.
  """
  divided: list[list[Files]] = [[]]
  size = 0
  for files in parts:
    for path in files.paths:
      if size >= _BYTES_A_PORTION:
        divided.append([])
        size = 0
      size += storage.size(path) or 0
      divided[-1].append(dataclasses.replace(files, paths=(path,)))
  return divided


def read(parts: Iterable[Files]) -> Iterator[Document]:
  """Yields the documents of corpus files, in the order of the files.

  A blank line and the end of a file end a document. In isolated files blank
  lines are skipped, and each _LINES_A_GROUP (100) lines in a row are a
  document; the last document of a file may be shorter.
  """
  for files in parts:
    for path in files.paths:
      lines = storage.lines(path)
      for sentences in _groups(lines) if files.isolated else split(lines):
        yield Document(sentences, files.weight, files.isolated)


def split(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
  """Yields the documents in lines: each run of lines that are not blank.

  A document is a tuple of its lines, without white space at their ends.
  """
  sentences: list[str] = []
  for line in lines:
    if stripped := line.strip():
      sentences.append(stripped)
    elif sentences:
      yield tuple(sentences)
      sentences = []
  if sentences:
    yield tuple(sentences)


def _groups(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
  """Yields lines in groups of _LINES_A_GROUP, without white space at the ends.

  Blank lines are skipped. The last group may be smaller.
  """
  full = filter(None, map(str.strip, lines))
  while group := tuple(itertools.islice(full, _LINES_A_GROUP)):
    yield group


def ids(contents: np.ndarray) -> np.ndarray:
  """Returns the ids of documents, from which all random keys are made.

  An id depends neither on the shard nor on the order of other documents. The
  id of a document that occurs once is its content; the second, third and later
  occurrences of a content have ids of their own.

  Args:
    contents: uint64 [documents], `Document.content` in the order of the corpus.

  Returns:
    uint64 [documents].
  """
  order = np.argsort(contents, kind="stable")
  ordered = contents[order]
  first = np.ones(len(order), bool)
  first[1:] = ordered[1:] != ordered[:-1]
  place = np.arange(len(order))
  occurrence = np.empty(len(order), np.uint64)
  occurrence[order] = place - np.maximum.accumulate(np.where(first, place, 0))
  with np.errstate(over="ignore"):
    return contents + occurrence * np.uint64(0x9E3779B97F4A7C15)


def write(file: IO[str], sentences: Sequence[str]) -> None:
  """Writes a document to an open corpus file: the sentences, a blank line."""
  file.write(text_of(sentences))


def text_of(sentences: Sequence[str]) -> str:
  """Returns the text of a document in a corpus file.

  It is a line for each sentence, and a blank line.
  """
  return "\n".join(sentences) + "\n\n"
