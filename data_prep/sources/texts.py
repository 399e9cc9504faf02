"""Reads documents from files of any kind that holds text, as their bytes say."""

import dataclasses
import html
import re
from collections.abc import Iterable, Iterator

from data_prep.base import options
from data_prep.files import archives, contents, documents, storage, tables
from data_prep.sources import rows
from data_prep.text import cleaning

Lines = tuple[str, ...]

_ROWS = (
  contents.JSON_LINES,
  contents.JSON_ARRAY,
  contents.PARQUET,
  contents.ARROW,
)
_READ = (
  *_ROWS,
  contents.TEXT,
  contents.NUMBERED,
  contents.WIKIEXTRACTOR,
)
# A damaged archive is named by its reader.
_ARCHIVES = (*contents.ARCHIVES, contents.TEXT, contents.BINARY)
_DOC = re.compile(r'<doc id="[^"]*" url="[^"]*" title="(.*)">')


@dataclasses.dataclass(frozen=True)
class Options(rows.Options):
  """Documents in text files."""

  documents: str = options.option(
    "blank_line",
    "What separates documents in plain text. blank_line: a blank line. "
    "line: every line is a document, such as a news article. file: every "
    "file is a document.",
    choices=("blank_line", "line", "file"),
  )


def items(path: str, settings: Options) -> Iterator[rows.Document]:
  """Yields each document of a file as a tuple of its lines.

  The content decides how a file is read, except that .csv, .tsv and archives
  are recognised by their names. A row that is dropped gives a `cleaning.Drop` in
  its place.

  Args:
    path: rows in JSON, Parquet, Arrow, .csv or .tsv; an archive of text files;
      the sentences of the Leipzig corpora, each a document; the articles that
      wikiextractor writes; plain text. All may be compressed but for Parquet
      and Arrow, which compress their columns.
    settings: how documents are separated, and which rows are kept.

  Raises:
    options.InputError: when the content is of another kind, and at a bad row;
      the message names the kind or the line.
  """
  if archives.is_archive(path):
    contents.require(path, _ARCHIVES, "an archive of text files")
    return _members(path, settings.documents)
  kind = contents.require(path, _READ, "text")
  if kind in _ROWS or tables.is_table(path):
    return rows.documents(rows.table(path, kind), path, settings)
  lines = storage.lines(path)
  if kind == contents.WIKIEXTRACTOR:
    return _articles(lines)
  if kind == contents.NUMBERED:
    return ((line.split("\t", 1)[1].strip(),) for line in lines if line.strip())
  return parted(lines, settings.documents)


def read(path: str, settings: Options) -> Iterator[Lines]:
  """Yields the documents of a file as `items` does, but for dropped rows."""
  for item in items(path, settings):
    if not isinstance(item, cleaning.Drop):
      yield item


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
