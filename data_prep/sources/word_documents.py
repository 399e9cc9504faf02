"""Reads the paragraphs of documents of Microsoft Word (.docx).

The zip is read in memory. XML may neither declare entities nor fetch files.
Headers, footnotes and deleted text are no running text, and are not read. Word
writes the content of a text box twice, for new and for old readers; it is read
once.
"""

import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import defusedxml
from defusedxml import ElementTree

from data_prep.base import options
from data_prep.files import storage

_TEXT = "word/document.xml"
_LARGEST_FILE = 200 << 20
_LARGEST_TEXT = 200 << 20  # of XML
_NAMESPACES = (
  "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}",
  "{http://purl.oclc.org/ooxml/wordprocessingml/main}",  # ISO's strict form
)
# Surrounds what old readers take in the place of an element they do not know.
_FALLBACK = (
  "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
)
_MARKS = {"tab": " ", "noBreakHyphen": "-", "br": "\n", "cr": "\n"}
_ERRORS = (
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
  ElementTree.ParseError,
  defusedxml.DefusedXmlException,
  EOFError,
  OSError,
  RuntimeError,  # an encrypted member
  NotImplementedError,
  ValueError,
)


def paragraphs(path: str) -> Iterator[tuple[str, ...]]:
  """Yields one document: the lines of a file's paragraphs, tables included.

  Blank lines are left out, and white space in a line is single spaces. A file
  without text yields nothing.

  Args:
    path: the path of a file, not compressed as a whole.

  Raises:
    options.InputError: for a file that is damaged or too large, and for another
      office document, such as a spreadsheet.
  """
  size = storage.size(path) or 0
  if size > _LARGEST_FILE:
    raise options.InputError(
      f"a document of at most {_LARGEST_FILE >> 20} MB at {path}",
      f"{size >> 20} MB",
      "leave it out",
    )
  content = io.BytesIO(storage.read_bytes(path))
  try:
    with zipfile.ZipFile(content) as archive:
      if _TEXT not in archive.namelist():
        raise options.InputError(
          f"a text document in {path}",
          "another office document",
          "save it as .docx, or export its text",
        )
      if archive.getinfo(_TEXT).file_size > _LARGEST_TEXT:
        raise zipfile.BadZipFile(f"more than {_LARGEST_TEXT >> 20} MB of text")
      with archive.open(_TEXT) as file:
        lines = tuple(_paragraphs(file))
  except _ERRORS as error:
    raise storage.DamagedFileError(
      f"a whole .docx document at {path}",
      str(error) or type(error).__name__,
      "save or copy it again",
    ) from error
  if lines:
    yield lines


def _paragraphs(file: IO[bytes]) -> Iterator[str]:
  """Yields the lines of the paragraphs, without blank ones.

  The paragraphs of a text box come before the paragraph that the box stands in.

  Args:
    file: the XML of a document.

  Raises:
    ElementTree.ParseError: for XML that is malformed.
    defusedxml.DefusedXmlException: for XML with a document type.
  """
  around: list[list[str]] = []  # the parts of the paragraphs around this one
  parts: list[str] = []
  for event, element in _elements(file):
    name = _name(element)
    if event == "start":
      if name == "p":
        around.append(parts)
        parts = []
      continue
    if name == "p":
      lines = "".join(parts).split("\n")
      yield from filter(None, (" ".join(line.split()) for line in lines))
      parts = around.pop()
    elif around:
      parts.append(_text(name, element))
    if name in ("p", "tbl", "sectPr"):
      element.clear()


def _elements(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
  """Yields ("start" or "end", element), without text boxes in a fallback.

  A fallback is content for old versions of Word. Its text boxes stand outside
  of it too; its other content, such as an emoji, stands only in it.

  Raises:
    ElementTree.ParseError: for XML that is malformed.
    defusedxml.DefusedXmlException: for XML with a document type.
  """
  fallbacks = copies = 0  # how many are open
  for event, element in ElementTree.iterparse(
    file, events=("start", "end"), forbid_dtd=True
  ):
    step = 1 if event == "start" else -1
    if element.tag == _FALLBACK:
      fallbacks += step
    elif fallbacks and _name(element) == "txbxContent":
      copies += step
    elif not copies:
      yield event, element


def _text(name: str, element: Any) -> str:
  """Returns the text that an element adds to its paragraph.

  Args:
    name: the name of the element, without its namespace.
    element: the element.
  """
  return element.text or "" if name == "t" else _MARKS.get(name, "")


def _name(element: Any) -> str:
  """Returns the name of an element of WordprocessingML; "" for any other."""
  tag = str(element.tag)
  return next(
    (tag.removeprefix(n) for n in _NAMESPACES if tag.startswith(n)), ""
  )
