"""Reads Wikipedia dumps, and renders the running text of each article.

  for page in wikipedia.items("mnwiki-latest-pages-articles.xml.bz2"):
    rendered = wikipedia.rendered(page)  # or a cleaning.Drop

`items` streams the XML. `rendered` does most of the work: it is a pure
function, so that worker processes can call it. The format:
www.mediawiki.org/xml.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any
from xml.etree import ElementTree

from defusedxml import ElementTree as DefusedElementTree

from data_prep.files import storage
from data_prep.sources import wikitext
from data_prep.text import cleaning

# Longest text that MediaWiki saves (2048 KiB, $wgMaxArticleSize).
LONGEST_TEXT = 2 << 20  # characters
# A text of that length that is all &quot; in UTF-16 takes 24 MB.
_LARGEST_PAGE = 32 << 20  # bytes of XML
_CHUNK = 1 << 20  # bytes
_MOST_TAGS = 100_000  # in a page; dumps of last revisions have some 40

_FILE, _TEMPLATE, _CATEGORY = "6", "10", "14"  # keys of namespaces
# The redirects that dumps without <redirect> hold; bg and mn have their own
# words beside the English one.
_REDIRECT = re.compile(
  r"\s*+#\s*+(?:redirect|чиглүүлэг|виж|пренасочване|перенаправление)"
  r"\s*+:?\s*+\[\[",
  re.IGNORECASE,
)
_DISAMBIGUATION = re.compile(
  r"\{\{\s*+(?:[^\W\d_]++:\s*+)?(?:"
  r"disambig(?:uation)?|disamb|dab|ambig|hndis|geodis|surname|given[ _]name|"
  r"[\w \t-]{1,40}[ _-]disambig(?:uation)?|"
  r"салаа(?:[ _]утга(?:тай)?)?|утга[ _]салаалах|олон[ _]утгатай|"
  r"пояснение|пояснителна[ _]страница|неоднозначность|многозначность"
  r")\s*+(?:\||\}\})"
  r"|__DISAMBIG__",
  re.IGNORECASE,
)
_DISAMBIGUATION_TITLE = re.compile(
  r"\((?:салаа утга(?:тай)?|disambiguation|пояснение|значения)\)$",
  re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Page:
  """A page of a dump.

  Attributes:
    title: the name of the page.
    text: the wikitext of the page's last revision in the dump; "" if the page
      is no article.
    dropped: the reason, from the fields of the dump, why the page is no
      article; "" for an article.
    namespaces: the wiki's names of files, categories and templates.
  """

  title: str
  text: str
  dropped: str = ""
  namespaces: wikitext.Namespaces = wikitext.Namespaces()


def rendered(page: Page) -> wikitext.Rendered | cleaning.Drop:
  """Returns a page's running text, or a Drop with the reason.

  The reasons are redirects, disambiguation pages, pages that are no articles,
  broken markup, and no running text.
  """
  if reason := page.dropped or _unwanted(page):
    return cleaning.Drop(reason, page.title)
  try:
    text = wikitext.rendered(page.text, page.title, page.namespaces)
  except wikitext.BrokenMarkupError:
    return cleaning.Drop("broken markup", page.title)
  if not text.paragraphs:
    return cleaning.Drop("no running text", page.title)
  return text


def _unwanted(page: Page) -> str:
  """Returns why wikitext is no article: "redirect" or "disambiguation".

  The result is "" for an article.
  """
  if _REDIRECT.match(page.text):
    return "redirect"
  if _DISAMBIGUATION_TITLE.search(page.title) or _DISAMBIGUATION.search(
    page.text
  ):
    return "disambiguation"
  return ""


def items(path: str) -> Iterator[Page]:
  """Yields all pages of a dump, in their order.

  Args:
    path: .xml, compressed or not, multistream or not, UTF-8 or UTF-16.

  Raises:
    options.InputError: when the file is no dump, is damaged or truncated, or
      has a page of more than 32 MB of XML.
  """
  with storage.decompressed(path) as file:
    try:
      yield from _pages(_Bounded(file))
    # LookupError: an encoding that is unknown, or that no XML parser reads.
    # ValueError: from defusedxml and _Bounded.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
      raise storage.DamagedFileError(
        f"a whole MediaWiki dump (pages-articles XML) at {path}",
        str(error),
        "download it again",
      ) from error


class _Bounded:
  """A file that raises ValueError after too many bytes without a whole page.

  Args:
    file: the XML.

  Attributes:
    since_page: the number of bytes read since the last page; the caller sets it
      to 0 after each page.
  """

  def __init__(self, file: IO[bytes]) -> None:
    self._file = file
    self.since_page = 0  # bytes

  def read(self, size: int) -> bytes:
    """Returns a chunk of at least _CHUNK bytes, unless the file ends.

    Large chunks save time, since expat parses a tag again for each chunk.
    """
    chunk = self._file.read(max(size, _CHUNK))
    self.since_page += len(chunk)
    if self.since_page > _LARGEST_PAGE:
      raise ValueError(f"more than {_LARGEST_PAGE >> 20} MB without a page")
    return chunk


def _pages(file: _Bounded) -> Iterator[Page]:
  """Yields the pages of a dump's XML.

  Raises:
    ValueError: for XML that is no dump, has a document type (which could define
      entities), or has too many tags without a page.
  """
  names: dict[str, str] = {}  # of namespaces, by their keys
  namespaces = wikitext.Namespaces()
  events = DefusedElementTree.iterparse(file, ("start", "end"), forbid_dtd=True)
  _, root = next(events)
  if _name(root) != "mediawiki":
    raise ValueError(f"XML of <{_name(root)}>")
  tags = 0
  for event, element in events:
    tags += 1
    if tags > _MOST_TAGS:
      raise ValueError(f"more than {_MOST_TAGS:,} tags without a page")
    name = _name(element) if event == "end" else ""
    if name == "namespace":
      names[element.get("key", "")] = (element.text or "").strip().lower()
    elif name == "siteinfo":
      namespaces = wikitext.Namespaces(
        frozenset({names.get(_FILE, ""), names.get(_CATEGORY, "")}) - {""},
        frozenset({names.get(_TEMPLATE, "")}) - {""},
      )
    elif name == "page":
      yield _page(element, names, namespaces)
      root.clear()
      file.since_page = tags = 0


def _name(element: Any) -> str:
  """Returns the tag of an XML element without the address of its namespace."""
  return str(element.tag).rpartition("}")[2]


def _page(
  element: Any, names: Mapping[str, str], namespaces: wikitext.Namespaces
) -> Page:
  """Returns the page of a <page> element, with its last revision's text.

  Args:
    element: the element.
    names: key → name of the wiki's namespaces, in lower case.
    namespaces: the wiki's names of files, categories and templates.
  """
  # The fields of the page and of its revisions; the last one is the newest.
  fields = {
    _name(field): field.text or ""
    for part in (element, *element)
    for field in part
  }
  dropped = _not_an_article(fields, names)
  text = "" if dropped else fields.get("text", "")
  return Page(fields.get("title", "").strip(), text, dropped, namespaces)


def _not_an_article(fields: Mapping[str, str], names: Mapping[str, str]) -> str:
  """Returns the reason why a page is no article; "" for an article.

  The reasons are another namespace, a redirect, content that is not wikitext,
  and a text of more than LONGEST_TEXT characters.

  Args:
    fields: name → text of the page's and the last revision's fields.
    names: key → name of the wiki's namespaces.
  """
  space, colon, _ = fields.get("title", "").partition(":")
  # Dumps before version 0.6 have no <ns>.
  named = bool(colon) and space.strip().lower() in names.values()
  if fields.get("ns", "1" if named else "0").strip() != "0":
    return "not in the article namespace"
  if "redirect" in fields:
    return "redirect"
  if (fields.get("model", "").strip() or "wikitext") != "wikitext":
    return "not wikitext"
  if len(fields.get("text", "")) > LONGEST_TEXT:
    return "longer than MediaWiki allows"
  return ""
