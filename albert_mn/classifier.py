"""A classifier on the encoder, and texts in, label scores out.

As in the BERT and ALBERT papers: one dense layer on the pooled `[CLS]`
position.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging

from albert_mn import configs, encoders, model_directory
from data_prep import length_buckets, manifest, storage, tokenization

KIND = "classifier"

# The head's place in dropout's seed; the encoder's are 0 to 3 and from 16.
_HEAD = 4


class Classifier(tf_keras.layers.Layer):
  """The encoder, dropout, and one dense layer on the pooled position.

  Args:
    config: the encoder's shape; its hidden_dropout_prob is the head's too.
    num_labels: outputs.
    seed: of the initial weights.
  """

  def __init__(self, config: configs.AlbertConfig, num_labels: int, seed: int):
    super().__init__(name="classifier_model")
    self.encoder = encoders.AlbertEncoder(config, seed)
    self.classifier = tf_keras.layers.Dense(
      num_labels,
      # google-research/albert's run_classifier: truncated normal of 0.02.
      kernel_initializer=tf_keras.initializers.TruncatedNormal(
        stddev=0.02, seed=seed
      ),
      name="classifier",
    )
    self.classifier.build([None, config.hidden_size])
    self._dropout = encoders.StatelessDropout(config.hidden_dropout_prob, _HEAD)

  def call(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    dropout_seeds: tf.Tensor | None = None,
  ) -> tf.Tensor:
    """Gives logits.

    Args:
      input_ids: [batch, length] int32.
      input_mask: [batch, length] int32, 1 on pieces.
      dropout_seeds: of `encoders.example_seeds`; None drops nothing.

    Returns:
      [batch, num_labels] float32.
    """
    pooled = self.encoder(
      input_ids, input_mask, tf.zeros_like(input_ids), dropout_seeds
    ).pooled_output  # [batch, hidden]
    self._dropout.set_seed(dropout_seeds)
    return self.classifier(self._dropout(pooled))

  def parts(self) -> dict[str, Any]:
    """What a model directory holds, under the names `restore` asks for."""
    return {"encoder": self.encoder, "classifier": self.classifier}


class Predictor:
  """Texts in, label scores out.

    predictor = Predictor.load("runs/tweets/model")
    predictor.probabilities(["сайн байна уу"])  # [[0.93, 0.07]]

  Attributes:
    names: the labels, in the order of the scores.
    manifest: the model directory's.
    model, tokenizer, max_seq_length: what it computes with.
  """

  def __init__(
    self,
    model: Classifier,
    tokenizer: tokenization.Tokenizer,
    names: Sequence[str],
    max_seq_length: int,
    manifest: dict[str, Any] | None = None,
  ):
    self.names = list(names)
    self.manifest = manifest or {}
    self._tokenizer, self._max_seq_length = tokenizer, max_seq_length
    self.model, self.tokenizer = model, tokenizer
    self.max_seq_length = max_seq_length
    self._forward = tf.function(model.call)

  @classmethod
  def load(cls, folder: str) -> "Predictor":
    """Reads a classifier's model directory; nothing else is needed."""
    described = manifest.check(folder, KIND)
    parameters = described["parameters"]
    config = model_directory.config(folder)
    assert config, "the manifest lists it"
    names = json.loads(
      storage.read_text(os.path.join(folder, model_directory.LABELS))
    )
    model = Classifier(config, len(names), seed=0)
    model_directory.restore(folder, **model.parts())
    tokenizer = tokenization.Tokenizer(
      os.path.join(folder, model_directory.TOKENIZER),
      do_lower_case=parameters["do_lower_case"],
    )
    length = parameters["max_seq_length"]
    return cls(model, tokenizer, names, length, described)

  def logits(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
    """Returns [texts, labels] float32, in the order of the texts."""
    encoded, _ = length_buckets.encode(
      self._tokenizer, texts, self._max_seq_length
    )
    found = np.zeros((len(texts), len(self.names)), np.float32)
    for batch in length_buckets.batches(
      encoded, batch_size, self._max_seq_length, self._tokenizer.pad_id
    ):
      scores = self._forward(
        tf.constant(batch.input_ids), tf.constant(batch.input_mask)
      )
      found[batch.rows] = scores.numpy()[: len(batch.rows)]
    return found

  def report_cut(self, texts: Sequence[str]) -> None:
    """Logs how many of the texts are longer than what the model reads."""
    _, cut = length_buckets.encode(self._tokenizer, texts, self._max_seq_length)
    report_cut(cut, len(texts), self._max_seq_length)

  def best(self, texts: Sequence[str], batch_size: int = 32) -> list[str]:
    """Returns the likeliest label of each text."""
    scores = self.logits(texts, batch_size)
    return [self.names[index] for index in scores.argmax(axis=1)]

  def probabilities(
    self, texts: Sequence[str], batch_size: int = 32
  ) -> np.ndarray:
    """Returns [texts, labels] float64 whose rows sum to 1."""
    return np.exp(log_softmax(self.logits(texts, batch_size)))


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """Returns [rows, labels] float64, the logarithms of the probabilities."""
  shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def report_cut(cut: int, texts: int, max_seq_length: int) -> None:
  """Logs how many texts lose their ends."""
  if cut:
    logging.info(
      "%d of %d texts are longer than %d pieces: their ends are not read",
      cut,
      texts,
      max_seq_length,
    )
