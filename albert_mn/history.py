"""What a run writes for TensorBoard, and reads back as curves.

A run that was killed and started again leaves several files, and steps that
were taken twice; one that is killed while it writes leaves half a record.
"""

import functools
import os
import re
from collections.abc import Mapping

import orbit
import tensorflow as tf
from google.protobuf import message

from data_prep import records, storage

# (step, value), in the order of the steps.
Curve = list[tuple[int, float]]


class Events(orbit.utils.SummaryManagerInterface):
  """Writes a step's scalars together.

  orbit's own manager lets each scalar through by itself, and in a bucket each
  time the whole file is uploaded anew.

  Args:
    folder: of event files; None where another process writes them.
    step: the run's step.
  """

  def __init__(self, folder: str | None, step: tf.Variable):
    self._folder, self._step = folder, step

  @functools.cached_property
  def _writer(self) -> tf.summary.SummaryWriter:
    if self._folder is None:
      return tf.summary.create_noop_writer()
    return tf.summary.create_file_writer(self._folder, max_queue=1000)

  def summary_writer(self, relative_path: str = "") -> tf.summary.SummaryWriter:
    del relative_path  # none is asked for
    return self._writer

  def write_summaries(self, summary_dict: Mapping[str, float]) -> None:
    with self._writer.as_default(self._step):  # flushes at its end
      for name, value in summary_dict.items():
        tf.summary.scalar(name, value)

  def flush(self) -> None:
    """Nothing is left to be flushed."""


def curves(folder: str) -> dict[str, Curve]:
  """Returns tag → curve of the scalars in a folder of event files.

  A step that comes again makes what was written from there on void: the run
  went back to a checkpoint. So the curves are those of a run that was never
  interrupted.
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
  """Returns them in the order they were begun: second, process, number.

  As numbers: the tenth file of a process comes after its ninth.
  """
  names = [name for name in storage.names(folder) if ".tfevents." in name]
  return [os.path.join(folder, name) for name in sorted(names, key=_numbers)]


def _numbers(name: str) -> list[tuple[int, str]]:
  parts = re.split(r"(\d+)", name)
  return [(int(p), "") if p.isdecimal() else (0, p) for p in parts]


def _scalars(path: str) -> list[tuple[str, int, float]]:
  """Returns tag, step and value of each scalar, up to a cut record."""
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
      pass  # the writer was killed; the next start has a file of its own
  return scalars
