"""Runs pipelines of Apache Beam, and passes on the bad input of their workers.

Beam has an environment of its own (requirements-beam.txt), because it needs
another version of protobuf than TensorFlow. Its workers need this package, and
access to the input and to the output folder.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from data_prep.base import beam_flags, options
from data_prep.files import json_files, storage

_ERROR = "beam-error.json"  # in the output folder, while the pipeline runs


@dataclasses.dataclass(frozen=True)
class Pipeline:
  """A pipeline, to which steps are added.

  Attributes:
    beam: the module apache_beam.
    root: Beam's own pipeline.
    folder: the output folder.
  """

  beam: Any
  root: Any
  folder: str

  def each(self, name: str, function: Callable[..., Any], *sides: Any) -> Any:
    """Returns a step: function(element, *sides) for each element.

    Args:
      name: the name of the step, unlike that of any other step.
      function: a function of a module or a method of a small object.
      *sides: further arguments; a collection of one value is its value.
    """
    run = _Step(function, self.folder).run
    return name >> self.beam.Map(run, *map(self._side, sides))

  def flat(self, name: str, function: Callable[..., Any], *sides: Any) -> Any:
    """Returns a step of which `function` yields several results.

    Args:
      name, function, *sides: as in `each`.
    """
    run = _Steps(function, self.folder).run
    return name >> self.beam.FlatMap(run, *map(self._side, sides))

  def _side(self, value: Any) -> Any:
    is_collection = isinstance(value, self.beam.pvalue.PCollection)
    return self.beam.pvalue.AsSingleton(value) if is_collection else value

  def tagged(self, name: str, function: Callable[..., Any], *sides: Any) -> Any:
    """Returns a step whose results are in `.main` and in [tag] (see `tag`)."""
    return self.flat(name, function, *sides).with_outputs(main="main")


def tag(name: str, value: Any) -> Any:
  """Returns a result of a step that goes to another output than the main one.

  Args:
    name: the name of the output.
    value: the result.
  """
  import apache_beam as beam

  return beam.pvalue.TaggedOutput(name, value)


def one_key(_: object) -> int:
  """Returns the same key for everything, which brings all to one worker."""
  return 0


@contextlib.contextmanager
def running(beam_options: str, folder: str) -> Iterator[Pipeline]:
  """Yields a pipeline, which runs when the block ends.

  Args:
    beam_options: flags of Apache Beam, separated by spaces.
    folder: the output folder, which workers can reach.

  Raises:
    options.InputError: when Apache Beam is not installed, when it would fetch
      a program with these flags, or when a worker met bad input.
  """
  flags = beam_flags.checked(beam_options)
  try:
    import apache_beam as beam
    from apache_beam.options import pipeline_options
  except ImportError as error:
    raise options.InputError(
      "Apache Beam for --runner=beam",
      "none installed",
      "run scripts/setup.sh --beam and use .venv-beam/bin/python",
    ) from error
  path = os.path.join(folder, _ERROR)
  try:
    with beam.Pipeline(
      options=pipeline_options.PipelineOptions(flags)
    ) as pipeline:
      yield Pipeline(beam, pipeline, folder)
  except Exception as error:
    if storage.exists(path):
      raise options.InputError(*json_files.read(path)) from error
    raise
  storage.remove(path)


@contextlib.contextmanager
def _noting(folder: str) -> Iterator[None]:
  """Notes bad input in a file for the program that waits for the pipeline.

  Beam itself passes on the text of an error, but each runner in other words.
  """
  try:
    yield
  except options.InputError as error:
    with storage.writing(os.path.join(folder, _ERROR)) as file:
      json.dump([error.expected, error.got, error.action], file)
    raise


@dataclasses.dataclass(frozen=True)
class _Step:
  """A step that returns one result.

  An InputError of `function` is written to a file in `folder`, for the program
  that waits for the pipeline, and is raised again.
  """

  function: Callable[..., Any]
  folder: str

  def run(self, *arguments: Any) -> Any:
    with _noting(self.folder):
      return self.function(*arguments)


@dataclasses.dataclass(frozen=True)
class _Steps:
  """A step that yields several results; its errors are those of `_Step`."""

  function: Callable[..., Iterator[Any]]
  folder: str

  def run(self, *arguments: Any) -> Iterator[Any]:
    with _noting(self.folder):
      yield from self.function(*arguments)
