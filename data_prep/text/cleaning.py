"""Drops documents and sentences that are not worth keeping, with reasons.

Every rule has a name, a switch and a count; stats.json lists the dropped text
by rule, with examples. `clean` keeps no state, so that it can run on all cores.
Duplicates are dropped by `deduplication`.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterator, Sequence

from data_prep.base import options
from data_prep.text import language, quality


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Rules of cleaning."""

  language: str = options.option(
    "mn",
    "Language of the documents to keep. mn: drop documents that are "
    "clearly in another language than Mongolian or wrongly decoded. any: "
    "keep documents in any language.",
    choices=("mn", "any"),
  )
  min_words: int = options.option(
    5,
    "Smallest number of words of a document; shorter documents are "
    "dropped. The default is a guess: fewer words are a caption.",
    minimum=0,
  )
  min_characters: int = options.option(
    0,
    "Smallest number of characters of a document; shorter documents are "
    "dropped (mongolian-bert's news: 150).",
    minimum=0,
  )
  min_sentences: int = options.option(
    0,
    "Smallest number of sentences of a document; shorter documents are "
    "dropped (mongolian-bert's news: 6).",
    minimum=0,
  )
  drop_first_and_last_sentence: bool = options.option(
    False,
    "Drop the first and the last sentence of a document, which in news "
    "articles are the by-line and the source (mongolian-bert: true).",
  )
  drop_lines_without_letters: bool = options.option(
    True,
    "Drop lines without letters, such as rules, page numbers and tables "
    "of figures.",
  )
  drop_repeated_lines: bool = options.option(
    True,
    "Drop a sentence that the document contained before, as C4 does.",
  )
  drop_boilerplate: bool = options.option(
    True,
    "Drop sentences about the web page, such as requests to share, to "
    "comment or to respect copyright.",
  )
  quality_rules: str = options.option(
    "none",
    "Rules of well-known web corpora (Gopher, C4, FineWeb, CCNet, OSCAR) by "
    "which documents and lines are dropped: none, web for the rules that suit "
    "pages of the web, or names of rules with commas between. The names "
    "are listed in docs/corpora.md.",
  )
  scrub_personal_data: bool = options.option(
    False,
    "Replace e-mail addresses with [имэйл], phone numbers with [утас], "
    "register numbers with [регистр], bank accounts with [данс], addresses "
    "of pages with [холбоос] and @names with [нэр].",
  )

  def check(self) -> None:
    quality.chosen(self.quality_rules)


@dataclasses.dataclass(frozen=True)
class Keep:
  """The verdict that a document is kept.

  Attributes:
    sentences: the sentences of the document that remain.
  """

  sentences: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Drop:
  """The verdict that a document is dropped, for a reason that is counted.

  Attributes:
    reason: the name of the reason.
    example: the beginning of the text, for stats.json; "" if there is none.
  """

  reason: str
  example: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of the rules for one document.

  Attributes:
    verdict: a `Keep` with the remaining sentences, or a `Drop`.
    lines: reason → the sentences that were dropped or changed for this reason;
      of a changed sentence, the form before the change.
  """

  verdict: Keep | Drop
  lines: dict[str, list[str]]


Sentences = Iterator[tuple[str, str]]  # the kept text or "", the reason or ""


def clean(
  sentences: Sequence[str],
  settings: Options,
  site_lines: Collection[str] = (),
) -> Result:
  """Applies the rules to a document; returns the verdict, and sentences changed.

  The steps are: lines of a site's frame are dropped; quality rules judge the
  whole document; rules drop or change lines; the rest must be long enough and in
  the wanted language; quality rules judge the rest. The first step that drops
  the document gives the reason.

  Args:
    sentences: the normalised sentences, in order.
    settings: which rules apply.
    site_lines: sentences to drop: the frame of the site, such as menus.
  """
  lines: dict[str, list[str]] = collections.defaultdict(list)
  judge = quality.chosen(settings.quality_rules)
  kept = list(sentences)
  if site_lines:
    site_rule = functools.partial(_site_lines, site_lines=site_lines)
    kept = _applied(site_rule, kept, lines)
  if reason := judge.document(kept, raw=True):
    return Result(Drop(reason, _example(kept)), dict(lines))
  if settings.drop_first_and_last_sentence:
    lines["first or last sentence"] += [*kept[:1], *kept[1:][-1:]]
    kept = kept[1:-1]
  for switch, rule in _LINE_RULES:
    if getattr(settings, switch):
      kept = _applied(rule, kept, lines)
  if judge.has_line_rules:
    line_rules = functools.partial(_low_quality, judge=judge)
    kept = _applied(line_rules, kept, lines)
  verdict = _verdict(kept, settings)
  if isinstance(verdict, Keep) and (reason := judge.document(kept, raw=False)):
    verdict = Drop(reason, _example(kept))
  return Result(verdict, dict(lines))


def _example(sentences: Sequence[str]) -> str:
  """Returns the first 80 characters of the sentences, joined by spaces."""
  return " ".join(sentences)[:80]


def _site_lines(
  sentences: Sequence[str], site_lines: Collection[str]
) -> Sentences:
  """Yields (sentence, ""), or ("", reason) for a sentence of a site's frame.

  Args:
    sentences: the sentences.
    site_lines: the sentences of the frame, as `quality.site_lines` finds them.
  """
  for sentence in sentences:
    gone = sentence in site_lines
    yield ("", quality.SITE_LINES) if gone else (sentence, "")


def _low_quality(sentences: Sequence[str], judge: quality.Judge) -> Sentences:
  """Yields (sentence, ""), or ("", reason) if a quality rule drops it."""
  for sentence in sentences:
    reason = judge.line(sentence)
    yield ("" if reason else sentence), reason


def _applied(
  rule: Callable[[Sequence[str]], Sentences],
  sentences: Sequence[str],
  lines: dict[str, list[str]],
) -> list[str]:
  """Applies a rule for sentences; returns the sentences that remain.

  Args:
    rule: function that yields for each sentence (its new form, the reason of a
      change); the form of a dropped sentence is "".
    sentences: the sentences.
    lines: reason → sentences; the sentences that the rule drops or changes are
      added to it.
  """
  kept = []
  for sentence, (left, reason) in zip(sentences, rule(sentences), strict=True):
    if reason:
      lines[reason].append(sentence)
    if left:
      kept.append(left)
  return kept


def _without_letters(sentences: Sequence[str]) -> Sentences:
  """Yields (sentence, ""), or ("", reason) for a sentence without a letter.

  C4 has this rule (Raffel et al. 2020, section 2.2).
  """
  for sentence in sentences:
    lettered = any(map(str.isalpha, sentence))
    yield (sentence, "") if lettered else ("", "line without letters")


def _repeated(sentences: Sequence[str]) -> Sentences:
  """Yields (sentence, ""), or ("", reason) for the repetition of a sentence.

  Gopher has this rule (Rae et al. 2021, A.1.1).
  """
  seen: set[str] = set()
  for sentence in sentences:
    yield ("", "repeated line") if sentence in seen else (sentence, "")
    seen.add(sentence)


# From common knowledge of Mongolian news pages: the beginnings of lines, and what
# stands anywhere in a line.
_BOILERPLATE_BEGINS = re.compile(
  r"(?:эх сурвалж ?[:：]|дэлгэрэнгүй(г|( унших)?\W*$)|цааш унших|хуваалцах\W*$"
  r"|сэтгэгдэл (бичих|үлдээх)|холбоотой мэдээ|бусад мэдээ\W*$|сурталчилгаа\W*$"
  r"|та сэтгэгдэл|анхааруулга: та сэтгэгдэл|нэвтрэх\W*$|бүртгүүлэх\W*$"
  r"|https?://\S+$|www\.\S+$|share\b|tweet\b|like\b.{0,20}$|copyright\b|©)",
  re.IGNORECASE,
)
_BOILERPLATE = re.compile(
  r"бүх эрх (нь )?хуулиар хамгаалагдсан|зохиогчийн эрх хуулиар хамгаалагдсан"
  r"|javascript|cookies?\b",
  re.IGNORECASE,
)
# A sentence without these has no match of _BOILERPLATE, whose search takes longer. A k
# or s is not in them, since an expression that ignores case takes further letters for
# them.
_BOILERPLATE_PARTS = ("хамгаалагдсан", "java", "coo")


def _boilerplate(sentences: Sequence[str]) -> Sentences:
  """Yields (sentence, ""), or ("", reason) for a sentence about the web page.

  C4 has this rule for English (section 2.2).
  """
  for sentence in sentences:
    match = _BOILERPLATE_BEGINS.match(sentence)
    if not match:
      folded = sentence.casefold()
      if any(part in folded for part in _BOILERPLATE_PARTS):
        match = _BOILERPLATE.search(sentence)
    yield ("", "boilerplate") if match else (sentence, "")


# A word and, where it is an address, its host. Words that are none are matched
# too, since a search from each of their letters would take quadratic time.
_ADDRESS = re.compile(r"[\w.+-]++(?P<host>@[\w-]+(?:\.[\w-]+)+)?")
# What stands behind a number that counts something.
_NOT_A_COUNT = (
  r"(?! ?(?:төг|₮|\$|€|доллар|ам\.|юань|рубль|евро|хүн|тонн|га\b|сая|мянга|тэрбум"
  r"|хувь|[ксм]м\b|кг\b))"
)
# An account is named before its number; an IBAN is known by its form.
_ACCOUNT = re.compile(
  r"(?P<before>\b(?:данс\w{0,6}(?: дугаар\w{0,3})?|банк\w{0,4}|account|а/д)\W{1,3})"
  r"\d{8,16}(?!\d|[.,]\d)" + _NOT_A_COUNT,
  re.IGNORECASE,
)
_IBAN = re.compile(
  r"\b[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){3,7}(?: ?[A-Z\d]{1,3})?(?![A-Z\d])"
)
# A Mongolian phone number has eight digits, alone, in halves or in pairs, with or
# without the country code 976. A register number has two letters, the date of birth
# and two digits.
_COUNTRY = r"(?<![\d.,/-])(?:\(?\+?976\)?[ -]?)"
_NUMBER_ENDS = r"(?![\d%]|[.,/-]\d)" + _NOT_A_COUNT
_PERSONAL = {
  "[данс]": _IBAN,
  "[регистр]": re.compile(r"\b(?:[А-ЯӨҮЁ]{2} ?|[а-яөүё]{2})\d{8}\b"),
  "[утас]": re.compile(
    _COUNTRY
    + r"?[5-9]\d(?:\d\d[ -]?\d{4}|(?:-\d\d){3})"
    + _NUMBER_ENDS
    + "|"
    + _COUNTRY
    + r"[5-9]\d(?: \d\d){3}"
    + _NUMBER_ENDS
  ),
}
_PAGE = re.compile(
  r"(?:https?://|www\.)[^\s<>\"«»]*[^\s<>\"«»().,!?…:;]"
  r"|(?<![\w./-])(?:[\w-]++\.)+(?:mn|com|net|org|info)/[^\s<>\"«»]*[\w/]",
  re.IGNORECASE,
)
_DIGIT = re.compile(r"\d")
_NAME = re.compile(r"(?<![\w@.])@[A-Za-z_][\w.]*\w")


def scrub(text: str) -> str:
  """Returns a text with placeholders in place of personal data.

  Personal data are e-mail addresses, addresses of pages, @names, bank accounts,
  register numbers and phone numbers. A placeholder is a word in brackets:
  [имэйл], [холбоос], [нэр], [данс], [регистр], [утас].
  """
  if "/" in text or "www." in text:
    text = _PAGE.sub("[холбоос]", text)
  if "@" in text:
    text = _ADDRESS.sub(lambda x: "[имэйл]" if x["host"] else x[0], text)
    text = _NAME.sub("[нэр]", text)
  if not _DIGIT.search(text):
    return text  # all that follows has digits, and most sentences have none
  text = _ACCOUNT.sub(r"\g<before>[данс]", text)
  for placeholder, pattern in _PERSONAL.items():
    text = pattern.sub(placeholder, text)
  return text


def _personal(sentences: Sequence[str]) -> Sentences:
  """Yields (sentence without personal data, reason) for each sentence.

  The reason is "" for a sentence without personal data.
  """
  for sentence in sentences:
    scrubbed = scrub(sentence)
    changed = scrubbed != sentence
    yield scrubbed, "personal data scrubbed" if changed else ""


# Option → rule, in the order in which they apply.
_LINE_RULES: tuple[tuple[str, Callable[[Sequence[str]], Sentences]], ...] = (
  ("drop_lines_without_letters", _without_letters),
  ("drop_boilerplate", _boilerplate),
  ("drop_repeated_lines", _repeated),
  ("scrub_personal_data", _personal),
)


def _verdict(sentences: Sequence[str], settings: Options) -> Keep | Drop:
  """Returns a `Keep` with the sentences, or a `Drop` with the first reason.

  Args:
    sentences: the sentences that the rules for lines left.
    settings: the smallest sizes, and the language to keep.
  """
  text = " ".join(sentences)
  if not any(map(str.isalpha, text)):
    return Drop("no letters", text[:80])
  # Not all words are split off, since books have many.
  if len(text.split(maxsplit=settings.min_words)) < settings.min_words:
    return Drop("too few words", text[:80])
  if len(text) < settings.min_characters:
    return Drop("too few characters", text[:80])
  if len(sentences) < settings.min_sentences:
    return Drop("too few sentences", text[:80])
  if settings.language == "mn":
    detected = language.identify(text)
    if detected not in ("mn", "unknown"):
      return Drop(f"not Mongolian: {detected}", text[:80])
  return Keep(tuple(sentences))
