"""Renders wikitext as the running text that a reader of the page sees.

  rendered("'''Туул гол''' {{convert|704|km}} урсана.").paragraphs
  # ["Туул гол 704 km урсана."]

There are four passes, each linear in the page.

1. Opaque tags and HTML become text and line breaks (MediaWiki's preprocessor
   does this first, too).
2. Brackets without a partner are cut, because a parser looks for each partner
   up to the page's end.
3. mwparserfromhell's tokenizer finds templates, links and tables, of which only
   the text is kept (and of tables nothing).
4. Lines are sorted into paragraphs, list items, headings and remains of tables.

The tokenizer is used without the tree that the library builds on top of it: the
tree costs five sixths of the library's time.

A hole is the place of text that is unknown, such as the output of a template. A
character of Unicode's private planes, the mark of the hole, stands there.
"""

import dataclasses
import functools
import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mwparserfromhell import parser
from mwparserfromhell.parser import tokenizer, tokens

from data_prep.sources import wikitext_functions, wikitext_templates

# Deeper nesting than in any article seen (8); the tokenizer's time grows with
# the depth of brackets.
MAX_DEPTH = 40


class BrokenMarkupError(Exception):
  """Raised for brackets that nest more than MAX_DEPTH deep.

  They could not be read in acceptable time.
  """


@dataclasses.dataclass(frozen=True)
class Namespaces:
  """A wiki's names of its files, categories and templates, in lower case.

  Attributes:
    hidden: the names of the file and category namespaces; a link into one of
      them shows no running text.
    template: the names of the template namespace, which may precede the name of
      a template.
  """

  hidden: frozenset[str] = frozenset()
  template: frozenset[str] = frozenset()


# The names that dumps do not state: English names work in every wiki, and old
# names stay valid. English, Mongolian, Bulgarian, Russian.
_HIDDEN = frozenset(
  """
  file image category
  файл зураг ангилал
  картинка категория
  изображение
  """.split()
)
_TEMPLATE = frozenset("template загвар шаблон subst safesubst".split())

# Sections of links and sources, by their headings in lower case.
_SKIPPED_SECTIONS = frozenset(
  name.strip()
  for name in """
  гадаад холбоос, гадаад холбоосууд, гадны холбоос, гадаад линк, холбоос,
  холбоосууд, цахим холбоос, вэб холбоос, эх сурвалж, эх сурвалжууд, эх үүсвэр,
  сурвалж, лавлах бичиг, лавлагаа, лавлах, тайлбар, ашигласан материал,
  ашигласан ном, ашигласан бүтээл, ном зүй, номзүй, ном, зүүлт, зүүлт тайлбар,
  эшлэл, эшлэлүүд, эшлэл ба тайлбар, ишлэл, мөн үзэх, мөн үз, мөн үзнэ үү,
  бас үзэх, зураг, зургийн цомог,
  external links, external link, see also, references, notes,
  notes and references, references and notes, footnotes, citations, sources,
  bibliography, further reading, works cited, gallery, links, literature,
  външни препратки, препратки, източници, бележки, бележки и източници, литература,
  използвана литература, допълнителна литература, вижте също, галерия,
  ссылки, примечания, источники, см. также, галерея
  """.split(",")
)

# Marks that one pass leaves for another; XML 1.0 allows none of them in a dump.
_LINE_BREAK = "\v"
_LINK_START, _LINK_END = "\x02", "\x03"
_HEADING = "\x04"
_CUT = "\x05"
_RAISED, _LOWERED, _LEVEL = "\x06", "\x07", "\x08"  # around small digits


# A hole is the place of a template whose output is unknown. Its mark is one
# character of Unicode's private planes, which are first removed from the page:
# of the first plane for a template within a line, of the second for a box or a
# template of several lines, which is no hole where it begins a line.
_INLINE, _BOX = 0xF0000, 0x100000
_HOLES_A_PLANE = 0xFFFE
_HOLE = wikitext_functions.UNKNOWN
_ANY_HOLE = re.compile(_HOLE)
# Lower-case letters behind a box continue a sentence that begins with the box.
_LEADING_BOX = re.compile(
  rf"(?:{_HOLE}|\s)*[\U00100000-\U0010fffd]\s*+(?!{_LINK_START}?[a-zа-яёөү])"
)
_NO_TEXT = re.compile(rf"[\s*#:;]*{_HOLE}(?:{_HOLE}|[\s.,;:])*")
# A template right behind the end of a sentence is a note to it.
_NOTE = re.compile(
  rf"([^\W\d][.!?…][\"'»“”’)]*){_HOLE}+(?=\s*\Z|\s+[^\sa-zа-яёөү])"
)
_LAST = re.compile(rf"(?<=[.!?…\"'»“”’)])\s(?:{_HOLE}|\s)*\Z")
_IN_BRACKETS = re.compile(rf"(?<=[(,;])((?:\s*{_HOLE})+)(?=\s*[,;)])")


@dataclasses.dataclass(frozen=True)
class Rendered:
  """The running text of a page.

  Attributes:
    paragraphs: the paragraphs of the text. In the place of each template whose
      output is unknown stands a character of Unicode's private planes (15 and
      16).
    holes: such a character → the name of the template.
  """

  paragraphs: list[str]
  holes: Mapping[str, str] = dataclasses.field(default_factory=dict)


class _Holes:
  """Assigns a character, a mark, to each template with unknown output.

  Attributes:
    names: character → name of the template.
  """

  def __init__(self) -> None:
    self.names: dict[str, str] = {}  # character → name
    self._characters: dict[tuple[str, bool], str] = {}

  def mark(self, name: str, box: bool = False) -> str:
    """Returns the character to write in the place of a template.

    Args:
      name: the name of the template.
      box: whether the template is a box beside the text or has several lines.
    """
    key = (name, box)
    if key not in self._characters:
      number = min(len(self._characters), _HOLES_A_PLANE - 1)
      character = chr((_BOX if box else _INLINE) + number)
      self._characters[key] = character
      self.names.setdefault(character, name)
    return self._characters[key]


def rendered(
  text: str, title: str = "", namespaces: Namespaces = Namespaces()
) -> Rendered:
  """Returns the running text of a page.

  Args:
    text: wikitext.
    title: the page's title, for {{PAGENAME}}.
    namespaces: the namespaces in the dump's <siteinfo>.

  Raises:
    BrokenMarkupError: for brackets more than MAX_DEPTH deep.
  """
  holes = _Holes()
  text = _ANY_HOLE.sub("", text.replace("\r", ""))
  text = _OPAQUE.sub(functools.partial(_opaque, holes=holes), text)
  text = _HTML_HEADING.sub("\n\n", text)
  text = _HALF_TAG.sub("", _TAG.sub(_tag, text)).replace("<", "&lt;")
  # The tokenizer knows no template whose name holds ">" or begins a new line.
  text = _FUNCTION_BREAK.sub(r"\1", text.replace(">", "&gt;"))
  text = _EXTERNAL_LINK.sub(_external_link, text)
  text = _SINGLE_BRACKET.sub("&#91;", text)
  text = _BOLD_LINE.sub("\n", text)
  text = _APOSTROPHES.sub(_apostrophes, text)
  text = _HEADING_LINE.sub(_heading, text)
  text = _ARGUMENT.sub(functools.partial(_argument, holes=holes), text)
  text = _BRACES.sub(_braces, text)
  text = _balanced(text, holes)
  text = _Renderer(title, namespaces, holes).render(text)
  return Rendered(list(_sorted_lines(text, holes)), holes.names)


# Pass one: tags.

# Tags whose content is not wikitext, or is not read as a part of a line.
_OPAQUE_TAGS = """
  ref references math chem ce nowiki pre source syntaxhighlight gallery score
  timeline imagemap hiero graph inputbox categorytree templatedata
  templatestyles mapframe maplink indicator section includeonly style script
  """.split()
# A tag's content ends at its closing tag, or before the next tag of its name: a
# tag that is never closed costs its line, and the search stays linear. (No
# group is possessive here: Python before 3.11.5 matches such groups wrongly.)
_OPAQUE = re.compile(
  r"<!--.*?(?:-->|\Z)"
  rf"|<(?P<name>{'|'.join(_OPAQUE_TAGS)})\b"
  r"(?:[^<>]*/>|[^<>]*>"
  r"(?:(?P<body>[^<]*+(?:<(?!/?(?P=name)\b)[^<]*+)*)</(?P=name)\s*>"
  r"|[^<\n]*+))"
  r"|<(?P<hidden>span|div)\b(?=[^<>]*\bdisplay:\s*none\b)[^<>]*+>"
  r"[^<]*+</(?P=hidden)\s*>",
  re.DOTALL | re.IGNORECASE,
)
_MARKUP_LETTER = re.compile(r"[\[\]{}|<>'=*#:;_~!&-]")


def _opaque(match: re.Match[str], holes: "_Holes") -> str:
  """Returns the text that replaces an opaque tag or a comment.

  For <nowiki> it is the content, for a formula its form in one line, or the
  mark of a hole if it has no such form; for all other tags and comments "".

  Args:
    match: the tag with its content, or the comment.
    holes: the holes of the page, to which a new one may be added.
  """
  name, body = (match["name"] or "").lower(), match["body"] or ""
  if name in ("math", "chem", "ce"):
    formula = (
      wikitext_templates.formula
      if name == "math"
      else wikitext_templates.molecule
    )
    shown = formula(body)
    return _escaped(shown) if shown.strip() else holes.mark(f"<{name}>")
  if name != "nowiki":
    return ""
  return _escaped(body)


def _escaped(text: str) -> str:
  """Returns a text in one line, with HTML entities for wikitext's brackets etc.

  So the special characters of wikitext are not read as markup later.
  """
  # A blank line would end the paragraph; within <nowiki> it does not.
  return _MARKUP_LETTER.sub(
    lambda match: f"&#{ord(match[0])};", " ".join(text.split("\n"))
  )


_HTML_HEADING = re.compile(
  r"<(h[1-6])\b[^<>]*>[^<]*+(?:<(?!/?\1\b)[^<]*+)*</\1\s*>", re.IGNORECASE
)
# Cyrillic in angle brackets is a quotation: <<Зууны мэдээ>>.
_TAG = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9]*)\b[^<>]*+>")
# A tag without its end. Before any other word, "<" is a sign in the text.
_HALF_TAG = re.compile(
  r"</?(?:ref|references|br|small|sup|sub|div|span|center|table|gallery|math"
  r"|nowiki)(?![a-z])",
  re.IGNORECASE,
)
_BREAK = wikitext_templates.BREAK
_OPENING_TAGS = {
  "br": _LINE_BREAK,
  "sup": _RAISED,
  "sub": _LOWERED,
  "li": "\n* ",
  "dd": "\n: ",
  "dt": "\n; ",
  "table": "\n{|\n",
  "tr": "\n|-\n",
  "td": "\n|",
  "th": "\n|",
} | dict.fromkeys("p div blockquote center poem ul ol dl hr".split(), _BREAK)
_CLOSING_TAGS = {
  "br": _LINE_BREAK,
  "sup": _LEVEL,
  "sub": _LEVEL,
  "table": "\n|}\n",
} | dict.fromkeys("p div blockquote center poem ul ol dl".split(), _BREAK)


def _tag(match: re.Match[str]) -> str:
  """Returns the text that replaces an HTML tag: a break, a mark or ""."""
  table = _CLOSING_TAGS if match["close"] else _OPENING_TAGS
  return table.get(match["name"].lower(), "")


_URL = r"(?:(?:https?|ftps?|ircs?|news|mailto|tel):|//(?=\w))"
_EXTERNAL_LINK = re.compile(
  rf"\[{_URL}[^\s\[\]|{{}}]*+"
  r"(?P<shown>[^\[\]\n]*+(?:\[\[[^\[\]\n]*+\]\][^\[\]\n]*+)*)\]",
  re.IGNORECASE,
)
# Other single brackets are text; the tokenizer would look for the end of each.
_SINGLE_BRACKET = re.compile(r"\[(?!\[)(?<!\[\[)")


def _external_link(match: re.Match[str]) -> str:
  """Returns the shown text of an external link, between the marks of a link.

  The result is "" for a link without a text.

  Args:
    match: the link with its brackets.
  """
  shown = match["shown"].strip()
  return f"{_LINK_START}{shown}{_LINK_END}" if shown else ""


# A line in bold serves as a heading.
_BOLD_LINE = re.compile(
  r"^[ \t]*'''+[^'\n]{1,80}(?<![.!?…])'''+[ \t:]*$", re.MULTILINE
)
_APOSTROPHES = re.compile("''+")


def _apostrophes(match: re.Match[str]) -> str:
  """Returns the apostrophes of a run that do not stand for bold or italics.

  The result is "" for a run of two, three or five apostrophes, one apostrophe
  for a run of four, and five fewer than the run has for a longer run.
  """
  count = len(match[0])
  return "'" * (count - 5 if count > 5 else count == 4)


# The tokenizer takes minutes for a page of headings within templates.
_HEADING_LINE = re.compile(
  r"^(?P<marks>={1,6})(?P<title>[^\n]+?)(?P=marks)[ \t]*$|^=+", re.MULTILINE
)


def _heading(match: re.Match[str]) -> str:
  """Returns the text that replaces a heading: mark, level and title.

  These are a paragraph of their own.

  If a line only begins with "=", the match is these characters alone. The
  result is then a paragraph break, or "" for a single "=".
  """
  if match["marks"] is None:
    return _BREAK if len(match[0]) > 1 else ""
  level, title = len(match["marks"]), match["title"].strip(" \t=")
  return f"{_BREAK}{_HEADING}{level}{title}{_BREAK}"


_FUNCTION_BREAK = re.compile(r"(\{\{[ \t]*#[a-z]+:)\s+", re.IGNORECASE)

# Pass two: brackets.

# {{{name|value}}} outside of a template is an author's error, and shows its
# value. Without a value it shows itself, which leaves a hole here.
_ARGUMENT = re.compile(r"\{\{\{[^{}|]*+(?:\|(?P<value>[^{}]*+))?\}\}\}")
_BRACES = re.compile(r"\{\{\{+")


def _argument(match: re.Match[str], holes: _Holes) -> str:
  """Returns the default of a template argument {{{name|default}}}.

  Without a default, the result is the mark of a hole.
  """
  value: str | None = match["value"]
  return holes.mark(match[0]) if value is None else value


def _braces(match: re.Match[str]) -> str:
  """Returns a run of opening braces as pairs with spaces between: "{{ {{".

  Of an odd number of braces, one is dropped. Without the spaces, the tokenizer
  takes seconds for a page of {{{a|{{{a| … }}}}}}.

  Args:
    match: three or more braces.
  """
  return " ".join(["{{"] * (len(match[0]) // 2))


# Most links and templates hold no further brackets: they are skipped whole.
_BRACKET = re.compile(
  r"(?P<pair>\[\[[^\[\]{}]*+\]\]|\{\{[^\[\]{}]*+\}\})"
  r"|\{\{|\}\}|\[\[|\]\]|^[ \t:*#]*\{\||^[ \t]*\|\}(?!\})",
  re.MULTILINE,
)
_PARTNER = {"}}": "{{", "]]": "[[", "|}": "{|"}
_TO_LINE_END = re.compile(r"[^\n\[\]{}]*")
_TO_LAST_PIPE = re.compile(r"\[\[(?:[^\n\[\]{}]*\|)?")


def _balanced(text: str, holes: _Holes) -> str:
  """Returns a text without brackets that have no partner.

  More than the bracket is cut for an opening one: with "{{" and "{|" the rest
  of the line, up to the next bracket; with "[[Файл:а.jpg|thumb|" everything up
  to the last pipe.

  Raises:
    BrokenMarkupError: for brackets more than MAX_DEPTH deep.
  """
  opened: list[tuple[str, int]] = []
  cuts: list[tuple[int, int]] = []
  for match in _BRACKET.finditer(text):
    if match.lastgroup:
      continue
    bracket = match[0].strip(" \t:*#")
    start = match.end() - 2
    partner = _PARTNER.get(bracket)
    if partner is None:
      opened.append((bracket, start))
      if len(opened) > MAX_DEPTH:
        raise BrokenMarkupError(f"more than {MAX_DEPTH} brackets open")
    elif any(kind == partner for kind, _ in opened):
      while (last := opened.pop())[0] != partner:
        cuts.append(_cut(text, *last))
    else:
      # The "|" stays: it tells that the line is a table's.
      cuts.append((start + (bracket == "|}"), match.end()))
  cuts += [_cut(text, *last) for last in opened]
  return _without(text, sorted(cuts), holes) if cuts else text


def _cut(text: str, bracket: str, start: int) -> tuple[int, int]:
  """Returns (start, end) of the text to cut for a bracket without a partner.

  Args:
    text: the text of the page.
    bracket: the opening bracket: "{{", "[[" or "{|".
    start: the index of the bracket.
  """
  if bracket == "[[":
    match = _TO_LAST_PIPE.match(text, start)
    assert match is not None, "it begins with the bracket"
    return start, match.end()
  match = _TO_LINE_END.match(text, start + 2)
  assert match is not None, "it matches the empty string"
  return start, match.end()


def _without(text: str, cuts: Sequence[tuple[int, int]], holes: _Holes) -> str:
  """Returns a text with the mark _CUT in the place of each cut range.

  In the place of a cut template, the mark of a hole follows.

  Args:
    text: the text.
    cuts: (start, end) of each range, sorted.
    holes: the holes of the page.
  """
  parts, position = [], 0
  for start, end in cuts:
    # Without a mark, the characters around the cut could make a new bracket.
    parts += [text[position:start], _CUT]
    name = text[start + 2 : end].partition("|")[0].strip()
    if text.startswith("{{", start) and name:
      parts.append(holes.mark(name))
    position = max(position, end)
  return "".join([*parts, text[position:]])


# Pass three: templates, links and tables.

_PAGE_NAMES = frozenset("pagename fullpagename basepagename страница".split())
# The languages of Wikipedia: a link to one of them stands beside the page and
# shows nothing in it; [[wikt:гол|гол]] and [[doi:10.1/2|өгүүлэл]] do. Source:
# the file langlist of github.com/wikimedia/operations-mediawiki-config, which
# Wikimedia's servers read, as of commit 00d5da16; and cmn, cz, dk, egl,
# en-simple, epo, jp, nb, zh-cn and zh-tw, which lead to these, of
# dumpInterwiki.php in github.com/wikimedia/mediawiki-extensions-
# WikimediaMaintenance as of commit 2e2c5ead.
_LANGUAGES = frozenset(
  """
  aa ab ace ady af ak als alt am ami an ang anp ar arc ary arz as ast atj av
  avk awa ay az azb ba ban bar bat-smg bcl be be-tarask be-x-old bg bh bi bjn
  blk bm bn bo bpy br bs btm bug bxr ca cbk-zam cdo ce ceb ch cho chr chy ckb
  co cr crh cs csb cu cv cy da dag de din diq dsb dty dv dz ee el eml en eo es
  et eu ext fa fat ff fi fiu-vro fj fo fr frp frr fur fy ga gag gan gcr gd gl
  glk gn gom gor got gpe gsw gu guc gur guw gv ha hak haw he hi hif ho hr hsb
  ht hu hy hyw hz ia id ie ig ii ik ilo inh io is it iu ja jam jbo jv ka kaa
  kab kbd kbp kcg kg ki kj kk kl km kn ko koi kr krc ks ksh ku kv kw ky la lad
  lb lbe lez lfn lg li lij lld lmo ln lo lrc lt ltg lv lzh mad mai map-bms mdf
  mg mh mhr mi min mk ml mn mni mnw mo mr mrj ms mt mus mwl my myv mzn na nah
  nan nap nds nds-nl ne new ng nia nl nn no nov nqo nrm nso nv ny oc olo om or
  os pa pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt pwn qu rm rmy
  rn ro roa-rup roa-tara ru rue rup rw sa sah sat sc scn sco sd se sg sgs sh
  shi shn shy si simple sk skr sl sm smn sn so sq sr srn ss st stq su sv sw
  szl szy ta tay tcy te tet tg th ti tk tl tly tn to tpi tr trv ts tt tum tw
  ty tyv udm ug uk ur uz ve vec vep vi vls vo vro wa war wo wuu xal xh xmf yi
  yo yue za zea zh zh-classical zh-min-nan zh-yue zu zh-cn zh-tw nb dk jp cz
  cmn egl en-simple epo
  """.split()
)

_NAME_STOPS = frozenset((tokens.TemplateParamSeparator, tokens.TemplateClose))
_VALUE_STOPS = _NAME_STOPS | {tokens.TemplateParamEquals}
_LINK_STOPS = frozenset((tokens.WikilinkSeparator, tokens.WikilinkClose))
_URL_STOPS = frozenset((tokens.ExternalLinkSeparator, tokens.ExternalLinkClose))
# Change of the depth by a token, to find the token that closes an element.
_LINK_DEPTH = {tokens.WikilinkOpen: 1, tokens.WikilinkClose: -1}
_TAG_DEPTH = {
  tokens.TagOpenOpen: 1,
  tokens.TagCloseClose: -1,
  tokens.TagCloseSelfclose: -1,
}

_Stream = Iterator[Any]  # of mwparserfromhell's tokens, which have no types


class _Renderer:
  """Turns the tokens of a page into text, with the marks of links and holes.

  Args:
    title: the title of the page.
    namespaces: the namespaces of the wiki.
    holes: the holes of the page, to which new ones are added.
  """

  def __init__(self, title: str, namespaces: Namespaces, holes: _Holes) -> None:
    self._title = title
    self._holes = holes
    self._hidden = _HIDDEN | namespaces.hidden
    self._template_names = _TEMPLATE | namespaces.template
    self._nodes: dict[type, Callable[[Any, _Stream], str]] = {
      tokens.TemplateOpen: self._template,
      tokens.WikilinkOpen: self._link,
      tokens.ExternalLinkOpen: self._url,
      tokens.HTMLEntityStart: self._entity,
      tokens.TagOpenOpen: self._tag,
    }

  def render(self, text: str) -> str:
    """Returns the text of a page whose brackets are balanced."""
    return self._text(iter(_tokenized(text)), frozenset())[0]

  def _text(self, stream: _Stream, stops: frozenset[type]) -> tuple[str, type]:
    """Consumes tokens up to and including a token of given types.

    Args:
      stream: the tokens.
      stops: the types at which to stop.

    Returns:
      (text of the tokens before the stop, type of the stop). At the end of the
      stream the type is tokens.Text.
    """
    parts = []
    for token in stream:
      kind = type(token)
      if kind is tokens.Text:
        parts.append(token["text"])
      elif kind in stops:
        return "".join(parts), kind
      else:
        # Other markup shows nothing, but its content is text.
        parts.append(self._nodes.get(kind, _nothing)(token, stream))
    return "".join(parts), tokens.Text

  def _template(self, _token: Any, stream: _Stream) -> str:
    """Returns the text of a template; the mark of a hole if it is unknown.

    Args:
      _token: the token that opens the template.
      stream: the tokens after it; those of the template are consumed.
    """
    raw, stop = self._text(stream, _NAME_STOPS)
    arguments = self._arguments(stream, stop)
    word, colon, first = raw.strip().partition(":")
    if word.strip().lower() in ("subst", "safesubst"):
      raw = first
      word, colon, first = raw.strip().partition(":")
    if colon and wikitext_functions.knows(word := word.strip().lower()):
      return self._function(word, first, arguments)
    name = self._without_namespace(_ANY_HOLE.sub("", raw))
    if template := wikitext_templates.named(name.lower()):
      given, named = _parameters(arguments)
      shown = template(given, named)
      return self._holes.mark(name) if _is_lost(shown, given, named) else shown
    if name.lower() in _PAGE_NAMES:
      return self._title
    if not name or wikitext_templates.shows_nothing(name.lower()):
      return ""
    if colon and wikitext_functions.depends(word):
      name = word
    box = wikitext_templates.is_box(name.lower()) or any(
      "\n" in value for _, value in arguments
    )
    return self._holes.mark(name, box)

  def _function(
    self, name: str, first: str, arguments: Sequence[tuple[str | None, str]]
  ) -> str:
    """Returns the output of a parser function; the mark of a hole if unknown.

    Args:
      name: the name of the function, such as "#if".
      first: the text after the colon.
      arguments: (name, value) of each further argument; the name is None
        without "=".
    """
    values = [
      value if key is None else f"{key}={value}" for key, value in arguments
    ]
    shown = wikitext_functions.evaluate(name, [first, *values])
    return self._holes.mark(name) if shown is None else shown

  def _without_namespace(self, name: str) -> str:
    """Returns a template's name without the template namespace before it."""
    *spaces, name = " ".join(name.replace("_", " ").split()).split(":")
    for place, space in enumerate(spaces):
      if space.strip().lower() not in self._template_names:
        return ":".join([*spaces[place:], name]).strip()
    return name.strip()

  def _arguments(
    self, stream: _Stream, stop: type
  ) -> list[tuple[str | None, str]]:
    """Returns (name, value) of each parameter; the name is None without "=".

    Args:
      stream: the tokens after the template's name, which are consumed.
      stop: the type of the token that ended the name.
    """
    arguments: list[tuple[str | None, str]] = []
    while stop is tokens.TemplateParamSeparator:
      value, stop = self._text(stream, _VALUE_STOPS)
      key = None
      if stop is tokens.TemplateParamEquals:
        key = value
        value, stop = self._text(stream, _NAME_STOPS)
      arguments.append((key, value))
    return arguments

  def _link(self, _token: Any, stream: _Stream) -> str:
    """Returns the shown text of a [[link]], between the marks of a link.

    The result is "" for links to files, categories and other languages, which
    show nothing.
    """
    target, stop = self._text(stream, _LINK_STOPS)
    space, colon, _ = target.partition(":")
    name = space.replace("_", " ").strip().lower()
    if colon and (name in self._hidden or name in _LANGUAGES):
      if stop is tokens.WikilinkSeparator:
        _skip(stream, _LINK_DEPTH)
      return ""
    page, _, section = target.strip().removeprefix(":").partition("#")
    shown = page or section
    if stop is tokens.WikilinkSeparator:
      text, _ = self._text(stream, frozenset((tokens.WikilinkClose,)))
      shown = text.rpartition("|")[2] or shown
    return f"{_LINK_START}{_without_links(shown)}{_LINK_END}"

  def _url(self, token: Any, stream: _Stream) -> str:
    """Returns the shown text of an external link.

    It is the text in the brackets, or the address if the link has no brackets.
    The result for brackets without a text is "", where MediaWiki shows a
    number: [1].
    """
    address, stop = self._text(stream, _URL_STOPS)
    if stop is tokens.ExternalLinkSeparator:
      return self._text(stream, frozenset((tokens.ExternalLinkClose,)))[0]
    return "" if token["brackets"] else f"{_LINK_START}{address}{_LINK_END}"

  def _entity(self, _token: Any, stream: _Stream) -> str:
    """Returns an HTML entity as it is written; `_tidy` decodes it later."""
    written = ["&"]
    for part in stream:
      kind = type(part)
      if kind is tokens.HTMLEntityEnd:
        break
      if kind is tokens.HTMLEntityNumeric:
        written.append("#")
      else:
        written.append(part["char" if kind is tokens.HTMLEntityHex else "text"])
    return "".join([*written, ";"])

  def _tag(self, token: Any, stream: _Stream) -> str:
    """Consumes the tokens of a tag in wiki markup; returns the text in its place.

    For the mark that begins a list item the text is this mark: such a tag ends
    before the text of the item. For every other tag, such as a table or a
    horizontal rule, it is a paragraph break, and the content is dropped.
    """
    _skip(stream, _TAG_DEPTH)
    mark = token["wiki_markup"]
    return mark if mark in _LIST_MARKS else _BREAK


_LIST_MARKS = frozenset("*#:;")


def _tokenized(text: str) -> list[Any]:
  """Returns mwparserfromhell's flat list of tokens of wikitext.

  Runs of apostrophes are text: bold and italics are not parsed.
  """
  # The tokenizer in C is there if use_c is true, but has no declared type.
  reader = (
    parser.CTokenizer()  # type: ignore[attr-defined]
    if parser.use_c
    else tokenizer.Tokenizer()
  )
  # True: skip bold and italics, which are gone; an apostrophe means nothing.
  return reader.tokenize(text, 0, True)


def _nothing(_token: Any, _stream: _Stream) -> str:
  """Returns "": the text of markup that itself shows nothing."""
  return ""


def _skip(stream: _Stream, depths: Mapping[type, int]) -> None:
  """Consumes tokens up to the token that closes the current element.

  Args:
    stream: the tokens.
    depths: type of a token → +1 if the token opens an element of this kind, −1
      if it closes one.
  """
  depth = 1
  for token in stream:
    depth += depths.get(type(token), 0)
    if not depth:
      return


def _parameters(
  arguments: Sequence[tuple[str | None, str]],
) -> tuple[list[str], dict[str, str]]:
  """Returns a template's numbered parameters, in order, and its named ones.

  Args:
    arguments: (name, value) of each parameter; a name such as "2" is a number.

  Returns:
    (values, name in lower case → value); all values are stripped.
  """
  given: dict[int, str] = {}
  named: dict[str, str] = {}
  count = 0
  for key, value in arguments:
    if key is None:
      count += 1
      given[count] = value.strip()
    elif key.strip().isdecimal():
      given[int(key)] = value.strip()
    else:
      named[key.strip().lower()] = value.strip()
  return [given[number] for number in sorted(given)], named


def _is_lost(
  shown: str, given: Sequence[str], named: Mapping[str, str]
) -> bool:
  """Returns whether a template's text is empty by mistake.

  This is so if the call has other parameters than the table of templates
  expects, as `{{zh|s=…}}` and `{{lang|mn}}` have; `{{nowrap|}}` is rightly
  empty.

  Args:
    shown: the text of the template.
    given: the values of the numbered parameters of the call.
    named: name → value of the named parameters of the call.
  """
  if named and not given:
    return not shown.strip()
  return not shown and (not given or any(given))


def _without_links(text: str) -> str:
  """Returns a text without the marks of links and cuts."""
  return _without_marks(text, _LINK_START + _LINK_END + _CUT)


def _without_marks(text: str, marks: str) -> str:
  """Returns a text without the characters in `marks`."""
  for mark in marks:  # faster than one pass for all, as most do not occur
    text = text.replace(mark, "")
  return text


# Pass four: lines.

_TWO_BREAKS = re.compile(r"\v\s*\v")
# Remains of a table that was never opened or closed. "!Кунг" is a people.
_TABLE_LINE = re.compile(r"\||!(?=\s)|!.*!!|\}|\{\||.*\|\|")


def _sorted_lines(text: str, holes: _Holes) -> Iterator[str]:
  """Yields the paragraphs of a page, in their final form.

  Adjacent lines of running text become one paragraph, and a list item that is a
  sentence is a paragraph. Labels, headings, tables and the sections of links
  and sources are left out.
  """
  text = _TWO_BREAKS.sub(_BREAK, text).replace(_LINE_BREAK, " ")
  for block in _blocks(text):
    paragraph = _tidy(" ".join(block), holes)
    if paragraph and not _is_label(paragraph):
      yield paragraph


def _blocks(text: str) -> list[list[str]]:
  """Divides the text of a page into paragraphs, as lists of lines.

  Adjacent lines of running text are one paragraph; a list item that is running
  text is a paragraph by itself. Headings, tables, all other list items, and the
  sections of links and sources are left out.
  """
  blocks: list[list[str]] = []
  skipped = 0  # the level of the heading whose section is left out
  goes_on = False
  for line in _lines(text):
    continues, goes_on = goes_on, False
    if line.startswith(_HEADING):
      skipped = _skipped_level(int(line[1]), line[2:], skipped)
    elif skipped or not line or _TABLE_LINE.match(line):
      continue
    elif line[0] in _LIST_MARKS:
      if _is_running_text(line):
        blocks.append([line.lstrip("*#:; ")])
    elif continues:
      blocks[-1].append(line)
      goes_on = True
    else:
      blocks.append([line])
      goes_on = True
  return blocks


def _lines(text: str) -> Iterator[str]:
  """Yields the lines of a page without boxes, and without white space around.

  A line with only templates is taken for a box, and becomes "". It stays if it
  belongs to a sentence: if the line before it ends within a sentence, without a
  colon, and the line after it begins with a letter.
  """
  before = ""
  lines = list(map(str.strip, text.split("\n")))
  for line, behind in zip(lines, [*lines[1:], ""], strict=True):
    shown = _without_boxes(line)
    within = before and not _LINE_END.search(_without_links(before))
    if line and not shown and within and _without_links(behind)[:1].isalpha():
      shown = line
    yield shown
    before = shown if not shown.startswith(_HEADING) else ""


def _without_boxes(line: str) -> str:
  """Returns a line without the mark of a box at its beginning.

  A box is a template that a page shows beside its text. A line with only the
  marks of templates becomes "".
  """
  if not _ANY_HOLE.search(line):
    return line
  if box := _LEADING_BOX.match(line):
    line = line[box.end() :]
  return "" if _NO_TEXT.fullmatch(_without_links(line)) else line


def _skipped_level(level: int, title: str, skipped: int) -> int:
  """Decides at a heading whether the text after it is skipped.

  Skipped are sections with titles such as "links", and their subsections.

  Args:
    level: the level of the heading.
    title: the title of the heading.
    skipped: the result of this function for the heading before.

  Returns:
    the level of the section that is skipped; 0 if the text is not skipped.
  """
  if skipped and level > skipped:
    return skipped
  name = _without_links(title).strip(" :.").lower()
  return level if name in _SKIPPED_SECTIONS else 0


_LINKED = re.compile(
  f"{_LINK_START}([^{_LINK_END}]*+){_LINK_END}|{_LINK_START}[^{_LINK_END}]*+\\Z"
)
_SENTENCE_END = re.compile(r"[.!?…;][\"'»“”’)\]]*$")
_LINE_END = re.compile(rf"{_SENTENCE_END.pattern}|:$")
_CATALOGUE = re.compile(r"\b(?:ISBN|ISSN|DOI|OCLC|PMID)\b", re.IGNORECASE)


def _is_running_text(item: str) -> bool:
  """Returns whether a list item is a sentence, not a mere entry, link or book.

  An item that ends as a sentence needs at least six words, and more than a
  quarter of its characters outside of links; any other item needs at least
  twelve words, and more than half of its characters outside. An item with the
  name of a catalogue, such as ISBN, is no running text. (The numbers are
  guesses, checked by eye on English and Bulgarian articles.)
  """
  shown = _without_links(item).lstrip("*#:; ").rstrip()
  linked = sum(map(len, _LINKED.findall(item))) / max(1, len(shown))
  words = len(shown.split())
  ends = bool(_SENTENCE_END.search(shown))
  least, most = (6, 0.75) if ends else (12, 0.5)
  return words >= least and linked < most and not _CATALOGUE.search(shown)


def _is_label(paragraph: str) -> bool:
  """Returns whether a paragraph is a label or caption, such as "Романууд:".

  Such a paragraph has fewer than five words and does not end as a sentence.
  """
  return len(paragraph.split()) < 5 and not _SENTENCE_END.search(paragraph)


_RESIDUE = re.compile(
  r"\{\{[^{}]*\}\}|\[\[|\]\]|\{\{+|\}\}+|\{\||__[^\W\d_]+(?:_[^\W\d_]+)*__|~{3,}"
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[A-Za-z]\w{1,31});")
_SCRIPT = re.compile(
  f"(?P<kind>[{_RAISED}{_LOWERED}])"
  f"(?P<body>[^{_RAISED}{_LOWERED}{_LEVEL}]*){_LEVEL}"
)
# Remains of a dropped template or reference: "( , ; )", "(; ", "word ."
_EMPTY_PARENTHESES = re.compile(r" ?\([ ,;:/–—-]*\)")
_AFTER_OPENING = re.compile(r"\([ ,;:]+")
_BEFORE_CLOSING = re.compile(r"(?<![ ,;:])[ ,;:]++\)")
_BEFORE_STOP = re.compile(r" ([,.;:!?])(?![^ ])")


def _tidy(text: str, holes: _Holes) -> str:
  """Returns the final form of a paragraph; "" for one without a letter.

  Entities are decoded, superscripts and subscripts become Unicode characters,
  and the marks of holes and the spaces around punctuation are put in order.
  """

  def residue(match: re.Match[str]) -> str:
    name = match[0].strip("{}").partition("|")[0].strip()
    return holes.mark(name) if match[0].startswith("{{") and name else ""

  def pronunciation(match: re.Match[str]) -> str:
    names = [holes.names.get(x, "").lower() for x in match[1].split()]
    known = all(map(wikitext_templates.is_pronunciation, names))
    return "" if known else match[0]

  text = _RESIDUE.sub(residue, _without_links(text))
  if _ANY_HOLE.search(text):
    text = _IN_BRACKETS.sub(pronunciation, _NOTE.sub(r"\1", text))
    text = _LAST.sub("", text)
  text = _ENTITY.sub(_character, text)
  text = _without_marks(_SCRIPT.sub(_script, text), _RAISED + _LOWERED + _LEVEL)
  text = " ".join(text.split())
  if "(" in text:
    text = _EMPTY_PARENTHESES.sub("", text)
    text = _AFTER_OPENING.sub("(", text)
    text = _BEFORE_CLOSING.sub(")", text)
  text = _BEFORE_STOP.sub(r"\1", text).strip()
  return text if any(map(str.isalpha, text)) else ""


def _character(entity: re.Match[str]) -> str:
  """Returns the character of an HTML entity; "" for the characters of marks."""
  return _ANY_HOLE.sub("", html.unescape(entity[0]))


def _script(match: re.Match[str]) -> str:
  """Returns the text of <sup> or <sub>, in raised or lowered characters.

  10<sup>6</sup> must not become 106, nor м<sup>2</sup> become м2.
  """
  body = match["body"].strip()
  if match["kind"] == _RAISED:
    return wikitext_templates.raised(body)
  return wikitext_templates.lowered(body)
