"""Rows that are copies of each other, word for word or nearly, by the million.

A copy of a training row in the evaluation is counted as understood. Texts are
compared by their pairs of neighbouring words: MinHash (Broder 1997, "On the
resemblance and containment of documents"), and for candidates only those that
agree in one of 32 bands of four values (Leskovec et al., "Mining of Massive
Datasets", 3.4).

`deduplication` compares documents of a corpus by runs of five words, of which a
tweet has too few: one word changed of fifteen leaves 6 of 16 of these, but 13
of 17 pairs. And it takes 0.3 ms and 3.5 kB a text, this 0.02 ms and 1 kB
(benchmarks/classifier_rows.py).
"""

import collections
import dataclasses
import functools
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

# The estimate's standard deviation is at most 1 / (2 sqrt(128)) = 0.044.
_VALUES = 128
_BAND = 4  # values: of pairs at 0.7, 99.98 % agree in one of the 32 bands
_TEXTS = 1000  # a batch
_PAIRS = 1 << 15  # hashed at once: they stay in the cache
# Members of a band from which all are taken for one cluster, unlooked at: their
# pairs grow with the square, and so many texts alike were filled in by machine.
_CROWD = 500
_COMPARED = 1 << 14  # pairs at once: 16 MB
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


@dataclasses.dataclass(frozen=True)
class Copy:
  """What a row is a copy of.

  Attributes:
    other: the index of that row.
    similarity: the share of the word pairs of both that they have in common
      (Jaccard), estimated; 1 for the same text, letter case and white space
      aside.
    exact: it is the same text.
  """

  other: int
  similarity: float
  exact: bool


def text_key(text: str) -> str:
  """What copies of a text have in common: its composed lower-case words."""
  return " ".join(unicodedata.normalize("NFC", text).lower().split())


def between(
  train: Sequence[str], held_out: Sequence[str], threshold: float
) -> dict[int, Copy]:
  """Finds the held-out texts that training texts are copies of.

  Args:
    train: texts.
    held_out: texts.
    threshold: the similarity from which a text is a near duplicate; 0 for the
      same texts only.

  Returns:
    Index of a held-out text → the first training text that is the same, or the
    most similar one that was found.
  """
  same = {}
  for index, text in reversed(list(enumerate(train))):
    same[_digest(text)] = index
  found = {}
  for index, text in enumerate(held_out):
    if (other := same.get(_digest(text))) is not None:
      found[index] = Copy(other, 1.0, True)
  if threshold:
    others = [i for i in range(len(held_out)) if i not in found]
    near = _near(list(train), [held_out[i] for i in others], threshold)
    found.update((others[at], copy) for at, copy in near.items())
  return dict(sorted(found.items()))


def _near(
  train: Sequence[str], held_out: Sequence[str], threshold: float
) -> dict[int, Copy]:
  values = signatures([*train, *held_out])
  count = len(train)
  best = np.zeros(len(held_out))
  others = np.zeros(len(held_out), np.int64)
  for band in _bands(values):
    for known, new in band.pairs(limit=count):
      torn = (known < count) & (new >= count)
      known, new = known[torn], new[torn] - count
      score = _similarity(values, known, new + count)
      # Of each new one the most similar; of these the first.
      order = np.lexsort((known, -score, new))
      known, new, score = known[order], new[order], score[order]
      first = np.r_[True, new[1:] != new[:-1]][: len(new)]
      known, new, score = known[first], new[first], score[first]
      more = score > best[new]
      best[new[more]], others[new[more]] = score[more], known[more]
  return {
    int(at): Copy(int(others[at]), float(best[at]), False)
    for at in np.flatnonzero(best >= threshold)
  }


def clusters(texts: Sequence[str], threshold: float) -> list[list[int]]:
  """Groups the indices of texts that are copies of each other, or of copies.

  Texts of different groups are not copies as `between` has it. The order of the
  texts does not matter.

  Args:
    texts: any.
    threshold: as in `between`.
  """
  copies: dict[bytes, list[int]] = collections.defaultdict(list)
  for index, text in enumerate(texts):
    copies[_digest(text)].append(index)
  groups = list(copies.values())
  if not threshold:
    return groups
  values = signatures([texts[group[0]] for group in groups])
  label = np.arange(len(groups))
  for band in _bands(values):
    edges = [(crowd[:-1], crowd[1:]) for crowd in band.crowds()]
    for one, other in band.pairs():
      apart = label[one] != label[other]
      one, other = one[apart], other[apart]
      alike = _similarity(values, one, other) >= threshold
      edges.append((one[alike], other[alike]))
    label = _joined(label, edges)
  joined: dict[int, list[int]] = collections.defaultdict(list)
  for number, group in zip(label.tolist(), groups, strict=True):
    joined[number] += group
  return [sorted(group) for group in joined.values()]


def _joined(
  label: np.ndarray, edges: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
  """Returns a cluster's number for each row, after joining rows by edges."""
  if not any(len(one) for one, _ in edges):
    return label
  one, other = (
    label[np.concatenate([edge[side] for edge in edges])] for side in (0, 1)
  )
  graph = sparse.coo_matrix(
    (np.ones(len(one), bool), (one, other)), (len(label), len(label))
  )
  _, component = csgraph.connected_components(graph, directed=False)
  return component[label]


def _similarity(
  values: np.ndarray, one: np.ndarray, other: np.ndarray
) -> np.ndarray:
  """Returns the share of values that rows have in common, [pairs]."""
  found = np.empty(len(one))
  for begin in range(0, len(one), _COMPARED):
    part = slice(begin, begin + _COMPARED)
    found[part] = (values[one[part]] == values[other[part]]).mean(axis=1)
  return found


@dataclasses.dataclass(frozen=True)
class _Band:
  """Rows that agree in one band.

  Attributes:
    order: [rows], those that agree side by side, in their own order.
    starts: where each group of more than one begins in it.
    sizes: of the groups.
  """

  order: np.ndarray
  starts: np.ndarray
  sizes: np.ndarray

  def crowds(self) -> Iterator[np.ndarray]:
    """Yields the groups of more than _CROWD rows."""
    large = self.sizes > _CROWD
    for start, size in zip(self.starts[large], self.sizes[large], strict=True):
      yield self.order[start : start + size]

  def pairs(
    self, limit: int | None = None
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the pairs of the other groups, many at once, the first row first.

    Args:
      limit: pairs of crowds too, of a row before the limit with one behind.
    """
    for size in np.unique(self.sizes[self.sizes <= _CROWD]):
      starts = self.starts[self.sizes == size]
      one, other = np.triu_indices(size, 1)
      step = max(1, _COMPARED // len(one))
      for begin in range(0, len(starts), step):
        places = starts[begin : begin + step, None] + np.arange(size)
        members = self.order[places]
        yield members[:, one].ravel(), members[:, other].ravel()
    for crowd in self.crowds() if limit is not None else ():
      known, new = crowd[crowd < limit], crowd[crowd >= limit]
      for row in new if len(known) else ():
        yield known, np.full(len(known), row)


def _bands(values: np.ndarray) -> Iterator[_Band]:
  """Yields who agrees with whom, band by band.

  Args:
    values: uint32 [rows, _VALUES].
  """
  for begin in range(0, _VALUES, _BAND):
    key = np.zeros(len(values), np.uint64)
    for at in range(begin, begin + _BAND):
      key = (key + values[:, at]) * _MULTIPLIER
      key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(key)])
    yield _Band(order, starts[sizes > 1], sizes[sizes > 1])


def signatures(texts: Sequence[str]) -> np.ndarray:
  """Returns the MinHash of each text's pairs of words, uint32 [texts, 128].

  Letter case, punctuation and white space do not count.
  """
  found = np.empty((len(texts), _VALUES), np.uint32)
  for begin in range(0, len(texts), _TEXTS):
    keys = [text_key(text) for text in texts[begin : begin + _TEXTS]]
    found[begin : begin + _TEXTS] = _lowest(*_word_pairs(keys))
  return found


def _constants() -> tuple[np.ndarray, np.ndarray]:
  """Odd factors and summands of the hash functions, uint64 [_VALUES]."""
  numbers = np.arange(1, 2 * _VALUES + 1, dtype=np.uint64)
  mixed = _mix(numbers * _MULTIPLIER)
  return mixed[:_VALUES] | np.uint64(1), mixed[_VALUES:]


def _mix(bits: np.ndarray) -> np.ndarray:
  """Spreads bits (the finaliser of splitmix64; Steele et al. 2014)."""
  bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return bits ^ (bits >> np.uint64(31))


def _lowest(pairs: np.ndarray, starts: np.ndarray) -> np.ndarray:
  """Returns the lowest hash of each text by each function.

  Multiply-shift (Dietzfelbinger et al. 1997): the upper half of a x + b.

  Args:
    pairs: uint64 [pairs], text by text.
    starts: where each text's begin; none is empty.
  """
  found = np.empty((len(starts), _VALUES), np.uint32)
  factors, summands = _constants()
  begin = 0
  while begin < len(starts):
    limit = np.searchsorted(starts, starts[begin] + _PAIRS)
    end = max(begin + 1, int(limit) - (limit < len(starts)))
    last = starts[end] if end < len(starts) else len(pairs)
    part, at = pairs[starts[begin] : last], starts[begin:end] - starts[begin]
    hashed = np.empty_like(part)
    for number in range(_VALUES):
      np.multiply(part, factors[number], out=hashed)
      hashed += summands[number]
      hashed >>= np.uint64(32)
      found[begin:end, number] = np.minimum.reduceat(hashed, at)
    begin = end
  return found


def _word_pairs(keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the hashed pairs of words of texts, and where each text's begin.

  The last word makes a pair with the end. A text without words is one of its
  own.

  Args:
    keys: of `text_key`; without line breaks.
  """
  keys = [key if any(map(str.isalnum, key)) else _stand_in(key) for key in keys]
  codes = np.frombuffer("\n".join(keys).encode("utf-32-le"), np.uint32)
  inside = _word_table()[np.minimum(codes, 0xFFFF)]
  begins = np.flatnonzero(inside & ~np.r_[False, inside[:-1]])
  words = _word_hashes(codes, inside, begins)
  text = np.cumsum(codes == ord("\n"))[begins]
  last = np.r_[text[1:] != text[:-1], True]
  following = np.where(last, np.uint64(0), np.r_[words[1:], words[:1]])
  pairs = _mix(words * _MULTIPLIER + following)
  return pairs, np.searchsorted(text, np.arange(len(keys)))


def _word_hashes(
  codes: np.ndarray, inside: np.ndarray, begins: np.ndarray
) -> np.ndarray:
  """Returns a hash of each word: a polynomial in its letters, uint64 [words]."""
  place = np.zeros(len(codes), np.int64)
  place[begins] = begins
  place = np.arange(len(codes)) - np.maximum.accumulate(place)
  powers = np.full(int(place.max()) + 1, _MULTIPLIER)
  powers[0] = 1
  powers = np.multiply.accumulate(powers)
  terms = np.where(inside, codes.astype(np.uint64) * powers[place], 0)
  return _mix(np.add.reduceat(terms.astype(np.uint64), begins))


@functools.cache
def _word_table() -> np.ndarray:
  """Which code points below 0xFFFF are letters or digits."""
  return np.array([chr(code).isalnum() for code in range(0x10000)])


def _stand_in(text: str) -> str:
  """A word for a text that has none, such as one of emoji."""
  return hashlib.sha256(text.encode()).hexdigest()


def _digest(text: str) -> bytes:
  return hashlib.sha256(text_key(text).encode()).digest()[:16]
