"""One training step and one evaluation of pretraining, and their log lines.

orbit's controller decides when to train and when to evaluate. Between two log
lines the steps run in blocks of about two seconds, so that the run reacts to a
signal within that time.
"""

import dataclasses
import math
import time
from typing import Any

import numpy as np
import orbit
import tensorflow as tf
import tf_keras
from absl import logging

from albert_mn.models import encoders, lean, pretraining
from albert_mn.pretrain import inputs
from albert_mn.runtime import (
  distribution,
  divergence,
  optimization,
  runs,
  throughput,
)
from albert_mn.scoring import judgements

_SUM = tf.distribute.ReduceOp.SUM

# Target duration of a block of steps: the longest time that a signal waits.
_SECONDS_A_BLOCK = 2.0


@dataclasses.dataclass(frozen=True)
class Learner:
  """The model of a run, and the objects that change its weights.

  Attributes:
    model: computes logits from features.
    optimizer: its `iterations` is the global step.
    watch: decides which steps may change the weights; it sets the learning rate
      to 0 after a divergence.
  """

  model: pretraining.PretrainingModel
  optimizer: optimization.AdamW
  watch: divergence.Watch


@dataclasses.dataclass(frozen=True)
class Steps:
  """The number of steps of a run, and how each step is computed.

  Attributes:
    total: the last step of the run, for the log.
    parts: number of parts of a device's rows whose gradients are computed one
      after the other and added up (gradient accumulation).
    seed: the seed of dropout.
    jit_compile: whether XLA compiles the forward and backward pass.
    lean: whether lean.Lean computes the step.
  """

  total: int
  parts: int = 1
  seed: int = 0
  jit_compile: bool = True
  lean: bool = False


class Trainer(orbit.StandardTrainer, orbit.StandardEvaluator):
  """The training step and the evaluation of pretraining, as orbit wants them.

  The loss of a batch is the mean masked-LM loss over masked positions plus the
  mean sentence-order loss over sentence pairs (ALBERT paper, section 3.1). Both
  means are over the whole batch, on all devices. So the gradient does not
  depend on how the batch is divided among devices or accumulation steps.

  Args:
    learner: the model and the objects that change its weights.
    steps: the number of steps, and how each step is computed.
    strategy: the devices.
    evaluation: the held-out batches, or None.
    characters: float32 [vocab_size], the number of characters of each piece,
      for bits per character; or None.

  Attributes:
    meter: measures speed; the caller sets it with `train_dataset` before
      training.
    stop: records SIGTERM and SIGINT.
  """

  meter: throughput.Meter
  # Attributes of the base class, which declares no types for them.
  _train_loop_fn: Any
  _train_iter: Any

  def __init__(
    self,
    learner: Learner,
    steps: Steps,
    strategy: tf.distribute.Strategy,
    evaluation: tf.data.Dataset | None = None,
    characters: np.ndarray | None = None,
  ) -> None:
    orbit.StandardTrainer.__init__(self, None)
    orbit.StandardEvaluator.__init__(
      self,
      evaluation,
      options=orbit.StandardEvaluatorOptions(use_tf_function=True),
    )
    self._model, self._optimizer = learner.model, learner.optimizer
    self._strategy, self._steps, self._watch = strategy, steps, learner.watch
    self._characters = None if characters is None else tf.constant(characters)
    self._forward = (
      lean.Lean(learner.model, steps.jit_compile)
      if steps.lean
      else learner.model
    )
    # The lean step compiles its own functions between the matrix products.
    whole = steps.jit_compile and not steps.lean
    self._gradients = tf.function(self._sums_and_gradients, jit_compile=whole)
    self._eval_sums = tf.function(self._sums, jit_compile=whole)
    # float32 counts exactly only up to 2^24; TPUs have no float64.
    exact = not isinstance(strategy, tf.distribute.TPUStrategy)
    with strategy.scope():
      self._totals = {
        name: tf_keras.metrics.Sum(
          name=name, dtype="float64" if exact else "float32"
        )
        for name in pretraining.Sums._fields
      }
      self._norm = tf_keras.metrics.Mean(name="gradient_norm", dtype="float32")
    self._block = 1
    self.stop = runs.Stop()

  def _sums(
    self, features: dict[str, tf.Tensor], seeds: tf.Tensor | None = None
  ) -> pretraining.Sums:
    """Computes the model; returns sums of losses and correct predictions.

    Args:
      features: name → feature of the rows, [rows, …].
      seeds: dropout seeds, uint32 [rows, 2]; None for no dropout.
    """
    output = self._forward(features, seeds)
    return pretraining.losses(output, features, self._characters)

  def _sums_and_gradients(
    self,
    features: dict[str, tf.Tensor],
    seeds: tf.Tensor,
    counts: tuple[tf.Tensor, tf.Tensor],
  ) -> tuple[pretraining.Sums, list[tf.Tensor]]:
    """Returns the sums and the gradients of one device's rows.

    The rows are computed in `Steps.parts` parts, whose results are added up.

    Args:
      features: name → feature of the device's rows, [rows, …].
      seeds: dropout seeds, uint32 [rows, 2].
      counts: masked positions and sentence pairs of the whole batch.
    """
    parts = self._steps.parts
    if parts == 1:
      return self._part(features, seeds, counts)
    cut = {
      name: tf.reshape(value, [parts, -1, *value.shape[1:].as_list()])
      for name, value in {**features, "seeds": seeds}.items()
    }
    first = {name: value[0] for name, value in cut.items()}
    total = self._part(first, first.pop("seeds"), counts)

    def add(number: tf.Tensor, total: Any) -> tuple[tf.Tensor, Any]:
      part = {name: value[number] for name, value in cut.items()}
      more = self._part(part, part.pop("seeds"), counts)
      return number + 1, tf.nest.map_structure(tf.add, total, more)

    _, total = tf.while_loop(
      lambda number, _: number < parts,
      add,
      (tf.constant(1), total),
      maximum_iterations=parts - 1,
    )
    return total

  def _part(
    self,
    features: dict[str, tf.Tensor],
    seeds: tf.Tensor,
    counts: tuple[tf.Tensor, tf.Tensor],
  ) -> tuple[pretraining.Sums, list[tf.Tensor]]:
    """Returns the sums and the gradients of a part of one device's rows.

    Args:
      features: name → feature of the part's rows, [rows, …].
      seeds: dropout seeds, uint32 [rows, 2].
      counts: masked positions and sentence pairs of the whole batch.
    """
    with tf.GradientTape() as tape:
      sums = self._sums(features, seeds)
      loss = sums.loss(counts)
    gradients = tape.gradient(loss, self._model.trainable_variables)
    return sums, [tf.convert_to_tensor(gradient) for gradient in gradients]

  def train_loop_begin(self) -> None:
    super().train_loop_begin()
    self._reset()
    self.meter.begin(int(self._optimizer.iterations.numpy()))

  def train(self, num_steps: tf.Tensor) -> dict[str, float]:
    """Trains `num_steps` steps; checks for signals about every two seconds.

    All workers use the same number of steps between checks, and stop together
    if any of them got a signal: a worker that stopped alone would block the
    others.

    Returns:
      the metrics of these steps.

    Raises:
      runs.Stopped: after a signal, when the block of steps is complete.
      divergence.Diverged: when the watch has refused a step.
    """
    self.train_loop_begin()
    self._train_loop_fn = self._train_loop_fn or self.create_train_loop_fn()
    self._train_iter = self._train_iter or iter(self.train_dataset)
    left = int(num_steps)
    while left:
      began, steps = time.monotonic(), min(left, self._block)
      self._train_loop_fn(self._train_iter, tf.constant(steps))
      self._watch.heed()  # before a signal leads to a save
      left -= steps
      pace, stopped = distribution.mean(
        self._strategy,
        steps / (time.monotonic() - began),
        float(self.stop.came()),
      )
      if stopped:
        self.stop.leave()
      self._block = max(1, int(_SECONDS_A_BLOCK * pace))
    return self.train_loop_end()

  def train_step(self, iterator: Any) -> None:
    self._strategy.run(self._replica_step, args=(next(iterator),))

  def _replica_step(self, features: dict[str, tf.Tensor]) -> None:
    """Takes a training step on one device.

    The function computes the gradients of the device's rows, adds the gradients
    of all devices, and updates the weights.

    Args:
      features: name → feature of the device's rows.
    """
    context = tf.distribute.get_replica_context()
    step = tf.cast(self._optimizer.iterations, tf.int32)
    seeds = encoders.example_seeds(
      self._steps.seed, step, features.pop(inputs.ROWS)
    )
    counts = context.all_reduce(_SUM, pretraining.counts(features))
    sums, gradients = self._gradients(features, seeds, counts)
    *gradients, loss = context.all_reduce(_SUM, [*gradients, sums.loss(counts)])
    norm = tf.linalg.global_norm(gradients)
    good = self._watch.look(self._optimizer.iterations, loss, norm)
    # The watch has set the learning rate to 0, but 0 × NaN is NaN: replace the
    # gradients by zeros.
    gradients = [tf.where(good, g, tf.zeros_like(g)) for g in gradients]
    self._optimizer.apply_gradients(
      zip(gradients, self._model.trainable_variables, strict=True),
      skip_gradients_aggregation=True,
    )
    self._norm.update_state(norm)
    self._add(sums)

  def train_loop_end(self) -> dict[str, float]:
    """Returns the metrics since `train_loop_begin`; logs the main ones.

    The metrics are those of `_metrics`, learning_rate, gradient_norm (the
    mean), the speed, and statistics of the trust ratios if the optimizer has
    any.
    """
    metrics = self._metrics()
    step = int(self._optimizer.iterations.numpy())
    speed = self.meter.metrics(step)
    logging.info(
      "step %d of %d: loss %.3f, masked_lm_accuracy %.3f, "
      "sentence_order_accuracy %.3f; %s",
      step,
      self._steps.total,
      metrics["loss"],
      metrics["masked_lm_accuracy"],
      metrics["sentence_order_accuracy"],
      self.meter.text(step, speed),
    )
    metrics["learning_rate"] = self._optimizer.rate(step)
    metrics["gradient_norm"] = float(self._norm.result())
    return metrics | speed | self._optimizer.trust_ratio_summary()

  def eval_begin(self) -> None:
    self._reset()

  def eval_step(self, iterator: Any) -> None:
    def evaluate(features: dict[str, tf.Tensor]) -> None:
      self._add(self._eval_sums(features))

    self._strategy.run(evaluate, args=(next(iterator),))

  def eval_end(self) -> dict[str, float]:
    """Returns the metrics, with a 95 % interval for sentence_order_accuracy.

    The ends of the interval are sentence_order_accuracy_low and
    sentence_order_accuracy_high; both are missing without sentence pairs. The
    interval is Wilson's, which suits few pairs.
    """
    metrics = self._metrics()
    right, pairs = (
      round(float(self._totals[name].result()))
      for name in ("sentence_correct", "sentence_count")
    )
    if pairs:
      low, high = judgements.wilson_interval(right, pairs)
      metrics["sentence_order_accuracy_low"] = low
      metrics["sentence_order_accuracy_high"] = high
    return metrics

  def _reset(self) -> None:
    for total in (*self._totals.values(), self._norm):
      total.reset_state()

  def _add(self, sums: pretraining.Sums) -> None:
    for name, value in sums._asdict().items():
      self._totals[name].update_state(value)

  def _metrics(self) -> dict[str, float]:
    """Returns metric name → value, over all batches since the last reset.

    The names are loss, and accuracy and loss of masked_lm and sentence_order.
    Without sentence pairs, sentence_order_accuracy and sentence_order_loss are
    NaN, and loss is the masked-LM loss alone; without masked positions,
    masked_lm_accuracy and masked_lm_loss are 0. If the lengths of pieces are
    known, bits_per_character is −Σ log2 p of the masked pieces divided by the
    number of characters in these pieces; models with different tokenizers can
    be compared by this metric if both mask the same words.
    """
    total = {name: float(sum_.result()) for name, sum_ in self._totals.items()}
    masked, pairs = total["masked_lm_count"] or 1.0, total["sentence_count"]
    masked_loss = total["masked_lm_loss_sum"] / masked
    order_loss = total["sentence_loss_sum"] / pairs if pairs else math.nan
    characters = total["masked_characters"]
    metrics = {
      "loss": masked_loss + (order_loss if pairs else 0.0),
      "masked_lm_accuracy": total["masked_lm_correct"] / masked,
      "masked_lm_loss": masked_loss,
      "sentence_order_accuracy": (
        total["sentence_correct"] / pairs if pairs else math.nan
      ),
      "sentence_order_loss": order_loss,
    }
    if characters:
      bits = total["masked_lm_loss_sum"] / math.log(2)
      metrics["bits_per_character"] = bits / characters
    return metrics
