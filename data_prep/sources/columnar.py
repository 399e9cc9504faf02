"""Reads the rows of Parquet and Arrow files, some at a time.

Arrow's file format and its stream format, in which the library `datasets` saves
a data set, can be read. Only the wanted columns are read, and of Parquet only
the pages that are needed, so that memory depends neither on the size of a file
nor on that of a row group. A file may come from anywhere: what it states about
itself is checked before it is used. Some functions of pyarrow 26.0.1 end the
process at a damaged file; `_parquet` and `_arrow` call none that was seen to do
so.
"""

import contextlib
import dataclasses
import datetime
import decimal
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from data_prep.base import options
from data_prep.files import contents, storage, tables

# Rows that are decoded at once. In pages with a dictionary, a long text that
# many rows share takes its memory once for each of them.
_ROWS = 32
_BUFFER_BYTES = 1 << 20
_BEGINNING = 16  # bytes that tell the format, or a compression
_MOST_FIELDS = 10_000  # guess: of a table, those in other fields included
_LARGEST_BATCH = 1 << 30  # bytes of a record batch, which is read as a whole

_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, MemoryError)

Place = tuple[str, ...]
Row = dict[str, Any] | tables.Bad


def fields(path: str, kind: str) -> tuple[list[Place], list[str]]:
  """Returns the fields of a file, and the columns that hold text.

  Args:
    path: the path of a file.
    kind: contents.PARQUET or contents.ARROW.

  Returns:
    (places of all fields, names of the columns of text). The place of a field
      is a tuple of the names of the fields around it and its own name, such as
      ("meta", "lang").

  Raises:
    options.InputError: for a file that is damaged, or compressed once more.
  """
  with _opened(path, kind) as file, _whole(path, kind):
    schema = file.schema_arrow if kind == contents.PARQUET else file.schema
    places: list[Place] = []
    for field in schema:
      _add(places, field, (), path)
    texts = [field.name for field in schema if _is_text(field.type)]
  return places, texts


def rows(
  path: str, kind: str, columns: Sequence[str]
) -> Iterator[tuple[int, Row]]:
  """Yields (row number, values by column) of each row; the first row is 1.

  A row with text that is not UTF-8, or is longer than tables.MAX_ROW_BYTES
  characters, comes as a `tables.Bad`. So do all rows from the first that is
  damaged to the end of its row group or record batch, as one.

  Args:
    path: the path of a file.
    kind: contents.PARQUET or contents.ARROW.
    columns: the names of the columns to read.

  Raises:
    options.InputError: for a damaged file, for columns that the file lacks, and
      for a file that unpacks to hundreds of times its size.
  """
  number, given = 0, 0
  most = storage.most_unpacked(storage.size(path) or 0)
  with _opened(path, kind) as file, _whole(path, kind):
    batches = (
      _parquet(file, columns, path)
      if kind == contents.PARQUET
      else _arrow(file, columns, path)
    )
    for batch in batches:
      if isinstance(batch, _Lost):
        yield number + 1, batch.bad(kind)
        number += batch.rows
        continue
      cells = [_values(column) for column in batch]
      for row in zip(*cells, strict=True):
        number += 1
        given += sum(len(cell) for cell in row if isinstance(cell, str))
        if given > most:
          raise options.InputError(
            f"text in {path}",
            f"more than {given >> 20} MB in {storage.size(path):,} bytes",
            "leave it out: it is made to fill a disk",
          )
        yield number, _row(columns, row)


@contextlib.contextmanager
def _opened(path: str, kind: str) -> Iterator[Any]:
  """Yields a ParquetFile, or the reader of an Arrow file or stream.

  Raises:
    options.InputError: for a file that is compressed as a whole, or damaged.
  """
  with contextlib.ExitStack() as stack:
    raw = stack.enter_context(storage.reading(path))
    begin = raw.read(_BEGINNING)
    if storage.compression(begin):
      raise options.InputError(
        f"{kind} that is not compressed as a whole, in {path}",
        f"a {storage.compression(begin)} file",
        "decompress it: its columns are compressed already",
      )
    raw.seek(0)
    source = stack.enter_context(pa.PythonFile(raw, mode="r"))
    with _whole(path, kind):
      if kind == contents.PARQUET:
        file = pq.ParquetFile(
          source,
          pre_buffer=False,
          page_checksum_verification=True,
          buffer_size=_BUFFER_BYTES,
          thrift_string_size_limit=64 << 20,
          thrift_container_size_limit=1 << 20,
        )
      elif begin.startswith(b"ARROW1"):
        file = pa.ipc.open_file(source)
      else:
        file = pa.ipc.open_stream(source)
    yield file


@contextlib.contextmanager
def _whole(path: str, kind: str) -> Iterator[None]:
  """Turns errors from a damaged file in the context into an InputError.

  Errors of the system, such as a missing file, pass unchanged.
  """
  try:
    yield
  except _ERRORS as error:
    _reraise_of_system(error)
    raise storage.DamagedFileError(
      f"a whole {kind} file at {path}", _reason(error), "copy it again"
    ) from error


def _reason(error: BaseException) -> str:
  """Returns the first line of an error's message, or else its type."""
  return str(error).strip().partition("\n")[0] or type(error).__name__


@dataclasses.dataclass(frozen=True)
class _Lost:
  """Rows that are damaged, to the end of a row group or record batch.

  Attributes:
    rows: the number of the rows; 0 if it is unknown.
    reason: the damage in words.
  """

  rows: int
  reason: str

  def bad(self, kind: str) -> tables.Bad:
    """Returns the verdict about the rows of a file of this kind."""
    rows = f"{self.rows:,} rows" if self.rows else "rows"
    return tables.Bad(
      f"whole {kind}", f"{rows} with damage: {self.reason}", "copy it again"
    )


def _reraise_of_system(error: BaseException) -> None:
  """Raises an error again that is the system's, such as a missing file."""
  # An OSError with a number: no file, or no permission.
  if isinstance(error, OSError) and error.errno is not None:
    raise error


def _parquet(
  file: pq.ParquetFile, columns: Sequence[str], path: str
) -> Iterator[list[pa.Array] | _Lost]:
  """Yields the wanted columns of at most _ROWS rows at a time.

  A damaged row group ends in a `_Lost`.

  Raises:
    options.InputError: for a row group that states to unpack to hundreds of
      times its size.
  """
  most = storage.most_unpacked(storage.size(path) or 0)
  for group in range(file.num_row_groups):
    size = file.metadata.row_group(group).total_byte_size
    if size > most:
      raise options.InputError(
        f"text in {path}",
        f"a row group of {size >> 20} MB in {storage.size(path):,} bytes",
        "leave it out: it is made to fill memory",
      )
  for group in range(file.num_row_groups):
    read = 0
    try:
      for batch in file.iter_batches(
        batch_size=_ROWS,
        row_groups=[group],
        columns=list(columns),
        use_threads=False,
      ):
        yield [batch.column(name) for name in columns]
        read += batch.num_rows
    except _ERRORS as error:
      _reraise_of_system(error)
      rows = file.metadata.row_group(group).num_rows
      yield _Lost(max(0, rows - read), _reason(error))


def _arrow(
  file: Any, columns: Sequence[str], path: str
) -> Iterator[list[pa.Array] | _Lost]:
  """Yields the wanted columns of at most _ROWS rows at a time.

  In place of a damaged record batch comes a `_Lost`.

  Raises:
    options.InputError: for a record batch of more than _LARGEST_BATCH bytes.
  """
  for batch in _record_batches(file):
    if isinstance(batch, _Lost):
      yield batch
      continue
    size = batch.get_total_buffer_size()
    if size > _LARGEST_BATCH:
      raise options.InputError(
        f"record batches of at most {_LARGEST_BATCH >> 20} MB in {path}",
        f"{size >> 20} MB",
        "write it as Parquet",
      )
    try:
      whole = [_checked(batch.column(name)) for name in columns]
    except _ERRORS as error:
      yield _Lost(batch.num_rows, _reason(error))
      continue
    for start in range(0, batch.num_rows, _ROWS):
      yield [column.slice(start, _ROWS) for column in whole]


def _record_batches(file: Any) -> Iterator[pa.RecordBatch | _Lost]:
  """Yields the record batches of an Arrow file or stream.

  In place of a damaged one comes a `_Lost`, which ends a stream.
  """
  is_stream = isinstance(file, pa.RecordBatchStreamReader)
  number = 0
  while is_stream or number < file.num_record_batches:
    try:
      yield file.read_next_batch() if is_stream else file.get_batch(number)
    except StopIteration:
      return
    except _ERRORS as error:
      _reraise_of_system(error)
      yield _Lost(0, _reason(error))
      if is_stream:
        return
    number += 1


def _checked(column: pa.Array) -> pa.Array:
  """Returns a column whose offsets lie inside its data; text becomes bytes.

  Raises:
    pa.ArrowInvalid: for a damaged column.
  """
  column = _as_bytes(column)
  column.validate(full=True)
  return column


def _as_bytes(column: pa.Array) -> pa.Array:
  """Returns a column of text as bytes, since text may not be UTF-8.

  A column of another type is returned unchanged.
  """
  if pa.types.is_large_string(column.type):
    return column.cast(pa.large_binary())
  return column.cast(pa.binary()) if pa.types.is_string(column.type) else column


def _values(column: pa.Array) -> list[Any]:
  """Returns the values of a column as JSON would hold them.

  Dates are ISO text, durations are seconds. Bytes become text; bytes that are
  not UTF-8 stay bytes.
  """
  return [_value(value) for value in _as_bytes(column).to_pylist()]


def _value(value: Any) -> Any:
  """Returns one value of a column as JSON would hold it; see `_values`."""
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError:
      return value
  if isinstance(value, datetime.date | datetime.time):
    return value.isoformat()
  if isinstance(value, decimal.Decimal):
    return float(value)
  if isinstance(value, datetime.timedelta):
    return value.total_seconds()
  return value


def _row(columns: Sequence[str], cells: Sequence[Any]) -> Row:
  """Returns name of the column → cell of a row.

  The result is a `tables.Bad` if a cell holds bytes that are not UTF-8, or a
  text of more than tables.MAX_ROW_BYTES characters.
  """
  for name, cell in zip(columns, cells, strict=True):
    if isinstance(cell, bytes):
      return tables.Bad(
        f"UTF-8 text under {name!r}", repr(cell[:20]), "mend the row"
      )
    if isinstance(cell, str) and len(cell) > tables.MAX_ROW_BYTES:
      return tables.Bad(
        f"a text of at most {tables.MAX_ROW_BYTES:,} characters under {name!r}",
        f"{len(cell):,}",
        "cut the text",
      )
  return dict(zip(columns, cells, strict=True))


def _add(
  places: list[Place], field: pa.Field, before: Place, path: str
) -> None:
  """Appends the place of a field, and of the fields in it, to `places`.

  Args:
    places: the list.
    field: the field.
    before: the place of the field around it; () for none.
    path: the path of the file, for messages.

  Raises:
    options.InputError: for more than _MOST_FIELDS places.
  """
  if len(places) >= _MOST_FIELDS:
    raise options.InputError(
      f"at most {_MOST_FIELDS:,} fields in {path}",
      "more",
      "leave it out, or write the columns of text alone",
    )
  place = (*before, field.name)
  places.append(place)
  if pa.types.is_struct(field.type):
    for inner in field.type.fields:
      _add(places, inner, place, path)


def _is_text(kind: pa.DataType) -> bool:
  """Returns whether a column of the type `kind` holds text or bytes."""
  if pa.types.is_dictionary(kind):
    kind = kind.value_type
  return (
    pa.types.is_binary(kind)  # of writers that do not say that it is text
    or pa.types.is_large_binary(kind)
    or pa.types.is_string(kind)
    or pa.types.is_large_string(kind)
    or pa.types.is_string_view(kind)
  )
