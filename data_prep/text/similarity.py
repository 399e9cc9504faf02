"""Measures the similarity of texts: the share of their common runs of words.

  texts = sketches(["сайн байна уу", "сайн байна даа"], Runs(length=2))
  jaccard(texts.runs, np.array([0]), np.array([1]))  # array([0.33333333])

The similarity is the Jaccard index: the number of different runs of words that
two texts have in common, over the number of different runs in either text.

To compare every text with every other takes too long. So texts are compared
only if they agree in a band of MinHash values (Broder 1997, "On the resemblance
and containment of documents"; Leskovec et al., "Mining of Massive Datasets",
3.4). The bands only propose pairs: `jaccard` decides about each pair.
"""

import dataclasses
import functools
import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from data_prep.base import options

# Distinct runs of a text that are compared. Longer texts are compared by this
# many runs with the lowest hashes, a random sample; the standard deviation of
# their similarity is at most 1 / (2 sqrt(1024)) = 0.016.
MOST_RUNS = 1024
# The lowest threshold that 160 values serve: 1 - 0.95^160 = 0.9997.
LOWEST_THRESHOLD = 0.05

_MINIMA = 160  # MinHash values of a text, enough for the bands below
_MISSED = 0.005  # of the pairs at the threshold, at most this share is missed
# More values in a band propose fewer pairs of different texts. Of the pairs
# with a similarity of 0.1, 6 values propose one in a million for each band.
_MOST_VALUES = 6

_LETTERS = 1 << 18  # a batch: some 40,000 words, 10 MB while they are hashed
_HASHED = 1 << 15  # runs hashed at once: they stay in the cache
_COMPARED = 1 << 19  # runs compared at once: 20 MB
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


@dataclasses.dataclass(frozen=True)
class Runs:
  """Defines the runs of words by which texts are compared.

  Attributes:
    length: the number of words in a run. A text of fewer words is one run.
    part_of_word: function from a character to whether it belongs to a word. All
      other characters only separate words.
    with_end: whether the last `length` - 1 words of a text, together with its
      end, are one more run.
  """

  length: int
  part_of_word: Callable[[str], bool] = str.isalnum
  with_end: bool = False


@dataclasses.dataclass(frozen=True)
class Sets:
  """The hashed runs of several texts.

  Attributes:
    hashes: uint32 [hashes of all texts], text by text: the lowest distinct
      hashes of its runs, at most MOST_RUNS, ascending.
    sizes: int64 [texts], the number of hashes of each text, at least 1.
  """

  hashes: np.ndarray
  sizes: np.ndarray

  @classmethod
  def of(cls, sets: Sequence[np.ndarray]) -> "Sets":
    """Returns the `Sets` of several texts.

    Args:
      sets: the hashes of each text, uint32 [hashes], ascending and distinct.
    """
    sizes = np.fromiter(map(len, sets), np.int64, len(sets))
    return cls(np.concatenate([np.empty(0, np.uint32), *sets]), sizes)

  @classmethod
  def concatenated(cls, parts: Sequence["Sets"]) -> "Sets":
    """Joins several `Sets`; returns a `Sets` with all their texts in order."""
    return cls(
      np.concatenate([np.empty(0, np.uint32), *(x.hashes for x in parts)]),
      np.concatenate([np.empty(0, np.int64), *(x.sizes for x in parts)]),
    )

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    return np.cumsum(self.sizes) - self.sizes

  def take(self, texts: np.ndarray) -> "Sets":
    """Returns a `Sets` of some texts.

    Args:
      texts: int [n], the indices of the texts, in the order of the result.
    """
    sizes = self.sizes[texts]
    shift = self._starts[texts] - (np.cumsum(sizes) - sizes)
    places = np.arange(sizes.sum()) + np.repeat(shift, sizes)
    return Sets(self.hashes[places], sizes)


@dataclasses.dataclass(frozen=True)
class Sketches:
  """The hashes by which texts are compared.

  Attributes:
    runs: the hashed runs of the texts, for `jaccard`.
    minima: uint32 [texts, values], the MinHash of the texts, for `band_keys`: a
      value is the lowest hash of the text's runs by one hash function.
  """

  runs: Sets
  minima: np.ndarray


@dataclasses.dataclass(frozen=True)
class Bands:
  """The grouping of MinHash values into bands, which propose pairs.

  Attributes:
    count: the number of bands. A pair that agrees in one band is proposed.
    values: the number of MinHash values in a band.
  """

  count: int
  values: int

  @property
  def used(self) -> int:
    """The number of MinHash values in all bands."""
    return self.count * self.values


def check(threshold: float) -> None:
  """Raises InputError unless a threshold is 0 or from LOWEST_THRESHOLD to 1.

  The message names --near_duplicates.
  """
  if threshold and not LOWEST_THRESHOLD <= threshold <= 1:
    raise options.InputError(
      f"--near_duplicates of 0, or from {LOWEST_THRESHOLD} to 1",
      str(threshold),
      "give 0 to look for exact copies alone",
    )


def bands(threshold: float) -> Bands:
  """Returns bands that propose at least 99.5 % of the pairs to be found.

  These are the pairs of texts whose similarity is at least the threshold.

  Two texts of similarity s agree in a MinHash value with probability s, and in
  at least one of b bands of r values with probability 1 - (1 - s^r)^b. The
  result has as many values in a band as possible, because then the fewest pairs
  below the threshold are proposed.

  Args:
    threshold: the smallest similarity, from LOWEST_THRESHOLD to 1.
  """
  for values in range(_MOST_VALUES, 1, -1):
    count = _bands_needed(threshold**values)
    if count * values <= _MINIMA:
      return Bands(count, values)
  return Bands(min(_MINIMA, _bands_needed(threshold)), 1)


def _bands_needed(agree: float) -> int:
  """Returns how many bands are needed to miss at most 0.5 % of the pairs.

  Args:
    agree: the probability that a pair agrees in a band.
  """
  if agree >= 1:
    return 1
  return math.ceil(math.log(_MISSED) / math.log1p(-agree))


def band_keys(minima: np.ndarray, grouped: Bands) -> np.ndarray:
  """Returns a key for each band; texts that agree in a band have equal keys.

  Args:
    minima: uint32 [texts, values], with at least `grouped.used` values.
    grouped: the result of `bands`.

  Returns:
    int64 [texts, bands], at least 0 and below 2^60. Different bands, and texts
      that differ in a band, have different keys but for rare collisions.
  """
  used = minima[:, : grouped.used]
  values = used.reshape(len(minima), grouped.count, grouped.values)
  keys = np.arange(1, grouped.count + 1, dtype=np.uint64)
  for number in range(grouped.values):
    keys = (keys + values[:, :, number]) * _MULTIPLIER
    keys ^= keys >> np.uint64(29)
  return (keys >> np.uint64(4)).astype(np.int64)


def jaccard(sets: Sets, left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Returns the similarity of pairs of texts.

  Args:
    sets: the hashed runs of all texts.
    left: int64 [pairs], indices of texts.
    right: int64 [pairs], the indices of their partners.

  Returns:
    float64 [pairs], from 0 to 1. The similarity is exact for two texts that
      have at most MOST_RUNS different runs together. For longer texts it is
      estimated from the MOST_RUNS lowest hashes of the two together.
  """
  result = np.empty(len(left))
  step = max(1, _COMPARED // int(2 * sets.sizes.max(initial=1)))
  for begin in range(0, len(left), step):
    part = slice(begin, begin + step)
    result[part] = _jaccard(sets.take(left[part]), sets.take(right[part]))
  return result


def _jaccard(left: Sets, right: Sets) -> np.ndarray:
  """Returns the similarity of each pair of texts, float64 [pairs].

  Args:
    left, right: the hashed runs of the two texts of each pair.
  """
  count = len(left.sizes)
  numbers = np.arange(count, dtype=np.uint64) << np.uint64(32)
  keys = np.concatenate(
    [
      np.repeat(numbers, left.sizes) | left.hashes,
      np.repeat(numbers, right.sizes) | right.hashes,
    ]
  )
  keys.sort()
  repeated = keys[1:] == keys[:-1]  # a hash that both texts have stands twice
  distinct = np.r_[True, ~repeated]
  pair = (keys[distinct] >> np.uint64(32)).astype(np.int64)
  shared = np.r_[repeated, False][distinct]
  counted = _lowest_of_each(pair, count)
  return np.bincount(pair[counted & shared], minlength=count) / np.bincount(
    pair[counted], minlength=count
  )


def _lowest_of_each(owner: np.ndarray, count: int) -> np.ndarray:
  """Marks the first MOST_RUNS entries of each owner.

  Args:
    owner: int64 [entries], the number of the owner of each entry, from 0 to
      `count` - 1, ascending.
    count: the number of owners.

  Returns:
    bool [entries], True for the marked entries.
  """
  sizes = np.bincount(owner, minlength=count)
  starts = np.cumsum(sizes) - sizes
  return np.arange(len(owner)) - starts[owner] < MOST_RUNS


def sketches(
  texts: Sequence[str], runs: Runs, values: int = _MINIMA
) -> Sketches:
  """Returns the hashed runs and the MinHash of each text.

  A text without a word has a single run, which is equal only for equal texts.

  Args:
    texts: the texts.
    runs: the definition of the runs.
    values: the number of MinHash values of a text, at most 160. They take most
      of the time, so that a caller asks for as many as its bands use.
  """
  parts = []
  minima = np.empty((len(texts), values), np.uint32)
  for begin, end in _batches(texts):
    hashed, counts = _hashed_runs(texts[begin:end], runs)
    starts = np.cumsum(counts) - counts
    minima[begin:end] = _minima(hashed, starts, values)
    owner = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    keys = _distinct(owner << np.uint64(32) | hashed >> np.uint64(32))
    owner = (keys >> np.uint64(32)).astype(np.int64)
    lowest = _lowest_of_each(owner, len(counts))
    sizes = np.bincount(owner[lowest], minlength=len(counts))
    parts.append(Sets(keys[lowest].astype(np.uint32), sizes))
  return Sketches(Sets.concatenated(parts), minima)


def _distinct(numbers: np.ndarray) -> np.ndarray:
  """Returns the distinct numbers, ascending; `numbers` is sorted in place.

  np.unique takes several times as long, since it does not sort at first.
  """
  numbers.sort()
  return numbers[np.r_[True, numbers[1:] != numbers[:-1]]]


def _batches(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
  """Divides texts into batches; yields (start, exclusive end) of each.

  The texts of a batch have at most _LETTERS characters together; a longer text
  is a batch by itself.
  """
  begin = letters = 0
  for end, text in enumerate(texts):
    letters += len(text)
    if letters > _LETTERS and end > begin:
      yield begin, end
      begin, letters = end, len(text)
  if begin < len(texts):
    yield begin, len(texts)


def _hashed_runs(
  texts: Sequence[str], runs: Runs
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the hashes of all runs of texts, and how many runs each text has.

  Args:
    texts: the texts.
    runs: the definition of the runs.

  Returns:
    the hashes, uint64 [runs of all texts], text by text, repeated for equal
      runs; and the numbers of runs, int64 [texts].
  """
  words, counts = _hashed_words(texts, runs.part_of_word)
  place = np.arange(len(words)) - np.repeat(np.cumsum(counts) - counts, counts)
  left = np.repeat(counts, counts) - place
  hashed = words
  for ahead in range(1, runs.length):
    following = np.r_[
      words[ahead:], np.zeros(min(ahead, len(words)), np.uint64)
    ]
    hashed = hashed * _MULTIPLIER + np.where(left > ahead, following, 0)
  sizes = np.maximum(1, counts - runs.length + 1 + runs.with_end)
  return _mix(hashed[place < np.repeat(sizes, counts)]), sizes


def _hashed_words(
  texts: Sequence[str], part_of_word: Callable[[str], bool]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the hash of each word, and the number of words of each text.

  A text without words counts as one word, which is made from a hash of the
  text.

  Args:
    texts: the texts.
    part_of_word: function from a character to whether it belongs to a word.

  Returns:
    the hashes, uint64 [words of all texts], text by text; and the numbers of
      words, int64 [texts].
  """
  texts = [x if any(map(part_of_word, x)) else _stand_in(x) for x in texts]
  ends = np.cumsum([len(text) + 1 for text in texts])
  table, hashes, places = _table(part_of_word), [], []
  for start, piece in _pieces("\n".join(texts)):
    codes = np.frombuffer(piece.encode("utf-32-le"), np.uint32)
    inside = table[codes]
    begins = np.flatnonzero(inside & ~np.r_[False, inside[:-1]])
    if len(begins):
      hashes.append(_hashed_letters(codes, inside, begins))
      places.append(begins + start)
  text = np.searchsorted(ends, np.concatenate(places), side="right")
  return np.concatenate(hashes), np.bincount(text, minlength=len(texts))


def _stand_in(text: str) -> str:
  """Returns the only word of a text without words: its SHA-256 in hex."""
  return hashlib.sha256(text.encode()).hexdigest()


def _pieces(text: str) -> Iterator[tuple[int, str]]:
  """Yields (start, part) of a text, which is cut before spaces.

  All parts but the last have at least _LETTERS characters. A text of at most
  2 * _LETTERS characters, or without spaces, is one part.
  """
  begin = 0
  while len(text) - begin > 2 * _LETTERS:
    end = text.find(" ", begin + _LETTERS)
    if end < 0:
      break
    yield begin, text[begin:end]
    begin = end
  yield begin, text[begin:]


def _hashed_letters(
  codes: np.ndarray, inside: np.ndarray, begins: np.ndarray
) -> np.ndarray:
  """Returns a hash of each word: a polynomial in its letters, uint64 [words].

  Args:
    codes: uint32 [characters], the code points of a text.
    inside: bool [characters], whether a character belongs to a word.
    begins: int64 [words], the start of each word.
  """
  place = np.zeros(len(codes), np.int64)
  place[begins] = begins
  place = np.arange(len(codes)) - np.maximum.accumulate(place)
  powers = np.full(int(place.max()) + 1, _MULTIPLIER)
  powers[0] = 1
  powers = np.multiply.accumulate(powers)
  terms = np.where(inside, codes.astype(np.uint64) * powers[place], 0)
  return _mix(np.add.reduceat(terms.astype(np.uint64), begins))


@functools.cache
def _table(part_of_word: Callable[[str], bool]) -> np.ndarray:
  """Returns bool [0x110000]: whether each code point belongs to words."""
  return np.fromiter(
    map(part_of_word, map(chr, range(sys.maxunicode + 1))), bool
  )


def _minima(hashed: np.ndarray, starts: np.ndarray, count: int) -> np.ndarray:
  """Returns the MinHash of each text, from the hashes of its runs.

  The hash functions are multiply-shift (Dietzfelbinger et al. 1997): the upper
  half of a x + b.

  Args:
    hashed: uint64 [runs], text by text.
    starts: int64 [texts], the index of each text's first run; every text has
      at least one run.
    count: the number of hash functions.

  Returns:
    uint32 [texts, count], the lowest value of each hash function.
  """
  lowest = np.empty((len(starts), count), np.uint32)
  factors, summands = _constants()
  begin = 0
  while begin < len(starts):
    limit = np.searchsorted(starts, starts[begin] + _HASHED)
    end = max(begin + 1, int(limit) - (limit < len(starts)))
    last = starts[end] if end < len(starts) else len(hashed)
    part, at = hashed[starts[begin] : last], starts[begin:end] - starts[begin]
    values = np.empty_like(part)
    for number in range(count):
      np.multiply(part, factors[number], out=values)
      values += summands[number]
      least = np.minimum.reduceat(values, at)
      lowest[begin:end, number] = least >> np.uint64(32)
    begin = end
  return lowest


@functools.cache
def _constants() -> tuple[np.ndarray, np.ndarray]:
  """Returns odd factors and summands of the hash functions, uint64 [160]."""
  numbers = np.arange(1, 2 * _MINIMA + 1, dtype=np.uint64)
  mixed = _mix(numbers * _MULTIPLIER)
  return mixed[:_MINIMA] | np.uint64(1), mixed[_MINIMA:]


def _mix(bits: np.ndarray) -> np.ndarray:
  """Returns hashes with their bits mixed by the finaliser of splitmix64.

  Steele et al. 2014.
  """
  bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return bits ^ (bits >> np.uint64(31))
