"""Finds rows that are exact or near copies of each other, among millions.

A model that has memorised a training row answers its copy in the evaluation
rows without having understood it. Texts are compared by their pairs of
neighbouring words (`similarity`).

`deduplication` compares documents of a corpus by runs of five words. A tweet
has too few of these: if one word of fifteen is changed, 6 of 16 runs of five
stay common, but 13 of 17 pairs.
"""

import collections
import dataclasses
import hashlib
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging
from scipy import sparse
from scipy.sparse import csgraph

from data_prep.text import similarity

# Letter case, punctuation and white space do not count. The last word and the
# end of the text are a pair too, so that a text of one word has a pair.
RUNS = similarity.Runs(length=2, with_end=True)
# A larger group of texts that agree in a band is not compared pair by pair. One
# text is compared with the others, then each text that is similar to it with
# those that remain, and so on: texts filled in by machine are mostly similar.
# On average a text is compared with at most this many others.
_CROWD = 500
_TEXTS = 10_000  # sketched at once: 10 MB
_COMPARED = 1 << 14  # pairs at once


@dataclasses.dataclass(frozen=True)
class Copy:
  """The original of a row, and the row's similarity to it.

  Attributes:
    original: the index of the row that was copied.
    similarity: the share of common word pairs among those of both rows
      (`similarity.jaccard`); 1 for equal texts.
    exact: whether the texts have the same `text_key`: they are equal apart from
      letter case, white space and the encoding of letters.
  """

  original: int
  similarity: float
  exact: bool


def text_key(text: str) -> str:
  """Returns a key that a text shares with its exact copies.

  The key is the text in NFC and lower case, with one space between words.
  Punctuation stays.
  """
  return " ".join(unicodedata.normalize("NFC", text).lower().split())


def between(
  train: Sequence[str], held_out: Sequence[str], threshold: float
) -> dict[int, Copy]:
  """Returns the held-out texts that are copies of training texts.

  Args:
    train, held_out: the texts.
    threshold: the smallest similarity of a near copy; 0 for equal texts only.

  Returns:
    index of a held-out text → its copy. The original is the first training text
      that is equal, or else the first of the most similar training texts.
  """
  first: dict[bytes, int] = {}
  for index, text in enumerate(train):
    first.setdefault(_digest(text), index)
  copies = {
    index: Copy(first[digest], 1.0, True)
    for index, digest in enumerate(map(_digest, held_out))
    if digest in first
  }
  if threshold:
    rest = [i for i in range(len(held_out)) if i not in copies]
    near = _near(list(train), [held_out[i] for i in rest], threshold)
    copies.update((rest[at], copy) for at, copy in near.items())
  return dict(sorted(copies.items()))


def _near(
  train: Sequence[str], held_out: Sequence[str], threshold: float
) -> dict[int, Copy]:
  """Returns the held-out texts that are near copies of training texts.

  Equal texts count as near copies too.

  Args:
    train, held_out: the texts.
    threshold: the smallest similarity of a near copy, above 0.

  Returns:
    index of a held-out text → its copy, the first of the most similar training
      texts.
  """
  rows = _Rows.of([*train, *held_out], threshold)
  count = len(train)
  best = np.zeros(len(held_out))
  nearest = np.zeros(len(held_out), np.int64)
  for band in rows.bands():
    for known, new in band.pairs(limit=count):
      across = (known < count) & (new >= count)
      known, new = known[across], new[across] - count
      score = rows.similarity(known, new + count)
      # For each held-out text, the most similar training text, the first of
      # equally similar ones.
      order = np.lexsort((known, -score, new))
      known, new, score = known[order], new[order], score[order]
      first = np.r_[True, new[1:] != new[:-1]][: len(new)]
      known, new, score = known[first], new[first], score[first]
      more = (score > best[new]) | (score == best[new]) & (known < nearest[new])
      best[new[more]], nearest[new[more]] = score[more], known[more]
  return {
    int(at): Copy(int(nearest[at]), float(best[at]), False)
    for at in np.flatnonzero(best >= threshold)
  }


def clusters(texts: Sequence[str], threshold: float) -> list[list[int]]:
  """Returns groups of texts that are copies, directly or through other copies.

  A, B and C are one group if B is a copy of both, even if A and C are not
  similar enough. The order of the texts does not matter. A text without a copy
  is a group of its own.

  Args:
    texts: the texts.
    threshold: the smallest similarity of a near copy; 0 for equal texts only.

  Returns:
    the groups, as ascending lists of indices of texts.
  """
  copies: dict[bytes, list[int]] = collections.defaultdict(list)
  for index, text in enumerate(texts):
    copies[_digest(text)].append(index)
  groups = list(copies.values())
  if not threshold:
    return groups
  rows = _Rows.of([texts[group[0]] for group in groups], threshold)
  label = np.arange(len(groups))
  for band in rows.bands():
    edges = [_edges(rows, crowd, threshold) for crowd in band.crowds()]
    for left, right in band.pairs():
      separate = label[left] != label[right]
      left, right = left[separate], right[separate]
      alike = rows.similarity(left, right) >= threshold
      edges.append((left[alike], right[alike]))
    label = _merged(label, edges)
  members: dict[int, list[int]] = collections.defaultdict(list)
  for number, group in zip(label.tolist(), groups, strict=True):
    members[number] += group
  return [sorted(group) for group in members.values()]


def _edges(
  rows: "_Rows", crowd: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
  """Returns pairs of near copies that connect each cluster in a large group.

  After 500 comparisons for each row on average, the search ends, and a warning
  is logged.

  Args:
    rows: all rows.
    crowd: the indices of the rows to compare, more than 500.
    threshold: the smallest similarity of a near copy.

  Returns:
    (left, right): two arrays of row indices, an entry for each pair.
  """
  # Sorted by content, so that the order of the rows does not matter.
  rest = crowd[np.lexsort(rows.keys[crowd].T)]
  allowed = _CROWD * len(crowd)
  left, right = [rest[:0]], [rest[:0]]
  queue: collections.deque[int] = collections.deque()
  while len(rest):
    if not queue:
      queue.append(int(rest[0]))
      rest = rest[1:]
    row = queue.popleft()
    allowed -= len(rest)
    if allowed < 0:
      logging.warning(
        "%d texts are similar but no copies, such as texts filled in by "
        "machine: each was compared with %d of them on average",
        len(crowd),
        _CROWD,
      )
      break
    partner = np.full(len(rest), row)
    alike = rows.similarity(partner, rest) >= threshold
    left.append(partner[alike])
    right.append(rest[alike])
    queue.extend(rest[alike].tolist())
    rest = rest[~alike]
  return np.concatenate(left), np.concatenate(right)


def _merged(
  label: np.ndarray, edges: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
  """Returns the number of each row's cluster, after edges have merged clusters.

  Args:
    label: int [rows], the number of each row's cluster so far.
    edges: pairs (left, right) of arrays of row indices; each edge merges the
      clusters of its two rows.
  """
  if not any(len(left) for left, _ in edges):
    return label
  left, right = (
    label[np.concatenate([edge[side] for edge in edges])] for side in (0, 1)
  )
  graph = sparse.coo_matrix(
    (np.ones(len(left), bool), (left, right)), (len(label), len(label))
  )
  _, component = csgraph.connected_components(graph, directed=False)
  return component[label]


@dataclasses.dataclass(frozen=True)
class _Rows:
  """The hashes of texts by which copies are recognised.

  Attributes:
    runs: the hashed pairs of words of each text.
    keys: int64 [rows, bands]; rows that agree in a band have the same key.
  """

  runs: similarity.Sets
  keys: np.ndarray

  @classmethod
  def of(cls, texts: Sequence[str], threshold: float) -> "_Rows":
    """Returns the hashes of texts.

    Args:
      texts: the text of each row.
      threshold: the smallest similarity of near copies, which decides the
        number of bands.
    """
    grouped = similarity.bands(threshold)
    keys = np.empty((len(texts), grouped.count), np.int64)
    runs = []
    for begin in range(0, len(texts), _TEXTS):
      part = slice(begin, begin + _TEXTS)
      keyed = list(map(text_key, texts[part]))
      sketches = similarity.sketches(keyed, RUNS, grouped.used)
      keys[part] = similarity.band_keys(sketches.minima, grouped)
      runs.append(sketches.runs)
    return cls(similarity.Sets.concatenated(runs), keys)

  def similarity(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns the similarity of pairs of rows, float64 [pairs].

    Args:
      left, right: int [pairs], the indices of the two rows of each pair.
    """
    return similarity.jaccard(self.runs, left, right)

  def bands(self) -> Iterator["_Band"]:
    """Yields a `_Band` for each band: its groups of rows with the same key."""
    for key in self.keys.T:
      order = np.argsort(key, kind="stable")
      ordered = key[order]
      starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
      sizes = np.diff(np.r_[starts, len(key)])
      yield _Band(order, starts[sizes > 1], sizes[sizes > 1])


@dataclasses.dataclass(frozen=True)
class _Band:
  """The groups of rows that share a key of one band.

  Attributes:
    order: [rows], row indices, group by group, ascending within a group.
    starts: where each group of more than one row begins in `order`.
    sizes: number of rows of each of these groups.
  """

  order: np.ndarray
  starts: np.ndarray
  sizes: np.ndarray

  def crowds(self) -> Iterator[np.ndarray]:
    """Yields the row indices of each group of more than 500 rows."""
    large = self.sizes > _CROWD
    for start, size in zip(self.starts[large], self.sizes[large], strict=True):
      yield self.order[start : start + size]

  def pairs(
    self, limit: int | None = None
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (left, right): arrays of row indices, the pairs inside groups.

    The lower index of a pair is in `left`.

    Args:
      limit: None: only groups of at most 500 rows. A number: for larger
        groups also each pair of a row below the limit with a row at or above
        it.
    """
    for size in np.unique(self.sizes[self.sizes <= _CROWD]):
      starts = self.starts[self.sizes == size]
      left, right = np.triu_indices(size, 1)
      step = max(1, _COMPARED // len(left))
      for begin in range(0, len(starts), step):
        places = starts[begin : begin + step, None] + np.arange(size)
        members = self.order[places]
        yield members[:, left].ravel(), members[:, right].ravel()
    for crowd in self.crowds() if limit is not None else ():
      known, new = crowd[crowd < limit], crowd[crowd >= limit]
      for row in new if len(known) else ():
        yield known, np.full(len(known), row)


def _digest(text: str) -> bytes:
  """Returns a 16-byte hash that is equal for exact copies of a text."""
  return hashlib.sha256(text_key(text).encode()).digest()[:16]
