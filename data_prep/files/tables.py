"""Reads rows of CSV, TSV and JSON lines one by one, and reports each bad row.

Other readers stop at the first bad row, or drop it, or let an open quotation
mark swallow the rows after it. Here every row is yielded in its place, with its
line number: as its cells, or as a `Bad` that says what is wrong. No file is
held in memory as a whole.

  for line, cells in tables.cells("a.csv", [Wanted("text", "--text_column")]):

Files are in UTF-8, or in UTF-16 with its byte order mark (Excel's "Unicode
text").
"""

import codecs
import collections
import csv
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

from data_prep.base import options
from data_prep.files import storage

# A text of a million words in Cyrillic. A longer row is reported and skipped.
MAX_ROW_BYTES = 16 << 20
_BLOCK_BYTES = 1 << 20
_FIRST_ROWS = 100  # of JSON lines, in which a key must occur
_JSON = (".jsonl", ".ndjson", ".json")


@dataclasses.dataclass(frozen=True)
class Bad:
  """The reason why a row cannot be read; it stands in the place of the row.

  Attributes:
    expected: the correct content.
    got: the actual content.
    action: what the user should do about it, as an imperative.
  """

  expected: str
  got: str
  action: str

  @property
  def reason(self) -> str:
    """The reason in words, without the file and the line."""
    return f"expected {self.expected}, got {self.got}"

  def error(self, path: str, line: int) -> options.InputError:
    """Returns an exception for this row, to be raised by the caller.

    Args:
      path: the path of the file, for the message.
      line: the number of the row's line, for the message.
    """
    return options.InputError(
      f"{self.expected} at {path}:{line}", self.got, self.action
    )


def bad_rows_option() -> str:
  """Returns a dataclass field for the option --bad_rows."""
  return options.option(
    "stop",
    "What to do with a row that cannot be read. stop: end with an error "
    "at the first. leave_out: leave out, count and list such rows.",
    choices=("stop", "leave_out"),
  )


@dataclasses.dataclass(frozen=True)
class Wanted:
  """A column to read, or a key of JSON lines.

  Attributes:
    name: the name of the column, in which white space at the ends does not
      count; or the key, in which it does.
    flag: the flag that names the column, for messages.
    required: whether the file must have the column.
  """

  name: str
  flag: str
  required: bool = True


Cells = tuple[Any, ...]
Lines = Iterator[tuple[int, str | Bad]]
Fields = Iterator[tuple[int, list[str] | Bad]]


def cells(
  path: str, wanted: Sequence[Wanted]
) -> Iterator[tuple[int, Cells | Bad]]:
  """Returns an iterator over the rows of a file.

  Args:
    path: .csv, .tsv or .jsonl (.ndjson, .json), compressed or not.
    wanted: the columns, or keys of JSON lines.

  Returns:
    (line number, cells) of each row; for a bad row, a `Bad` in place of cells.
      The cells are the values of `wanted` in this order: str, or the value in
      JSON; None if a file or a JSON object lacks the column.

  Raises:
    options.InputError: for another kind of file, a missing column, or a file
      without rows; before the first row is taken.
  """
  if storage.kind(path) in _JSON:
    return objects(path, wanted)
  return _columns(path, wanted)


def is_table(path: str) -> bool:
  """Returns whether `cells` can read a file, judged by its name."""
  return storage.kind(path) in (".csv", ".tsv", *_JSON)


def table(path: str) -> Fields:
  """Returns an iterator over (line number, fields) of every CSV or TSV row.

  The header is a row too. A blank line has one field. A row that cannot be read
  has a `Bad` in place of its fields. A quotation mark is special in CSV only.

  Raises:
    options.InputError: for a file with another ending, before the first row is
      taken.
  """
  kind = storage.kind(path)
  if kind == ".tsv":
    return _tab_separated(lines(path))
  if kind == ".csv":
    return _comma_separated(lines(path))
  raise options.InputError(
    "a file that ends in .csv, .tsv or .jsonl (.gz and such too)",
    path,
    "rename it after what separates its columns",
  )


def column(header: Sequence[str], name: str, flag: str, path: str) -> int:
  """Returns the index of a column in a header.

  Args:
    header: the names of the columns, stripped.
    name: the name of the column; white space at its ends does not count.
    flag: the flag that names the column, for messages.
    path: the path of the file, for messages.

  Raises:
    options.InputError: unless exactly one column has the name.
  """
  wanted = name.strip()
  if header.count(wanted) != 1:
    columns = ", ".join(map(repr, header))
    glued = len(header) == 1 and re.search(r"[;\t|]", header[0])
    raise options.InputError(
      f"one column {wanted!r} in {path}",
      f"columns {columns}",
      f"part the columns by commas or, in a .tsv, tabs, not by {glued[0]!r}"
      if glued
      else f"name the column with {flag}",
    )
  return header.index(wanted)


def _columns(
  path: str, wanted: Sequence[Wanted]
) -> Iterator[tuple[int, Cells | Bad]]:
  """Yields the rows of a CSV or TSV file as `cells` does."""
  rows = table(path)
  names = _names(path, rows)
  rows = _without_blank_lines(rows, len(names))
  first = list(itertools.islice(rows, 1))
  if not first:
    raise options.InputError(
      f"a header and at least one row in {path}",
      "a header only",
      "give a file with rows",
    )
  places = [
    column(names, each.name, each.flag, path)
    if each.required or each.name.strip() in names
    else -1
    for each in wanted
  ]
  return _picked(itertools.chain(first, rows), len(names), places)


def header(path: str) -> list[str] | None:
  """Returns the column names of a CSV or TSV; None for JSON lines.

  Raises:
    options.InputError: for another kind of file, or a file without a header. A
      file with a header only is accepted.
  """
  if storage.kind(path) in _JSON:
    return None
  return _names(path, table(path))


def _names(path: str, rows: Fields) -> list[str]:
  """Takes the header from the rows; returns the column names, stripped.

  Blank lines before the header are skipped.

  Raises:
    options.InputError: for a file without a header, or a bad header. A file with
      a header only is accepted.
  """
  line, column_names = next(_without_blank_lines(rows, 0), (0, None))
  if column_names is None:
    raise options.InputError(
      f"a header and at least one row in {path}",
      "an empty file",
      "give a file with rows",
    )
  if isinstance(column_names, Bad):
    raise column_names.error(path, line)
  return [name.strip() for name in column_names]


def _without_blank_lines(rows: Fields, width: int) -> Fields:
  """Yields the rows without the blank lines among them.

  A blank line is a row with one field, which is empty or white space. In a file
  of one column blank lines are yielded, because they are rows with an empty
  cell.

  Args:
    rows: (line number, fields).
    width: number of columns; 0 if unknown.
  """
  for line, fields in rows:
    match fields:
      case [cell] if width != 1 and not cell.strip():
        continue
    yield line, fields


def _picked(
  rows: Fields, width: int, places: Sequence[int]
) -> Iterator[tuple[int, Cells | Bad]]:
  """Yields (line number, cells of the wanted columns) of each row.

  A row whose number of fields is not `width` has a `Bad` in place of the cells;
  a `Bad` in `rows` is passed on.

  Args:
    rows: (line number, fields).
    width: number of columns.
    places: index of each wanted column in the row; −1 for a column that the
      file lacks, whose cells are None.
  """
  for line, fields in rows:
    if isinstance(fields, Bad):
      yield line, fields
    elif len(fields) != width:
      yield (
        line,
        Bad(
          f"{width} columns, as in the header",
          str(len(fields)),
          "mend the row (a separator inside a text?)",
        ),
      )
    else:
      yield line, tuple(fields[at] if at >= 0 else None for at in places)


def objects(
  path: str, wanted: Sequence[Wanted]
) -> Iterator[tuple[int, Cells | Bad]]:
  """Returns an iterator over the rows of JSON lines in a file of any name.

  Args:
    path: the path of the file, compressed or not.
    wanted: the keys to read.

  Returns:
    (line number, cells) of each row, as `cells` returns them.

  Raises:
    options.InputError: for a file without rows, and for a required key that
      none of the objects in the first _FIRST_ROWS (100) rows has.
  """
  rows = json_lines(path)
  first = list(itertools.islice(rows, _FIRST_ROWS))
  if not first:
    raise options.InputError(
      f"at least one JSON object in {path}", "none", "give a file with rows"
    )
  objects = [row for _, row in first if isinstance(row, dict)]
  for each in wanted if objects else ():
    if each.required and not any(each.name in row for row in objects):
      raise options.InputError(
        f"the key {each.name!r} in the objects of {path}",
        ", ".join(map(repr, objects[0])) or "none",
        f"name the key with {each.flag}",
      )
  names = [each.name for each in wanted]
  return (
    (line, row if isinstance(row, Bad) else tuple(map(row.get, names)))
    for line, row in itertools.chain(first, rows)
  )


def json_lines(path: str) -> Iterator[tuple[int, dict[str, Any] | Bad]]:
  """Yields (line number, object) of each line that is not blank.

  A line that is no JSON object comes as a `Bad`.
  """
  for number, line in lines(path):
    if isinstance(line, Bad):
      yield number, line
    elif line.strip():
      yield number, _object(line)


def _object(line: str) -> dict[str, Any] | Bad:
  """Returns the object in a line of JSON; a `Bad` if the line has no object."""
  try:
    parsed = json.loads(line)
    if isinstance(parsed, dict):
      return without_surrogates(parsed) if "\\ud" in line.lower() else parsed
  except (ValueError, RecursionError):  # of a number of 5,000 digits too
    pass
  whole = line.lstrip().startswith("[")
  return Bad(
    "a JSON object",
    repr(line[:60]),
    "write one object a line: jq -c '.[]'" if whole else "mend the line",
  )


def without_surrogates(parsed: Any) -> Any:
  r"""Returns a JSON value with U+FFFD in place of lone surrogates.

  "\ud83d" is valid JSON, but UTF-8 cannot hold it.
  """
  text = json.dumps(parsed, ensure_ascii=False)
  whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
  return json.loads(whole)


def _tab_separated(source: Lines) -> Fields:
  """Yields (line number, fields) of each TSV row; a bad row's fields are a Bad.

  Args:
    source: (line number, text or Bad) of each line.
  """
  for number, line in source:
    yield number, line if isinstance(line, Bad) else line.split("\t")


class _Source:
  """An iterator over (line number, text or Bad) with a method to undo reads."""

  def __init__(self, source: Lines) -> None:
    self._source = source
    self._returned: collections.deque[tuple[int, str | Bad]] = (
      collections.deque()
    )

  def __iter__(self) -> Lines:
    return self

  def __next__(self) -> tuple[int, str | Bad]:
    return self._returned.popleft() if self._returned else next(self._source)

  def give_back(self, taken: Sequence[tuple[int, str | Bad]]) -> None:
    """Puts back lines that were taken, so that they come next, in order."""
    self._returned.extendleft(reversed(taken))


def _comma_separated(lines_: Lines) -> Fields:
  """Yields (line number, fields) of each CSV row; a bad row's fields are a Bad.

  A quoted field keeps its line breaks. After a malformed row, which gives a
  `Bad`, the next row begins on the next line: an open quotation mark costs one
  row.
  """
  csv.field_size_limit(MAX_ROW_BYTES)
  source = _Source(lines_)
  for number, line in source:
    if isinstance(line, Bad):
      yield number, line
    elif '"' in line:
      yield number, _quoted(line, source)
    else:
      yield number, line.split(",")  # the result of csv, but faster


def _quoted(line: str, source: _Source) -> list[str] | Bad:
  """Returns the cells of the CSV row that begins with `line`.

  A quoted cell may take further lines from `source`. For a malformed row the
  result is a `Bad`, and these lines are given back to `source`.
  """
  taken: list[tuple[int, str | Bad]] = []

  def record() -> Iterator[str]:
    yield line + "\n"
    length = len(line)
    for at in source:
      taken.append(at)
      length += 0 if isinstance(at[1], Bad) else len(at[1])
      if isinstance(at[1], Bad) or length > MAX_ROW_BYTES:
        return
      yield at[1] + "\n"

  try:
    return next(csv.reader(record(), strict=True))
  except csv.Error as error:
    source.give_back(taken)
    return Bad(
      "a well-formed CSV row",
      str(error),
      "mend its quotation marks; a .tsv file needs none",
    )


def lines(path: str, longest: int | None = None) -> Lines:
  """Yields the number and the text of every line; the first line is 1.

  Line breaks are removed, also those of Windows. A line that is neither UTF-8
  nor, in a file of UTF-16, UTF-16, or that is longer than `longest` bytes
  (MAX_ROW_BYTES for None), is yielded as a `Bad`.

  Raises:
    storage.DamagedFileError: behind the last whole line of a damaged compressed
      file.
  """
  with storage.decompressed(path) as file:
    start = file.read(2)
  with storage.decompressed(path) as file:
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
      blocks = _utf16_blocks(file)
    else:
      blocks = _utf8_blocks(file, longest or MAX_ROW_BYTES)
    number = 0
    for line in itertools.chain.from_iterable(blocks):
      number += 1
      yield number, line
    if damage := storage.damage(file):
      damage.row = number + 1


def _too_long(longest: int) -> Bad:
  """Returns the verdict about a line of more than `longest` bytes."""
  return Bad(
    f"a row of at most {longest:,} bytes",
    "a longer one",
    "cut the text, or put its line breaks back",
  )


def _utf8_blocks(file: IO[bytes], longest: int) -> Iterator[list[str | Bad]]:
  """Yields the lines of UTF-8 bytes in lists of about 1 MB.

  To read single lines would take longer. The last line of a list may exceed the
  1 MB. In place of a line that is not UTF-8, or longer than `longest` bytes, the
  list holds a `Bad`. A line that damage cuts off is left out.
  """
  first = True
  while raw := file.read(_BLOCK_BYTES):
    if first:
      raw, first = raw.removeprefix(storage.BYTE_ORDER_MARK), False
    begun = raw.rfind(b"\n") + 1
    last = storage.read_line(file, longest, raw[begun:])
    raw = raw[:begun]
    too_long = len(storage.without_line_end(last)) > longest
    if too_long:
      storage.skip_line(file, last)
    elif not storage.is_cut(file, last):
      raw += last
    text_lines = _decoded(raw)
    yield [*text_lines, _too_long(longest)] if too_long else text_lines


def _decoded(raw: bytes) -> list[str | Bad]:
  """Decodes bytes that hold whole lines; returns a list of the lines.

  In place of a line that is not UTF-8 the list holds a `Bad`.
  """
  try:
    text_lines: list[str | Bad] = list(raw.decode().split("\n"))
  except UnicodeDecodeError:
    text_lines = list(map(_one_decoded, raw.split(b"\n")))
  if not text_lines[-1]:
    del text_lines[-1]  # what follows the last line break is no line
  if b"\r" not in raw:
    return text_lines
  return [a if isinstance(a, Bad) else a.rstrip("\r") for a in text_lines]


def _one_decoded(raw: bytes) -> str | Bad:
  """Returns the text of one line of bytes; a `Bad` if they are not UTF-8."""
  try:
    return raw.decode()
  except UnicodeDecodeError as error:
    return Bad(
      "UTF-8 text",
      f"byte 0x{raw[error.start]:02x}",
      "convert the file, for example: iconv -f CP1251 -t UTF-8",
    )


def _utf16_blocks(file: IO[bytes]) -> Iterator[list[str | Bad]]:
  """Yields each line of UTF-16 bytes in a list of its own.

  The list holds a `Bad` for a line that is not UTF-16, contains U+FFFD, or is
  longer than MAX_ROW_BYTES characters.
  """
  # Undecodable bytes become U+FFFD: half a character, or a truncated file.
  text = io.TextIOWrapper(file, "utf-16", errors="replace", newline="\n")
  try:
    while line := text.readline(MAX_ROW_BYTES + len("\r\n")):
      content = line.removesuffix("\n").removesuffix("\r")
      too_long = len(content) > MAX_ROW_BYTES
      while line and not line.endswith("\n") and too_long:
        line = text.readline(MAX_ROW_BYTES)
      if too_long:
        yield [_too_long(MAX_ROW_BYTES)]
      elif storage.is_cut(file, line.encode()):
        return
      elif "\ufffd" in line:
        yield [Bad("UTF-16 text", "half a character", "convert it to UTF-8")]
      else:
        yield [line.rstrip("\r\n")]
  finally:
    text.detach()
