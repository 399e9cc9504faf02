"""Counts the substrings of words that SentencePiece's training begins with.

A unigram model begins with many pieces, the seeds, and drops the least useful ones
step by step. SentencePiece takes the seeds from a suffix array of all text. All
seeds lie inside words, so that the distinct words and their counts hold the same
seeds, in memory that does not grow with the text:

    words = [Word("▁хаан", inside=7, last=2), Word("▁хааны", inside=3, last=0)]
    list(seeds(words, coverage=1.0))  # [("▁хаан", 12), ("хаан", 12), …]
"""

import array
import dataclasses
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

# SentencePiece's defaults: seed_sentencepiece_size and max_sentencepiece_length.
MOST_SEEDS, _LONGEST = 1_000_000, 16
# SentencePiece leaves out pieces of several scripts (2019оны), which are counted
# here. With so many candidates it has as many seeds as it takes.
_MOST_CANDIDATES = 2 * MOST_SEEDS

_PART = 1 << 18  # characters of a row at a time

# What stands behind a word: another word, or the end of the sentence.
_SPACE, _END = " ", "\0"
# Stands for a symbol of the user or a special piece, in a word.
SYMBOL = "\x1f"
_RARE = "▅"  # SentencePiece puts it for letters outside of the vocabulary
_SPACE_BYTE = "▁".encode()[0]  # SentencePiece has this in the place of a space


class Word(NamedTuple):
  """A word and how often it occurs.

  Attributes:
    text: the normalised word behind "▁".
    inside: how often another word of its sentence follows.
    last: how often it is the last word of its sentence.
  """

  text: str
  inside: int
  last: int


@dataclasses.dataclass(frozen=True)
class _Text:
  """The distinct words as one long text, which is searched for seeds.

  Each word is followed by a space, or by the sentence's end.

  Attributes:
    text: the characters.
    symbols: int32 [characters], the number of each character in the alphabet.
    words: int32 [characters], the number of each character's word.
    counts: int64 [words], how often each word occurs.
    inner: bool [alphabet], whether a character may stand inside a piece.
    first_bytes: uint8 [alphabet], the first byte of each character in UTF-8.
  """

  text: str
  symbols: np.ndarray
  words: np.ndarray
  counts: np.ndarray
  inner: np.ndarray
  first_bytes: np.ndarray


def seeds(words: Iterable[Word], coverage: float) -> Iterator[tuple[str, int]]:
  """Yields (seed, count): at most 2,000,000, by falling length times count.

  Seeds are the pieces with which the training of a unigram model begins. A seed
  is a substring of 2 to 16 characters that is followed by characters whose
  UTF-8 forms begin with different bytes, as in SentencePiece 0.2.3. So `хаа` is
  left out if `н` or another letter of the same first byte always follows.

  Args:
    words: the distinct words.
    coverage: share of the characters that become pieces; a substring with a rarer
      character is no seed.
  """
  text = _text(sorted(words), coverage)
  parts = [
    _nodes(text, np.flatnonzero(text.symbols == symbol))
    for symbol in np.flatnonzero(text.inner)
  ]
  if not parts:
    return
  starts, lengths, counts = map(np.concatenate, zip(*parts, strict=True))
  order = np.lexsort((starts, -lengths, -counts * lengths))[:_MOST_CANDIDATES]
  for start, length, count in zip(
    starts[order].tolist(),
    lengths[order].tolist(),
    counts[order].tolist(),
    strict=True,
  ):
    yield text.text[start : start + length], count


def _text(distinct: Sequence[Word], coverage: float) -> _Text:
  """Returns all words as one long text, each followed by a space or the end.

  A word that stands both inside and at the end of sentences in the corpus is
  included twice: followed by a space, and by the character _END.

  Args:
    distinct: the words.
    coverage: share of the characters that become pieces.
  """
  row = io.StringIO()
  sizes, times = array.array("i"), array.array("q")
  for word in distinct:
    for behind, count in ((_SPACE, word.inside), (_END, word.last)):
      if count:
        row.write(word.text + behind)
        sizes.append(len(word.text) + 1)
        times.append(count)
  text = row.getvalue()
  del row
  counts = np.array(times, np.int64)
  words = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
  totals, symbols, letters = _counted(text, words, counts)
  behind_words = np.array([x in (_SPACE, _END) for x in letters], bool)
  totals[behind_words] = 0
  inner = _covered(totals, coverage) & ~behind_words
  inner &= np.array([letter != SYMBOL for letter in letters], bool)
  first_bytes = [_first_byte(*x) for x in zip(letters, inner, strict=True)]
  return _Text(text, symbols, words, counts, inner, np.array(first_bytes))


def _counted(
  text: str, words: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
  """Counts the characters of all words, and numbers the distinct characters.

  The function reads a part of the text at a time, to save memory.

  Args:
    text: all words as one long text.
    words: int32 [characters], the number of each character's word.
    counts: int64 [words], how often each word occurs.

  Returns:
    float64 [alphabet], how often each character occurs; int32 [characters], the
    number of each character in the alphabet; the alphabet.
  """
  letters = sorted(set(text))
  numbers = np.zeros(sys.maxunicode + 1, np.int32)
  numbers[np.array(list(map(ord, letters)), np.int64)] = np.arange(len(letters))
  totals = np.zeros(len(letters))
  symbols = np.zeros(len(text), np.int32)
  for start in range(0, len(text), _PART):
    part = slice(start, start + _PART)
    codes = np.frombuffer(text[part].encode("utf-32-le"), np.uint32)
    symbols[part] = numbers[codes]
    totals += np.bincount(symbols[part], counts[words[part]], len(letters))
  return totals, symbols, letters


def _covered(totals: np.ndarray, coverage: float) -> np.ndarray:
  """Returns bool [alphabet]: which characters become pieces in SentencePiece.

  The characters are taken by their counts until the share of the text that they
  make up is at least `coverage`.

  Args:
    totals: float64 [alphabet], how often each character occurs.
    coverage: least share of the text.
  """
  order = np.argsort(-totals, kind="stable")
  before = np.cumsum(totals[order]) - totals[order]
  share = (before / max(totals.sum(), 1.0)).astype(np.float32)
  covered = np.zeros(len(totals), bool)
  covered[order[share < np.float32(coverage)]] = True
  return covered & (totals > 0)


def _first_byte(letter: str, inner: bool) -> int:
  """Returns the first byte of a character in UTF-8, as SentencePiece has it.

  A space counts as "▁". A character that may not stand inside a piece counts as
  SentencePiece's placeholder for rare letters, unless it is _END or SYMBOL.

  Args:
    letter: the character.
    inner: whether the character may stand inside a piece.
  """
  if letter == _SPACE:
    return _SPACE_BYTE
  as_text = inner or letter in (_END, SYMBOL)
  return (letter if as_text else _RARE).encode("utf-8", "surrogatepass")[0]


def _nodes(
  text: _Text, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the seeds that begin with one given character.

  Substrings are lengthened by a character at a time. A substring that occurs
  once in the text is dropped, since a single character follows it.

  Args:
    text: all words as one long text.
    starts: int64, all positions of the character in the text.

  Returns:
    three int64 [seeds]: the position, the length and the count of every seed.
  """
  parts: list[tuple[np.ndarray, ...]] = [(np.zeros(0, np.int64),) * 3]
  groups = np.zeros_like(starts)  # the places with the same substring
  for length in range(1, _LONGEST + 1):
    following = text.symbols[starts + length]
    keys = groups * len(text.inner) + following
    order = np.argsort(keys, kind="stable")
    keys, starts = keys[order], starts[order]
    groups, following = groups[order], following[order]
    begins = _begins(groups)
    if length > 1:
      first_bytes = text.first_bytes[following]
      least = np.minimum.reduceat(first_bytes, begins)
      branch = least < np.maximum.reduceat(first_bytes, begins)
      weights = text.counts[text.words[starts]]
      counts = np.add.reduceat(weights, begins)[branch]
      places = starts[begins][branch]
      parts.append((places, np.full_like(places, length), counts))
    runs = _begins(keys)
    sizes = np.diff(runs, append=len(keys))
    kept = np.repeat(sizes > 1, sizes) & text.inner[following]
    if not kept.any():
      break
    groups = np.repeat(np.arange(len(runs)), sizes)[kept]
    starts = starts[kept]
  places, lengths, counts = map(np.concatenate, zip(*parts, strict=True))
  return places, lengths, counts


def _begins(values: np.ndarray) -> np.ndarray:
  """Returns the indices at which runs of equal values begin.

  Args:
    values: at least one value.
  """
  return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
