"""Measures the search for near duplicates, through files and in memory.

    python -m benchmarks.near_duplicates --num_documents=200000

The documents are made of random words; some are copies of earlier ones with a word
changed. Both searches see the same documents, each in a process of its own. `in memory`
is the way of earlier commits: 160 MinHash values of each document, and each kept
document's runs and keys in memory. The program prints the memory that each search adds
for a document, its CPU time, the ratios, and how many of the copies were dropped.
"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import multiprocessing
import random
import resource
import time
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.base import options
from data_prep.corpus import copies_on_disk, deduplication
from data_prep.text import similarity

_BATCH = 500  # documents whose signatures are made at once
_THRESHOLD = 0.8


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the documents, and the memory of the search through files."""

  num_documents: int = options.option(
    200_000, "Number of documents to make and to search.", minimum=1000
  )
  words: int = options.option(
    60, "Average number of words of a document.", minimum=30
  )
  copies: float = options.option(
    0.1,
    "Share of the documents that are copies of earlier ones.",
    minimum=0.0,
    maximum=0.5,
  )
  memory_limit: int = options.option(
    64, "Megabytes of memory for the search through files.", minimum=1
  )
  in_memory: bool = options.option(
    True, "Measure the search in memory too, for the ratios."
  )


@dataclasses.dataclass(frozen=True)
class _Cost:
  """The cost and the result of a search.

  Attributes:
    bytes: the memory in bytes that the search added, for each document.
    seconds: the CPU time of the search.
    dropped: the number of documents that were dropped.
    planted: the number of copies among the documents.
    right: the number of copies among the dropped documents.
  """

  bytes: float
  seconds: float
  dropped: int
  planted: int
  right: int


def main(settings: Options) -> None:
  """Prints memory and CPU time of both searches, and the ratios of the two."""
  costs = {}
  for name in ("through files", *(("in memory",) * settings.in_memory)):
    with concurrent.futures.ProcessPoolExecutor(
      1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
      cost = pool.submit(_measured, settings, name).result()
    costs[name] = cost
    print(
      f"{name}: {cost.bytes:,.0f} bytes and "
      f"{1e6 * cost.seconds / settings.num_documents:.0f} CPU-microseconds a "
      f"document; {cost.right:,} of {cost.planted:,} copies dropped, and "
      f"{cost.dropped - cost.right:,} further documents",
      flush=True,
    )
  if settings.in_memory:
    new, old = costs["through files"], costs["in memory"]
    print(
      f"through files beside in memory: {new.bytes / old.bytes:.3f} of the memory "
      f"(at most 0.1), {new.seconds / old.seconds:.2f} of the CPU time (at most 1)"
    )


def _measured(settings: Options, name: str) -> _Cost:
  """Returns the cost of a search, in this process.

  Args:
    settings: the documents.
    name: "through files" or "in memory".
  """
  search = _through_files if name == "through files" else _in_memory
  deduplication.signatures([["сайн байна уу"]], _THRESHOLD)  # makes its tables
  idle = -time.process_time()
  planted = [is_copy for _, is_copy in _documents(settings)]
  idle += time.process_time()
  before = _peak()
  seconds = -time.process_time()
  dropped = search(settings)
  seconds += time.process_time() - idle
  return _Cost(
    (_peak() - before) / settings.num_documents,
    seconds,
    sum(dropped),
    sum(planted),
    sum(map(min, dropped, planted)),
  )


def _peak() -> int:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _through_files(settings: Options) -> bytes:
  """Searches the documents for copies by `copies_on_disk`, with files.

  Returns:
    a byte for each document, in order: 1 if it is dropped as a copy, else 0.
  """
  with copies_on_disk.Duplicates(
    _THRESHOLD, None, settings.memory_limit << 20
  ) as duplicates:
    for batch in _batches(settings):
      duplicates.add(deduplication.signatures(batch, _THRESHOLD))
    return bytes(kind is not None for kind in duplicates.verdicts())


def _in_memory(settings: Options) -> bytes:
  """Searches the documents for copies in memory, as earlier commits did.

  Returns:
    a byte for each document, in order: 1 if it is dropped as a copy, else 0.
  """
  index = _Index()
  dropped = bytearray()
  for batch in _batches(settings):
    texts = [" ".join(sentences).lower() for sentences in batch]
    sketches = similarity.sketches(texts, similarity.Runs(5, _in_word))
    ends = np.cumsum(sketches.runs.sizes)[:-1]
    runs = np.split(sketches.runs.hashes, ends)
    for text, own, minima in zip(texts, runs, sketches.minima, strict=True):
      dropped.append(not index.add(text, own, minima))
  return bytes(dropped)


def _in_word(letter: str) -> bool:
  return not letter.isspace()


class _Index:
  """The kept documents in memory, by their digests and the keys of their bands.

  Unlike `copies_on_disk`, the class keeps more than 1,000 documents of a key.
  """

  def __init__(self) -> None:
    self._seen: set[bytes] = set()
    self._bands = similarity.bands(_THRESHOLD)
    self._runs: list[np.ndarray] = []
    self._first: dict[int, int] = {}
    self._more: dict[int, list[int]] = {}

  def add(self, text: str, runs: np.ndarray, minima: np.ndarray) -> bool:
    """Keeps a document, unless it is a copy of a kept document.

    Args:
      text: the text of the document.
      runs: the hashed runs of the document, uint32 [runs].
      minima: the MinHash values of the document, uint32 [values].

    Returns:
      whether the document was kept.
    """
    digest = hashlib.sha256(text.encode()).digest()[:16]
    if digest in self._seen:
      return False
    self._seen.add(digest)
    (keys,) = similarity.band_keys(minima[None], self._bands).tolist()
    if self._holds(runs, keys):
      return False
    number = len(self._runs)
    self._runs.append(runs.copy())
    for key in keys:
      if self._first.setdefault(key, number) != number:
        self._more.setdefault(key, []).append(number)
    return True

  def _holds(self, runs: np.ndarray, keys: Sequence[int]) -> bool:
    """Returns whether a kept document with one of the keys is similar enough."""
    alike = [self._first[key] for key in keys if key in self._first]
    alike += itertools.chain(*(self._more.get(key, ()) for key in keys))
    if not alike:
      return False
    sets = similarity.Sets.of([runs, *(self._runs[n] for n in set(alike))])
    kept = np.arange(1, len(sets.sizes))
    scores = similarity.jaccard(sets, np.zeros_like(kept), kept)
    return bool((scores >= _THRESHOLD).any())


def _batches(settings: Options) -> Iterator[list[list[str]]]:
  """Yields batches of documents; a document is the list of its one sentence."""
  documents = ([text] for text, _ in _documents(settings))
  while batch := list(itertools.islice(documents, _BATCH)):
    yield batch


def _documents(settings: Options) -> Iterator[tuple[str, bool]]:
  """Yields (text, whether it is a copy) of each document, always the same.

  A copy is an earlier document with the last word changed: one of the last
  thousand that are no copies. With 17 words or more, the similarity of the two
  is above the threshold.
  """
  chance = random.Random(0)
  letters = "абвгдежзийклмноөпрстуүхцчшэюя"
  words = ["".join(chance.choices(letters, k=7)) for _ in range(50_000)]
  recent: collections.deque[list[str]] = collections.deque(maxlen=1000)
  for number in range(settings.num_documents):
    is_copy = number > 0 and chance.random() < settings.copies
    if is_copy:
      text = [*chance.choice(recent)[:-1], f"{number}"]
    else:
      length = chance.randrange(settings.words // 2, 3 * settings.words // 2)
      text = chance.choices(words, k=length)
      recent.append(text)
    yield " ".join(text), is_copy


if __name__ == "__main__":
  options.run(main, Options)
