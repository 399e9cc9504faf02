"""Counts the text that a corpus read, kept and lost, with reasons for losses.

stats.json holds `Stats.content`:

    {"documents": 7, "documents read": 9, "dropped: too few words": 2,
     "lines: boilerplate": 3, "sentences": 41, "sentences read": 46, …
     "document_sentences": {"1": 1, "2": 0, "3": 0, "4-5": 2, "6-7": 4},
     "sentence_words": {"4-5": 9, "6-7": 14, "8-11": 18},
     "letters": {"а": 120, "н": 77, …},
     "examples": {"boilerplate": ["Сэтгэгдэл бичих"], …},
     "files": {"news.txt": {"documents": 7, …}}}

"dropped" counts documents. "lines" counts sentences that were dropped or
changed. "templates" counts, by the template's name, the sentences of a wiki
that were dropped because the output of a template in them is unknown.
"""

import bisect
import collections
import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

MEASURES = ("documents", "sentences", "words")
DROPPED, LINES = "dropped: ", "lines: "


class Stats:
  """Counts of the text that was read, kept and lost: sums, and file by file.

  Args:
    shown: function from a text to the part that may be shown as an example,
      such as `cleaning.scrub`.

  Attributes:
    totals: name → count: documents, sentences and words that were read and that
      were kept; for each reason, the dropped documents and the lost sentences.
    files: name of a file → the same counts for this file.
    examples: reason → the first few texts that were lost for it.
  """

  _EXAMPLES = 3

  def __init__(self, shown: Callable[[str], str] = str) -> None:
    self.totals: collections.Counter[str] = collections.Counter()
    self.files: dict[str, collections.Counter[str]] = {}
    self.examples: dict[str, list[str]] = {}
    self._shown = shown
    self._templates: dict[str, list[Any]] = {}  # key → spelling, sentences
    self._document_sentences = _Lengths()
    self._sentence_words = _Lengths()
    self._letters = _Letters()

  def read(self, file: str, *numbers: int) -> None:
    """Counts text that was read, before any rule has dropped a part of it.

    Args:
      file: the name of the file.
      *numbers: the number of documents, of sentences and of words (MEASURES).
    """
    for measure, number in zip(MEASURES, numbers, strict=True):
      self._count(file, f"{measure} read", number)

  def keep(self, file: str, documents: Sequence[Sequence[str]]) -> None:
    """Counts documents that were kept, with their sentences and words.

    Args:
      file: the name of their file.
      documents: the normalised sentences of each document.
    """
    sentences = list(itertools.chain.from_iterable(documents))
    words = list(map(count_words, sentences))
    self._count(file, "documents", len(documents))
    self._count(file, "sentences", len(sentences))
    self._count(file, "words", sum(words))
    self._document_sentences.add(map(len, documents))
    self._sentence_words.add(words)
    self._letters.add("".join(sentences))

  def drop(self, file: str, reason: str, example: str) -> None:
    """Counts one dropped document.

    Args:
      file: the name of the document's file.
      reason: why the document was dropped.
      example: the first sentence or the name of the document, which the report
        may show.
    """
    self._count(file, DROPPED + reason)
    self._remember(reason, [example])

  def lose(self, file: str, reason: str, lines: Sequence[str]) -> None:
    """Counts sentences that a rule dropped or changed.

    Args:
      file: the name of the file that the sentences are from.
      reason: the name of the rule, such as "boilerplate".
      lines: the sentences before the rule changed them.
    """
    self._count(file, LINES + reason, len(lines))
    self._remember(reason, lines)

  def miss(self, templates: Iterable[str]) -> None:
    """Counts sentences that were dropped because of an unknown wiki template.

    Names that differ in the case of the first letter are one template, as in
    MediaWiki; `content` shows the spelling that came first.

    Args:
      templates: the name of the template for each sentence.
    """
    for name in templates:
      entry = self._templates.setdefault(name[:1].upper() + name[1:], [name, 0])
      entry[1] += 1

  def add(self, later: "Stats") -> None:
    """Adds the counts of `later`, as if its text had been counted here.

    Args:
      later: the counts of text that follows the text counted here.
    """
    self.totals.update(later.totals)
    for file, counts in later.files.items():
      self.files.setdefault(file, collections.Counter()).update(counts)
    for reason, texts in later.examples.items():
      kept = self.examples.setdefault(reason, [])
      kept += texts[: self._EXAMPLES - len(kept)]
    for key, (spelling, sentences) in later._templates.items():
      self._templates.setdefault(key, [spelling, 0])[1] += sentences
    self._document_sentences.merge(later._document_sentences)
    self._sentence_words.merge(later._sentence_words)
    self._letters.merge(later._letters)

  def _count(self, file: str, what: str, number: int = 1) -> None:
    """Adds `number` to a count in `totals` and in the counts of a file.

    Args:
      file: the name of the file.
      what: the name of the count, such as "documents read".
      number: the number to add; 0 makes no entry.
    """
    if number:
      self.totals[what] += number
      self.files.setdefault(file, collections.Counter())[what] += number

  def _remember(self, reason: str, texts: Sequence[str]) -> None:
    """Keeps texts as examples of a reason: the first three, without empty ones.

    Of each text, the first 80 letters of shown(text) are kept.

    Args:
      reason: why the texts were dropped or changed.
      texts: the texts.
    """
    kept = self.examples.setdefault(reason, [])
    left = self._EXAMPLES - len(kept)
    shown = itertools.islice(filter(None, texts), left)
    kept += [self._shown(text)[:80] for text in shown]

  def content(self) -> dict[str, Any]:
    """Returns the content of stats.json."""
    return {
      **dict(sorted(self.totals.items())),
      "document_sentences": self._document_sentences.histogram(),
      "sentence_words": self._sentence_words.histogram(),
      "letters": self._letters.counts(),
      **({"templates": self._missed()} if self._templates else {}),
      "examples": dict(sorted(self.examples.items())),
      "files": {
        name: dict(sorted(counts.items()))
        for name, counts in self.files.items()
      },
    }

  def _missed(self) -> dict[str, int]:
    """Returns unknown template → number of sentences dropped because of it.

    The largest number comes first.
    """
    entries = sorted(self._templates.values(), key=lambda x: (-x[1], x[0]))
    return dict(entries)

  def losses(self) -> str:
    """Returns all losses in one line, such as "2 too few words, 3 boilerplate".

    Each number is a count of documents that were dropped for a reason, or,
    further on, of sentences that were dropped or changed for a reason. Without
    losses the result is "no text".
    """
    reasons = [
      f"{count} {name.removeprefix(kind)}"
      for kind in (DROPPED, LINES)
      for name, count in sorted(self.totals.items())
      if name.startswith(kind)
    ]
    return ", ".join(reasons) or "no text"


def to_json(content: dict[str, Any]) -> str:
  """Returns the JSON text of stats.json."""
  return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def count_words(text: str) -> int:
  """Returns the number of words of a normalised text.

  In such a text a single space separates words. Counting the spaces is about
  ten times faster than splitting the text.
  """
  return text.count(" ") + bool(text)


class _Lengths:
  """A histogram of lengths with growing bins: 1, 2, 3, 4-5, 6-7, 8-11, …."""

  _STARTS = sorted(start << bits for start in (2, 3) for bits in range(40))
  _STARTS.insert(0, 1)

  def __init__(self) -> None:
    self._counts: collections.Counter[int] = collections.Counter()

  def add(self, lengths: Iterable[int]) -> None:
    self._counts.update(
      map(functools.partial(bisect.bisect_right, self._STARTS), lengths)
    )

  def merge(self, added: "_Lengths") -> None:
    self._counts.update(added._counts)

  def histogram(self) -> dict[str, int]:
    """Returns name of a bin → number of lengths in it, in ascending order.

    All bins from that of the shortest to that of the longest length are
    included, some with 0. Without any length the result is {}.
    """
    most = max(self._counts, default=-1)
    steps = range(min(self._counts, default=0), most + 1)
    return {self._name(step): self._counts[step] for step in steps}

  def _name(self, step: int) -> str:
    """Returns the name of the bin with index `step`, such as "4-5"."""
    first, last = self._STARTS[step - 1], self._STARTS[step] - 1
    return f"{first}-{last}" if first < last else f"{first}"


class _Letters:
  """Counts how often each character occurs in texts.

  `add` counts the characters of a text; `counts` returns the counts of letters.
  """

  _SLICE = 1 << 20  # characters at a time; numpy needs 12 bytes for each

  def __init__(self) -> None:
    self._characters = np.zeros(sys.maxunicode + 1, np.int64)

  def add(self, text: str) -> None:
    for start in range(0, len(text), self._SLICE):
      part = text[start : start + self._SLICE].encode("utf-32-le")
      counts = np.bincount(np.frombuffer(part, np.uint32))
      self._characters[: len(counts)] += counts

  def merge(self, added: "_Letters") -> None:
    self._characters += added._characters

  def __getstate__(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns (codes of the characters that occur, their counts), for pickle.

    The whole array, with the characters that do not occur, has 9 MB.
    """
    codes = np.flatnonzero(self._characters)
    return codes, self._characters[codes]

  def __setstate__(self, state: tuple[np.ndarray, np.ndarray]) -> None:
    self.__init__()  # type: ignore[misc]
    self._characters[state[0]] = state[1]

  def counts(self) -> dict[str, int]:
    """Returns lower-case letter → count of both cases, largest count first.

    Characters that are no letters are left out.
    """
    by_letter: collections.Counter[str] = collections.Counter()
    for code in np.flatnonzero(self._characters).tolist():
      letter = chr(code)
      if letter.isalpha():
        lower = letter.lower()  # of İ, two characters
        by_letter[lower if len(lower) == 1 else letter] += int(
          self._characters[code]
        )
    return dict(sorted(by_letter.items(), key=lambda item: (-item[1], item[0])))
