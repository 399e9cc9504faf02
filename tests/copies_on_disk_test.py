"""Tests that copies found through files are those found in memory."""

import collections
import pathlib
import random
import tracemalloc

import numpy as np
import pytest

from data_prep.corpus import copies_on_disk, deduplication
from data_prep.text import similarity
from tests import disk_faults, likeness


def _documents(count: int) -> list[list[str]]:
  """Returns documents, of which some are copies and some share a template."""
  chance = random.Random(count)
  template = likeness.words(chance, 40)
  documents: list[list[str]] = []
  for _ in range(count):
    words = likeness.words(chance, chance.randrange(1, 60))
    kind = chance.random()
    if kind < 0.4 and documents:
      words = chance.choice(documents)[0].split()
      for _ in range(chance.choice([0, 1, 2, 4])):
        words[chance.randrange(len(words))] = likeness.words(chance, 1)[0]
    elif kind < 0.7:
      words = [*template, *words[:8]]
    documents.append([" ".join(words)])
  return documents


def _through_files(
  documents: list[list[str]], threshold: float, memory: int, step: int
) -> list[str | None]:
  with copies_on_disk.Duplicates(threshold, None, memory) as duplicates:
    for begin in range(0, len(documents), step):
      part = documents[begin : begin + step]
      duplicates.add(deduplication.signatures(part, threshold))
    return list(duplicates.verdicts())


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8])
def test_memory_and_batches_change_nothing(threshold: float) -> None:
  documents = _documents(400)
  signed = deduplication.signatures(documents, threshold)
  expected = deduplication.verdicts(signed, threshold)
  assert expected.count(deduplication.EXACT) > 10
  assert (expected.count(deduplication.NEAR) > 10) == (threshold > 0)
  for memory, step in ((200_000, 70), (1 << 26, 1000)):
    assert _through_files(documents, threshold, memory, step) == expected


def test_crowded_lists_are_cut_where_they_are_cut_in_memory(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  documents = _documents(500)
  signed = deduplication.signatures(documents, 0.6)
  everything = deduplication.verdicts(signed, 0.6)
  monkeypatch.setattr(deduplication, "MOST_KEPT", 12)
  monkeypatch.setattr(deduplication, "_MOST_ALIKE", 3)
  expected = deduplication.verdicts(signed, 0.6)
  assert expected != everything
  assert _through_files(documents, 0.6, 1 << 20, 100) == expected


def test_each_connected_component_can_be_judged_by_itself() -> None:
  """As another machine could do it: an edge is a key that two have."""
  documents = _documents(600)
  signed = deduplication.signatures(documents, 0.7)
  component = list(range(len(documents)))
  for band in signed.keys.T:
    for key in np.unique(band):
      members = np.flatnonzero(band == key).tolist()
      joined = {component[member] for member in members}
      if len(joined) > 1:
        first = min(joined)
        component = [first if c in joined else c for c in component]
  groups = collections.defaultdict(list)
  for number, first in enumerate(component):
    groups[first].append(number)
  assert len(groups) > 50
  judged: dict[int, str | None] = {}
  for numbers in groups.values():
    alone = deduplication.signatures([documents[n] for n in numbers], 0.7)
    verdicts = deduplication.verdicts(alone, 0.7)
    judged |= dict(zip(numbers, verdicts, strict=True))
  expected = deduplication.verdicts(signed, 0.7)
  assert [judged[n] for n in range(len(documents))] == expected


def _peak(count: int) -> int:
  """Returns the most bytes in arrays while `count` documents are judged."""
  chance = np.random.default_rng(count)
  tracemalloc.start()
  with copies_on_disk.Duplicates(0.8, None, 700_000) as duplicates:
    for _ in range(count // 1000):
      keys = chance.integers(0, 1 << 60, (1000, 18))
      keys[950:] = keys[:50]  # without a run in common
      runs = np.sort(chance.integers(0, 1 << 32, 20_000, np.uint32))
      duplicates.add(
        deduplication.Signatures(
          chance.integers(0, 1 << 64, (1000, 2), np.uint64),
          keys,
          similarity.Sets(runs, np.full(1000, 20)),
        )
      )
    assert not any(duplicates.verdicts())
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  return peak


def test_memory_does_not_grow_with_the_documents() -> None:
  small, large = _peak(2_000), _peak(6_000)
  assert large < 1.3 * small < 5_000_000, (small, large)


def test_a_full_disk_is_named_and_nothing_stays(tmp_path: pathlib.Path) -> None:
  signed = deduplication.signatures(_documents(200), 0.8)
  place = str(tmp_path)
  with (
    disk_faults.full(1 << 12),
    copies_on_disk.Duplicates(0.8, place, 1 << 20) as duplicates,
    pytest.raises(OSError, match="too large") as refused,
  ):
    duplicates.add(signed)
  assert refused.value.filename == place
  assert not list(tmp_path.iterdir())
