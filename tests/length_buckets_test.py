"""Tests that batches of a few static lengths have every text once."""

import collections

import numpy as np
import pytest

from data_prep.encoding import length_buckets

PAD = 7


def _texts(count: int, longest: int) -> list[np.ndarray]:
  rng = np.random.default_rng(1)
  return [
    np.full(size, 100 + index, np.int32)
    for index, size in enumerate(rng.integers(3, longest + 1, count))
  ]


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("count", [1, 5, 32, 99])
def test_every_text_is_in_one_batch_whole_and_padded(
  seed: int | None, count: int
) -> None:
  encoded = _texts(count, 128)
  rng = None if seed is None else np.random.default_rng(seed)
  seen: collections.Counter[int] = collections.Counter()
  batches = list(length_buckets.batches(encoded, 8, 128, PAD, rng))
  assert len(batches) == -(-count // 8)
  for batch in batches:
    assert batch.input_ids.shape == batch.input_mask.shape
    assert batch.input_ids.shape[0] == 8
    assert batch.input_ids.shape[1] in length_buckets.lengths(128)
    for place, row in enumerate(batch.rows):
      seen[int(row)] += 1
      size = len(encoded[row])
      np.testing.assert_array_equal(batch.input_ids[place, :size], encoded[row])
      assert set(batch.input_ids[place, size:]) <= {PAD}
      assert batch.input_mask[place].sum() == size
      assert batch.input_mask[place, :size].all()
    assert batch.weights.tolist() == [
      float(place < len(batch.rows)) for place in range(8)
    ]
  assert seen == collections.Counter(range(count))


def test_short_texts_do_not_pay_for_the_longest() -> None:
  encoded = [np.zeros(10, np.int32)] * 64 + [np.zeros(128, np.int32)] * 8
  shapes = [
    batch.input_ids.shape[1]
    for batch in length_buckets.batches(encoded, 8, 128, PAD)
  ]
  assert shapes == [16] * 8 + [128]


def test_a_few_short_texts_alone_are_not_padded_to_the_maximum() -> None:
  encoded = [np.zeros(10, np.int32)] * 3
  (batch,) = length_buckets.batches(encoded, 8, 512, PAD)
  assert batch.input_ids.shape == (8, 16)


@pytest.mark.parametrize(
  ("maximum", "expected"),
  [
    (8, [8]),
    (16, [16]),
    (32, [16, 24, 32]),
    (100, [16, 24, 32, 48, 64, 96, 100]),
    (128, [16, 24, 32, 48, 64, 96, 128]),
  ],
)
def test_the_lengths_grow_by_a_half_or_a_third_up_to_the_maximum(
  maximum: int, expected: list[int]
) -> None:
  assert length_buckets.lengths(maximum) == expected


def test_the_order_is_a_function_of_the_seed() -> None:
  encoded = _texts(99, 128)
  orders = [
    [
      tuple(batch.rows)
      for batch in length_buckets.batches(
        encoded, 8, 128, PAD, np.random.default_rng(seed)
      )
    ]
    for seed in (3, 3, 4)
  ]
  assert orders[0] == orders[1] != orders[2]


def test_the_partial_batch_does_not_always_come_last() -> None:
  encoded = _texts(99, 128)
  places = {
    next(
      number
      for number, batch in enumerate(
        length_buckets.batches(
          encoded, 8, 128, PAD, np.random.default_rng(seed)
        )
      )
      if len(batch.rows) < 8
    )
    for seed in range(8)
  }
  assert len(places) > 2


def test_a_pairs_second_text_is_marked() -> None:
  encoded = [np.arange(5, dtype=np.int32), np.arange(4, dtype=np.int32)]
  (batch,) = length_buckets.batches(
    encoded, 2, 16, PAD, second_starts=np.array([3, 4])
  )
  assert batch.rows.tolist() == [1, 0]  # the shorter one comes first
  assert batch.segment_ids[1].tolist() == [0, 0, 0, 1, 1] + [0] * 11
  assert not batch.segment_ids[0].any()


@pytest.mark.parametrize("seed", [None, 0])
def test_a_fitted_batch_holds_each_row_and_hardly_any_padding(
  seed: int | None,
) -> None:
  encoded = _texts(99, 128)
  rng = None if seed is None else np.random.default_rng(seed)
  filled, real = 0, sum(map(len, encoded))
  for batch in length_buckets.batches(encoded, 32, 128, PAD, rng):
    rows = 0
    for first, part in length_buckets.fitted(batch):
      assert first == rows
      rows += len(part.rows)
      assert len(part.rows) == len(part.weights) == len(part.input_ids)
      assert part.weights.all()
      for place, row in enumerate(part.rows):
        assert batch.rows[first + place] == row
        size = int(part.input_mask[place].sum())
        assert size == len(encoded[row])
        assert set(part.input_ids[place, :size]) == {100 + row}
      assert part.input_mask.any(axis=0).all()  # no column is padding alone
      filled += part.input_ids.size
    assert rows == len(batch.rows)
  assert filled < 1.25 * real
