"""Reads the paragraphs of documents of Microsoft Word (.docx).

The zip is read in memory. XML may neither declare entities nor fetch files.
Headers, footnotes and deleted text are no running text, and are not read.
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

  A file without text yields nothing.

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
        made = tuple(_paragraphs(file))
  except _ERRORS as error:
    raise options.InputError(
      f"a whole .docx document at {path}",
      str(error) or type(error).__name__,
      "save or copy it again",
    ) from error
  if made:
    yield made


def _paragraphs(file: IO[bytes]) -> Iterator[str]:
  """Yields the lines of the paragraphs, without blank ones.

  Args:
    file: the XML of a document.

  Raises:
    ElementTree.ParseError: for XML that is malformed.
    defusedxml.DefusedXmlException: for XML with a document type.
  """
  parts: list[str] = []
  for event, element in ElementTree.iterparse(
    file, events=("start", "end"), forbid_dtd=True
  ):
    name = _name(element)
    if event == "start":
      if name == "p":
        parts = []
      continue
    if name == "t":
      parts.append(element.text or "")
    elif name in ("tab", "noBreakHyphen"):
      parts.append(" " if name == "tab" else "-")
    elif name in ("br", "cr"):
      parts.append("\n")
    elif name == "p":
      lines = "".join(parts).split("\n")
      yield from filter(None, (" ".join(line.split()) for line in lines))
      parts = []
      element.clear()
    elif name in ("tbl", "sectPr"):
      element.clear()


def _name(element: Any) -> str:
  """Returns the name of an element of WordprocessingML; "" for any other."""
  tag = str(element.tag)
  return next(
    (tag.removeprefix(n) for n in _NAMESPACES if tag.startswith(n)), ""
  )
