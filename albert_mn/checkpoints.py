"""What a run goes on from: written aside, read back, and only then put here.

model.ckpt-N.*   weights, optimizer slots and step N
checkpoint       TensorFlow's list of them, for tf.train.latest_checkpoint
unfinished/      the one that is being written, or taken away
damaged-*        what could not be read, for a person to look at
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

from albert_mn import model_directory, plain_paths
from data_prep import options, storage

_NAME = "model.ckpt"
_FILE = re.compile(re.escape(_NAME) + r"-(\d+)\.\S+")
_LIST, _UNFINISHED = "checkpoint", "unfinished"

_BYTES_A_READING = 256 << 20
# Seconds before a bucket is tried again: a run of a month meets its bad moment.
_PAUSES = (1, 10, 60)

# What TensorFlow raises for a file that is cut, changed or gone. Others, such
# as a server that does not answer, say nothing about the file.
_DAMAGE = (
  tf.errors.DataLossError,
  tf.errors.InvalidArgumentError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
)


class Checkpoints:
  """The checkpoints of a run.

  Args:
    output_dir: the run directory; they are in its `checkpoints/`.
    parts: name → what is saved; "optimizer" counts the steps.
    keep: how many stay.
    writes: whether this process writes, and tidies up what was written; of
      several workers one does, of those who evaluate none.
  """

  def __init__(
    self,
    output_dir: str,
    parts: Mapping[str, Any],
    keep: int,
    writes: bool = True,
  ):
    self.folder = os.path.join(output_dir, "checkpoints")
    plain_paths.require(self.folder)
    self._checkpoint = tf.train.Checkpoint(**parts)
    self._step = parts["optimizer"].iterations
    self._keep, self._writes = keep, writes
    self._newest: int | None = None

  def steps(self) -> list[int]:
    """Returns the steps of which there is anything, in order."""
    matches = map(_FILE.fullmatch, _names(self.folder))
    return sorted({int(match[1]) for match in matches if match})

  def step(self) -> int:
    """Returns the step at which the run is."""
    return int(self._step.numpy())

  def restore(self) -> int | None:
    """Restores the newest whole checkpoint; returns its step, None for none.

    Damaged ones that are newer are set aside, with a warning.

    Raises:
      options.InputError: when none is whole, or the newest whole one is of
        another configuration.
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
    """Writes a checkpoint of the step, and deletes the oldest beyond `keep`.

    It is read back before: a full disk must not cost the older ones.

    Raises:
      options.InputError: when it cannot be written; the others are kept.
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
    """Writes a checkpoint and reads it back; says what went wrong."""
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
    """Deletes the checkpoints that are newer than that of a step."""
    for newer in reversed([s for s in self.steps() if s > step]):
      self._delete(newer)
    self._list()

  def _publish(self, step: int) -> None:
    """Moves the finished files of a step to their place, the index last.

    TensorFlow writes an index in place, which a kill would leave in half.
    """
    folder = os.path.join(self.folder, _UNFINISHED)
    for name in _index_last(self._files(step, folder)):
      path = os.path.join(folder, name)
      if not storage.is_remote(path):
        _sync(path)
      tf.io.gfile.rename(path, os.path.join(self.folder, name), overwrite=True)

  def _list(self) -> None:
    """Writes TensorFlow's list."""
    names = [f"{_NAME}-{step}" for step in self.steps()]
    with storage.writing(os.path.join(self.folder, _LIST)) as file:
      file.write(f'model_checkpoint_path: "{names[-1]}"\n')
      for name in names:
        file.write(f'all_model_checkpoint_paths: "{name}"\n')

  def _remove_unfinished(self) -> None:
    """Removes what a killed process left of the one it was writing."""
    folder = os.path.join(self.folder, _UNFINISHED)
    here = _names(self.folder)
    for name in _names(folder):
      match = _FILE.fullmatch(name)
      # It was moving: there may be data at their place, the index is not.
      if match and name.endswith(".index") and name not in here:
        self._delete(int(match[1]))
    if tf.io.gfile.isdir(folder):
      tf.io.gfile.rmtree(folder)

  def _set_aside(self, step: int, why: str) -> None:
    """Renames a checkpoint to damaged-*."""
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
    """Deletes a checkpoint; its index goes back to where it was written.

    There it tells the next start that the rest may go, if a kill leaves any.
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
    names = _names(folder or self.folder)
    return [name for name in names if name.startswith(f"{_NAME}-{step}.")]

  def prefix(self, step: int) -> str:
    """Returns the path of a step's checkpoint, without its endings."""
    return os.path.join(self.folder, f"{_NAME}-{step}")


def _names(folder: str) -> list[str]:
  """Returns what is in a folder, nothing where there is none."""
  if not tf.io.gfile.isdir(folder):
    return []
  return sorted(tf.io.gfile.listdir(folder))


def _index_last(names: list[str]) -> list[str]:
  """Orders the files of a checkpoint: only with its index it is one."""
  return sorted(names, key=lambda name: name.endswith(".index"))


def _sync(path: str) -> None:
  """Sees a file to the disk, for the machine that is taken away with it."""
  with open(path, "rb") as file:
    os.fsync(file.fileno())


def _fault(prefix: str) -> str:
  """Reads all of a checkpoint, with its checksums; says what is wrong."""
  prefix = plain_paths.plain(prefix)

  def read(kinds: Mapping[str, tf.DType]) -> None:
    # An op and not tf.train.CheckpointReader, which hides what it met: the
    # codes of its errors are guesses from their texts.
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
  """Yields name → type of as many tensors as are well read at a time.

  Each time the index is read, in a bucket by requests of their own.
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
  """An error in a line: TensorFlow's name the op in front, and run on."""
  return str(error).split("\n", maxsplit=1)[0].rsplit("}} ", 1)[-1]
