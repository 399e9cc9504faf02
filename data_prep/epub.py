"""E-books: the running text of an .epub, a chapter a document.

EPUB 2 and 3, and what Calibre makes. The zip is read in memory, member by
member, and nothing is unpacked; XML may neither declare entities nor fetch.
"""

import dataclasses
import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib import parse

import defusedxml
from defusedxml import ElementTree
from lxml import etree, html

from data_prep import cleaning, options, storage

_LARGEST_BOOK = 200 << 20
_LARGEST_PAGE = 20 << 20
_LARGEST_TEXT = 200 << 20

_BLOCKS = frozenset(
  "p div li ul ol dl dt dd blockquote section article header footer main tr td "
  "th table pre figure figcaption aside body hr h1 h2 h3 h4 h5 h6".split()
)
_HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
_SILENT = frozenset(
  "script style head svg math nav img audio video table object iframe rt rp"
  " figcaption".split()
)
# What epub:type, the guide and class names call what is no running text.
_MATTER = re.compile(
  r"(^|[\s_./-])(cover|title-?page|halftitle\w*|copyright\w*|imprint|colophon"
  r"|toc|nav|contents|dedication|epigraph|acknowledge?ments?|footnotes?"
  r"|endnotes?|noteref|index|bibliography|glossary|loi|lot|pageno|pagebreak"
  r"|pgheader|pgfooter|backlink)(?=$|[\s_./-])",
  re.IGNORECASE,
)
# Headings of sections without running text; compared in lower case.
_NO_CHAPTERS = frozenset(
  "гарчиг агуулга зохиогчийн эрх тайлбар зүүлт ном зүй талархал товъёог "
  "contents copyright dedication index notes bibliography".split()
) | {"зохиогчийн эрх", "ном зүй", "table of contents"}
_LEGAL = re.compile(
  r"ISBN|©|\(c\) ?\d{4}|all rights reserved|бүх эрх хуулиар|зохиогчийн эрх"
  r"|Project Gutenberg|хэвлэлийн газар|печатлах",
  re.IGNORECASE,
)
_START = re.compile(r"\*\*\* ?START OF TH", re.IGNORECASE)
_END = re.compile(r"\*\*\* ?END OF TH", re.IGNORECASE)

_FIRST_CHAPTER_WORDS = 60  # guess: what comes before so much is front matter
_HYPHEN = re.compile(r"(?<=[^\W\d_])(?:-|\u00ad)\s*\n\s*(?=[^\W\d_])")
_SPACE_BEFORE = re.compile(r"(?<=\w)\s+([,;:!?.…])(?=\s|$)")
_NO_SPACE = re.compile(r"(?<=[^\W\d_]{2})([,;!?.])(?=[^\W\d_]{2})")


@dataclasses.dataclass(frozen=True)
class Book:
  """An .epub file.

  Attributes:
    name: of the file.
    content: its bytes.
  """

  name: str
  content: bytes


def items(path: str) -> Iterator[Book]:
  """Yields the one book of a file."""
  size = storage.size(path) or 0
  if size > _LARGEST_BOOK:
    raise options.InputError(
      f"a book of at most {_LARGEST_BOOK >> 20} MB at {path}",
      f"{size >> 20} MB",
      "leave it out",
    )
  yield Book(posixpath.basename(path), storage.read_bytes(path))


def chapters(book: Book) -> list[list[str]] | cleaning.Drop:
  """Returns the chapters as lists of paragraphs, or why there are none."""
  try:
    with zipfile.ZipFile(io.BytesIO(book.content)) as archive:
      return _chapters(archive)
  except (
    zipfile.BadZipFile,
    zlib.error,
    KeyError,  # a member that the book names and does not hold
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted member
    UnicodeDecodeError,
    ElementTree.ParseError,
    defusedxml.DefusedXmlException,
    etree.LxmlError,
  ) as error:
    return cleaning.Drop("broken book", f"{book.name}: {error}"[:120])


def _chapters(archive: zipfile.ZipFile) -> list[list[str]] | cleaning.Drop:
  if _is_encrypted(archive):
    return cleaning.Drop("encrypted book")
  sections = [_Section("")]
  total = 0
  for name in _reading_order(archive):
    page = _member(archive, name)
    total += len(page)
    if total > _LARGEST_TEXT:
      return cleaning.Drop("book of more than 200 MB of text")
    for is_heading, text in _blocks(page):
      if _START.search(text):
        sections = [_Section("")]  # before it stands the licence's front page
      elif _END.search(text):
        return _running(sections)
      elif is_heading:
        sections.append(_Section(text))
      else:
        sections[-1].paragraphs.append(text)
  return _running(sections)


@dataclasses.dataclass(frozen=True)
class _Section:
  """What stands under a heading."""

  heading: str
  paragraphs: list[str] = dataclasses.field(default_factory=list)


def _running(sections: Sequence[_Section]) -> list[list[str]] | cleaning.Drop:
  """Drops headings, front matter and legal notes; joins short sections."""
  kept: list[list[str]] = []
  for section in sections:
    if section.heading.strip(" .:").lower() in _NO_CHAPTERS:
      continue
    text = [p for p in section.paragraphs if not _LEGAL.search(p)]
    words = sum(len(p.split()) for p in text)
    if words >= _FIRST_CHAPTER_WORDS:
      kept.append(text)
    elif kept:
      kept[-1] += text
  return kept or cleaning.Drop("book without running text")


def _is_encrypted(archive: zipfile.ZipFile) -> bool:
  """Fonts may be obscured in a free book; its pages may not."""
  name = "META-INF/encryption.xml"
  if name not in archive.namelist():
    return False
  root = ElementTree.fromstring(_member(archive, name), forbid_dtd=True)
  references = (
    e.get("URI", "") for e in root.iter() if _is(e, "CipherReference")
  )
  return any(re.search(r"\.(x?html?|xml)$", uri) for uri in references)


def _is(element: Any, name: str) -> bool:
  """Compares a tag without its namespace."""
  return str(element.tag).rpartition("}")[2] == name


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
  with archive.open(name) as file:
    content = file.read(_LARGEST_PAGE + 1)
  if len(content) > _LARGEST_PAGE:
    raise zipfile.BadZipFile(f"{name} holds more than 20 MB")
  return content


def _reading_order(archive: zipfile.ZipFile) -> list[str]:
  """Returns the names of the pages that hold text, as the spine orders them."""
  container = ElementTree.fromstring(_member(archive, "META-INF/container.xml"))
  package = next(
    (e.get("full-path", "") for e in container.iter() if _is(e, "rootfile")), ""
  )
  root = ElementTree.fromstring(_member(archive, package))
  folder = posixpath.dirname(package)
  hrefs, other = {}, set()
  for element in root.iter():
    if _is(element, "item"):
      hrefs[element.get("id")] = element.get("href", "")
      if _MATTER.search(element.get("properties", "")):
        other.add(element.get("href"))
    elif _is(element, "reference") and _MATTER.search(element.get("type", "")):
      other.add(element.get("href", "").partition("#")[0])
  spine = [e.get("idref") for e in root.iter() if _is(e, "itemref")]
  pages = [hrefs[name] for name in spine if name in hrefs]
  if len(pages) > 1:  # a book of one page has its front matter inside
    pages = [
      page for page in pages if page not in other and not _MATTER.search(page)
    ]
  return [
    posixpath.normpath(posixpath.join(folder, parse.unquote(page)))
    for page in pages
  ]


def _blocks(page: bytes) -> list[tuple[bool, str]]:
  """Returns the paragraphs of a page; True with a heading."""
  if not page.strip():
    return []
  parser = html.HTMLParser(encoding="utf-8", no_network=True)
  reader = _Reader()
  reader.read(html.document_fromstring(page, parser=parser))
  return [
    (is_heading, text)
    for is_heading, raw in reader.blocks
    for text in _paragraphs(raw, is_heading)
  ]


class _Reader:
  """Walks a page; gathers the text of its innermost blocks.

  Attributes:
    blocks: whether it is a heading, and its text, \\x00 for a line break.
  """

  def __init__(self) -> None:
    self.blocks: list[tuple[bool, str]] = []
    self._text: list[str] = []

  def read(self, element: Any) -> None:
    """Takes in an element and all in it."""
    name = element.tag if isinstance(element.tag, str) else "comment"
    if name == "br":
      self._text.append("\x00")
    elif name != "comment" and not _is_silent(element):
      if name in _BLOCKS:
        self._end_block(False)
      self._text.append(element.text or "")
      for child in element:
        self.read(child)
        self._text.append(child.tail or "")
      if name in _BLOCKS:
        self._end_block(name in _HEADINGS)

  def _end_block(self, is_heading: bool) -> None:
    text = "".join(self._text)
    self._text = []
    if text.strip(" \t\r\n\x00\xa0"):
      self.blocks.append((is_heading, text))


def _is_silent(element: Any) -> bool:
  """Says whether an element shows no running text: pictures, note marks …"""
  if element.tag in _SILENT or element.get("hidden") is not None:
    return True
  if element.tag == "sup" and element.find(".//a") is not None:
    return True
  named = (element.get(key, "") for key in ("class", "epub:type", "role"))
  return element.tag not in ("html", "body") and any(
    _MATTER.search(name.removeprefix("doc-")) for name in named
  )


def _paragraphs(raw: str, is_heading: bool) -> list[str]:
  """Undoes what print and converters did to a block's text."""
  # Calibre's older conversions part paragraphs by two <br/>.
  parts = [raw] if is_heading else re.split(r"\x00\s*\x00[\s\x00]*", raw)
  return [text for part in parts if (text := _mended(part))]


def _mended(raw: str) -> str:
  text = _HYPHEN.sub(_joined, raw.replace("\x00", "\n")).replace("\u00ad", "")
  text = _SPACE_BEFORE.sub(r"\1", " ".join(text.split()))
  return _NO_SPACE.sub(r"\1 ", text)


def _joined(found: re.Match[str]) -> str:
  """хэл-/ний becomes one word; УИХ-/ын keeps its hyphen."""
  before = found.string[max(0, found.start() - 2) : found.start()]
  return "-" if before.isupper() else ""
