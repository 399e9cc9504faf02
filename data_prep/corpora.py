"""Raw text to a corpus: read, normalise, split, clean, write in shards."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from absl import logging

from data_prep import (
  cleaning,
  documents,
  manifest,
  normalization,
  options,
  parallel,
  sentences,
  storage,
  texts,
)

_LETTERS_A_TASK = 1 << 18  # guess: some tenths of a second of work


@dataclasses.dataclass(frozen=True)
class Options:
  """Which text to clean, and how."""

  source: str = options.option(
    "text",
    "text: plain UTF-8 text (see --documents), .jsonl, .csv or .tsv",
    choices=("text",),
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
    options.require(self, "input_file", "output_dir")


Stats = collections.Counter[str]


def build(settings: Options, text: texts.Options) -> Stats:
  """Builds the corpus; returns what was kept and what was dropped.

  Raises:
    options.InputError: when no document is left.
  """
  files = storage.matching(settings.input_file)
  manifest.begin(settings.output_dir)
  stats: Stats = collections.Counter()
  names = [
    f"corpus-{shard:05d}-of-{settings.num_shards:05d}.txt"
    for shard in range(settings.num_shards)
  ]
  with contextlib.ExitStack() as stack:
    shards = [
      stack.enter_context(
        storage.writing(os.path.join(settings.output_dir, name))
      )
      for name in names
    ]
    _write(settings, text, files, shards, stats)
    if not stats["documents"]:
      raise options.InputError(
        "text with letters",
        f"nothing to keep in {settings.input_file}: {_dropped(stats)}",
        "check the files, or lower --min_words",
      )
  storage.remove_stale(settings.output_dir, set(names), "corpus-*.txt")
  with storage.writing(os.path.join(settings.output_dir, "stats.json")) as file:
    file.write(json.dumps(dict(sorted(stats.items())), indent=2) + "\n")
  parameters = dataclasses.asdict(settings) | dataclasses.asdict(text)
  for name in ("input_file", "output_dir", "num_workers"):
    del parameters[name]
  manifest.write(
    settings.output_dir,
    "corpus",
    parameters=parameters,
    files=[*names, "stats.json"],
    counts=dict(sorted(stats.items())),
    inputs={os.path.basename(path): storage.sha256(path) for path in files},
  )
  return stats


def _dropped(stats: Stats) -> str:
  reasons = [
    f"{count} {name.removeprefix('dropped: ')}"
    for name, count in sorted(stats.items())
    if name.startswith("dropped: ")
  ]
  return ", ".join(reasons) or "no text"


def _write(
  settings: Options,
  text: texts.Options,
  files: Sequence[str],
  shards: Sequence[IO[str]],
  stats: Stats,
) -> None:
  """Streams the documents into the shards, in turn."""
  cleaner = cleaning.Cleaner(settings.min_words)
  began = said = time.monotonic()
  with contextlib.closing(
    parallel.ordered(
      functools.partial(_prepared, settings=settings),
      _batches(_items(files, settings, text)),
      settings.num_workers,
    )
  ) as found:
    for document in itertools.chain.from_iterable(found):
      _write_one(cleaner(document), shards, stats)
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
    return
  documents.write(shards[stats["documents"] % len(shards)], verdict.sentences)
  stats["documents"] += 1
  stats["sentences"] += len(verdict.sentences)
  stats["words"] += sum(len(s.split()) for s in verdict.sentences)


def _items(
  files: Sequence[str], settings: Options, text: texts.Options
) -> Iterator[texts.Lines]:
  """Yields the raw documents of the files, in order."""
  for path in files:
    count, lines = 0, 0
    for item in texts.items(path, text):
      count, lines = count + 1, len(item)
      yield item
    if count == 1 and lines > 1 and not settings.section_sentences:
      logging.warning(
        "%s has no blank line between documents: all of it is one document, "
        "so nothing of it can be held out by itself",
        path,
      )


def _batches(items: Iterable[texts.Lines]) -> Iterator[list[texts.Lines]]:
  """Groups documents into tasks of about a size."""
  batch: list[texts.Lines] = []
  size = 0
  for item in items:
    batch.append(item)
    size += sum(map(len, item))
    if size >= _LETTERS_A_TASK:
      yield batch
      batch, size = [], 0
  if batch:
    yield batch


def _prepared(
  batch: Sequence[texts.Lines], settings: Options
) -> list[list[str]]:
  """Normalises and splits raw documents; cuts long ones into passages."""
  found: list[list[str]] = []
  for item in batch:
    lines = [s for line in item for s in _sentences(line, settings)]
    found += _passages(lines, settings.section_sentences)
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
