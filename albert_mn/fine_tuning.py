"""Fine-tuning: steps, epochs, and a resume that ends where no kill would have.

The order of the rows and dropout are functions of (seed, step), and the
optimizer's slots are in every checkpoint, so a run that was killed and started
again ends where an uninterrupted one does.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from albert_mn import (
  checkpoints,
  classifier,
  configs,
  encoders,
  initial_weights,
  model_directory,
  optimization,
  runs,
)
from data_prep import (
  classifier_data,
  length_buckets,
  options,
  storage,
  tokenization,
)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What decides, beside rows and starting weights, where training ends.

  The names and defaults are google-research/albert's run_classifier's.
  """

  max_seq_length: int = options.option(
    128, "pieces of a text; a trained classifier keeps its own", minimum=3
  )
  train_batch_size: int = options.option(32, "texts a step", minimum=1)
  optimizer: str = options.option(
    "adamw", "what trains", choices=("adamw", "lamb")
  )
  learning_rate: float = options.option(
    5e-5, "the highest; a model from nothing wants about 1e-3", minimum=0.0
  )
  num_train_epochs: float = options.option(
    3.0, "times through the training rows", minimum=0.0
  )
  warmup_proportion: float = options.option(
    0.1, "share of the steps in which the rate rises", minimum=0.0, maximum=1.0
  )
  random_seed: int = options.option(
    12345, "weights, order and dropout follow from it", minimum=0
  )

  def steps_per_epoch(self, rows: int) -> int:
    """The last step of an epoch may be filled with empty rows."""
    return math.ceil(rows / self.train_batch_size)

  def total_steps(self, rows: int) -> int:
    """At least one, however small the fraction of an epoch."""
    return max(1, round(self.steps_per_epoch(rows) * self.num_train_epochs))


@dataclasses.dataclass(frozen=True)
class Start:
  """What a training begins from.

  Attributes:
    config: the encoder's shape.
    tokenizer: of `tokenizer_file`.
    tokenizer_file: goes into the model directory.
    init_checkpoint: what initial_weights takes, or "".
  """

  config: configs.AlbertConfig
  tokenizer: tokenization.Tokenizer
  tokenizer_file: str
  init_checkpoint: str


@dataclasses.dataclass(frozen=True)
class Examples:
  """The training rows as the model reads them.

  Attributes:
    encoded: the ids of each text.
    labels: [rows] int32, each label's place among the sorted names.
    pad_id: what fills up a row.
  """

  encoded: list[np.ndarray]
  labels: np.ndarray
  pad_id: int


def training_batches(
  examples: Examples, recipe: Recipe, first: int, last: int
) -> Iterator[tuple[int, length_buckets.Batch]]:
  """Yields the steps from `first` to before `last`, each with its batch.

  A step's batch is a function of (seed, step); every epoch holds every row
  once.
  """
  per_epoch = recipe.steps_per_epoch(len(examples.encoded))
  for epoch in range(first // per_epoch, math.ceil(last / per_epoch)):
    batches = length_buckets.batches(
      examples.encoded,
      recipe.train_batch_size,
      recipe.max_seq_length,
      examples.pad_id,
      np.random.default_rng([recipe.random_seed, epoch]),
    )
    for step, batch in enumerate(batches, start=epoch * per_epoch):
      if first <= step < last:
        yield step, batch


class Step:
  """One training step, compiled once for each static length.

  Args:
    model: what is trained.
    optimizer: its `iterations` is the global step.
    seed: dropout is a function of it and of the step.
  """

  def __init__(self, model: classifier.Classifier, optimizer: Any, seed: int):
    self._model, self._optimizer, self._seed = model, optimizer, seed
    self._step = tf.function(self._train_step)

  def __call__(
    self, batch: length_buckets.Batch, labels: np.ndarray
  ) -> tf.Tensor:
    """Trains on a batch; returns its mean loss.

    Args:
      batch: the padded rows.
      labels: [real rows] int32, their label's number.
    """
    filled = np.zeros(len(batch.weights), np.int32)
    filled[: len(labels)] = labels
    return self._step(
      tf.constant(batch.input_ids),
      tf.constant(batch.input_mask),
      tf.constant(filled),
      tf.constant(batch.weights),
    )

  def _train_step(
    self,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    labels: tf.Tensor,
    weights: tf.Tensor,
  ) -> tf.Tensor:
    step = tf.cast(self._optimizer.iterations, tf.int32)
    variables = self._model.trainable_variables
    with tf.GradientTape() as tape:
      rows = tf.range(tf.shape(input_ids)[0])
      seeds = encoders.example_seeds(self._seed, step, rows)
      logits = self._model(input_ids, input_mask, seeds)
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
      loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
    gradients = tape.gradient(loss, variables)
    self._optimizer.apply_gradients(
      (tf.convert_to_tensor(gradient), variable)
      for gradient, variable in zip(gradients, variables, strict=True)
    )
    return loss


def train(
  folder: str,
  output_dir: str,
  recipe: Recipe,
  start: Start,
  rows: Sequence[classifier_data.Row],
  held_out: Sequence[classifier_data.Row],
) -> None:
  """Fine-tunes, or goes on, and writes the model directory.

  Args:
    folder: the model directory.
    output_dir: the run directory, for `checkpoints/` and `run.json`.
    recipe: how to train.
    start: what to begin from.
    rows: what to train on.
    held_out: what to show the progress on; decides nothing.

  Raises:
    options.InputError: when the start does not fit, when `output_dir` was
      begun as another run, or when the loss is not finite.
  """
  names = classifier_data.label_names(rows)
  model = classifier.Classifier(start.config, len(names), recipe.random_seed)
  origin = {"training_rows": classifier_data.fingerprint(rows)}
  if start.init_checkpoint:
    initial_weights.load(start.init_checkpoint, {"encoder": model.encoder})
    origin["init_checkpoint"] = initial_weights.identity(start.init_checkpoint)
  examples = _examples(start, recipe, rows, names)
  predictor = classifier.Predictor(
    model, start.tokenizer, names, recipe.max_seq_length
  )
  settings = _settings(recipe, start) | origin
  loop = _Loop(
    output_dir, recipe, model, examples, predictor, held_out, settings
  )
  loop.run()
  model_directory.save(
    folder,
    classifier.KIND,
    config=start.config,
    parts=model.parts(),
    tokenizer_file=start.tokenizer_file,
    parameters={
      **dataclasses.asdict(recipe),
      **start.tokenizer.settings.parameters(),
    },
    counts={
      "global_step": loop.step(),
      "train_rows": len(rows),
      "held_out_rows": len(held_out),
    },
    inputs=origin,
    labels=names,
  )


def _settings(recipe: Recipe, start: Start) -> dict[str, Any]:
  """What decides where a run ends, its rows and starting weights apart."""
  return {
    **dataclasses.asdict(recipe),
    "config": dataclasses.asdict(start.config),
    "tokenizer": storage.sha256(start.tokenizer_file),
    **start.tokenizer.settings.parameters(),
  }


def _examples(
  start: Start,
  recipe: Recipe,
  rows: Sequence[classifier_data.Row],
  names: Sequence[str],
) -> Examples:
  encoded, cut = length_buckets.encode(
    start.tokenizer, [row.text for row in rows], recipe.max_seq_length
  )
  classifier.report_cut(cut, len(rows), recipe.max_seq_length)
  number = {name: index for index, name in enumerate(names)}
  labels = np.array([number[row.label] for row in rows], np.int32)
  return Examples(encoded, labels, start.tokenizer.pad_id)


class _Loop:
  """The epochs: steps, then a checkpoint and a log line after each."""

  def __init__(
    self,
    output_dir: str,
    recipe: Recipe,
    model: classifier.Classifier,
    examples: Examples,
    predictor: classifier.Predictor,
    held_out: Sequence[classifier_data.Row],
    settings: Mapping[str, Any],
  ):
    self._recipe, self._examples = recipe, examples
    self._predictor, self._held_out = predictor, held_out
    self._per_epoch = recipe.steps_per_epoch(len(examples.encoded))
    self._total = recipe.total_steps(len(examples.encoded))
    self._optimizer = optimization.create(
      _optimizer_options(recipe, self._total)
    )
    self._optimizer.build(model.trainable_variables)
    self._train_on = Step(model, self._optimizer, recipe.random_seed)
    self._checkpoints = checkpoints.Checkpoints(
      output_dir, {"optimizer": self._optimizer, **model.parts()}, keep=2
    )
    begun = bool(self._checkpoints.steps())
    runs.remember(output_dir, settings, begun=begun)
    self._checkpoints.restore()

  def step(self) -> int:
    """How many steps were taken."""
    return int(self._optimizer.iterations)

  def run(self) -> None:
    """Trains from the restored step to the last one."""
    first = self.step()
    if first >= self._total:
      logging.info("already at step %d: nothing to train", first)
      return
    logging.info(
      "training on %d rows, %d held out: steps %d to %d, %d an epoch",
      len(self._examples.encoded),
      len(self._held_out),
      first,
      self._total,
      self._per_epoch,
    )
    began, losses = time.monotonic(), []
    for step, batch in training_batches(
      self._examples, self._recipe, first, self._total
    ):
      loss = self._train_on(batch, self._examples.labels[batch.rows])
      losses.append(float(loss))
      done = step + 1
      pace = (time.monotonic() - began) / (done - first)
      left = runs.clock(pace * (self._total - done))
      if done - first > 20:  # the pace of the first is that of compilation
        logging.log_every_n_seconds(
          logging.INFO, "step %d of %d, %s left", 30, done, self._total, left
        )
      if done % self._per_epoch == 0 or done == self._total:
        self._end_epoch(done, losses, left)
        losses = []

  def _end_epoch(self, done: int, losses: Sequence[float], left: str) -> None:
    loss = sum(losses) / len(losses)
    if not math.isfinite(loss):
      raise options.InputError(
        "a finite loss",
        f"{loss} by step {done}",
        "start again in another --output_dir with a smaller --learning_rate",
      )
    self._checkpoints.save()
    guesses = self._predictor.best([row.text for row in self._held_out])
    right = sum(
      row.label == guess
      for row, guess in zip(self._held_out, guesses, strict=True)
    )
    logging.info(
      "epoch %.3g of %.3g: loss %.3f, eval accuracy %.3f; %s left",
      done / self._per_epoch,
      self._total / self._per_epoch,
      loss,
      right / len(guesses),
      left,
    )


def _optimizer_options(
  recipe: Recipe, total_steps: int
) -> optimization.OptimizerOptions:
  return optimization.OptimizerOptions(
    optimizer=recipe.optimizer,
    learning_rate=recipe.learning_rate,
    num_train_steps=total_steps,
    num_warmup_steps=int(total_steps * recipe.warmup_proportion),
  )
