"""Tests that masks made in training depend on (seed, step, row) alone."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.pretrain import inputs
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import records
from data_prep.pretraining import dynamic_masking, masking
from tests import conftest

LENGTH = conftest.DYNAMIC_LENGTH
ROWS = np.arange(8)


def _found(folder: pathlib.Path, pattern: str) -> inputs.RecordSet:
  return inputs.record_set(f"{folder}/{pattern}")


def _batches(
  folder: pathlib.Path, step: int, count: int, seed: int = 3
) -> list[dict[str, np.ndarray]]:
  record_set = _found(folder, "train-*")
  dataset = inputs.train_dataset(
    record_set, record_set.count(), inputs.Share(8), seed, step
  )
  return list(dataset.take(count).as_numpy_iterator())


def test_training_records_have_no_masks_and_held_out_ones_have(
  dynamic_records: pathlib.Path,
) -> None:
  assert _found(dynamic_records, "train-*").shape.max_predictions_per_seq == 0
  held_out = _found(dynamic_records, "eval-*")
  assert held_out.shape.max_predictions_per_seq == 5
  (raw,) = tf.data.TFRecordDataset(list(held_out.files)).take(1)
  features = records.parse_pretraining(raw[None], held_out.shape)
  assert features["masked_lm_weights"].numpy().sum() > 0


def test_a_batch_has_the_shapes_and_names_of_a_static_one(
  dynamic_records: pathlib.Path,
) -> None:
  record_set = _found(dynamic_records, "train-*")
  dataset = inputs.train_dataset(
    record_set, record_set.count(), inputs.Share(8), 3, 0
  )
  shapes = {n: s.shape.as_list() for n, s in dataset.element_spec.items()}
  assert shapes == {
    "input_ids": [8, LENGTH],
    "input_mask": [8, LENGTH],
    "rows": [8],
    "segment_ids": [8, LENGTH],
    "masked_lm_positions": [8, 5],
    "masked_lm_ids": [8, 5],
    "masked_lm_weights": [8, 5],
    "next_sentence_labels": [8],
  }


def test_masks_from_a_step_on_are_those_of_an_unbroken_run(
  dynamic_records: pathlib.Path,
) -> None:
  whole, resumed = (
    _batches(dynamic_records, 0, 9),
    _batches(dynamic_records, 4, 5),
  )
  for batch, resumed_batch in zip(whole[4:], resumed, strict=True):
    for name, value in batch.items():
      np.testing.assert_array_equal(value, resumed_batch[name], name)


def test_another_step_seed_or_row_has_other_masks(
  dynamic_records: pathlib.Path, tokenizer_file: str
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  record_set = _found(dynamic_records, "train-*")
  (raw,) = tf.data.TFRecordDataset(list(record_set.files)).batch(8).take(1)
  parsed = records.parse_pretraining(raw, records.Shape(LENGTH, 0))
  full = int(parsed[records.INPUT_MASK].numpy().sum(1).argmax())
  features = {
    name: np.repeat(value.numpy()[full : full + 1], 8, axis=0)
    for name, value in parsed.items()
  }
  how, _ = inputs._masks(record_set, 3)
  first = dynamic_masking.mask(features, 5, ROWS, how, tokenizer)
  again = dynamic_masking.mask(features, 5, ROWS, how, tokenizer)
  np.testing.assert_array_equal(first.ids, again.ids)
  next_step = dynamic_masking.mask(features, 6, ROWS, how, tokenizer)
  seeded = dynamic_masking.mask(
    features, 5, ROWS, dataclasses.replace(how, seed=4), tokenizer
  )
  for masks in (next_step, seeded):
    assert (masks.positions != first.positions).any(axis=1).mean() > 0.5
  rows = {tuple(row) for row in first.positions.tolist()}
  assert len(rows) > 4, "rows of one text are masked differently"


def test_the_masked_text_is_the_text_with_masks_of_whole_words(
  dynamic_records: pathlib.Path, tokenizer_file: str
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  record_set = _found(dynamic_records, "train-*")
  plain = inputs._parsed(
    tf.data.TFRecordDataset(list(record_set.files)).batch(64), record_set
  )
  how, _ = inputs._masks(record_set, 3)
  masked = pieces = hidden = checked = 0
  for step, batch in enumerate(plain.as_numpy_iterator()):
    places = np.arange(len(batch["input_ids"]))
    result = dynamic_masking.mask(batch, step, places, how, tokenizer)
    restored = result.ids.copy()
    rows, slots = np.nonzero(result.weights)
    places = result.positions[rows, slots]
    hidden += (result.ids[rows, places] == tokenizer.mask_id).sum()
    restored[rows, places] = result.targets[rows, slots]
    np.testing.assert_array_equal(restored, batch["input_ids"])
    chosen = np.zeros(restored.shape, bool)
    chosen[rows, places] = True
    text = ~tokenizer.special[batch["input_ids"]]
    inside = text[:, 1:] & ~tokenizer.word_starts[batch["input_ids"][:, 1:]]
    inside &= text[:, :-1]
    # Five pieces are masked at most. In a row of longer words alone, pieces are.
    sizes = text.sum(1, keepdims=True)
    inside &= sizes <= 5 * (sizes - inside.sum(1, keepdims=True))
    checked += inside.sum()
    assert (chosen[:, 1:] == chosen[:, :-1])[inside].all()
    assert not chosen[~text & (batch["input_ids"] != tokenizer.unk_id)].any()
    masked, pieces = masked + len(rows), pieces + text.sum()
  assert checked > 0.3 * pieces
  assert 0.12 < masked / pieces < 0.17
  assert 0.7 < hidden / masked < 0.9


def test_dynamic_records_without_their_manifest_are_refused(
  dynamic_records: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  for path in dynamic_records.glob("train-*"):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  with pytest.raises(options.InputError, match=r"keep manifest.json"):
    _found(tmp_path, "train-*")


def test_masks_are_those_of_static_records_for_the_same_keys(
  dynamic_records: pathlib.Path, tokenizer_file: str
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  how = masking.Settings(0.15, 5, True, 3, True, 3)
  record_set = _found(dynamic_records, "train-*")
  (raw,) = tf.data.TFRecordDataset(list(record_set.files)).batch(8).take(1)
  features = {
    name: value.numpy()
    for name, value in records.parse_pretraining(
      raw, records.Shape(LENGTH, 0)
    ).items()
  }
  ids = features["input_ids"].astype(np.int64)
  text = ~np.isin(ids, (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id))
  keys = np.zeros((8, 3), np.uint64)
  keys[:, 0], keys[:, 1] = 7, np.arange(8)
  static = masking.mask(
    ids,
    text,
    features["segment_ids"].astype(np.int64),
    tokenizer.word_starts[ids],
    keys,
    how,
    mask_id=tokenizer.mask_id,
    ordinary_ids=np.nonzero(~tokenizer.special)[0],
  )
  dynamic = dynamic_masking.mask(features, 7, ROWS, how, tokenizer)
  np.testing.assert_array_equal(static.ids, dynamic.ids)
  np.testing.assert_array_equal(static.positions, dynamic.positions)
