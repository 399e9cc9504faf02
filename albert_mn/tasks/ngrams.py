"""TF-IDF vectors of texts, from words, pairs of words and parts of words.

N-grams and weights are those of scikit-learn's TfidfVectorizer with
sublinear_tf: once for n-grams of 1 to 2 words, once for n-grams of 2 to 5
letters inside words. A text has two vectors, of words and of letters, each of
length 1. The same code runs when a baseline is fitted and when a model answers,
without scikit-learn.
"""

import collections
import dataclasses
import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from scipy import sparse

_WORD = re.compile(r"\w+")
_SHORTEST, _LONGEST = 2, 5  # letters of a letter n-gram

# Largest number of counted n-grams; beyond it the rarest are dropped. About 400
# MB (guess).
_MOST_COUNTED = 1 << 22
_ROWS_AT_ONCE = 2048
_REMEMBERED = 1 << 16  # words whose letter n-grams are cached


@dataclasses.dataclass(frozen=True)
class NGrams:
  """The known n-grams and their inverse document frequencies.

    NGrams.of(texts, most=1000).matrix(["сайн байна уу"])  # [1, n-grams]

  Attributes:
    words: word n-grams such as "сайн" and "сайн байна", sorted.
    parts: letter n-grams such as "ай" and " са", sorted; a blank stands for the
      start or the end of a word, which here includes punctuation.
    idf: float32, for each of `words` and then of `parts`: log((1 + texts) /
      (1 + texts with the n-gram)) + 1.
  """

  words: tuple[str, ...]
  parts: tuple[str, ...]
  idf: np.ndarray

  @classmethod
  def of(cls, texts: Sequence[str], most: int) -> "NGrams":
    """Returns the n-grams that occur in the most texts, with their idf.

    Args:
      texts: at least one text.
      most: largest number of word n-grams, and also of letter n-grams. Of
        equally frequent n-grams, the alphabetically first are kept.
    """
    words = _frequencies(map(_of_words, texts), most)
    parts = _frequencies(_parts_of_texts(texts), most)
    counts = [*words.values(), *parts.values()]
    idf = np.log((1 + len(texts)) / (1 + np.array(counts, np.float64))) + 1
    return cls(tuple(words), tuple(parts), idf.astype(np.float32))

  def matrix(self, texts: Sequence[str]) -> sparse.csr_matrix:
    """Returns the TF-IDF vectors of texts, sparse float64 [texts, n-grams].

    The columns are `words`, then `parts`. Unknown n-grams are left out.
    """
    starts = range(0, len(texts), _ROWS_AT_ONCE)
    chunks = [
      self._chunk(texts[start : start + _ROWS_AT_ONCE]) for start in starts
    ]
    if not chunks:
      return sparse.csr_matrix((0, len(self.idf)), dtype=np.float64)
    return sparse.vstack(chunks, format="csr")

  def name(self, number: int) -> str:
    """Returns an n-gram as text for a person.

    In a letter n-gram "_" marks the start or the end of a word.

    Args:
      number: the column of the n-gram in `matrix`.
    """
    if number < len(self.words):
      return self.words[number]
    return self.parts[number - len(self.words)].replace(" ", "_")

  def _chunk(self, texts: Sequence[str]) -> sparse.csr_matrix:
    """Returns the TF-IDF vectors of a few texts, sparse [texts, n-grams].

    `matrix` calls this method for one block of texts after the other.
    """
    words = _counted([self._ids_of_words(text) for text in texts])
    # Each distinct word is cut into letter n-grams only once.
    places: dict[str, int] = {}
    rows = [
      [places.setdefault(word, len(places)) for word in _composed(text).split()]
      for text in texts
    ]
    counts = _sparse(_counted(rows), len(places))
    inside = _sparse(
      _counted(list(map(self._ids_of_parts, places))), len(self.parts)
    )
    parts = (counts @ inside).tocsr()
    parts.sort_indices()  # for sums in a fixed order
    size = len(self.words)
    return sparse.hstack(
      [
        _weighted(_sparse(words, size), self.idf[:size]),
        _weighted(parts, self.idf[size:]),
      ],
      format="csr",
    )

  def _ids_of_words(self, text: str) -> list[int]:
    """Returns the columns in `matrix` of a text's known word n-grams.

    A column occurs as often as its n-gram.
    """
    numbers = self._numbers_of_words
    return [numbers[gram] for gram in _of_words(text) if gram in numbers]

  @functools.cached_property
  def _numbers_of_words(self) -> dict[str, int]:
    """Word n-gram → its column in `matrix`."""
    return {gram: number for number, gram in enumerate(self.words)}

  @functools.cached_property
  def _ids_of_parts(self) -> Callable[[str], list[int]]:
    """A function: word → indices in `parts` of its known letter n-grams."""
    numbers = {gram: number for number, gram in enumerate(self.parts)}

    @functools.lru_cache(_REMEMBERED)
    def ids(word: str) -> list[int]:
      return [numbers[gram] for gram in _of_letters(word) if gram in numbers]

    return ids


def words(text: str) -> list[str]:
  """Returns the lower-cased words of a text, with й, ё, ө and ү intact.

  For `Сайн уу, ХОЁР найз?` it returns сайн, уу, хоёр, найз.
  """
  return _WORD.findall(_composed(text))


def _composed(text: str) -> str:
  """Returns a text in Unicode's form NFC and in lower case."""
  # A decomposed й is и and a combining breve. \w does not match the breve, so
  # the word would be split there.
  return unicodedata.normalize("NFC", text).lower()


def _of_words(text: str) -> list[str]:
  """Returns the word n-grams of a text: its words, then pairs of neighbours.

  A pair is two neighbouring words with a space between them.
  """
  alone = words(text)
  return alone + [" ".join(pair) for pair in itertools.pairwise(alone)]


def _of_letters(word: str) -> list[str]:
  """Returns the letter n-grams of a word, with a blank at both ends.

  The n-grams have 2 to 5 characters, the blanks included. If a word with its
  blanks is shorter than 5 characters, its longest n-gram is the whole of it.
  """
  padded = f" {word} "
  grams = []
  for size in range(_SHORTEST, _LONGEST + 1):
    last = max(0, len(padded) - size)
    grams += [padded[start : start + size] for start in range(last + 1)]
    if not last:
      break
  return grams


def _parts_of_texts(texts: Iterable[str]) -> Iterator[set[str]]:
  """Yields the set of letter n-grams of each text, in lower case.

  The words of a text are divided at white space only, so a word includes its
  punctuation.
  """
  grams = functools.lru_cache(_REMEMBERED)(
    lambda word: frozenset(_of_letters(word))
  )
  for text in texts:
    yield set().union(*map(grams, set(_composed(text).split())))


def _frequencies(rows: Iterable[Iterable[str]], most: int) -> dict[str, int]:
  """Returns n-gram → number of rows that contain the n-gram, sorted by n-gram.

  At most the `most` most frequent n-grams are returned. If more than 4,194,304
  distinct n-grams occur, the rarest are dropped while counting, so the numbers
  of other rare n-grams can be too small.
  """
  counts: collections.Counter[str] = collections.Counter()
  rarest = 0
  for row in rows:
    counts.update(set(row))
    while len(counts) > _MOST_COUNTED:
      rarest += 1
      counts = collections.Counter(
        {gram: count for gram, count in counts.items() if count > rarest}
      )
  kept = sorted(counts, key=lambda gram: (-counts[gram], gram))[:most]
  return {gram: counts[gram] for gram in sorted(kept)}


# For each row: its columns, and the count of each column.
_Counts = tuple[list[np.ndarray], list[np.ndarray]]


def _counted(rows: Sequence[Sequence[int]]) -> _Counts:
  """Counts the columns in each row.

  Args:
    rows: the columns of each row's n-grams, with repetitions.

  Returns:
    two lists with an int64 array for each row: the distinct columns, ascending,
      and how often each of them occurs.
  """
  pairs = [
    np.unique(np.array(row, np.int64), return_counts=True) for row in rows
  ]
  return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _sparse(counts: _Counts, width: int) -> sparse.csr_matrix:
  """Returns the counts of `_counted` as a sparse float64 matrix [rows, width].

  Args:
    counts: the result of `_counted`.
    width: number of columns.
  """
  columns, times = counts
  ends = np.cumsum([0, *map(len, columns)])
  nothing = [np.zeros(0, np.int64)]
  return sparse.csr_matrix(
    (
      np.concatenate(times + nothing).astype(np.float64),
      np.concatenate(columns + nothing),
      ends,
    ),
    shape=(len(columns), width),
  )


def _weighted(counts: sparse.csr_matrix, idf: np.ndarray) -> sparse.csr_matrix:
  """Returns TF-IDF vectors: (1 + log count) · idf, scaled to length 1.

  Args:
    counts: [rows, n-grams]; rows without an n-gram stay empty.
    idf: [n-grams], the inverse document frequencies.
  """
  weighted = counts.astype(np.float64)
  weighted.data = (1 + np.log(weighted.data)) * idf.astype(np.float64)[
    weighted.indices
  ]
  rows = np.repeat(np.arange(weighted.shape[0]), np.diff(weighted.indptr))
  squares = np.bincount(rows, np.square(weighted.data), weighted.shape[0])
  weighted.data /= np.sqrt(squares)[rows]
  return weighted
