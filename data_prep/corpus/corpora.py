"""Builds a corpus: reads, normalises, splits, cleans and shards raw text."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any

from absl import logging

from data_prep.base import options, parallel, shown_text
from data_prep.corpus import (
  corpus_options,
  corpus_report,
  corpus_stats,
  deduplication,
  preparation,
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


def build(settings: corpus_options.Settings) -> corpus_stats.Stats:
  """Builds the corpus; returns the counts of kept and dropped text.

  Raises:
    options.InputError: when no document is left, or when another program writes
      into the output folder.
  """
  with ownership.owning(settings.corpus.output_dir):
    return _build(settings)


def _build(settings: corpus_options.Settings) -> corpus_stats.Stats:
  corpus = settings.corpus
  files = _files(settings)
  if corpus.decontaminate:  # raises for unreadable sets before any work
    preparation.evaluation(corpus.decontaminate, settings.text.text_field)
  stats = corpus_stats.Stats(
    cleaning.scrub if settings.cleaning.scrub_personal_data else str
  )
  names = [
    storage.shard("corpus", number, corpus.num_shards, ".txt")
    for number in range(corpus.num_shards)
  ]
  with whole_folders.replacing(corpus.output_dir, _is_ours) as folder:
    with contextlib.ExitStack() as stack:
      shards = [
        stack.enter_context(storage.writing(os.path.join(folder, name)))
        for name in names
      ]
      bad_rows = _BadRows(os.path.join(folder, _BAD_ROWS), stack)
      _write(settings, files, shards, stats, bad_rows)
      if not stats.totals["documents"]:
        raise options.InputError(
          "text with letters",
          f"nothing to keep in {', '.join(files)}: {stats.losses()}",
          "check the files, or lower --min_words",
        )
    names += [_BAD_ROWS] if bad_rows.count else []
    _describe(settings, folder, files, names, stats)
  if bad_rows.count:
    logging.warning("%s", bad_rows.told(corpus.output_dir))
  return stats


def _is_ours(name: str) -> bool:
  """Returns whether a file of the output folder may be replaced, by its name.

  Files with other names than a corpus has, such as corpus-mine.txt, are kept.
  """
  ours = (manifest.NAME, _STATS, _REPORT, _BAD_ROWS)
  return name in ours or storage.is_shard(name, "corpus", ".txt")


class _BadRows:
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
) -> None:
  """Writes the reports and the manifest of the shards in `folder`.

  Args:
    settings: the options of the corpus.
    folder: the folder of the shards.
    files: the paths of the files that were read.
    names: the names of the shards, and of the list of bad rows.
    stats: the counts of what was kept and dropped.
  """
  content, parameters = stats.content(), _parameters(settings)
  reports = {
    _STATS: corpus_stats.to_json(content),
    _REPORT: corpus_report.page(content, parameters),
  }
  for name, text in reports.items():
    with storage.writing(os.path.join(folder, name)) as file:
      file.write(text)
  manifest.write(
    folder,
    "corpus",
    parameters=parameters,
    files=[*names, *reports],
    counts=dict(sorted(stats.totals.items())),
    inputs=manifest.hashes(files),
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


def _parameters(settings: corpus_options.Settings) -> dict[str, Any]:
  """Returns option → value, of the options that decide the corpus's content."""
  parameters: dict[str, Any] = {}
  for part in (settings.corpus, settings.cleaning, settings.text):
    parameters |= dataclasses.asdict(part)
  for name in ("input_file", "output_dir", "num_workers"):
    del parameters[name]
  if patterns := settings.corpus.decontaminate:
    sets = map(os.path.basename, storage.matching(patterns))
    parameters["decontaminate"] = ",".join(sets)
  return parameters


def _write(
  settings: corpus_options.Settings,
  files: Sequence[str],
  shards: Sequence[IO[str]],
  stats: corpus_stats.Stats,
  bad_rows: _BadRows,
) -> None:
  """Cleans the files' documents; writes the kept ones to shards in turn.

  It adds counts to `stats`, and the rows that cannot be read to `bad_rows`.
  """
  corpus = settings.corpus
  duplicates = deduplication.Duplicates(corpus.near_duplicates)
  began = last_logged = time.monotonic()
  with contextlib.closing(
    parallel.ordered(
      functools.partial(preparation.prepared, settings=settings),
      _tasks(files, settings),
      corpus.num_workers,
    )
  ) as batches:
    for batch in batches:
      for document in batch.documents:
        if isinstance(document.result.verdict, rows.BadRow):
          bad_rows.add(batch.file, document.result.verdict)
      _write_batch(batch, duplicates, shards, stats)
      if time.monotonic() - last_logged > 10:
        last_logged = time.monotonic()
        count = stats.totals["documents"]
        logging.info(
          "%d documents, %.0f a second", count, count / (last_logged - began)
        )


def _write_batch(
  batch: preparation.Batch,
  duplicates: deduplication.Duplicates,
  shards: Sequence[IO[str]],
  stats: corpus_stats.Stats,
) -> None:
  """Writes the kept documents of a batch to shards in turn; adds the counts."""
  stats.read(batch.file, *batch.read)
  kept = [
    sentences
    for document in batch.documents
    if (sentences := _kept(batch.file, document, duplicates, stats))
  ]
  for number, sentences in enumerate(kept, start=stats.totals["documents"]):
    documents.write(shards[number % len(shards)], sentences)
  stats.keep(batch.file, kept)


def _kept(
  file: str,
  document: preparation.Document,
  duplicates: deduplication.Duplicates,
  stats: corpus_stats.Stats,
) -> tuple[str, ...]:
  """Returns a document's sentences; () if it is dropped. Counts the losses.

  Args:
    file: the name of the file.
    document: the cleaned document.
    duplicates: the documents that were kept before.
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
  if copied := duplicates.seen(verdict.sentences, document.signature):
    stats.drop(file, copied, verdict.sentences[0])
    return ()
  return verdict.sentences


def _tasks(
  files: Sequence[str], settings: corpus_options.Settings
) -> Iterator[tuple[str, list[Any]]]:
  """Yields (name of a file, some raw documents of it), in order."""
  for path, name in zip(files, manifest.labels(files), strict=True):
    for items in preparation.tasks(path, settings):
      yield name, items
