"""Reads documents from plain text, JSON lines, tables and archives."""

import dataclasses
from collections.abc import Iterable, Iterator

from data_prep.base import options
from data_prep.files import archives, documents, storage, tables

Lines = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Documents in text files."""

  documents: str = options.option(
    "blank_line",
    "What separates documents in plain text. blank_line: a blank line. "
    "line: every line is a document, such as a news article. file: every "
    "file is a document.",
    choices=("blank_line", "line", "file"),
  )
  text_field: str = options.option(
    "text",
    "JSON key of the text in .jsonl files, and column header of the text "
    "in .csv and .tsv files.",
  )


def items(path: str, settings: Options) -> Iterator[Lines]:
  """Yields each document of a file as a tuple of its lines.

  Args:
    path: .jsonl, .csv or .tsv; an archive of text files; any other name is
      plain text. All may be compressed.
    settings: how documents are separated.

  Raises:
    options.InputError: when the content does not fit the file's suffix; the
      message names the line.
  """
  if archives.is_archive(path):
    return _members(path, settings.documents)
  if tables.is_table(path):
    return _cells(path, settings.text_field)
  return parted(storage.lines(path), settings.documents)


def parted(lines: Iterable[str], by: str) -> Iterator[Lines]:
  """Yields the documents of plain text; `by` is the value of --documents."""
  if by == "blank_line":
    yield from documents.split(lines)
  elif by == "line":
    yield from ((line.strip(),) for line in lines if line.strip())
  elif whole := tuple(line.strip() for line in lines if line.strip()):
    yield whole


def _members(path: str, by: str) -> Iterator[Lines]:
  for _, lines in archives.members(path):
    yield from parted(lines, by)


def _cells(path: str, name: str) -> Iterator[Lines]:
  for line, row in tables.cells(path, [tables.Wanted(name, "--text_field")]):
    if not isinstance(row, tables.Bad) and not isinstance(row[0], str):
      row = tables.Bad(f"a text under {name!r}", repr(row[0]), "mend the row")
    if isinstance(row, tables.Bad):
      raise row.error(path, line)
    yield from parted(row[0].split("\n"), "file")
