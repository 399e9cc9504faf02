"""Makes the records on Apache Beam: Dataflow, Flink, Spark, or local processes.

One pipeline has all steps of a `pretraining_data.Plan`. The program that starts
the pipeline reads no more of the corpus than the first bytes of its files.

    corpus → measures → GroupByKey → survey → overview, portions
    portions → likeness
    overview → job
    portions, likeness, overview → pools → job   (--random_next_sentence only)
    portions, likeness → ranges
    ranges, job → examples → GroupByKey by file → our writer of TFRecords

The records have the same bytes as those of the local runner, because the same
functions are called.

A step with several results has a main output and tagged outputs, to which
`beam_pipelines.tag` sends single results.
"""

import collections
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data_prep.files import (
  beam_pipelines,
  documents,
  json_files,
  manifest,
  storage,
)
from data_prep.pretraining import examples, held_out, pretraining_data

_COUNTS, _OVERVIEW = "counts", "overview"  # names of second outputs
_RESULT = "beam-result.json"  # in the output folder, while the pipeline runs

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
  with beam_pipelines.running(beam_options, plan.folder) as pipeline:
    _build(pipeline, plan)
  path = os.path.join(plan.folder, _RESULT)
  result = json_files.read(path)
  storage.remove(path)
  counts: examples.Counts = collections.Counter(result["counts"])
  pretraining_data.require_examples(counts)
  job = pretraining_data.Job(**result["job"], recipe=plan.settings)
  return pretraining_data.Outcome(
    job, counts, result["hashes"], result["files"]
  )


def _build(
  pipeline: beam_pipelines.Pipeline, plan: pretraining_data.Plan
) -> None:
  """Adds all steps of a plan to a Beam pipeline; runs nothing."""
  beam = pipeline.beam
  corpus = (
    pipeline.root
    | "Corpus" >> beam.Create(list(enumerate(plan.portions)))
    | "Spread corpus" >> beam.Reshuffle()
  )
  surveyed = (
    corpus
    | pipeline.each("Measure", _measured)
    | "To one worker" >> beam.GroupBy(beam_pipelines.one_key)
    | pipeline.tagged("Survey", _Survey(plan))
  )
  overview = surveyed[_OVERVIEW]
  portions = surveyed.main | "Spread portions" >> beam.Reshuffle()
  likeness = (
    portions
    | pipeline.each("Held-out text", held_out.Likeness.of_portion)
    | "All held-out text" >> beam.CombineGlobally(held_out.Likeness.union)
  )
  jobs = overview | pipeline.each("Forecast", _Forecast(plan))
  if plan.settings.random_next_sentence:
    choices = (
      portions
      | pipeline.each("Choose segments", plan.choices, likeness, overview)
      | "Pool" >> beam.CombineGlobally(pretraining_data.together)
    )
    jobs = jobs | pipeline.each("Write pools", _Pools(plan), choices)
  ranges = portions | pipeline.tagged("Ranges", _Ranges(plan), likeness)
  rows = (
    ranges.main
    | "Spread ranges" >> beam.Reshuffle()
    | pipeline.tagged("Examples", _examples, jobs)
  )
  # An empty entry for each bucket: a bucket without examples is a file too.
  buckets = jobs | pipeline.flat("Buckets", _buckets)
  written = (
    (rows.main, buckets)
    | "With buckets" >> beam.Flatten()
    | "By file" >> beam.GroupByKey()
    | pipeline.each("Write", _write, jobs)
    | "Files" >> beam.combiners.ToDict()
  )
  counts = (
    (ranges[_COUNTS], rows[_COUNTS])
    | "All counts" >> beam.Flatten()
    | "Sum" >> beam.CombineGlobally(_sum)
  )
  hashes = (
    corpus
    | pipeline.flat("Hash", _hashes)
    | "Hashes" >> beam.combiners.ToDict()
  )
  jobs | pipeline.each("Result", _Result(plan), counts, hashes, written)


def _measured(portion: _Numbered) -> held_out.Measures:
  return held_out.measured(*portion)


def _hashes(portion: _Numbered) -> Iterator[tuple[str, str]]:
  """Yields (path, SHA-256) of each file of a numbered portion of the corpus."""
  for files in portion[1]:
    yield from ((path, storage.sha256(path)) for path in files.paths)


@dataclasses.dataclass(frozen=True)
class _Survey:
  """Step that chooses the held-out documents (`pretraining_data.Plan.survey`).

  The input is (a constant, the measures of all portions). The output is each
  `held_out.Portion`; the `held_out.Overview` goes to the output _OVERVIEW.

  Attributes:
    plan: the steps from the corpus to the records.
  """

  plan: pretraining_data.Plan

  def __call__(
    self, grouped: tuple[int, Iterable[held_out.Measures]]
  ) -> Iterator[Any]:
    survey = self.plan.survey(grouped[1])
    yield beam_pipelines.tag(_OVERVIEW, survey.overview)
    yield from survey.portions


@dataclasses.dataclass(frozen=True)
class _Forecast:
  """Step from an overview to the Job: the settings of stages one and two.

  A forecast of the size of the records decides how many files the Job names.

  Attributes:
    plan: the steps from the corpus to the records.
  """

  plan: pretraining_data.Plan

  def __call__(self, overview: held_out.Overview) -> pretraining_data.Job:
    forecast = pretraining_data.forecast_of(overview, self.plan.settings)
    return self.plan.job(overview, forecast)


@dataclasses.dataclass(frozen=True)
class _Pools:
  """Step that writes the pools of random second segments to files.

  The input is the Job, and the choices of all portions together. The output is
  the Job with the paths of the files in its attribute `pools`.

  Attributes:
    plan: the steps from the corpus to the records.
  """

  plan: pretraining_data.Plan

  def __call__(
    self, job: pretraining_data.Job, choices: pretraining_data.Choices
  ) -> pretraining_data.Job:
    return dataclasses.replace(job, pools=self.plan.pools(choices))


@dataclasses.dataclass(frozen=True)
class _Ranges:
  """Step that divides a portion of the corpus into ranges of documents.

  The input is a portion, and a Likeness that recognises held-out text. The
  output is each `examples.Range`. The counts of the documents that are left out
  go to the output _COUNTS.

  Attributes:
    plan: the steps from the corpus to the records.
  """

  plan: pretraining_data.Plan

  def __call__(
    self, portion: held_out.Portion, likeness: held_out.Likeness
  ) -> Iterator[Any]:
    skipped: examples.Counts = collections.Counter()
    yield from pretraining_data.ranges(
      pretraining_data.used(portion, likeness, self.plan.settings, skipped)
    )
    yield beam_pipelines.tag(_COUNTS, dict(skipped))


def _examples(task: examples.Range, job: pretraining_data.Job) -> Iterator[Any]:
  """Makes the examples of a range of documents: stage one.

  Args:
    task: the range.
    job: the settings of the stages.

  Yields:
    ((role, bucket), (sort key, serialised example)) for each example; and the
    counts of the examples, tagged for the output _COUNTS.
  """
  made = job.examples(task)
  yield beam_pipelines.tag(_COUNTS, dict(made.counts))
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
) -> tuple[str, dict[str, Any]]:
  """Sorts the examples of a bucket by key and writes its file: stage two.

  Args:
    grouped: ((role, bucket), (sort key, serialised example) of each example); a
      None among the examples is skipped.
    job: the settings of the stages.

  Returns:
    the name of the file, and its description for the manifest.
  """
  (role, bucket), entries = grouped
  job.finish(role, bucket, filter(None, entries))
  name = job.names[role][bucket]
  return name, manifest.described(os.path.join(job.folder, name))


def _sum(parts: Iterable[dict[str, int]]) -> dict[str, int]:
  """Returns name → the sum of the counts with this name."""
  total: examples.Counts = collections.Counter()
  for part in parts:
    total.update(part)
  return dict(total)


@dataclasses.dataclass(frozen=True)
class _Result:
  """Step that writes a JSON file for the program that waits for the pipeline.

  The file holds the Job without its recipe, the counts, the hashes of the
  corpus files, and the descriptions of the written files.

  Attributes:
    plan: the steps from the corpus to the records.
  """

  plan: pretraining_data.Plan

  def __call__(
    self,
    job: pretraining_data.Job,
    counts: dict[str, int],
    hashes: dict[str, str],
    files: dict[str, Any],
  ) -> None:
    kept = {
      field.name: getattr(job, field.name)
      for field in dataclasses.fields(job)
      if field.name != "recipe"
    }
    with storage.writing(os.path.join(self.plan.folder, _RESULT)) as file:
      json.dump(
        {"job": kept, "counts": counts, "hashes": hashes, "files": files}, file
      )
