"""A corpus to TFRecords: the two stages behind create_pretraining_data.

Stage one turns a range of documents into examples and spills them by
hash(key) mod shards; stage two sorts one bucket by hash and writes one
finished file. Both are functions of their input and the seed, so the bytes do
not depend on the number of workers.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from data_prep import (
  documents,
  instances,
  manifest,
  masking,
  options,
  parallel,
  randomness,
  records,
  storage,
  tokenization,
)

# Not the seed: another seed must not move documents from evaluation to
# training. The value is arbitrary.
_HELD_OUT_SALT = 20190926

_DOCUMENTS_A_RANGE = 256  # guess: some hundred kilobytes of text a task
_BYTES_A_SHARD = 64 << 20
_BYTES_A_TEXT_BYTE = 1.1  # measured on the sample, length 128, a duplicate


@dataclasses.dataclass(frozen=True)
class Options:
  """What to make examples of, and how.

  The names are google-research/albert's. max_predictions_per_seq follows the
  length (upstream: 20, which masks 3.9 % of 512 pieces).
  """

  input_file: str = options.option("", "corpus files: globs, by commas")
  spm_model_file: str = options.option("", "the SentencePiece model")
  output_dir: str = options.option("", "where the TFRecords go")
  do_lower_case: bool = options.option(
    False, "lower-case what the model file does not (upstream: true)"
  )
  max_seq_length: int = options.option(
    512, "pieces of an example", minimum=8, maximum=1 << 16
  )
  max_predictions_per_seq: int = options.option(
    0, "masked pieces an example; 0: length x masked_lm_prob, rounded up",
    minimum=0,
  )  # fmt: skip
  masked_lm_prob: float = options.option(
    0.15, "share of the pieces that are masked", minimum=0.0, maximum=1.0
  )
  short_seq_prob: float = options.option(
    0.1, "share of the documents cut into shorter examples",
    minimum=0.0, maximum=1.0,
  )  # fmt: skip
  dupe_factor: int = options.option(
    10, "how often each document is used, masked anew (upstream: 40)",
    minimum=1,
  )  # fmt: skip
  random_seed: int = options.option(12345, "of cuts and masks", minimum=0)
  do_whole_word_mask: bool = options.option(
    True, "mask words as a whole, Cyrillic ones too"
  )
  ngram: int = options.option(
    3, "longest run of words that is masked together", minimum=1, maximum=10
  )
  favor_shorter_ngram: bool = options.option(
    True, "shorter n-grams more often (upstream: false)"
  )
  masking: str = options.option(
    "static", "static: masks are written, others in each duplicate; dynamic: "
    "training masks anew at each step (evaluation records stay static)",
    choices=("static", "dynamic"),
  )  # fmt: skip
  eval_fraction: float = options.option(
    0.01, "share of the documents held out, at least one; 0: none",
    minimum=0.0, maximum=0.9,
  )  # fmt: skip
  num_shards: int = options.option(
    0, "training files; 0: by the forecast of their size, at least 4",
    minimum=0, maximum=100_000,
  )  # fmt: skip
  num_workers: int = options.option(
    0, "processes; 0: one a core. Does not change the bytes", minimum=0
  )

  def __post_init__(self) -> None:
    options.require(self, "input_file", "spm_model_file", "output_dir")

  def predictions(self) -> int:
    """The length of the masked_lm_* features."""
    return self.max_predictions_per_seq or math.ceil(
      self.max_seq_length * self.masked_lm_prob
    )

  def uses(self, held_out: bool) -> int:
    """How often a document is cut into examples."""
    return 1 if held_out else self.dupe_factor

  def seed(self, held_out: bool) -> int:
    """Evaluation examples stay the same whatever the seed of training is."""
    return _HELD_OUT_SALT if held_out else self.random_seed


Counts = collections.Counter[str]


def create(settings: Options) -> Counts:
  """Writes the data set; returns its counts.

  Raises:
    options.InputError: for an empty corpus or an unfit model.
  """
  files = storage.matching(settings.input_file)
  tokenizer = tokenization.Tokenizer(
    settings.spm_model_file, settings.do_lower_case
  )
  held_out = _held_out(files, settings)
  shards = settings.num_shards or _forecast_shards(files, settings)
  storage.make_folder(settings.output_dir)
  with (
    _spill_folder(settings.output_dir) as spill,
    parallel.pool(settings.num_workers) as pool,
  ):
    counts = _spill(pool, files, held_out, shards, settings, spill)
    if not counts["train_examples"]:
      raise options.InputError(
        "documents to train on",
        f"none beside the {counts['eval_documents']} held out",
        "give more documents, or --eval_fraction=0",
      )
    manifest.begin(settings.output_dir)
    names = _finish(pool, shards, bool(held_out), settings, spill)
  for pattern in ("train-*.tfrecord", "eval-*.tfrecord"):
    storage.remove_stale(settings.output_dir, set(names), pattern)
  storage.copy(
    settings.spm_model_file,
    os.path.join(settings.output_dir, tokenization.MODEL_NAME),
  )
  _describe(settings, files, names, counts, tokenizer)
  return counts


def _spill_folder(output_dir: str) -> tempfile.TemporaryDirectory[str]:
  """Makes a folder for the buckets: beside the result, where that is local."""
  if storage.is_remote(output_dir):
    return tempfile.TemporaryDirectory(prefix="spill-")
  for left in pathlib.Path(output_dir).glob(".spill-*"):
    shutil.rmtree(left)  # of a run that was killed
  return tempfile.TemporaryDirectory(prefix=".spill-", dir=output_dir)


def _held_out(files: Sequence[str], settings: Options) -> frozenset[int]:
  """Returns the ids of the documents with the lowest salted hash."""
  ids, sentences = [], 0
  for document in documents.read(files):
    ids.append(document.id)
    sentences = max(sentences, len(document.sentences))
  if not ids:
    raise options.InputError(
      "a corpus with sentences",
      f"nothing in {settings.input_file}",
      "build the corpus first",
    )
  if sentences < 2:
    logging.warning(
      "no document has two sentences: no example will have a sentence pair. "
      "Documents are parted by blank lines, sentences by line ends."
    )
  if len(ids) == 1 and settings.eval_fraction:
    logging.warning(
      "the corpus is one document, so nothing can be held out: documents are "
      "parted by blank lines"
    )
    return frozenset()
  if not settings.eval_fraction:
    return frozenset()
  count = max(1, round(len(ids) * settings.eval_fraction))
  number = np.array(ids, np.uint64)
  salted = randomness.bits(randomness.Purpose.HELD_OUT, _HELD_OUT_SALT, number)
  return frozenset(number[np.argsort(salted)[:count]].tolist())


def _forecast_shards(files: Sequence[str], settings: Options) -> int:
  size = sum(storage.size(path) or 0 for path in files)
  forecast = size * settings.dupe_factor * _BYTES_A_TEXT_BYTE
  return max(4, math.ceil(forecast / _BYTES_A_SHARD))


@dataclasses.dataclass(frozen=True)
class Range:
  """What stage one does at a time: some documents, all held out or none."""

  number: int
  held_out: bool
  documents: tuple[documents.Document, ...]


def _ranges(files: Sequence[str], held_out: frozenset[int]) -> Iterator[Range]:
  gathered: dict[bool, list[documents.Document]] = {True: [], False: []}
  number = itertools.count()
  for document in documents.read(files):
    apart = document.id in held_out
    gathered[apart].append(document)
    if len(gathered[apart]) == _DOCUMENTS_A_RANGE:
      yield Range(next(number), apart, tuple(gathered[apart]))
      gathered[apart] = []
  for apart, rest in gathered.items():
    if rest:
      yield Range(next(number), apart, tuple(rest))


def _spill(
  pool: concurrent.futures.Executor,
  files: Sequence[str],
  held_out: frozenset[int],
  shards: int,
  settings: Options,
  spill: str,
) -> Counts:
  """Runs stage one over the corpus, a bounded number of ranges at a time."""
  counts: Counts = collections.Counter()
  waiting: set[concurrent.futures.Future[Counts]] = set()
  began = said = time.monotonic()
  for task in _ranges(files, held_out):
    waiting.add(pool.submit(spill_range, task, shards, settings, spill))
    if len(waiting) >= 16:
      done, waiting = concurrent.futures.wait(
        waiting, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for future in done:
        counts += future.result()
    if time.monotonic() - said > 10:
      said = time.monotonic()
      total = counts["train_examples"]
      logging.info("%d examples, %.0f a second", total, total / (said - began))
  for future in waiting:
    counts += future.result()
  return counts


@functools.cache
def _tokenizer(model_file: str, lower: bool) -> tokenization.Tokenizer:
  """Read once a process."""
  return tokenization.Tokenizer(model_file, lower)


def spill_range(
  task: Range, shards: int, settings: Options, spill: str
) -> Counts:
  """Stage one: turns documents into examples, spilled by bucket."""
  tokenizer = _tokenizer(settings.spm_model_file, settings.do_lower_case)
  role = "eval" if task.held_out else "train"
  buckets = 1 if task.held_out else shards
  counts: Counts = collections.Counter(
    {f"{role}_documents": len(task.documents)}
  )
  encoded = tokenizer.encode(
    [s for document in task.documents for s in document.sentences]
  )
  stream = np.concatenate([*encoded, np.zeros(1, np.int32)])
  found = _instances(task, encoded, settings)
  text = sum(map(len, encoded)) * settings.uses(task.held_out)
  counts[f"{role}_cut"] = text - int(found.lengths.sum())
  rows = max(1, (1 << 19) // settings.max_seq_length)
  spilled: dict[int, list[tuple[np.ndarray, list[bytes]]]] = (
    collections.defaultdict(list)
  )
  for start in range(0, len(found.labels), rows):
    part = instances.Instances(
      *(value[start : start + rows] for value in dataclasses.astuple(found))
    )
    batch = _masked(part, stream, tokenizer, settings, task.held_out)
    counts += _counted(role, batch, part)
    order = randomness.bits(
      randomness.Purpose.SHUFFLE,
      settings.seed(task.held_out),
      *part.keys.T,
    )
    serialized = records.serialize(batch)
    for bucket in range(buckets):
      chosen = np.nonzero(order % np.uint64(buckets) == bucket)[0]
      spilled[bucket].append((order[chosen], [serialized[i] for i in chosen]))
  for bucket, parts in spilled.items():
    path = os.path.join(spill, f"{role}-{bucket}-{task.number}")
    _write_spill(path, parts)
  return counts


def _instances(
  task: Range, encoded: Sequence[np.ndarray], settings: Options
) -> instances.Instances:
  """Cuts every document of the range, once a duplicate."""
  lengths = iter(map(len, encoded))
  ids, ends = [], []
  for document in task.documents:
    # A sentence of which the tokenizer leaves nothing is none.
    sizes = filter(None, itertools.islice(lengths, len(document.sentences)))
    if borders := list(itertools.accumulate(sizes)):
      ids.append(document.id)
      ends.append(borders)
  return instances.create(
    ids,
    ends,
    max_seq_length=settings.max_seq_length,
    short_seq_prob=0.0 if task.held_out else settings.short_seq_prob,
    duplicates=settings.uses(task.held_out),
    seed=settings.seed(task.held_out),
  )


def _masked(
  found: instances.Instances,
  stream: np.ndarray,
  tokenizer: tokenization.Tokenizer,
  settings: Options,
  held_out: bool,
) -> records.PretrainingBatch:
  """Lays the instances out and masks them; n-gram 1 where held out."""
  how = masking.Settings(
    masked_lm_prob=settings.masked_lm_prob,
    max_predictions=settings.predictions(),
    whole_words=settings.do_whole_word_mask,
    ngram=1 if held_out else settings.ngram,
    favor_shorter_ngram=settings.favor_shorter_ngram,
    seed=settings.seed(held_out),
  )
  rows = instances.assemble(
    found,
    stream,
    max_seq_length=settings.max_seq_length,
    pad_id=tokenizer.pad_id,
    cls_id=tokenizer.cls_id,
    sep_id=tokenizer.sep_id,
  )
  starts = tokenizer.word_starts[rows.ids]
  batch = records.PretrainingBatch(
    input_ids=rows.ids,
    input_mask=rows.mask,
    segment_ids=rows.segments,
    token_boundary=rows.mask & (~rows.text | starts),
    next_sentence_labels=found.labels,
  )
  if settings.masking == "dynamic" and not held_out:
    return batch
  masked = masking.mask(
    rows.ids,
    rows.text,
    rows.segments,
    starts,
    found.keys,
    how,
    mask_id=tokenizer.mask_id,
    ordinary_ids=np.nonzero(~tokenizer.special)[0],
  )
  return dataclasses.replace(
    batch,
    input_ids=masked.ids,
    masked_lm_positions=masked.positions,
    masked_lm_ids=masked.targets,
    masked_lm_weights=masked.weights,
  )


def _counted(
  role: str, batch: records.PretrainingBatch, found: instances.Instances
) -> Counts:
  return collections.Counter(
    {
      f"{role}_examples": len(found.labels),
      f"{role}_positions": batch.input_mask.size,
      f"{role}_pieces": int(found.lengths.sum()),
      f"{role}_padding": int((~batch.input_mask).sum()),
      f"{role}_masked": (
        0
        if batch.masked_lm_weights is None
        else int(batch.masked_lm_weights.sum())
      ),
      f"{role}_pairs": int((found.labels != instances.NO_PAIR).sum()),
    }
  )


def _write_spill(
  path: str, parts: Sequence[tuple[np.ndarray, list[bytes]]]
) -> None:
  """Writes the order keys to PATH.keys and the records, framed, to PATH."""
  np.save(f"{path}.npy", np.concatenate([keys for keys, _ in parts]))
  with open(path, "wb") as file:
    for _, serialized in parts:
      records.write(file, serialized)


def _finish(
  pool: concurrent.futures.Executor,
  shards: int,
  held_out: bool,
  settings: Options,
  spill: str,
) -> list[str]:
  """Runs stage two on every bucket; returns the files' names."""
  roles = [("train", shards)] + ([("eval", 1)] if held_out else [])
  tasks = [
    (role, bucket, f"{role}-{bucket:05d}-of-{count:05d}.tfrecord")
    for role, count in roles
    for bucket in range(count)
  ]
  futures = [
    pool.submit(
      finish_bucket,
      os.path.join(spill, f"{role}-{bucket}-"),
      os.path.join(settings.output_dir, name),
    )
    for role, bucket, name in tasks
  ]
  for future in futures:
    future.result()
  return [name for _, _, name in tasks]


def finish_bucket(prefix: str, target: str) -> None:
  """Stage two: sorts one bucket's records by their keys into one file."""
  keyed: list[tuple[int, bytes]] = []
  folder, name = os.path.split(prefix)
  for entry in os.listdir(folder):
    if entry.startswith(name) and not entry.endswith(".npy"):
      path = os.path.join(folder, entry)
      keys = np.load(f"{path}.npy", allow_pickle=False).tolist()
      with open(path, "rb") as file:
        keyed += zip(keys, records.read_framed(file), strict=True)
  keyed.sort()
  with storage.writing(target, "wb") as file:
    records.write(file, [record for _, record in keyed])


def _describe(
  settings: Options,
  files: Sequence[str],
  names: Sequence[str],
  counts: Counts,
  tokenizer: tokenization.Tokenizer,
) -> None:
  parameters = dataclasses.asdict(settings)
  for name in ("input_file", "spm_model_file", "output_dir", "num_workers"):
    del parameters[name]
  parameters.update(
    max_predictions_per_seq=settings.predictions(),
    vocab_size=tokenizer.vocab_size,
    pad_id=tokenizer.pad_id,
    cls_id=tokenizer.cls_id,
    sep_id=tokenizer.sep_id,
    mask_id=tokenizer.mask_id,
  )
  manifest.write(
    settings.output_dir,
    "pretraining_records",
    parameters=parameters,
    files=[*names, tokenization.MODEL_NAME],
    counts=dict(sorted(counts.items())),
    inputs={
      **{os.path.basename(path): storage.sha256(path) for path in files},
      "tokenizer": storage.sha256(settings.spm_model_file),
    },
  )
