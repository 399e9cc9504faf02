"""Builds a corpus: reads, normalises, splits, cleans and shards raw text."""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import (
  Callable,
  Generator,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from typing import IO, Any, TypeVar

from absl import logging

from data_prep.base import options, parallel, shown_text
from data_prep.corpus import (
  copies_on_disk,
  corpus_identity,
  corpus_options,
  corpus_report,
  corpus_stats,
  packed_batches,
  preparation,
  reading_progress,
  unfinished,
)
from data_prep.files import (
  documents,
  manifest,
  ownership,
  storage,
  whole_folders,
)
from data_prep.sources import downloads, inputs, rows
from data_prep.text import cleaning

_STATS, _REPORT = "stats.json", "corpus_report.html"
_BAD_ROWS = "bad_rows.tsv"  # file, row and reason of each row left out
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Hashes:
  """Hashes that a runner computed, so that files need not be read again.

  Attributes:
    inputs: name → SHA-256 of the input files; None if the runner hashed none.
    shards: name → description (`manifest.described`) of the shards that the
      runner hashed; empty if it hashed none.
  """

  inputs: Mapping[str, str] | None = None
  shards: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )


# Writes the shards of the files' documents to a folder. It adds to the counts,
# and to the rows that cannot be read.
Runner = Callable[
  [
    corpus_options.Settings,
    Sequence[str],
    str,
    corpus_stats.Stats,
    "BadRows",
  ],
  Hashes,
]


def build(
  settings: corpus_options.Settings, runner: Runner | None = None
) -> corpus_stats.Stats:
  """Builds the corpus; returns the counts of kept and dropped text.

  A corpus that the same command has made is left as it is; then only the
  `totals` of the result are filled. A command that was killed and is given
  again uses the documents that it has cleaned before.

  Args:
    settings: the options.
    runner: the function that cleans the files and writes the shards, on
      another machine for example; it begins anew after a kill. None uses the
      cores of this machine.

  Raises:
    options.InputError: when no document is left, or when another program writes
      into the output folder.
  """
  corpus = settings.corpus
  with ownership.owning(corpus.output_dir):
    files = _files(settings)
    whole_folders.finish(corpus.output_dir, _is_ours)
    begun = unfinished.Begun(
      corpus.output_dir, corpus_identity.of_cleaning(settings)
    )
    if finished := _finished(settings, files):
      begun.clear()
      return finished
    with begun.used():
      run = runner or functools.partial(_run_on_cores, begun)
      return _build(settings, files, run)


def _finished(
  settings: corpus_options.Settings, files: Sequence[str]
) -> corpus_stats.Stats | None:
  """Returns the counts of a finished corpus in the output folder, else None.

  The corpus counts as finished if its manifest states the same options, hashes
  of the inputs and program code as this command has, and the names and sizes of
  the output files. Only the `totals` of the result are filled.

  Args:
    settings: the options of the corpus.
    files: the paths of the input files.
  """
  folder = settings.corpus.output_dir
  try:
    made = manifest.check(folder, manifest.CORPUS)
  except options.InputError:  # there is none, or it is damaged
    return None
  listed = {manifest.NAME, *made["files"]}
  if any(_is_ours(n) and n not in listed for n in storage.names(folder)):
    return None  # a file of an earlier corpus is there
  parameters = corpus_identity.parameters(settings)
  if made["parameters"] != json.loads(json.dumps(parameters)):
    return None
  if made["inputs"] != corpus_identity.inputs(settings, files):
    return None
  logging.info(
    "%s is finished: the same options, inputs and program made it", folder
  )
  stats = corpus_stats.Stats()
  stats.totals.update(made["counts"])
  return stats


def _build(
  settings: corpus_options.Settings, files: Sequence[str], runner: Runner
) -> corpus_stats.Stats:
  corpus = settings.corpus
  if corpus.decontaminate:  # raises for unreadable sets before any work
    preparation.evaluation(corpus.decontaminate, settings.text.text_field)
  stats = new_stats(settings)
  with whole_folders.replacing(corpus.output_dir, _is_ours) as folder:
    with contextlib.ExitStack() as stack:
      bad_rows = BadRows(os.path.join(folder, _BAD_ROWS), stack)
      hashes = runner(settings, files, folder, stats, bad_rows)
    if not stats.totals["documents"]:
      raise options.InputError(
        "text with letters",
        f"nothing to keep in {', '.join(files)}: {stats.losses()}",
        "check the files, or lower --min_words",
      )
    names = shard_names(settings) + ([_BAD_ROWS] if bad_rows.count else [])
    _describe(settings, folder, files, names, stats, hashes)
  if bad_rows.count:
    logging.warning("%s", bad_rows.told(corpus.output_dir))
  return stats


def new_stats(settings: corpus_options.Settings) -> corpus_stats.Stats:
  """Returns empty counts, for text that will be added.

  With --scrub_personal_data the examples of lost text will be scrubbed.
  """
  return corpus_stats.Stats(
    cleaning.scrub if settings.cleaning.scrub_personal_data else str
  )


def shard_names(settings: corpus_options.Settings) -> list[str]:
  """Returns the file names of the corpus's shards, in order."""
  count = settings.corpus.num_shards
  return [storage.shard("corpus", n, count, ".txt") for n in range(count)]


def _is_ours(name: str) -> bool:
  """Returns whether a file of the output folder may be replaced, by its name.

  The result is True for the names of a corpus's files, such as shards, and
  False for all other names, such as corpus-mine.txt.
  """
  ours = (manifest.NAME, _STATS, _REPORT, _BAD_ROWS)
  return name in ours or storage.is_shard(name, "corpus", ".txt")


class BadRows:
  """The list of the rows of the input that cannot be read, in a file.

  The file is made when the first row is added.

  Args:
    path: the path of the file.
    stack: the context that closes the file when it ends.

  Attributes:
    count: the number of rows in the list.
  """

  def __init__(self, path: str, stack: contextlib.ExitStack) -> None:
    self.count = 0
    self._path, self._stack = path, stack
    self._file: IO[str] | None = None
    self._first = ""

  def add(self, file: str, bad: rows.BadRow) -> None:
    """Appends a row to the list.

    Args:
      file: the name of the input file that the row is in.
      bad: the row, and the reason why it cannot be read.
    """
    if self._file is None:
      self._file = self._stack.enter_context(storage.writing(self._path))
      self._file.write("file\trow\treason\n")
      self._first = f"{file}:{bad.row}: {bad.example}"
    cells = (file, str(bad.row), bad.example)
    self._file.write("\t".join(map(shown_text.cell, cells)) + "\n")
    self.count += 1

  def told(self, folder: str) -> str:
    """Returns one line about the listed rows, of which there is at least one.

    Args:
      folder: the output folder, for the path of the list.
    """
    return (
      f"{self.count:,} bad rows were left out, the first at {self._first}; "
      f"{os.path.join(folder, _BAD_ROWS)} lists them"
    )


def _describe(
  settings: corpus_options.Settings,
  folder: str,
  files: Sequence[str],
  names: Sequence[str],
  stats: corpus_stats.Stats,
  hashes: Hashes,
) -> None:
  """Writes the reports and the manifest of the shards in `folder`.

  Args:
    settings: the options of the corpus.
    folder: the folder of the shards.
    files: the paths of the files that were read.
    names: the names of the shards, and of the list of bad rows.
    stats: the counts of what was kept and dropped.
    hashes: the hashes of files that need not be read again.
  """
  content, parameters = stats.content(), corpus_identity.parameters(settings)
  reports = {
    _STATS: corpus_stats.to_json(content),
    _REPORT: corpus_report.page(content, parameters),
  }
  for name, text in reports.items():
    with storage.writing(os.path.join(folder, name)) as file:
      file.write(text)
  manifest.write(
    folder,
    manifest.CORPUS,
    parameters=parameters,
    files=[*names, *reports],
    counts=dict(sorted(stats.totals.items())),
    inputs=corpus_identity.inputs(settings, files, hashes.inputs),
    known=hashes.shards,
  )


def _files(settings: corpus_options.Settings) -> list[str]:
  """Returns the paths of the input files, downloaded if --download is given.

  Raises:
    options.InputError: without --download and --input_file, or when the
      download fails.
  """
  if settings.download.download:
    return [downloads.fetch(settings.corpus.source, settings.download)]
  options.require(settings.corpus, "input_file")
  return inputs.files(settings.corpus.input_file)


def _run_on_cores(
  begun: unfinished.Begun,
  settings: corpus_options.Settings,
  files: Sequence[str],
  folder: str,
  stats: corpus_stats.Stats,
  bad_rows: BadRows,
) -> Hashes:
  """Cleans the files' documents on this machine, and writes the kept ones.

  The kept documents go to the shards in turn: document n to shard n modulo the
  number of shards. Copies are only recognised when all documents are known, so
  that the cleaned documents are kept in a temporary file until then. If no
  document is kept, `begun` is cleared.

  Args:
    begun: the documents that earlier runs have cleaned; further documents are
      added.
    settings: the options of the corpus.
    files: the paths of the input files.
    folder: the folder to write the shards to.
    stats: the counts, to which those of the documents are added.
    bad_rows: the list to which the rows that cannot be read are added.

  Returns:
    a Hashes without any hash: this runner computes none.
  """
  corpus = settings.corpus
  scratch = None if storage.is_remote(folder) else folder
  with contextlib.ExitStack() as stack:
    shards = [
      stack.enter_context(storage.writing(os.path.join(folder, name)))
      for name in shard_names(settings)
    ]
    duplicates = stack.enter_context(
      copies_on_disk.Duplicates(
        corpus.near_duplicates, scratch, corpus.memory_limit << 20
      )
    )
    spool = stack.enter_context(packed_batches.Spool(scratch))
    batches = _clean(settings, files, duplicates, begun)
    for done in stack.enter_context(contextlib.closing(batches)):
      spool.append(done.name, done.packed)
    verdicts = duplicates.verdicts()
    for batch in spool.read():
      for row in bad_rows_of(batch):
        bad_rows.add(batch.file, row)
      first = stats.totals["documents"]
      for number, kept in enumerate(counted(batch, verdicts, stats), first):
        documents.write(shards[number % len(shards)], kept)
  if not stats.totals["documents"]:  # the same command would fail again
    begun.clear()
  return Hashes()


def bad_rows_of(batch: preparation.Batch) -> list[rows.BadRow]:
  """Returns the rows in a batch that could not be read, in order."""
  verdicts = (document.result.verdict for document in batch.documents)
  return [row for row in verdicts if isinstance(row, rows.BadRow)]


def _clean(
  settings: corpus_options.Settings,
  files: Sequence[str],
  duplicates: copies_on_disk.Duplicates,
  begun: unfinished.Begun,
) -> Generator[unfinished.Done, None, None]:
  """Yields the files' cleaned documents in batches, in the order of the input.

  Args:
    settings: the options of the corpus.
    files: the paths of the files.
    duplicates: the search for copies, to which each document's signature is
      added.
    begun: the documents that earlier runs have cleaned, which are yielded
      without cleaning them again. Each document cleaned here is added.
  """
  with (
    reading_progress.Progress(files, lambda: duplicates.count) as progress,
    contextlib.closing(
      parallel.ordered(
        unfinished.Cleaner(settings),
        _tasks(files, settings, begun, progress),
        settings.corpus.num_workers,
      )
    ) as results,
  ):
    for done in results:
      if not done.kept:
        begun.add(done.place, done.packed)
      duplicates.add(done.signatures)
      progress.finish(done.read)
      yield done


def counted(
  batch: preparation.Batch,
  verdicts: Iterator[str | None],
  stats: corpus_stats.Stats,
) -> list[tuple[str, ...]]:
  """Counts the documents of a batch; returns those that are kept.

  Args:
    batch: the cleaned documents.
    verdicts: yields a verdict for each document that no rule dropped, in order:
      deduplication.EXACT or NEAR for a copy, None for a document to keep.
    stats: the counts, to which all documents of the batch are added.

  Returns:
    the sentences of each kept document.
  """
  stats.read(batch.file, *batch.read)
  kept = [
    sentences
    for document in batch.documents
    if (sentences := _kept(batch.file, document, verdicts, stats))
  ]
  stats.keep(batch.file, kept)
  return kept


def _kept(
  file: str,
  document: preparation.Document,
  verdicts: Iterator[str | None],
  stats: corpus_stats.Stats,
) -> tuple[str, ...]:
  """Returns the sentences of a document, or () if it is dropped.

  A document is dropped by a rule of the cleaning, or as a copy of an earlier
  document.

  Args:
    file: the name of the file.
    document: the cleaned document.
    verdicts: yields a verdict for each document that no rule dropped:
      deduplication.EXACT or NEAR for a copy, None for a document to keep. One
      verdict is taken, but none for a document that a rule dropped.
    stats: the counts, to which the dropped document or its dropped sentences
      are added.
  """
  verdict = document.result.verdict
  for reason, lines in document.result.lines.items():
    stats.lose(file, reason, lines)
  stats.miss(document.templates)
  if isinstance(verdict, cleaning.Drop):
    if verdict.reason == preparation.TOO_LONG:
      logging.warning(
        "%s: dropping %r, which took too long; a faster machine may keep it, so "
        "leave it out of the input for the same corpus everywhere",
        file,
        verdict.example,
      )
    elif verdict.reason not in stats.examples:
      logging.info(
        "dropping, for example: %s: %s", verdict.reason, verdict.example
      )
    stats.drop(file, verdict.reason, verdict.example)
    return ()
  if copied := next(verdicts):
    stats.drop(file, copied, verdict.sentences[0])
    return ()
  return verdict.sentences


def _tasks(
  files: Sequence[str],
  settings: corpus_options.Settings,
  begun: unfinished.Begun,
  progress: reading_progress.Progress,
) -> Iterator[unfinished.Task]:
  """Yields the batches of all files, in order, as tasks for the workers.

  The first batches of a file are those that earlier runs have cleaned; the
  following ones hold raw documents. A file of which all batches were cleaned
  earlier is not read.

  Args:
    files: the paths of the files.
    settings: the options of the corpus.
    begun: the batches that earlier runs have cleaned.
    progress: is told which file is read, and each task.
  """
  for path, name in zip(files, manifest.labels(files), strict=True):
    progress.begin(path)
    file = unfinished.file_hash(path)
    place = None
    for place, packed in begun.of_file(file):
      read = progress.made(place.last, kept=True)
      yield unfinished.Task(name, place, read, [], packed)
    if place and place.last:
      continue
    first = place.number + 1 if place else 0
    tasks = preparation.tasks(path, settings)
    for number, (items, last) in enumerate(_with_last(tasks)):
      if number >= first:
        place = unfinished.Place(file, number, last)
        read = progress.made(last, kept=False)
        yield unfinished.Task(name, place, read, items)


def _with_last(values: Iterable[T]) -> Iterator[tuple[T, bool]]:
  """Yields (value, whether the value is the last) for each of the values."""
  values = iter(values)
  for value in values:
    for following in values:
      yield value, False
      value = following
    yield value, True
