"""Reads documents from files of any kind that holds text, as their bytes say."""

import dataclasses
import html
import itertools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator

from data_prep.base import options
from data_prep.files import archives, contents, documents, storage, tables
from data_prep.sources import (
  json_arrays,
  posts,
  rows,
  subtitles,
  web_archives,
  web_pages,
  word_documents,
)
from data_prep.text import cleaning

Lines = tuple[str, ...]
Item = rows.Document | web_pages.Page

_ROWS = (
  contents.JSON_LINES,
  contents.JSON_ARRAY,
  contents.PARQUET,
  contents.ARROW,
)
# Kind → its reader, for which no setting matters.
_WHOLE: dict[str, Callable[[str], Iterator[Item]]] = {
  contents.OFFICE: word_documents.paragraphs,
  contents.HTML: web_pages.items,
}
_BY_LINE = (contents.TEXT, contents.NUMBERED)
_POSTS = (contents.JAVASCRIPT, contents.JSON_DOCUMENT)
_READ = (
  *_ROWS,
  *_POSTS,
  contents.SUBRIP,
  contents.WEBVTT,
  contents.WEB_ARCHIVE,
  *_WHOLE,
  *_BY_LINE,
  contents.WIKIEXTRACTOR,
)
# A damaged archive is named by its reader.
_ARCHIVES = (*contents.ARCHIVES, contents.TEXT, contents.BINARY)
# Bad lines in a row that are listed one by one; with more a file is no text.
_MOST_BAD_LINES = 10_000
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


def items(path: str, settings: Options) -> Iterator[Item]:
  """Returns an iterator over the documents of a file, each a tuple of lines.

  The content decides how a file is read, except that .csv, .tsv and archives
  are recognised by their names. A row or page that is dropped comes as a
  `cleaning.Drop`. A web page comes as a `web_pages.Page`, which `resolved`
  turns into the lines of its main text.

  Args:
    path: rows in JSON, Parquet, Arrow, .csv or .tsv; an archive of such files;
      the sentences of the Leipzig corpora, each a document; the articles that
      wikiextractor writes; web pages, alone or in WARC, and the texts of WET;
      subtitles; a document of Word; posts that X, Telegram or Facebook
      exported; plain text. All may be compressed but for Parquet,
      Arrow and .docx, which compress their content.
    settings: how documents are separated, and which rows are kept.

  Raises:
    options.InputError: when the content is of another kind, and with
      --bad_rows=stop when it is damaged or a row is bad; the message names the
      kind or the line. With --bad_rows=leave_out a `rows.BadRow` comes in the
      place of what is damaged.
  """
  return rows.until_damage(lambda: _items(path, settings), settings.bad_rows)


def _items(path: str, settings: Options) -> Iterator[Item]:
  """Returns the iterator of `items`; all damage raises an error.

  Raises:
    storage.DamagedFileError: where a file cannot be read further.
  """
  if archives.is_archive(path):
    contents.require(path, _ARCHIVES, "an archive of text files")
    return _members(path, settings)
  kind = contents.require(path, _READ, "text")
  if kind in _POSTS or (kind == contents.JSON_ARRAY and _is_export(path)):
    return posts.documents(path, kind, settings.bad_rows)
  if kind in _ROWS or (kind in _BY_LINE and tables.is_table(path)):
    return rows.documents(rows.table(path, kind), path, settings)
  if kind == contents.WEB_ARCHIVE:
    return web_archives.items(path, settings)
  if kind in _WHOLE:
    return _WHOLE[kind](path)
  if settings.bad_rows == "stop":
    return _of_lines(storage.lines(path), kind, settings.documents)
  return _of_good_lines(path, kind, settings)


def _of_good_lines(path: str, kind: str, settings: Options) -> Iterator[Item]:
  """Yields the documents of a text without its bad lines, and a BadRow for each.

  Args:
    path: the path of the file.
    kind: one of the kinds that are read by the line.
    settings: how documents are separated; bad rows are left out.

  Raises:
    storage.DamagedFileError: for a damaged file, and for so many bad lines in
      a row that the file is no text.
  """
  bad: list[rows.BadRow] = []
  damage: list[storage.DamagedFileError] = []

  def good() -> Iterator[str]:
    try:
      for number, line in tables.lines(path, storage.MAX_LINE_BYTES):
        if not isinstance(line, tables.Bad):
          yield line
          continue
        bad.append(rows.left_out(line, path, number, settings.bad_rows))
        if len(bad) > _MOST_BAD_LINES:
          raise _no_text(path, number)
    except storage.DamagedFileError as error:
      damage.append(error)  # the document that it cuts off ends here

  for document in _of_lines(good(), kind, settings.documents):
    yield from bad
    bad.clear()
    yield document
  yield from bad
  if damage:
    raise damage[0]


def _no_text(path: str, row: int) -> storage.DamagedFileError:
  """Returns the error for too many bad lines in a row, at the line `row`."""
  return storage.DamagedFileError(
    f"UTF-8 text in {path}",
    f"{_MOST_BAD_LINES:,} bad lines before a document",
    "convert the file, for example: iconv -f CP1251 -t UTF-8",
    row,
  )


def _of_lines(lines: Iterable[str], kind: str, by: str) -> Iterator[Lines]:
  """Returns an iterator over the documents in the lines of a text.

  Args:
    lines: the lines of the text.
    kind: the kind of the text: subtitles, articles of wikiextractor, numbered
      sentences or plain text (constants of `contents`).
    by: the value of --documents, for plain text.
  """
  if kind in (contents.SUBRIP, contents.WEBVTT):
    return subtitles.spoken(lines)
  if kind == contents.WIKIEXTRACTOR:
    return _articles(lines)
  if kind == contents.NUMBERED:
    return ((line.split("\t", 1)[1].strip(),) for line in lines if line.strip())
  return parted(lines, by)


def resolved(item: Item) -> rows.Document:
  """Returns the document of an item: for a web page, its main text.

  All other items are documents already, and are returned unchanged. The result
  for a page without main text is a Drop. Worker processes call this function,
  because the search for the main text takes most of the time.

  Args:
    item: an item that `items` yields.
  """
  return web_pages.main_text(item) if isinstance(item, web_pages.Page) else item


def read(path: str, settings: Options) -> Iterator[Lines]:
  """Yields the documents of a file as tuples of lines, without dropped ones.

  Args:
    path: the path of the file.
    settings: how documents are separated, and which rows are kept.

  Raises:
    options.InputError: when the content is of a kind that cannot be read, or is
      damaged, and with --bad_rows=stop at a bad row.
  """
  for item in map(resolved, items(path, settings)):
    if not isinstance(item, cleaning.Drop):
      yield item


def parted(lines: Iterable[str], by: str) -> Iterator[Lines]:
  """Yields the documents of plain text, as tuples of lines.

  Blank lines, and white space around lines, are removed.

  Args:
    lines: the lines of the text.
    by: the separator of documents: blank_line, line or file, as --documents.
  """
  if by == "blank_line":
    yield from documents.split(lines)
  elif by == "line":
    yield from ((line.strip(),) for line in lines if line.strip())
  elif whole := tuple(line.strip() for line in lines if line.strip()):
    yield whole


def _articles(lines: Iterable[str]) -> Iterator[Lines]:
  """Yields the lines of each article in wikiextractor's <doc> elements.

  The title above an article and empty articles are left out.
  """
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


def _members(path: str, settings: Options) -> Iterator[Item]:
  """Yields the documents of all files with text in an archive.

  Args:
    path: the path of the archive.
    settings: how documents are separated, and which rows are kept.

  Raises:
    options.InputError: when a file cannot be read; the message names the file
      in the archive.
  """
  with tempfile.TemporaryDirectory() as folder:
    for name, copy, damage in archives.members(path, folder):
      if damage and settings.bad_rows == "stop":
        raise damage
      try:
        for item in items(copy, settings) if storage.size(copy) else ():
          yield _named(item, name)
      except options.InputError as error:
        parts = (error.expected, error.got, error.action)
        raise options.InputError(
          *(part.replace(copy, f"{path}:{name}") for part in parts)
        ) from error
      if damage:
        yield _named(rows.damaged(damage.got, 1), name)


def _named(item: Item, name: str) -> Item:
  """Returns an item of a file in an archive; a page or a bad row names the file.

  Args:
    item: the item.
    name: the name of the file.
  """
  match item:
    case web_pages.Page():
      return dataclasses.replace(item, name=name)
    case rows.BadRow():
      return dataclasses.replace(item, example=f"{name}: {item.example}")
  return item


def _is_export(path: str) -> bool:
  """Returns whether a file is an export of posts, by its first item.

  Args:
    path: the path of a file that holds a JSON array.
  """
  return any(
    posts.is_post(item)
    for _, item in itertools.islice(json_arrays.items(path), 1)
  )
