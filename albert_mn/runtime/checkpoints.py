"""Checkpoints of a run: written aside, verified, then moved into place.

The files in `checkpoints/` of the run directory:

  model.ckpt-N.*   weights, optimizer slots and step N
  checkpoint       TensorFlow's list of checkpoints (tf.train.latest_checkpoint)
  unfinished/      a checkpoint that is being written or deleted
  damaged-* files of checkpoints that could not be read, for inspection

The states of one checkpoint:

            save                   verified, fsynced, moved
  (none) ─────────► unfinished/ ─────────────────────────► model.ckpt-N.*
     ▲                │    ▲                                │        │
     └────────────────┘    └────────────────────────────────┘        │
      end of a deletion;    deleted: older than the newest           │
      after a kill, the     `keep`, or newer than a rollback         │
      next start                                                     ▼
                                          damaged at a restore: damaged-*

A checkpoint exists only while its .index file is in place: the index is moved
in last and moved out first.
"""

import itertools
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from albert_mn.models import model_directory, plain_paths
from data_prep.base import options
from data_prep.files import storage

_NAME = "model.ckpt"
_FILE = re.compile(re.escape(_NAME) + r"-(\d+)\.\S+")
_LIST, _UNFINISHED = "checkpoint", "unfinished"

_BYTES_A_READING = 256 << 20  # read at once when a checkpoint is verified
# Pauses in seconds before a failed write to a bucket is tried again: over a
# month some requests fail.
_PAUSES = (1, 10, 60)

# The errors that TensorFlow raises for a file that is truncated, changed or
# missing. Other errors, such as a timeout of a server, say nothing about the
# file.
_DAMAGE = (
  tf.errors.DataLossError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
)


class Checkpoints:
  """Saves, restores and deletes the checkpoints of one run.

  Args:
    output_dir: the run directory; the checkpoints are in its `checkpoints/`.
    parts: name → object to save; "optimizer" must be an optimizer, whose
      `iterations` is the step.
    keep: how many checkpoints to keep; at least 1.
    writes: whether this process writes and deletes files. Of several workers
      only the chief does; a process that only evaluates does not.

  Raises:
    options.InputError: for a path in a bucket that contains [ or a backslash.
  """

  def __init__(
    self,
    output_dir: str,
    parts: Mapping[str, Any],
    keep: int,
    writes: bool = True,
  ) -> None:
    self.folder = os.path.join(output_dir, "checkpoints")
    plain_paths.require(self.folder)
    self._checkpoint = tf.train.Checkpoint(**parts)
    self._step = parts["optimizer"].iterations
    self._keep, self._writes = keep, writes
    self._newest: int | None = None

  def steps(self) -> list[int]:
    """Returns the steps that have any checkpoint file, in ascending order.

    Some may lack files or be damaged; `restore` reads them and finds out.
    """
    matches = map(_FILE.fullmatch, _names(self.folder))
    return sorted({int(match[1]) for match in matches if match})

  def step(self) -> int:
    """Returns the current step of the run: the optimizer's iterations."""
    return int(self._step.numpy())

  def restore(self) -> int | None:
    """Restores the newest readable checkpoint; returns its step.

    The result is None if there is no checkpoint. Newer checkpoints that are
    damaged are renamed to damaged-*, with a warning.

    Raises:
      options.InputError: when there are checkpoints but all are damaged, or
        when the newest readable checkpoint has another configuration.
    """
    if self._writes:
      self._remove_unfinished()
    damaged: dict[int, str] = {}
    for step in reversed(self.steps()):
      if fault := _fault(self.prefix(step)):
        damaged[step] = fault
        continue
      self._restore(self.prefix(step))
      for number, why in damaged.items():
        self._set_aside(number, why)
      if self._writes:
        self._list()
      self._newest = step
      return step
    if damaged:
      newest = max(damaged)
      raise options.InputError(
        f"a whole checkpoint in {self.folder}",
        f"{len(damaged)} damaged, the newest of step {newest}: "
        f"{damaged[newest]}",
        "copy one back, or give another --output_dir",
      )
    return None

  def _restore(self, prefix: str) -> None:
    try:
      status = self._checkpoint.read(plain_paths.plain(prefix))
      status.assert_existing_objects_matched()
    except model_directory.UNREADABLE as error:
      raise options.InputError(
        f"a checkpoint of this configuration at {prefix}",
        _first_line(error),
        "give another --output_dir; with --init_checkpoint it starts from the "
        "weights of an older checkpoint",
      ) from error
    logging.info("going on from %s", prefix)

  def save(self) -> None:
    """Writes a checkpoint of the current step, then deletes the oldest ones.

    At most `keep` checkpoints remain. The new checkpoint is read back before an
    old one is deleted, so that no checkpoint is lost on a full disk. Nothing is
    done if the step is saved already or this process does not write.

    Raises:
      options.InputError: when the checkpoint cannot be written; the older
        checkpoints are kept.
    """
    step = self.step()
    if not self._writes or step == self._newest:
      return
    fault = self._write(step)
    for pause in _PAUSES if storage.is_remote(self.folder) else ():
      if fault:
        logging.warning(
          "%s: %s; again in %d s", self.prefix(step), fault, pause
        )
        time.sleep(pause)
        fault = self._write(step)
    if fault:
      raise options.InputError(
        f"to write {self.prefix(step)} and to read it back",
        fault,
        "see to room and permission there, then start the same command: the "
        "older checkpoints are kept",
      )
    for old in self.steps()[: -self._keep]:
      self._delete(old)
    self._list()
    self._newest = step
    logging.info("saved %s", self.prefix(step))

  def _write(self, step: int) -> str:
    """Writes a checkpoint, verifies it, and moves it into place.

    Returns the error as text; "" without an error.

    Args:
      step: the current step.
    """
    aside = os.path.join(self.folder, _UNFINISHED, f"{_NAME}-{step}")
    try:
      self._checkpoint.write(aside)
      fault = _fault(aside)
      if not fault:
        self._publish(step)
    except (tf.errors.OpError, OSError) as error:
      return _first_line(error)
    return fault

  def discard_after(self, step: int) -> None:
    """Deletes all checkpoints of later steps than `step`.

    At least one checkpoint must remain.
    """
    for newer in reversed([s for s in self.steps() if s > step]):
      self._delete(newer)
    self._list()

  def _publish(self, step: int) -> None:
    """Moves the files of a step from unfinished/ into place, the index last.

    TensorFlow itself writes the index in place: a kill at that moment would
    leave it truncated.
    """
    folder = os.path.join(self.folder, _UNFINISHED)
    for name in _index_last(self._files(step, folder)):
      path = os.path.join(folder, name)
      if not storage.is_remote(path):
        _sync(path)
      tf.io.gfile.rename(path, os.path.join(self.folder, name), overwrite=True)

  def _list(self) -> None:
    """Writes the file `checkpoint`, TensorFlow's list of checkpoints."""
    names = [f"{_NAME}-{step}" for step in self.steps()]
    with storage.writing(os.path.join(self.folder, _LIST)) as file:
      file.write(f'model_checkpoint_path: "{names[-1]}"\n')
      for name in names:
        file.write(f'all_model_checkpoint_paths: "{name}"\n')

  def _remove_unfinished(self) -> None:
    """Removes the unfinished checkpoints of a process that was killed.

    The folder unfinished/ is removed. If it contains the index of a checkpoint,
    the other files of that checkpoint are removed too.
    """
    folder = os.path.join(self.folder, _UNFINISHED)
    here = _names(self.folder)
    for name in _names(folder):
      match = _FILE.fullmatch(name)
      # The kill came while files were moved: data files may already be in
      # place, but without their index.
      if match and name.endswith(".index") and name not in here:
        self._delete(int(match[1]))
    if tf.io.gfile.isdir(folder):
      tf.io.gfile.rmtree(folder)

  def _set_aside(self, step: int, why: str) -> None:
    """Renames the files of a damaged checkpoint to damaged-*.

    A process that does not write only logs the damage.

    Args:
      step: the checkpoint's step.
      why: a description of the damage, for the log.
    """
    logging.warning("%s is damaged: %s", self.prefix(step), why)
    if not self._writes:
      return
    for name in self._files(step):
      here = _names(self.folder)
      marks = itertools.chain([""], (f"{n}-" for n in itertools.count(2)))
      free = (f"damaged-{mark}{name}" for mark in marks)
      aside = next(target for target in free if target not in here)
      logging.warning("%s is set aside as %s", name, aside)
      tf.io.gfile.rename(
        os.path.join(self.folder, name), os.path.join(self.folder, aside)
      )

  def _delete(self, step: int) -> None:
    """Deletes the checkpoint of a step.

    The index is first moved back to unfinished/. If the process is killed
    during the deletion, this index tells the next start to delete the other
    files.
    """
    folder = os.path.join(self.folder, _UNFINISHED)
    tf.io.gfile.makedirs(folder)
    back = os.path.join(folder, f"{_NAME}-{step}.index")
    for name in reversed(_index_last(self._files(step))):
      path = os.path.join(self.folder, name)
      if name.endswith(".index"):
        tf.io.gfile.rename(path, back, overwrite=True)
      else:
        tf.io.gfile.remove(path)
    if tf.io.gfile.exists(back):
      tf.io.gfile.remove(back)

  def _files(self, step: int, folder: str = "") -> list[str]:
    """Returns the names of the files of a step's checkpoint.

    Args:
      step: the step.
      folder: the folder to search; "" for the folder of the checkpoints.
    """
    names = _names(folder or self.folder)
    return [name for name in names if name.startswith(f"{_NAME}-{step}.")]

  def prefix(self, step: int) -> str:
    """Returns the path of a step's checkpoint, without file extensions."""
    return os.path.join(self.folder, f"{_NAME}-{step}")


def _names(folder: str) -> list[str]:
  """Returns the sorted names in a folder; [] if there is no such folder."""
  if not tf.io.gfile.isdir(folder):
    return []
  return sorted(tf.io.gfile.listdir(folder))


def _index_last(names: list[str]) -> list[str]:
  """Returns the file names of a checkpoint in the order in which to move them.

  The .index file is last: without its index a checkpoint does not exist for
  TensorFlow.
  """
  return sorted(names, key=lambda name: name.endswith(".index"))


def _sync(path: str) -> None:
  """Forces a file onto the disk (fsync), in case the machine is preempted."""
  with open(path, "rb") as file:
    os.fsync(file.fileno())


def _fault(prefix: str) -> str:
  """Reads a whole checkpoint and verifies its checksums.

  Returns the error as text; "" for a checkpoint without damage.

  Args:
    prefix: the checkpoint's path without file extensions.

  Raises:
    tf.errors.OpError: for an error that is no damage, such as a timeout.
  """
  prefix = plain_paths.plain(prefix)

  def read(kinds: Mapping[str, tf.DType]) -> None:
    # The op is used in place of tf.train.CheckpointReader, which guesses the
    # code of an error from its text.
    tf.raw_ops.RestoreV2(
      prefix=prefix,
      tensor_names=list(kinds),
      shape_and_slices=[""] * len(kinds),
      dtypes=list(kinds.values()),
    )

  try:
    with tf.device("CPU"):
      read({"_CHECKPOINTABLE_OBJECT_GRAPH": tf.string})
      for kinds in _portions(tf.train.load_checkpoint(prefix)):
        read(kinds)
  except _DAMAGE as error:
    return _first_line(error)
  return ""


def _portions(
  reader: Any,
) -> Iterator[dict[str, tf.DType]]:
  """Yields name → dtype of all tensors, in portions of at least 256 MiB.

  Only the last portion may be smaller. Reading opens the index anew for each
  portion, which in a bucket takes requests of its own; so portions are large.
  """
  portion: dict[str, tf.DType] = {}
  size = 0
  shapes = reader.get_variable_to_shape_map()
  for name, kind in reader.get_variable_to_dtype_map().items():
    portion[name] = kind
    size += math.prod(shapes[name]) * max(kind.size or 1, 1)
    if size >= _BYTES_A_READING:
      yield portion
      portion, size = {}, 0
  if portion:
    yield portion


def _first_line(error: BaseException) -> str:
  """Returns the first line of an error's message, without op names.

  The op names are those that TensorFlow adds to the message.
  """
  return str(error).split("\n", maxsplit=1)[0].rsplit("}} ", 1)[-1]
