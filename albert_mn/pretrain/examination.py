"""The checks of a pretraining run before its first step, and the checked run."""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

from albert_mn.formats import foreign_text, initial_weights
from albert_mn.models import configs, model_directory, number_format
from albert_mn.pretrain import checks, inputs, probe, run_options
from albert_mn.runtime import distribution, memory, optimization
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import storage

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Run:
  """A pretraining run whose options and files have been checked.

  Attributes:
    settings: the options of pretraining.
    recipe: the options of the optimizer.
    config: the model's shape.
    strategy: the devices.
    training: the training records; None without --do_train.
    held_out: the held-out records; None without --do_eval.
    probe: the labelled set of --probe_file; None without that flag.
  """

  settings: run_options.Options
  recipe: optimization.OptimizerOptions
  config: configs.AlbertConfig
  strategy: tf.distribute.Strategy
  training: inputs.RecordSet | None
  held_out: inputs.RecordSet | None
  probe: probe.Probe | None

  @property
  def chief(self) -> bool:
    """Whether this process writes the files of the run; exactly one does."""
    return distribution.is_chief(self.strategy)

  def tokenizer_file(self) -> str:
    """Returns the path of the tokenizer beside the records; "" without one."""
    return _tokenizer_file(self.training, self.held_out)

  def looks(self) -> tuple[int, int]:
    """Returns (eval_interval, probe_interval), in steps.

    --eval_interval=0 means --save_checkpoints_steps, and --probe_interval=0 the
    interval of evaluations. An interval is the whole run if there is nothing to
    evaluate or to probe.
    """
    interval = (
      self.settings.eval_interval or self.settings.save_checkpoints_steps
    )
    last = self.recipe.num_train_steps
    evaluated = interval if self.held_out else last
    return evaluated, (self.probe.interval or interval) if self.probe else last


def examined(
  settings: run_options.Options,
  recipe: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
  exam: checks.Examination,
) -> Run | None:
  """Runs all checks that need no training step; returns the checked run.

  The result is None if a check failed and `exam` goes on after failures.

  Args:
    settings, recipe, devices, probing: the options of the run.
    exam: runs the checks.

  Raises:
    options.InputError, OSError: at the first failure, if `exam` does not go on
      after failures.
  """
  tf.config.experimental.enable_op_determinism()
  _check_machine(settings, devices, exam)
  strategy = exam.check("devices", lambda: distribution.strategy(devices))
  exam.check("output_dir", lambda: _writable(settings, strategy.value))
  config = exam.check(
    "config",
    lambda: initial_weights.settle_config(
      settings.albert_config_file,
      settings.bert_config_file,
      settings.init_checkpoint,
      settings.init_from_group0,
      settings.gelu,
    ),
  )
  training, held_out = _checked_records(settings, config, exam)
  exam.check(
    "one tokenizer",
    lambda: _one_tokenizer(settings, training.value, held_out.value),
  )
  exam.check(
    "text",
    lambda: _one_text(settings, config.value, training.value, held_out.value),
  )
  exam.check("batches", lambda: _batches(settings, strategy.value))
  if settings.do_train:
    _check_start(settings, devices, config, strategy, training, exam)
  labelled = exam.check(
    "probe",
    lambda: _prepared(
      probing, training.value, held_out.value, settings.random_seed
    ),
  )
  if exam.failed:
    return None
  return Run(
    settings,
    recipe,
    config.value,
    strategy.value,
    training.value,
    held_out.value,
    labelled.value,
  )


def _check_machine(
  settings: run_options.Options,
  devices: distribution.Options,
  exam: checks.Examination,
) -> None:
  """Checks the installed packages, and that the devices can reach the paths.

  In a run, a version that is not the locked one is only a warning.

  Args:
    settings: the options of pretraining.
    devices: the options of the devices.
    exam: runs the checks.
  """
  installed = checks.installed()
  exam.check("one TensorFlow", lambda: checks.one_tensorflow(installed))
  exam.advise("versions", lambda: checks.versions(installed))
  exam.check("paths", lambda: checks.paths(devices, _paths(settings)))


def _checked_records(
  settings: run_options.Options,
  config: checks.Checked[configs.AlbertConfig],
  exam: checks.Examination,
) -> tuple[
  checks.Checked[inputs.RecordSet | None],
  checks.Checked[inputs.RecordSet | None],
]:
  """Returns the training and the held-out records, checked against the config.

  The value of a result is None if the run does not use the records, and unknown
  if the records cannot be read.

  Args:
    settings: the options of pretraining.
    config: the result of the config's check.
    exam: runs the checks.
  """
  training: checks.Checked[inputs.RecordSet | None] = checks.Checked((None,))
  held_out: checks.Checked[inputs.RecordSet | None] = checks.Checked((None,))
  if settings.do_train:
    training = exam.check("training records", lambda: _records(settings))
  if settings.do_eval:
    held_out = exam.check(
      "held-out records",
      lambda: inputs.record_set(settings.eval_input_file, *settings.lengths()),
    )
  if settings.do_train:
    _check_records("training", config, training, exam)
  if settings.do_eval:
    _check_records("held-out", config, held_out, exam)
    exam.check("held-out masks", lambda: checks.masks_written(_given(held_out)))
  return training, held_out


def _check_records(
  name: str,
  config: checks.Checked[configs.AlbertConfig],
  records: checks.Checked[inputs.RecordSet | None],
  exam: checks.Examination,
) -> None:
  """Checks vocabulary, lengths, tokenizer and values of records.

  Args:
    name: "training" or "held-out", for the names of the checks.
    config: the result of the config's check.
    records: the result of the records' check.
    exam: runs the checks.
  """
  for what, check in (
    ("vocabulary", checks.vocabulary),
    ("lengths", checks.lengths),
    ("tokenizer", checks.tokenizer),
    ("values", checks.values),
  ):
    exam.check(
      f"{name} {what}",
      functools.partial(_fits, check, config, records),
    )


def _fits(
  check: Callable[[configs.AlbertConfig, inputs.RecordSet], T],
  config: checks.Checked[configs.AlbertConfig],
  records: checks.Checked[inputs.RecordSet | None],
) -> T:
  """Applies a check to the config and the records; returns the check's result.

  Args:
    check: a function of (config, records), one of those in checks.py.
    config: the result of the config's check.
    records: the result of the records' check.

  Raises:
    checks.UnknownError: when the check of the config or the records failed.
    options.InputError: when `check` fails.
  """
  return check(config.value, _given(records))


def _given(
  records: checks.Checked[inputs.RecordSet | None],
) -> inputs.RecordSet:
  """Returns the record set that a check has read.

  Args:
    records: the result of the check, for records that the run's flags name.

  Raises:
    checks.UnknownError: when the check failed.
  """
  record_set = records.value
  assert record_set is not None, "only called where the flags name records"
  return record_set


def _check_start(
  settings: run_options.Options,
  devices: distribution.Options,
  config: checks.Checked[configs.AlbertConfig],
  strategy: checks.Checked[tf.distribute.Strategy],
  training: checks.Checked[inputs.RecordSet | None],
  exam: checks.Examination,
) -> None:
  """Makes the checks that only training needs.

  They concern masks, shards, initial weights, disk space and memory. In a run,
  too little memory is only a warning.

  Args:
    settings: the options of pretraining.
    devices: the options of the devices.
    config, strategy, training: the results of earlier checks.
    exam: runs the checks.
  """
  exam.check(
    "training masks", lambda: checks.masks_reachable(devices, _given(training))
  )
  exam.check("shards", lambda: _shards(_given(training), strategy.value))
  exam.check("initialization", lambda: _startable(settings, _given(training)))
  exam.check("disk", lambda: _disk(settings, config.value, strategy.value))
  exam.advise(
    "memory",
    lambda: _memory(
      settings, devices, config.value, strategy.value, _given(training)
    ),
  )


def _paths(settings: run_options.Options) -> dict[str, str]:
  """Returns flag name → path, for the paths that the devices read or write.

  The flags are output_dir and init_checkpoint, with --do_train input_file, and
  with --do_eval eval_input_file.
  """
  names = ["output_dir", "init_checkpoint"]
  names += ["input_file"] if settings.do_train else []
  names += ["eval_input_file"] if settings.do_eval else []
  return {name: getattr(settings, name) for name in names}


def _writable(
  settings: run_options.Options, strategy: tf.distribute.Strategy
) -> None:
  """Raises InputError if --output_dir or --export_dir cannot be written.

  Only the chief checks; in other processes nothing is done.
  """
  if distribution.is_chief(strategy):
    for folder in filter(None, (settings.output_dir, settings.export_dir)):
      storage.require_writable(folder)


def _records(settings: run_options.Options) -> inputs.RecordSet:
  """Returns the training records, with --masked_lm_budget applied.

  Raises:
    options.InputError: when options, manifests and records disagree.
  """
  record_set = inputs.record_set(settings.input_file, *settings.lengths())
  if settings.masked_lm_budget:
    return inputs.masked_anew(record_set, settings.masked_lm_budget)
  return record_set


def _one_tokenizer(
  settings: run_options.Options,
  training: inputs.RecordSet | None,
  held_out: inputs.RecordSet | None,
) -> None:
  """Raises InputError if weights and records have different tokenizers.

  Tokenizers are compared by their hashes; a tokenizer with an unknown hash
  passes.
  """
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
  settings: run_options.Options,
  config: configs.AlbertConfig,
  *record_sets: inputs.RecordSet | None,
) -> str:
  """Raises InputError unless weights and records have one text normalisation.

  The weights are those of --init_checkpoint. Returns their settings as text; ""
  without --init_checkpoint or if they are unknown.

  Args:
    settings: the options of pretraining.
    config: the model's shape.
    *record_sets: the records of the run; None for records that it does not use.

  Raises:
    options.InputError: when the text of the records was normalised in another
      way than the text of --init_checkpoint.
  """
  path = settings.init_checkpoint
  tokenizer_file = path and initial_weights.tokenizer_file(path)
  if not tokenizer_file:
    return ""
  wanted = initial_weights.text_settings(path, tokenizer_file, config)
  if settings.repair_normalization:
    wanted = wanted.repaired()
    or_else = ""
  else:
    or_else = (
      ", or, to train on intact text from now on, give --repair_normalization"
    )
  for record_set in record_sets:
    if not record_set or not record_set.tokenizer:
      continue  # nothing is known of records made elsewhere
    there = tokenization.Settings.of(record_set.parameters)
    if not foreign_text.alike(tokenizer_file, wanted.settings, there):
      flags = wanted.settings.parameters().items()
      made_with = " ".join(
        f"--{'' if on else 'no'}{name}" for name, on in flags
      )
      raise options.InputError(
        f"records of text as {path} was trained on: {wanted.described()}",
        f"{there.parameters()} in the manifest of {record_set.folder}",
        f"make them with {made_with}{or_else}",
      )
  return wanted.described()


def _batches(
  settings: run_options.Options, strategy: tf.distribute.Strategy
) -> str:
  """Returns the number of sequences in a device's batch, as text.

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


def _startable(
  settings: run_options.Options, training: inputs.RecordSet
) -> str:
  """Returns the source of the initial weights, as text for a person.

  Raises:
    options.InputError: when --initialization=corpus lacks a tokenizer.
  """
  if settings.init_checkpoint or settings.initialization == "random":
    return "random weights" if not settings.init_checkpoint else "given weights"
  tokenizer_of(training, "--initialization=corpus")
  return "statistics of the training records"


def _shards(
  training: inputs.RecordSet, strategy: tf.distribute.Strategy
) -> str:
  """Returns the number of record files, as text.

  Raises:
    options.InputError: when there are fewer files than processes.
  """
  return checks.shards(training, distribution.processes(strategy))


def _disk(
  settings: run_options.Options,
  config: configs.AlbertConfig,
  strategy: tf.distribute.Strategy,
) -> str:
  """Returns the needed and the free disk space, as text.

  Only the process that writes files makes the check; in other processes the
  text says so.

  Raises:
    options.InputError: when the disk has no room for the run's models.
  """
  if not distribution.is_chief(strategy):
    return "another process writes"
  keep = settings.keep_checkpoint_max
  return checks.disk(settings.output_dir, config, keep)


def _memory(
  settings: run_options.Options,
  devices: distribution.Options,
  config: configs.AlbertConfig,
  strategy: tf.distribute.Strategy,
  training: inputs.RecordSet,
) -> str:
  """Returns the estimated and the available memory of a step, as text.

  Raises:
    options.InputError: when the estimate exceeds the available memory.
  """
  parts = settings.gradient_accumulation_steps
  rows = settings.train_batch_size // strategy.num_replicas_in_sync // parts
  wanted = memory.step_bytes(
    config,
    max(rows, 1),
    training.shape.max_seq_length,
    training.predictions(),
    in_parts=parts > 1,
    lean=is_lean(settings, strategy),
    rematerialize=settings.rematerialize,
    activation_bytes=2 if devices.precision != number_format.FLOAT32 else 4,
  )
  return checks.enough_memory(wanted, strategy)


def is_lean(
  settings: run_options.Options, strategy: tf.distribute.Strategy
) -> bool:
  """Returns whether lean.Lean computes the training steps, faster on CPUs.

  That is so with --lean_step, on CPUs, in float32 and without --rematerialize.
  """
  return (
    settings.lean_step
    and not settings.rematerialize
    and distribution.is_plain_cpu(strategy)
  )


def _tokenizer_file(*record_sets: inputs.RecordSet | None) -> str:
  """Returns the path of the first tokenizer beside the records; "" for none.

  Args:
    *record_sets: the records, in the order of the search; None is skipped.
  """
  paths = (
    record_set.tokenizer_file() for record_set in record_sets if record_set
  )
  return next(filter(None, paths), "")


def tokenizer_of(
  training: inputs.RecordSet, flag: str, *record_sets: inputs.RecordSet | None
) -> tokenization.Tokenizer:
  """Returns the tokenizer of the records, with the normalisation of their text.

  Args:
    training: the training records.
    flag: the flag that needs the tokenizer, for the message.
    *record_sets: more records to search for a tokenizer.

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
  """Returns the labelled set of --probe_file; None without that flag.

  Its texts are encoded with the tokenizer of the records.

  Args:
    probing: the options of the probe.
    training, held_out: the records of the run; None for records that it does
      not use.
    seed: seed of the folds.

  Raises:
    options.InputError: when --do_train or the tokenizer is missing, or when the
      rows of --probe_file are bad or too few.
  """
  if not probing.probe_file:
    return None
  if not training:
    raise options.InputError(
      "--do_train with --probe_file", "none", "leave --probe_file out"
    )
  tokenizer = tokenizer_of(training, "--probe_file", held_out)
  rows = probe.rows(probing)
  return probe.Probe(
    rows, tokenizer, training.shape.max_seq_length, seed, probing.probe_interval
  )
