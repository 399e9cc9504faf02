"""Tests that the lean step has the losses and gradients of the layers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.models import configs, lean, pretraining
from tests import encoders_test

ALBERT = dataclasses.replace(
  encoders_test.CONFIG, num_hidden_groups=3, inner_group_num=2
)
BERT = configs.BertConfig(
  vocab_size=200,
  hidden_size=32,
  num_hidden_layers=2,
  num_attention_heads=4,
  intermediate_size=64,
  hidden_act="relu",
  max_position_embeddings=32,
  type_vocab_size=2,
  layer_norm_eps=1e-5,
)


def _sums(
  forward: pretraining.PretrainingModel | lean.Lean,
  model: pretraining.PretrainingModel,
  dropped: bool,
) -> tuple[float, list[np.ndarray]]:
  features = encoders_test._features(4)
  features["input_mask"] = tf.sequence_mask([16, 13, 16, 10], 16, tf.int32)
  seeds = encoders_test._seeds([1, 2], 4) if dropped else None
  with tf.GradientTape() as tape:
    sums = pretraining.losses(forward(features, seeds), features)
    loss = sums.masked_lm_loss_sum + sums.sentence_loss_sum
  gradients = tape.gradient(loss, model.trainable_variables)
  return float(loss), [tf.convert_to_tensor(g).numpy() for g in gradients]


@pytest.mark.parametrize("config", [ALBERT, BERT], ids=["ALBERT", "BERT"])
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_losses_and_gradients_are_those_of_the_layers(
  config: configs.AlbertConfig, dropped: bool, jit_compile: bool
) -> None:
  model = pretraining.PretrainingModel(config, 0)
  for number, variable in enumerate(model.trainable_variables):
    # Biases of 0 and norms of 1 would hide what is forgotten.
    noise = tf.random.stateless_normal(variable.shape, [7, number])
    variable.assign_add(0.1 * noise)
  loss, gradients = _sums(model, model, dropped)
  same_loss, same = _sums(lean.Lean(model, jit_compile), model, dropped)
  assert same_loss == pytest.approx(loss, rel=1e-5)
  for variable, layer_gradient, lean_gradient in zip(
    model.trainable_variables, gradients, same, strict=True
  ):
    scale = np.abs(layer_gradient).max()
    assert (
      np.abs(layer_gradient - lean_gradient).max() <= 1e-5 * scale + 1e-7
    ), variable.name
