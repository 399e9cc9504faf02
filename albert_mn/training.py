"""The pretraining loop: batches in a fixed order, steps, evaluation, resume.

Order, masks and dropout are functions of (seed, step), so that a run that was
killed and started again ends where an uninterrupted one does. The loop itself
is orbit's; this file says what one step and one evaluation are.
"""

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import orbit
import tensorflow as tf
import tf_keras
from absl import logging

from albert_mn import (
  configs,
  encoders,
  model_directory,
  optimization,
  pretraining,
  runs,
)
from data_prep import (
  dynamic_masking,
  manifest,
  masking,
  options,
  records,
  storage,
  tokenization,
)


@dataclasses.dataclass(frozen=True)
class Options:
  """What to pretrain on, for how long, and where the results go.

  The names are google-research/albert's; lengths default to what the
  records' manifest says, 0 there meaning "ask the manifest".
  """

  input_file: str = options.option("", "training TFRecords: globs, by commas")
  eval_input_file: str = options.option("", "held-out TFRecords, likewise")
  albert_config_file: str = options.option("", "the model's shape, as JSON")
  output_dir: str = options.option("", "the run directory")
  init_checkpoint: str = options.option(
    "", "warm start: a model directory or a checkpoint prefix"
  )
  do_train: bool = options.option(False, "train")
  do_eval: bool = options.option(False, "evaluate on --eval_input_file")
  train_batch_size: int = options.option(
    4096, "sequences a step (google-research/albert's default)", minimum=1
  )
  eval_batch_size: int = options.option(64, "sequences a batch", minimum=1)
  max_seq_length: int = options.option(
    0, "pieces a sequence; 0: as the records' manifest says", minimum=0
  )
  max_predictions_per_seq: int = options.option(
    0, "masked positions a sequence; 0: as the manifest says", minimum=0
  )
  save_checkpoints_steps: int = options.option(
    1000, "steps from one checkpoint to the next", minimum=1
  )
  keep_checkpoint_max: int = options.option(
    5, "how many checkpoints stay", minimum=1
  )
  iterations_per_loop: int = options.option(
    100,
    "steps inside one tf.function, and from one log line to the next "
    "(google-research/albert: 1000)",
    minimum=1,
  )
  max_eval_steps: int = options.option(
    0,
    "batches an evaluation; 0: all of them (google-research/albert: 100)",
    minimum=0,
  )
  random_seed: int = options.option(
    12345, "weights, order and dropout follow from it", minimum=0
  )
  jit_compile: bool = options.option(
    True, "compile the forward and backward pass with XLA"
  )

  def __post_init__(self) -> None:
    if not (self.do_train or self.do_eval):
      raise options.InputError(
        "--do_train or --do_eval", "neither", "say what to do"
      )
    options.require(self, "output_dir", "albert_config_file")
    options.require(
      self,
      *(["input_file"] if self.do_train else []),
      *(["eval_input_file"] if self.do_eval else []),
    )


@dataclasses.dataclass(frozen=True)
class RecordSet:
  """TFRecord files, the shape of their examples, and where they came from.

  Attributes:
    files: in order.
    max_seq_length: pieces a sequence.
    max_predictions_per_seq: masked positions a sequence; 0 where the masks
      are made in training.
    parameters: their manifest's, {} for records from elsewhere.
    folder: where they lie.
  """

  files: tuple[str, ...]
  max_seq_length: int
  max_predictions_per_seq: int
  parameters: dict[str, Any]
  folder: str

  def count(self) -> int:
    """Counts the examples by reading through the files."""
    dataset = tf.data.TFRecordDataset(list(self.files))
    try:
      return int(dataset.reduce(tf.constant(0, tf.int64), lambda n, _: n + 1))
    except tf.errors.DataLossError as error:
      raise options.InputError(
        f"whole TFRecords in {self.folder or '.'}",
        error.message.rsplit("}} ", 1)[-1],
        "copy them again, or make them anew",
      ) from error


def record_set(patterns: str, settings: Options) -> RecordSet:
  """Finds records and settles their lengths from manifest, flags and data.

  Raises:
    options.InputError: when flags, manifest and the first record disagree.
  """
  files = storage.matching(patterns)
  folder = os.path.dirname(files[0])
  parameters: dict[str, Any] = {}
  if manifest.find(folder or "."):
    parameters = manifest.check(folder or ".", "pretraining_records")[
      "parameters"
    ]
  found = records.lengths(files[0])
  if not found[1] and "masked_lm_prob" not in parameters:
    raise options.InputError(
      f"masks in {files[0]}, or a manifest that says how to make them",
      "neither",
      "keep manifest.json and tokenizer.model beside dynamic records",
    )
  lengths = [
    _settled(name, getattr(settings, name), length, files[0])
    for name, length in zip(
      ("max_seq_length", "max_predictions_per_seq"), found, strict=True
    )
  ]
  return RecordSet(tuple(files), lengths[0], lengths[1], parameters, folder)


def _settled(name: str, flag: int, found: int, path: str) -> int:
  if flag and flag != found:
    raise options.InputError(
      f"records with --{name}={flag}",
      f"{found} in {path}",
      f"leave --{name} out, or make records of that length",
    )
  return found


def check_fit(
  config: configs.AlbertConfig, record_sets: list[RecordSet]
) -> None:
  """Refuses records that the model cannot take, before any time is spent."""
  for found in record_sets:
    vocabulary = found.parameters.get("vocab_size", config.vocab_size)
    if vocabulary != config.vocab_size:
      raise options.InputError(
        f"a config with vocab_size {vocabulary}, as the records' tokenizer",
        f"vocab_size {config.vocab_size}",
        "set vocab_size in the config, or make records with its tokenizer",
      )
    if found.max_seq_length > config.max_position_embeddings:
      raise options.InputError(
        f"records of at most max_position_embeddings = "
        f"{config.max_position_embeddings} pieces",
        f"{found.max_seq_length}",
        "make shorter records, or raise max_position_embeddings",
      )


def train_dataset(
  found: RecordSet, count: int, batch_size: int, seed: int, step: int
) -> tf.data.Dataset:
  """Gives the batches from `step` on; batch k is a function of (seed, k).

  Records were shuffled when they were written; each epoch permutes the files.
  Batches run across the ends of epochs, so that no record is left out.

  Args:
    found: the records.
    count: how many examples they hold.
    batch_size: sequences a batch.
    seed: decides the order of the files in each epoch.
    step: how many batches were taken already.
  """
  epoch, offset = divmod(step * batch_size, count)
  files = tf.constant(found.files)

  def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
    place = tf.random.stateless_uniform(
      [len(found.files)],
      tf.stack([tf.constant(seed, tf.int64), number]),
      alg="philox",
    )
    order = tf.argsort(place)
    return tf.data.TFRecordDataset(tf.gather(files, order))

  dataset = tf.data.Dataset.counter(epoch).flat_map(one_epoch).skip(offset)
  batches = _parsed(dataset.batch(batch_size, drop_remainder=True), found)
  if found.max_predictions_per_seq:
    return batches
  return dynamic_masking.masked_batches(
    batches, step, *_masks(found, seed)
  ).prefetch(2)


def _masks(
  found: RecordSet, seed: int
) -> tuple[masking.Settings, tokenization.Tokenizer]:
  """How to mask, as the records' manifest says, and with which tokenizer."""
  recipe = found.parameters
  return masking.Settings(
    masked_lm_prob=recipe["masked_lm_prob"],
    max_predictions=recipe["max_predictions_per_seq"],
    whole_words=recipe["do_whole_word_mask"],
    ngram=recipe["ngram"],
    favor_shorter_ngram=recipe["favor_shorter_ngram"],
    seed=seed,
    permutation=recipe["do_permutation"],
  ), tokenization.Tokenizer(
    os.path.join(found.folder, tokenization.MODEL_NAME),
    do_lower_case=recipe["do_lower_case"],
  )


def eval_dataset(found: RecordSet, batch_size: int) -> tf.data.Dataset:
  """Gives every record once; the last batch is filled with empty records.

  An empty record has no masked positions and no sentence label, so it counts
  in no metric: batches keep their static shape and no record is left out.
  """
  serialized = tf.data.TFRecordDataset(list(found.files)).batch(batch_size)

  def fill(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {
      name: _fill_up(
        value, batch_size, -1 if name == records.NEXT_SENTENCE_LABELS else 0
      )
      for name, value in features.items()
    }

  return _parsed(serialized, found).map(fill)


def _fill_up(value: tf.Tensor, batch_size: int, filler: int) -> tf.Tensor:
  """[rows, ...] → [batch_size, ...]."""
  missing = batch_size - tf.shape(value)[0]
  padding = [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)
  filled = tf.pad(value, padding, constant_values=filler)
  return tf.ensure_shape(filled, [batch_size] + value.shape[1:])


def _parsed(batches: tf.data.Dataset, found: RecordSet) -> tf.data.Dataset:
  return batches.map(
    lambda serialized: records.parse_pretraining(
      serialized, found.max_seq_length, found.max_predictions_per_seq
    ),
    num_parallel_calls=2,
    deterministic=True,
  ).prefetch(2)


class Trainer(orbit.StandardTrainer, orbit.StandardEvaluator):
  """One step and one evaluation of ALBERT pretraining, for orbit.

  The loss of a batch is the sum of the masked-LM losses over the number of
  masked positions plus the same for the sentence pairs, both numbers taken
  over the whole global batch (ALBERT paper, section 3.1; DESIGN contracts).

  Args:
    model: gives logits for features.
    optimizer: its `iterations` is the global step.
    evaluation: the held-out batches, or None.
    total_steps: where the run ends, for the log.
    batch_size: sequences a step, for the log.
    seed: dropout is a function of it and of the step.
    jit_compile: compile forward and backward pass with XLA.
  """

  def __init__(
    self,
    model: pretraining.PretrainingModel,
    optimizer: Any,
    *,
    evaluation: tf.data.Dataset | None,
    total_steps: int,
    batch_size: int,
    seed: int,
    jit_compile: bool,
  ):
    orbit.StandardTrainer.__init__(self, None)
    orbit.StandardEvaluator.__init__(
      self,
      evaluation,
      options=orbit.StandardEvaluatorOptions(use_tf_function=True),
    )
    self._model, self._optimizer, self._seed = model, optimizer, seed
    self._total_steps, self._batch_size = total_steps, batch_size
    self._gradients = tf.function(
      self._loss_and_gradients, jit_compile=jit_compile
    )
    self._eval_sums = tf.function(self._sums, jit_compile=jit_compile)
    self._totals = {
      name: tf_keras.metrics.Sum(name=name, dtype="float64")
      for name in pretraining.Sums._fields
    }
    self._started = (0.0, 0)

  def _sums(
    self, features: dict[str, tf.Tensor], seeds: tf.Tensor | None = None
  ) -> pretraining.Sums:
    return pretraining.losses(self._model(features, seeds), features)

  def _loss_and_gradients(
    self, features: dict[str, tf.Tensor], seeds: tf.Tensor
  ) -> tuple[pretraining.Sums, list[tf.Tensor]]:
    with tf.GradientTape() as tape:
      sums = self._sums(features, seeds)
      loss = tf.math.divide_no_nan(
        sums.masked_lm_loss_sum, sums.masked_lm_count
      ) + tf.math.divide_no_nan(sums.sentence_loss_sum, sums.sentence_count)
    gradients = tape.gradient(loss, self._model.trainable_variables)
    return sums, [tf.convert_to_tensor(gradient) for gradient in gradients]

  def train_loop_begin(self) -> None:
    super().train_loop_begin()
    self._reset()
    self._started = (time.monotonic(), int(self._optimizer.iterations))

  def train_step(self, iterator: Any) -> None:
    features = next(iterator)
    step = tf.cast(self._optimizer.iterations, tf.int32)
    rows = tf.range(self._batch_size)
    seeds = encoders.example_seeds(self._seed, step, rows)
    sums, gradients = self._gradients(features, seeds)
    self._optimizer.apply_gradients(
      zip(gradients, self._model.trainable_variables, strict=True)
    )
    self._add(sums)

  def train_loop_end(self) -> dict[str, float]:
    metrics = self._metrics()
    step = int(self._optimizer.iterations)
    began, first_step = self._started
    pace = (step - first_step) / (time.monotonic() - began)
    if not math.isfinite(metrics["loss"]):
      raise options.InputError(
        "a finite loss",
        f"{metrics['loss']} by step {step}",
        "start again from the last checkpoint with a smaller --learning_rate",
      )
    logging.info(
      "step %d of %d: loss %.3f, masked_lm_accuracy %.3f, "
      "sentence_order_accuracy %.3f; %.0f sequences/s, %s left",
      step,
      self._total_steps,
      metrics["loss"],
      metrics["masked_lm_accuracy"],
      metrics["sentence_order_accuracy"],
      pace * self._batch_size,
      runs.clock((self._total_steps - step) / pace),
    )
    rate = self._optimizer.learning_rate
    metrics["learning_rate"] = float(rate(step) if callable(rate) else rate)
    return metrics

  def eval_begin(self) -> None:
    self._reset()

  def eval_step(self, iterator: Any) -> None:
    self._add(self._eval_sums(next(iterator)))

  def eval_end(self) -> dict[str, float]:
    return self._metrics()

  def _reset(self) -> None:
    for total in self._totals.values():
      total.reset_state()

  def _add(self, sums: pretraining.Sums) -> None:
    for name, value in sums._asdict().items():
      self._totals[name].update_state(value)

  def _metrics(self) -> dict[str, float]:
    """The names and meanings of google-research/albert's metric_fn."""
    total = {name: float(sum_.result()) for name, sum_ in self._totals.items()}
    masked = total["masked_lm_count"] or 1.0
    pairs = total["sentence_count"] or 1.0
    masked_loss = total["masked_lm_loss_sum"] / masked
    order_loss = total["sentence_loss_sum"] / pairs
    return {
      "loss": masked_loss + order_loss,
      "masked_lm_accuracy": total["masked_lm_correct"] / masked,
      "masked_lm_loss": masked_loss,
      "sentence_order_accuracy": total["sentence_correct"] / pairs,
      "sentence_order_loss": order_loss,
    }


def run(settings: Options, optimizer_options: Any) -> dict[str, float]:
  """Pretrains and evaluates as the flags say; returns the last metrics."""
  tf.config.experimental.enable_op_determinism()
  config = configs.AlbertConfig.from_file(settings.albert_config_file)
  training = (
    record_set(settings.input_file, settings) if settings.do_train else None
  )
  held_out = (
    record_set(settings.eval_input_file, settings) if settings.do_eval else None
  )
  check_fit(config, [found for found in (training, held_out) if found])
  model = pretraining.PretrainingModel(config, settings.random_seed)
  if settings.init_checkpoint:
    _warm_start(model, settings.init_checkpoint)
  if not training:  # the checkpoint holds the slots of its own optimizer
    begun = runs.read_settings(settings.output_dir).get("optimizer")
    if begun:
      optimizer_options = optimization.OptimizerOptions(**begun)
  optimizer = optimization.create(optimizer_options)
  optimizer.build(model.trainable_variables)
  trainer = Trainer(
    model,
    optimizer,
    evaluation=(
      eval_dataset(held_out, settings.eval_batch_size) if held_out else None
    ),
    total_steps=optimizer_options.num_train_steps,
    batch_size=settings.train_batch_size,
    seed=settings.random_seed,
    jit_compile=settings.jit_compile,
  )
  remembered = (
    _settings(settings, optimizer_options, config, training)
    if training
    else None
  )
  controller = _controller(settings, model, optimizer, trainer, remembered)
  if training:
    _train(settings, training, controller, trainer, optimizer_options)
    _save_model(settings, config, model, training, int(optimizer.iterations))
  elif not int(optimizer.iterations) and not settings.init_checkpoint:
    raise options.InputError(
      f"a checkpoint in {settings.output_dir}/checkpoints to evaluate",
      "none",
      "train first, or give --init_checkpoint",
    )
  return _evaluate(settings, controller, optimizer) if held_out else {}


def _warm_start(model: pretraining.PretrainingModel, path: str) -> None:
  """Takes the encoder, and the heads where the checkpoint has them."""
  held = model_directory.held_parts(path)
  parts = model.parts()
  model_directory.restore(
    path, **{n: p for n, p in parts.items() if n in held or n == "encoder"}
  )
  logging.info(
    "weights from %s; new: %s", path, ", ".join(parts.keys() - held) or "none"
  )


def _settings(
  settings: Options,
  optimizer_options: Any,
  config: configs.AlbertConfig,
  training: RecordSet,
) -> dict[str, Any]:
  """What decides where the run ends."""
  return {
    "random_seed": settings.random_seed,
    "train_batch_size": settings.train_batch_size,
    "jit_compile": settings.jit_compile,
    "records": (
      manifest.identity(training.folder) if training.parameters else None
    ),
    "optimizer": dataclasses.asdict(optimizer_options),
    "init_checkpoint": (
      model_directory.identity(settings.init_checkpoint)
      if settings.init_checkpoint
      else None
    ),
    "config": dataclasses.asdict(config),
  }


def _controller(
  settings: Options,
  model: pretraining.PretrainingModel,
  optimizer: Any,
  trainer: Trainer,
  remembered: dict[str, Any] | None,
) -> orbit.Controller:
  """Makes orbit's controller, which restores the newest checkpoint."""
  checkpoints = runs.Checkpoints(
    settings.output_dir,
    {"optimizer": optimizer, **model.parts()},
    keep=settings.keep_checkpoint_max,
    interval=settings.save_checkpoints_steps,
  )
  if remembered:
    checkpoints.remember(remembered)
  with _quiet_orbit():
    return orbit.Controller(
      global_step=optimizer.iterations,
      trainer=trainer if settings.do_train else None,
      evaluator=trainer if settings.do_eval else None,
      steps_per_loop=math.gcd(
        settings.iterations_per_loop, settings.save_checkpoints_steps
      ),
      checkpoint_manager=checkpoints,
      summary_dir=os.path.join(settings.output_dir, "events", "train"),
      eval_summary_dir=os.path.join(settings.output_dir, "events", "eval"),
    )


@contextlib.contextmanager
def _quiet_orbit() -> Iterator[None]:
  """Takes away what orbit prints on standard output: it logs the same."""
  with (
    open(os.devnull, "w", encoding="utf-8") as nowhere,
    contextlib.redirect_stdout(nowhere),
  ):
    yield


def _train(
  settings: Options,
  training: RecordSet,
  controller: orbit.Controller,
  trainer: Trainer,
  optimizer_options: Any,
) -> None:
  """Trains from the restored step to the last one."""
  step, total = int(controller.global_step), optimizer_options.num_train_steps
  if step >= total:
    logging.info("already at step %d of %d: nothing to train", step, total)
    return
  count = training.count()
  if not count:
    raise options.InputError(
      "training examples", f"none in {settings.input_file}", "make the records"
    )
  logging.info(
    "training from step %d to %d on %d examples: %.1f epochs in all",
    step,
    total,
    count,
    total * settings.train_batch_size / count,
  )
  trainer.train_dataset = train_dataset(
    training, count, settings.train_batch_size, settings.random_seed, step
  )
  with _quiet_orbit():
    controller.train(total)


def _save_model(
  settings: Options,
  config: configs.AlbertConfig,
  model: pretraining.PretrainingModel,
  training: RecordSet,
  step: int,
) -> None:
  tokenizer = model_directory.adjacent(
    training.folder, model_directory.TOKENIZER
  )
  if not tokenizer:
    logging.warning(
      "no tokenizer.model beside the records: the model directory has none"
    )
  model_directory.save(
    os.path.join(settings.output_dir, "model"),
    "pretrained_model",
    config=config,
    parts=model.parts(),
    tokenizer_file=tokenizer,
    parameters=dict(
      random_seed=settings.random_seed,
      do_lower_case=training.parameters.get("do_lower_case", False),
    ),
    counts=dict(global_step=step),
    inputs=(
      {"records": manifest.identity(training.folder)}
      if training.parameters
      else {}
    ),
  )


def _evaluate(
  settings: Options, controller: orbit.Controller, optimizer: Any
) -> dict[str, float]:
  """Evaluates and writes google-research/albert's eval_results.txt."""
  with _quiet_orbit():
    metrics = dict(controller.evaluate(settings.max_eval_steps or -1))
  metrics.pop("steps_per_second", None)  # orbit's, where batches are bounded
  results = {"global_step": int(optimizer.iterations), **metrics}
  path = os.path.join(settings.output_dir, "eval_results.txt")
  with storage.writing(path) as file:
    for name, value in sorted(results.items()):
      logging.info("held out: %s = %s", name, value)
      file.write(f"{name} = {value}\n")
  return metrics
