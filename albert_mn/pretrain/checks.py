"""Checks before a pretraining run starts to use accelerator time.

A check is a function that raises options.InputError if something is wrong. It
may return text for a person, or a value that later checks need. A pretraining
run ends at the first check that fails; albert_mn.doctor runs all checks.
"""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Generic, TypeVar

import numpy as np
import tensorflow as tf
from absl import logging

from albert_mn.models import configs
from albert_mn.pretrain import inputs
from albert_mn.runtime import distribution, memory, throughput
from data_prep.base import options
from data_prep.encoding import framing, tokenization
from data_prep.files import manifest, manifest_fields, records, storage

# The packages on whose versions the results depend; the locks pin the versions.
_PACKAGES = (
  "tensorflow",
  "tensorflow-tpu",
  "libtpu",
  "tf-keras",
  "tf-models-official",
  "numpy",
)
_LOCKS = pathlib.Path(__file__).resolve().parents[2]

# Number of records that are checked at each end of a file.
_LOOKED_AT = 32
_FILES_AT_A_TIME = 16

T = TypeVar("T")


class UnknownError(Exception):
  """A check needs the result of another check, which failed."""


@dataclasses.dataclass(frozen=True)
class Checked(Generic[T]):
  """The result of a check, or the fact that the check failed.

  Attributes:
    known: (result,); () if the check failed.
  """

  known: tuple[T, ...] = ()

  @property
  def value(self) -> T:
    """The result.

    Raises:
      UnknownError: when the check failed.
    """
    if not self.known:
      raise UnknownError
    return self.known[0]

  def otherwise(self, value: T) -> T:
    """Returns the result of the check, or `value` if the check failed."""
    return self.known[0] if self.known else value


class Examination:
  """Runs checks one after the other.

    exam = checks.Examination(print)
    records = exam.check("records", lambda: inputs.record_set("records/train-*"))
    exam.check("shards", lambda: checks.shards(records.value, 8))
    exam.failed  # number of failed checks

  Args:
    say: gets one line for each check. All checks run, except those that need
      the result of a failed check. With None, the first failure is raised.
  """

  def __init__(self, say: Callable[[str], None] | None = None) -> None:
    self._say = say
    self.failed = 0

  def check(self, name: str, function: Callable[[], T]) -> Checked[T]:
    """Runs a check; returns its result.

    The result is unknown if the check fails. It is also unknown, but not
    counted as a failure, if the check needs the unknown result of an earlier
    check.

    Raises:
      options.InputError, OSError: when the check fails and `say` is None.
    """
    try:
      result = function()
    except UnknownError:
      self._tell("-", name, "not checked: it needs what is wrong above")
      return Checked()
    except (options.InputError, OSError) as error:
      if not self._say:
        raise
      self.failed += 1
      self._tell("WRONG", name, " ".join(str(error).split("\n")))
      return Checked()
    self._tell("ok", name, result if isinstance(result, str) else "")
    return Checked((result,))

  def advise(self, name: str, function: Callable[[], object]) -> None:
    """Runs a check whose failure is only a warning in a run.

    If `say` is None, an InputError is logged as a warning and not raised. With
    `say`, a failure is reported and counted as in `check`.

    Args:
      name: the name of the check.
      function: the check.

    Raises:
      OSError: when the check cannot read a file and `say` is None.
    """
    try:
      self.check(name, function)
    except options.InputError as error:
      logging.warning("%s", " ".join(str(error).split("\n")))

  def _tell(self, outcome: str, name: str, more: str) -> None:
    """Passes a line on the outcome of a check to `say`, if `say` is not None.

    Args:
      outcome: "ok", "WRONG", or "-" for a check that was not made.
      name: the name of the check.
      more: text after the name; "" for none.
    """
    if self._say:
      self._say(f"{outcome:<6}{name}" + (f": {more}" if more else ""))


# Checks of the machine.


def installed() -> dict[str, str]:
  """Returns package → version of the installed packages that a run depends on.

  The packages are those of _PACKAGES, such as tensorflow and numpy.
  """
  present = {}
  for package in _PACKAGES:
    try:
      present[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      continue
  return present


def pinned(tpu: bool) -> dict[str, str]:
  """Returns package → version of the lock file; {} if there is no lock file.

  Args:
    tpu: whether to read the lock file for TPUs.
  """
  path = _LOCKS / ("requirements-tpu.txt" if tpu else "requirements.txt")
  if not path.exists():
    return {}
  return dict(
    re.findall(r"^([\w.-]+)==(\S+)", path.read_text("utf-8"), re.MULTILINE)
  )


def one_tensorflow(present: Mapping[str, str]) -> None:
  """Raises InputError if both tensorflow and tensorflow-tpu are installed.

  The two packages write the same folder: pip accepts both, and the files in the
  folder are those of the package installed last.

  Args:
    present: package → version of the installed packages.
  """
  if {"tensorflow", "tensorflow-tpu"} <= present.keys():
    raise options.InputError(
      "tensorflow or tensorflow-tpu",
      "both, which own the same folder: it holds the one that came last",
      "make the environment anew with scripts/setup.sh, on a TPU VM with "
      "scripts/setup.sh --tpu",
    )


def versions(present: Mapping[str, str]) -> str:
  """Raises InputError if an installed version is not the locked one.

  Returns the installed versions, as text. A package that the lock file does not
  name passes. Without a lock file nothing is compared, and the text says so.

  Args:
    present: package → version of the installed packages.
  """
  tpu = "tensorflow-tpu" in present
  expected = pinned(tpu)
  for package, version in present.items():
    if expected.get(package, version) != version:
      raise options.InputError(
        f"{package} {expected[package]}, as locked",
        version,
        f"run scripts/setup.sh{' --tpu' if tpu else ''}",
      )
  listed = ", ".join(f"{n} {v}" for n, v in present.items())
  return listed if expected else f"{listed}; not compared: no lock is here"


def paths(devices: distribution.Options, named: Mapping[str, str]) -> str:
  """Raises InputError for local paths if a remote TPU computes.

  Returns, as text, how many of the paths are on gs://.

  Args:
    devices: the devices; a remote TPU reads and writes the files itself.
    named: flag → its paths, separated by commas; "" if the flag is not given.
  """
  given = [
    (flag, path.strip())
    for flag, listed in named.items()
    for path in listed.split(",")
    if path.strip()
  ]
  local = [pair for pair in given if not storage.is_remote(pair[1])]
  if distribution.is_elsewhere(devices) and local:
    raise options.InputError(
      f"gs:// in --{local[0][0]}: the TPU {devices.tpu_name} reads and writes "
      "it",
      local[0][1],
      "copy it to a bucket, or run on the TPU VM itself",
    )
  return f"{len(given) - len(local)} of {len(given)} on gs://"


def shards(record_set: inputs.RecordSet, processes: int) -> str:
  """Raises InputError if there are fewer files than processes to read them.

  Returns the number of files, as text.

  Args:
    record_set: the records.
    processes: number of processes that read different files.
  """
  if len(record_set.files) < processes:
    raise options.InputError(
      f"at least {processes} files to train on, one for each worker",
      f"{len(record_set.files)}",
      f"make the records with --num_shards={processes} or more",
    )
  return f"{len(record_set.files)} files"


def disk(output_dir: str, config: configs.AlbertConfig, keep: int) -> str:
  """Raises InputError if the disk has no room for the run's models.

  Returns the needed and the free space, as text. A bucket is not checked.
  Needed is (`keep` + 2) times the size of a checkpoint, less what the run's
  checkpoints take already.

  Args:
    output_dir: the run directory; the space of its checkpoints counts as free.
    config: the model's shape.
    keep: number of checkpoints that the run keeps.
  """
  free = storage.free_bytes(output_dir)
  if free is None:
    return "a bucket has room"
  folder = os.path.join(output_dir, "checkpoints")
  held = sum(storage.size(f"{folder}/{n}") or 0 for n in storage.names(folder))
  each = memory.checkpoint_bytes(config)
  # One more checkpoint is written before the oldest is deleted. Weights alone
  # are a third of a checkpoint, and exist three times: in model/, in best/, and
  # in the copy that replaces best/.
  wanted = (keep + 2) * each - held
  if free < wanted:
    raise options.InputError(
      f"{_size(wanted)} free in {output_dir}, for {keep} + 1 checkpoints of "
      f"{_size(each)}, model/, best/ and a new best/",
      _size(free),
      "make room, or lower --keep_checkpoint_max",
    )
  return f"{_size(max(wanted, 0))} wanted, {_size(free)} free"


def enough_memory(wanted: int, strategy: tf.distribute.Strategy) -> str:
  """Raises InputError if a step is estimated to need more memory than there is.

  The estimate is rough, so this check is for `Examination.advise`. Returns the
  needed and the available memory, as text. The memory of GPUs, and of some
  TPUs, is not known: then the text says so, and nothing is compared.

  Args:
    wanted: bytes a device, as memory.step_bytes estimates.
    strategy: the devices.
  """
  if tf.config.list_physical_devices("GPU"):
    return f"about {_size(wanted)} a device; a GPU's is not known"
  if isinstance(strategy, tf.distribute.TPUStrategy):
    there = memory.tpu_bytes(throughput.accelerator_type())
    if not there:
      return f"about {_size(wanted)} a device; this TPU's is not known"
  else:  # logical devices share the machine's memory
    local = strategy.num_replicas_in_sync // distribution.processes(strategy)
    wanted = wanted * local + memory.PROGRAM
    there = memory.machine_bytes()
  if wanted > there:
    raise options.InputError(
      f"a step that fits {_size(there)} of memory",
      f"about {_size(wanted)}",
      "lower --train_batch_size, raise --gradient_accumulation_steps, or give "
      "--rematerialize",
    )
  return f"about {_size(wanted)} of {_size(there)}"


def _size(size: int) -> str:
  """Returns a number of bytes in a short form: 0.54 MB, 1.9 GB, 41 GB."""
  number, unit = (size / 1e9, "GB") if size >= 1e9 else (size / 1e6, "MB")
  return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"


# Checks that records, model and tokenizer fit each other.


def vocabulary(
  config: configs.AlbertConfig, record_set: inputs.RecordSet
) -> str:
  """Raises InputError if config and records have different vocab_size.

  Records whose manifest states no vocab_size pass. Returns the number of
  pieces, as text.
  """
  size = manifest_fields.Parameters.of(record_set.parameters).vocab_size
  if size is None:
    size = config.vocab_size
  if size != config.vocab_size:
    raise options.InputError(
      f"a config with vocab_size {size}, as the records' tokenizer",
      f"vocab_size {config.vocab_size}",
      "set vocab_size in the config, or make records with its tokenizer",
    )
  return f"{size:,} pieces"


def lengths(config: configs.AlbertConfig, record_set: inputs.RecordSet) -> str:
  """Raises InputError if records are too long for the model.

  Records may have at most max_position_embeddings and at most 4,096 pieces
  (framing.LONGEST). Returns the length of the records, as text.
  """
  if record_set.shape.max_seq_length > config.max_position_embeddings:
    raise options.InputError(
      f"records of at most max_position_embeddings = "
      f"{config.max_position_embeddings} pieces",
      f"{record_set.shape.max_seq_length}",
      "make shorter records, or raise max_position_embeddings",
    )
  if record_set.shape.max_seq_length > framing.LONGEST:
    raise options.InputError(
      f"records of at most {framing.LONGEST:,} pieces",
      f"{record_set.shape.max_seq_length:,}",
      "make shorter records",
    )
  return f"{record_set.shape.max_seq_length} pieces"


def masks_written(record_set: inputs.RecordSet) -> None:
  """Raises InputError for evaluation records whose masks are not written.

  Such records are masked anew when they are read, so each evaluation would have
  other masks.
  """
  if not record_set.shape.max_predictions_per_seq:
    raise options.InputError(
      "evaluation records, whose masks are written",
      f"records that are masked in training, {record_set.files[0]}",
      "give the eval-*.tfrecord files",
    )


def masks_reachable(
  devices: distribution.Options, record_set: inputs.RecordSet
) -> None:
  """Raises InputError for dynamic records if a remote TPU computes.

  Dynamic masks are made in Python. The host of a remote TPU, and the other
  machines of a pod, run only graphs.
  """
  dynamic = not record_set.shape.max_predictions_per_seq
  if dynamic and distribution.is_elsewhere(devices):
    raise options.InputError(
      "records whose masks are written, for a TPU that is not this machine's",
      f"records that are masked in training, {record_set.files[0]}",
      "make them with --masking=static, or run on the TPU VM itself",
    )


def tokenizer(
  config: configs.AlbertConfig, record_set: inputs.RecordSet
) -> str:
  """Raises InputError if records were not made with the tokenizer beside them.

  The check compares the file's hash with the manifest, and the vocabulary with
  the config. In records at both ends of the first file it looks for the special
  pieces: [CLS] first, [SEP] at the end of each example, padding after it, and
  [MASK] on at least one of the masked positions. Returns the ids of [CLS],
  [SEP] and [MASK], as text; or a text that says that there is no tokenizer.
  """
  path = record_set.tokenizer_file()
  if not path:
    return "none beside the records"
  if record_set.tokenizer and storage.sha256(path) != record_set.tokenizer:
    raise options.InputError(
      f"{path} to be the one that the records' {manifest.NAME} names",
      "another one",
      "copy the one that the records were made with",
    )
  pieces = tokenization.Tokenizer(path)
  if pieces.vocab_size > config.vocab_size:
    raise options.InputError(
      f"a config with vocab_size {pieces.vocab_size}, as {path}",
      f"vocab_size {config.vocab_size}",
      "set vocab_size in the config, or make records with its tokenizer",
    )
  batch = _batch(record_set, record_set.files[0])
  rows = np.arange(len(batch[records.INPUT_IDS]))
  ids, mask = batch[records.INPUT_IDS], batch[records.INPUT_MASK]
  # Positions after which another example, or padding, begins.
  ends = np.diff(mask, axis=1, append=0) != 0
  at = {
    "[CLS]": (pieces.cls_id, ids[:, 0]),
    "[SEP]": (pieces.sep_id, ids[ends & (mask > 0)]),
    "padding": (pieces.pad_id, ids[mask == 0]),
  }
  for name, (wanted, there) in at.items():
    if (wrong := there[there != wanted]).size:
      raise _other_special(name, wanted, int(wrong[0]), record_set)
  if record_set.shape.max_predictions_per_seq:
    places = batch[records.MASKED_LM_POSITIONS]
    masked = ids[rows[:, None], places][batch[records.MASKED_LM_WEIGHTS] == 1]
    if masked.size and pieces.mask_id not in masked:
      other_id = int(np.bincount(masked).argmax())
      raise _other_special("[MASK]", pieces.mask_id, other_id, record_set)
  return (
    f"[CLS] {pieces.cls_id}, [SEP] {pieces.sep_id}, [MASK] {pieces.mask_id}"
  )


def _other_special(
  name: str, wanted: int, there: int, record_set: inputs.RecordSet
) -> options.InputError:
  return options.InputError(
    f"id {wanted} for {name} in {record_set.files[0]}, as its tokenizer.model says",
    f"{there}",
    "put the tokenizer.model beside the records that made them",
  )


def values(config: configs.AlbertConfig, record_set: inputs.RecordSet) -> str:
  """Raises InputError for values out of range, at both ends of every file.

  At most 32 records are checked at each end of a file. Some devices compute
  nonsense for an id out of range, without an error. Returns the number of
  checked records, as text.
  """
  look = functools.partial(_look, config, record_set)
  with concurrent.futures.ThreadPoolExecutor(_FILES_AT_A_TIME) as threads:
    rows = sum(threads.map(look, record_set.files))
  return f"{rows:,} records at the ends of {len(record_set.files)} files"


def _look(
  config: configs.AlbertConfig, record_set: inputs.RecordSet, path: str
) -> int:
  """Checks the records at both ends of a file; returns their number.

  Args:
    config: the model's shape.
    record_set: the records.
    path: the file, one of the records' files.

  Raises:
    options.InputError: for a value out of range.
  """
  batch = _batch(record_set, path)
  bounds = {
    records.INPUT_IDS: (0, config.vocab_size - 1),
    records.MASKED_LM_IDS: (0, config.vocab_size - 1),
    records.INPUT_MASK: (0, record_set.shape.labels or 1),
    records.SEGMENT_IDS: (0, config.type_vocab_size - 1),
    records.NEXT_SENTENCE_LABELS: (-1, 1),
    records.MASKED_LM_POSITIONS: (0, record_set.shape.max_seq_length - 1),
    records.NEXT_SENTENCE_POSITIONS: (0, record_set.shape.max_seq_length - 1),
  }
  for name in bounds.keys() & batch.keys():
    low, high = bounds[name]
    value = batch[name]
    wrong = value[(value < low) | (value > high)]
    if wrong.size:
      action = "make the records anew"
      if name in (records.INPUT_IDS, records.MASKED_LM_IDS):
        action = (
          "give the config of the tokenizer that the records were made with"
        )
      elif name == records.SEGMENT_IDS:
        action = "set type_vocab_size in the config"
      raise options.InputError(
        f"{name} from {low} to {high} in {path}", f"{wrong[0]}", action
      )
  if records.MASKED_LM_WEIGHTS in batch:
    _look_at_masks(batch, path)
  return len(batch[records.INPUT_IDS])


def _look_at_masks(batch: Mapping[str, np.ndarray], path: str) -> None:
  """Raises InputError for a masked position on padding.

  A weight of a masked position that is neither 0 nor 1 is an error too.

  Args:
    batch: feature → array.
    path: the file of the records, for the message.
  """
  weights = batch[records.MASKED_LM_WEIGHTS]
  wrong = weights[(weights != 0) & (weights != 1)]
  if wrong.size:
    raise options.InputError(
      f"{records.MASKED_LM_WEIGHTS} of 0 or 1 in {path}",
      f"{wrong[0]}",
      "make the records anew",
    )
  rows = np.arange(len(weights))[:, None]
  places = batch[records.MASKED_LM_POSITIONS]
  if (batch[records.INPUT_MASK][rows, places][weights == 1] == 0).any():
    raise options.InputError(
      f"masked positions inside the sequences in {path}",
      "one on padding",
      "make the records anew",
    )


def _batch(record_set: inputs.RecordSet, path: str) -> dict[str, np.ndarray]:
  """Returns feature → array, of the records at both ends of a file.

  Args:
    record_set: the records, which state the shape.
    path: the file.

  Raises:
    options.InputError: when the file is damaged, or its records have another
      shape.
  """
  try:
    with storage.reading(path) as file:
      size = storage.size(path) or 0
      serialized = records.ends(file, size, _LOOKED_AT)
    batch = records.parse_pretraining(
      tf.constant(serialized, tf.string), record_set.shape
    )
  except (ValueError, tf.errors.InvalidArgumentError) as error:
    raise options.InputError(
      f"whole TFRecords of one shape in {path}",
      str(error).split("\n", maxsplit=1)[0].rsplit("}} ", 1)[-1],
      "copy them again, or make them anew",
    ) from error
  return {name: value.numpy() for name, value in batch.items()}


def hashes(folders: Sequence[str]) -> str:
  """Compares every file that a manifest lists with the hash in the manifest.

  Returns how much agrees, as text: 1.9 GB in 2 folders. Folders without a
  manifest are skipped.

  Args:
    folders: the folders to check.

  Raises:
    options.InputError: when a file is missing or differs from its manifest.
  """
  known = [folder for folder in folders if manifest.find(folder)]
  return f"{_size(sum(map(manifest.rehash, known)))} in {len(known)} folders"
