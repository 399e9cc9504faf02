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
  """The hashes of files that a runner has read, so that nobody reads them again.

  Attributes:
    inputs: name → SHA-256 of the input files; None if they were not hashed.
    shards: name → description (`manifest.described`) of shards.
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
  `totals` of the result are filled. A command that was killed goes on from what
  it has cleaned.

  Args:
    settings: the options.
    runner: does the work, and begins anew after a kill; None uses this machine's
      cores.

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
  """Returns the counts of the corpus that the same command has made.

  The result is None if there is no such corpus. The options, the hashes of the
  inputs, the program, and the names and sizes of the outputs are compared.
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
  """Returns counts without any text."""
  return corpus_stats.Stats(
    cleaning.scrub if settings.cleaning.scrub_personal_data else str
  )


def shard_names(settings: corpus_options.Settings) -> list[str]:
  """Returns the names of the shards."""
  count = settings.corpus.num_shards
  return [storage.shard("corpus", n, count, ".txt") for n in range(count)]


def _is_ours(name: str) -> bool:
  """Returns whether a file of the output folder may be replaced, by its name.

  Files with other names than a corpus has, such as corpus-mine.txt, are kept.
  """
  ours = (manifest.NAME, _STATS, _REPORT, _BAD_ROWS)
  return name in ours or storage.is_shard(name, "corpus", ".txt")


class BadRows:
  """Lists the rows that cannot be read, in a file made for the first of them.

  Args:
    path: the path of the list.
    stack: closes the list at its end.

  Attributes:
    count: the number of rows in the list.
  """

  def __init__(self, path: str, stack: contextlib.ExitStack) -> None:
    self.count = 0
    self._path, self._stack = path, stack
    self._file: IO[str] | None = None
    self._first = ""

  def add(self, file: str, bad: rows.BadRow) -> None:
    """Appends a row; `file` is the name of its file."""
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
  """Cleans the files' documents on this machine; writes the kept ones in turn.

  A copy is only recognised when all documents are known, so that the cleaned
  documents go through a file. If no document is kept, `begun` is cleared.

  Args:
    begun: see `_clean`.
    settings: the options of the corpus.
    files: the paths of the input files.
    folder: the folder to write the shards to.
    stats: the counts, to which those of the documents are added.
    bad_rows: the list to which the rows that cannot be read are added.

  Returns:
    no hashes: the files must be read again for them.
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
  """Returns the rows of a batch that cannot be read."""
  verdicts = (document.result.verdict for document in batch.documents)
  return [row for row in verdicts if isinstance(row, rows.BadRow)]


def _clean(
  settings: corpus_options.Settings,
  files: Sequence[str],
  duplicates: copies_on_disk.Duplicates,
  begun: unfinished.Begun,
) -> Generator[unfinished.Done, None, None]:
  """Yields the files' cleaned documents, and adds them to `duplicates`.

  Args:
    settings: the options of the corpus.
    files: the paths of the files.
    duplicates: the search for copies.
    begun: what earlier runs have cleaned, which is taken from there. All further
      documents are added.
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
  """Returns the kept documents of a batch; adds all of the batch to the counts.

  Args:
    batch: the cleaned documents.
    verdicts: the kind of duplicate that each further document is, or None.
    stats: the counts, which this function changes.
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
  """Returns a document's sentences; () if it is dropped. Counts the losses.

  Args:
    file: the name of the file.
    document: the cleaned document.
    verdicts: the kind of duplicate that each further document is, or None.
    stats: the counts, which this function changes.
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
  """Yields the tasks of all files in order, first those that are kept.

  A file is not read if all of its batches are kept.
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
  """Yields (value, whether it is the last one) of each value."""
  values = iter(values)
  for value in values:
    for following in values:
      yield value, False
      value = following
    yield value, True
