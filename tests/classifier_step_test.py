"""Tests that gradients agree: in parts, in buckets, and in the lean step."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.finetune import classifier_step, layer_rates
from albert_mn.runtime import optimization
from albert_mn.tasks import classifier, problems
from data_prep.encoding import length_buckets
from tests import encoders_test

CONFIG = dataclasses.replace(
  encoders_test.CONFIG, num_hidden_layers=2, num_hidden_groups=2
)
PROBLEM = problems.SingleLabel(("a", "b", "c"))
ROWS, PAD = 8, 0


def _examples() -> problems.Examples:
  rng = np.random.default_rng(3)
  sizes = [3, 9, 12, 5, 7, 16, 4, 11]
  return problems.Examples(
    [rng.integers(5, CONFIG.vocab_size, size, np.int32) for size in sizes],
    np.array([2, 5, 12, 3, 7, 9, 4, 6]),
    rng.integers(0, 3, ROWS).astype(np.int32),
    rng.uniform(0.5, 2, ROWS).astype(np.float32),
    PAD,
  )


def _batch(
  examples: problems.Examples, length: int = 16
) -> length_buckets.Batch:
  (batch,) = length_buckets.batches(
    examples.encoded, ROWS, length, PAD, second_starts=examples.second_starts
  )
  return batch


def _optimizer(
  model: classifier.Classifier, decay: float = 1.0
) -> optimization.AdamW:
  recipe = optimization.OptimizerOptions(
    optimizer="adamw", learning_rate=0.01, num_warmup_steps=0
  )
  factors = layer_rates.factors(model, decay)
  return optimization.create(recipe, factors=factors)


def _trained(
  lean_step: bool, parts: int = 1, length: int = 16
) -> tuple[float, list[np.ndarray]]:
  """Returns the loss and the weights after one training step with dropout."""
  model = classifier.Classifier(CONFIG, 3, 0, lean_step)
  step = classifier_step.Step(model, _optimizer(model), PROBLEM, 7, parts)
  examples = _examples()
  loss = float(step(_batch(examples, length), examples))
  return loss, [variable.numpy() for variable in model.trainable_variables]


def test_the_lean_step_in_parts_is_the_step_of_the_layers() -> None:
  expected, before = _trained(lean_step=False)
  loss, weights = _trained(lean_step=True, parts=4)
  assert loss == pytest.approx(expected, rel=1e-5)
  for layer_weight, lean_weight in zip(before, weights, strict=True):
    # Adam's first step is the gradient's sign; where that is nearly 0 it may
    # turn.
    far = np.abs(layer_weight - lean_weight) > 1e-5
    assert far.mean() < 0.002


def test_what_is_read_of_a_text_does_not_depend_on_padding() -> None:
  model = classifier.Classifier(CONFIG, 3, 0)
  examples = _examples()
  whole = _batch(examples, 16)
  forward = classifier.compiled(
    lambda ids, mask, segments: model(ids, mask, None, segments),
    classifier.INPUTS,
  )
  expected = forward(whole.input_ids, whole.input_mask, whole.segment_ids)
  for place, row in enumerate(whole.rows):
    alone = whole.part(place, place + 1, len(examples.encoded[row]))
    logits = forward(alone.input_ids, alone.input_mask, alone.segment_ids)
    np.testing.assert_allclose(logits[0], expected[place], atol=1e-5)


def test_the_second_segment_changes_what_is_read() -> None:
  model = classifier.Classifier(CONFIG, 3, 0)
  batch = _batch(_examples())
  with_segments = model(
    batch.input_ids, batch.input_mask, None, batch.segment_ids
  )
  without_segments = model(batch.input_ids, batch.input_mask)
  assert np.abs(with_segments - without_segments).max() > 1e-5


def test_a_frozen_encoders_head_is_trained_as_if_the_rest_stood_still() -> None:
  model = classifier.Classifier(CONFIG, 3, 0)
  examples, problem = _examples(), PROBLEM
  batch = _batch(examples)
  read = model.features(batch.input_ids, batch.input_mask, batch.segment_ids)
  features = np.zeros(read.shape, np.float32)
  features[batch.rows] = read.numpy()
  step = classifier_step.Step(
    model, _optimizer(model), problem, 7, head_only=True, features=features
  )
  before = [v.numpy() for v in model.encoder.trainable_variables]
  head = model.classifier.kernel.numpy()
  losses = [float(step(batch, examples)) for _ in range(60)]
  assert losses[-1] < 0.8 * losses[0]
  for old, new in zip(before, model.encoder.trainable_variables, strict=True):
    np.testing.assert_array_equal(old, new.numpy())
  assert not np.array_equal(head, model.classifier.kernel.numpy())


def test_layers_further_from_the_head_move_less() -> None:
  model = classifier.Classifier(CONFIG, 3, 0)
  factors = layer_rates.factors(model, 0.5)
  encoder = model.encoder

  def of(*layers: tf.keras.layers.Layer) -> set[float]:
    return {factors[v.ref()] for x in layers for v in x.trainable_variables}

  assert of(model.classifier, encoder.pooler) == {1.0}
  assert [of(*group) for group in encoder.groups] == [{0.25}, {0.5}]
  assert factors[encoder.embedding_table.ref()] == 0.125
  assert of(encoder.projection) == {0.125}
  # Adam's first step has the length of the rate, whatever the gradient's.
  before = {v.ref(): v.numpy() for v in model.trainable_variables}
  _optimizer(model, 0.5).apply_gradients(
    [(tf.ones_like(v), v) for v in model.trainable_variables]
  )
  for variable in model.trainable_variables:
    moved = np.abs(variable.numpy() - before[variable.ref()])
    np.testing.assert_allclose(
      moved, 0.01 * factors[variable.ref()], rtol=0.1, err_msg=variable.name
    )
