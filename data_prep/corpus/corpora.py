"""Builds a corpus: reads, normalises, splits, cleans and shards raw text."""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeVar

from absl import logging

from data_prep.base import options, parallel, shown_text, time_limits
from data_prep.corpus import corpus_report, corpus_stats, deduplication
from data_prep.files import (
  documents,
  manifest,
  ownership,
  storage,
  whole_folders,
)
from data_prep.sources import (
  downloads,
  epub,
  inputs,
  rows,
  texts,
  web_pages,
  wikipedia,
  wikitext,
)
from data_prep.text import (
  cleaning,
  normalization,
  quality,
  sentences,
  similarity,
)

_STATS, _REPORT = "stats.json", "corpus_report.html"
_BAD_ROWS = "bad_rows.tsv"  # file, row and reason of each row left out

_LETTERS_A_TASK = 1 << 18  # guess: some tenths of a second of work
# CPU time after which a raw document is dropped: a hundred times what a page or
# book takes. All known work is linear in the input; the limit is for unknown
# exceptions.
_LONGEST_SECONDS, _LETTERS_A_SECOND = 20.0, 10_000
_TOO_LONG = "took too long"


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """The input of a corpus, its sentences, copies and output."""

  source: str = options.option(
    "text",
    "Kind of the input. text: plain UTF-8 text, Parquet, Arrow, JSON, .csv "
    "or .tsv files, web pages (HTML, WARC, WET), subtitles, .docx, exports of "
    "posts, or archives of such files (.zip, .tar, .rar). news: read like "
    "text, with the news archive as --download. wikipedia: an XML dump. epub: "
    "e-books, where each chapter becomes a document.",
    choices=("text", "news", "wikipedia", "epub"),
  )
  input_file: str = options.option(
    "",
    "Files to read, as glob patterns separated by commas, or folders; ** "
    "stands for any number of folders. Required without --download.",
  )
  output_dir: str = options.option(
    "",
    "Folder for the corpus: the files corpus-*.txt, a manifest and a "
    "report. Required.",
  )
  repair_legacy_letters: bool = options.option(
    False,
    "Put ө and ү where a legacy font left є, ї, ѳ or v.",
  )
  split_sentences: bool = options.option(
    True,
    "Split lines into sentences. With --nosplit_sentences every line is a "
    "sentence.",
  )
  section_sentences: int = options.option(
    0,
    "Approximate number of sentences of a passage, where longer documents "
    "are cut into passages. 0 leaves documents whole.",
    minimum=0,
  )
  near_duplicates: float = options.option(
    0.0,
    "Smallest Jaccard similarity at which a document is dropped as a near "
    "copy of an earlier document in the corpus. The similarity compares "
    "the sets of runs of five words; 0.8 is usual. 0 drops exact copies "
    "only. Each document of the corpus takes 3 to 9 kB of memory.",
    minimum=0.0,
    maximum=1.0,
  )
  decontaminate: str = options.option(
    "",
    "Evaluation sets (.csv, .tsv, .jsonl or text files), as glob patterns "
    "separated by commas. A sentence that shares eight words in a row "
    "with an evaluation set is dropped from the corpus.",
  )
  num_shards: int = options.option(
    1,
    "Number of files into which the corpus is divided.",
    minimum=1,
    maximum=100_000,
  )
  num_workers: int = options.option(
    0,
    "Number of processes. 0 starts one process for each core. The output "
    "does not depend on this number.",
    minimum=0,
  )

  def check(self) -> None:
    options.require(self, "output_dir")
    similarity.check(self.near_duplicates)


@dataclasses.dataclass(frozen=True)
class Settings:
  """All options of a corpus."""

  corpus: Options
  cleaning: cleaning.Options
  text: texts.Options
  download: downloads.Options


@dataclasses.dataclass(frozen=True)
class Source:
  """The functions that read one kind of raw text.

  Attributes:
    items: yields the raw documents of a file, in the main process.
    documents: returns the paragraphs of each document in a raw document, or a
      Drop; it has no side effects, because it runs in worker processes.
    letters: returns the approximate size of a raw document, in letters.
    name: returns the name of a raw document for a message.
  """

  items: Callable[[str, Settings], Iterator[Any]]
  documents: Callable[
    [Any], Sequence[Sequence[str] | wikitext.Rendered] | cleaning.Drop
  ]
  letters: Callable[[Any], int]
  name: Callable[[Any], str]


def _article(
  page: wikipedia.Page,
) -> Sequence[wikitext.Rendered] | cleaning.Drop:
  """Returns the text of a page as the only document, or a Drop."""
  rendered = wikipedia.rendered(page)
  return rendered if isinstance(rendered, cleaning.Drop) else [rendered]


def _text(item: texts.Item) -> Sequence[Sequence[str]] | cleaning.Drop:
  document = texts.resolved(item)
  return document if isinstance(document, cleaning.Drop) else [document]


def _text_letters(item: texts.Item) -> int:
  """Returns the size of a raw document in letters; of a web page, in bytes.

  A dropped row has a size above 0, so that a batch holds few of them too.
  """
  match item:
    case cleaning.Drop():
      return 1 + len(item.example)
    case web_pages.Page():
      return len(item.content)
  return sum(map(len, item))


def _text_name(item: texts.Item) -> str:
  match item:
    case cleaning.Drop():
      return item.example
    case web_pages.Page():
      return item.name[:80]
  return "".join(item[:1])[:80]


_TEXT = Source(
  lambda path, settings: texts.items(path, settings.text),
  _text,
  _text_letters,
  _text_name,
)
SOURCES = {
  "text": _TEXT,
  "news": _TEXT,  # a name of its own for --download
  "wikipedia": Source(
    lambda path, _settings: wikipedia.items(path),
    _article,
    lambda page: len(page.title) + len(page.text),
    lambda page: page.title,
  ),
  "epub": Source(
    lambda path, _settings: epub.items(path),
    epub.chapters,
    lambda book: len(book.content),
    lambda book: book.name,
  ),
}


def build(settings: Settings) -> corpus_stats.Stats:
  """Builds the corpus; returns the counts of kept and dropped text.

  Raises:
    options.InputError: when no document is left, or when another program writes
      into the output folder.
  """
  with ownership.owning(settings.corpus.output_dir):
    return _build(settings)


def _build(settings: Settings) -> corpus_stats.Stats:
  corpus = settings.corpus
  files = _files(settings)
  if corpus.decontaminate:  # raises for unreadable sets before any work
    _evaluation(corpus.decontaminate, settings.text.text_field)
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
  settings: Settings,
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


def _files(settings: Settings) -> list[str]:
  """Returns the paths of the input files, downloaded if --download is given.

  Raises:
    options.InputError: without --download and --input_file, or when the
      download fails.
  """
  if settings.download.download:
    return [downloads.fetch(settings.corpus.source, settings.download)]
  options.require(settings.corpus, "input_file")
  return inputs.files(settings.corpus.input_file)


def _parameters(settings: Settings) -> dict[str, Any]:
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
  settings: Settings,
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
      functools.partial(prepared, settings=settings),
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


@dataclasses.dataclass(frozen=True)
class _Document:
  """A cleaned document, as a worker returns it.

  Attributes:
    result: the verdict (Keep, Drop or BadRow), and the sentences that were
      dropped or changed, by reason.
    signature: the signature of a kept document; None for a dropped document,
      and without --near_duplicates.
    templates: for each sentence that was dropped for unknown templates, the
      names of these templates.
  """

  result: cleaning.Result
  signature: deduplication.Signature | None = None
  templates: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Batch:
  """The documents of a task.

  Attributes:
    file: the name of the file that they come from.
    read: the numbers of documents, sentences and words before the rules.
    documents: all documents in order, the dropped ones included.
  """

  file: str
  read: tuple[int, int, int]
  documents: list[_Document]


def _write_batch(
  batch: _Batch,
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
  document: _Document,
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
    if verdict.reason == _TOO_LONG:
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
  files: Sequence[str], settings: Settings
) -> Iterator[tuple[str, list[Any]]]:
  """Yields tasks: (name of a file, some raw documents of it, in order).

  A task ends with the document with which it reaches 2^18 letters, or with the
  file.
  """
  source = SOURCES[settings.corpus.source]
  for path, name in zip(files, manifest.labels(files), strict=True):
    batch: list[Any] = []
    size = 0
    for item in _items(path, settings):
      batch.append(item)
      size += source.letters(item)
      if size >= _LETTERS_A_TASK:
        yield name, batch
        batch, size = [], 0
    if batch:
      yield name, batch


def _items(path: str, settings: Settings) -> Iterator[Any]:
  """Yields the raw documents of a file.

  It warns if a text file contains a single document of several lines.
  """
  count, item = 0, None
  for item in SOURCES[settings.corpus.source].items(path, settings):
    count += 1
    yield item
  is_single = count == 1 and isinstance(item, tuple) and len(item) > 1
  if is_single and not settings.corpus.section_sentences:
    logging.warning(
      "%s has no blank line between documents: all of it is one document. "
      "--section_sentences cuts it into passages",
      path,
    )


@dataclasses.dataclass(frozen=True)
class _Text:
  """A text of a raw document, split into sentences.

  Attributes:
    sentences: the normalised sentences.
    holes: placeholder character → the name of the unknown template.
    marked: the paragraphs whose markup was undone, as they were before.
  """

  sentences: list[str]
  holes: Mapping[str, str]
  marked: list[str]


def prepared(task: tuple[str, list[Any]], settings: Settings) -> _Batch:
  """Returns the documents of a task: normalised, split, cut and cleaned.

  Dropped documents are included. A raw document that takes too long becomes a
  dropped document.

  Args:
    task: (file name, raw documents).
    settings: the options of the corpus.
  """
  file, items = task
  texts_of = [
    _timed(functools.partial(_texts, item, settings), item, settings)
    for item in items
  ]
  site_lines = _site_lines(texts_of, settings)
  made: list[_Document] = []
  read_sentences = read_words = 0
  for item, split in zip(items, texts_of, strict=True):
    clean = functools.partial(_of_texts, split, settings, site_lines)
    cleaned = _timed(clean, item, settings)
    if isinstance(cleaned, cleaning.Drop):
      made.append(_dropped(cleaned))
      continue
    made += cleaned
    for text in () if isinstance(split, cleaning.Drop) else split:
      read_sentences += len(text.sentences)
      read_words += corpus_stats.count_words(" ".join(text.sentences))
  if settings.corpus.near_duplicates:
    made = _signed(made)
  return _Batch(file, (len(made), read_sentences, read_words), made)


T = TypeVar("T")


def _timed(
  work: Callable[[], T], item: Any, settings: Settings
) -> T | cleaning.Drop:
  """Returns work(), or a Drop if it takes too long.

  Args:
    work: the work.
    item: the raw document, whose size and name are used.
    settings: the options of the corpus.
  """
  source = SOURCES[settings.corpus.source]
  seconds = _LONGEST_SECONDS + source.letters(item) / _LETTERS_A_SECOND
  try:
    with time_limits.limited(seconds):
      return work()
  except time_limits.TooLongError:
    return cleaning.Drop(_TOO_LONG, source.name(item))


def _dropped(drop: cleaning.Drop) -> _Document:
  """Returns the record of a raw document that was dropped as a whole.

  The record has no signature, and lists no dropped or changed sentences.
  """
  return _Document(cleaning.Result(drop, {}))


def _texts(item: Any, settings: Settings) -> list[_Text] | cleaning.Drop:
  """Returns the texts of a raw document, split into sentences, or a Drop.

  With the rule for markup, paragraphs are freed of their markup first.
  """
  texts_or_drop = SOURCES[settings.corpus.source].documents(item)
  if isinstance(texts_or_drop, cleaning.Drop):
    return texts_or_drop
  undo_markup = quality.MARKUP in _judge(settings).names
  made = []
  for text in texts_or_drop:
    if not isinstance(text, wikitext.Rendered):
      text = wikitext.Rendered(list(text))
    paragraphs: Sequence[str] = text.paragraphs
    marked = []
    if undo_markup:
      undone = list(map(quality.without_markup, paragraphs))
      pairs = zip(paragraphs, undone, strict=True)
      marked = [
        line for line, parts in pairs if parts != [line] and line.strip()
      ]
      paragraphs = [part for parts in undone for part in parts]
    parts = [
      s for line in paragraphs for s in _sentences(line, settings.corpus) if s
    ]
    made.append(_Text(parts, text.holes, marked))
  return made


def _judge(settings: Settings) -> quality.Judge:
  return quality.chosen(settings.cleaning.quality_rules)


def _site_lines(
  texts_of: Sequence[list[_Text] | cleaning.Drop], settings: Settings
) -> frozenset[str]:
  """Returns the lines that a task's raw documents share as frames of a site.

  The result is empty without the rule for such lines.

  Args:
    texts_of: the texts of each raw document, or its Drop.
    settings: the options of the corpus.
  """
  if quality.SITE_LINES not in _judge(settings).names:
    return frozenset()
  return quality.site_lines(
    (sentence for text in split for sentence in text.sentences)
    for split in texts_of
    if not isinstance(split, cleaning.Drop)
  )


def _of_texts(
  split: list[_Text] | cleaning.Drop,
  settings: Settings,
  site_lines: frozenset[str],
) -> list[_Document]:
  """Returns a document for each passage of a raw document's texts, cleaned.

  Dropped passages are included. For a Drop the result is one dropped document.
  """
  if isinstance(split, cleaning.Drop):
    return [_dropped(split)]
  about = settings.corpus.section_sentences
  return [
    _cleaned(passage, settings, text, site_lines, number == 0)
    for text in split
    for number, passage in enumerate(_passages(text.sentences, about))
  ]


def _signed(unsigned: Sequence[_Document]) -> list[_Document]:
  """Returns the documents, each kept document with its signature."""
  signatures = iter(
    deduplication.signatures(
      [
        document.result.verdict.sentences
        for document in unsigned
        if isinstance(document.result.verdict, cleaning.Keep)
      ]
    )
  )
  return [
    dataclasses.replace(document, signature=next(signatures))
    if isinstance(document.result.verdict, cleaning.Keep)
    else document
    for document in unsigned
  ]


@functools.cache
def _evaluation(patterns: str, text_field: str) -> deduplication.Evaluation:
  """Returns the texts of the evaluation sets; each process reads them once."""
  how = texts.Options(documents="line", text_field=text_field)
  return deduplication.Evaluation(
    line
    for path in storage.matching(patterns)
    for lines in texts.read(path, how)
    for line in lines
  )


def _cleaned(
  passage: Sequence[str],
  settings: Settings,
  text: _Text,
  site_lines: frozenset[str],
  first: bool,
) -> _Document:
  """Returns a passage without unknown templates, and cleaned by the rules.

  Sentences with a placeholder of an unknown template are dropped.

  Args:
    passage: the sentences.
    settings: the options of the corpus.
    text: the text that the passage comes from.
    site_lines: see `cleaning.clean`.
    first: whether this is the first passage of the text, which tells about the
      markup of the whole text.
  """
  holes = text.holes
  lost, missing = [], []
  for sentence in passage if holes else ():
    if hole_marks := [x for x in sentence if x in holes]:
      lost.append("".join(_named(x, holes) for x in sentence))
      missing += sorted({holes[x] for x in hole_marks})
  if lost:
    passage = [s for s in passage if holes.keys().isdisjoint(s)]
  result = _ruled(passage, settings, site_lines)
  lines = dict(result.lines)
  if lost:
    lines["unknown template"] = lost
  if first and text.marked:
    lines["markup undone"] = text.marked
  result = dataclasses.replace(result, lines=lines)
  return _Document(result, templates=tuple(missing))


def _named(character: str, holes: Mapping[str, str]) -> str:
  """Returns a character, but {{name}} for the placeholder of a template.

  Args:
    character: a character of a sentence.
    holes: placeholder character → the name of the unknown template.
  """
  return f"{{{{{holes[character]}}}}}" if character in holes else character


def _ruled(
  passage: Sequence[str], settings: Settings, site_lines: frozenset[str]
) -> cleaning.Result:
  """Returns the rules' verdict on a passage, with its dropped sentences.

  With --decontaminate, sentences of evaluation sets are dropped first.
  """
  held: list[str] = []
  if settings.corpus.decontaminate:
    evaluation = _evaluation(
      settings.corpus.decontaminate, settings.text.text_field
    )
    held = [sentence for sentence in passage if evaluation.holds(sentence)]
    gone = set(held)
    passage = [sentence for sentence in passage if sentence not in gone]
  result = cleaning.clean(passage, settings.cleaning, site_lines)
  if held:
    lines = {**result.lines, "in an evaluation set": held}
    result = dataclasses.replace(result, lines=lines)
  return result


def _sentences(line: str, settings: Options) -> list[str]:
  """Returns the normalised sentences of a line."""
  text = normalization.normalize(line, settings.repair_legacy_letters)
  return sentences.split(text) if settings.split_sentences else [text]


def _passages(document: list[str], about: int) -> Iterator[list[str]]:
  """Yields a document's sentences in passages of about `about` sentences.

  The passages of a document have nearly the same size. An `about` of 0 gives
  the whole document.
  """
  count = max(1, round(len(document) / about)) if about else 1
  for number in range(count):
    yield document[
      number * len(document) // count : (number + 1) * len(document) // count
    ]
