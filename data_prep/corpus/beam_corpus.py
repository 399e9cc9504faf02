"""Builds a corpus on Apache Beam: Dataflow, Flink, Spark, or local processes.

    files → batches of raw documents → cleaned batches ─┬───────────────────┐
      keys of bands → GroupByKey → links → components   │ signatures        │
        component and signatures → GroupByKey → copies ←┘                   │
      copies and sizes → numbers of the kept documents                      │
      batch, copies, number → GroupByKey → kept documents, counts ←─────────┘
      kept documents → GroupByKey by shard → shards; counts → reports

The steps call the functions that clean, compare and count on one machine too,
so that the shards have the same bytes. Two documents are linked if they share a
key (of a MinHash band, see `deduplication`). Only documents in the same
connected component of the links are compared. One worker finds the components:
it gets pairs of document numbers, but no text.

In the functions below a Document is (number of the file, number of the batch in
the file, index in the batch), and a Batch is the first two of these numbers.
"""

import dataclasses
import itertools
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from data_prep.corpus import (
  corpora,
  corpus_options,
  corpus_stats,
  deduplication,
  preparation,
)
from data_prep.files import (
  beam_pipelines,
  documents,
  external_sort,
  manifest,
  storage,
)
from data_prep.sources import rows

_RESULT = "beam-result.pickle"  # in the output folder, while the pipeline runs
_COUNTED = "counted"  # the name of a second output
# Bytes of a shard's text that a worker sorts in memory.
_SORT_MEMORY = 96 << 20

Batch = tuple[int, int]  # the number of a file, and of a batch in it
Document = tuple[int, int, int]  # a batch, and the number of a document in it


def run(
  settings: corpus_options.Settings,
  files: Sequence[str],
  folder: str,
  stats: corpus_stats.Stats,
  bad_rows: corpora.BadRows,
) -> corpora.Hashes:
  """Writes the shards of a corpus on Beam; see `corpora.Runner`.

  Args:
    settings: the options of the corpus.
    files: the paths of the input files.
    folder: the folder to write the shards to.
    stats: the counts, to which those of the documents are added.
    bad_rows: the list to which the rows that cannot be read are added.

  Returns:
    the SHA-256 of the input files and the descriptions of the shards.
  """
  with beam_pipelines.running(settings.corpus.beam_options, folder) as pipeline:
    _build(pipeline, _Steps(settings, folder), files)
  path = os.path.join(folder, _RESULT)
  # Pickle is safe here: workers of this run wrote the file.
  made, bad, hashes = pickle.loads(storage.read_bytes(path))
  storage.remove(path)
  stats.add(made)
  for name, row in bad:
    bad_rows.add(name, row)
  return hashes


def _build(
  pipeline: beam_pipelines.Pipeline, steps: "_Steps", files: Sequence[str]
) -> None:
  """Adds all steps of the diagram above to a Beam pipeline; runs nothing.

  Args:
    pipeline: the pipeline.
    steps: the steps that need the options.
    files: the paths of the input files.
  """
  beam = pipeline.beam
  names = enumerate(zip(files, manifest.labels(files), strict=True))
  corpus = (
    pipeline.root
    | "Files" >> beam.Create([(n, path, name) for n, (path, name) in names])
    | "Spread files" >> beam.Reshuffle()
  )
  batches = (
    corpus
    | pipeline.flat("Read", steps.read)
    | "Spread batches" >> beam.Reshuffle()
    | pipeline.each("Clean", steps.clean)
  )
  copies = _copies(pipeline, steps, batches)
  numbers = (
    {
      "sizes": batches | pipeline.each("Sizes", _size),
      "copies": copies,
    }
    | "Sizes and copies" >> beam.CoGroupByKey()
    | pipeline.each("Kept", _kept_count)
    | "Kept of all" >> beam.GroupBy(beam_pipelines.one_key)
    | pipeline.flat("Number", _numbered)
  )
  settled = (
    {
      "batches": batches | pipeline.each("Documents", _unsigned),
      "copies": copies,
      "first": numbers,
    }
    | "All of a batch" >> beam.CoGroupByKey()
    | pipeline.tagged("Settle", steps.settle)
  )
  shards = pipeline.root | "Shards" >> beam.Create(
    [(number, None) for number in range(steps.settings.corpus.num_shards)]
  )
  written = (
    (settled.main, shards)
    | "With shards" >> beam.Flatten()
    | "By shard" >> beam.GroupByKey()
    | pipeline.each("Write", steps.write)
    | "Written" >> beam.combiners.ToDict()
  )
  hashes = (
    corpus | pipeline.each("Hash", _hash) | "Hashes" >> beam.combiners.ToDict()
  )
  (
    settled[_COUNTED]
    | "Counts of all" >> beam.GroupBy(beam_pipelines.one_key)
    | pipeline.each("Result", steps.result, written, hashes)
  )


def _copies(
  pipeline: beam_pipelines.Pipeline, steps: "_Steps", batches: Any
) -> Any:
  """Adds the steps that find copies of documents to the pipeline.

  Args:
    pipeline: the pipeline.
    steps: the steps that need the options.
    batches: PCollection of (batch, its cleaned documents).

  Returns:
    PCollection with an entry for each copy: (batch, (index of the document in
    the batch, deduplication.EXACT or NEAR)).
  """
  beam = pipeline.beam
  signatures = batches | pipeline.each("Signatures", _signatures)
  roots = (
    signatures
    | pipeline.flat("Keys", _keys)
    | "By key" >> beam.GroupByKey()
    | pipeline.flat("Link", _links)
    | "Links of all" >> beam.GroupBy(beam_pipelines.one_key)
    | pipeline.flat("Components", _roots)
  )
  return (
    {"signatures": signatures, "roots": roots}
    | "Roots of a batch" >> beam.CoGroupByKey()
    | pipeline.flat("Sign", _signed)
    | "By component" >> beam.GroupByKey()
    | pipeline.flat("Compare", steps.compare)
  )


@dataclasses.dataclass(frozen=True)
class _Steps:
  """The steps of the pipeline that need the options of the corpus.

  Attributes:
    settings: the options of the corpus.
    folder: the output folder.
  """

  settings: corpus_options.Settings
  folder: str

  def read(
    self, file: tuple[int, str, str]
  ) -> Iterator[tuple[Batch, tuple[str, list[Any]]]]:
    """Yields (batch, (name of the file, raw documents)), batch by batch.

    Args:
      file: (number, path, name) of the file.
    """
    number, path, name = file
    for batch, items in enumerate(preparation.tasks(path, self.settings)):
      yield (number, batch), (name, items)

  def clean(
    self, task: tuple[Batch, tuple[str, list[Any]]]
  ) -> tuple[Batch, preparation.Batch]:
    """Cleans the raw documents of a batch, and computes their signatures.

    Args:
      task: (batch, (name of the file, raw documents)).

    Returns:
      (batch, the cleaned documents with the signatures of the kept ones).
    """
    return task[0], preparation.prepared(task[1], self.settings)

  def compare(
    self,
    component: tuple[
      Document, Iterable[tuple[Document, deduplication.Signatures]]
    ],
  ) -> Iterator[tuple[Batch, tuple[int, str]]]:
    """Compares the documents of a connected component with each other.

    Args:
      component: (the component's root, (document, signature) of its documents).

    Yields:
      for each copy: (batch, (index of the document in the batch,
      deduplication.EXACT or NEAR)).
    """
    members = sorted(component[1], key=lambda member: member[0])
    kinds = deduplication.verdicts(
      deduplication.Signatures.concatenated([m[1] for m in members]),
      self.settings.corpus.near_duplicates,
    )
    for (document, _), kind in zip(members, kinds, strict=True):
      if kind:
        yield document[:2], (document[2], kind)

  def settle(self, grouped: tuple[Batch, Mapping[str, Any]]) -> Iterator[Any]:
    """Yields (shard, (number in the corpus, text)) of a batch's kept documents.

    One more element, with the tag _COUNTED, holds the counts of the batch and
    its rows that cannot be read.

    Args:
      grouped: (batch, name → values): "batches", the cleaned documents;
        "first", the number of its first kept document in the corpus; "copies",
        (index of the document, kind of copy) of each copy.
    """
    place, parts = grouped
    (batch,), (first,) = parts["batches"], parts["first"]
    kinds = dict(parts["copies"])
    stats = corpora.new_stats(self.settings)
    verdicts = map(kinds.get, itertools.count())
    kept = corpora.counted(batch, verdicts, stats)
    bad = corpora.bad_rows_of(batch)
    yield beam_pipelines.tag(_COUNTED, (place, batch.file, stats, bad))
    for number, sentences in enumerate(kept, start=first):
      shard = number % self.settings.corpus.num_shards
      yield shard, (number, documents.text_of(sentences).encode())

  def write(
    self, grouped: tuple[int, Iterable[tuple[int, bytes] | None]]
  ) -> tuple[str, dict[str, Any]]:
    """Writes the documents of a shard in the order of their numbers.

    Args:
      grouped: (number of the shard, (number in the corpus, text) of its
        documents in any order). A None among the documents is skipped: it
        makes a shard that has no document.

    Returns:
      the name of the shard's file, and its description for the manifest.
    """
    shard, entries = grouped
    name = corpora.shard_names(self.settings)[shard]
    path = os.path.join(self.folder, name)
    with storage.writing(path, "wb") as file:
      for text in external_sort.ordered(
        # The high bits of a key must differ.
        ((number << 24, text) for number, text in filter(None, entries)),
        None,
        _SORT_MEMORY,
      ):
        file.write(text)
    return name, manifest.described(path)

  def result(
    self,
    grouped: tuple[int, Iterable[tuple[Batch, str, corpus_stats.Stats, Any]]],
    files: dict[str, dict[str, Any]],
    hashes: dict[str, str],
  ) -> None:
    """Adds up the counts of all batches, and pickles the result of the run.

    The file _RESULT then holds (counts, rows that cannot be read, hashes).

    Args:
      grouped: (a constant, (batch, name of the file, counts, rows that cannot
        be read) of all batches in any order).
      files: name of a shard → its description for the manifest.
      hashes: name of an input file → its SHA-256.
    """
    stats = corpora.new_stats(self.settings)
    bad: list[tuple[str, rows.BadRow]] = []
    for _, file, part, bad_rows in sorted(grouped[1], key=lambda x: x[0]):
      stats.add(part)
      bad += [(file, row) for row in bad_rows]
    with storage.writing(os.path.join(self.folder, _RESULT), "wb") as file:
      pickle.dump((stats, bad, corpora.Hashes(hashes, files)), file)


def _keys(
  signatures: tuple[Batch, deduplication.Signatures],
) -> Iterator[tuple[Any, Document]]:
  """Yields (key, document) for each band key of each document of a batch.

  Without bands (near duplicates are not looked for) the key is the digest of
  the document. With bands the digest is not needed: equal documents have equal
  band keys.

  Args:
    signatures: (batch, signatures of its documents).
  """
  (file, number), signed = signatures
  for index, (digest, keys) in enumerate(
    zip(map(bytes, signed.digests), signed.keys.tolist(), strict=True)
  ):
    for key in keys or [digest]:
      yield key, (file, number, index)


def _links(
  grouped: tuple[Any, Iterable[Document]],
) -> Iterator[tuple[Document, Document]]:
  """Links the first document of a key to each further document of the key.

  Args:
    grouped: (key, the documents that have the key).

  Yields:
    (first document, further document); nothing for a single document.
  """
  members = iter(grouped[1])
  first = next(members)
  yield from ((first, member) for member in members)


def _roots(
  grouped: tuple[int, Iterable[tuple[Document, Document]]],
) -> Iterator[tuple[Batch, tuple[int, Document]]]:
  """Finds the connected components of all links, by union-find.

  Args:
    grouped: (a constant, all links as pairs of documents).

  Yields:
    for each document that has a link: (batch, (index of the document in the
    batch, root)). The root is a document of the component, the same for all of
    the component's documents.
  """
  above: dict[Document, Document] = {}

  def root(document: Document) -> Document:
    while (upper := above.setdefault(document, document)) != document:
      above[document] = document = above[upper]
    return document

  for left, right in grouped[1]:
    above[root(right)] = root(left)
  for document in list(above):
    yield document[:2], (document[2], root(document))


def _signed(
  grouped: tuple[Batch, Mapping[str, Any]],
) -> Iterator[tuple[Document, tuple[Document, deduplication.Signatures]]]:
  """Yields (root, (document, signature)) of a batch's documents with links.

  Args:
    grouped: (batch, name → values): "signatures", those of all its documents;
      "roots", (index of the document, root) of each document with a link.
  """
  (file, number), parts = grouped
  (signatures,) = parts["signatures"]
  for index, root in parts["roots"]:
    yield root, ((file, number, index), signatures.take(index))


def _signatures(
  cleaned: tuple[Batch, preparation.Batch],
) -> tuple[Batch, deduplication.Signatures]:
  """Returns (batch, signatures of its documents)."""
  return cleaned[0], cleaned[1].signatures


def _unsigned(
  cleaned: tuple[Batch, preparation.Batch],
) -> tuple[Batch, preparation.Batch]:
  """Returns (batch, documents without signatures).

  A signature has about 4 kB, which need not be sent to the next step.
  """
  nothing = deduplication.signatures([], 0)
  return cleaned[0], dataclasses.replace(cleaned[1], signatures=nothing)


def _size(cleaned: tuple[Batch, preparation.Batch]) -> tuple[Batch, int]:
  """Returns (batch, number of its documents that no rule dropped)."""
  return cleaned[0], len(cleaned[1].signatures)


def _kept_count(grouped: tuple[Batch, Mapping[str, Any]]) -> tuple[Batch, int]:
  """Returns (batch, number of its kept documents that are no copies).

  Args:
    grouped: (batch, name → values): "sizes", the number of documents that the
      cleaning kept; "copies", an entry for each copy.
  """
  (size,) = grouped[1]["sizes"]
  return grouped[0], size - len(list(grouped[1]["copies"]))


def _numbered(
  grouped: tuple[int, Iterable[tuple[Batch, int]]],
) -> Iterator[tuple[Batch, int]]:
  """Yields (batch, number of its first kept document in the corpus, from 0).

  Args:
    grouped: (a constant, (batch, number of kept documents) of all batches).
  """
  first = 0
  for batch, count in sorted(grouped[1]):
    yield batch, first
    first += count


def _hash(file: tuple[int, str, str]) -> tuple[str, str]:
  """Returns (name, SHA-256) of a file.

  Args:
    file: (number, path, name) of the file.
  """
  return file[2], storage.sha256(file[1])
