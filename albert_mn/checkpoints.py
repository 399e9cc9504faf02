"""What a run goes on from: written whole, read back, and only then relied on.

model.ckpt-N.*   weights, optimizer slots and step N; there when its index is
checkpoint       TensorFlow's list of them, for tf.train.latest_checkpoint
damaged-*        what could not be read, for a person to look at
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from albert_mn import model_directory
from data_prep import options, storage

_NAME = "model.ckpt"
_FILE = re.compile(re.escape(_NAME) + r"-(\d+)(\.\S+|_temp)/?")
_LIST = "checkpoint"


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
    self._checkpoint = tf.train.Checkpoint(**parts)
    self._step = parts["optimizer"].iterations
    self._keep, self._writes = keep, writes

  def steps(self) -> list[int]:
    """Returns the steps of the checkpoints that are there, in order."""
    found = (_FILE.fullmatch(name) for name in self._names())
    return sorted(int(m[1]) for m in found if m and m[2] == ".index")

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
      self._remove_remnants()
    damaged: dict[int, str] = {}
    for step in reversed(self.steps()):
      if fault := _fault(self.prefix(step)):
        damaged[step] = fault
        continue
      self._restore(self.prefix(step))
      for number, why in damaged.items():
        self._set_aside(number, why)
      return step
    if damaged:
      newest = max(damaged)
      raise options.InputError(
        f"a whole checkpoint in {self.folder}",
        f"{len(damaged)} damaged ones: {self.prefix(newest)}: "
        f"{damaged[newest]}",
        "copy one back, or give another --output_dir",
      )
    return None

  def _restore(self, prefix: str) -> None:
    try:
      self._checkpoint.read(prefix).assert_existing_objects_matched()
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
    if not self._writes:
      return
    prefix = self.prefix(self.step())
    try:
      self._checkpoint.write(prefix)
      fault = _fault(prefix)
    except (tf.errors.OpError, OSError) as error:
      fault = _first_line(error)
    if fault:
      raise options.InputError(
        f"to write {prefix} and to read it back",
        fault,
        "make room there, then start the same command: the older checkpoints "
        "are kept",
      )
    self._list()
    for step in self.steps()[: -self._keep]:
      self._delete(step)
    logging.info("saved %s", prefix)

  def discard_after(self, step: int) -> None:
    """Deletes the checkpoints that are newer than that of a step."""
    for newer in reversed([s for s in self.steps() if s > step]):
      self._delete(newer)
    self._list()

  def _list(self) -> None:
    """Writes TensorFlow's list."""
    names = [f"{_NAME}-{step}" for step in self.steps()[-self._keep :]]
    with storage.writing(os.path.join(self.folder, _LIST)) as file:
      file.write(f'model_checkpoint_path: "{names[-1]}"\n')
      for name in names:
        file.write(f'all_model_checkpoint_paths: "{name}"\n')

  def _remove_remnants(self) -> None:
    """Removes what a killed process left of a checkpoint half written."""
    whole = set(self.steps())
    for name in self._names():
      match = _FILE.fullmatch(name)
      if not match:
        continue
      path = os.path.join(self.folder, name)
      if match[2] == "_temp":
        tf.io.gfile.rmtree(path)
      elif int(match[1]) not in whole or ".tempstate" in name:
        tf.io.gfile.remove(path)

  def _set_aside(self, step: int, why: str) -> None:
    """Renames a checkpoint to damaged-*."""
    logging.warning("%s is damaged: %s", self.prefix(step), why)
    if self._writes:
      logging.warning("it is set aside as damaged-%s-%d.*", _NAME, step)
      for name in self._files(step):
        tf.io.gfile.rename(
          os.path.join(self.folder, name),
          os.path.join(self.folder, f"damaged-{name}"),
          overwrite=True,
        )

  def _delete(self, step: int) -> None:
    # The index first: what it does not name is a remnant.
    for name in sorted(
      self._files(step), key=lambda name: not name.endswith(".index")
    ):
      tf.io.gfile.remove(os.path.join(self.folder, name))

  def _files(self, step: int) -> list[str]:
    return [n for n in self._names() if n.startswith(f"{_NAME}-{step}.")]

  def _names(self) -> list[str]:
    if not tf.io.gfile.isdir(self.folder):
      return []
    return list(tf.io.gfile.listdir(self.folder))

  def prefix(self, step: int) -> str:
    """Returns the path of a step's checkpoint, without its endings."""
    return os.path.join(self.folder, f"{_NAME}-{step}")


def _fault(prefix: str) -> str:
  """Reads all of a checkpoint, with its checksums; says what is wrong."""
  try:
    reader = tf.train.load_checkpoint(prefix)
    for name in reader.get_variable_to_shape_map():
      reader.get_tensor(name)
  except model_directory.UNREADABLE as error:
    return _first_line(error)
  return ""


def _first_line(error: BaseException) -> str:
  return str(error).split("\n", maxsplit=1)[0]
