"""Batches from records: files, their order, and each process's rows.

Batch k is a function of (seed, k) and does not depend on the devices; each
process takes its own rows of it. So a run that was killed resumes at the batch
where it stopped.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import manifest, manifest_fields, records, storage
from data_prep.pretraining import dynamic_masking, examples, masking

# Name of an extra feature: the index of each row in the whole batch, int32
# [rows].
ROWS = "rows"

# The parameters of a manifest that say how dynamic records are masked.
_MASKING = (
  "masked_lm_prob",
  "max_predictions_per_seq",
  "do_whole_word_mask",
  "ngram",
  "favor_shorter_ngram",
  "do_permutation",
  "do_lower_case",
  "strip_accents",
  "replace_quotes",
  "split_digit_commas",
)


@dataclasses.dataclass(frozen=True)
class RecordSet:
  """A set of TFRecord files with one shape, and where they came from.

  Attributes:
    files: the paths, in the order of storage.matching.
    shape: the shape of every row.
    parameters: parameters in the first folder's manifest; {} for records made
      elsewhere.
    folder: the folder of the first file.
    tokenizer: SHA-256 of the tokenizer file; "" for records made elsewhere.
    known: number of examples that the manifests state; None if unknown.
    filled: share of positions that are not padding, from 0 to 1, by the
      manifests' counts of training records; None if unknown.
    identity: text that identifies the set in other manifests; None for records
      made elsewhere.
  """

  files: tuple[str, ...]
  shape: records.Shape
  parameters: dict[str, Any]
  folder: str
  tokenizer: str
  known: int | None
  filled: float | None
  identity: str | None

  def predictions(self) -> int:
    """Returns the largest number of masked positions in a row.

    Static records state the number. For dynamic records, which are masked when
    they are read, the number follows from the masking parameters in the
    manifest.
    """
    stated = self.shape.max_predictions_per_seq
    return stated or examples.Recipe.of(self.parameters).slots()

  def tokenizer_file(self) -> str:
    """Returns the path of the tokenizer in the first folder; "" if none."""
    path = os.path.join(self.folder, tokenization.MODEL_NAME)
    return path if storage.exists(path) else ""

  def count(self) -> int:
    """Returns the number of examples, from the manifests or by counting.

    The records are read and counted if a manifest does not state the number. In
    packed records a row, which is one TFRecord, counts as one example.

    Raises:
      options.InputError: when a file that had to be read is damaged.
    """
    if self.known is not None:
      return self.known
    dataset = tf.data.TFRecordDataset(list(self.files))
    with self.reading():
      return int(dataset.reduce(tf.constant(0, tf.int64), lambda n, _: n + 1))

  @contextlib.contextmanager
  def reading(self) -> Iterator[None]:
    """Context manager that reports damaged files of the records.

    Inside the context, TensorFlow's DataLossError, which means a truncated or
    damaged TFRecord file, becomes an InputError.
    """
    try:
      yield
    except tf.errors.DataLossError as error:
      raise options.InputError(
        f"whole TFRecords in {self.folder or '.'}",
        error.message.split("\n")[0].rsplit("}} ", 1)[-1],
        "copy them again, or make them anew",
      ) from error


@dataclasses.dataclass(frozen=True)
class _Part:
  """The selected record files of one folder.

  Attributes:
    folder: the folder.
    files: the paths of the selected files.
    content: the content of the folder's manifest; {} without a manifest.
  """

  folder: str
  files: list[str]
  content: dict[str, Any]

  def shapes(self) -> dict[str, records.Shape]:
    """Returns path → shape of records, read from as few files as needed.

    All files that the manifest lists have the same shape. So one of these files
    is read, and every file that the manifest does not list.
    """
    listed = self.content.get("files", {})
    known = [f for f in self.files if os.path.basename(f) in listed]
    rest = [f for f in self.files if f not in known]
    return {path: records.shape(path) for path in known[:1] + rest}

  def count(self) -> int | None:
    """Returns the number of examples that the manifest states, or None.

    The result is None without a manifest, and unless exactly all training files
    or all held-out files of the folder are selected.
    """
    chosen = {os.path.basename(path) for path in self.files}
    listed = self.content.get("files", {}).keys() - {tokenization.MODEL_NAME}
    held_out = {name for name in listed if name.startswith("eval-")}
    for role, names in (("train", listed - held_out), ("eval", held_out)):
      if chosen == names:
        return int(self.content["counts"].get(f"{role}_examples", 0))
    return None

  def filled(self) -> tuple[int, int]:
    """Returns (training positions without padding, all training positions).

    Both numbers are the manifest's counts for all training records of the
    folder; (0, 0) if the manifest has none.
    """
    counts = manifest_fields.Counts.of(self.content.get("counts", {}))
    positions = counts.train_positions or 0
    return positions - (counts.train_padding or 0), positions


def record_set(
  patterns: str, max_seq_length: int = 0, max_predictions_per_seq: int = 0
) -> RecordSet:
  """Opens the TFRecord files that match `patterns` as one set.

  Args:
    patterns: glob patterns, separated by commas.
    max_seq_length, max_predictions_per_seq: the lengths that the user expects;
      0 accepts any.

  Raises:
    options.InputError: when a pattern matches no file, or options, manifests
      and records disagree.
  """
  files = storage.matching(patterns)
  parts = [
    _part(folder, [f for f in files if os.path.dirname(f) == folder])
    for folder in dict.fromkeys(map(os.path.dirname, files))
  ]
  shapes = {p: s for part in parts for p, s in part.shapes().items()}
  first = next(iter(shapes))
  for path, shape in shapes.items():
    if shape != shapes[first]:
      raise options.InputError(
        f"records of one shape, as in {first}: {_shape_text(shapes[first])}",
        f"{_shape_text(shape)} in {path}",
        "train on them in runs of their own, or make them alike",
      )
  flags = (max_seq_length, max_predictions_per_seq)
  for name, flag, actual in zip(
    records.Shape._fields, flags, shapes[first], strict=False
  ):
    if flag and flag != actual:
      raise options.InputError(
        f"records with --{name}={flag}",
        f"{actual} in {first}",
        f"leave --{name} out, or make records of that length",
      )
  tokenizers = {p.content["inputs"]["tokenizer"]: p for p in parts if p.content}
  if len(tokenizers) > 1:
    raise options.InputError(
      "records of one tokenizer",
      "others in " + " and ".join(p.folder for p in tokenizers.values()),
      "make them with the same tokenizer.model",
    )
  if not shapes[first].max_predictions_per_seq:
    _require_one_masking(parts)
  counts = [part.count() for part in parts]
  filled, positions = map(
    sum, zip(*(part.filled() for part in parts), strict=True)
  )
  identities = [manifest.identity(p.folder or ".") for p in parts if p.content]
  return RecordSet(
    tuple(files),
    shapes[first],
    parameters=parts[0].content.get("parameters", {}),
    folder=parts[0].folder,
    tokenizer=next(iter(tokenizers), ""),
    known=None if None in counts else sum(filter(None, counts)),
    filled=filled / positions if positions else None,
    identity=" ".join(identities) or None,
  )


def _part(folder: str, files: list[str]) -> _Part:
  """Returns the selected files of a folder, with its manifest.

  Raises:
    options.InputError: when the files do not fit the manifest.
  """
  place = folder or "."
  if not manifest.find(place):
    return _Part(folder, files, {})
  return _Part(folder, files, manifest.check(place, "pretraining_records"))


def _shape_text(shape: records.Shape) -> str:
  """Returns the shape of records as text for a message."""
  masked = shape.max_predictions_per_seq or "no"
  packed = f", {shape.labels} examples packed" if shape.labels else ""
  return f"{shape.max_seq_length} pieces, {masked} masked positions{packed}"


def _require_one_masking(parts: Sequence[_Part]) -> None:
  """Raises InputError unless all dynamic records are masked in the same way.

  Args:
    parts: the folders of the records.

  Raises:
    options.InputError: when the manifests of two folders state different
      masking parameters (_MASKING), or a folder has no manifest that states
      them.
  """
  maskings = []
  for part in parts:
    parameters = part.content.get("parameters", {})
    if "masked_lm_prob" not in parameters:
      raise options.InputError(
        f"masks in {part.files[0]}, or a manifest that says how to make them",
        "neither",
        "keep manifest.json and tokenizer.model beside dynamic records",
      )
    # A parameter that an older manifest does not name was off.
    maskings.append({name: parameters.get(name) or 0 for name in _MASKING})
  for part, stated in zip(parts, maskings, strict=True):
    for name, value in stated.items():
      if value != maskings[0][name]:
        raise options.InputError(
          f"{name}={maskings[0][name]} in all dynamic records",
          f"{value} in {part.folder}",
          "make them alike",
        )


@dataclasses.dataclass(frozen=True)
class Share:
  """The rows of each batch that this process computes, for each of its devices.

  Attributes:
    batch_size: rows of the whole batch.
    replicas: number of devices, over all processes.
    first: number of this process's first device.
    local: number of this process's devices; their numbers are consecutive.

  Raises:
    options.InputError: when `replicas` does not divide `batch_size`.
  """

  batch_size: int
  replicas: int = 1
  first: int = 0
  local: int = 1

  def __post_init__(self) -> None:
    if self.batch_size % self.replicas:
      raise options.InputError(
        f"a batch that {self.replicas} devices can share",
        f"{self.batch_size} sequences",
        "give a multiple of the number of devices",
      )

  @classmethod
  def of(cls, batch_size: int, context: tf.distribute.InputContext) -> "Share":
    """Returns the share of the process that `context` describes.

    Args:
      batch_size: rows of the whole batch.
      context: tf.distribute's description of this process's input pipeline.
    """
    local = context.num_replicas_in_sync // context.num_input_pipelines
    return cls(
      batch_size,
      context.num_replicas_in_sync,
      context.input_pipeline_id * local,
      local,
    )

  @property
  def rows(self) -> int:
    """The number of rows that one device computes."""
    return self.batch_size // self.replicas

  def take(self, values: tf.Tensor) -> tf.Tensor:
    """Returns this process's rows: [batch_size, …] → [local, rows, …]."""
    begin = self.first * self.rows
    chosen = values[begin : begin + self.local * self.rows]
    return tf.reshape(
      chosen, [self.local, self.rows, *values.shape[1:].as_list()]
    )


def train_dataset(
  source: RecordSet, count: int, share: Share, seed: int, step: int
) -> tf.data.Dataset:
  """Returns an endless dataset of the batches from number `step` on.

  Batch k is a function of (seed, k). Records were shuffled when they were
  written; each epoch shuffles the files. A batch may span two epochs, so that
  no record is left out.

  Args:
    source: the records.
    count: number of examples in them, at least 1.
    share: the rows of each batch that this process computes.
    seed: seed of the file order of each epoch.
    step: number of batches already taken.

  Returns:
    a dataset with `share.local` elements a step, each a dict of features
      [share.rows, …] and ROWS.
  """
  epoch, offset = divmod(step * share.batch_size, count)
  files = tf.constant(source.files)

  def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
    place = tf.random.stateless_uniform(
      [len(source.files)],
      tf.stack([tf.constant(seed, tf.int64), number]),
      alg="philox",
    )
    order = tf.argsort(place)
    return tf.data.TFRecordDataset(tf.gather(files, order))

  def parts(number: tf.Tensor, serialized: tf.Tensor) -> tf.data.Dataset:
    rows = share.take(tf.range(share.batch_size))
    steps = tf.fill([share.local], number)
    return tf.data.Dataset.from_tensor_slices(
      (steps, rows, share.take(serialized))
    )

  dataset = tf.data.Dataset.counter(epoch).flat_map(one_epoch).skip(offset)
  batches = dataset.batch(share.batch_size, drop_remainder=True)
  shared = batches.enumerate(step).flat_map(parts)
  if source.shape.max_predictions_per_seq:
    mask = None
  else:
    mask = dynamic_masking.masker(*_masks(source, seed))

  def features(
    step: tf.Tensor, rows: tf.Tensor, serialized: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    parsed = records.parse_pretraining(serialized, source.shape)
    return (mask(step, rows, parsed) if mask else parsed) | {ROWS: rows}

  return _untuned(
    shared.map(features, num_parallel_calls=_threads(), deterministic=True)
  ).prefetch(4)


def _threads() -> int:
  """Returns the number of parallel parsers: one for each core, at most 16."""
  return min(16, os.cpu_count() or 1)


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Returns the dataset with tf.data's autotuning switched off.

  When tf.distribute closes an iterator, it waits for the autotuning thread,
  which wakes up only once in up to a minute (TensorFlow 2.20).
  """
  chosen = tf.data.Options()
  chosen.autotune.enabled = False
  return dataset.with_options(chosen)


def masked_anew(source: RecordSet, budget: float) -> RecordSet:
  """Returns a copy of the records in which another share of pieces is masked.

  The number of masked positions of a row follows from the share.
  google-research/albert's masked_lm_budget did the same.

  Args:
    source: dynamic records.
    budget: the share of pieces to mask, from 0 to 1.

  Raises:
    options.InputError: when the records have their masks written in them.
  """
  if source.shape.max_predictions_per_seq:
    raise options.InputError(
      "records that are masked in training, for --masked_lm_budget",
      f"written masks in {source.files[0]}",
      "leave it out, or make records with --masking=dynamic",
    )
  # 0: as many predictions as the budget allows.
  changed = dict(masked_lm_prob=budget, max_predictions_per_seq=0)
  return dataclasses.replace(source, parameters=source.parameters | changed)


def _masks(
  source: RecordSet, seed: int
) -> tuple[masking.Settings, tokenization.Tokenizer]:
  """Returns the masking settings and the tokenizer of dynamic records.

  Both come from the folder of the records: the manifest and the tokenizer file.

  Args:
    source: the records.
    seed: seed of the masks.
  """
  record_recipe = examples.Recipe.of(source.parameters | {"random_seed": seed})
  return examples.masks(
    record_recipe, False
  ), tokenization.Tokenizer.with_settings(
    os.path.join(source.folder, tokenization.MODEL_NAME),
    tokenization.Settings.of(vars(record_recipe)),
  )


def eval_dataset(source: RecordSet, share: Share) -> tf.data.Dataset:
  """Returns the batches of an evaluation, with every record once.

  The dataset has `share.local` elements for each batch, each a dict of features
  [share.rows, …]. Empty records fill up the last batch, to keep its shape. An
  empty record has no masked position and no sentence label, so it changes no
  metric.
  """
  serialized = tf.data.TFRecordDataset(list(source.files))

  def fill(features: dict[str, tf.Tensor]) -> tf.data.Dataset:
    filled = {
      name: _fill_up(
        value,
        share.batch_size,
        -1 if name == records.NEXT_SENTENCE_LABELS else 0,
      )
      for name, value in features.items()
    }
    return tf.data.Dataset.from_tensor_slices(
      {name: share.take(value) for name, value in filled.items()}
    )

  return _parsed(serialized.batch(share.batch_size), source).flat_map(fill)


def _fill_up(value: tf.Tensor, batch_size: int, filler: int) -> tf.Tensor:
  """Returns a tensor [rows, …] padded with `filler` to [batch_size, …]."""
  missing = batch_size - tf.shape(value)[0]
  padding = [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)
  filled = tf.pad(value, padding, constant_values=filler)
  return tf.ensure_shape(filled, [batch_size, *value.shape[1:]])


def _parsed(batches: tf.data.Dataset, source: RecordSet) -> tf.data.Dataset:
  """Returns a dataset of features, parsed from batches of serialized records.

  Args:
    batches: a dataset of string tensors [rows].
    source: the records, which state the shape.
  """
  parsed = batches.map(
    lambda serialized: records.parse_pretraining(serialized, source.shape),
    num_parallel_calls=2,
    deterministic=True,
  )
  return _untuned(parsed).prefetch(2)
