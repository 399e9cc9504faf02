"""Reads documents from plain text, JSON lines, tables and archives."""

import dataclasses
import html
import re
from collections.abc import Iterable, Iterator

from data_prep.base import options
from data_prep.files import archives, contents, documents, storage, tables

Lines = tuple[str, ...]

_READ = (
  contents.TEXT,
  contents.JSON_LINES,
  contents.NUMBERED,
  contents.WIKIEXTRACTOR,
)
# A damaged archive is named by its reader.
_ARCHIVES = (*contents.ARCHIVES, contents.TEXT, contents.BINARY)
_DOC = re.compile(r'<doc id="[^"]*" url="[^"]*" title="(.*)">')


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

  The content decides how a file is read, except that .csv, .tsv and archives
  are recognised by their names.

  Args:
    path: JSON lines, .csv or .tsv; an archive of text files; the sentences of
      the Leipzig corpora, each a document; the articles that wikiextractor
      writes; plain text. All may be compressed.
    settings: how documents are separated.

  Raises:
    options.InputError: when the content is of another kind, and at a bad row;
      the message names the kind or the line.
  """
  if archives.is_archive(path):
    contents.require(path, _ARCHIVES, "an archive of text files")
    return _members(path, settings.documents)
  kind = contents.require(path, _READ, "text")
  if kind == contents.JSON_LINES or tables.is_table(path):
    return _cells(path, settings.text_field, kind == contents.JSON_LINES)
  lines = storage.lines(path)
  if kind == contents.WIKIEXTRACTOR:
    return _articles(lines)
  if kind == contents.NUMBERED:
    return ((line.split("\t", 1)[1].strip(),) for line in lines if line.strip())
  return parted(lines, settings.documents)


def parted(lines: Iterable[str], by: str) -> Iterator[Lines]:
  """Yields the documents of plain text.

  Args:
    lines: the lines.
    by: the value of --documents.
  """
  if by == "blank_line":
    yield from documents.split(lines)
  elif by == "line":
    yield from ((line.strip(),) for line in lines if line.strip())
  elif whole := tuple(line.strip() for line in lines if line.strip()):
    yield whole


def _articles(lines: Iterable[str]) -> Iterator[Lines]:
  """Yields the articles of wikiextractor, without the titles above them."""
  article: list[str] = []
  title = ""
  for line in map(str.strip, lines):
    if match := _DOC.fullmatch(line):
      article, title = [], match[1]
    elif line == "</doc>":
      if article:
        yield tuple(article)
      article = []
    elif line and (article or line != title):
      article.append(html.unescape(line))


def _members(path: str, by: str) -> Iterator[Lines]:
  """Yields the documents of all text files in an archive."""
  for _, lines in archives.members(path):
    yield from parted(lines, by)


def _cells(path: str, name: str, is_json: bool) -> Iterator[Lines]:
  """Yields the texts of a table or of JSON lines, each a document.

  Args:
    path: the file.
    name: the column or the key of the text.
    is_json: whether the file has JSON lines, whatever its name is.

  Raises:
    options.InputError: at a bad row.
  """
  wanted = [tables.Wanted(name, "--text_field")]
  read = tables.objects if is_json else tables.cells
  for line, row in read(path, wanted):
    if not isinstance(row, tables.Bad) and not isinstance(row[0], str):
      row = tables.Bad(f"a text under {name!r}", repr(row[0]), "mend the row")
    if isinstance(row, tables.Bad):
      raise row.error(path, line)
    yield from parted(row[0].split("\n"), "file")
