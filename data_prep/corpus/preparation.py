"""Turns raw documents into cleaned ones: normalises, splits, cuts and cleans.

A raw document is one item that a reader in data_prep/sources yields: the
paragraphs of a text, a page of a wiki, a web page. It becomes one document, or
several if it is cut into passages (--section_sentences).

The result depends on the raw documents and the options alone, so that every
process gives the same result.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from absl import logging

from data_prep.base import time_limits
from data_prep.corpus import corpus_options, corpus_stats, deduplication
from data_prep.files import storage
from data_prep.sources import (
  epub,
  rows,
  texts,
  web_pages,
  wikipedia,
  wikitext,
)
from data_prep.text import cleaning, normalization, quality, sentences

_LETTERS_A_TASK = 1 << 18  # guess: some tenths of a second of work
# CPU time after which a raw document is dropped: a hundred times what a page or
# book takes. All known work is linear in the input; the limit is for unknown
# exceptions.
_LONGEST_SECONDS, _LETTERS_A_SECOND = 20.0, 10_000
TOO_LONG = "took too long"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Source:
  """The functions that read one kind of raw text.

  Attributes:
    items: function that yields the raw documents of a file, or Drops; it runs in
      the main process.
    documents: function from a raw document to the paragraphs of each text in
      it, or to a Drop; it has no side effects, because it runs in worker
      processes.
    letters: function from a raw document to its approximate size in letters.
    name: function from a raw document to its name in messages.
  """

  items: Callable[[str, corpus_options.Settings], Iterator[Any]]
  documents: Callable[
    [Any], Sequence[Sequence[str] | wikitext.Rendered] | cleaning.Drop
  ]
  letters: Callable[[Any], int]
  name: Callable[[Any], str]


def _article(
  page: wikipedia.Page | cleaning.Drop,
) -> Sequence[wikitext.Rendered] | cleaning.Drop:
  """Returns [the text of a wiki page], or a Drop for a page to leave out."""
  if isinstance(page, cleaning.Drop):
    return page
  rendered = wikipedia.rendered(page)
  return rendered if isinstance(rendered, cleaning.Drop) else [rendered]


def _article_letters(page: wikipedia.Page | cleaning.Drop) -> int:
  if isinstance(page, cleaning.Drop):
    return 1 + len(page.example)
  return len(page.title) + len(page.text)


def _article_name(page: wikipedia.Page | cleaning.Drop) -> str:
  return page.example if isinstance(page, cleaning.Drop) else page.title


def _text(item: texts.Item) -> Sequence[Sequence[str]] | cleaning.Drop:
  document = texts.resolved(item)
  return document if isinstance(document, cleaning.Drop) else [document]


def _text_letters(item: texts.Item) -> int:
  """Returns the size of a raw document in letters; of a web page, in bytes.

  The result is above 0 for a dropped row too, so that a batch never holds too
  many dropped rows.
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
    lambda path, settings: rows.until_damage(
      lambda: wikipedia.items(path), settings.text.bad_rows
    ),
    _article,
    _article_letters,
    _article_name,
  ),
  "epub": Source(
    lambda path, _settings: epub.items(path),
    epub.chapters,
    lambda book: len(book.content),
    lambda book: book.name,
  ),
}


@dataclasses.dataclass(frozen=True)
class Document:
  """A cleaned document, as a worker process returns it.

  Attributes:
    result: the verdict (Keep, Drop or BadRow), and reason → the sentences that
      were dropped or changed for this reason.
    templates: the names of the unknown templates for which sentences were
      dropped: for each such sentence, the names of its templates.
  """

  result: cleaning.Result
  templates: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Batch:
  """The cleaned documents of one task of a worker process.

  Attributes:
    file: the name of the file that the documents come from.
    read: the numbers of documents, sentences and words, before any rule has
      dropped text.
    documents: all documents in order, the dropped ones included.
    signatures: the signatures of the kept documents, in order, once the batch is
      signed.
  """

  file: str
  read: tuple[int, int, int]
  documents: list[Document]
  signatures: deduplication.Signatures = dataclasses.field(
    default_factory=functools.partial(deduplication.signatures, (), 0)
  )


def tasks(path: str, settings: corpus_options.Settings) -> Iterator[list[Any]]:
  """Yields lists of raw documents of a file, in order: one list for each task.

  A list ends with the document with which it reaches 2^18 letters, or with the
  last document of the file.

  Args:
    path: the path of the file.
    settings: the options of the corpus.
  """
  source = SOURCES[settings.corpus.source]
  batch: list[Any] = []
  size = 0
  for item in _items(path, settings):
    batch.append(item)
    size += source.letters(item)
    if size >= _LETTERS_A_TASK:
      yield batch
      batch, size = [], 0
  if batch:
    yield batch


def _items(path: str, settings: corpus_options.Settings) -> Iterator[Any]:
  """Yields the raw documents of a file.

  A text file without blank lines is a single document. Unless
  --section_sentences cuts that document, a warning is logged.
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
    holes: placeholder character in the sentences → the name of the unknown
      template whose output is missing there.
    marked: the paragraphs from which markup was removed, before its removal.
  """

  sentences: list[str]
  holes: Mapping[str, str]
  marked: list[str]


def prepared(
  task: tuple[str, list[Any]], settings: corpus_options.Settings
) -> Batch:
  """Returns the documents of a task: normalised, split, cut and cleaned.

  Dropped documents are included, and the kept ones are signed. A raw document
  that takes too much CPU time becomes a dropped document.

  Args:
    task: (name of the file, raw documents).
    settings: the options of the corpus.
  """
  file, items = task
  parts = [functools.partial(_texts, item, settings) for item in items]
  texts_of = _all_timed(parts, items, settings)
  site_lines = _site_lines(texts_of, settings)
  cleanings = [
    functools.partial(_of_texts, split, settings, site_lines)
    for split in texts_of
  ]
  made: list[Document] = []
  read_sentences = read_words = 0
  for cleaned, split in zip(
    _all_timed(cleanings, items, settings), texts_of, strict=True
  ):
    if isinstance(cleaned, cleaning.Drop):
      made.append(_dropped(cleaned))
      continue
    made += cleaned
    for text in () if isinstance(split, cleaning.Drop) else split:
      read_sentences += len(text.sentences)
      read_words += corpus_stats.count_words(" ".join(text.sentences))
  batch = Batch(file, (len(made), read_sentences, read_words), made)
  return signed(batch, settings)


def signed(batch: Batch, settings: corpus_options.Settings) -> Batch:
  """Returns the batch with the signatures of its kept documents."""
  kept = [
    document.result.verdict.sentences
    for document in batch.documents
    if isinstance(document.result.verdict, cleaning.Keep)
  ]
  signatures = deduplication.signatures(kept, settings.corpus.near_duplicates)
  return dataclasses.replace(batch, signatures=signatures)


def _all_timed(
  works: Sequence[Callable[[], T]],
  items: Sequence[Any],
  settings: corpus_options.Settings,
) -> list[T | cleaning.Drop]:
  """Returns the result of each work, or a Drop where it takes too long.

  A timer for each raw document would take a tenth of the time. So all
  works together first get the shortest time that a single one is allowed. If they
  take longer, each is done again with a timer of its own.

  Args:
    works: the work for each raw document, without side effects.
    items: the raw documents.
    settings: the options of the corpus.
  """
  try:
    with time_limits.limited(_LONGEST_SECONDS):
      return [work() for work in works]
  except time_limits.TooLongError:
    return [
      _timed(work, item, settings)
      for work, item in zip(works, items, strict=True)
    ]


def _timed(
  work: Callable[[], T], item: Any, settings: corpus_options.Settings
) -> T | cleaning.Drop:
  """Returns work(), or a Drop if the call takes too much CPU time.

  The time allowed is a constant plus a time for each letter of the document.

  Args:
    work: the function to call.
    item: the raw document that `work` handles; its size decides the time, and
      its name stands in the Drop.
    settings: the options of the corpus.
  """
  source = SOURCES[settings.corpus.source]
  seconds = _LONGEST_SECONDS + source.letters(item) / _LETTERS_A_SECOND
  try:
    with time_limits.limited(seconds):
      return work()
  except time_limits.TooLongError:
    return cleaning.Drop(TOO_LONG, source.name(item))


def _dropped(drop: cleaning.Drop) -> Document:
  """Returns a Document for a raw document that was dropped as a whole.

  The Document lists no dropped or changed sentences.
  """
  return Document(cleaning.Result(drop, {}))


def _texts(
  item: Any, settings: corpus_options.Settings
) -> list[_Text] | cleaning.Drop:
  """Returns the texts of a raw document, split into sentences, or a Drop.

  With the rule quality.MARKUP, markup is removed from the paragraphs first.

  Args:
    item: the raw document.
    settings: the options of the corpus.
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


def _judge(settings: corpus_options.Settings) -> quality.Judge:
  return quality.chosen(settings.cleaning.quality_rules)


def _site_lines(
  texts_of: Sequence[list[_Text] | cleaning.Drop],
  settings: corpus_options.Settings,
) -> frozenset[str]:
  """Returns the lines that frame the pages of a site, such as menus.

  Several raw documents of the task share such a line (`quality.site_lines`).
  Without the rule quality.SITE_LINES the result is empty.

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
  settings: corpus_options.Settings,
  site_lines: frozenset[str],
) -> list[Document]:
  """Cuts the texts of a raw document into passages, and cleans each passage.

  Args:
    split: the texts, or the Drop of the whole raw document.
    settings: the options of the corpus.
    site_lines: lines to drop: the frame of the site that the document is from.

  Returns:
    a document for each passage, also for dropped ones; for a Drop, one dropped
    document.
  """
  if isinstance(split, cleaning.Drop):
    return [_dropped(split)]
  about = settings.corpus.section_sentences
  return [
    _cleaned(passage, settings, text, site_lines, number == 0)
    for text in split
    for number, passage in enumerate(_passages(text.sentences, about))
  ]


@functools.cache
def evaluation(patterns: str, text_field: str) -> deduplication.Evaluation:
  """Returns the texts of the evaluation sets; each process reads them once.

  Args:
    patterns: the glob patterns of the files, in which each line is a text.
    text_field: the name of the column of the text, for tables and JSON lines.
  """
  how = texts.Options(documents="line", text_field=text_field)
  return deduplication.Evaluation(
    line
    for path in storage.matching(patterns)
    for lines in texts.read(path, how)
    for line in lines
  )


def _cleaned(
  passage: Sequence[str],
  settings: corpus_options.Settings,
  text: _Text,
  site_lines: frozenset[str],
  first: bool,
) -> Document:
  """Returns a passage as a document that the rules have cleaned.

  Sentences with a placeholder of an unknown template are dropped first.

  Args:
    passage: the sentences.
    settings: the options of the corpus.
    text: the text that the passage comes from.
    site_lines: lines to drop: the frame of the site that the document is from.
    first: whether this is the first passage of the text. Its document lists the
      paragraphs of the whole text whose markup was removed.
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
  return Document(result, templates=tuple(missing))


def _named(character: str, holes: Mapping[str, str]) -> str:
  """Returns {{name}} for a template's placeholder; else the character itself.

  Args:
    character: a character of a sentence.
    holes: placeholder character → the name of the unknown template.
  """
  return f"{{{{{holes[character]}}}}}" if character in holes else character


def _ruled(
  passage: Sequence[str],
  settings: corpus_options.Settings,
  site_lines: frozenset[str],
) -> cleaning.Result:
  """Applies the rules of cleaning to a passage.

  With --decontaminate, sentences of evaluation sets are dropped before.

  Args:
    passage: the sentences.
    settings: the options of the corpus.
    site_lines: lines to drop: the frame of the site that the document is from.

  Returns:
    the verdict (Keep or Drop), and reason → dropped or changed sentences.
  """
  held: list[str] = []
  if settings.corpus.decontaminate:
    sets = evaluation(settings.corpus.decontaminate, settings.text.text_field)
    held = [sentence for sentence in passage if sets.holds(sentence)]
    gone = set(held)
    passage = [sentence for sentence in passage if sentence not in gone]
  result = cleaning.clean(passage, settings.cleaning, site_lines)
  if held:
    lines = {**result.lines, "in an evaluation set": held}
    result = dataclasses.replace(result, lines=lines)
  return result


def _sentences(line: str, settings: corpus_options.Options) -> list[str]:
  """Normalises a line of text, and splits it into sentences."""
  text = normalization.normalize(line, settings.repair_legacy_letters)
  return sentences.split(text) if settings.split_sentences else [text]


def _passages(document: list[str], about: int) -> Iterator[list[str]]:
  """Yields the sentences of a document in passages of nearly the same size.

  Args:
    document: the sentences.
    about: about how many sentences a passage has; 0 yields the whole document.
  """
  count = max(1, round(len(document) / about)) if about else 1
  for number in range(count):
    yield document[
      number * len(document) // count : (number + 1) * len(document) // count
    ]
