"""Makes the records on Apache Beam: Dataflow, Flink, Spark, or local processes.

One pipeline has all steps of a `pretraining_data.Plan`. The program that starts
the pipeline reads no more of the corpus than the first bytes of its files.

    portions → measures → GroupByKey → survey ─┬→ overview → job
                                               └→ portions ─┬→ likeness
                                                            ├→ pools
      ranges ← portions, likeness ←──────────────────────────┘
      ranges → examples → GroupByKey by file → our writer of TFRecords

The bytes are those of the local runner, because the same functions are called.

Beam has an environment of its own (requirements-beam.txt), because it needs
another version of protobuf than TensorFlow. Its workers need this package, and
access to the corpus, the tokenizer's file and the output folder.
"""

import collections
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from data_prep.base import beam_flags, options
from data_prep.files import documents, json_files, storage
from data_prep.pretraining import examples, held_out, pretraining_data

_COUNTS, _OVERVIEW = "counts", "overview"  # names of second outputs
# Files of the output folder, while the pipeline runs.
_RESULT, _ERROR = "beam-result.json", "beam-error.json"

Keyed = tuple[tuple[str, int], tuple[int, bytes] | None]
_Numbered = tuple[int, Sequence[documents.Files]]


def run(
  beam_options: str, plan: pretraining_data.Plan
) -> pretraining_data.Outcome:
  """Makes the records on Beam.

  Args:
    beam_options: flags of Apache Beam, separated by spaces.
    plan: the steps.

  Raises:
    options.InputError: when Apache Beam is not installed, when it would fetch
      a program with these flags, when no example was made, or when a worker
      met bad input.
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
  try:
    with beam.Pipeline(
      options=pipeline_options.PipelineOptions(flags)
    ) as pipeline:
      _build(beam, pipeline, plan)
  except Exception as error:
    raise _bad_input(plan.folder) or error from error
  result = json_files.read(os.path.join(plan.folder, _RESULT))
  for name in (_RESULT, _ERROR):
    storage.remove(os.path.join(plan.folder, name))
  counts: examples.Counts = collections.Counter(result["counts"])
  pretraining_data.require_examples(counts)
  job = pretraining_data.Job(**result["job"], recipe=plan.settings)
  return pretraining_data.Outcome(job, counts, result["hashes"])


def _build(beam: Any, pipeline: Any, plan: pretraining_data.Plan) -> None:
  """Adds all steps to a pipeline.

  Args:
    beam: the module apache_beam.
    pipeline: the pipeline.
    plan: the steps.
  """

  def step(name: str, function: Callable[..., Any], *sides: Any) -> Any:
    return name >> beam.Map(_Step(function, plan.folder).run, *sides)

  def steps(name: str, function: Callable[..., Any], *sides: Any) -> Any:
    return name >> beam.FlatMap(_Steps(function, plan.folder).run, *sides)

  single = beam.pvalue.AsSingleton
  corpus = (
    pipeline
    | "Corpus" >> beam.Create(list(enumerate(plan.portions)))
    | "Spread corpus" >> beam.Reshuffle()
  )
  surveyed = (
    corpus
    | step("Measure", _measured)
    | "To one worker" >> beam.GroupBy(_same)
    | steps("Survey", _Survey(plan)).with_outputs(_OVERVIEW, main="portions")
  )
  overview = single(surveyed[_OVERVIEW])
  portions = surveyed.portions | "Spread portions" >> beam.Reshuffle()
  likeness = single(
    portions
    | step("Held-out text", held_out.Likeness.of_portion)
    | "All held-out text" >> beam.CombineGlobally(held_out.Likeness.union)
  )
  jobs = surveyed[_OVERVIEW] | step("Forecast", _Forecast(plan))
  if plan.settings.random_next_sentence:
    choices = (
      portions
      | step("Choose segments", plan.choices, likeness, overview)
      | beam.CombineGlobally(pretraining_data.together)
    )
    jobs = jobs | step("Pools", _Pools(plan), single(choices))
  job = single(jobs)
  ranges = portions | steps("Ranges", _Ranges(plan), likeness).with_outputs(
    _COUNTS, main="ranges"
  )
  made = (
    ranges.ranges
    | "Spread ranges" >> beam.Reshuffle()
    | steps("Examples", _examples, job).with_outputs(_COUNTS, main="examples")
  )
  # An empty entry for each bucket: a bucket without examples is a file too.
  buckets = jobs | steps("Buckets", _buckets)
  written = (
    (made.examples, buckets)
    | "With buckets" >> beam.Flatten()
    | beam.GroupByKey()
    | step("Write", _write, job)
  )
  counts = (
    (ranges[_COUNTS], made[_COUNTS], written)
    | "All counts" >> beam.Flatten()
    | "Sum" >> beam.CombineGlobally(_sum)
  )
  hashes = (
    corpus | steps("Hash", _hashes) | "All hashes" >> beam.combiners.ToDict()
  )
  jobs | step("Result", _Result(plan), single(counts), single(hashes))


def _bad_input(folder: str) -> options.InputError | None:
  """Returns the InputError that a worker noted; None if it noted none."""
  path = os.path.join(folder, _ERROR)
  return (
    options.InputError(*json_files.read(path)) if storage.exists(path) else None
  )


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
  """A step that returns one result, and notes bad input in a folder."""

  function: Callable[..., Any]
  folder: str

  def run(self, *arguments: Any) -> Any:
    with _noting(self.folder):
      return self.function(*arguments)


@dataclasses.dataclass(frozen=True)
class _Steps:
  """A step that yields several results, and notes bad input in a folder."""

  function: Callable[..., Iterator[Any]]
  folder: str

  def run(self, *arguments: Any) -> Iterator[Any]:
    with _noting(self.folder):
      yield from self.function(*arguments)


def _tagged(tag: str, value: Any) -> Any:
  import apache_beam as beam

  return beam.pvalue.TaggedOutput(tag, value)


def _same(_: object) -> int:
  """Returns one key for all, which brings all to one worker."""
  return 0


def _measured(portion: _Numbered) -> held_out.Measures:
  return held_out.measured(*portion)


def _hashes(portion: _Numbered) -> Iterator[tuple[str, str]]:
  """Yields (path, SHA-256) of the files of a portion."""
  for files in portion[1]:
    yield from ((path, storage.sha256(path)) for path in files.paths)


@dataclasses.dataclass(frozen=True)
class _Survey:
  """Yields the surveyed portions of the corpus; the overview is tagged."""

  plan: pretraining_data.Plan

  def __call__(
    self, grouped: tuple[int, Iterable[held_out.Measures]]
  ) -> Iterator[Any]:
    survey = self.plan.survey(grouped[1])
    yield _tagged(_OVERVIEW, survey.overview)
    yield from survey.portions


@dataclasses.dataclass(frozen=True)
class _Forecast:
  """Returns the job of the two stages, whose files a forecast decides."""

  plan: pretraining_data.Plan

  def __call__(self, overview: held_out.Overview) -> pretraining_data.Job:
    forecast = pretraining_data.forecast_of(overview, self.plan.settings)
    return self.plan.job(overview, forecast)


@dataclasses.dataclass(frozen=True)
class _Pools:
  """Writes the pools of random second segments; returns the job with them."""

  plan: pretraining_data.Plan

  def __call__(
    self, job: pretraining_data.Job, choices: pretraining_data.Choices
  ) -> pretraining_data.Job:
    return dataclasses.replace(job, pools=self.plan.pools(choices))


@dataclasses.dataclass(frozen=True)
class _Ranges:
  """Yields the ranges of a portion; the counts of what is left out are tagged."""

  plan: pretraining_data.Plan

  def __call__(
    self, portion: held_out.Portion, likeness: held_out.Likeness
  ) -> Iterator[Any]:
    skipped: examples.Counts = collections.Counter()
    yield from pretraining_data.ranges(
      pretraining_data.used(portion, likeness, self.plan.settings, skipped)
    )
    yield _tagged(_COUNTS, dict(skipped))


def _examples(task: examples.Range, job: pretraining_data.Job) -> Iterator[Any]:
  """Yields ((role, bucket), (sort key, example)) of a range: stage one.

  The counts are tagged.
  """
  made = job.examples(task)
  yield _tagged(_COUNTS, dict(made.counts))
  for bucket, keyed in made.buckets.items():
    for entry in keyed:
      yield (task.role, bucket), entry


def _buckets(job: pretraining_data.Job) -> Iterator[Keyed]:
  """Yields ((role, bucket), None) for each bucket, so that each gets a file."""
  for role, names in job.names.items():
    yield from (((role, bucket), None) for bucket in range(len(names)))


def _write(
  grouped: tuple[tuple[str, int], Iterable[tuple[int, bytes] | None]],
  job: pretraining_data.Job,
) -> dict[str, int]:
  """Writes a bucket's file, stage two; returns no counts.

  Args:
    grouped: ((role, bucket), entries), where None entries do not count.
    job: the settings.
  """
  (role, bucket), entries = grouped
  job.finish(role, bucket, filter(None, entries))
  return {}


def _sum(parts: Iterable[dict[str, int]]) -> dict[str, int]:
  """Returns the sums of counts by name."""
  total: examples.Counts = collections.Counter()
  for part in parts:
    total.update(part)
  return dict(total)


@dataclasses.dataclass(frozen=True)
class _Result:
  """Writes the result for the program that waits for the pipeline."""

  plan: pretraining_data.Plan

  def __call__(
    self,
    job: pretraining_data.Job,
    counts: dict[str, int],
    hashes: dict[str, str],
  ) -> None:
    kept = {
      field.name: getattr(job, field.name)
      for field in dataclasses.fields(job)
      if field.name != "recipe"
    }
    with storage.writing(os.path.join(self.plan.folder, _RESULT)) as file:
      json.dump({"job": kept, "counts": counts, "hashes": hashes}, file)
