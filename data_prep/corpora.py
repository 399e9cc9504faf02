"""Raw text to a corpus: read, normalise, split, clean, write in shards."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np
from absl import logging

from data_prep import (
  cleaning,
  deduplication,
  documents,
  downloads,
  epub,
  manifest,
  normalization,
  options,
  parallel,
  sentences,
  storage,
  texts,
  wikipedia,
)

_LETTERS_A_TASK = 1 << 18  # guess: some tenths of a second of work


@dataclasses.dataclass(frozen=True)
class Options:
  """Which text to clean, and how."""

  source: str = options.option(
    "text",
    "text: plain UTF-8 text (see --documents), .jsonl, .csv, .tsv, or an "
    "archive of text files (.zip, .tar, .rar); news: the same; "
    "wikipedia: a dump, .xml or .xml.bz2; epub: books, a chapter a document",
    choices=("text", "news", "wikipedia", "epub"),
  )
  input_file: str = options.option("", "files: globs, by commas")
  output_dir: str = options.option("", "where corpus-*.txt go")
  repair_legacy_letters: bool = options.option(
    False, "put ө and ү where a legacy font left є, ї, ѳ or v"
  )
  split_sentences: bool = options.option(
    True, "split lines into sentences; false: a line is a sentence"
  )
  section_sentences: int = options.option(
    0, "cut longer documents into passages of about so many sentences; 0: "
    "leave them whole", minimum=0,
  )  # fmt: skip
  near_duplicates: float = options.option(
    0.0, "drop documents that share so much of their runs of five words with "
    "an earlier one (0.8 is usual); 0: exact copies alone",
    minimum=0.0, maximum=1.0,
  )  # fmt: skip
  decontaminate: str = options.option(
    "", "evaluation sets: .csv, .tsv, .jsonl or text, globs, by commas; "
    "sentences that share eight words in a row with them are dropped",
  )  # fmt: skip
  num_shards: int = options.option(1, "files", minimum=1, maximum=100_000)
  num_workers: int = options.option(
    0, "processes; 0: one a core. Does not change the bytes", minimum=0
  )

  def __post_init__(self) -> None:
    options.require(self, "output_dir")


@dataclasses.dataclass(frozen=True)
class Settings:
  """All that decides what a corpus holds, beside its files."""

  corpus: Options
  cleaning: cleaning.Options
  text: texts.Options
  download: downloads.Options


@dataclasses.dataclass(frozen=True)
class Source:
  """How to read one kind of raw text.

  Attributes:
    items: the raw documents of a file, streamed in this process.
    documents: the paragraphs of each document in such an item; pure, since it
      runs in others.
    letters: about how much work an item is.
  """

  items: Callable[[str, Settings], Iterator[Any]]
  documents: Callable[[Any], Sequence[Sequence[str]] | cleaning.Drop]
  letters: Callable[[Any], int]


def _article(page: wikipedia.Page) -> Sequence[Sequence[str]] | cleaning.Drop:
  found = wikipedia.paragraphs(page)
  return found if isinstance(found, cleaning.Drop) else [found]


_TEXT = Source(
  lambda path, settings: texts.items(path, settings.text),
  lambda lines: [lines],
  lambda lines: sum(map(len, lines)),
)
SOURCES = {
  "text": _TEXT,
  "news": _TEXT,  # a name of its own for --download
  "wikipedia": Source(
    lambda path, settings: wikipedia.items(path),
    _article,
    lambda page: len(page.text),
  ),
  "epub": Source(
    lambda path, settings: epub.items(path),
    epub.chapters,
    lambda book: len(book.content),
  ),
}


class Stats:
  """What was kept and what was lost, in all and by file.

  Attributes:
    totals: documents, sentences, words, and what was dropped by reason.
    files: the same by the name of the file.
    examples: reason → the first few of what was dropped for it.
  """

  _EXAMPLES = 3

  def __init__(self) -> None:
    self.totals: collections.Counter[str] = collections.Counter()
    self.files: dict[str, collections.Counter[str]] = {}
    self.examples: dict[str, list[str]] = {}

  def count(self, file: str, what: str, number: int = 1) -> None:
    """Counts something of a file."""
    if number:
      self.totals[what] += number
      self.files.setdefault(file, collections.Counter())[what] += number

  def drop(self, file: str, reason: str, examples: Sequence[str]) -> None:
    """Counts what was dropped, and keeps the first examples of it."""
    self.count(file, f"dropped: {reason}", len(examples))
    kept = self.examples.setdefault(reason, [])
    kept += [
      text[:80] for text in examples[: self._EXAMPLES - len(kept)] if text
    ]

  def to_json(self) -> str:
    """Returns the content of stats.json."""
    content = {
      **dict(sorted(self.totals.items())),
      "examples": dict(sorted(self.examples.items())),
      "files": {
        name: dict(sorted(counts.items()))
        for name, counts in self.files.items()
      },
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"

  def dropped(self) -> str:
    """Says in a line what documents were dropped for."""
    reasons = [
      f"{count} {name.removeprefix('dropped: ')}"
      for name, count in sorted(self.totals.items())
      if name.startswith("dropped: ")
    ]
    return ", ".join(reasons) or "no text"


def build(settings: Settings) -> Stats:
  """Builds the corpus; returns what was kept and what was dropped.

  Raises:
    options.InputError: when no document is left.
  """
  corpus = settings.corpus
  files = _files(settings)
  if corpus.decontaminate:  # says what is wrong with it before any work
    _evaluation(corpus.decontaminate, settings.text.text_field)
  storage.make_folder(corpus.output_dir)
  stats = Stats()
  names = [
    f"corpus-{shard:05d}-of-{corpus.num_shards:05d}.txt"
    for shard in range(corpus.num_shards)
  ]
  with contextlib.ExitStack() as stack:
    shards = [
      stack.enter_context(
        storage.writing(os.path.join(corpus.output_dir, name))
      )
      for name in names
    ]
    _write(settings, files, shards, stats)
    if not stats.totals["documents"]:
      raise options.InputError(
        "text with letters",
        f"nothing to keep in {', '.join(files)}: {stats.dropped()}",
        "check the files, or lower --min_words",
      )
    # The shards take their names when this block ends, not before.
    manifest.begin(corpus.output_dir)
  storage.remove_stale(corpus.output_dir, set(names), "corpus-*.txt")
  with storage.writing(os.path.join(corpus.output_dir, "stats.json")) as file:
    file.write(stats.to_json())
  manifest.write(
    corpus.output_dir,
    "corpus",
    parameters=_parameters(settings),
    files=[*names, "stats.json"],
    counts=dict(sorted(stats.totals.items())),
    inputs={os.path.basename(path): storage.sha256(path) for path in files},
  )
  return stats


def _files(settings: Settings) -> list[str]:
  if settings.download.download:
    return [downloads.fetch(settings.corpus.source, settings.download)]
  options.require(settings.corpus, "input_file")
  return storage.matching(settings.corpus.input_file)


def _parameters(settings: Settings) -> dict[str, Any]:
  """What decides the content, for the manifest."""
  found: dict[str, Any] = {}
  for part in (settings.corpus, settings.cleaning, settings.text):
    found |= dataclasses.asdict(part)
  for name in ("input_file", "output_dir", "num_workers"):
    del found[name]
  return found


def _write(
  settings: Settings,
  files: Sequence[str],
  shards: Sequence[IO[str]],
  stats: Stats,
) -> None:
  """Streams the documents into the shards, in turn."""
  corpus = settings.corpus
  duplicates = deduplication.Duplicates(corpus.near_duplicates)
  began = said = time.monotonic()
  with contextlib.closing(
    parallel.ordered(
      functools.partial(_prepared, settings=settings),
      _tasks(files, settings),
      corpus.num_workers,
    )
  ) as found:
    for document in itertools.chain.from_iterable(found):
      _write_one(document, duplicates, shards, stats)
      if time.monotonic() - said > 10:
        said = time.monotonic()
        count = stats.totals["documents"]
        logging.info(
          "%d documents, %.0f a second", count, count / (said - began)
        )


@dataclasses.dataclass(frozen=True)
class _Document:
  """A cleaned document on its way from a worker.

  Attributes:
    file: the name of the file that it comes from.
    result: what the rules made of it.
    minhash: its signature where near duplicates are looked for.
  """

  file: str
  result: cleaning.Result
  minhash: np.ndarray | None = None


def _write_one(
  document: _Document,
  duplicates: deduplication.Duplicates,
  shards: Sequence[IO[str]],
  stats: Stats,
) -> None:
  """Writes a document that is kept into the next shard; counts all."""
  file, verdict = document.file, document.result.verdict
  for reason, lines in document.result.lines.items():
    stats.drop(file, reason, lines)
  if isinstance(verdict, cleaning.Drop):
    if verdict.reason not in stats.examples:
      logging.info(
        "dropping, for example: %s: %s", verdict.reason, verdict.example
      )
    stats.drop(file, verdict.reason, [verdict.example])
    return
  sentences = verdict.sentences
  if copied := duplicates.seen(sentences, document.minhash):
    stats.drop(file, copied, [sentences[0]])
    return
  documents.write(shards[stats.totals["documents"] % len(shards)], sentences)
  stats.count(file, "documents")
  stats.count(file, "sentences", len(sentences))
  stats.count(file, "words", sum(len(s.split()) for s in sentences))


def _tasks(
  files: Sequence[str], settings: Settings
) -> Iterator[tuple[str, list[Any]]]:
  """Groups the raw documents of each file into tasks of about a size."""
  source = SOURCES[settings.corpus.source]
  for path in files:
    name, batch, size = os.path.basename(path), [], 0
    for item in _items(path, settings):
      batch.append(item)
      size += source.letters(item)
      if size >= _LETTERS_A_TASK:
        yield name, batch
        batch, size = [], 0
    if batch:
      yield name, batch


def _items(path: str, settings: Settings) -> Iterator[Any]:
  """Yields the raw documents of a file."""
  count, item = 0, None
  for item in SOURCES[settings.corpus.source].items(path, settings):
    count += 1
    yield item
  one = count == 1 and isinstance(item, tuple) and len(item) > 1
  if one and not settings.corpus.section_sentences:
    logging.warning(
      "%s has no blank line between documents: all of it is one document. "
      "--section_sentences cuts it into passages",
      path,
    )


def _prepared(
  task: tuple[str, list[Any]], settings: Settings
) -> list[_Document]:
  """Makes documents of raw ones: normalised, split, cut, cleaned."""
  file, batch = task
  corpus = settings.corpus
  found = []
  for item in batch:
    texts_or_drop = SOURCES[corpus.source].documents(item)
    if isinstance(texts_or_drop, cleaning.Drop):
      found.append(_Document(file, cleaning.Result(texts_or_drop, {})))
      continue
    for paragraphs in texts_or_drop:
      parts = [s for line in paragraphs for s in _sentences(line, corpus)]
      passages = _passages(parts, corpus.section_sentences)
      found += [_cleaned(file, passage, settings) for passage in passages]
  return found


@functools.cache
def _evaluation(patterns: str, text_field: str) -> deduplication.Evaluation:
  """Read once a process."""
  how = texts.Options(documents="line", text_field=text_field)
  return deduplication.Evaluation(
    line
    for path in storage.matching(patterns)
    for lines in texts.items(path, how)
    for line in lines
  )


def _cleaned(
  file: str, passage: Sequence[str], settings: Settings
) -> _Document:
  held: list[str] = []
  if settings.corpus.decontaminate:
    evaluation = _evaluation(
      settings.corpus.decontaminate, settings.text.text_field
    )
    held = [sentence for sentence in passage if evaluation.holds(sentence)]
    passage = [sentence for sentence in passage if sentence not in held]
  result = cleaning.clean(passage, settings.cleaning)
  if held:
    lines = {**result.lines, "in an evaluation set": held}
    result = dataclasses.replace(result, lines=lines)
  if settings.corpus.near_duplicates and isinstance(
    result.verdict, cleaning.Keep
  ):
    minhash = deduplication.signature(result.verdict.sentences)
    return _Document(file, result, minhash)
  return _Document(file, result)


def _sentences(line: str, settings: Options) -> list[str]:
  text = normalization.normalize(line, settings.repair_legacy_letters)
  return sentences.split(text) if settings.split_sentences else [text]


def _passages(found: list[str], about: int) -> Iterator[list[str]]:
  """Cuts into passages of equal size, as near to `about` as can be."""
  count = max(1, round(len(found) / about)) if about else 1
  for number in range(count):
    yield found[
      number * len(found) // count : (number + 1) * len(found) // count
    ]
