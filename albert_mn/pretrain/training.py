"""A pretraining run: options, checks before the start, training, results.

Record order, masks and dropout are functions of (seed, step). So a run that was
killed and started again gives the same weights as an uninterrupted run.
trainer.py holds one training step; orbit runs the loop over steps.
"""

import contextlib
import dataclasses
import math
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import orbit
import tensorflow as tf
from absl import logging

from albert_mn.formats import (
  foreign_configs,
  foreign_text,
  initial_weights,
  remote_weights,
)
from albert_mn.models import configs, model_directory, pretraining
from albert_mn.pretrain import (
  checks,
  history,
  initialization,
  inputs,
  probe,
  trainer,
  training_report,
)
from albert_mn.runtime import (
  checkpoints,
  distribution,
  divergence,
  learning_rates,
  memory,
  optimization,
  runs,
  throughput,
)
from albert_mn.scoring import reports
from data_prep.base import options
from data_prep.encoding import framing, tokenization
from data_prep.files import ownership, storage


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Data, model, length and results of pretraining.

  The names are google-research/albert's.
  """

  input_file: str = options.option(
    "",
    "Training records: TFRecord files of create_pretraining_data, as glob "
    "patterns separated by commas. Required with --do_train.",
  )
  eval_input_file: str = options.option(
    "",
    "Held-out records for the evaluation: TFRecord files of "
    "create_pretraining_data, as glob patterns separated by commas. "
    "Required with --do_eval.",
  )
  output_dir: str = options.option(
    "",
    "Folder for checkpoints, results, TensorBoard events and the trained "
    "model. Required.",
  )
  do_train: bool = options.option(
    False,
    "Train the model on the records of --input_file "
    "(google-research/albert: true).",
  )
  do_eval: bool = options.option(
    False,
    "Evaluate the model on the records of --eval_input_file, during "
    "training and at the end.",
  )
  albert_config_file: str = options.option(
    "",
    "JSON file with the shape of an ALBERT model, such as "
    "configs/albert_base.json. Not needed where --init_checkpoint names a "
    "model with a config.",
  )
  bert_config_file: str = options.option(
    "",
    "JSON file with the shape of a BERT model, such as "
    "configs/bert_base.json, to train BERT and not ALBERT.",
  )
  gelu: str = foreign_configs.gelu_option()
  init_checkpoint: str = options.option(
    "",
    "Weights to start from: a model directory, the prefix of a checkpoint "
    "(also of checkpoints of google-research and of tf-models), a TF Hub "
    "module, a Hugging Face directory, a file of PyTorch weights, or an archive of any of these; "
    "a local path, gs:// or https://. By default --initialization decides "
    "where training starts.",
  )
  initialization: str = options.option(
    "random",
    "Initial weights of a run without --init_checkpoint. random: random "
    "numbers. corpus: statistics of the training records, that is the "
    "frequencies and the co-occurrence of pieces; needs the "
    "tokenizer.model beside the records.",
    choices=("random", "corpus"),
  )
  train_batch_size: int = options.option(
    4096,
    "Number of sequences in a training step, over all devices. The "
    "default is for TPUs; a laptop wants 8 to 64.",
    minimum=1,
  )
  eval_batch_size: int = options.option(
    64,
    "Number of sequences that the evaluation computes at once.",
    minimum=1,
  )
  max_seq_length: int = options.option(
    0,
    "Number of pieces in a sequence. 0 takes the number from the manifest "
    "beside the records (google-research/albert: 512).",
    minimum=0,
    maximum=framing.LONGEST,
  )
  max_predictions_per_seq: int = options.option(
    0,
    "Number of masked pieces in a sequence. 0 takes the number from the "
    "manifest beside the records (google-research/albert: 20).",
    minimum=0,
  )
  save_checkpoints_steps: int = options.option(
    1000,
    "Number of steps from one checkpoint to the next "
    "(google-research/albert: 5000).",
    minimum=1,
  )
  keep_checkpoint_max: int = options.option(
    5,
    "Number of checkpoints to keep. Older checkpoints are deleted.",
    minimum=1,
  )
  eval_interval: int = options.option(
    0,
    "Number of steps from one evaluation during training to the next. 0 "
    "evaluates whenever a checkpoint is saved.",
    minimum=0,
  )
  max_eval_steps: int = options.option(
    0,
    "Largest number of batches in an evaluation. 0 evaluates on all "
    "held-out records (google-research/albert: 100).",
    minimum=0,
  )
  iterations_per_loop: int = options.option(
    100,
    "Number of steps inside one tf.function, and from one line of the log "
    "to the next (google-research/albert: 1000).",
    minimum=1,
  )
  export_dir: str = options.option(
    "",
    "Folder for a copy of the trained model directory, also on gs://. By "
    "default no copy is made.",
  )
  random_seed: int = options.option(
    12345,
    "Seed of the initial weights, the order of the records, and dropout.",
    minimum=0,
    maximum=options.SEEDS - 1,
  )
  gradient_accumulation_steps: int = options.option(
    1,
    "Number of parts into which each device divides a batch to save "
    "memory. The results do not depend on this number.",
    minimum=1,
  )
  masked_lm_budget: float = options.option(
    0.0,
    "Share of the pieces to mask in records that are masked during "
    "training (create_pretraining_data --masking=dynamic). 0 takes the "
    "share from the manifest beside the records.",
    minimum=0.0,
    maximum=1.0,
  )
  scale_learning_rate: bool = options.option(
    False,
    "Read --learning_rate as the rate for batches of 4096 sequences, and "
    "multiply by the square root of --train_batch_size / 4096 (You et al. "
    "2020).",
  )
  print_schedule: bool = options.option(
    False,
    "Print the learning rate over the course of the run, and end without "
    "training.",
  )
  repair_normalization: bool = options.option(
    False,
    "Continue, on text that keeps й and ё, a model that was pretrained on "
    "text without these two letters. Pieces that contain й or ё start "
    "untrained.",
  )
  init_from_group0: bool = options.option(
    False,
    "Give hidden groups that --init_checkpoint lacks the weights of "
    "hidden group 0.",
  )
  on_divergence: str = options.option(
    "stop",
    "What to do when the loss is not finite or rises far beyond earlier "
    "losses. stop ends the run. rollback returns to the last good "
    "checkpoint, lowers the learning rate, and skips the batches taken "
    "since that checkpoint.",
    choices=("stop", "rollback"),
  )
  rollback_factor: float = options.option(
    0.5,
    "Number by which every rollback of --on_divergence=rollback "
    "multiplies the learning rate.",
    minimum=0.0,
    maximum=1.0,
  )
  max_rollbacks: int = options.option(
    5,
    "Number of rollbacks of --on_divergence=rollback in a run, after "
    "which the next divergence ends the run.",
    minimum=0,
  )
  jit_compile: bool = options.option(
    True,
    "Compile the forward and the backward pass with XLA.",
  )
  lean_step: bool = options.option(
    True,
    "Use the faster training step on CPUs in float32, which does less "
    "work between the matrix products. Losses and gradients agree with "
    "the ordinary step to about 1e-5.",
  )
  rematerialize: bool = options.option(
    False,
    "Compute the activations inside the layers a second time for the "
    "backward pass, and store none: less memory, about a third more time.",
  )

  def lengths(self) -> tuple[int, int]:
    """Returns (max_seq_length, max_predictions_per_seq); 0: any number."""
    return self.max_seq_length, self.max_predictions_per_seq

  def check(self) -> None:
    if self.print_schedule:
      return
    if not (self.do_train or self.do_eval):
      raise options.InputError(
        "--do_train or --do_eval", "neither", "say what to do"
      )
    options.require(
      self,
      "output_dir",
      *(["input_file"] if self.do_train else []),
      *(["eval_input_file"] if self.do_eval else []),
    )


@dataclasses.dataclass(frozen=True)
class Run:
  """A run whose options and files have been checked.

  Attributes:
    settings, recipe: the options.
    config: the model's shape.
    strategy: the devices.
    training: the training records; None without --do_train.
    held_out: the held-out records; None without --do_eval.
    probe: the labelled set of --probe_file; None without that flag.
  """

  settings: Options
  recipe: optimization.OptimizerOptions
  config: configs.AlbertConfig
  strategy: tf.distribute.Strategy
  training: inputs.RecordSet | None
  held_out: inputs.RecordSet | None
  probe: probe.Probe | None

  @property
  def chief(self) -> bool:
    """Whether this process writes the files of the run; one worker does."""
    return distribution.is_chief(self.strategy)

  def tokenizer_file(self) -> str:
    """Returns the path of the tokenizer beside the records, or ""."""
    return _tokenizer_file(self.training, self.held_out)

  def looks(self) -> tuple[int, int]:
    """Returns (eval_interval, probe_interval), in steps.

    An interval is the whole run if there is nothing to evaluate or to probe.
    """
    interval = (
      self.settings.eval_interval or self.settings.save_checkpoints_steps
    )
    last = self.recipe.num_train_steps
    evaluated = interval if self.held_out else last
    return evaluated, (self.probe.interval or interval) if self.probe else last


def _tokenizer_file(*record_sets: inputs.RecordSet | None) -> str:
  paths = (
    record_set.tokenizer_file() for record_set in record_sets if record_set
  )
  return next(filter(None, paths), "")


def run(
  settings: Options,
  recipe: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
) -> dict[str, float]:
  """Pretrains and evaluates as the options say; returns the last metrics.

  Raises:
    options.InputError: for wrong options or files, and when another program
      trains in the output folder. A run that only evaluates does not lock the
      folder.
  """
  recipe = settled(settings, recipe)
  if settings.print_schedule:
    print(learning_rates.table(recipe))
    return {}
  settings = localized(settings, devices)
  work = examined(settings, recipe, devices, probing, checks.Examination())
  assert work, "the first failure was raised"
  owned = work.chief and settings.do_train
  folders = (settings.output_dir, settings.export_dir) if owned else ()
  with ownership.owning(*folders):
    return _run(work, settings, recipe, devices, probing)


def _run(
  work: Run,
  settings: Options,
  recipe: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
) -> dict[str, float]:
  """Trains, evaluates and writes results; returns the last metrics.

  All checks have passed.
  """
  strategy = work.strategy
  model, optimizer, watch, steps = _built(work, devices)
  flags = {
    name: value
    for given in (settings, recipe, devices, probing)
    for name, value in dataclasses.asdict(given).items()
  }
  saved = checkpoints.Checkpoints(
    settings.output_dir,
    {"optimizer": optimizer, "watch": watch, **model.parts()},
    keep=settings.keep_checkpoint_max,
    writes=work.chief and settings.do_train,
  )
  if settings.do_train:
    runs.remember(
      settings.output_dir,
      _remembered(work, devices),
      flags,
      begun=bool(saved.steps()),
      writes=work.chief,
      implied={"initialization": None},
    )
  guard = divergence.Guard(
    watch,
    saved,
    model.trainable_variables,
    _policy(settings),
    settings.output_dir,
    work.chief,
  )
  with strategy.scope():
    begun = saved.restore()
    if begun is None:
      _initialize(work, model)
    if settings.do_train:
      guard.begin(begun)
  controller = _controller(work, optimizer, steps)
  metrics: dict[str, float] = {}
  if work.training:
    with steps.stop:
      try:
        metrics = _train_through(work, controller, steps, guard, model)
      except runs.Stopped as stopped:
        step = guard.leave()
        distribution.wait_for_all(strategy)
        _leave(stopped, step, distribution.processes(strategy))
    _save_model(work, model, int(optimizer.iterations.numpy()), "model")
    if settings.export_dir and work.chief:
      finished = os.path.join(settings.output_dir, "model")
      model_directory.copy(finished, settings.export_dir)
  elif not int(optimizer.iterations.numpy()) and not settings.init_checkpoint:
    raise options.InputError(
      f"a checkpoint in {settings.output_dir}/checkpoints to evaluate",
      "none",
      "train first, or give --init_checkpoint",
    )
  if work.held_out and not metrics:
    metrics = _evaluated(work, controller)
  if metrics and work.chief:
    step = int(optimizer.iterations.numpy()) or model_directory.step(
      settings.init_checkpoint
    )
    reports.write_eval_results(
      os.path.join(settings.output_dir, "eval_results.txt"),
      {"global_step": step, **metrics},
    )
  distribution.wait_for_all(strategy)
  return metrics


def localized(settings: Options, devices: distribution.Options) -> Options:
  """Returns the options with --init_checkpoint as a local path.

  Remote weights are downloaded. Where a remote TPU computes, the options are
  returned unchanged, because the TPU reads the weights itself.
  """
  if distribution.is_elsewhere(devices):
    return settings
  path = remote_weights.local(settings.init_checkpoint)
  return dataclasses.replace(settings, init_checkpoint=path)


def settled(
  settings: Options, recipe: optimization.OptimizerOptions
) -> optimization.OptimizerOptions:
  """Returns the optimizer options to use.

  For training: `recipe`, with the learning rate scaled to the batch if asked
  for. For an evaluation alone: the options with which the run was begun.
  """
  if settings.do_train or settings.print_schedule:
    return learning_rates.for_batch(
      recipe, settings.train_batch_size, settings.scale_learning_rate
    )
  # A checkpoint holds optimizer slots, so it is restored into the same
  # optimizer.
  return runs.recipe(
    optimization.OptimizerOptions, settings.output_dir, "optimizer", recipe
  )


def examined(
  settings: Options,
  recipe: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
  exam: checks.Examination,
) -> Run | None:
  """Runs all checks that need no training step; returns the checked run.

  Returns None if a check failed and `exam` collects failures.

  Raises:
    options.InputError: at the first failure, if `exam` does not collect them.
  """
  tf.config.experimental.enable_op_determinism()
  check = exam.check
  check("one TensorFlow", checks.one_tensorflow, checks.installed())
  exam.advise("versions", checks.versions, checks.installed())
  check("paths", checks.paths, devices, _paths(settings))
  strategy = check("devices", distribution.strategy, devices)
  check("output_dir", _writable, settings, strategy)
  config = check(
    "config",
    initial_weights.settle_config,
    settings.albert_config_file,
    settings.bert_config_file,
    settings.init_checkpoint,
    settings.init_from_group0,
    settings.gelu,
  )
  training = settings.do_train and check("training records", _records, settings)
  held_out = settings.do_eval and check(
    "held-out records",
    inputs.record_set,
    settings.eval_input_file,
    *settings.lengths(),
  )
  for name, record_set in (("training", training), ("held-out", held_out)):
    if record_set:
      check(f"{name} vocabulary", checks.vocabulary, config, record_set)
      check(f"{name} lengths", checks.lengths, config, record_set)
      check(f"{name} tokenizer", checks.tokenizer, config, record_set)
      check(f"{name} values", checks.values, config, record_set)
  if held_out:
    check("held-out masks", checks.masks_written, held_out)
  check("one tokenizer", _one_tokenizer, settings, training, held_out)
  check("text", _one_text, settings, config, training, held_out)
  check("batches", _batches, settings, strategy)
  if training:
    check("training masks", checks.masks_reachable, devices, training)
    check("shards", _shards, training, strategy)
    check("initialization", _startable, settings, training)
    check("disk", _disk, settings, config, strategy)
    exam.advise(
      "memory", _memory, settings, devices, config, strategy, training
    )
  seed = settings.random_seed
  probed = check("probe", _prepared, probing, training, held_out, seed)
  if exam.failed:
    return None
  return Run(
    settings,
    recipe,
    config,
    strategy,
    training or None,
    held_out or None,
    probed,
  )


def _paths(settings: Options) -> dict[str, str]:
  """Returns flag name → path, for the paths that the devices access."""
  names = ["output_dir", "init_checkpoint"]
  names += ["input_file"] if settings.do_train else []
  names += ["eval_input_file"] if settings.do_eval else []
  return {name: getattr(settings, name) for name in names}


def _writable(settings: Options, strategy: tf.distribute.Strategy) -> None:
  if distribution.is_chief(strategy):
    for folder in filter(None, (settings.output_dir, settings.export_dir)):
      storage.require_writable(folder)


def _records(settings: Options) -> inputs.RecordSet:
  record_set = inputs.record_set(settings.input_file, *settings.lengths())
  if settings.masked_lm_budget:
    return inputs.masked_anew(record_set, settings.masked_lm_budget)
  return record_set


def _one_tokenizer(
  settings: Options,
  training: inputs.RecordSet | None,
  held_out: inputs.RecordSet | None,
) -> None:
  """Raises InputError where weights and records have different tokenizers."""
  hashes = {}
  if settings.init_checkpoint:
    hashes[settings.init_checkpoint] = initial_weights.tokenizer_hash(
      settings.init_checkpoint
    )
  for patterns, record_set in (
    (settings.input_file, training),
    (settings.eval_input_file, held_out),
  ):
    if record_set:
      hashes[patterns] = record_set.tokenizer
  model_directory.require_one_tokenizer(
    hashes, "make the records with the same one"
  )


def _one_text(
  settings: Options,
  config: configs.AlbertConfig,
  *record_sets: inputs.RecordSet | None,
) -> str:
  """Returns how the text of the weights was normalised; "" if unknown.

  Raises:
    options.InputError: when the text of the records was normalised in another
      way than the text of --init_checkpoint.
  """
  path = settings.init_checkpoint
  beside = path and initial_weights.tokenizer_file(path)
  if not beside:
    return ""
  wanted = initial_weights.text_settings(path, beside, config)
  if settings.repair_normalization:
    wanted = wanted.repaired()
  for record_set in record_sets:
    if not record_set or not record_set.tokenizer:
      continue  # nothing is known of records made elsewhere
    there = tokenization.Settings.of(record_set.parameters)
    if not foreign_text.alike(beside, wanted.settings, there):
      flags = wanted.settings.parameters().items()
      raise options.InputError(
        f"records of text as {path} was trained on: {wanted.described()}",
        f"{there.parameters()} in the manifest of {record_set.folder}",
        "make them with "
        + " ".join(f"--{'' if on else 'no'}{name}" for name, on in flags)
        + ("" if settings.repair_normalization else ", or, to train on intact "
        "text from now on, give --repair_normalization"),
      )  # fmt: skip
  return wanted.described()


def _batches(settings: Options, strategy: tf.distribute.Strategy) -> str:
  """Returns the batch size of a device, in words.

  Raises:
    options.InputError: when the batch cannot be divided evenly among devices,
      or a device's rows by --gradient_accumulation_steps.
  """
  devices = strategy.num_replicas_in_sync
  inputs.Share(settings.eval_batch_size, devices)
  share = inputs.Share(settings.train_batch_size, devices)
  if share.rows % settings.gradient_accumulation_steps:
    raise options.InputError(
      f"{share.rows} sequences a device that can be computed in equal parts",
      f"--gradient_accumulation_steps={settings.gradient_accumulation_steps}",
      "give a divisor of it",
    )
  return f"{share.rows} sequences a device"


def _startable(settings: Options, training: inputs.RecordSet) -> str:
  """Returns, in words, where the initial weights come from.

  Raises:
    options.InputError: when --initialization=corpus finds no tokenizer.
  """
  if settings.init_checkpoint or settings.initialization == "random":
    return "random weights" if not settings.init_checkpoint else "given weights"
  _tokenizer(training, "--initialization=corpus")
  return "statistics of the training records"


def _shards(
  training: inputs.RecordSet, strategy: tf.distribute.Strategy
) -> str:
  return checks.shards(training, distribution.processes(strategy))


def _disk(
  settings: Options,
  config: configs.AlbertConfig,
  strategy: tf.distribute.Strategy,
) -> str:
  if not distribution.is_chief(strategy):
    return "another process writes"
  keep = settings.keep_checkpoint_max
  return checks.disk(settings.output_dir, config, keep)


def _memory(
  settings: Options,
  devices: distribution.Options,
  config: configs.AlbertConfig,
  strategy: tf.distribute.Strategy,
  training: inputs.RecordSet,
) -> str:
  parts = settings.gradient_accumulation_steps
  rows = settings.train_batch_size // strategy.num_replicas_in_sync // parts
  wanted = memory.step_bytes(
    config,
    max(rows, 1),
    training.shape.max_seq_length,
    training.predictions(),
    in_parts=parts > 1,
    lean=_is_lean(settings, strategy, devices),
    rematerialize=settings.rematerialize,
    activation_bytes=2 if devices.precision == "bfloat16" else 4,
  )
  return checks.enough_memory(wanted, strategy)


def _is_lean(
  settings: Options,
  strategy: tf.distribute.Strategy,
  devices: distribution.Options,
) -> bool:
  return (
    settings.lean_step
    and not settings.rematerialize
    and distribution.is_plain_cpu(strategy, devices)
  )


def _built(
  work: Run, devices: distribution.Options
) -> tuple[
  pretraining.PretrainingModel,
  optimization.AdamW,
  divergence.Watch,
  trainer.Trainer,
]:
  """Returns a new model (random weights), its optimizer, watch and trainer."""
  settings = work.settings
  lean = _is_lean(settings, work.strategy, devices)
  with work.strategy.scope():
    model = pretraining.PretrainingModel(
      work.config, settings.random_seed, settings.rematerialize
    )
    watch = divergence.Watch()
    optimizer = optimization.create(
      work.recipe, settings.jit_compile and lean, watch.scale
    )
    optimizer.build(model.trainable_variables)
  return model, optimizer, watch, _trainer(work, model, optimizer, watch, lean)


def _initialize(work: Run, model: pretraining.PretrainingModel) -> None:
  """Sets the initial weights by --init_checkpoint or --initialization=corpus.

  Without either the model keeps its random weights.
  """
  settings = work.settings
  if settings.init_checkpoint:
    initial_weights.load(
      settings.init_checkpoint, model.parts(), settings.init_from_group0
    )
  elif settings.initialization == "corpus" and work.training:
    initialization.assign(
      model,
      work.training,
      _tokenizer(work.training, "--initialization=corpus"),
      settings.random_seed,
      settings.output_dir,
      work.chief,
    )


def rehearse(work: Run, devices: distribution.Options) -> str:
  """Takes two steps on the first records; returns their loss and gradient norm.

  The result is a text for a person. Writes no files.

  Raises:
    options.InputError: when a step does not fit in memory, or its loss or
      gradient is not finite.
  """
  model, _, _, steps = _built(work, devices)
  if work.settings.init_checkpoint:
    with work.strategy.scope():
      _initialize(work, model)
  assert work.training
  _feed(work, steps, work.training.count(), 0)
  try:
    with work.training.reading():
      metrics = steps.train(tf.constant(2))
  except divergence.Diverged as diverged:
    raise options.InputError(
      diverged.expected,
      diverged.got,
      "look at the records and --init_checkpoint",
    ) from diverged
  except tf.errors.ResourceExhaustedError as error:
    raise options.InputError(
      "a step that fits in memory",
      error.message.split("\n")[0],
      "lower --train_batch_size, or raise --gradient_accumulation_steps",
    ) from error
  return (
    f"loss {metrics['loss']:.4g}, gradient norm {metrics['gradient_norm']:.3g}"
  )


def _tokenizer(
  training: inputs.RecordSet, flag: str, *record_sets: inputs.RecordSet | None
) -> tokenization.Tokenizer:
  """Returns the tokenizer of the records.

  Args:
    training: the training records.
    flag: the flag that needs the tokenizer, for the message.
    record_sets: more records to search for a tokenizer.

  Raises:
    options.InputError: when no tokenizer.model lies beside any of the records.
  """
  path = _tokenizer_file(training, *record_sets)
  if not path:
    raise options.InputError(
      f"a tokenizer.model beside the records, for {flag}",
      f"none in {training.folder}",
      f"copy it there, or leave {flag} out",
    )
  return tokenization.Tokenizer.with_settings(
    path, tokenization.Settings.of(training.parameters)
  )


def _prepared(
  probing: probe.Options,
  training: inputs.RecordSet | None,
  held_out: inputs.RecordSet | None,
  seed: int,
) -> probe.Probe | None:
  """Reads the labelled set of --probe_file; returns None without that flag.

  Its texts are tokenized with the tokenizer of the records.

  Raises:
    options.InputError: when --do_train or the tokenizer is missing.
  """
  if not probing.probe_file:
    return None
  if not training:
    raise options.InputError(
      "--do_train with --probe_file", "none", "leave --probe_file out"
    )
  tokenizer = _tokenizer(training, "--probe_file", held_out)
  rows = probe.rows(probing)
  return probe.Probe(
    rows, tokenizer, training.shape.max_seq_length, seed, probing.probe_interval
  )


def _trainer(
  work: Run,
  model: pretraining.PretrainingModel,
  optimizer: optimization.AdamW,
  watch: divergence.Watch,
  lean_step: bool,
) -> trainer.Trainer:
  settings, held_out = work.settings, work.held_out
  path = work.tokenizer_file()
  evaluation = (
    work.strategy.distribute_datasets_from_function(
      lambda context: inputs.eval_dataset(
        held_out, inputs.Share.of(settings.eval_batch_size, context)
      )
    )
    if held_out
    else None
  )
  return trainer.Trainer(
    model,
    optimizer,
    work.strategy,
    watch=watch,
    evaluation=evaluation,
    characters=tokenization.Tokenizer(path).characters() if path else None,
    total_steps=work.recipe.num_train_steps,
    parts=settings.gradient_accumulation_steps,
    seed=settings.random_seed,
    jit_compile=settings.jit_compile,
    lean_step=lean_step,
  )


def _remembered(work: Run, devices: distribution.Options) -> dict[str, Any]:
  """Returns the settings on which the final weights depend, for run.json."""
  settings, training = work.settings, work.training
  assert training is not None
  return {
    "random_seed": settings.random_seed,
    "train_batch_size": settings.train_batch_size,
    "jit_compile": settings.jit_compile,
    "lean_step": settings.lean_step,
    "precision": devices.precision,
    "records": training.identity,
    "masked_lm_budget": settings.masked_lm_budget or None,
    "initialization": (
      None if settings.initialization == "random" else settings.initialization
    ),
    "optimizer": dataclasses.asdict(work.recipe),
    "init_checkpoint": (
      initial_weights.identity(settings.init_checkpoint)
      if settings.init_checkpoint
      else None
    ),
    "config": dataclasses.asdict(work.config),
  }


def _controller(
  work: Run, optimizer: optimization.AdamW, steps: trainer.Trainer
) -> orbit.Controller:
  """Returns orbit's controller. checkpoints.py, not orbit, saves the model."""
  settings = work.settings

  def steps_per_loop(step: int) -> int:
    """Returns the number of steps to the next log line.

    All numbers run the same compiled loop.
    """
    return settings.iterations_per_loop - step % settings.iterations_per_loop

  def events(name: str) -> history.Events:
    folder = os.path.join(settings.output_dir, "events", name)
    return history.Events(folder if work.chief else None, optimizer.iterations)

  with _quiet_orbit():
    return orbit.Controller(
      global_step=optimizer.iterations,
      trainer=steps if settings.do_train else None,
      evaluator=steps if settings.do_eval else None,
      strategy=work.strategy,
      steps_per_loop=steps_per_loop,
      summary_manager=events("train"),
      # orbit uses one summary manager for both unless this folder has another
      # name.
      eval_summary_dir="eval",
      eval_summary_manager=events("eval"),
    )


@contextlib.contextmanager
def _quiet_orbit() -> Iterator[None]:
  """Drops standard output within the context: orbit logs the same lines."""
  with (
    open(os.devnull, "w", encoding="utf-8") as nowhere,
    contextlib.redirect_stdout(nowhere),
  ):
    yield


def _policy(settings: Options) -> divergence.Policy:
  return divergence.Policy(
    rolls_back=settings.on_divergence == "rollback",
    factor=settings.rollback_factor,
    most=settings.max_rollbacks,
    every=settings.save_checkpoints_steps,
  )


def _train_through(
  work: Run,
  controller: orbit.Controller,
  steps: trainer.Trainer,
  guard: divergence.Guard,
  model: pretraining.PretrainingModel,
) -> dict[str, float]:
  """Trains to the last step; after each divergence goes back and trains again.

  Returns the last held-out metrics.

  Raises:
    options.InputError: when the policy is to stop at a divergence.
  """
  while True:
    try:
      return _train(work, controller, steps, guard, model)
    except divergence.Diverged as diverged:
      guard.answer(diverged)
      distribution.wait_for_all(work.strategy)
      with work.strategy.scope():
        guard.go_back(diverged)
      controller.step_timer = None  # the step went back: time anew


def _train(
  work: Run,
  controller: orbit.Controller,
  steps: trainer.Trainer,
  guard: divergence.Guard,
  model: pretraining.PretrainingModel,
) -> dict[str, float]:
  """Trains to the last step; returns the last held-out metrics, {} for none."""
  settings, training = work.settings, work.training
  assert training is not None
  step, total = int(controller.global_step.numpy()), work.recipe.num_train_steps
  count = training.count()
  if not count:
    raise options.InputError(
      "training examples", f"none in {settings.input_file}", "make the records"
    )
  if step >= total:
    logging.info("already at step %d of %d: nothing to train", step, total)
  else:
    logging.info(
      "training from step %d to %d on %d examples: %.1f epochs in all",
      step,
      total,
      count,
      total * settings.train_batch_size / count,
    )
    _feed(work, steps, count, step + guard.skipped)
  kept = settings.save_checkpoints_steps
  # A kill may have come after this step's checkpoint, and before its
  # evaluation.
  metrics = _look(work, controller, model, step)
  while step < total:
    stops = (kept, *work.looks())
    until = min(total, *(step + every - step % every for every in stops))
    with _quiet_orbit(), training.reading():
      controller.train(until)
    step = int(controller.global_step.numpy())
    if step % kept == 0 or step == total:
      guard.save()
    metrics = _look(work, controller, model, step) or metrics
  return metrics


def _look(
  work: Run,
  controller: orbit.Controller,
  model: pretraining.PretrainingModel,
  step: int,
) -> dict[str, float]:
  """Probes and evaluates if `step` is due; returns the held-out metrics.

  The result is {} if no evaluation is due. A run that resumes at the same step
  evaluates again, with the same result.
  """
  evaluated, probed = work.looks()
  last = step == work.recipe.num_train_steps
  metrics: dict[str, float] = {}
  if step % probed == 0 or last:
    _probe(work, controller, model)
  if step and (step % evaluated == 0 or last):
    if work.held_out:
      metrics = _evaluated(work, controller)
      _keep_best(work, model, step, metrics)
    if work.chief:
      training_report.write(work.settings.output_dir)
  return metrics


def _feed(work: Run, steps: trainer.Trainer, count: int, first: int) -> None:
  """Sets the trainer's input, from batch number `first` on, and its meter."""
  settings, training = work.settings, work.training
  assert training is not None

  def batches(share: inputs.Share, step: int) -> tf.data.Dataset:
    seed = settings.random_seed
    return inputs.train_dataset(training, count, share, seed, step)

  steps.train_dataset = work.strategy.distribute_datasets_from_function(
    lambda context: batches(
      inputs.Share.of(settings.train_batch_size, context), first
    )
  )
  steps.meter = throughput.Meter(_step_work(work, training, count, batches))


def _step_work(
  work: Run,
  training: inputs.RecordSet,
  count: int,
  batches: Callable[[inputs.Share, int], tf.data.Dataset],
) -> throughput.Work:
  """Returns the work of a step, with the measured peak and input time."""
  batch, length = work.settings.train_batch_size, training.shape.max_seq_length
  replicas = work.strategy.num_replicas_in_sync
  local = replicas // distribution.processes(work.strategy)
  with training.reading():
    alone = throughput.input_seconds(
      # The batches start at step 0: to skip to a later step takes time.
      batches(inputs.Share(batch, replicas, 0, local), 0),
      local,
    )
  return throughput.Work(
    steps=work.recipe.num_train_steps,
    sequences=batch,
    positions=length,
    filled=training.filled,
    examples=count,
    flops=throughput.step_flops(
      work.config, batch, length, training.predictions()
    ),
    peak=throughput.peak(work.strategy),
    input_seconds=alone,
  )


def _leave(stopped: runs.Stopped, step: int, processes: int) -> NoReturn:
  """Logs the step at which the next start goes on, and ends the process.

  Raises:
    SystemExit: after SIGTERM, and after SIGINT where several processes train:
      it lets TensorFlow take leave of the other workers, for which
      KeyboardInterrupt does not wait.
    KeyboardInterrupt: after SIGINT in a single process.
  """
  logging.warning(
    "%s: saved; the same command goes on from step %d", stopped, step
  )
  if stopped.number == signal.SIGTERM:
    raise SystemExit(options.TERMINATED)
  if processes > 1:
    raise SystemExit(options.INTERRUPTED)
  raise KeyboardInterrupt


def _evaluated(work: Run, controller: orbit.Controller) -> dict[str, float]:
  assert work.held_out is not None
  with _quiet_orbit(), work.held_out.reading():
    metrics = dict(controller.evaluate(work.settings.max_eval_steps or -1))
  metrics.pop("steps_per_second", None)  # orbit adds it
  logging.info(
    "held out: %s", ", ".join(f"{n} {v:.4g}" for n, v in metrics.items())
  )
  if math.isnan(metrics["sentence_order_accuracy"]):
    logging.warning("the held-out records have no sentence pairs")
  return metrics


def _probe(
  work: Run, controller: orbit.Controller, model: pretraining.PretrainingModel
) -> None:
  """Logs the accuracy of a linear classifier on the encoder's frozen features.

  The score also goes to the TensorBoard events of the evaluation.
  """
  if not (work.probe and work.chief):
    return
  score = work.probe.score(work.probe.features(model.encoder, work.strategy))
  logging.info("probe: %s", score)
  controller.eval_summary_manager.write_summaries(score.metrics())


def _keep_best(
  work: Run,
  model: pretraining.PretrainingModel,
  step: int,
  metrics: dict[str, float],
) -> None:
  """Saves the model as best/, unless an earlier step had no higher loss."""
  if not work.chief:
    return
  best = model_directory.find(os.path.join(work.settings.output_dir, "best"))
  held = best["counts"] if best else {}
  if (
    held.get("global_step", math.inf) <= step
    and held.get("loss", math.inf) <= metrics["loss"]
  ):
    return
  _save_model(work, model, step, "best", loss=metrics["loss"])


def _save_model(
  work: Run,
  model: pretraining.PretrainingModel,
  step: int,
  name: str,
  **counts: float,
) -> None:
  """Writes a model directory named `name` in the run directory.

  Args:
    work: the run; a process that is not its chief writes nothing.
    model: the model to save.
    step: the current step.
    name: name of the folder.
    **counts: more numbers for the manifest.
  """
  if not work.chief:
    return
  training = work.training
  assert training is not None
  tokenizer = work.tokenizer_file()
  if not tokenizer:
    logging.warning(
      "no tokenizer.model beside the records: the model directory has none"
    )
  model_directory.save(
    os.path.join(work.settings.output_dir, name),
    "pretrained_model",
    config=work.config,
    parts=model.parts(),
    tokenizer_file=tokenizer,
    parameters=dict(
      random_seed=work.settings.random_seed,
      **tokenization.Settings.of(training.parameters).parameters(),
    ),
    counts=dict(global_step=step, **counts),
    inputs={"records": training.identity} if training.identity else {},
  )
