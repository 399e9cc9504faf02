"""The pretraining model: its two heads, its losses and its metrics."""

from typing import NamedTuple

import tensorflow as tf
import tf_keras
from official.nlp.modeling import layers

from albert_mn.models import configs, encoders
from data_prep.files import records


class PretrainingOutput(NamedTuple):
  """The logits of the masked-LM head and the sentence head.

  Packed records hold several examples in a row.

  Attributes:
    masked_lm_logits: [batch, predictions, vocab_size].
    sentence_logits: [batch, 2], or [batch, labels, 2] for packed records; class
      0 is "in order".
  """

  masked_lm_logits: tf.Tensor
  sentence_logits: tf.Tensor


class Sums(NamedTuple):
  """Sums over a batch or a part of a batch, from which means are computed.

  The sums of two parts can be added.

  Attributes:
    masked_lm_loss_sum, masked_lm_correct, masked_lm_count: over the masked
      positions; float32 scalars.
    masked_characters: number of characters of the masked pieces; 0 if the
      tokenizer is not known.
    sentence_loss_sum, sentence_correct, sentence_count: over the sentence
      pairs; float32 scalars.
  """

  masked_lm_loss_sum: tf.Tensor
  masked_lm_correct: tf.Tensor
  masked_lm_count: tf.Tensor
  masked_characters: tf.Tensor
  sentence_loss_sum: tf.Tensor
  sentence_correct: tf.Tensor
  sentence_count: tf.Tensor

  def loss(self, counts: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Returns what these sums contribute to the whole batch's loss, a scalar.

    The loss of a batch is the mean over its masked positions plus the mean over
    its sentence pairs; a mean over no position or no pair is 0. The
    contributions of all parts of a batch add up to its loss.

    Args:
      counts: masked positions and sentence pairs of the whole batch (`counts`).
    """
    masked, pairs = counts
    return tf.math.divide_no_nan(
      self.masked_lm_loss_sum, masked
    ) + tf.math.divide_no_nan(self.sentence_loss_sum, pairs)


class PretrainingModel(tf_keras.layers.Layer):
  """The encoder, the masked-LM head and the sentence head.

  Args:
    config: the model's shape.
    seed: seed of the initial weights.
    rematerialize: whether the backward pass computes the activations inside the
      layers again in place of storing them.

  Attributes:
    encoder: albert_mn.models.encoders.AlbertEncoder.
    masked_lm: computes logits of the masked positions from the word embeddings
      (tied, as in google-research/albert's get_masked_lm_output).
    sentence: a dense layer on the pooled output, which tells whether two
      segments are in order.
  """

  def __init__(
    self, config: configs.AlbertConfig, seed: int, rematerialize: bool = False
  ) -> None:
    super().__init__(name="pretraining")
    self.encoder = encoders.AlbertEncoder(config, seed, rematerialize)
    self.masked_lm = layers.MaskedLM(
      self.encoder.embedding_table,
      activation=encoders.activation(config),
      name="masked_lm",
    )
    self.sentence = tf_keras.layers.Dense(2, name="sentence_order")
    with tf.init_scope():
      self.masked_lm(
        tf.zeros([1, 1, config.hidden_size]), tf.zeros([1, 1], tf.int32)
      )
      self.sentence.build([None, config.hidden_size])
    # The encoder uses `seed`, and initialises the table that masked_lm shares.
    encoders.initialize(
      self.masked_lm.dense, config.initializer_range, seed + 1
    )
    encoders.initialize(self.sentence, config.initializer_range, seed + 2)

  def call(
    self,
    features: dict[str, tf.Tensor],
    dropout_seeds: tf.Tensor | None = None,
  ) -> PretrainingOutput:
    """Returns the logits of both heads for a batch, in float32.

    Args:
      features: name → tensor, with the names in data_prep.files.records:
        INPUT_IDS, INPUT_MASK, SEGMENT_IDS, MASKED_LM_POSITIONS and, in packed
        records, NEXT_SENTENCE_POSITIONS.
      dropout_seeds: result of `encoders.example_seeds`; None turns dropout off.
    """
    encoded = self.encoder(
      features[records.INPUT_IDS],
      features[records.INPUT_MASK],
      features[records.SEGMENT_IDS],
      dropout_seeds,
      features.get(records.NEXT_SENTENCE_POSITIONS),
    )
    masked_lm = self.masked_lm(
      encoded.sequence_output, features[records.MASKED_LM_POSITIONS]
    )
    sentence = self.sentence(encoded.pooled_output)
    # The losses are float32 even if the layers compute in bfloat16.
    return PretrainingOutput(
      tf.cast(masked_lm, tf.float32), tf.cast(sentence, tf.float32)
    )

  def parts(self) -> dict[str, tf_keras.layers.Layer]:
    """Returns name → layer of the encoder and the heads.

    Checkpoints save the layers under these names.
    """
    return {
      "encoder": self.encoder,
      "masked_lm": self.masked_lm,
      "sentence": self.sentence,
    }


def counts(features: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns (masked positions, sentence pairs) of a batch, float32 scalars.

  The number of masked positions is the sum of MASKED_LM_WEIGHTS. A sentence
  label of −1 does not count as a pair.
  """
  pairs = features[records.NEXT_SENTENCE_LABELS] >= 0
  return (
    tf.reduce_sum(features[records.MASKED_LM_WEIGHTS]),
    tf.reduce_sum(tf.cast(pairs, tf.float32)),
  )


def losses(
  output: PretrainingOutput,
  features: dict[str, tf.Tensor],
  characters: tf.Tensor | None = None,
) -> Sums:
  """Returns the sums of the losses and of the correct predictions of a batch.

  Args:
    output: the model's logits.
    features: labels, by the names of data_prep.files.records. A sentence label
      of −1 means no pair: it adds nothing to loss, correct predictions and
      count.
    characters: float32 [vocab_size], the number of characters of each piece;
      None if unknown.
  """
  ids = features[records.MASKED_LM_IDS]  # [batch, predictions]
  weights = features[records.MASKED_LM_WEIGHTS]
  masked = tf.nn.sparse_softmax_cross_entropy_with_logits(
    ids, output.masked_lm_logits
  )
  order = features[records.NEXT_SENTENCE_LABELS]  # [batch] or [batch, labels]
  paired = tf.cast(order >= 0, tf.float32)
  sentence = tf.nn.sparse_softmax_cross_entropy_with_logits(
    tf.maximum(order, 0), output.sentence_logits
  )
  return Sums(
    tf.reduce_sum(masked * weights),
    tf.reduce_sum(_hits(output.masked_lm_logits, ids) * weights),
    tf.reduce_sum(weights),
    _characters(ids, weights, characters),
    tf.reduce_sum(sentence * paired),
    tf.reduce_sum(_hits(output.sentence_logits, order) * paired),
    tf.reduce_sum(paired),
  )


def _hits(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
  best = tf.argmax(logits, -1, output_type=labels.dtype)
  return tf.cast(tf.equal(best, labels), tf.float32)


def _characters(
  ids: tf.Tensor, weights: tf.Tensor, characters: tf.Tensor | None
) -> tf.Tensor:
  if characters is None:
    return tf.constant(0.0)
  return tf.reduce_sum(weights * tf.gather(characters, ids))
