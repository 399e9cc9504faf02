"""Tests of the encoder: dropout by seed, XLA, padding, groups, learning."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.models import configs, encoders, pretraining
from albert_mn.runtime import optimization
from data_prep.base import options
from data_prep.encoding import framing

CONFIG = configs.AlbertConfig(
  vocab_size=200,
  embedding_size=16,
  hidden_size=32,
  num_hidden_layers=3,
  num_attention_heads=4,
  intermediate_size=64,
  max_position_embeddings=32,
  hidden_dropout_prob=0.2,
  attention_probs_dropout_prob=0.2,
)


def _features(rows: int, seed: int = 0) -> dict[str, tf.Tensor]:
  rng = np.random.default_rng(seed)
  ids = rng.integers(5, CONFIG.vocab_size, (rows, 16))
  return {
    "input_ids": tf.constant(ids, tf.int32),
    "input_mask": tf.ones([rows, 16], tf.int32),
    "segment_ids": tf.constant([[0] * 8 + [1] * 8] * rows, tf.int32),
    "masked_lm_positions": tf.constant([[3, 9, 12]] * rows, tf.int32),
    "masked_lm_ids": tf.constant(rng.integers(5, 200, (rows, 3)), tf.int32),
    "masked_lm_weights": tf.ones([rows, 3]),
    "next_sentence_labels": tf.constant(rng.integers(0, 2, rows), tf.int32),
  }


def _seeds(seed: list[int], rows: int) -> tf.Tensor:
  first, step = seed
  return encoders.example_seeds(first, tf.constant(step), tf.range(rows))


def _encoded(
  encoder: encoders.AlbertEncoder, seed: list[int] | None
) -> encoders.EncoderOutput:
  features = _features(2)
  return encoder(
    features["input_ids"],
    features["input_mask"],
    features["segment_ids"],
    None if seed is None else _seeds(seed, 2),
  )


def _gradients(
  model: pretraining.PretrainingModel,
  features: dict[str, tf.Tensor],
  seed: tf.Tensor | None,
) -> tuple[pretraining.Sums, list[tf.Tensor]]:
  with tf.GradientTape() as tape:
    sums = pretraining.losses(model(features, seed), features)
    loss = (
      sums.masked_lm_loss_sum / sums.masked_lm_count
      + sums.sentence_loss_sum / sums.sentence_count
    )
  gradients = tape.gradient(loss, model.trainable_variables)
  return sums, [tf.convert_to_tensor(g) for g in gradients]


def test_weights_depend_on_the_seed_alone() -> None:
  first, again, reseeded = (
    pretraining.PretrainingModel(CONFIG, seed) for seed in (1, 1, 2)
  )
  for weight, same, different in zip(
    first.weights, again.weights, reseeded.weights, strict=True
  ):
    np.testing.assert_array_equal(weight.numpy(), same.numpy(), weight.name)
    if "kernel" in weight.name or weight.name.endswith("embeddings:0"):
      assert not np.array_equal(weight.numpy(), different.numpy()), weight.name
  query, key = (
    variable.numpy()
    for variable in first.weights
    if "query/kernel" in variable.name or "key/kernel" in variable.name
  )
  assert not np.array_equal(query, key), "no two kernels are alike"


def test_dropout_is_a_function_of_its_seed() -> None:
  encoder = encoders.AlbertEncoder(CONFIG, 0)
  same = [_encoded(encoder, [3, 4]).sequence_output.numpy() for _ in range(2)]
  np.testing.assert_array_equal(*same)
  for seed in ([3, 5], [2, 4], None):
    different = _encoded(encoder, seed).sequence_output.numpy()
    assert not np.array_equal(same[0], different)
  whole = [_encoded(encoder, None).sequence_output.numpy() for _ in range(2)]
  np.testing.assert_array_equal(*whole)


def test_layers_that_share_weights_drop_different_units(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  dropout = encoders.StatelessDropout(0.5, 0)
  block = encoders.AlbertEncoder(CONFIG, 0)
  seeds: list[np.ndarray] = []
  shared = block.groups[0][0]

  def noted(drawn: Any) -> None:
    seeds.append(drawn.numpy())

  monkeypatch.setattr(shared, "set_seed", noted)
  _encoded(block, [3, 4])
  assert len({tuple(seed[0]) for seed in seeds}) == CONFIG.num_hidden_layers
  masks = []
  for seed in seeds:
    dropout.set_seed(tf.constant(seed))
    masks.append(dropout(tf.ones([2, 1000])).numpy() == 0)
  for mask in masks:
    assert 0.4 < mask.mean() < 0.6
  assert 0.4 < (masks[0] != masks[1]).mean() < 0.6


def test_an_example_drops_the_same_units_wherever_it_stands_in_a_part() -> None:
  seeds = _seeds([7, 9], 6)
  shape = tf.constant([6, 4, 5])
  whole = encoders.random_bits(shape, seeds, 1).numpy()
  part = encoders.random_bits(tf.constant([2, 4, 5]), seeds[3:5], 1).numpy()
  np.testing.assert_array_equal(whole[3:5], part)
  assert len(np.unique(whole)) == whole.size


@pytest.mark.parametrize(
  "shape", [(2, framing.LONGEST, framing.LONGEST), (256, 8, 8)]
)
def test_no_two_places_of_the_largest_attention_share_their_bits(
  shape: tuple[int, int, int],
) -> None:
  """In a bug report neighbouring rows shared them.

  It is "Right where it is silently wrong". The bits are a bijection of a
  place's number, given the example's seed.
  """
  places = encoders._places(tf.constant([1, *shape])).numpy()
  seen = np.sort(places.view(np.uint32))
  assert len(seen) == np.prod(shape)
  assert (seen[1:] != seen[:-1]).all()


@pytest.mark.parametrize(
  "shape",
  [(1, 1, 1, 4097), (1, 1, 4097, 1), (1, 257, 2, 2), (4, 2, 8192, 8192)],
)
@pytest.mark.parametrize("traced", [False, True])
def test_attention_whose_places_would_share_their_bits_is_refused(
  shape: tuple[int, ...], traced: bool
) -> None:
  def drop() -> tf.Tensor:
    seeds = tf.zeros([shape[0], 2], tf.uint32)
    return encoders.random_bits(tf.constant(shape), seeds, 0)

  with pytest.raises(
    options.InputError, match="at most 256 heads and 4,096 pi"
  ):
    tf.function(drop, autograph=False)() if traced else drop()


def test_rematerialised_layers_have_the_same_gradients() -> None:
  features, seeds = _features(4), _seeds([1, 2], 4)
  kept, again = (
    tf.function(_gradients)(
      pretraining.PretrainingModel(CONFIG, 0, rematerialize), features, seeds
    )
    for rematerialize in (False, True)
  )
  for a, b in zip(tf.nest.flatten(kept), tf.nest.flatten(again), strict=True):
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_xla_compiles_the_step_and_gives_the_same_numbers() -> None:
  model, features = pretraining.PretrainingModel(CONFIG, 0), _features(4)
  seed = _seeds([1, 2], 4)
  plain = tf.function(_gradients)(model, features, seed)
  compiled = tf.function(_gradients, jit_compile=True)(model, features, seed)
  for a, b in zip(
    tf.nest.flatten(plain), tf.nest.flatten(compiled), strict=True
  ):
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-4, atol=2e-5)


def test_padding_does_not_reach_the_pieces() -> None:
  encoder = encoders.AlbertEncoder(CONFIG, 0)
  ids = tf.constant([[2, 9, 8, 7, 3]])
  ones, zeros = tf.ones_like(ids), tf.zeros_like(ids)
  short = encoder(ids, ones, zeros)
  wide = encoder(
    tf.concat([ids, [[55, 66, 77]]], 1),
    tf.concat([ones, [[0, 0, 0]]], 1),
    tf.concat([zeros, [[0, 0, 0]]], 1),
  )
  np.testing.assert_allclose(
    wide.sequence_output[:, :5], short.sequence_output, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize(("groups", "inner"), [(1, 1), (3, 1), (1, 2)])
def test_groups_have_weights_of_their_own_and_layers_share(
  groups: int, inner: int
) -> None:
  config = dataclasses.replace(
    CONFIG, num_hidden_groups=groups, inner_group_num=inner
  )
  encoder = encoders.AlbertEncoder(config, 0)
  queries = [v for v in encoder.weights if "query/kernel" in v.name]
  assert len(queries) == groups * inner
  assert len(_encoded(encoder, None).layer_outputs) == 3


def test_a_missing_pair_counts_in_no_sum() -> None:
  model, features = pretraining.PretrainingModel(CONFIG, 0), _features(3)
  output = model(features)
  labels = features["next_sentence_labels"].numpy()
  labels[1] = -1
  features["next_sentence_labels"] = tf.constant(labels)
  sums = pretraining.losses(output, features)
  kept = [0, 2]
  want = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels[kept], tf.gather(output.sentence_logits, kept)
  )
  assert float(sums.sentence_count) == 2
  np.testing.assert_allclose(
    sums.sentence_loss_sum, tf.reduce_sum(want), rtol=1e-6
  )


def test_the_model_overfits_32_examples() -> None:
  config = dataclasses.replace(
    CONFIG,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,
  )
  model, features = pretraining.PretrainingModel(config, 0), _features(32)
  optimizer = optimization.create(
    optimization.OptimizerOptions(
      optimizer="adamw",
      learning_rate=5e-3,
      num_train_steps=400,
      num_warmup_steps=20,
    )
  )
  optimizer.build(model.trainable_variables)

  @tf.function
  def step() -> pretraining.Sums:
    sums, gradients = _gradients(model, features, None)
    optimizer.apply_gradients(
      zip(gradients, model.trainable_variables, strict=True)
    )
    return sums

  first = step()
  for _ in range(399):
    last = step()
  assert float(first.masked_lm_loss_sum) / 96 > 5
  assert float(last.masked_lm_loss_sum) / 96 < 0.1
  assert float(last.masked_lm_correct) == 96
  assert float(last.sentence_correct) == 32
