"""Builds a corpus on Apache Beam: Dataflow, Flink, Spark, or local processes.

    files → batches of raw documents → cleaned batches ─┬───────────────────┐
      keys of bands → GroupByKey → links → components   │ signatures        │
        component and signatures → GroupByKey → copies ←┘                   │
      copies and sizes → numbers of the kept documents                      │
      batch, copies, number → GroupByKey → kept documents, counts ←─────────┘
      kept documents → GroupByKey by shard → shards; counts → reports

The functions are those of the local runner, and so are the bytes. Two documents
are linked if they share a key. A connected component of the links holds all
documents with which its documents can be compared (see `deduplication`). The
components are found by one worker, which gets two numbers for each document
that shares a key, and no text.
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
  """Writes the shards of a corpus on Beam; see `corpora.Runner`."""
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
  """Adds all steps to a pipeline."""
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
  """Returns (batch, (number of a document, kind of copy)) of all copies."""
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
  """The steps that need the settings.

  Attributes:
    settings: the options of the corpus.
    folder: the output folder.
  """

  settings: corpus_options.Settings
  folder: str

  def read(
    self, file: tuple[int, str, str]
  ) -> Iterator[tuple[Batch, tuple[str, list[Any]]]]:
    """Yields (batch, (name of the file, raw documents)) of a file."""
    number, path, name = file
    for batch, items in enumerate(preparation.tasks(path, self.settings)):
      yield (number, batch), (name, items)

  def clean(
    self, task: tuple[Batch, tuple[str, list[Any]]]
  ) -> tuple[Batch, preparation.Batch]:
    """Returns a batch, cleaned and with signatures."""
    return task[0], preparation.prepared(task[1], self.settings)

  def compare(
    self,
    component: tuple[
      Document, Iterable[tuple[Document, deduplication.Signatures]]
    ],
  ) -> Iterator[tuple[Batch, tuple[int, str]]]:
    """Yields the copies of a component as (batch, (number, kind of copy))."""
    members = sorted(component[1], key=lambda member: member[0])
    kinds = deduplication.verdicts(
      deduplication.Signatures.concatenated([m[1] for m in members]),
      self.settings.corpus.near_duplicates,
    )
    for (document, _), kind in zip(members, kinds, strict=True):
      if kind:
        yield document[:2], (document[2], kind)

  def settle(self, grouped: tuple[Batch, Mapping[str, Any]]) -> Iterator[Any]:
    """Yields (shard, (number, text)) of the kept documents of a batch.

    The counts and the rows that cannot be read are tagged.
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
    """Writes a shard; returns its name and description.

    Args:
      grouped: (shard, (number, text) of its documents in any order); None does
        not count.
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
    """Adds the counts of all batches in order; writes them to a file."""
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
  """Yields (key, document): the keys of its bands, or else its digest.

  Equal documents have equal keys, so that digests are needed without bands
  alone.
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
  """Yields (one document of a key, another one) for each but the one."""
  members = iter(grouped[1])
  first = next(members)
  yield from ((first, member) for member in members)


def _roots(
  grouped: tuple[int, Iterable[tuple[Document, Document]]],
) -> Iterator[tuple[Batch, tuple[int, Document]]]:
  """Yields (batch, (number, root)) for each document that has a link.

  Documents of a connected component have the same root.
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
  """Yields (root, (document, signature)) of the documents that have links."""
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
  """Returns a batch without its signatures, of which 4 kB are a document's."""
  nothing = deduplication.signatures([], 0)
  return cleaned[0], dataclasses.replace(cleaned[1], signatures=nothing)


def _size(cleaned: tuple[Batch, preparation.Batch]) -> tuple[Batch, int]:
  """Returns (batch, number of its documents that no rule dropped)."""
  return cleaned[0], len(cleaned[1].signatures)


def _kept_count(grouped: tuple[Batch, Mapping[str, Any]]) -> tuple[Batch, int]:
  """Returns (batch, number of its documents that are no copies)."""
  (size,) = grouped[1]["sizes"]
  return grouped[0], size - len(list(grouped[1]["copies"]))


def _numbered(
  grouped: tuple[int, Iterable[tuple[Batch, int]]],
) -> Iterator[tuple[Batch, int]]:
  """Yields (batch, number of its first kept document in the corpus)."""
  first = 0
  for batch, count in sorted(grouped[1]):
    yield batch, first
    first += count


def _hash(file: tuple[int, str, str]) -> tuple[str, str]:
  """Returns (name, SHA-256) of a file."""
  return file[2], storage.sha256(file[1])
