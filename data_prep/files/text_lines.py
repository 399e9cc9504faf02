"""Reads texts that stand one a line: in files, or on the standard input.

No line is dropped: a line that cannot be read comes with the reason.
"""

import dataclasses
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any

from data_prep.base import options
from data_prep.files import contents, storage, tables

# Lines read ahead of the model: memory stays flat, whatever the input.
_AHEAD = 4096


@dataclasses.dataclass(frozen=True)
class Line:
  """A line of the input: its text, or its error.

  Attributes:
    place: {"line": 3}; of several files, with the file too.
    text: the text of the line; "" if there is an error.
    error: why the line cannot be read; "" if it can.
  """

  place: dict[str, Any]
  text: str = ""
  error: str = ""


def read(text: str, pattern: str, instead: str) -> Iterator[Line]:
  """Yields one given text, the lines of files, or those of the standard input.

  Args:
    text: a single text, which is one line whatever it holds; "" for none.
    pattern: files, as glob patterns separated by commas; "" for none. Without a
      text and files, lines come from the standard input.
    instead: what to do with a file of rows, as an imperative, for the message.

  Raises:
    options.InputError: at the first line, for a missing file, or a file whose
      lines are no texts, such as a table.
  """
  if text:
    yield _line(text.encode("utf-8", "surrogateescape"), {"line": 1})
  elif pattern:
    files = storage.matching(pattern)
    for path in files:
      _require_lines(path, instead)
    for path in files:
      with storage.decompressed(path) as file:
        yield from _lines_of(file, {"file": path} if len(files) > 1 else {})
  else:
    yield from _lines_of(sys.stdin.buffer, {})


def _require_lines(path: str, instead: str) -> None:
  """Raises InputError for a file whose lines are not the texts themselves.

  Args:
    path: the file.
    instead: as in `read`.

  Raises:
    options.InputError: for a table, a web page and such.
  """
  kind = contents.kind(path)
  if kind == contents.JSON_LINES or tables.is_table(path):
    raise options.InputError(
      f"a text in each line of {path}",
      f"a table: {storage.kind(path) or kind}",
      instead,
    )
  if kind not in (contents.TEXT, contents.BINARY):  # bad lines are answered
    contents.require(path, [contents.TEXT], "a text in each line")


def _lines_of(file: IO[bytes], place: dict[str, Any]) -> Iterator[Line]:
  """Yields the lines of an open file; a line that cannot be read has an error.

  A line cannot be read if it is blank, not UTF-8, or longer than 1 MiB. A byte
  order mark is left out.

  Args:
    file: the file.
    place: the entries of Line.place apart from the line number.
  """
  number, most = 0, storage.MAX_LINE_BYTES
  mark = storage.BYTE_ORDER_MARK
  while raw := storage.read_line(file, most + (0 if number else len(mark))):
    number += 1
    here = {**place, "line": number}
    if number == 1:
      raw = raw.removeprefix(mark)
    line = storage.without_line_end(raw)
    if len(line) > most:
      storage.skip_line(file, raw)
      yield Line(here, error=f"longer than {most:,} bytes")
    else:
      yield _line(line, here)


def _line(raw: bytes, place: dict[str, Any]) -> Line:
  """Decodes a line; the result has an error if it is blank or not UTF-8.

  Args:
    raw: the bytes of the line.
    place: the value of Line.place.
  """
  try:
    text = raw.decode("utf-8")
  except UnicodeDecodeError as error:
    byte = raw[error.start]
    return Line(place, error=f"not UTF-8: byte 0x{byte:02x} at {error.start}")
  return Line(place, text) if text.strip() else Line(place, error="empty")


def gathered(incoming: Iterable[Line], most: int) -> Iterator[list[Line]]:
  """Yields batches of the lines that have come, without waiting for more.

  The function waits only for the first line of a batch. So a person at the
  keyboard gets each answer at once, and the model always works on the lines
  that are there. An error of `incoming` is raised after the lines before it.

  Args:
    incoming: lines, which a separate thread reads.
    most: largest number of lines of a batch.
  """
  waiting: queue.Queue[Line | Exception | None] = queue.Queue(_AHEAD)

  def read() -> None:
    try:
      for line in incoming:
        waiting.put(line)
    except Exception as error:  # noqa: BLE001  raised below, by the consumer
      waiting.put(error)
    waiting.put(None)

  threading.Thread(target=read, name="reader", daemon=True).start()
  while True:
    batch: list[Line] = []
    while len(batch) < most:
      try:
        item = waiting.get(block=not batch)
      except queue.Empty:
        break
      if item is None or isinstance(item, Exception):
        if batch:
          yield batch
        if item:
          raise item
        return
      batch.append(item)
    yield batch
