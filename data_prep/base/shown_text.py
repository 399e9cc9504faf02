"""Escapes foreign text for terminals, spreadsheets, JSON and Markdown."""

import re

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&$-])")
# The beginning of a text that a spreadsheet takes for a formula. Spreadsheets
# ignore quotes around a cell; in East Asia they read wide signs as narrow ones.
_FORMULA = re.compile('["\\s]*[=+@\uff0b\uff0d\uff1d\uff20-]')


def printable(text: str) -> str:
  r"""Returns a text in one line, with escapes for invisible characters.

  A line feed, with or without a carriage return before it, becomes a space. A
  character that Python does not print, such as a control character or a mark
  that changes the direction of writing, becomes its escape: `\x1b`, `\u202e`.
  """
  return escaped(text.replace("\r\n", " ").replace("\n", " "))


def escaped(text: str, kept: str = "") -> str:
  r"""Returns a text with escapes such as `\x1b` for its invisible characters.

  A character is invisible if `str.isprintable` is false for it. The characters
  in `kept` are not escaped.
  """
  if text.isprintable():
    return text
  return "".join(
    letter
    if letter.isprintable() or letter in kept
    else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
    for letter in text
  )


def json_escaped(text: str) -> str:
  r"""Returns a line of JSON with JSON's escapes for its invisible characters.

  Only strings in JSON contain such characters: U+202E becomes `\u202e`, and a
  character above U+FFFF becomes the escapes of its two surrogates. The value of
  the JSON stays the same.
  """
  if text.isprintable():
    return text
  return "".join(
    letter
    if letter.isprintable()
    else "".join(
      f"\\u{unit:04x}"
      for unit in memoryview(letter.encode("utf-16-le", "surrogatepass")).cast(
        "H"
      )
    )
    for letter in text
  )


def markdown(text: str) -> str:
  """Returns a text as one line of Markdown, in which no character is markup."""
  return _MARKUP.sub(r"\\\1", printable(text))


def cell(text: str) -> str:
  """Returns a text for a cell of a table that is opened as a spreadsheet.

  A spreadsheet takes a text that begins with = + - or @, in quotes or not, for
  a formula. An apostrophe, which the spreadsheet does not show, is put before
  such a text, unless the text is a number. Each run of white space becomes one
  space, white space at the ends is removed, and invisible characters are
  escaped.
  """
  text = escaped(" ".join(text.split()))
  if _FORMULA.match(text) and not _is_number(text):
    return f"'{text}"
  return text


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True
