"""Tests that sorting pairs of numbers in bounded memory gives sorted() order."""

import itertools
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.files import number_sort
from tests import disk_faults

_NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1])


@settings(deadline=None, max_examples=60)
@given(
  st.lists(st.lists(st.tuples(_NUMBERS, _NUMBERS), max_size=20), max_size=6),
  st.sampled_from([100, 300, 1 << 20]),
)
def test_pairs_come_in_order_and_those_with_an_equal_first_number_together(
  parts: list[list[tuple[int, int]]], memory: int
) -> None:
  with number_sort.Sorter(None, memory) as sorter:
    for part in parts:
      sorter.add(np.array(part, np.uint64).reshape(-1, 2))
    blocks = [list(map(tuple, block.tolist())) for block in sorter.blocks()]
  assert list(itertools.chain(*blocks)) == sorted(itertools.chain(*parts))
  firsts = [{first for first, _ in block} for block in blocks]
  assert all(firsts)
  assert len(set().union(*firsts)) == sum(map(len, firsts))


def test_many_pairs_are_sorted_in_blocks_that_fit_in_memory() -> None:
  chance = np.random.default_rng(0)
  pairs = chance.integers(0, 1 << 64, (50_000, 2), np.uint64)
  with number_sort.Sorter(None, 240_000) as sorter:  # 5,000 pairs
    for begin in range(0, len(pairs), 1234):
      sorter.add(pairs[begin : begin + 1234])
    blocks = list(sorter.blocks())
  assert max(map(len, blocks)) <= 5_000 + 1
  assert (np.concatenate(blocks) == pairs[np.argsort(pairs[:, 0])]).all()


def test_a_full_disk_is_named_and_nothing_stays(tmp_path: pathlib.Path) -> None:
  with (
    disk_faults.full(1 << 12),
    number_sort.Sorter(str(tmp_path), 48_000) as sorter,
    pytest.raises(OSError, match="too large") as refused,
  ):
    sorter.add(np.zeros((1000, 2), np.uint64))
    list(sorter.blocks())
  assert refused.value.filename == str(tmp_path)
  assert not list(tmp_path.iterdir())
