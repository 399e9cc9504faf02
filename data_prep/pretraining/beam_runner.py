"""Makes the records on Apache Beam: Dataflow, Flink, Spark, or local processes.

A pipeline cannot carry a corpus. So the ranges of documents are written to
files in the output folder, and the workers read these files. The examples go
through a GroupByKey to our own writer of TFRecords, so the bytes are those of
the local runner.

Beam has an environment of its own (requirements-beam.txt), because it needs
another version of protobuf than TensorFlow. Its workers need this package, and
access to the tokenizer's file and to the output folder.
"""

import collections
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from data_prep.base import beam_flags, options
from data_prep.files import json_files, storage
from data_prep.pretraining import examples, pretraining_data

_FOLDER = "beam-ranges"  # of the output folder, while the pipeline runs
_COUNTS = "counts"

Keyed = tuple[tuple[str, int], tuple[int, bytes] | None]


def run(
  beam_options: str,
  job: pretraining_data.Job,
  tasks: Iterable[examples.Range],
  forecast: pretraining_data.Forecast,
) -> examples.Counts:
  """Makes the records on Beam; returns their counts: name → number.

  Args:
    beam_options: flags of Apache Beam, separated by spaces.
    job, tasks, forecast: as pretraining_data.Runner's.

  Raises:
    options.InputError: when Apache Beam is not installed, when it would fetch
      a program with these flags, or when no example was made.
  """
  del forecast  # Beam has its own display of progress
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
  folder = os.path.join(job.folder, _FOLDER)
  _remove(folder)
  try:
    paths = list(_written(tasks, folder))
    with beam.Pipeline(
      options=pipeline_options.PipelineOptions(flags)
    ) as pipeline:
      made = (
        pipeline
        | beam.Create(paths)
        | beam.Reshuffle()
        | beam.FlatMap(_StageOne(job)).with_outputs(_COUNTS, main="examples")
      )
      # An empty entry for each bucket: a bucket without examples is a file too.
      buckets = pipeline | "Buckets" >> beam.Create(list(_empty(job)))
      (
        (made.examples, buckets)
        | beam.Flatten()
        | beam.GroupByKey()
        | beam.Map(_StageTwo(job))
      )
      (
        made[_COUNTS]
        | beam.CombineGlobally(_sum)
        | "Counts" >> beam.Map(_write_counts, os.path.join(folder, _COUNTS))
      )
    counts: examples.Counts = collections.Counter(
      json_files.read(os.path.join(folder, _COUNTS))
    )
  finally:
    _remove(folder)
  pretraining_data.require_examples(counts)
  return counts


def _written(tasks: Iterable[examples.Range], folder: str) -> Iterator[str]:
  """Writes each range to a file; yields the paths of the files."""
  storage.make_folder(folder)
  for number, task in enumerate(tasks):
    path = os.path.join(folder, f"{number:07d}.json")
    with storage.writing(path) as file:
      file.write(json.dumps(dataclasses.asdict(task), ensure_ascii=False))
    yield path


def _read(path: str) -> examples.Range:
  """Returns the range of documents in a file of `_written`."""
  content = json_files.read(path)
  texts = (
    examples.Text(**text | {"sentences": tuple(text["sentences"])})
    for text in content["texts"]
  )
  return examples.Range(content["held_out"], tuple(texts))


def _remove(folder: str) -> None:
  """Deletes the files of a folder, and the folder if it is local.

  The folder holds no other folder. If it does not exist, nothing happens.
  """
  for name in storage.names(folder):
    storage.remove(os.path.join(folder, name))
  if os.path.isdir(folder):
    os.rmdir(folder)


def _empty(job: pretraining_data.Job) -> Iterator[Keyed]:
  """Yields ((role, bucket), None) for each bucket, so that each gets a file."""
  for role, names in job.names.items():
    yield from (((role, bucket), None) for bucket in range(len(names)))


@dataclasses.dataclass(frozen=True)
class _StageOne:
  """Stage one of the records, as a function for Beam: makes the examples.

  A call with the path of a file of `_written` yields ((role, bucket), (sort
  key, example)) for each example, and the counts as a tagged output.
  """

  job: pretraining_data.Job

  def __call__(self, path: str) -> Iterator[Any]:
    import apache_beam as beam

    task = _read(path)
    made = self.job.examples(task)
    yield beam.pvalue.TaggedOutput(_COUNTS, dict(made.counts))
    for bucket, keyed in made.buckets.items():
      for entry in keyed:
        yield (task.role, bucket), entry


@dataclasses.dataclass(frozen=True)
class _StageTwo:
  """Stage two of the records, as a function for Beam: writes a bucket's file.

  A call takes ((role, bucket), entries), where None entries do not count.
  """

  job: pretraining_data.Job

  def __call__(
    self, grouped: tuple[tuple[str, int], Iterable[tuple[int, bytes] | None]]
  ) -> None:
    (role, bucket), entries = grouped
    self.job.finish(role, bucket, filter(None, entries))


def _sum(parts: Iterable[dict[str, int]]) -> dict[str, int]:
  """Returns the sums of counts by name."""
  total: examples.Counts = collections.Counter()
  for part in parts:
    total.update(part)
  return dict(total)


def _write_counts(counts: dict[str, int], path: str) -> None:
  with storage.writing(path) as file:
    file.write(json.dumps(counts))
