"""Reads the items of JSON arrays one by one, however long the array is.

    [{"text": "Сайн уу."}, {"text": "Баяртай."}]

The array is the whole file, or the value of a key: with the key `messages`, the
items of every array that stands behind `"messages":` are read in turn.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from data_prep.files import storage, tables

_CHUNK = 1 << 20  # bytes
_SPACE = re.compile(r"[\s\ufeff]*")
_DECODER = json.JSONDecoder()
_NO_UTF8 = re.compile(r"[\udc80-\udcff]")  # bytes, as surrogateescape has them


def items(path: str, key: str = "") -> Iterator[tuple[int, Any | tables.Bad]]:
  """Yields (number, value) of each item of the arrays; the first item is 1.

  An item that is not UTF-8 comes as a `tables.Bad`. So does an item that is not
  JSON, or is too long for a row; no item follows that one, because its end is
  unknown. A file without an array to read yields nothing.

  Args:
    path: the path of a file, compressed or not.
    key: a regular expression that matches the keys of the arrays to read; ""
      for an array that is the whole file, or the value of a JavaScript
      variable.

  Raises:
    storage.DamagedFileError: behind the last whole item of a damaged compressed
      file.
  """
  begin = re.compile(rf'(?<!\\)"{key}"\s*:\s*\[' if key else r"\[")
  with storage.decompressed(path) as file:
    text = _Text(file)
    number = 0
    try:
      while text.skip_past(begin):
        for item in _array(text):
          number += 1
          yield number, item
        if text.lost or not key:
          return
    except storage.DamagedFileError as error:
      error.row = number + 1
      raise


def _array(text: "_Text") -> Iterator[Any | tables.Bad]:
  """Yields the items of an array, and reads up to its closing bracket.

  A malformed item comes as a `tables.Bad`, and ends the iterator.

  Args:
    text: the text of the file, read up to and including the opening bracket of
      the array.
  """
  while True:
    text.skip_spaces()
    if text.peek() == "]":
      return
    try:
      value = text.value()
      text.skip_spaces()
      end = text.peek()
      if end not in (",", "]"):
        raise ValueError(
          f"{end!r} behind an item" if end else "a cut-off array"
        )
    except (ValueError, RecursionError) as error:
      yield tables.Bad(
        "an item of a JSON array",
        f"{error or type(error).__name__}"[:200],
        "mend the file; behind this item nothing can be read",
      )
      text.lost = True
      return
    yield value
    if end == ",":
      text.advance()


def _not_utf8(escaped: str) -> tables.Bad:
  """Returns the verdict about an item with a byte that is not UTF-8.

  Args:
    escaped: the byte, as surrogateescape has it.
  """
  return tables.Bad(
    "UTF-8 text",
    f"byte 0x{ord(escaped) & 0xFF:02x}",
    "convert the file, for example: iconv -f CP1251 -t UTF-8",
  )


class _Text:
  """The text of a file with a current position; only a part is in memory.

  Args:
    file: the open file of UTF-8 bytes.

  Attributes:
    lost: whether an item's end is unknown, so that no further one can be read.
  """

  def __init__(self, file: IO[bytes]) -> None:
    self._file = file
    self.lost = False
    decoder = codecs.getincrementaldecoder("utf-8")
    self._decoder = decoder(errors="surrogateescape")
    self._text, self._at = "", 0
    self._ended = False

  def _more(self, size: int = _CHUNK) -> bool:
    """Reads at most `size` more bytes into memory; drops the text before.

    Returns:
      False at the end of the file, else True.

    Raises:
      storage.DamagedFileError: at the end of a damaged file.
    """
    if self._ended:
      return False
    raw = self._file.read(size)
    self._ended = not raw
    if self._ended and (damage := storage.damage(self._file)):
      raise damage
    read = self._decoder.decode(raw, final=self._ended)
    self._text, self._at = self._text[self._at :] + read, 0
    return not self._ended

  def skip_past(self, pattern: re.Pattern[str]) -> bool:
    """Moves the position to the end of the next match of a pattern.

    Args:
      pattern: a pattern whose matches have at most 100 characters.

    Returns:
      whether there was a match.
    """
    while True:
      if match := pattern.search(self._text, self._at):
        self._at = match.end()
        return True
      # A match may begin in the last few characters that were read.
      self._at = max(self._at, len(self._text) - 100)
      if not self._more():
        return False

  def skip_spaces(self) -> None:
    """Moves the position to the next character that is not white space.

    Without such a character, the position is the end of the file.
    """
    while True:
      match = _SPACE.match(self._text, self._at)
      assert match is not None, "the pattern matches nothing too"
      self._at = match.end()
      if self._at < len(self._text) or not self._more():
        return

  def peek(self) -> str:
    """Returns the character at the position; "" at the end of the file."""
    return self._text[self._at : self._at + 1]

  def advance(self) -> None:
    """Moves the position by one character."""
    self._at += 1

  def value(self) -> Any:
    """Returns the JSON value at the position, and moves the position past it.

    The result is a `tables.Bad` for a value that is not UTF-8.

    Raises:
      ValueError: when no value begins at the position, or the value is too long
        for a row.
      RecursionError: when the value is nested too deeply.
      storage.DamagedFileError: when damage cuts the value off.
    """
    size = _CHUNK
    while True:
      try:
        value, end = _DECODER.raw_decode(self._text, self._at)
      except ValueError:
        end = len(self._text)
        value = None
        if self._ended:
          raise
      # A number may go on behind what was read.
      if end < len(self._text) or self._ended:
        whole = self._text[self._at : end]
        self._at = end
        if byte := _NO_UTF8.search(whole):
          return _not_utf8(byte[0])
        return tables.without_surrogates(value) if "\\ud" in whole else value
      if len(self._text) - self._at > tables.MAX_ROW_BYTES:
        raise ValueError(f"an item of more than {tables.MAX_ROW_BYTES:,} bytes")
      # Twice as much each time: an item is parsed a few times at most.
      size = max(size, len(self._text) - self._at)
      self._more(size)
