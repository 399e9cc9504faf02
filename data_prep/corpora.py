"""Raw text to a corpus: read, normalise, split, clean, write in shards."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

from absl import logging

from data_prep import (
  cleaning,
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
  min_words: int = options.option(
    5, "drop documents of fewer words (a guess: less is a caption)", minimum=0
  )
  num_shards: int = options.option(1, "files", minimum=1, maximum=100_000)
  num_workers: int = options.option(
    0, "processes; 0: one a core. Does not change the bytes", minimum=0
  )

  def __post_init__(self) -> None:
    options.require(self, "output_dir")


Stats = collections.Counter[str]


@dataclasses.dataclass(frozen=True)
class Settings:
  """All that decides what a corpus holds, beside its files."""

  corpus: Options
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


def build(settings: Settings) -> Stats:
  """Builds the corpus; returns what was kept and what was dropped.

  Raises:
    options.InputError: when no document is left.
  """
  corpus = settings.corpus
  files = _files(settings)
  manifest.begin(corpus.output_dir)
  stats: Stats = collections.Counter()
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
    if not stats["documents"]:
      raise options.InputError(
        "text with letters",
        f"nothing to keep in {', '.join(files)}: {_dropped(stats)}",
        "check the files, or lower --min_words",
      )
  storage.remove_stale(corpus.output_dir, set(names), "corpus-*.txt")
  with storage.writing(os.path.join(corpus.output_dir, "stats.json")) as file:
    file.write(json.dumps(dict(sorted(stats.items())), indent=2) + "\n")
  manifest.write(
    corpus.output_dir,
    "corpus",
    parameters=_parameters(settings),
    files=[*names, "stats.json"],
    counts=dict(sorted(stats.items())),
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
  found = dataclasses.asdict(settings.corpus) | dataclasses.asdict(
    settings.text
  )
  for name in ("input_file", "output_dir", "num_workers"):
    del found[name]
  return found


def _dropped(stats: Stats) -> str:
  reasons = [
    f"{count} {name.removeprefix('dropped: ')}"
    for name, count in sorted(stats.items())
    if name.startswith("dropped: ")
  ]
  return ", ".join(reasons) or "no text"


def _write(
  settings: Settings,
  files: Sequence[str],
  shards: Sequence[IO[str]],
  stats: Stats,
) -> None:
  """Streams the documents into the shards, in turn."""
  corpus = settings.corpus
  cleaner = cleaning.Cleaner(corpus.min_words)
  began = said = time.monotonic()
  with contextlib.closing(
    parallel.ordered(
      functools.partial(_prepared, settings=corpus),
      _batches(_items(files, settings), SOURCES[corpus.source]),
      corpus.num_workers,
    )
  ) as found:
    for document in itertools.chain.from_iterable(found):
      verdict = (
        document if isinstance(document, cleaning.Drop) else cleaner(document)
      )
      _write_one(verdict, shards, stats)
      if time.monotonic() - said > 10:
        said = time.monotonic()
        rate = stats["documents"] / (said - began)
        logging.info("%d documents, %.0f a second", stats["documents"], rate)


def _write_one(
  verdict: cleaning.Keep | cleaning.Drop,
  shards: Sequence[IO[str]],
  stats: Stats,
) -> None:
  """Writes a document that is kept into the next shard; counts all."""
  if isinstance(verdict, cleaning.Drop):
    stats[f"dropped: {verdict.reason}"] += 1
    if verdict.example:
      logging.warning("%s: %s", verdict.reason, verdict.example)
    return
  documents.write(shards[stats["documents"] % len(shards)], verdict.sentences)
  stats["documents"] += 1
  stats["sentences"] += len(verdict.sentences)
  stats["words"] += sum(len(s.split()) for s in verdict.sentences)


def _items(files: Sequence[str], settings: Settings) -> Iterator[Any]:
  """Yields the raw documents of the files, in order."""
  source = SOURCES[settings.corpus.source]
  for path in files:
    count, item = 0, None
    for item in source.items(path, settings):
      count += 1
      yield item
    one = count == 1 and isinstance(item, tuple) and len(item) > 1
    if one and not settings.corpus.section_sentences:
      logging.warning(
        "%s has no blank line between documents: all of it is one document. "
        "--section_sentences cuts it into passages",
        path,
      )


def _batches(items: Iterable[Any], source: Source) -> Iterator[list[Any]]:
  """Groups documents into tasks of about a size."""
  batch: list[Any] = []
  size = 0
  for item in items:
    batch.append(item)
    size += source.letters(item)
    if size >= _LETTERS_A_TASK:
      yield batch
      batch, size = [], 0
  if batch:
    yield batch


def _prepared(
  batch: Sequence[Any], settings: Options
) -> list[list[str] | cleaning.Drop]:
  """Makes documents of raw ones: normalised, split, cut into passages."""
  found: list[list[str] | cleaning.Drop] = []
  for item in batch:
    texts_or_drop = SOURCES[settings.source].documents(item)
    if isinstance(texts_or_drop, cleaning.Drop):
      found.append(texts_or_drop)
      continue
    for paragraphs in texts_or_drop:
      parts = [s for line in paragraphs for s in _sentences(line, settings)]
      found += _passages(parts, settings.section_sentences)
  return found


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
