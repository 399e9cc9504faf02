"""Judges documents and lines by the quality rules of well-known web corpora.

Each rule is named after the paper that has it. A rule for documents measures one
number, and drops a document whose number lies beyond the limit; a rule for lines drops
lines. The papers' limits are for English pages. Where they would drop more than 0.5 %
of good Mongolian documents, the limit here is another one, and the table says which the
paper has (measured on 2026-12-01, docs/log.md). All rules take time that is linear in
the text.
"""

import collections
import dataclasses
import functools
import html
import itertools
import re
from collections.abc import Callable, Iterable, Sequence

from data_prep.base import options
from data_prep.text import language

# Gopher's smallest number of words of a document. Shares of a shorter text are
# chance, so that most rules leave it alone.
_FEWEST_WORDS = 50
# Gopher and FineWeb judge the lines of a page; fewer lines are not a page (guess).
_FEWEST_LINES = 5
# A line of a site's frame stands in so many documents of a task, has at most so many
# words and does not end in punctuation (guesses).
_SITE_DOCUMENTS, _SITE_WORDS = 3, 6


@dataclasses.dataclass(frozen=True)
class Rule:
  """A rule for documents.

  Attributes:
    name: the name of the rule, which begins with the name of the paper.
    paper: the paper and its section.
    what: the measured quantity in words, for people.
    measure: function from a document to the measured number.
    least, most: the limits: a document whose number is below `least` or above
      `most` is dropped.
    words, lines: the smallest numbers of words and of lines of a document that
      the rule judges.
    raw: whether the document is judged before lines are dropped from it.
    web: whether the set of rules "web" includes the rule.
  """

  name: str
  paper: str
  what: str
  measure: Callable[["Text"], float]
  least: float = float("-inf")
  most: float = float("inf")
  words: int = _FEWEST_WORDS
  lines: int = 0
  raw: bool = False
  web: bool = True

  def drops(self, text: "Text") -> bool:
    """Returns whether the rule drops a document.

    The result is False for a document that is too short for the rule.
    """
    if len(text.words) < self.words or len(text.lines) < self.lines:
      return False
    return not self.least <= self.measure(text) <= self.most


@dataclasses.dataclass(frozen=True)
class LineRule:
  """A rule for lines.

  Attributes:
    name, paper: as in a Rule.
    what: the lines that the rule drops, in words, for people.
    drops: function from a line to whether the line is dropped.
    web: whether the set of rules "web" includes the rule.
  """

  name: str
  paper: str
  what: str
  drops: Callable[[str], bool]
  web: bool = True


class Text:
  """A document and its counts; each count is computed once, when it is needed.

  Args:
    lines: the lines (sentences) of the document.
  """

  def __init__(self, lines: Sequence[str]) -> None:
    self.lines = lines
    self.words = " ".join(lines).split()

  @functools.cached_property
  def letters(self) -> int:
    """The number of characters in words, at least 1."""
    return max(1, sum(map(len, self.words)))

  @functools.cached_property
  def repeats(self) -> list[str]:
    """The lines that repeat an earlier line, an entry for each repetition."""
    seen: set[str] = set()
    repeats = []
    for line in self.lines:
      if line in seen:
        repeats.append(line)
      seen.add(line)
    return repeats

  def share(self, holds: Callable[[str], object]) -> float:
    """Returns the share of lines for which `holds` returns something true.

    The share is from 0 to 1; it is 0 for a document without lines.
    """
    return sum(map(bool, map(holds, self.lines))) / max(1, len(self.lines))

  @functools.cached_property
  def _pairs(self) -> int:
    """How often the most frequent pair of adjacent words occurs."""
    pairs = collections.Counter(itertools.pairwise(self.words))
    return max(pairs.values(), default=0)

  def top(self, size: int) -> float:
    """Returns the share of letters in the most frequent run of `size` words.

    The share is from 0 to 1; overlapping runs can make it larger. A run that
    occurs at most twice is no repetition, and gives 0.
    """
    if self._pairs <= 2:
      return 0.0
    counts = collections.Counter(_runs(self.words, size))
    run, times = max(counts.items(), key=lambda x: x[1], default=((), 0))
    return sum(map(len, run)) * times / self.letters if times > 2 else 0.0

  def repeated(self, size: int) -> float:
    """Returns the share of letters in runs of `size` words that came before.

    The share is from 0 to 1. A word that lies in several such runs counts once.
    For more than five words, the result is 0 if runs of five words cover at
    most a tenth of the letters.
    """
    # Longer runs cover no more than runs of five. A tenth is Gopher's least limit.
    if size > 5 and self._fives <= 0.1:
      return 0.0
    return (
      self._fives if size == 5 else _repeated(self.words, size) / self.letters
    )

  @functools.cached_property
  def _fives(self) -> float:
    """The share of letters in runs of five words that occurred before."""
    return _repeated(self.words, 5) / self.letters


def _runs(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
  """Returns all runs of `size` neighbouring words, in order.

  The result is empty for fewer words than `size`.
  """
  return zip(
    *(itertools.islice(words, i, None) for i in range(size)), strict=False
  )


def _repeated(words: Sequence[str], size: int) -> int:
  """Returns the number of letters in runs of `size` words that occurred before.

  A word that lies in several such runs counts once.
  """
  runs = list(_runs(words, size))
  if len(set(runs)) == len(runs):
    return 0
  seen: set[tuple[str, ...]] = set()
  letters = end = 0  # the words before `end` are counted
  for start, run in enumerate(runs):
    if run in seen:
      letters += sum(map(len, words[max(start, end) : start + size]))
      end = start + size
    seen.add(run)
  return letters


# Gopher asks for two of the, be, to, of, and, that, have, with.
_SMALL_WORDS = frozenset(
  "нь ба бол бөгөөд гэж гэсэн энэ тэр юм байна байсан байв байгаа болон хүн олон "
  "нэг уу үү биш ч шиг дээр доор дор тул мөн их л би та чи бид тэд түүний миний "
  "минь чинь хэмээн болсон байдаг ямар юу бүр бүх тэгээд".split()
)
_BULLET = re.compile(r"[•●▪◦■□*·►]")
_STOP = re.compile(r"[.!?…:;][\"'»“”’)\]]*$")


def _symbols(text: Text) -> float:
  """Returns the number of "#", "…" and "..." divided by the number of words."""
  whole = " ".join(text.lines)
  count = whole.count("#") + whole.count("…") + whole.count("...")
  return count / max(1, len(text.words))


def _lettered(text: Text) -> float:
  """Returns the share of words with a letter, from 0 to 1; 0 without words.

  Only words with a letter or a digit are counted: "—" is no word.
  """
  words = [word for word in text.words if any(map(str.isalnum, word))]
  return sum(map(bool, map(language.LETTER.search, words))) / max(1, len(words))


def _is_menu_line(line: str) -> bool:
  """Returns whether a line has under 30 characters and no final punctuation."""
  return len(line) < 30 and not _STOP.search(line)


def _small_words(text: Text) -> float:
  """Returns how many of the words in _SMALL_WORDS occur in a document.

  Upper and lower case make no difference.
  """
  return len(_SMALL_WORDS.intersection(map(str.lower, text.words)))


def _repeated_letters(text: Text) -> float:
  """Returns the share of characters in lines that repeat an earlier line."""
  whole = sum(map(len, text.lines))
  return sum(map(len, text.repeats)) / max(1, whole)


_GOPHER = "Rae et al. 2021 (Gopher), A.1.1"
_FINEWEB = "Penedo et al. 2024 (FineWeb), 3.6"

RULES = (
  Rule(
    "gopher_symbols",
    _GOPHER,
    "# and ellipses for each word",
    _symbols,
    most=0.1,
  ),
  Rule(
    "gopher_bullets",
    _GOPHER,
    "share of lines that begin with a bullet; a dash begins speech",
    lambda text: text.share(_BULLET.match),
    most=0.9,
    lines=_FEWEST_LINES,
  ),
  Rule(
    "gopher_ellipses",
    _GOPHER + ": 0.3",
    "share of lines that end in an ellipsis",
    lambda text: text.share(lambda line: line.endswith(("…", "..."))),
    most=0.75,
    lines=_FEWEST_LINES,
  ),
  Rule(
    "gopher_letters",
    _GOPHER,
    "share of words with a letter",
    _lettered,
    least=0.8,
  ),
  Rule(
    "gopher_word_length",
    _GOPHER,
    "mean number of characters of a word",
    lambda text: text.letters / max(1, len(text.words)),
    least=3.0,
    most=10.0,
  ),
  Rule(
    "gopher_small_words",
    _GOPHER + ": 2 of the, be, to, of, and, that, have, with",
    "number of different small words such as нь, бол, гэж",
    _small_words,
    least=1.0,
    words=3 * _FEWEST_WORDS,
  ),
  Rule(
    "gopher_repeated_lines",
    _GOPHER,
    "share of lines that repeat an earlier one",
    lambda text: len(text.repeats) / max(1, len(text.lines)),
    most=0.3,
    lines=_FEWEST_LINES,
    raw=True,
  ),
  Rule(
    "gopher_repeated_line_letters",
    _GOPHER,
    "share of characters in lines that repeat an earlier one",
    _repeated_letters,
    most=0.2,
    lines=_FEWEST_LINES,
    raw=True,
  ),
  *(
    Rule(
      f"gopher_top_{size}gram",
      f"{_GOPHER}: {theirs}",
      f"share of characters in the commonest {size} words in a row",
      functools.partial(Text.top, size=size),
      most=most,
    )
    for size, theirs, most in (
      (2, 0.20, 0.30),
      (3, 0.18, 0.25),
      (4, 0.16, 0.20),
    )
  ),
  *(
    Rule(
      f"gopher_repeated_{size}grams",
      f"{_GOPHER}: {theirs}",
      f"share of characters in {size} words in a row that occurred before",
      functools.partial(Text.repeated, size=size),
      most=0.28,
    )
    for size, theirs in (
      (5, 0.15),
      (6, 0.14),
      (7, 0.13),
      (8, 0.12),
      (9, 0.11),
      (10, 0.10),
    )
  ),
  Rule(
    "fineweb_line_ends",
    _FINEWEB,
    "share of lines that end in punctuation; drops headlines and verse",
    lambda text: text.share(_STOP.search),
    least=0.12,
    lines=_FEWEST_LINES,
    web=False,
  ),
  Rule(
    "fineweb_short_lines",
    _FINEWEB + ": 0.67, of all short lines",
    "share of lines of fewer than 30 characters without punctuation at the end",
    lambda text: text.share(_is_menu_line),
    most=0.8,
    lines=2 * _FEWEST_LINES,
  ),
  Rule(
    "fineweb_repeated_line_letters",
    _FINEWEB,
    "share of characters in lines that repeat an earlier one",
    _repeated_letters,
    most=0.1,
    lines=_FEWEST_LINES,
    raw=True,
  ),
)

_C4 = "Raffel et al. 2020 (C4), 2.2"
# C4's "terms of use", "privacy policy", "cookie policy" in Mongolian.
_POLICY = re.compile(
  r"үйлчилгээний нөхцөл|нууцлалын (?:бодлого|нөхцөл)|terms of (?:use|service)"
  r"|privacy policy|cookie policy|all rights reserved|күүки",
  re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]+")
_BROKEN = re.compile(r"\ufffd|[ÐÑÒÓ][\u0080-\u00bf‚-™]|Ã[\u0080-\u00bf]")


def _is_policy(line: str) -> bool:
  """Returns whether a line of fewer than 80 characters is about terms of use.

  C4 drops every line with words such as "cookies". A sentence about a law has
  such words too; so only short lines count here.
  """
  return len(line) < 80 and bool(_POLICY.search(line))


def _is_foreign(line: str) -> bool:
  """Returns whether a line is in another language than Mongolian.

  The result is False for fewer than three words or twelve letters. A line
  without Cyrillic letters is foreign if all its letters are ASCII. A line with
  Cyrillic letters is foreign if more than a twentieth of its letters do not
  exist in Mongolian. If not, it is Mongolian if it has ө, ү or a double vowel;
  otherwise `language.identify` decides.
  """
  foreign = language.FOREIGN.search(line)
  if not foreign and language.MONGOLIAN.search(line):
    return False  # first, since nearly all lines end here
  words = _LETTERS.findall(line)
  letters = sum(map(len, words))
  if len(words) < 3 or letters < 12:
    return False
  if not language.CYRILLIC.search(line):
    return "".join(words).isascii()
  if foreign and 20 * len(language.FOREIGN.findall(line)) > letters:
    return True
  if language.MONGOLIAN.search(line):
    return False
  return language.identify(line, letters) not in ("mn", "unknown", "latin")


def _is_code(line: str) -> bool:
  """Returns whether a line has { and }, ends with {, or is } alone."""
  return ("{" in line and "}" in line) or line.endswith("{") or line == "}"


def _is_broken(line: str) -> bool:
  """Returns whether more than a tenth of a line's characters are misdecoded."""
  return len(_BROKEN.findall(line)) * 10 > len(line)


def _repeats_a_phrase(line: str) -> bool:
  """Returns whether a long line mostly repeats a phrase.

  A long line has at least 20 words. It mostly repeats a phrase if fewer than
  half of its runs of three words are distinct.
  """
  words = line.split()
  if len(words) < 20:
    return False
  runs = list(_runs(words, 3))
  return 2 * len(set(runs)) < len(runs)


LINE_RULES = (
  LineRule(
    "c4_placeholders",
    _C4,
    "lines with lorem ipsum",
    lambda line: "lorem ipsum" in line.lower(),
  ),
  LineRule(
    "c4_braces",
    _C4 + ", whole pages",
    "lines with { and }, which are code",
    _is_code,
  ),
  LineRule(
    "c4_policies", _C4, "short lines about terms and privacy", _is_policy
  ),
  LineRule(
    "c4_line_ends",
    _C4,
    "lines without punctuation at the end; drops headings and verse",
    lambda line: not _STOP.search(line),
    web=False,
  ),
  LineRule(
    "c4_short_lines",
    _C4 + ": 5",
    "lines of fewer than 3 words",
    lambda line: line.count(" ") < 2,
    web=False,
  ),
  LineRule(
    "gopher_phrases",
    _GOPHER + ", for documents",
    "lines of 20 words or more, of whose runs of three words half are repeated",
    _repeats_a_phrase,
  ),
  LineRule(
    "oscar_foreign_lines",
    "Ortiz Suárez et al. 2019 (OSCAR), 3: lines of 100 bytes",
    "lines in another language than Mongolian",
    _is_foreign,
  ),
  LineRule(
    "oscar_broken_lines",
    "Abadji et al. 2022 (OSCAR 22.01), 3",
    "lines of which a tenth was decoded wrongly",
    _is_broken,
  ),
)
# Not rules for a single line: site_lines (Wenzek et al. 2020, CCNet, 3.1, has them
# for whole crawls) and without_markup.
SITE_LINES, MARKUP = "ccnet_site_lines", "markup"
NAMES = (
  MARKUP,
  SITE_LINES,
  *(rule.name for rule in LINE_RULES),
  *(rule.name for rule in RULES),
)


@functools.cache
def chosen(names: str) -> "Judge":
  """Returns a `Judge` with the rules that --quality_rules names.

  Args:
    names: "none" or "" for no rules, "web" for the rules that suit pages of the
      web, or names of rules with commas between them.

  Raises:
    options.InputError: for a name that is not among NAMES.
  """
  if names == "web":
    off = {rule.name for rule in RULES if not rule.web}
    off |= {rule.name for rule in LINE_RULES if not rule.web}
    return Judge(frozenset(NAMES) - off)
  asked = frozenset(filter(None, map(str.strip, names.split(",")))) - {"none"}
  if unknown := sorted(asked.difference(NAMES)):
    raise options.InputError(
      f"--quality_rules of none, web, {', '.join(NAMES)}",
      ",".join(unknown),
      "name rules of this list, with commas between them",
    )
  return Judge(asked)


class Judge:
  """Applies the named rules of RULES and LINE_RULES.

  Args:
    names: names from NAMES. MARKUP and SITE_LINES have no effect here: the
      caller applies them.

  Attributes:
    names: the names.
    has_line_rules: whether any rule of LINE_RULES is among them.
  """

  def __init__(self, names: frozenset[str]) -> None:
    self.names = names
    self._rules = [rule for rule in RULES if rule.name in names]
    self._line_rules = [rule for rule in LINE_RULES if rule.name in names]
    self.has_line_rules = bool(self._line_rules)

  def document(self, lines: Sequence[str], raw: bool) -> str:
    """Returns the name of the first rule that drops a document, or "".

    Args:
      lines: the lines of the document.
      raw: True: `lines` are all lines that were read, and the rules with `raw`
        apply. False: `lines` are the lines that remain after cleaning, and the
        rules without `raw` apply.
    """
    rules = [rule for rule in self._rules if rule.raw == raw]
    if not rules:
      return ""  # the words of the document need not be counted
    text = Text(lines)
    return next((rule.name for rule in rules if rule.drops(text)), "")

  def line(self, line: str) -> str:
    """Returns the name of the first rule that drops a line, or ""."""
    return next((x.name for x in self._line_rules if x.drops(line)), "")


def site_lines(documents: Iterable[Iterable[str]]) -> frozenset[str]:
  """Returns the lines that are the frame of a site: Нүүр, Мэдээ, Холбоо барих.

  Such a line has at most six words, does not end in punctuation, and stands in
  at least three documents.

  Args:
    documents: the lines of the documents of a task, which stand near each other in
      a file.
  """
  counts: collections.Counter[str] = collections.Counter()
  for lines in documents:
    counts.update(
      {
        line
        for line in lines
        if line.count(" ") < _SITE_WORDS and not _STOP.search(line)
      }
    )
  return frozenset(
    line for line, count in counts.items() if count >= _SITE_DOCUMENTS
  )


_ENTITY = re.compile(
  r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,31}\d{0,2});"
)
_BLOCKS = (
  "p|br|div|li|ul|ol|h[1-6]|tr|td|th|table|tbody|blockquote|section|article"
)
_TAG = re.compile(
  rf"<(?P<end>/?)(?P<name>{_BLOCKS}|span|b|i|u|em|strong|a|img|font|sup|sub|small)"
  r"(?=[\s/>])[^<>]*+>",
  re.IGNORECASE,
)
_BLOCK = re.compile(rf"(?:{_BLOCKS})\Z", re.IGNORECASE)


def without_markup(line: str) -> list[str]:
  r"""Returns a line as paragraphs, without HTML's entities and tags.

  Entities are resolved twice. A tag of a block, such as <p> or <br>, divides
  paragraphs. The list is empty if the line has nothing but tags.

  without_markup("Ном&nbsp;&amp; ном<br>Тэр &lt;b&gt;явна.")
  # ["Ном\xa0& ном", "Тэр явна."]
  """
  for _ in range(2):  # many dumps are escaped twice: &amp;nbsp;
    if "&" in line:
      line = _ENTITY.sub(lambda entity: html.unescape(entity[0]), line)
  if "<" not in line:
    return [line]
  parted = _TAG.sub(lambda tag: "\n" if _BLOCK.match(tag["name"]) else "", line)
  return [part for part in parted.split("\n") if part.strip()]
