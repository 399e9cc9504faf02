"""One step and one evaluation of pretraining, and what they log.

orbit's controller says when. Between two of its log lines the steps run in
stretches of some seconds, so that a signal need not wait for longer.
"""

import math
import time
from typing import Any

import orbit
import tensorflow as tf
import tf_keras
from absl import logging

from albert_mn import (
  distribution,
  divergence,
  encoders,
  inputs,
  judgements,
  lean,
  optimization,
  pretraining,
  runs,
  throughput,
)

_SUM = tf.distribute.ReduceOp.SUM

# How long a signal may wait for the steps that are under way.
_SECONDS_A_STRETCH = 2.0


class Trainer(orbit.StandardTrainer, orbit.StandardEvaluator):
  """One step and one evaluation of pretraining, for orbit.

  The loss of a batch is the sum of the masked-LM losses over the number of
  masked positions plus the same for the sentence pairs (ALBERT paper, section
  3.1). Both numbers are those of the whole batch, over all devices and parts,
  so that the gradient does not depend on how the batch was cut.

  Args:
    model: gives logits for features.
    optimizer: its `iterations` is the global step.
    strategy: where to compute.
    watch: which steps may be taken; it sets the optimizer's rate to 0.
    evaluation: the held-out batches, or None.
    characters: float32 [vocab_size], for bits per character; or None.
    total_steps: where the run ends, for the log.
    parts: how many the rows of a device are computed in.
    seed: dropout follows from it.
    jit_compile: whether XLA compiles the forward and backward pass.
    lean_step: whether to compute by lean.Lean.

  Attributes:
    meter: to be set with `train_dataset` before training.
    stop: notes the signals.
  """

  meter: throughput.Meter
  # Of the base class, which does not say their types.
  _train_loop_fn: Any
  _train_iter: Any

  def __init__(
    self,
    model: pretraining.PretrainingModel,
    optimizer: optimization.AdamW,
    strategy: tf.distribute.Strategy,
    *,
    watch: divergence.Watch,
    evaluation: tf.data.Dataset | None,
    characters: Any,
    total_steps: int,
    parts: int,
    seed: int,
    jit_compile: bool,
    lean_step: bool,
  ):
    orbit.StandardTrainer.__init__(self, None)
    orbit.StandardEvaluator.__init__(
      self,
      evaluation,
      options=orbit.StandardEvaluatorOptions(use_tf_function=True),
    )
    self._model, self._optimizer = model, optimizer
    self._strategy, self._seed, self._watch = strategy, seed, watch
    self._characters = None if characters is None else tf.constant(characters)
    self._total_steps = total_steps
    self._parts = parts
    self._forward = lean.Lean(model, jit_compile) if lean_step else model
    # The lean step compiles what stands between its products by itself.
    whole = jit_compile and not lean_step
    self._gradients = tf.function(self._sums_and_gradients, jit_compile=whole)
    self._eval_sums = tf.function(self._sums, jit_compile=whole)
    # float64 counts beyond 2^24 exactly; TPUs have none.
    exact = not isinstance(strategy, tf.distribute.TPUStrategy)
    with strategy.scope():
      self._totals = {
        name: tf_keras.metrics.Sum(
          name=name, dtype="float64" if exact else "float32"
        )
        for name in pretraining.Sums._fields
      }
      self._norm = tf_keras.metrics.Mean(name="gradient_norm", dtype="float32")
    self._stretch = 1
    self.stop = runs.Stop()

  def _sums(
    self, features: dict[str, tf.Tensor], seeds: tf.Tensor | None = None
  ) -> pretraining.Sums:
    output = self._forward(features, seeds)
    return pretraining.losses(output, features, self._characters)

  def _sums_and_gradients(
    self,
    features: dict[str, tf.Tensor],
    seeds: tf.Tensor,
    counts: tuple[tf.Tensor, tf.Tensor],
  ) -> tuple[pretraining.Sums, list[tf.Tensor]]:
    """Adds up the parts that one device's rows are computed in."""
    parts = self._parts
    if parts == 1:
      return self._part(features, seeds, counts)
    cut = {
      name: tf.reshape(value, [parts, -1] + value.shape[1:].as_list())
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
    """Trains in stretches of some seconds, to heed signals in between.

    One compiled loop serves all lengths. Workers agree on the length, and
    leave together when a signal came to one of them: alone, it would let the
    others wait for it.

    Raises:
      runs.Stopped: after a whole step.
      divergence.Diverged: where a step was not taken.
    """
    self.train_loop_begin()
    self._train_loop_fn = self._train_loop_fn or self.create_train_loop_fn()
    self._train_iter = self._train_iter or iter(self.train_dataset)
    left = int(num_steps)
    while left:
      began, steps = time.monotonic(), min(left, self._stretch)
      self._train_loop_fn(self._train_iter, tf.constant(steps))
      self._watch.heed()  # before a signal makes anybody save
      left -= steps
      pace, stopped = distribution.mean(
        self._strategy,
        steps / (time.monotonic() - began),
        float(self.stop.came()),
      )
      if stopped:
        self.stop.leave()
      self._stretch = max(1, int(_SECONDS_A_STRETCH * pace))
    return self.train_loop_end()

  def train_step(self, iterator: Any) -> None:
    self._strategy.run(self._replica_step, args=(next(iterator),))

  def _replica_step(self, features: dict[str, tf.Tensor]) -> None:
    """Computes this device's rows, then takes the step of the whole batch."""
    context = tf.distribute.get_replica_context()
    step = tf.cast(self._optimizer.iterations, tf.int32)
    seeds = encoders.example_seeds(self._seed, step, features.pop(inputs.ROWS))
    counts = context.all_reduce(_SUM, pretraining.counts(features))
    sums, gradients = self._gradients(features, seeds, counts)
    *gradients, loss = context.all_reduce(_SUM, [*gradients, sums.loss(counts)])
    norm = tf.linalg.global_norm(gradients)
    good = self._watch.look(self._optimizer.iterations, loss, norm)
    # At a rate of 0, which the watch sets, they move no weight: but no numbers
    # would.
    gradients = [tf.where(good, g, tf.zeros_like(g)) for g in gradients]
    self._optimizer.apply_gradients(
      zip(gradients, self._model.trainable_variables, strict=True),
      skip_gradients_aggregation=True,
    )
    self._norm.update_state(norm)
    self._add(sums)

  def train_loop_end(self) -> dict[str, float]:
    metrics = self._metrics()
    step = int(self._optimizer.iterations.numpy())
    speed = self.meter.metrics(step)
    logging.info(
      "step %d of %d: loss %.3f, masked_lm_accuracy %.3f, "
      "sentence_order_accuracy %.3f; %s",
      step,
      self._total_steps,
      metrics["loss"],
      metrics["masked_lm_accuracy"],
      metrics["sentence_order_accuracy"],
      self.meter.said(step, speed),
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
    """Adds what chance leaves open: held-out pairs may be few."""
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
    """The names and meanings of google-research/albert's metric_fn.

    Without sentence pairs their accuracy and loss are nan, not 0. Bits per
    character (−Σ log2 p of the masked pieces over the characters they stand
    for) can be compared between tokenizers that mask the same words.
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
