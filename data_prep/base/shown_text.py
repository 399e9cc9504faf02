"""Escapes foreign text for terminals, spreadsheets, JSON and Markdown."""

import re

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&$-])")
# The beginning of a text that a spreadsheet takes for a formula. Spreadsheets
# ignore quotes around a cell; in East Asia they read wide signs as narrow ones.
_FORMULA = re.compile('["\\s]*[=+@\uff0b\uff0d\uff1d\uff20-]')


def printable(text: str) -> str:
  r"""Returns a text in one line, with escapes for invisible characters.

  Line breaks become spaces. Control characters, and characters that change the
  direction of writing, are written as Python writes them: `\x1b`, `\u202e`.
  """
  return escaped(text.replace("\r\n", " ").replace("\n", " "))


def escaped(text: str, kept: str = "") -> str:
  r"""Returns a text with escapes such as `\x1b` for its invisible characters.

  The characters in `kept` are not escaped.
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
  r"""Returns a line of JSON with escapes for its invisible characters.

  Only strings in JSON contain such characters, which become escapes such as
  `\u202e`.
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
  a formula. An apostrophe is put before such a text, which the spreadsheet does
  not show. Numbers are not changed; runs of white space become one space.
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
