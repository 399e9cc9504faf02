"""Wikipedia dumps: articles one by one, wikitext to running text.

    pages = items("mnwiki-20261101-pages-articles.xml.bz2")
    paragraphs(next(pages))  # ["Монгол Улс нь Төв Азид оршдог.", ...]

The dump is streamed; wikitext is parsed by mwparserfromhell.
"""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import defusedxml
import mwparserfromhell
from defusedxml import ElementTree as DefusedElementTree
from mwparserfromhell import nodes

from data_prep import cleaning, options, storage

# Beyond it a page is a list or a table of data, and its parse takes minutes.
_LONGEST_PAGE = 1 << 20

# Namespaces whose links show a picture or file a page, in every dump's own
# names (from its siteinfo), English and those of the Mongolian Wikipedia.
_FILE_AND_CATEGORY_KEYS = ("6", "14")
_FILES_AND_CATEGORIES = frozenset(
  ("file", "image", "media", "category", "файл", "зураг", "медиа", "ангилал")
)

_DISAMBIGUATIONS = frozenset(
  "disambig disambiguation disamb dab hndis geodis surname салаа "
  "пояснение ambig".split()
) | {"салаа утгатай", "салаа утга", "утга салаалах", "given name"}

# What harmless templates show, by the places of their arguments.
_SHOWN = {
  "convert": "{1} {2}", "cvt": "{1} {2}", "val": "{1}", "num": "{1}",
  "nowrap": "{1}", "nobr": "{1}", "small": "{1}", "big": "{1}", "abbr": "{1}",
  "lang": "{2}", "transl": "{2}", "transliteration": "{2}", "unicode": "{1}",
  "quote": "{1}", "cquote": "{1}", "blockquote": "{1}", "ишлэл": "{1}",
  "frac": "{1}/{2}", "fraction": "{1}/{2}", "sup": "{1}", "sub": "{1}",
  "birth date": "{1}-{2}-{3}", "death date": "{1}-{2}-{3}",
  "date": "{1} {2} {3}", "start date": "{1}-{2}-{3}", "as of": "{1}",
  "circa": "{1}", "c.": "{1}", "ndash": "–", "mdash": "—", "snd": " – ",
  "spaced ndash": " – ", "–": "–", "—": "—", "nbsp": " ", "·": "·", "•": "•",
  "pad": " ", "br": " ", "formatnum": "{1}", "plainlist": "", "mvar": "{1}",
}  # fmt: skip

# Tags whose content is no running text.
_DROPPED_TAGS = frozenset(
  "ref references gallery table timeline math chem ce score syntaxhighlight "
  "source imagemap templatedata graph mapframe maplink hiero noinclude "
  "categorytree inputbox section indicator style pre code".split()
)

# Sections that are no running text, by their headings.
_DROPPED_SECTIONS = frozenset(
  (
    "see also", "references", "external links", "notes", "further reading",
    "bibliography", "sources", "footnotes", "works cited", "gallery",
    "мөн үзэх", "мөн үз", "лавлах бичиг", "эх сурвалж", "гадаад холбоос",
    "гадны холбоос", "холбоос", "тайлбар", "зүүлт", "зүүлт тайлбар", "ном зүй",
    "ишлэл", "эшлэл", "зураг", "зургийн цомог", "цахим холбоос", "ашигласан ном",
    "вижте също", "външни препратки", "бележки", "източници", "литература",
  )
)  # fmt: skip

_HEADING = "\x00"  # marks a line that was a heading; dumps cannot hold it
_BREAK = re.compile(r"\n\s*\n|\n(?=[*#:;\x00])|(?<=\x00)\n")
_QUOTES = re.compile("'{2,}")
_SWITCH = re.compile(r"__[A-Z]{3,}__")
_LEFT_OPEN = re.compile(r"\{\{.*|\{\|.*", re.DOTALL)
_LEFT_OVER = re.compile(r"\[\[|\]\]|\}\}|\|\}|</?\w+[^<>]*/?>|\{\{\{|\}\}\}")
_EMPTY_BRACKETS = re.compile(r"\s*[(\[][\s,;:–—-]*[)\]]")
_BRACKET_START = re.compile(r"\(\s*[,;:]\s*")
_BEFORE_STOP = re.compile(r"\s+([,.;:!?)](?=\s|$))")
_SENTENCE_END = re.compile(r"[.!?…][\"'»”’)]*$")


@dataclasses.dataclass(frozen=True)
class Page:
  """An article as the dump holds it.

  Attributes:
    title: its name.
    text: wikitext; "" for a redirect.
    redirect: whether it only points to another.
    prefixes: lower-case names of the file and category namespaces.
  """

  title: str
  text: str
  redirect: bool
  prefixes: frozenset[str]


def items(path: str) -> Iterator[Page]:
  """Yields the pages of the article namespace.

  Args:
    path: .xml, compressed or not, multistream or not, UTF-8 or UTF-16.

  Raises:
    options.InputError: when it is no dump, or ends before its time.
  """
  prefixes = set(_FILES_AND_CATEGORIES)
  with storage.decompressed(path) as file:
    try:
      events = DefusedElementTree.iterparse(
        file, ("start", "end"), forbid_dtd=True
      )
      _, root = next(events)
      if _name(root) != "mediawiki":
        raise _no_dump(path, f"<{_name(root)}>")
      for event, element in events:
        if event != "end":
          continue
        name = _name(element)
        if name == "namespace":
          if element.get("key") in _FILE_AND_CATEGORY_KEYS:
            prefixes.add((element.text or "").lower())
        elif name == "page":
          page = _page(element, frozenset(prefixes))
          root.clear()
          if page:
            yield page
    except (ElementTree.ParseError, defusedxml.DefusedXmlException) as error:
      raise _no_dump(path, str(error)) from error


def _no_dump(path: str, got: str) -> options.InputError:
  return options.InputError(
    f"a whole MediaWiki dump at {path}", got, "download it again"
  )


def _name(element: Any) -> str:
  """The tag without the schema's address, which names its version."""
  return str(element.tag).rpartition("}")[2]


def _page(element: Any, prefixes: frozenset[str]) -> Page | None:
  """Returns the page, or None outside of the article namespace."""
  found: dict[str, Any] = {_name(child): child for child in element.iter()}
  if "ns" in found and found["ns"].text != "0":
    return None
  redirect = "redirect" in found
  text = found["text"].text or "" if "text" in found else ""
  title = found["title"].text or "" if "title" in found else ""
  return Page(title, "" if redirect else text, redirect, prefixes)


def paragraphs(page: Page) -> list[str] | cleaning.Drop:
  """Returns an article's running text, a paragraph an entry.

  Items of a list count where they are sentences: they end in a full stop and
  have five words (a guess) or more. Other paragraphs do with one of the two,
  so that labels such as "Романууд:" go.
  """
  if page.redirect:
    return cleaning.Drop("redirect")
  if len(page.text) > _LONGEST_PAGE:
    return cleaning.Drop(f"page of more than {_LONGEST_PAGE >> 20} MB")
  code = mwparserfromhell.parse(page.text, skip_style_tags=True)
  if _is_disambiguation(page.text, code):
    return cleaning.Drop("disambiguation")
  found = list(_running(_shown(code, page.prefixes)))
  return found or cleaning.Drop("no running text")


def _is_disambiguation(text: str, code: Any) -> bool:
  if "__DISAMBIG__" in text:
    return True
  templates = (n for n in code.nodes if isinstance(n, nodes.Template))
  return any(_template_name(t) in _DISAMBIGUATIONS for t in templates)


def _template_name(template: nodes.Template) -> str:
  return str(template.name).strip().lower().replace("_", " ")


def _shown(code: Any, prefixes: frozenset[str]) -> str:
  """Returns what a reader sees of parsed wikitext, lists still marked."""
  return "".join(_node(node, prefixes) for node in code.nodes)


def _node(node: Any, prefixes: frozenset[str]) -> str:
  match node:
    case nodes.Text():
      return str(node.value)
    case nodes.Wikilink():
      return _link(node, prefixes)
    case nodes.Tag():
      return _tag(node, prefixes)
    case nodes.Template():
      return _template(node, prefixes)
    case nodes.Heading():
      title = _shown(node.title, prefixes)
      return f"\n{_HEADING}{node.level}{title}{_HEADING}\n"
    case nodes.HTMLEntity():
      return str(node.normalize())
    case nodes.ExternalLink():
      return _shown(node.title, prefixes) if node.title else ""
  return ""  # a comment, an argument of a template


def _link(node: nodes.Wikilink, prefixes: frozenset[str]) -> str:
  title = str(node.title).strip()
  prefix, colon, _ = title.partition(":")
  if colon and prefix.strip().lower() in prefixes:
    return ""
  if node.text is not None:
    return _shown(node.text, prefixes)
  if colon and re.fullmatch(r"[a-z]{2,3}(-[a-z]+)*|simple", prefix):
    return ""  # the same article in another language
  return title.removeprefix(":").partition("#")[0]


def _tag(node: nodes.Tag, prefixes: frozenset[str]) -> str:
  name = str(node.tag).strip().lower()
  if name in _DROPPED_TAGS:
    return ""
  if node.wiki_markup and name in ("li", "dt", "dd"):
    return str(node.wiki_markup)
  if name in ("br", "hr", "p", "div", "li"):
    inner = _shown(node.contents, prefixes) if node.contents else ""
    return f"\n\n{inner}\n\n" if name in ("p", "div", "li") else f" {inner}"
  return _shown(node.contents, prefixes) if node.contents else ""


def _template(node: nodes.Template, prefixes: frozenset[str]) -> str:
  """What a template shows, by the table; nothing where it is not there."""
  name = _template_name(node)
  if name.startswith("formatnum:"):
    return str(node.name).partition(":")[2].strip()
  if name.startswith("lang-"):
    name, form = "lang", "{1}"
  else:
    form = _SHOWN.get(name, "")
  if not form:
    return ""
  places = (
    _shown(node.get(place).value, prefixes).strip() if node.has(place) else ""
    for place in (1, 2, 3)
  )
  return form.format("", *places).strip(" -/") if "{" in form else form


def _running(shown: str) -> Iterator[str]:
  """Yields the paragraphs of running text."""
  dropped = 0  # the level of the section that is left out
  for block in _BREAK.split(shown):
    block = block.strip()
    if block.startswith(_HEADING):
      heading, _, block = block[1:].partition(_HEADING)
      level, title = int(heading[0]), heading[1:].strip().lower()
      if not dropped or level <= dropped:
        dropped = level if title in _DROPPED_SECTIONS else 0
    if dropped:
      continue
    text = _mended(block.lstrip("*#:; "))
    ends, long = bool(_SENTENCE_END.search(text)), len(text.split()) >= 5
    is_item = block[:1] in tuple("*#:;")
    if (ends and long) if is_item else (ends or long):
      yield text


def _mended(text: str) -> str:
  """Takes away what the markup leaves behind."""
  rows = [r for r in text.split("\n") if not r.startswith(("|", "!", "{|"))]
  text = _LEFT_OPEN.sub("", " ".join(rows))
  text = _LEFT_OVER.sub("", _SWITCH.sub("", _QUOTES.sub("", text)))
  text = _BRACKET_START.sub("(", _EMPTY_BRACKETS.sub("", text))
  return _BEFORE_STOP.sub(r"\1", " ".join(text.split()))
