"""Text from elsewhere as it is shown: to terminals, in tables, in Markdown."""

import re

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+.!|~&$-])")
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
  r"""Returns a text in one line, with escapes for what is not seen.

  Line breaks become spaces. Control characters, and those that change the
  direction of writing, are written as Python writes them: `\x1b`, `\u202e`.
  """
  return escaped(text.replace("\r\n", " ").replace("\n", " "))


def escaped(text: str, kept: str = "") -> str:
  """Returns a text with escapes for what is not seen, but for `kept`."""
  if text.isprintable():
    return text
  return "".join(
    letter
    if letter.isprintable() or letter in kept
    else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
    for letter in text
  )


def json_escaped(text: str) -> str:
  r"""Returns JSON of one line with the same content and nothing that is unseen.

  What is not seen stands in strings alone, and is written as `\u202e` there.
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
  """Returns a text in one line of Markdown, where it means nothing else."""
  return _MARKUP.sub(r"\\\1", printable(text))


def cell(text: str) -> str:
  """Returns a text as a cell of a table that people open as a spreadsheet.

  A spreadsheet takes a text that begins with = + - or @ for a formula, but not
  behind an apostrophe, which it does not show. Numbers stay as they are.
  """
  text = escaped(" ".join(text.split()))
  if not text.startswith(_FORMULA) or _is_number(text):
    return text
  return f"'{text}"


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True
