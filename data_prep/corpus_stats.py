"""What was read for a corpus, what was kept of it, and what was lost to what.

stats.json holds `Stats.content`:

    {"documents": 7, "documents read": 9, "dropped: too few words": 2,
     "lines: boilerplate": 3, "sentences": 41, "sentences read": 46, …
     "document_sentences": {"1": 1, "2": 0, "3": 0, "4-5": 2, "6-7": 4},
     "sentence_words": {"4-5": 9, "6-7": 14, "8-11": 18},
     "letters": {"а": 120, "н": 77, …},
     "examples": {"boilerplate": ["Сэтгэгдэл бичих"], …},
     "files": {"news.txt": {"documents": 7, …}}}

"dropped" counts documents, and "lines" sentences that went or changed. Where
sentences of a wiki were dropped because it is not known what a template in them
shows, "templates" counts these sentences by the template's name.
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
  """What was read, kept and lost, in all and by file.

  Args:
    shown: what of a text may stand among the examples.

  Attributes:
    totals: documents, sentences and words, read and kept; documents dropped
      and lines lost by reason.
    files: the same by the name of the file.
    examples: reason → the first few of what was lost for it.
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
    """Counts documents, sentences and words before any rule."""
    for measure, number in zip(MEASURES, numbers, strict=True):
      self._count(file, f"{measure} read", number)

  def keep(self, file: str, documents: Sequence[Sequence[str]]) -> None:
    """Counts documents that are kept, each its normalised sentences."""
    sentences = list(itertools.chain.from_iterable(documents))
    words = list(map(count_words, sentences))
    self._count(file, "documents", len(documents))
    self._count(file, "sentences", len(sentences))
    self._count(file, "words", sum(words))
    self._document_sentences.add(map(len, documents))
    self._sentence_words.add(words)
    self._letters.add("".join(sentences))

  def drop(self, file: str, reason: str, example: str) -> None:
    """Counts a document that was dropped."""
    self._count(file, DROPPED + reason)
    self._remember(reason, [example])

  def lose(self, file: str, reason: str, lines: Sequence[str]) -> None:
    """Counts sentences that a rule took or changed."""
    self._count(file, LINES + reason, len(lines))
    self._remember(reason, lines)

  def miss(self, templates: Iterable[str]) -> None:
    """Counts templates for which a sentence was dropped, by their names.

    The case of the first letter does not matter, as in MediaWiki; the first
    spelling is shown.
    """
    for name in templates:
      entry = self._templates.setdefault(name[:1].upper() + name[1:], [name, 0])
      entry[1] += 1

  def _count(self, file: str, what: str, number: int = 1) -> None:
    if number:
      self.totals[what] += number
      self.files.setdefault(file, collections.Counter())[what] += number

  def _remember(self, reason: str, texts: Sequence[str]) -> None:
    kept = self.examples.setdefault(reason, [])
    kept += [
      self._shown(text)[:80]
      for text in texts[: self._EXAMPLES - len(kept)]
      if text
    ]

  def content(self) -> dict[str, Any]:
    """Returns what stats.json holds."""
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
    """Returns template → sentences, those of the most sentences first."""
    entries = sorted(self._templates.values(), key=lambda x: (-x[1], x[0]))
    return dict(entries)

  def losses(self) -> str:
    """Says in a line what documents and lines were lost to."""
    reasons = [
      f"{count} {name.removeprefix(kind)}"
      for kind in (DROPPED, LINES)
      for name, count in sorted(self.totals.items())
      if name.startswith(kind)
    ]
    return ", ".join(reasons) or "no text"


def to_json(content: dict[str, Any]) -> str:
  """Returns the content of the file."""
  return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def count_words(text: str) -> int:
  """Counts the words of a normalised text, which one space parts.

  Some ten times faster than to split it, and all text is counted.
  """
  return text.count(" ") + bool(text)


class _Lengths:
  """A histogram whose steps grow with the length: 1, 2, 3, 4-5, 6-7, 8-11 …"""

  _STARTS = sorted(start << bits for start in (2, 3) for bits in range(40))
  _STARTS.insert(0, 1)

  def __init__(self) -> None:
    self._counts: collections.Counter[int] = collections.Counter()

  def add(self, lengths: Iterable[int]) -> None:
    self._counts.update(
      map(functools.partial(bisect.bisect_right, self._STARTS), lengths)
    )

  def histogram(self) -> dict[str, int]:
    """Returns the steps from the shortest to the longest, empty ones too."""
    most = max(self._counts, default=-1)
    steps = range(min(self._counts, default=0), most + 1)
    return {self._name(step): self._counts[step] for step in steps}

  def _name(self, step: int) -> str:
    first, last = self._STARTS[step - 1], self._STARTS[step] - 1
    return f"{first}-{last}" if first < last else f"{first}"


class _Letters:
  """How often each letter stands in the text that was added."""

  _SLICE = 1 << 20  # characters at a time; numpy needs 12 bytes for each

  def __init__(self) -> None:
    self._characters = np.zeros(sys.maxunicode + 1, np.int64)

  def add(self, text: str) -> None:
    for start in range(0, len(text), self._SLICE):
      part = text[start : start + self._SLICE].encode("utf-32-le")
      counts = np.bincount(np.frombuffer(part, np.uint32))
      self._characters[: len(counts)] += counts

  def counts(self) -> dict[str, int]:
    """Returns letter → how often, in either case, the most frequent first."""
    by_letter: collections.Counter[str] = collections.Counter()
    for code in np.flatnonzero(self._characters).tolist():
      letter = chr(code)
      if letter.isalpha():
        lower = letter.lower()  # of İ, two characters
        by_letter[lower if len(lower) == 1 else letter] += int(
          self._characters[code]
        )
    return dict(sorted(by_letter.items(), key=lambda item: (-item[1], item[0])))
