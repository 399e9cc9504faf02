"""Turns a corpus into TFRecords: the library behind create_pretraining_data.

A `Plan` has the steps, and a runner calls them on this machine's cores or on
Apache Beam. The corpus is read three times, in portions. The first reading
measures the text; from the measures, held-out documents are chosen
(`held_out`). The second reading collects the held-out sentences. The third
divides the documents into ranges. Stage one makes examples of each range. Stage
two sorts the examples and writes the files.
"""

import collections
import contextlib
import dataclasses
import functools
import glob
import itertools
import math
import os
import pathlib
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from data_prep.base import beam_flags, options, parallel
from data_prep.encoding import tokenization
from data_prep.files import (
  documents,
  external_sort,
  manifest,
  ownership,
  records,
  storage,
  whole_folders,
)
from data_prep.pretraining import examples, held_out, random_segments

# A range of documents ends at either limit, so that a task of books takes no
# longer than a task of tweets.
_DOCUMENTS_A_RANGE = 256
_LETTERS_A_RANGE = 1 << 20
_BYTES_A_SHARD = 64 << 20
_SPILL = ".spill-"  # prefix of the name of stage one's folder
# Bytes that a process sorts in memory: a file of the planned size, and half as
# much again in case the forecast was too low.
_SORT_MEMORY = 96 << 20


@dataclasses.dataclass(frozen=True)
class GoogleFlags(options.Group):
  """Flags of google-research/albert without effect."""

  vocab_file: str = options.ignored(
    "",
    "the vocabulary is part of the SentencePiece model; give --spm_model_file "
    "alone",
  )
  input_file_mode: str = options.ignored(
    "", "input files are read as UTF-8 text; leave the flag out"
  )
  parallel: bool = options.ignored(
    False, "several processes work in any case; --num_workers sets how many"
  )


@dataclasses.dataclass(frozen=True)
class Options(examples.Recipe, beam_flags.Options, GoogleFlags):
  """The corpus, the tokenizer, the output and the processes."""

  input_file: str = options.option(
    "",
    "Corpus files with one sentence in each line and a blank line between "
    "documents, as glob patterns separated by commas. FILES:2 uses files "
    "twice as often as others. Required, unless --isolated_lines_file is "
    "given.",
  )
  isolated_lines_file: str = options.option(
    "",
    "Files of lines whose order means nothing, such as headlines or "
    "lyrics, as glob patterns separated by commas, with weights as in "
    "FILES:2. The lines are packed together and serve the masked LM only.",
  )
  spm_model_file: str = options.option(
    "",
    "SentencePiece model that divides sentences into pieces. Required.",
  )
  output_dir: str = options.option(
    "",
    "Folder for the TFRecord files, the tokenizer and a manifest. "
    "Required, unless --output_file is given.",
  )
  output_file: str = options.option(
    "",
    "Names of the training files, separated by commas, all in one folder: "
    "google-research's flag, which replaces --output_dir and "
    "--num_shards.",
  )
  eval_fraction: float = options.option(
    0.01,
    "Share of the documents that are held out for evaluation, at least "
    "one document. 0 holds out none.",
    minimum=0.0,
    maximum=0.9,
  )
  num_shards: int = options.option(
    0,
    "Number of training files. 0 chooses at least 4, by a forecast of the "
    "size.",
    minimum=0,
    maximum=100_000,
  )

  def check(self) -> None:
    super().check()
    if not self.input_file and self.isolated_lines_file:
      options.require(self, "spm_model_file")
    else:
      options.require(self, "input_file", "spm_model_file")
    if tokenization.is_wordpiece(self.spm_model_file):
      raise options.InputError(
        "a SentencePiece model as --spm_model_file",
        self.spm_model_file,
        "move the model to one: albert_mn.convert_checkpoint "
        "--resize_vocabulary",
      )
    if bool(self.output_dir) == bool(self.output_file):
      raise options.InputError(
        "--output_dir or --output_file",
        "both" if self.output_dir else "neither",
        "give one of them",
      )
    if len({os.path.dirname(path) for path in self.output_files()}) > 1:
      raise options.InputError(
        "--output_file in one folder", self.output_file, "name one folder"
      )
    if self.output_file and self.num_shards:
      raise options.InputError(
        "--output_file or --num_shards", "both", "leave one out"
      )
    beam_flags.Options.check(self)

  def output_files(self) -> list[str]:
    """Returns the paths in --output_file; [] without that flag."""
    return list(filter(None, map(str.strip, self.output_file.split(","))))

  def folder(self) -> str:
    """Returns --output_dir, or else the folder of the first --output_file.

    The folder of a name without a folder is ".".
    """
    if self.output_dir:
      return self.output_dir
    return os.path.dirname(self.output_files()[0]) or "."


@dataclasses.dataclass(frozen=True)
class Forecast:
  """A forecast of the size of the data set, made from a sample of the corpus.

  Attributes:
    examples, bytes: number of examples (rows, if they are packed) and of bytes
      in the training files.
    eval_bytes: number of bytes in the evaluation files.
    seconds: CPU seconds of making the examples, in one process.
  """

  examples: int
  bytes: int
  eval_bytes: int
  seconds: float


@dataclasses.dataclass(frozen=True)
class Job:
  """The settings of the two stages, for a runner.

  Stage one makes examples (`examples`). Stage two sorts them and writes the
  files (`finish`).

  Attributes:
    recipe: how examples are made.
    spm_model_file: the tokenizer.
    folder: the folder of the files.
    names: role, "train" or "eval" → the names of its files.
    num_workers: number of processes; 0 starts one for each core.
    pools: role → the file with the pool of random second segments; {} without
      random_next_sentence.
  """

  recipe: examples.Recipe
  spm_model_file: str
  folder: str
  names: dict[str, list[str]]
  num_workers: int
  pools: dict[str, str] = dataclasses.field(default_factory=dict)

  def examples(self, task: examples.Range) -> examples.Made:
    """Runs stage one: makes the examples of a range of documents.

    Returns:
      the serialised examples with their sort keys, by bucket, and counts.
    """
    path = self.pools.get(task.role)
    return examples.of_range(
      task,
      len(self.names[task.role]),
      self.recipe,
      self.spm_model_file,
      random_segments.load(path) if path else None,
    )

  def finish(
    self,
    role: str,
    bucket: int,
    entries: Iterable[external_sort.Entry],
    scratch: str | None = None,
  ) -> None:
    """Runs stage two: sorts one bucket's examples by key, and writes its file.

    Args:
      role: "train" or "eval".
      bucket: the number of the file in names[role].
      entries: (sort key, serialised example) of each example, in any order.
      scratch: a local folder for temporary files, if memory is too small; None
        for the system's temporary folder.
    """
    path = os.path.join(self.folder, self.names[role][bucket])
    with storage.writing(path, "wb") as file:
      records.write(file, external_sort.ordered(entries, scratch, _SORT_MEMORY))


@dataclasses.dataclass(frozen=True)
class Plan:
  """The steps from a corpus to a data set, which a runner calls.

  Each step is a function without side effects, except that `pools` and the
  stages of the job write files.

  Attributes:
    settings: the input and the recipe.
    folder: the folder of the files.
    portions: the files of the corpus, in portions; one task reads a portion.
  """

  settings: Options
  folder: str
  portions: Sequence[Sequence[documents.Files]]

  def survey(self, measures: Iterable[held_out.Measures]) -> held_out.Survey:
    """Chooses the held-out documents and a sample, as `held_out.survey` does.

    At least one training document is wanted, and with --eval_fraction one
    held-out document; with --random_next_sentence two of each. If the corpus has
    too few, `held_out.survey` says so.

    Args:
      measures: the measures of all portions, in any order.

    Raises:
      options.InputError: for a corpus without a sentence.
    """
    # A random next sentence takes two documents.
    at_least = 2 if self.settings.random_next_sentence else 1
    return held_out.survey(measures, self.settings.eval_fraction, at_least)

  def job(self, overview: held_out.Overview, forecast: "Forecast") -> Job:
    """Returns the settings of making and of writing examples; logs the forecast.

    In the Job these are stages one and two. The Job's `pools` are empty.

    Args:
      overview: the size of the corpus.
      forecast: the forecast size of the data set, which decides the number of
        files.
    """
    job = Job(
      recipe=self.settings,
      spm_model_file=self.settings.spm_model_file,
      folder=self.folder,
      names=_names(self.settings, overview, forecast),
      num_workers=self.settings.num_workers,
    )
    _say_forecast(forecast, job)
    return job

  def choices(
    self,
    portion: held_out.Portion,
    likeness: held_out.Likeness,
    overview: held_out.Overview,
  ) -> "Choices":
    """Chooses text of a portion for the pools of random second segments.

    Args:
      portion: the portion of the corpus.
      likeness: recognises held-out text, which training must not see.
      overview: the size of the corpus.

    Returns:
      whether held out → the excerpts chosen from such documents.
    """
    choices = {
      is_held_out: random_segments.Choice(
        self.settings.max_seq_length,
        self.settings.seed(is_held_out),
        overview.letters,
      )
      for is_held_out in (False, True)
    }
    for is_held_out, text in used(
      portion, likeness, self.settings, collections.Counter()
    ):
      if not text.isolated:
        choices[is_held_out].show(text.id, text.sentences)
    return choices

  def pools(self, choices: "Choices") -> dict[str, str]:
    """Writes the pools of random second segments; returns role → path.

    The roles are "train" and "eval"; a role with too little text is left out.
    Training examples draw from training documents alone, and held-out examples
    from held-out documents alone.

    Args:
      choices: the results of the method `choices` for all portions, combined by
        `together`.
    """
    paths = {}
    length = self.settings.max_seq_length
    for is_held_out, choice in choices.items():
      excerpts, role = choice.excerpts(), "eval" if is_held_out else "train"
      pool = random_segments.encoded(
        excerpts, _tokenizer(self.settings), length
      )
      if pool:
        paths[role] = random_segments.save(pool, self.folder, role)
      if excerpts:
        logging.info("%s: %s", role, random_segments.described(excerpts, pool))
    return paths


Choices = dict[bool, random_segments.Choice]  # whether held out → its choice


def together(parts: Iterable[Choices]) -> Choices:
  """Combines the results of `Plan.choices` for several portions.

  Args:
    parts: the results; those of the first portion are changed.

  Returns:
    whether held out → the excerpts chosen from all portions; {} without any
    portion.
  """
  whole: Choices = {}
  for part in parts:
    for is_held_out, choice in part.items():
      if is_held_out in whole:
        whole[is_held_out].add(choice)
      else:
        whole[is_held_out] = choice
  return whole


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The results of a runner.

  Attributes:
    job: the settings of the stages.
    counts: the counts of the examples, name → number.
    hashes: path of a corpus file → its SHA-256.
    files: name → description (`manifest.described`) of files of the data set
      that the runner read again; {} if it read none.
  """

  job: Job
  counts: examples.Counts
  hashes: Mapping[str, str]
  files: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )


Runner = Callable[[Plan], Outcome]


def create(settings: Options, runner: Runner | None = None) -> examples.Counts:
  """Writes the records, the tokenizer and the manifest; returns the counts.

  The counts are name → number, such as "train_examples". The manifest has them
  too.

  Args:
    settings: the input, the output and the recipe.
    runner: calls the steps of a Plan; None uses this machine's cores.

  Raises:
    options.InputError: for an empty corpus or an unfit model, and when another
      program writes into the output folder.
  """
  with (
    ownership.owning(settings.folder()),
    parallel.Workers(settings.num_workers) as workers,
  ):
    run = runner or functools.partial(_run_on_cores, workers)
    return _create(settings, run)


def _create(settings: Options, runner: Runner) -> examples.Counts:
  parts = documents.weighted(settings.input_file) + documents.weighted(
    settings.isolated_lines_file, isolated=True
  )
  tokenizer = _tokenizer(settings)  # raises for an unfit model before any work
  names = [os.path.basename(path) for path in settings.output_files()]
  with whole_folders.replacing(
    settings.folder(), functools.partial(_is_ours, names)
  ) as folder:
    done = runner(Plan(settings, folder, documents.portions(parts)))
    for path in done.job.pools.values():
      storage.remove(path)
    _describe(settings, done, parts, tokenizer)
  return done.counts


def _tokenizer(settings: Options) -> tokenization.Tokenizer:
  return tokenization.Tokenizer.with_settings(
    settings.spm_model_file, tokenization.Settings.of(vars(settings))
  )


def _is_ours(names: Sequence[str], name: str) -> bool:
  """Returns whether a file in the output folder may be replaced.

  This holds for names that this program gives to files of a data set. Other
  files, such as train-mine.tfrecord, are kept.

  Args:
    names: the names of training files in --output_file.
    name: the name of the file.
  """
  listed = (manifest.NAME, tokenization.MODEL_NAME)
  return (
    name in (*listed, *names)
    or any(storage.is_shard(name, x, ".tfrecord") for x in ("train", "eval"))
    or name.startswith(_SPILL)
  )


def _is_large(plan: Plan) -> bool:
  """Returns whether the files of the corpus have more than 8 MiB together.

  In a corpus of this size, several processes save more time than their start
  takes.
  """
  sizes = (
    storage.size(path) or 0
    for files in itertools.chain(*plan.portions)
    for path in files.paths
  )
  return any(
    size > 8 * _LETTERS_A_RANGE for size in itertools.accumulate(sizes)
  )


def forecast_of(overview: held_out.Overview, settings: Options) -> Forecast:
  """Returns a forecast for the corpus, from examples made of a sample.

  The numbers of the sample are extrapolated by the letters of the corpus.

  Args:
    overview: the size of the corpus, with a sample of it.
    settings: how examples are made.
  """
  sample, held_out_share = overview.sample, overview.held_out_share
  texts = [
    examples.Text(i, 1, d.sentences, d.isolated)
    for i, d in enumerate(sample.documents)
  ]
  pool = _pool_of_sample(texts, settings)
  rows = settings.dupe_factor * sum(
    sample.letters
    * share
    / sum(map(len, text.sentences))
    * _rows(_make([text], settings, pool).counts, settings)
    for text, share in zip(texts, sample.shares, strict=True)
  )
  # A quarter of the sample is enough to measure bytes and time of an example.
  used = [
    dataclasses.replace(text, uses=settings.dupe_factor) for text in texts[::4]
  ]
  began = time.process_time()
  together = _make(used, settings, pool).buckets[0]
  spent = time.process_time() - began
  times = rows / max(len(together), 1)
  size = times * sum(len(example) + 16 for _, example in together)
  return Forecast(
    examples=round(rows * (1 - held_out_share)),
    bytes=round(size * (1 - held_out_share)),
    eval_bytes=round(size * held_out_share / settings.dupe_factor),
    seconds=spent * times,
  )


def _rows(counts: examples.Counts, settings: Options) -> float:
  """Returns the number of training rows that a sample of the corpus gives.

  With pack_sequences the result is the number of rows that the pieces would
  fill without padding, which may be a fraction.

  Args:
    counts: the counts of the sample's examples, name → number.
    settings: how examples are made.
  """
  if not settings.pack_sequences:
    return counts["train_examples"]
  return counts["train_examples"] - (
    counts["train_padding"] / settings.max_seq_length
  )


def _pool_of_sample(
  texts: Sequence[examples.Text], settings: Options
) -> random_segments.Pool | None:
  """Returns a pool of random second segments, made of the texts of a sample.

  The result is None without --random_next_sentence, or with too little text.
  """
  if not settings.random_next_sentence:
    return None
  letters = sum(sum(map(len, text.sentences)) for text in texts)
  choice = random_segments.Choice(
    settings.max_seq_length, settings.random_seed, letters
  )
  for text in texts:
    if not text.isolated:
      choice.show(text.id, text.sentences)
  return random_segments.encoded(
    choice.excerpts(), _tokenizer(settings), settings.max_seq_length
  )


def _make(
  texts: Sequence[examples.Text],
  settings: Options,
  pool: random_segments.Pool | None,
) -> examples.Made:
  """Makes examples of training texts, for a forecast.

  Args:
    texts: the documents.
    settings: how examples are made.
    pool: the text of random second segments; None for none.

  Returns:
    the serialised examples, all in bucket 0, and their counts.
  """
  task = examples.Range(False, tuple(texts))
  return examples.of_range(task, 1, settings, settings.spm_model_file, pool)


def _names(
  settings: Options, overview: held_out.Overview, forecast: Forecast
) -> dict[str, list[str]]:
  """Returns role → the names of its files, for the roles "train" and "eval".

  Without --output_file and --num_shards, the forecast decides how many training
  files there are, at least 4. Without held-out documents, "eval" has no file.
  """

  def numbered(role: str, count: int) -> list[str]:
    return [storage.shard(role, i, count, ".tfrecord") for i in range(count)]

  wanted = settings.num_shards or max(
    4, math.ceil(forecast.bytes / _BYTES_A_SHARD)
  )
  train = [os.path.basename(path) for path in settings.output_files()]
  eval_files = math.ceil(forecast.eval_bytes / _BYTES_A_SHARD) or 1
  return {
    "train": train or numbered("train", wanted),
    "eval": numbered("eval", eval_files if overview.held_out_share else 0),
  }


def _say_forecast(forecast: Forecast, job: Job) -> None:
  """Logs the forecast: examples, MB, files, seconds and processes."""
  workers = parallel.count(job.num_workers)
  logging.info(
    "forecast: about %s examples to train on, %s MB in %d files, %d s on "
    "%d processes",
    f"{forecast.examples:,}",
    f"{forecast.bytes / 1e6:,.1f}",
    len(job.names["train"]),
    math.ceil(forecast.seconds / workers),
    workers,
  )


def used(
  portion: held_out.Portion,
  likeness: held_out.Likeness,
  recipe: examples.Recipe,
  skipped: examples.Counts,
) -> Iterator[tuple[bool, examples.Text]]:
  """Yields (whether held out, text) of the documents that are used.

  Documents that are used 0 times, and training documents that are versions of
  held-out ones, are left out; `skipped` counts them. A training document of
  isolated lines comes without the lines that repeat held-out ones, as
  `Likeness.without` says; these lines are not counted.

  Args:
    portion: a portion of the corpus.
    likeness: recognises held-out text.
    recipe: how examples are made.
    skipped: the counts to which the left-out documents are added.
  """
  for is_held_out, document, text in examples.texts(portion, recipe):
    if not text.uses:
      skipped["train_unused_documents"] += 1
      continue
    if not is_held_out:
      fresh = likeness.without(document)
      if fresh is None:
        skipped["train_documents_like_held_out"] += 1
        continue
      text = dataclasses.replace(text, sentences=fresh.sentences)
    yield is_held_out, text


def ranges(
  texts: Iterable[tuple[bool, examples.Text]],
) -> Iterator[examples.Range]:
  """Yields the texts in ranges: the tasks of making examples.

  A range ends after 256 texts, or after the text with which it reaches 2^20
  letters, each text counted once. Held-out texts and training texts are in
  different ranges. In a range the texts keep their order.

  Args:
    texts: (whether held out, text) of the documents of a portion.
  """
  gathered: dict[bool, list[examples.Text]] = {True: [], False: []}
  letters = {True: 0, False: 0}
  for is_held_out, text in texts:
    gathered[is_held_out].append(text)
    letters[is_held_out] += sum(map(len, text.sentences))
    if (
      len(gathered[is_held_out]) == _DOCUMENTS_A_RANGE
      or letters[is_held_out] >= _LETTERS_A_RANGE
    ):
      yield examples.Range(is_held_out, tuple(gathered[is_held_out]))
      gathered[is_held_out], letters[is_held_out] = [], 0
  for is_held_out, rest in gathered.items():
    if rest:
      yield examples.Range(is_held_out, tuple(rest))


# The local runner, whose stage one writes a file for each bucket and process.


def _run_on_cores(workers: parallel.Workers, plan: Plan) -> Outcome:
  """Runs all steps on this machine's cores; this is the default runner."""
  if _is_large(plan):
    workers.start()  # they start while the survey runs
  survey = plan.survey(
    itertools.starmap(held_out.measured, enumerate(plan.portions))
  )
  forecasting = functools.partial(forecast_of, settings=plan.settings)
  forecast_made = workers.beside(forecasting, survey.overview)
  likeness = held_out.Likeness.union(
    map(held_out.Likeness.of_portion, survey.portions)
  )
  forecast = forecast_made()
  job = plan.job(survey.overview, forecast)
  if plan.settings.random_next_sentence:
    choices = together(
      plan.choices(portion, likeness, survey.overview)
      for portion in survey.portions
    )
    job = dataclasses.replace(job, pools=plan.pools(choices))
  skipped: examples.Counts = collections.Counter()
  tasks = itertools.chain.from_iterable(
    ranges(used(portion, likeness, plan.settings, skipped))
    for portion in survey.portions
  )
  counts = _both_stages(workers, job, tasks, forecast)
  counts.update(skipped)  # += would drop counts of zero
  paths = [p for files in itertools.chain(*plan.portions) for p in files.paths]
  return Outcome(job, counts, {path: storage.sha256(path) for path in paths})


def _both_stages(
  workers: parallel.Workers,
  job: Job,
  tasks: Iterable[examples.Range],
  forecast: Forecast,
) -> examples.Counts:
  """Makes the examples and writes them, sorted, to their files.

  Args:
    workers: the processes.
    job: the settings of the two stages.
    tasks: the ranges of documents.
    forecast: the forecast size of the data set, for the log.

  Returns:
    the counts of the examples, name → number.

  Raises:
    options.InputError: for a set without a training example.
  """
  with _spill_folder(job.folder) as spill:
    counts: examples.Counts = collections.Counter()
    with contextlib.closing(
      workers.ordered(Spill(job, spill), tasks)
    ) as results:
      for made in _watched(results, forecast):
        counts.update(made)
    require_examples(counts)
    buckets = [
      (r, i) for r, names in job.names.items() for i in range(len(names))
    ]
    for _ in workers.ordered(Finish(job, spill), buckets):
      pass
  return counts


def require_examples(counts: examples.Counts) -> None:
  """Raises InputError for a set without a training example.

  Args:
    counts: the counts of the set, name → number.
  """
  if counts["train_examples"]:
    return
  if counts["train_documents"] and counts["train_text_pieces"]:
    raise options.InputError(
      "documents of several sentences (with --random_next_sentence several "
      "such documents), for --sentence_pairs_only",
      f"no sentence pair in {counts['train_documents']:,} documents",
      "give running text, or leave --sentence_pairs_only out",
    )
  raise options.InputError(
    "documents to train on",
    f"none beside the {counts['eval_documents']} held out",
    "give more documents, or --eval_fraction=0",
  )


def _watched(
  results: Iterable[examples.Counts], forecast: Forecast
) -> Iterator[examples.Counts]:
  """Yields the results unchanged; logs progress at most every ten seconds.

  Args:
    results: the counts of each range, name → number.
    forecast: the forecast number of examples, for the time that is left.
  """
  began = last_logged = time.monotonic()
  done = 0
  for counts in results:
    yield counts
    done += counts["train_examples"]
    if (now := time.monotonic()) - last_logged > 10:
      last_logged, rate = now, done / (now - began)
      left = max(forecast.examples - done, 0) / max(rate, 1)
      logging.info(
        "%s of about %s examples, %s a second, %d s left",
        f"{done:,}",
        f"{forecast.examples:,}",
        f"{rate:,.0f}",
        left,
      )


def _spill_folder(output_dir: str) -> tempfile.TemporaryDirectory[str]:
  """Makes a temporary folder for examples that are not sorted yet.

  The folder is inside a local output folder; for an output folder in a bucket,
  it is in the system's temporary folder.
  """
  if storage.is_remote(output_dir):
    return tempfile.TemporaryDirectory(prefix="spill-")
  return tempfile.TemporaryDirectory(prefix=_SPILL, dir=output_dir)


@dataclasses.dataclass(frozen=True)
class Spill:
  """Callable that makes the examples of a range in a worker process: stage one.

  A call with a Range appends its examples to temporary files, a file for each
  bucket and process, and returns the counts of the examples.

  Attributes:
    job: the settings of the stages.
    folder: the folder of the temporary files.
  """

  job: Job
  folder: str

  def __call__(self, task: examples.Range) -> examples.Counts:
    made = self.job.examples(task)
    for bucket, keyed in made.buckets.items():
      name = f"{task.role}-{bucket}-{os.getpid()}"
      path = os.path.join(self.folder, name)
      with options.naming(path), open(path, "ab") as file:
        external_sort.append(file, keyed)
    return made.counts


@dataclasses.dataclass(frozen=True)
class Finish:
  """Callable that writes a file of the data set in a worker process: stage two.

  A call with (role, bucket) sorts the examples that all workers wrote for this
  bucket, writes them to the final file of the bucket, and removes the temporary
  files.

  Attributes:
    job: the settings of the stages.
    folder: the folder of the temporary files of stage one.
  """

  job: Job
  folder: str

  def __call__(self, bucket: tuple[str, int]) -> None:
    pattern = "-".join(map(str, bucket)) + "-*"
    paths = list(pathlib.Path(self.folder).glob(pattern))
    with contextlib.ExitStack() as stack:
      files = [stack.enter_context(path.open("rb")) for path in paths]
      entries = itertools.chain.from_iterable(map(external_sort.read, files))
      self.job.finish(*bucket, entries, self.folder)
    for path in paths:
      path.unlink()


def _describe(
  settings: Options,
  done: Outcome,
  parts: Sequence[documents.Files],
  tokenizer: tokenization.Tokenizer,
) -> None:
  """Copies the tokenizer to the folder of the records, and writes the manifest.

  Args:
    settings: the options.
    done: the results of the runner.
    parts: the files of the corpus, for the manifest's inputs.
    tokenizer: the tokenizer, whose special ids the manifest states.
  """
  job = done.job
  names = job.names["train"] + job.names["eval"]
  storage.copy(
    settings.spm_model_file, os.path.join(job.folder, tokenization.MODEL_NAME)
  )
  recipe = {
    field.name: getattr(settings, field.name)
    for field in dataclasses.fields(examples.Recipe)
  }
  manifest.write(
    job.folder,
    "pretraining_records",
    parameters=recipe
    | dict(
      eval_fraction=settings.eval_fraction,
      max_predictions_per_seq=settings.predictions(),
      vocab_size=tokenizer.vocab_size,
      pad_id=tokenizer.pad_id,
      cls_id=tokenizer.cls_id,
      sep_id=tokenizer.sep_id,
      mask_id=tokenizer.mask_id,
    ),
    files=[*names, tokenization.MODEL_NAME],
    counts=dict(sorted(done.counts.items())),
    inputs=_inputs(parts, done.hashes)
    | {"tokenizer": storage.sha256(settings.spm_model_file)},
    known=done.files,
  )


def _inputs(
  parts: Sequence[documents.Files], hashes: Mapping[str, str]
) -> dict[str, str]:
  """Returns name → SHA-256 of the input files.

  A weight other than 1 is part of the name, as in `news.txt x2`.

  Args:
    parts: the files of the corpus.
    hashes: path of a file → its SHA-256.
  """
  files = [(path, part.weight) for part in parts for path in part.paths]
  names = manifest.labels([path for path, _ in files])
  return {
    name if weight == 1 else f"{name} x{weight:g}": hashes[path]
    for name, (path, weight) in zip(names, files, strict=True)
  }


def labels_line(role: str, settings: Options, counts: examples.Counts) -> str:
  """Returns a line with the number of examples of each sentence-pair label.

  Args:
    role: "train" or "eval".
    settings: the options, which decide what the labels mean.
    counts: the result of `create`.
  """
  first, second = (
    ("B follows A", "B is random")
    if settings.random_next_sentence
    else ("A and B in order", "A and B swapped")
  )
  return (
    f"{role}: {counts[f'{role}_label_0']:,} examples with label 0 ({first}), "
    f"{counts[f'{role}_label_1']:,} with label 1 ({second}), "
    f"{counts[f'{role}_label_none']:,} with label -1 (no B)"
  )


def googles_flags(settings: Options, counts: examples.Counts) -> str:
  """Returns the flags with which google-research/albert reads the data set.

  If that program cannot read the data set, the result is a sentence with the
  option of this program that would make a readable one.
  """
  if settings.masking == "dynamic":
    return "--masking=static only: it knows no others"
  if settings.pack_sequences:
    return "--nopack_sequences only: it knows one example a row"
  if counts["train_pairs"] < counts["train_examples"]:
    return "--sentence_pairs_only only: it knows no label -1"
  # google's program reads the value as globs, so names must be escaped.
  files = ",".join(map(glob.escape, settings.output_files())) or os.path.join(
    glob.escape(settings.folder()), "train-*.tfrecord"
  )
  return (
    f"{shlex.quote(f'--input_file={files}')} "
    f"--max_seq_length={settings.max_seq_length} "
    f"--max_predictions_per_seq={settings.slots()}"
  )
