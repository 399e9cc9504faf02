"""Tests that packing examples into rows changes no number."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from albert_mn.models import configs, lean, pretraining
from albert_mn.pretrain import inputs
from data_prep.base import options
from data_prep.files import records
from data_prep.pretraining import masking, packing, pretraining_data
from tests import encoders_test

LENGTH = 256


@given(
  st.lists(st.integers(3, LENGTH), min_size=1, max_size=80), st.integers(0, 9)
)
def test_every_example_has_positions_of_its_own(
  sizes: list[int], seed: int
) -> None:
  lengths = np.array(sizes)
  order = np.random.default_rng(seed).integers(0, 99, len(sizes), np.uint64)
  places = packing.places(lengths, order, LENGTH)
  taken = np.zeros(places.shape[:2], int)
  for row, start, length in zip(places.row, places.start, lengths, strict=True):
    assert start + length <= LENGTH
    taken[row, start : start + length] += 1
  assert taken.max() == 1
  assert (taken[:, 0] == 1).all()
  pairs = set(zip(places.row.tolist(), places.number.tolist(), strict=True))
  assert len(pairs) == len(sizes)
  assert places.number.max() < places.shape[2]
  begins = [places.row[e] for e in places.first()]
  assert begins == list(range(places.shape[0]))
  assert (places.start[places.first()] == 0).all()


def test_rows_are_filled_as_the_best_fit_fills_them() -> None:
  lengths = np.array([40, 30, 24, 20, 14])
  places = packing.places(lengths, np.zeros(5, np.uint64), 64)
  assert places.row.tolist() == [0, 1, 0, 1, 1]
  assert places.start.tolist() == [0, 0, 40, 30, 50]
  assert places.number.tolist() == [0, 0, 1, 1, 2]


def _records(
  udhr: pathlib.Path, tokenizer_file: str, folder: pathlib.Path, **how: object
) -> inputs.RecordSet:
  pretraining_data.create(
    pretraining_data.Options(
      input_file=str(udhr),
      spm_model_file=tokenizer_file,
      output_dir=str(folder),
      max_seq_length=LENGTH,
      dupe_factor=4,
      num_shards=1,
      num_workers=1,
      **how,  # type: ignore[arg-type]
    )
  )
  return inputs.record_set(f"{folder}/train-*")


@pytest.fixture(scope="module")
def packed(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> inputs.RecordSet:
  folder = tmp_path_factory.mktemp("packed")
  return _records(udhr, tokenizer_file, folder, pack_sequences=True)


def _all(record_set: inputs.RecordSet) -> dict[str, np.ndarray]:
  serialized = list(tf.data.TFRecordDataset(list(record_set.files)))
  batch = records.parse_pretraining(tf.stack(serialized), record_set.shape)
  return {name: value.numpy() for name, value in batch.items()}


def test_packed_records_hold_the_text_of_unpacked_ones(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
  packed: inputs.RecordSet,
) -> None:
  unpacked, packed_batch = (
    _all(_records(udhr, tokenizer_file, tmp_path)),
    _all(packed),
  )

  def seen(batch: dict[str, np.ndarray]) -> list[tuple[int, ...]]:
    ids = batch["input_ids"].copy()
    row, slot = np.nonzero(batch["masked_lm_weights"])
    ids[row, batch["masked_lm_positions"][row, slot]] = batch["masked_lm_ids"][
      row, slot
    ]
    return sorted(
      tuple(line[numbers == n].tolist())
      for line, numbers in zip(ids, batch["input_mask"], strict=True)
      for n in range(1, numbers.max() + 1)
    )

  assert seen(unpacked) == seen(packed_batch)
  assert len(packed_batch["input_ids"]) < 0.9 * len(unpacked["input_ids"])
  labels = [
    np.sort(b["next_sentence_labels"], None) for b in (unpacked, packed_batch)
  ]
  first, second = (values[values >= 0] for values in labels)
  assert np.array_equal(first, second)


def test_segments_of_a_row_are_told_apart_so_that_no_ngram_crosses() -> None:
  numbers, segments = np.array([[1, 1, 2, 2, 3]]), np.array([[0, 1, 0, 1, 0]])
  assert len(set(masking.segments(numbers, segments)[0].tolist())) == 5


def test_masks_are_on_text_and_labels_have_their_cls(
  packed: inputs.RecordSet,
) -> None:
  batch = _all(packed)
  row, slot = np.nonzero(batch["masked_lm_weights"])
  place = batch["masked_lm_positions"][row, slot]
  assert (batch["input_mask"][row, place] > 0).all()
  share = len(row) / (batch["input_mask"] > 0).sum()
  assert 0.12 < share < 0.15
  firsts = batch["next_sentence_positions"]
  numbers = np.take_along_axis(batch["input_mask"], firsts, 1)
  there = np.arange(firsts.shape[1]) < batch["input_mask"].max(1)[:, None]
  assert (numbers[there] == (np.nonzero(there)[1] + 1)).all()
  cls_id = packed.parameters["cls_id"]
  starts = np.take_along_axis(batch["input_ids"], firsts, 1)
  assert (starts[there] == cls_id).all()


def _unpacked(row: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
  """Returns the examples of a packed row, each in a row of its own."""
  numbers = row["input_mask"]
  count, length = int(numbers.max()), len(numbers)
  predictions = len(row["masked_lm_ids"])
  batch = {
    name: np.zeros([count, length], np.int32)
    for name in ("input_ids", "input_mask", "segment_ids")
  }
  for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
    batch[name] = np.zeros([count, predictions], row[name].dtype)
  batch["next_sentence_labels"] = row["next_sentence_labels"][:count]
  for example in range(count):
    (columns,) = np.nonzero(numbers == example + 1)
    begin = columns[0]
    for name in ("input_ids", "segment_ids"):
      batch[name][example, : len(columns)] = row[name][columns]
    batch["input_mask"][example, : len(columns)] = 1
    mine = (numbers[row["masked_lm_positions"]] == example + 1) & (
      row["masked_lm_weights"] == 1
    )
    for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
      shift = begin if name == "masked_lm_positions" else 0
      batch[name][example, : mine.sum()] = row[name][mine] - shift
  return {name: tf.constant(value) for name, value in batch.items()}


@pytest.mark.parametrize("step", ["layers", "lean"])
def test_a_packed_row_has_the_losses_and_gradients_of_its_examples(
  packed: inputs.RecordSet, step: str
) -> None:
  config = dataclasses.replace(
    encoders_test.CONFIG, vocab_size=400, max_position_embeddings=LENGTH
  )
  model = pretraining.PretrainingModel(config, 0)
  forward = model if step == "layers" else lean.Lean(model, False)
  batch = _all(packed)
  row = int(batch["input_mask"].max(1).argmax())
  fullest = {name: value[row] for name, value in batch.items()}
  assert fullest["input_mask"].max() >= 3
  outcomes = [
    _loss(model, forward, features)
    for features in (
      {name: tf.constant(value[None]) for name, value in fullest.items()},
      _unpacked(fullest),
    )
  ]
  (sums, gradients), (same_sums, same) = outcomes
  np.testing.assert_allclose(sums, same_sums, rtol=1e-5)
  for a, b in zip(gradients, same, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max() + 1e-7)


def _loss(
  model: pretraining.PretrainingModel,
  forward: pretraining.PretrainingModel | lean.Lean,
  features: dict[str, tf.Tensor],
) -> tuple[np.ndarray, list[np.ndarray]]:
  with tf.GradientTape() as tape:
    sums = pretraining.losses(forward(features), features)
    loss = sums.masked_lm_loss_sum + sums.sentence_loss_sum
  gradients = tape.gradient(loss, model.trainable_variables)
  return np.array(sums), [tf.convert_to_tensor(g).numpy() for g in gradients]


def test_permuted_words_are_not_packed(
  udhr: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(options.InputError, match="leave one out"):
    _records(
      udhr, tokenizer_file, tmp_path, pack_sequences=True, do_permutation=True
    )


def test_dynamic_masks_stay_inside_of_packed_examples(
  udhr: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  record_set = _records(
    udhr, tokenizer_file, tmp_path, pack_sequences=True, masking="dynamic"
  )
  dataset = inputs.train_dataset(
    record_set, record_set.count(), inputs.Share(4), 3, 0
  )
  (batch,) = dataset.take(1)
  assert batch["next_sentence_positions"].shape == [4, record_set.shape.labels]
  numbers = tf.gather(
    batch["input_mask"], batch["masked_lm_positions"], batch_dims=1
  )
  weights = batch["masked_lm_weights"]
  assert float(tf.reduce_sum(weights)) > 4
  assert bool(tf.reduce_all((weights == 0) | (numbers > 0)))


def test_configs_of_both_families_take_packed_rows(
  packed: inputs.RecordSet,
) -> None:
  config = configs.BertConfig(
    vocab_size=400,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    hidden_act="gelu",
    max_position_embeddings=LENGTH,
    type_vocab_size=2,
  )
  model = pretraining.PretrainingModel(config, 0)
  batch = {n: tf.constant(v[:2]) for n, v in _all(packed).items()}
  output = model(batch)
  assert output.sentence_logits.shape == [2, packed.shape.labels, 2]
