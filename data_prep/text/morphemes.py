r"""Compares segmentations of words with a gold segmentation into morphemes.

A line of the gold file is a text, a tab and its morphemes, as in the sentence
task of SIGMORPHON 2022 (Batsuren et al., "The SIGMORPHON 2022 Shared Task on
Morpheme Segmentation"); "@@" begins a morpheme that continues a word:

    Сүүлийн жил байна\tСүүл @@ийн жил байх @@на

Morphemes are written as in a dictionary (байх, not бай). So they are first
aligned with the letters of their word: бай|на.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_prep.base import options
from data_prep.files import storage
from data_prep.text import normalization

Parts = tuple[str, ...]

_GOES_ON = "@@"
_LONGEST = 200  # letters of a word; the alignment takes the square of them


@dataclasses.dataclass(frozen=True)
class Gold:
  """The words of a gold file, split into parts such as ("бай", "на").

  Attributes:
    words: parts of a word → how often the word occurs.
    left_out: number of words whose morphemes could not be aligned with their
      letters.
  """

  words: collections.Counter[Parts]
  left_out: int


def read(path: str) -> Gold:
  """Returns the words of a gold file, normalised, with their case.

  Words without a letter and blank lines are ignored.

  Raises:
    options.InputError: for a line that is not a text, a tab and morphemes, and
      for a file in which no word could be aligned with its morphemes.
  """
  words: collections.Counter[Parts] = collections.Counter()
  left_out = 0
  for number, line in enumerate(storage.lines(path), start=1):
    if not line.strip():
      continue
    columns = line.rstrip("\r\n").split("\t")
    if len(columns) < 2:
      raise options.InputError(
        f"a text, a tab and its morphemes at {path}:{number}",
        line.strip()[:60],
        "give a segmentation in SIGMORPHON 2022's format",
      )
    text, morphemes = map(normalization.normalize, columns[:2])
    for word, segmented in _aligned(text.split(), _grouped(morphemes.split())):
      if parts := laid_on(word, segmented):
        words[parts] += 1
      else:
        left_out += 1
  if not words:
    raise options.InputError(
      f"words with their morphemes in {path}",
      f"none, {left_out} left out",
      "give a segmentation in SIGMORPHON 2022's format",
    )
  return Gold(words, left_out)


def _aligned(
  words: Sequence[str], segmented: Sequence[Sequence[str]]
) -> Iterator[tuple[str, Sequence[str]]]:
  """Yields (word, its morphemes) for each word with a letter.

  Args:
    words: the words of a text.
    segmented: the morphemes of each word. If there are not as many groups as
      words, the morphemes of every word are ().
  """
  if len(words) != len(segmented):
    segmented = [()] * len(words)
  for word, morphemes in zip(words, segmented, strict=True):
    if any(letter.isalpha() for letter in word):
      yield word, morphemes


def _grouped(morphemes: Sequence[str]) -> list[list[str]]:
  """Groups morphemes by word: Сүүл @@ийн жил → [[Сүүл, ийн], [жил]]."""
  words: list[list[str]] = []
  for morpheme in morphemes:
    if words and morpheme.startswith(_GOES_ON):
      words[-1].append(morpheme.removeprefix(_GOES_ON))
    else:
      words.append([morpheme])
  return words


def laid_on(word: str, morphemes: Sequence[str]) -> Parts | None:
  """Returns a word, as it is written, divided into its morphemes.

  `байна` with the morphemes байх and на gives бай and на. The letters of word
  and morphemes are aligned with the fewest changes (Levenshtein 1966). Among
  alignments with equally few changes, each boundary is as far left as possible,
  so that suffixes stay whole: усан, of ус and н, is ус|ан. A morpheme without a
  letter in the word gives no part.

  Returns:
    the parts; None if half of the letters or more belong to no morpheme, which
      in SIGMORPHON's file is an error, and for a word or morphemes of more than
      200 letters.
  """
  canonical = "".join(morphemes)
  if max(len(canonical), len(word)) > _LONGEST:
    return None
  places, kept = _matched(canonical, word)
  if 2 * kept <= len(word):
    return None
  meetings = itertools.accumulate(map(len, morphemes[:-1]))
  cuts = sorted({0, len(word), *(places[i] for i in meetings)})
  return tuple(word[a:b] for a, b in itertools.pairwise(cuts))


def _matched(canonical: str, word: str) -> tuple[list[int], int]:
  """Aligns two spellings of a word with the fewest changes.

  Args:
    canonical: the concatenated morphemes, as in a dictionary.
    word: the word, as it is written.

  Returns:
    (places, matches): for each boundary in `canonical`, from 0 to its length,
      the leftmost boundary in `word`; and the number of letters of `canonical`
      that the word keeps.
  """
  changes = _changes(canonical, word)
  places = [0] * (len(canonical) + 1)
  i, j, kept = len(canonical), len(word), 0
  while i or j:
    same = bool(i and j) and canonical[i - 1] == word[j - 1]
    if j and changes[i][j] == changes[i][j - 1] + 1:
      j -= 1
    elif i and j and changes[i][j] == changes[i - 1][j - 1] + (not same):
      i, j, kept = i - 1, j - 1, kept + same
    else:
      i -= 1
    places[i] = j
  return places, kept


def _changes(canonical: str, word: str) -> list[list[int]]:
  """Returns the table of edit distances between the beginnings of two texts.

  Entry [i][j] is the distance between the first i letters of `canonical` and
  the first j letters of `word`.
  """
  rows = [list(range(len(word) + 1))]
  for letter in canonical:
    above, row = rows[-1], [len(rows)]
    for j, word_letter in enumerate(word):
      row.append(
        min(row[j] + 1, above[j + 1] + 1, above[j] + (letter != word_letter))
      )
    rows.append(row)
  return rows


def agreement(gold: Gold, segmented: Sequence[Sequence[str]]) -> dict[str, Any]:
  """Returns scores of the boundaries inside words against the gold boundaries.

  Each occurrence of a word counts.

  Args:
    gold: the words.
    segmented: the parts of each word in the segmentation to judge, in the order
      of `gold.words`.

  Returns:
    name → value. words and left_out are numbers of words. precision, recall,
      f1, and exact_share (the share of words with exactly the gold boundaries)
      are from 0 to 1, rounded to four digits; 0 where the divisor would be 0.
      at_random is a dict of the expected precision, recall, f1 and exact_share
      of as many boundaries at random places in each word.

  Raises:
    ValueError: when the numbers of words differ.
  """
  tally: collections.Counter[str] = collections.Counter()
  chance: dict[str, float] = dict(right=0.0, exact=0.0)
  for (parts, count), segments in zip(
    gold.words.items(), segmented, strict=True
  ):
    wanted, predicted = _boundaries(parts), _boundaries(segments)
    tally["words"] += count
    tally["wanted"] += count * len(wanted)
    tally["found"] += count * len(predicted)
    tally["right"] += count * len(wanted & predicted)
    tally["exact"] += count * (wanted == predicted)
    places = sum(map(len, parts)) - 1
    chance["right"] += count * len(wanted) * len(predicted) / max(places, 1)
    if len(wanted) == len(predicted):
      chance["exact"] += count / math.comb(places, len(predicted))
  return {
    "words": tally["words"],
    "left_out": gold.left_out,
    **_scores(tally, tally),
    "at_random": _scores(tally, chance),
  }


def _boundaries(parts: Sequence[str]) -> set[int]:
  """Returns the boundaries inside a word, counted in letters from its start."""
  places = set(itertools.accumulate(map(len, parts)))
  return places - {0, max(places)}


def _scores(
  tally: Mapping[str, int], hits: Mapping[str, float]
) -> dict[str, float]:
  """Returns precision, recall, f1 and exact_share, rounded to four digits.

  Args:
    tally: words, and the boundaries in the gold file (wanted) and in the
      segmentation (found).
    hits: how many boundaries are in both (right), and how many words have all
      boundaries right (exact); or the expected numbers.
  """
  predicted, wanted, right = tally["found"], tally["wanted"], hits["right"]
  return {
    "precision": round(right / max(predicted, 1), 4),
    "recall": round(right / max(wanted, 1), 4),
    "f1": round(2 * right / max(predicted + wanted, 1), 4),
    "exact_share": round(hits["exact"] / max(tally["words"], 1), 4),
  }
