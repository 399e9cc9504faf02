"""TensorBoard events of a run, and the curves read back from them.

A run that was killed and restarted leaves several event files and takes some
steps twice. A kill during a write leaves a truncated record.
"""

import functools
import os
import re
from collections.abc import Mapping

import numpy as np
import orbit
import tensorflow as tf
from google.protobuf import message

from data_prep.files import records, storage

# (step, value), in the order of the steps.
Curve = list[tuple[int, float]]


class Events(orbit.utils.SummaryManagerInterface):
  """Writes the TensorBoard events of a run, all scalars of a step at once.

  orbit calls this manager. orbit's own manager flushes after each scalar, and
  in a bucket each flush uploads the whole file again. A resumed run evaluates
  and probes its first step again; a scalar that only repeats the newest event
  of its tag from an earlier start is not written.

  Args:
    folder: folder of the event files; None in a process that writes no events.
    step: the run's global step.
  """

  def __init__(self, folder: str | None, step: tf.Variable) -> None:
    self._folder, self._step = folder, step

  @functools.cached_property
  def _writer(self) -> tf.summary.SummaryWriter:
    if self._folder is None:
      return tf.summary.create_noop_writer()
    return tf.summary.create_file_writer(self._folder, max_queue=1000)

  @functools.cached_property
  def _earlier(self) -> dict[str, tuple[int, float]]:
    """Tag → (step, value), the newest event of each tag from earlier starts.

    A tag is removed from this dictionary when the current start first writes
    it.
    """
    known = {} if self._folder is None else curves(self._folder)
    return {tag: curve[-1] for tag, curve in known.items()}

  def summary_writer(self, relative_path: str = "") -> tf.summary.SummaryWriter:
    del relative_path  # orbit passes none
    return self._writer

  def write_summaries(self, summary_dict: Mapping[str, float]) -> None:
    step = int(self._step.numpy())
    new = {
      name: value
      for name, value in summary_dict.items()
      if self._earlier.pop(name, None) != (step, float(np.float32(value)))
    }
    with self._writer.as_default(self._step):  # flushes at its end
      for name, value in new.items():
        tf.summary.scalar(name, value)

  def flush(self) -> None:
    """Does nothing: `write_summaries` has flushed already."""


def curves(folder: str) -> dict[str, Curve]:
  """Returns tag → curve of all scalars in a folder of event files.

  A curve is a list of (step, value), in the order of the steps. The result is
  {} if there are no events.

  If the run went back to a checkpoint and took a step again, the new value and
  the steps after it replace the old ones. So the curves equal those of an
  uninterrupted run.
  """
  by_tag: dict[str, Curve] = {}
  for path in _files(folder):
    for tag, step, value in _scalars(path):
      curve = by_tag.setdefault(tag, [])
      while curve and curve[-1][0] >= step:
        curve.pop()
      curve.append((step, value))
  return by_tag


def _files(folder: str) -> list[str]:
  """Returns the paths of event files in the order in which they were begun.

  The order is by the numbers in the names: second, process, file number. They
  are compared as numbers: a process's tenth file comes after its ninth.
  """
  names = [name for name in storage.names(folder) if ".tfevents." in name]
  return [os.path.join(folder, name) for name in sorted(names, key=_numbers)]


def _numbers(name: str) -> list[tuple[int, str]]:
  """Returns a sort key for a file name, in which digits compare as numbers."""
  parts = re.split(r"(\d+)", name)
  return [(int(p), "") if p.isdecimal() else (0, p) for p in parts]


def _scalars(path: str) -> list[tuple[str, int, float]]:
  """Returns (tag, step, value) of each scalar, up to the first damaged record."""
  scalars = []
  with storage.reading(path) as file:
    try:
      for record in records.read_framed(file):
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
          if value.metadata.plugin_data.plugin_name == "scalars":
            number = float(tf.make_ndarray(value.tensor))
            scalars.append((value.tag, event.step, number))
    except (ValueError, message.DecodeError):
      pass  # a killed writer; its next start writes a new file
  return scalars
