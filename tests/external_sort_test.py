"""Tests that sorting by key gives the order of sorted() in bounded memory."""

import collections
import pathlib
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.files import external_sort
from data_prep.pretraining import examples, pretraining_data

_KEYS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**60])


@settings(deadline=None, max_examples=40)
@given(
  st.lists(st.tuples(_KEYS, st.binary(max_size=9)), max_size=60),
  st.sampled_from([900, 3000, 1 << 20]),
)
def test_records_come_by_key_and_then_by_bytes_whatever_fits_in_memory(
  entries: list[external_sort.Entry], memory: int
) -> None:
  ordered = list(external_sort.ordered(entries, None, memory))
  assert ordered == [record for _, record in sorted(entries)]


def test_no_temporary_file_stays(tmp_path: pathlib.Path) -> None:
  entries = [(i * 2**54, b"x" * 90) for i in range(1000)]
  ordered = external_sort.ordered(entries, str(tmp_path), 5000)
  assert next(ordered) == b"x" * 90
  assert list(tmp_path.iterdir()), "what does not fit goes through files"
  assert len(list(ordered)) == 999
  assert not list(tmp_path.iterdir())


def _entries(count: int) -> Iterator[external_sort.Entry]:
  chance = random.Random(count)
  for _ in range(count):
    yield chance.getrandbits(64), chance.randbytes(100)


def _peak(folder: pathlib.Path, count: int) -> int:
  """Returns the most bytes that Python holds while it sorts one file."""
  folder.mkdir()
  with (folder / "train-0-1").open("wb") as file:
    external_sort.append(file, _entries(count))
  job = pretraining_data.Job(
    examples.Recipe(), "", str(folder), {"train": ["all.tfrecord"]}, 1
  )
  tracemalloc.start()
  pretraining_data.Finish(job, str(folder))(("train", 0))
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert (folder / "all.tfrecord").stat().st_size == 116 * count
  return peak


def test_one_large_file_takes_no_more_memory_than_a_small_one(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  """Earlier, --num_shards=1 held a tuple for every example of the corpus."""
  monkeypatch.setattr(pretraining_data, "_SORT_MEMORY", 1 << 20)
  small, large = (
    _peak(tmp_path / str(count), count) for count in (8_000, 40_000)
  )
  assert large < 1.3 * small


def test_equal_keys_of_many_records_end_in_memory() -> None:
  """Keys that no bit tells apart cannot be spread over files for ever."""
  entries = [(7, bytes([i % 256])) for i in range(2000)]
  ordered = list(external_sort.ordered(entries, None, 1000))
  assert collections.Counter(ordered) == collections.Counter(
    r for _, r in entries
  )
  assert ordered == sorted(ordered)
