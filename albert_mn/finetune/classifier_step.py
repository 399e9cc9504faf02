"""One training step of fine-tuning, with gradient accumulation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn.models import encoders
from albert_mn.runtime import optimization
from albert_mn.tasks import classifier, problems
from data_prep.encoding import length_buckets


def trained(model: classifier.Classifier, head_only: bool) -> list[tf.Variable]:
  """Returns the variables to train: all of the model, or only the head's.

  Args:
    model: the classifier.
    head_only: whether only the head is trained.
  """
  return (model.classifier if head_only else model).trainable_variables


class Step:
  """Trains a classifier on one batch per call.

  Args:
    model: the model to train.
    optimizer: updates the weights; its `iterations` is the global step.
    problem: defines the loss.
    seed: dropout is a function of the seed and the step.
    parts: number of parts of a batch whose gradients are computed one after the
      other and added up (gradient accumulation); it divides the batch size.
    head_only: whether only the head is trained.
    features: [inputs, hidden], the pooled vectors of a frozen encoder; None
      computes the encoder in every step.
    fit: whether padding is cut off on a CPU, which changes the gradients only
      by rounding.
  """

  def __init__(
    self,
    model: classifier.Classifier,
    optimizer: optimization.AdamW,
    problem: problems.Problem,
    seed: int,
    parts: int = 1,
    head_only: bool = False,
    features: np.ndarray | None = None,
    fit: bool = True,
  ) -> None:
    self._model, self._optimizer, self._problem = model, optimizer, problem
    self._seed, self._parts, self._features = seed, parts, features
    self._fit = fit and features is None
    self._variables = trained(model, head_only)
    optimizer.build(self._variables)
    self._gradients = self._compiled()
    self._apply = tf.function(self._applied)

  def _compiled(self) -> Any:
    """Returns the compiled function that computes loss and gradients of rows.

    The function is `_of_inputs`; with a frozen encoder it is `_of_features`.
    """
    problem = self._problem
    targets = tf.TensorSpec([None] * problem.RANK, tf.as_dtype(problem.DTYPE))
    common = (
      targets,
      tf.TensorSpec([None], tf.float32),
      tf.TensorSpec([], tf.float32),
      tf.TensorSpec([], tf.int32),
    )
    if self._features is None:
      return classifier.compiled(self._of_inputs, (*common, *classifier.INPUTS))
    features = tf.TensorSpec([None, self._features.shape[1]], tf.float32)
    return classifier.compiled(self._of_features, (*common, features))

  def __call__(
    self, batch: length_buckets.Batch, examples: problems.Examples
  ) -> tf.Tensor:
    """Trains on a batch; returns its weighted mean loss, a scalar tensor.

    Args:
      batch: the batch; its `rows` are indices into `examples`.
      examples: the targets and weights of all inputs.
    """
    total = tf.constant(examples.weights[batch.rows].sum())
    loss, sums = 0.0, None
    for first, part in self._cut(batch):
      rows = np.zeros(len(part.weights), np.int64)
      rows[: len(part.rows)] = part.rows
      targets = self._problem.filled(
        examples.targets, rows, part.input_ids.shape
      )
      part_loss, gradients = self._gradients(
        tf.constant(targets),
        tf.constant(part.weights * examples.weights[rows]),
        total,
        tf.constant(first),
        *map(tf.constant, self._inputs(part, rows)),
      )
      loss += part_loss
      sums = (
        [a + b for a, b in zip(sums, gradients, strict=True)]
        if sums
        else gradients
      )
    self._apply(sums)
    return loss

  def _inputs(
    self, batch: length_buckets.Batch, rows: np.ndarray
  ) -> list[np.ndarray]:
    """Returns the input arrays of the encoder, or of the head, for some rows.

    For the encoder the arrays are ids, mask and segments, each [rows, length].
    If the encoder is frozen, the array is the pooled vectors for the head,
    [rows, hidden].

    Args:
      batch: the rows, a part of a batch.
      rows: indices of the rows among all inputs of the training.
    """
    if self._features is not None:
      return [self._features[rows]]
    return [batch.input_ids, batch.input_mask, batch.segment_ids]

  def _cut(
    self, batch: length_buckets.Batch
  ) -> Iterator[tuple[int, length_buckets.Batch]]:
    """Yields (index of the first row, part) for each part of a batch.

    The number of parts is the argument `parts` of Step. With the argument `fit`
    a part may be divided further, so that padding can be cut off on a CPU.
    """
    size = len(batch.weights) // self._parts
    for first in range(0, len(batch.weights), size):
      part = batch.part(first, first + size)
      for start, fit in classifier.fitted(part) if self._fit else [(0, part)]:
        yield first + start, fit

  def _of_inputs(
    self,
    targets: tf.Tensor,
    weights: tf.Tensor,
    total: tf.Tensor,
    first: tf.Tensor,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
  ) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the loss and the gradients of a part of a batch.

    The loss is the sum of the part's weighted losses, divided by `total`; the
    losses of all parts add up to the batch's mean loss. A gradient is given for
    each trained variable.

    Args:
      targets, weights: targets and weights of the part's rows.
      total: sum of the weights of the whole batch.
      first: index of the part's first row in the batch, for dropout.
      input_ids, input_mask, segment_ids: int32 [rows, length].
    """
    seeds = self._seeds(weights, first)
    with tf.GradientTape() as tape:
      logits = self._model(input_ids, input_mask, seeds, segment_ids)
      loss = self._loss(logits, targets, weights, total)
    return loss, self._dense(tape.gradient(loss, self._variables))

  def _of_features(
    self,
    targets: tf.Tensor,
    weights: tf.Tensor,
    total: tf.Tensor,
    first: tf.Tensor,
    features: tf.Tensor,
  ) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the loss and the head's gradients of a part of a batch.

    It takes the place of `_of_inputs` when the encoder is frozen: the head's
    inputs were computed before. The loss is the sum of the part's weighted
    losses, divided by `total`.

    Args:
      targets, weights: targets and weights of the part's rows.
      total: sum of the weights of the whole batch.
      first: index of the part's first row in the batch, for dropout.
      features: float32 [rows, hidden], the pooled vectors.
    """
    seeds = self._seeds(weights, first)
    with tf.GradientTape() as tape:
      logits = self._model.head(features, seeds)
      loss = self._loss(logits, targets, weights, total)
    return loss, self._dense(tape.gradient(loss, self._variables))

  def _seeds(self, weights: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """Returns the dropout seeds of rows of a batch at this step, [rows, 2].

    Args:
      weights: [rows], the weights of these rows, for their number.
      first: index of the first row in the whole batch.
    """
    step = tf.cast(self._optimizer.iterations, tf.int32)
    rows = tf.range(tf.shape(weights)[0]) + first
    return encoders.example_seeds(self._seed, step, rows)

  def _loss(
    self,
    logits: tf.Tensor,
    targets: tf.Tensor,
    weights: tf.Tensor,
    total: tf.Tensor,
  ) -> tf.Tensor:
    """Returns the sum of rows' weighted losses divided by `total`, a scalar.

    Args:
      logits: [rows, outputs].
      targets, weights: the targets and the weights of the rows.
      total: sum of the weights of the whole batch.
    """
    losses = self._problem.losses(logits, targets)
    return tf.reduce_sum(losses * weights) / total

  def _dense(self, gradients: list[Any]) -> list[tf.Tensor]:
    """Returns the gradients as dense tensors, zeros for a gradient of None.

    Args:
      gradients: a tensor, IndexedSlices or None for each trained variable.
    """
    return [
      tf.zeros_like(variable)  # such as the pooler of a tagger
      if gradient is None
      else tf.convert_to_tensor(gradient)
      for gradient, variable in zip(gradients, self._variables, strict=True)
    ]

  def _applied(self, gradients: list[tf.Tensor]) -> None:
    """Updates the weights with the gradients of a whole batch.

    Args:
      gradients: the gradient of each trained variable.
    """
    self._optimizer.apply_gradients(
      zip(gradients, self._variables, strict=True)
    )
