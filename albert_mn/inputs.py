"""Records to batches: which files, in which order, which rows for whom.

Batch k of a run is a function of (seed, k), whatever the devices: each takes
its rows of it. So a run that was killed goes on with the batch it was at.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from data_prep import (
  dynamic_masking,
  examples,
  manifest,
  masking,
  options,
  records,
  storage,
  tokenization,
)

# Beside the features: each example's place in the whole batch, int32 [rows].
ROWS = "rows"

_RECIPE = (
  "masked_lm_prob", "max_predictions_per_seq", "do_whole_word_mask", "ngram",
  "favor_shorter_ngram", "do_permutation", "do_lower_case",
  "strip_accents", "replace_quotes", "split_digit_commas",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RecordSet:
  """TFRecord files, the shape of their examples, and where they came from.

  Attributes:
    files: in order.
    shape: of their rows.
    parameters: the first manifest's, {} for records from elsewhere.
    folder: where the first ones lie.
    tokenizer: its file's sha256, "" for records from elsewhere.
    known: how many examples the manifests say there are; None for unknown.
    filled: the share of their positions that is not padding; likewise.
    identity: what stands for the set in manifests; None for unknown.
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
    """Returns the masked positions of a row, made in training or not."""
    made = self.shape.max_predictions_per_seq
    return made or examples.Recipe.of(self.parameters).slots()

  def tokenizer_file(self) -> str:
    """The tokenizer beside the first records, "" where there is none."""
    path = os.path.join(self.folder, tokenization.MODEL_NAME)
    return path if storage.exists(path) else ""

  def count(self) -> int:
    """Returns the number of examples; reads the files where it must."""
    if self.known is not None:
      return self.known
    dataset = tf.data.TFRecordDataset(list(self.files))
    with self.reading():
      return int(dataset.reduce(tf.constant(0, tf.int64), lambda n, _: n + 1))

  @contextlib.contextmanager
  def reading(self) -> Iterator[None]:
    """Names damage that TensorFlow meets in the files, within it."""
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
  """The chosen files of one folder."""

  folder: str
  files: list[str]
  content: dict[str, Any]  # its manifest's, or {}

  def shapes(self) -> dict[str, records.Shape]:
    """Returns the shape of one file of the manifest, and of all others."""
    listed = self.content.get("files", {})
    known = [f for f in self.files if os.path.basename(f) in listed]
    rest = [f for f in self.files if f not in known]
    return {path: records.shape(path) for path in known[:1] + rest}

  def count(self) -> int | None:
    """Returns the manifest's count, where all files of a role are chosen."""
    chosen = {os.path.basename(path) for path in self.files}
    listed = self.content.get("files", {}).keys() - {tokenization.MODEL_NAME}
    held_out = {name for name in listed if name.startswith("eval-")}
    for role, names in (("train", listed - held_out), ("eval", held_out)):
      if chosen == names:
        return int(self.content["counts"].get(f"{role}_examples", 0))
    return None

  def filled(self) -> tuple[int, int]:
    """Returns the training positions without padding, and all of them."""
    counts = self.content.get("counts", {})
    positions = int(counts.get("train_positions", 0))
    return positions - int(counts.get("train_padding", 0)), positions


def record_set(
  patterns: str, max_seq_length: int = 0, max_predictions_per_seq: int = 0
) -> RecordSet:
  """Finds records and settles their lengths from manifests, flags and data.

  Args:
    patterns: globs, by commas.
    max_seq_length, max_predictions_per_seq: what the user expects; 0: nothing.

  Raises:
    options.InputError: when flags, manifests and records disagree.
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
        f"records of one shape, as in {first}: {_said(shapes[first])}",
        f"{_said(shape)} in {path}",
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
    _require_one_recipe(parts)
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
  place = folder or "."
  if not manifest.find(place):
    return _Part(folder, files, {})
  return _Part(folder, files, manifest.check(place, "pretraining_records"))


def _said(shape: records.Shape) -> str:
  masked = shape.max_predictions_per_seq or "no"
  packed = f", {shape.labels} examples packed" if shape.labels else ""
  return f"{shape.max_seq_length} pieces, {masked} masked positions{packed}"


def _require_one_recipe(parts: Sequence[_Part]) -> None:
  """Refuses dynamic records that are to be masked in more than one way."""
  recipes = []
  for part in parts:
    parameters = part.content.get("parameters", {})
    if "masked_lm_prob" not in parameters:
      raise options.InputError(
        f"masks in {part.files[0]}, or a manifest that says how to make them",
        "neither",
        "keep manifest.json and tokenizer.model beside dynamic records",
      )
    # What an older manifest does not know was off.
    recipes.append({name: parameters.get(name) or 0 for name in _RECIPE})
  for part, recipe in zip(parts, recipes, strict=True):
    for name, value in recipe.items():
      if value != recipes[0][name]:
        raise options.InputError(
          f"{name}={recipes[0][name]} in all dynamic records",
          f"{value} in {part.folder}",
          "make them alike",
        )


@dataclasses.dataclass(frozen=True)
class Share:
  """Which rows of each batch of the whole run a process computes.

  Attributes:
    batch_size: rows of the whole batch.
    replicas: devices of all processes.
    first: the first device of this process.
    local: its devices, one after the other.
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
    """The share of a tf.distribute worker."""
    local = context.num_replicas_in_sync // context.num_input_pipelines
    return cls(
      batch_size,
      context.num_replicas_in_sync,
      context.input_pipeline_id * local,
      local,
    )

  @property
  def rows(self) -> int:
    """Rows that one device computes."""
    return self.batch_size // self.replicas

  def take(self, values: tf.Tensor) -> tf.Tensor:
    """[batch_size, ...] → [local, rows, ...], what this process computes."""
    begin = self.first * self.rows
    chosen = values[begin : begin + self.local * self.rows]
    return tf.reshape(
      chosen, [self.local, self.rows] + values.shape[1:].as_list()
    )


def train_dataset(
  source: RecordSet, count: int, share: Share, seed: int, step: int
) -> tf.data.Dataset:
  """Gives the batches from `step` on; batch k is a function of (seed, k).

  Records were shuffled when they were written; each epoch permutes the files.
  Batches run across the ends of epochs, so that no record is left out.

  Args:
    source: the records.
    count: how many examples they hold.
    share: the rows of each batch that are wanted here.
    seed: decides the order of the files in each epoch.
    step: how many batches were taken already.

  Returns:
    features of [share.rows, ...] and ROWS, `share.local` times a step.
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
  """Returns how many batches are parsed at a time: one on each core, to 16."""
  return min(16, os.cpu_count() or 1)


def _untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
  """Returns the dataset without tf.data's autotuning.

  The end of an iterator that tf.distribute made waits for autotuning's thread,
  which looks up once in up to a minute only (TensorFlow 2.20).
  """
  chosen = tf.data.Options()
  chosen.autotune.enabled = False
  return dataset.with_options(chosen)


def masked_anew(source: RecordSet, budget: float) -> RecordSet:
  """Masks records in another share of their pieces than their manifest's.

  This is what google-research/albert's masked_lm_budget was for.

  Raises:
    options.InputError: when their masks are written.
  """
  if source.shape.max_predictions_per_seq:
    raise options.InputError(
      "records that are masked in training, for --masked_lm_budget",
      f"written masks in {source.files[0]}",
      "leave it out, or make records with --masking=dynamic",
    )
  # 0 here: as many as the budget asks for.
  changed = dict(masked_lm_prob=budget, max_predictions_per_seq=0)
  return dataclasses.replace(source, parameters=source.parameters | changed)


def _masks(
  source: RecordSet, seed: int
) -> tuple[masking.Settings, tokenization.Tokenizer]:
  """How to mask, as the records' manifest says, and with which tokenizer."""
  recipe = examples.Recipe.of(source.parameters | {"random_seed": seed})
  return examples.masks(recipe, False), tokenization.Tokenizer.with_settings(
    os.path.join(source.folder, tokenization.MODEL_NAME),
    tokenization.Settings.of(vars(recipe)),
  )


def eval_dataset(source: RecordSet, share: Share) -> tf.data.Dataset:
  """Gives every record once; the last batch is filled with empty records.

  An empty record has no masked positions and no sentence label, so it counts
  in no metric: batches keep their static shape and no record is left out.
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
  """[rows, ...] → [batch_size, ...]."""
  missing = batch_size - tf.shape(value)[0]
  padding = [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)
  filled = tf.pad(value, padding, constant_values=filler)
  return tf.ensure_shape(filled, [batch_size] + value.shape[1:])


def _parsed(batches: tf.data.Dataset, source: RecordSet) -> tf.data.Dataset:
  parsed = batches.map(
    lambda serialized: records.parse_pretraining(serialized, source.shape),
    num_parallel_calls=2,
    deterministic=True,
  )
  return _untuned(parsed).prefetch(2)
