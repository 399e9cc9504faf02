"""Turns rows of named fields into documents: JSON, Parquet, Arrow and tables.

A row's text stands in one field; the fields beside it decide whether the row is
kept. A row that cannot be read ends the work, or is left out and listed.
"""

import dataclasses
import functools
import html
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from absl import logging

from data_prep.base import options
from data_prep.files import contents, storage, tables
from data_prep.sources import json_arrays, selections
from data_prep.text import cleaning

_BAD_ROW = "bad row"
_DAMAGED = "damaged file"
_BLANK = "row with blank text"

T = TypeVar("T")
Row = dict[str, Any] | tables.Bad
Document = tuple[str, ...] | cleaning.Drop

# Names of the text in known corpora, the first that a file has is taken. text:
# FineWeb-2, CulturaX, HPLT, mC4, MADLAD-400, wikimedia/wikipedia, wikiextractor.
# content: OSCAR. raw_content: RedPajama-V2. The others are guesses.
_TEXT_FIELDS = (
  "text",
  "content",
  "raw_content",
  "article",
  "body",
  "full_text",
  "sentence",
)
_FIRST_ROWS = 100  # in which a field must occur
_DEEPEST = 5  # guess: a field that is wanted lies in at most four others
_ENTITY = re.compile(
  r"&(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#\d{1,7}|#[xX][\da-fA-F]{1,6});"
)
# A line break that was written as two characters; not LaTeX's \nu or C:\new.
_LITERAL_BREAK = re.compile(r"(?:\\r)?\\n(?![a-z])")


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Rows of JSON, Parquet, Arrow and tables."""

  text_field: str = options.option(
    "",
    "Field of the text in JSON, Parquet, Arrow, .csv and .tsv files; parts of "
    "a nested name are separated by dots. By default the text is the first "
    f"field of {', '.join(_TEXT_FIELDS)} that a file has; the log says which.",
  )
  keep: tuple[str, ...] = options.option(
    (),
    "Condition that a row must meet, for example --keep='language_score>=0.9' "
    "or --keep='quality_warnings==null': a field, one of == != >= <= > <, and "
    "a JSON value. The flag may be given several times; all conditions must "
    "be met. Other rows are dropped and counted. The fields of a web archive "
    "are the headers of each record, such as WARC-Target-URI.",
  )
  bad_rows: str = tables.bad_rows_option()

  def check(self) -> None:
    for expression in self.keep:
      selections.parsed(expression)


@dataclasses.dataclass(frozen=True)
class BadRow(cleaning.Drop):
  """The verdict about a row that cannot be read, or about a damaged file.

  Attributes:
    row: the number of the line or row in its file, the first is 1. Of a damaged
      file it is the first that cannot be read.
  """

  row: int = 0


@dataclasses.dataclass(frozen=True)
class Table:
  """The rows of a file, and their fields.

  Attributes:
    fields: the places of all fields that are known. A place is a tuple of
      names, such as ("meta", "lang").
    texts: the names of the fields that can hold the text.
    rows: function that takes the outermost names of the wanted fields and
      yields (number of the line or row, row). A row is a dict that has at least
      the values of these names. The function may be called once.
  """

  fields: Sequence[selections.Place]
  texts: Sequence[str]
  rows: Callable[[Sequence[str]], Iterator[tuple[int, Row]]]


def table(path: str, kind: str) -> Table:
  """Returns the rows of a file as a `Table`.

  Args:
    path: the path of a file.
    kind: contents.PARQUET, ARROW, JSON_LINES or JSON_ARRAY. A file of any other
      kind is read by its ending: .csv, .tsv or .jsonl.

  Raises:
    options.InputError: for a damaged file, another ending, JSON without rows,
      or a .csv or .tsv without a header. If no row follows the header, the
      error is raised when the rows are read.
  """
  if kind in (contents.PARQUET, contents.ARROW):
    # Imported here, since pyarrow takes half a second.
    from data_prep.sources import columnar

    names, texts = columnar.fields(path, kind)
    return Table(
      names, texts, lambda columns: columnar.rows(path, kind, columns)
    )
  if kind == contents.JSON_LINES:
    return of_objects(tables.json_lines(path), path)
  if kind == contents.JSON_ARRAY:
    return of_objects(_objects(json_arrays.items(path)), path)
  header = tables.header(path)
  if header is None:  # a .jsonl whose first line is no object
    return of_objects(tables.json_lines(path), path)
  places = [(name,) for name in header]
  return Table(places, header, lambda columns: _cells(path, columns))


def of_objects(source: Iterator[tuple[int, Row]], path: str) -> Table:
  """Returns a table of JSON objects; its rows can be read once.

  The fields are those of the first _FIRST_ROWS objects.

  Args:
    source: (row number, object) of each row.
    path: the path of the file, for messages.

  Raises:
    options.InputError: when there is no row.
  """
  first = list(itertools.islice(source, _FIRST_ROWS))
  if not first:
    raise storage.DamagedFileError(
      f"at least one JSON object in {path}", "none", "give a file with rows"
    )
  places: dict[selections.Place, None] = {}  # a set that keeps the order
  texts: dict[str, None] = {}
  for _, row in first:
    if not isinstance(row, tables.Bad):
      _add(places, row)
      texts |= dict.fromkeys(k for k, v in row.items() if isinstance(v, str))
  if texts.keys().isdisjoint(_TEXT_FIELDS):  # each text may be null at first
    texts |= dict.fromkeys(name for (name, *inner) in places if not inner)
  return Table(
    list(places), list(texts), lambda _: itertools.chain(first, source)
  )


def documents(rows: Table, path: str, settings: Options) -> Iterator[Document]:
  """Yields the document of each row, or a Drop for a row that is dropped.

  A document is the lines of the text that are not blank; a row with blank text
  is dropped. With --bad_rows=leave_out, a row that cannot be read comes as a
  `BadRow`.

  Raises:
    options.InputError: for a field that the file lacks, and with
      --bad_rows=stop at the first bad row.
  """
  name = settings.text_field or _guessed(rows, path)
  conditions = [selections.parsed(text) for text in settings.keep]
  place: selections.Place
  places: list[selections.Place]
  if not rows.fields:  # bad rows only
    place, places = (name,), [(each.field,) for each in conditions]
  else:
    place = selections.resolved(name, rows.fields, "--text_field", path)
    places = [
      selections.resolved(each.field, rows.fields, "--keep", path)
      for each in conditions
    ]
  columns = list(dict.fromkeys(parts[0] for parts in (place, *places)))
  for number, row in rows.rows(columns):
    document = _document(row, place)
    if isinstance(document, tables.Bad):
      yield left_out(document, path, number, settings.bad_rows)
      continue
    assert not isinstance(row, tables.Bad), "its document would be bad"
    for condition, at in zip(conditions, places, strict=True):
      if not condition.holds(selections.value_at(row, at)):
        yield cleaning.Drop(f"not {condition.text}", document[:80])
        break
    else:
      yield full_lines(document) or cleaning.Drop(_BLANK)


def left_out(bad: tables.Bad, path: str, number: int, bad_rows: str) -> BadRow:
  """Returns the verdict about a row that cannot be read.

  Args:
    bad: the reason.
    path: the path of the file.
    number: the number of the row in the file.
    bad_rows: the value of --bad_rows.

  Raises:
    options.InputError: if bad_rows is "stop".
  """
  if bad_rows == "stop":
    raise bad.error(path, number)
  return BadRow(_BAD_ROW, bad.reason, number)


def until_damage(
  read: Callable[[], Iterator[T]], bad_rows: str
) -> Iterator[T | BadRow]:
  """Yields what a reader yields; last a `BadRow` if the file is damaged.

  Args:
    read: returns the iterator of the reader.
    bad_rows: the value of --bad_rows.

  Raises:
    storage.DamagedFileError: for a damaged file, if bad_rows is "stop".
  """
  count = 0
  try:
    for item in read():
      count += 1
      yield item
  except storage.DamagedFileError as error:
    if bad_rows == "stop":
      raise
    yield damaged(error.got, error.row or count + 1)


def damaged(reason: str, row: int) -> BadRow:
  """Returns the verdict about the damage of a file, or of a part of one.

  Args:
    reason: the fault in words.
    row: the number of the first line, row or record that cannot be read.
  """
  return BadRow(_DAMAGED, f"damaged: {reason}", row)


def _document(row: Row, place: selections.Place) -> str | tables.Bad:
  """Returns the text of a row, changed as by `plain`.

  The result is a `tables.Bad` if the row is bad or has no text at `place`.
  """
  if isinstance(row, tables.Bad):
    return row
  text = selections.value_at(row, place)
  if not isinstance(text, str):
    shown = "none" if text is None else repr(text)[:60]
    return tables.Bad(
      f"a text under {'.'.join(place)!r}", shown, "mend or remove the row"
    )
  return plain(text)


def plain(text: str) -> str:
  r"""Returns a text with its HTML entities and written-out breaks resolved.

  `Сайн &amp; уу` becomes `Сайн & уу`. In a text without a line break, the two
  characters `\n` become a line break. Entities that were escaped twice, such as
  `&amp;nbsp;`, are resolved twice.
  """
  if "&" in text and _ENTITY.search(text):
    text = html.unescape(text)
    if _ENTITY.search(text):
      text = html.unescape(text)
  if "\\n" in text and "\n" not in text:
    text = _LITERAL_BREAK.sub("\n", text)
  return text


def full_lines(text: str) -> tuple[str, ...]:
  """Returns the lines of a text, stripped, without blank lines."""
  return tuple(filter(None, map(str.strip, text.split("\n"))))


def _guessed(rows: Table, path: str) -> str:
  """Returns the field of the text, for a user who named none, and logs it.

  The field is the first of _TEXT_FIELDS that the table has.

  The result is "text" for a table whose fields are unknown, since all its rows
  are bad.

  Raises:
    options.InputError: when the table has none of these fields.
  """
  name = next((name for name in _TEXT_FIELDS if name in rows.texts), "")
  if not name and rows.fields:
    raise options.InputError(
      f"one of the fields {', '.join(_TEXT_FIELDS)} with text in {path}",
      selections.shown(rows.fields),
      "name the field with --text_field",
    )
  if name:
    _say(name)
  return name or _TEXT_FIELDS[0]


@functools.cache
def _say(name: str) -> None:
  """Logs from which field the text is read, once for each field."""
  logging.info(
    "the text is read from the field %r; --text_field names another", name
  )


def _objects(
  items: Iterator[tuple[int, Any | tables.Bad]],
) -> Iterator[tuple[int, Row]]:
  """Yields (number, row) of the items of an array.

  A string becomes a row with this text in the field `text`. Any other item that
  is no object becomes a `tables.Bad`.
  """
  for number, item in items:
    if isinstance(item, str):
      yield number, {"text": item}
    elif isinstance(item, dict | tables.Bad):
      yield number, item
    else:
      yield (
        number,
        tables.Bad("a JSON object", repr(item)[:60], "mend or remove the item"),
      )


def _cells(path: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
  """Yields (number of the line, row) of the rows of a .csv or .tsv.

  A row is a dict, name of a column → cell, or a `tables.Bad`. An empty cell is
  None; in the first column, which holds the text, it is "".

  Args:
    path: the path of the file.
    columns: the columns to read.

  Raises:
    options.InputError: for a column that the file lacks, and for a file without
      rows.
  """
  wanted = [tables.Wanted(name, "--text_field") for name in columns]
  for line, cells in tables.cells(path, wanted):
    if isinstance(cells, tables.Bad):
      yield line, cells
    else:
      # An empty cell is null, but that of the text, which is the first.
      values = (cells[0], *(cell or None for cell in cells[1:]))
      yield line, dict(zip(columns, values, strict=True))


def _add(
  places: dict[selections.Place, None],
  row: Mapping[str, Any],
  before: selections.Place = (),
) -> None:
  """Adds the places of an object's fields to `places`.

  Args:
    places: place → None, as an ordered set.
    row: the object. Fields nested more than _DEEPEST deep are left out.
    before: the place of the object in its row; () for the row itself.
  """
  for name, value in row.items():
    place = (*before, name)
    places[place] = None
    if isinstance(value, Mapping) and len(place) < _DEEPEST:
      _add(places, value, place)
