"""Reads the running text of e-books (.epub), one document for each chapter.

EPUB 2 and 3, and the output of Calibre, can be read. The zip is read in memory,
member by member; nothing is unpacked to disk. XML may neither declare entities
nor fetch files.
"""

import dataclasses
import io
import itertools
import lzma
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib import parse

from defusedxml import ElementTree
from lxml import etree, html

from data_prep.base import options
from data_prep.files import storage
from data_prep.sources import markup
from data_prep.text import cleaning, typesetting

_LARGEST_BOOK = 200 << 20
_LARGEST_PAGE = 20 << 20
_LARGEST_TEXT = 200 << 20

_BLOCKS = frozenset(
  "p div li ul ol dl dt dd blockquote section article header footer main tr td "
  "th table pre figure figcaption aside body hr h1 h2 h3 h4 h5 h6".split()
)
_HEADINGS = frozenset("h1 h2 h3 h4 h5 h6".split())
_APART = frozenset("li dt dd blockquote pre hr".split())  # they end a paragraph
_SILENT = frozenset(
  "script style head svg math nav img audio video table object iframe rt rp"
  " figcaption".split()
)
# Values of epub:type, role (without "doc-") and the guide's type that mark a
# part without running text: names of the EPUB structural vocabulary and of
# EPUB 2's guide.
_MATTER = frozenset(
  "acknowledgements acknowledgments backlink bibliography colophon"
  " copyright-page cover dedication endnote endnotes epigraph footnote"
  " footnotes glossary halftitle halftitlepage imprint index landmarks loi lot"
  " noteref notes page-list pagebreak rearnote rearnotes title-page titlepage"
  " toc".split()
)
_MATTER_FILE = re.compile(
  r"(\d+[_-])?(back_?cover|cover|half-?title|title|copyright|imprint|colophon"
  r"|dedication|toc|contents|nav|garchig|bibliography|jacket)"
  r"([_-]?page)?[_-]?\d*",
  re.IGNORECASE,
)
_MATTER_CLASS = re.compile(
  r"(pg-?(header|footer|boilerplate)|page-?(no|num|number|break)|pagenumber"
  r"|(fig)?caption|foot-?note(-?(ref|mark|link))?|noteref|toc|copyright)\d*",
  re.IGNORECASE,
)
# Headings of sections without running text: letters alone, in lower case.
_NO_CHAPTERS = frozenset(
  "агуулга ашигласанматериал ашигласанном ашигласанномзүй ашигласанхэвлэл"
  " гарчиг зориулалт зохиогчийнэрх зүүлт зүүлттайлбар номзүй номынгарчиг"
  " нэрийнхэлхээ тайлбар талархал товчагуулга товчилсонүг товъёог эхсурвалж"
  " acknowledgements acknowledgments bibliography contents copyright dedication"
  " endnotes footnotes index notes references tableofcontents".split()
)
# Lines of an imprint. "даа" in lower case ends many a sentence.
_IMPRINT = re.compile(
  r"\bISBN\b[\s:–-]*\d|©|\b(УДК|ББК|ДАА|ННА)\b[\s:№-]*\d"
  r"|(?i:\(c\) ?\d{4}|copyright,? \d{4}|all rights reserved"
  r"|бүх эрх (нь )?хуулиар хамгаалагдсан|хэвлэлийн хуудас\W*\d"
  r"|хэвлэлийн эх\w* бэлтгэ|Project Gutenberg)"
)
_SHORT_WORDS = 12  # guess: a line of more words is a sentence about an imprint
_IMPRINT_WORDS = 300  # guess: the most words of a whole imprint
_LEADER = re.compile(
  r"((?<!\.)\.{4,}|(?<!…)…{2,}|(?<! \.)( \.){3,}|(?<!_)_{3,})\s*\d{1,4}\.?$"
)
_START = re.compile(r"\*\*\* ?START OF TH", re.IGNORECASE)
_END = re.compile(r"\*\*\* ?END OF TH", re.IGNORECASE)
_CHAPTER_WORDS = (
  60  # guess: a section of fewer words is a part of another, or front matter
)

_MARK = re.compile(r"\s*([\[(]?)(\d{1,3}|[*†‡]{1,3})[\])]?\s*")
_NOTE = re.compile(
  r"[^#]*+#.*(note|ftn|fn|edn|zuult|tailbar)", re.IGNORECASE | re.DOTALL
)
_DEEPEST_MARK = 8  # guess: links and superscripts around the mark of a note
_MEASURED = re.compile(r"(\d|\b[кдсмkdcm]?[мm])\s*$", re.IGNORECASE)
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_CAPITAL = re.compile(r"[«“„\"]?[А-ЯӨҮЁ]")  # not Latin: "A" is a word


@dataclasses.dataclass(frozen=True)
class Book:
  """An .epub file.

  Attributes:
    name: the name of the file.
    content: the bytes of the file.
  """

  name: str
  content: bytes


def items(path: str) -> Iterator[Book]:
  """Yields one `Book` with the file's bytes, which are not checked.

  Raises:
    options.InputError: for a book of more than 200 MB.
  """
  size = storage.size(path) or 0
  if size > _LARGEST_BOOK:
    raise options.InputError(
      f"a book of at most {_LARGEST_BOOK >> 20} MB at {path}",
      f"{size >> 20} MB",
      "leave it out",
    )
  yield Book(posixpath.basename(path), storage.read_bytes(path))


def chapters(book: Book) -> list[list[str]] | cleaning.Drop:
  """Returns the paragraphs of each chapter, or a Drop with a reason.

  The reasons are a damaged or encrypted book, more than 200 MB of text, and no
  running text. No error is raised.
  """
  try:
    with zipfile.ZipFile(io.BytesIO(book.content)) as archive:
      return _chapters(archive)
  except (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,  # of bz2
    LookupError,  # a member that the book does not hold, an unknown encoding
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted member
    ValueError,  # no text, XML with entities, an offset before the file
    ElementTree.ParseError,
    etree.LxmlError,
  ) as error:
    return cleaning.Drop("broken book", f"{book.name}: {error}"[:120])


def _chapters(archive: zipfile.ZipFile) -> list[list[str]] | cleaning.Drop:
  """Returns the paragraphs of each chapter of an opened book, or a Drop.

  A Drop is for a book that is encrypted, too long or without running text; a
  damaged book raises one of the errors that `chapters` catches.
  """
  if _is_encrypted(archive):
    return cleaning.Drop("encrypted book")
  pages, total = [], 0
  for name, is_matter in _reading_order(archive):
    page = _member(archive, name)
    total += len(page)
    if total > _LARGEST_TEXT:
      return cleaning.Drop("book of more than 200 MB of text")
    pages.append((is_matter, _blocks(page)))
  shown = [blocks for is_matter, blocks in pages if not is_matter]
  if 2 * _letters(shown) < _letters([blocks for _, blocks in pages]):
    shown = [blocks for _, blocks in pages]  # the text is in cover.html
  return _running(_sections(shown))


@dataclasses.dataclass(frozen=True)
class _Block:
  """A block of a page: a paragraph, or a line of a paragraph.

  Attributes:
    text: the text of the block, with line breaks; a block with the text ""
      separates paragraphs.
    is_heading: whether the block is an element h1 to h6.
    is_link: whether nearly all of the text is links.
  """

  text: str
  is_heading: bool = False
  is_link: bool = False


def _letters(pages: Sequence[Sequence[_Block]]) -> int:
  """Returns the number of characters, with spaces, in all blocks of pages."""
  return sum(len(block.text) for blocks in pages for block in blocks)


@dataclasses.dataclass(frozen=True)
class _Section:
  """The text under a heading, or from the top of a page to its first heading.

  Attributes:
    page: the index of the page among the pages that are read.
    heading: the text of the heading; "" for none.
    blocks: the blocks of the section.
  """

  page: int
  heading: str = ""
  blocks: list[_Block] = dataclasses.field(default_factory=list)

  def words(self) -> int:
    """Returns the number of words of the section."""
    return sum(len(block.text.split()) for block in self.blocks)

  def is_matter(self) -> bool:
    """Returns whether the section is a list of contents, notes or an imprint.

    Such a section has no running text.
    """
    imprint = sum(_is_imprint(block.text) for block in self.blocks)
    if self.words() < _IMPRINT_WORDS and imprint > bool(self.heading):
      return True
    first = next((block.text for block in self.blocks if block.text), "")
    return _label(self.heading or first) in _NO_CHAPTERS

  def text(self) -> list[str]:
    """Returns the texts of the blocks, without contents lists and imprints.

    A contents list is three or more links in a row, or lines that end in dots
    and a page number. "" separates paragraphs.
    """
    kept = []
    for is_link, row in itertools.groupby(self.blocks, lambda b: b.is_link):
      texts = [block.text for block in row]
      if not is_link or sum(map(bool, texts)) < 3:
        kept += [
          text
          for text in texts
          if not _LEADER.search(text[-200:]) and not _is_imprint(text)
        ]
    return kept


def _is_imprint(text: str) -> bool:
  """Returns whether a text seems to be a line of an imprint (ISBN, publisher).

  For a text of more than _SHORT_WORDS words, only the first 20 characters
  count.
  """
  short = len(text.split()) <= _SHORT_WORDS
  return bool(_IMPRINT.search(text if short else text[:20]))


def _label(text: str) -> str:
  """Returns the letters of a heading in lower case, as a key for comparison."""
  return "".join(filter(str.isalpha, text.lower()))


def _sections(pages: Sequence[Sequence[_Block]]) -> list[_Section]:
  """Divides pages into sections, at headings and at the top of each page.

  Project Gutenberg's text before and after a book is dropped.

  Args:
    pages: the blocks of each page.
  """
  sections: list[_Section] = []
  for number, blocks in enumerate(pages):
    sections.append(_Section(number))
    for block in blocks:
      if _START.search(block.text):
        sections = [_Section(number)]
      elif _END.search(block.text):
        return sections
      elif block.is_heading:
        sections.append(_Section(number, block.text))
      else:
        sections[-1].blocks.append(block)
  return sections


def _running(sections: Sequence[_Section]) -> list[list[str]] | cleaning.Drop:
  """Returns the paragraphs of each chapter, or a Drop if there is no chapter.

  A section of at least 60 words is a chapter, unless it begins within a
  sentence. A shorter section is added to the chapter before it, but dropped
  before the first chapter (front matter) and on pages after the last chapter
  (advertisements).
  """
  half = sum(section.words() for section in sections) / 2
  kept: list[list[str]] = []
  short: list[str] = []
  page = -1  # of the last section that was kept
  for section in sections:
    text = section.text()
    if not any(text) or (section.words() < half and section.is_matter()):
      continue
    goes_on = kept and not section.heading and text[0][:1].islower()
    words = sum(len(paragraph.split()) for paragraph in text)
    if words >= _CHAPTER_WORDS and not goes_on:
      if kept:
        kept[-1] += short
      kept.append(text)
      short, page = [], section.page
    elif goes_on or section.page == page:
      kept[-1] += [*short, *text]
      short, page = [], section.page
    else:
      short += text
  known = typesetting.words(text for texts in kept for text in texts)
  chapter_paragraphs = [typesetting.paragraphs(texts, known) for texts in kept]
  return chapter_paragraphs or cleaning.Drop("book without running text")


def _is_encrypted(archive: zipfile.ZipFile) -> bool:
  """Returns whether pages are encrypted; obscured fonts alone do not count."""
  name = "META-INF/encryption.xml"
  if name not in archive.namelist():
    return False
  root = ElementTree.fromstring(_member(archive, name), forbid_dtd=True)
  references = (
    e.get("URI", "") for e in root.iter() if _is(e, "CipherReference")
  )
  return any(re.search(r"\.(x?html?|xml)$", uri) for uri in references)


def _is(element: Any, name: str) -> bool:
  """Returns whether an element has the tag `name`, in any namespace."""
  return str(element.tag).rpartition("}")[2] == name


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
  """Returns the content of a file of the book.

  Raises:
    zipfile.BadZipFile: for more than 20 MB.
  """
  with archive.open(name) as file:
    content = file.read(_LARGEST_PAGE + 1)
  if len(content) > _LARGEST_PAGE:
    raise zipfile.BadZipFile(f"{name} holds more than 20 MB")
  return content


def _reading_order(archive: zipfile.ZipFile) -> Iterator[tuple[str, bool]]:
  """Yields the pages of a book in reading order.

  Each is (name of the page's file, whether the page has no running text). That
  is True if the name of the file, or the type of the page in the book's lists,
  is that of a cover, contents or notes.
  """
  container = ElementTree.fromstring(_member(archive, "META-INF/container.xml"))
  package = next(
    (e.get("full-path", "") for e in container.iter() if _is(e, "rootfile")), ""
  )
  root = ElementTree.fromstring(_member(archive, package))
  folder = posixpath.dirname(package)
  hrefs, matter = {}, set()
  for element in root.iter():
    href = element.get("href", "")
    if _is(element, "item") and not element.get("media-type", "").startswith(
      "image/"
    ):
      hrefs[element.get("id")] = href
      if "nav" in element.get("properties", "").split():
        matter.add(href)
    elif _is(element, "reference") and element.get("type") in _MATTER:
      matter.add(href)  # with a #, it is only a part of that page
  read = set()  # a page that the spine names twice is read once
  for element in root.iter():
    # linear="no" is what readers show on demand: notes, answers.
    if not _is(element, "itemref") or element.get("linear") == "no":
      continue
    if (href := hrefs.get(element.get("idref"))) is not None:
      name = posixpath.normpath(posixpath.join(folder, parse.unquote(href)))
      if name in read:
        continue
      read.add(name)
      stem = posixpath.splitext(posixpath.basename(name))[0]
      yield name, href in matter or bool(_MATTER_FILE.fullmatch(stem))


def _blocks(page: bytes) -> list[_Block]:
  """Returns the blocks of a page, in order; [] for a blank page.

  Raises:
    ValueError: when the page is not text, nested too deeply, or has a tag of
      too many attributes.
  """
  text = markup.decoded(page)
  if not text.strip():
    return []
  # Unclosed <font> lie deeper than the 256 levels of the default.
  parser = html.HTMLParser(
    encoding="utf-8",
    no_network=True,
    huge_tree=True,
    remove_comments=True,
    remove_pis=True,
  )
  reader = _Reader()
  reader.read(html.document_fromstring(text.encode(), parser=parser))
  # The parser drops elements that lie too deep; only its log says so.
  if any(e.type_name == "ERR_RESOURCE_LIMIT" for e in parser.error_log):
    raise ValueError("a page is nested too deeply")
  return reader.blocks


class _Reader:
  """Walks through the elements of a page and collects the text of its blocks.

  Attributes:
    blocks: the blocks in the order of the page; an empty block separates
      paragraphs.
  """

  def __init__(self) -> None:
    self.blocks: list[_Block] = []
    self._text: list[str] = []  # \0 is a line break
    self._links = self._linked = 0  # how deep in links; letters in them
    self._marks = 0  # how deep in links and superscripts

  def read(self, root: Any) -> None:
    """Reads an element and all its descendants, without recursion."""
    walk = etree.iterwalk(root, events=("start", "end"))
    for event, element in walk:
      if event == "end":
        self._leave(element)
      elif not self._enter(element):
        walk.skip_subtree()

  def _enter(self, element: Any) -> bool:
    """Reads the start of an element, and the text before its first child.

    Returns:
      whether to read the children; False for an element without running text,
      such as a picture or the mark of a note.
    """
    if element.tag in _BLOCKS:
      self._end_block(False)
    self._links += element.tag == "a"
    self._marks += element.tag in ("a", "sup")
    if element.tag == "br":
      self._text.append("\0")
    elif element.tag == "img" and _CAPITAL.fullmatch(element.get("alt", "")):
      self._text.append(element.get("alt"))  # a picture of a first letter
    if self._is_note_mark(element) or _is_silent(element):
      return False
    self._add(element.text)
    return True

  def _leave(self, element: Any) -> None:
    """Reads the end of an element, and the text that follows it."""
    if element.tag in _BLOCKS:
      self._end_block(element.tag in _HEADINGS)
    if element.tag in _APART:
      in_list = bool(self.blocks) and self.blocks[-1].is_link
      self.blocks.append(_Block("", is_link=in_list))
    self._links -= element.tag == "a"
    self._marks -= element.tag in ("a", "sup")
    tail = element.tail or ""
    if element.tag in ("span", "font", "big") and self._is_first_letter():
      tail = tail.lstrip() if tail.lstrip()[:1].islower() else tail
    self._add(tail)

  def _is_first_letter(self) -> bool:
    """Returns whether the block so far is a single letter: a drop capital."""
    return len(self._text) < 8 and bool(
      _CAPITAL.fullmatch("".join(self._text).strip())
    )

  def _add(self, text: str | None) -> None:
    """Adds text to the current block."""
    if text:
      self._text.append(text)
      self._linked += sum(map(str.isalnum, text)) if self._links else 0

  def _is_note_mark(self, element: Any) -> bool:
    """Returns whether an element is the mark of a note, or a superscript.

    The caller skips the content of such an element. The superscript of a number
    or a unit is added to the text by this function, in superscript characters:
    10⁶ and км².
    """
    # In deeper nests, the text would be read once for each of its ancestors.
    if element.tag not in ("a", "sup") or self._marks > _DEEPEST_MARK:
      return False
    text = "".join(itertools.islice(element.itertext(), 8))
    mark = _MARK.fullmatch(text)
    if mark is None:
      return False
    href = element.get("href", "")
    if element.tag == "a":
      return "#" in href and bool(mark[1] or _NOTE.match(href))
    linked = self._links or element.find(".//a") is not None
    if not linked and _MEASURED.search("".join(self._text[-3:])):
      self._text.append(text.translate(_SUPERSCRIPT))
    return True

  def _end_block(self, is_heading: bool) -> None:
    """Ends the current block; appends it to `blocks` unless it is blank.

    A block with two line breaks in a row is divided there, but not a heading.
    """
    whole, linked = "".join(self._text), self._linked
    self._text, self._linked = [], 0
    is_link = linked > 0 and linked >= 0.8 * sum(map(str.isalnum, whole))
    # Calibre's older conversions part paragraphs by two <br/>.
    parts = [whole] if is_heading else re.split(r"\0\s*\0[\s\0]*", whole)
    for part in parts:
      if text := part.replace("\0", "\n").strip():
        self.blocks.append(_Block(text, is_heading, is_link))


def _is_silent(element: Any) -> bool:
  """Returns whether an element has no running text, as a picture or a note.

  Such an element has one of the tags in _SILENT, the attribute `hidden`, or an
  epub:type, role or class that names a kind of content such as notes. The last
  three do not count for the elements html and body.
  """
  if element.tag in _SILENT or element.get("hidden") is not None:
    return True
  if element.tag in ("html", "body"):
    return False
  types = element.get("epub:type", "") + " " + element.get("role", "")
  named = (name.removeprefix("doc-") for name in types.lower().split())
  return not _MATTER.isdisjoint(named) or any(
    map(_MATTER_CLASS.fullmatch, element.get("class", "").split())
  )
