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
  """A pipeline of Apache Beam, and methods that make the steps to add to it.

  Attributes:
    beam: the module apache_beam.
    root: Beam's own pipeline.
    folder: the output folder.
  """

  beam: Any
  root: Any
  folder: str

  def each(self, name: str, function: Callable[..., Any], *sides: Any) -> Any:
    """Returns a step that replaces each element by function(element, *sides).

    An InputError of `function` ends the pipeline, and `running` raises it.

    Args:
      name: the name of the step; no other step may have it.
      function: a function of a module or a method of a small object, because it
        is pickled.
      *sides: further arguments of each call; in place of a PCollection of one
        element, the function gets the element.
    """
    run = _Step(function, self.folder).run
    return name >> self.beam.Map(run, *map(self._side, sides))

  def flat(self, name: str, function: Callable[..., Any], *sides: Any) -> Any:
    """Returns a step that replaces each element by any number of results.

    Args:
      name: the name of the step; no other step may have it.
      function: function(element, *sides) yields the results for an element.
      *sides: further arguments of each call, as in `each`.
    """
    run = _Steps(function, self.folder).run
    return name >> self.beam.FlatMap(run, *map(self._side, sides))

  def _side(self, value: Any) -> Any:
    is_collection = isinstance(value, self.beam.pvalue.PCollection)
    return self.beam.pvalue.AsSingleton(value) if is_collection else value

  def tagged(self, name: str, function: Callable[..., Any], *sides: Any) -> Any:
    """Returns a step with any number of results and with several outputs.

    Results that `function` passed through `tag` are in the output [name of the
    tag] of the step, all other results in its output `.main`.

    Args:
      name: the name of the step; no other step may have it.
      function: function(element, *sides) yields the results for an element.
      *sides: further arguments of each call, as in `each`.
    """
    return self.flat(name, function, *sides).with_outputs(main="main")


def tag(name: str, value: Any) -> Any:
  """Returns a result marked for an extra output of a step (`Pipeline.tagged`).

  Args:
    name: the name of the output.
    value: the result.
  """
  import apache_beam as beam

  return beam.pvalue.TaggedOutput(name, value)


def one_key(_: object) -> int:
  """Returns 0, as the key of every element, so that one worker gets them all."""
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
  """Writes an InputError of the context to a file in `folder`; raises it again.

  The program that waits for the pipeline reads the file. Beam itself passes on
  the text of an error, but each runner in other words.
  """
  try:
    yield
  except options.InputError as error:
    with storage.writing(os.path.join(folder, _ERROR)) as file:
      json.dump([error.expected, error.got, error.action], file)
    raise


@dataclasses.dataclass(frozen=True)
class _Step:
  """The function of a step with one result for each element, picklable.

  `run` returns function(element, *sides). An InputError of `function` is
  written to a file in `folder`, for the program that waits for the pipeline,
  and is raised again.
  """

  function: Callable[..., Any]
  folder: str

  def run(self, *arguments: Any) -> Any:
    with _noting(self.folder):
      return self.function(*arguments)


@dataclasses.dataclass(frozen=True)
class _Steps:
  """The function of a step with several results for each element, picklable.

  `run` yields the results of function(element, *sides). An InputError of
  `function` is written to a file in `folder` and raised again.
  """

  function: Callable[..., Iterator[Any]]
  folder: str

  def run(self, *arguments: Any) -> Iterator[Any]:
    with _noting(self.folder):
      yield from self.function(*arguments)
