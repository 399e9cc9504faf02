"""Changes a text step by step, and keeps the origin of each character.

  traced = Traced.of("Тэр… Дорж").each(LetterByLetter(str.lower))
  traced = traced.sub(re.compile("…"), "...")
  traced.text  # "тэр... дорж"
  traced.stretches(["тэр", "...", " дорж"])  # ["Тэр", "…", " Дорж"]

Tokenizers and the cleaning of tweets change a text before they read it.
Positions and pages must still refer to the text that the user gave.
"""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Edit = tuple[int, int, str]
_Replacement = str | Callable[[re.Match[str]], str]


class Traced(NamedTuple):
  """A changed text, and the position of each character in the original.

  Attributes:
    original: the text before all changes.
    text: the text after all changes.
    starts: for each character of `text`, the index in `original` of the first
      character that it was made from; never descending.
  """

  original: str
  text: str
  starts: Sequence[int]

  @classmethod
  def of(cls, text: str) -> "Traced":
    """Returns a `Traced` for a text that is not changed yet."""
    return cls(text, text, range(len(text)))

  def each(self, function: "LetterByLetter") -> "Traced":
    """Returns the `Traced` after a function changes each character of `text`.

    A new character has the start of the character from which it was made.
    """
    text = function(self.text)
    if text == self.text:
      return self
    return Traced(self.original, text, function.starts(self, text))

  def sub(
    self, pattern: re.Pattern[str], replacement: _Replacement
  ) -> "Traced":
    """Returns the `Traced` after each match of a pattern is replaced.

    Args:
      pattern: the pattern; matches do not overlap.
      replacement: a text or a function of the match, as in `re.sub`.
    """
    matches = pattern.finditer(self.text)
    if callable(replacement):
      return self.edited((*m.span(), replacement(m)) for m in matches)
    return self.edited((*m.span(), m.expand(replacement)) for m in matches)

  def edited(self, edits: Iterable[Edit]) -> "Traced":
    """Returns the `Traced` after parts of `text` are replaced.

    Characters with which both a part and its replacement begin or end keep
    their starts. The starts of all other characters of a replacement are spread
    evenly over the rest of the part.

    Args:
      edits: (start, exclusive end, replacement) of each part as indices of
        `text`, in ascending order and without overlap.
    """
    parts: list[str] = []
    starts: list[int] = []
    end = 0
    for begin, after, new in edits:
      if self.text[begin:after] == new:
        continue
      parts += [self.text[end:begin], new]
      starts += self.starts[end:begin]
      starts += self._starts_of(begin, after, new)
      end = after
    if not parts:
      return self
    parts.append(self.text[end:])
    starts += self.starts[end:]
    return Traced(self.original, "".join(parts), starts)

  def _starts_of(self, begin: int, end: int, new: str) -> list[int]:
    """Returns the start in the original of each character of a replacement.

    Args:
      begin, end: the start and the exclusive end of the part that is replaced.
      new: the replacement.
    """
    old = self.text[begin:end]
    shorter = min(len(old), len(new))
    head = _shared(old, new, shorter)
    tail = _shared(old[::-1], new[::-1], shorter - head)
    old_size, new_size = (len(side) - head - tail for side in (old, new))
    places = [
      *range(head),
      *(head + i * old_size // new_size for i in range(new_size)),
      *range(len(old) - tail, len(old)),
    ]
    starts = [*self.starts[begin : end + 1], len(self.original)]
    return [starts[place] for place in places]

  def stretches(self, parts: Sequence[str]) -> list[str]:
    """Returns the part of the original from which each part of `text` was made.

    The results make up the whole original. Characters that were removed belong
    to the part before them, or to the first part. A character from which
    several parts were made belongs to the last of them; the results of the
    earlier parts are empty.

    Args:
      parts: strings whose concatenation is `text`.

    Returns:
      the parts of the original, as many as `parts`.
    """
    if self.text is self.original:
      return list(parts)
    return self.cut([*itertools.accumulate(map(len, parts))])

  def cut(self, ends: Sequence[int]) -> list[str]:
    """Returns the results of `stretches`, for parts given by their ends.

    Args:
      ends: the end of each part, as an index in `text`; the last part ends with
        the text.
    """
    original, starts = self.original, self.starts
    cuts = [0, *(starts[end] for end in ends[:-1] if end < len(starts))]
    cuts += [len(original)] * (len(ends) + 1 - len(cuts))
    pairs = itertools.pairwise(cuts) if ends else ()
    return [original[begin:end] for begin, end in pairs]


def _shared(left: str, right: str, most: int) -> int:
  """Returns the length of the common prefix of two texts, at most `most`."""
  pairs = zip(left[:most], right[:most], strict=True)
  return next((i for i, (a, b) in enumerate(pairs) if a != b), most)


class LetterByLetter:
  """A function of texts that changes each character by itself.

  In two cases the result for a character may depend on its neighbours: whether
  Σ becomes σ or ς, and the order of combining marks.

  Args:
    function: maps a text to a text, such as `str.lower`.
  """

  def __init__(self, function: Callable[[str], str]) -> None:
    self._function = function
    self._alone = _Alone(function)

  def __call__(self, text: str) -> str:
    return self._function(text)

  def starts(self, before: Traced, after: str) -> Sequence[int]:
    """Returns the start in the original of each character of `after`.

    Args:
      before: the text to which the function was applied.
      after: the result of the function.
    """
    alone = [self._alone[letter] for letter in before.text]
    starts = before.starts
    if {*map(len, alone)} != {1}:
      pairs = zip(starts, alone, strict=True)
      starts = [start for start, result in pairs for _ in result]
    one_by_one = "".join(alone)
    assert len(one_by_one) == len(after), (
      "the function changes single characters"
    )
    if one_by_one == after:
      return starts
    return _with_exchanges(starts, one_by_one, after)


class _Alone(dict[str, str]):
  """A cache of a function of texts: character → function(character).

  Entries are made when they are needed.
  """

  def __init__(self, function: Callable[[str], str]) -> None:
    super().__init__()
    self._function = function

  def __missing__(self, letter: str) -> str:
    result = self[letter] = self._function(letter)
    return result


def _with_exchanges(
  starts: Sequence[int], one_by_one: str, after: str
) -> Sequence[int]:
  """Returns the start in the original of each character of `after`.

  A function that changes single characters may then reorder combining marks.
  Neighbouring characters of `after` that all differ from `one_by_one` were
  reordered; each gets the start of the first of them.

  Args:
    starts: the start of each character of `one_by_one`.
    one_by_one: the function's results for the single characters, concatenated.
    after: the function's result for the whole text, as long as `one_by_one`. A
      character that differs alone, without an exchange, is ς.
  """
  shared = list(starts)
  differs = [
    alone != together for alone, together in zip(one_by_one, after, strict=True)
  ]
  for place in range(1, len(shared)):
    if differs[place - 1] and differs[place]:
      shared[place] = shared[place - 1]
  return shared


def is_invisible(letter: str) -> bool:
  """Returns whether a character is white space, or Unicode's Cc or Cf.

  These are the categories of control and format characters.
  """
  return letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf")


def trimmed(
  text: str,
  start: int,
  end: int,
  is_blank: Callable[[str], bool] = is_invisible,
) -> tuple[int, int]:
  """Returns start and end of a part of a text without blanks at its ends.

  Combining marks stay with the letter that they belong to. For a part with only
  blank characters, start and end are both the end of the part.

  Args:
    text: the whole text.
    start, end: the start and the exclusive end of the part.
    is_blank: returns whether a character is blank.
  """
  while start < end and is_blank(text[start]):
    start += 1
  last = end
  while start < last and is_blank(text[last - 1]):
    last -= 1
  while start < last < end and unicodedata.category(text[last])[0] == "M":
    last += 1
  return start, last
