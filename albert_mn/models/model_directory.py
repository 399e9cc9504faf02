"""The model directory: all files that prediction or more training needs.

    albert_config.json   the shape, in google-research's format; or
                         bert_config.json
    model.ckpt.*         the weights, without optimizer slots
    tokenizer.model      SentencePiece model with its normalisation; a WordPiece
                         model from elsewhere has vocab.txt
    labels.json          a classifier's labels, in the order of its outputs
    ngrams.*             the TF-IDF baseline that is blended with the network
    manifest.json        written last: its presence means that all files are
                         whole

A model directory is replaced as a whole (data_prep.files.whole_folders).
"""

import collections
import dataclasses
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from albert_mn.models import blueprints, configs, plain_paths
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import (
  json_files,
  manifest,
  manifest_fields,
  storage,
  whole_folders,
)

WEIGHTS, TOKENIZER, VOCABULARY, LABELS = (
  "model.ckpt",
  "tokenizer.model",
  "vocab.txt",
  "labels.json",
)
# The files of the baseline that answers beside the network, as
# albert_mn.tasks.blend writes them.
NGRAMS = ("ngrams.json", "ngrams.safetensors")
# The folder of the checkpoint in a SavedModel, and the checkpoint's prefix.
VARIABLES = "variables"
# The endings of a checkpoint's files.
FILE_OF_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")

# The errors that TensorFlow raises for a checkpoint that is damaged or does not
# fit.
UNREADABLE = (AssertionError, IndexError, ValueError, tf.errors.OpError)


PRETRAINED = "pretrained_model"  # the kind of a model without labels


@dataclasses.dataclass(frozen=True)
class ModelDirectory:
  """A complete model directory, whose small files have been read.

  Attributes:
    folder: the path of the directory.
    described: the content of the manifest.
    config: the encoder's shape.
    labels: the names of the outputs; () for a pretrained model.
    tokenizer_file: the path of the tokenizer; "" if the directory has none.
  """

  folder: str
  described: dict[str, Any]
  config: configs.AlbertConfig
  labels: tuple[str, ...]
  tokenizer_file: str

  @property
  def kind(self) -> str:
    """The kind of the model: PRETRAINED, "classifier" or "tagger"."""
    return str(self.described["kind"])

  @property
  def parameters(self) -> dict[str, Any]:
    """All parameters in the manifest, as a new dictionary."""
    return dict(self.described["parameters"])

  @property
  def fields(self) -> manifest_fields.Parameters:
    """The manifest's parameters that programs read back, as attributes."""
    return manifest_fields.Parameters.of(self.parameters)


def opened(folder: str, *kinds: str) -> ModelDirectory:
  """Returns the model directory at a path, with its small files read.

  Args:
    folder: the path of the model directory.
    *kinds: the kinds of model that are accepted, at least one; a message about
      a wrong kind names the first.

  Raises:
    options.InputError: when the directory is missing, incomplete or of another
      kind, when its config is missing or damaged, or when its labels are
      damaged.
  """
  described = manifest.check(folder, *kinds)
  names = () if described["kind"] == PRETRAINED else tuple(labels(folder))
  shape = config(folder)
  if not shape:
    raise options.InputError(
      f"albert_config.json or bert_config.json in {folder}",
      "neither",
      "copy the model again",
    )
  return ModelDirectory(folder, described, shape, names, tokenizer_file(folder))


def save(
  folder: str,
  kind: str,
  *,
  config: configs.AlbertConfig,
  parts: Mapping[str, Any],
  tokenizer_file: str,
  parameters: Mapping[str, Any],
  counts: Mapping[str, Any],
  inputs: Mapping[str, str],
  labels: Sequence[str] = (),
  write_more: Callable[[str], None] | None = None,
) -> None:
  """Writes a model directory; it appears under its name only when it is whole.

  Args:
    folder: the path of the model directory. An earlier model directory there is
      replaced in one step, or kept if writing fails.
    kind: PRETRAINED, "classifier" or "tagger".
    config: the encoder's shape.
    parts: name → trackable layer; the checkpoint stores each layer under its
      name.
    tokenizer_file: the SentencePiece model or vocab.txt to copy, or "".
    parameters: settings on which the content depends, for the manifest.
    counts: steps, examples … for the manifest.
    inputs: name → identity of each input, for the manifest.
    labels: a classifier's labels; an empty sequence writes no labels.json.
    write_more: a function that writes further files, such as a blend's; it is
      called with the folder that is being written, before the manifest is
      written.

  Raises:
    options.InputError, OSError: when the directory cannot be written.
  """
  with whole_folders.replacing(folder, _is_part) as aside:
    with storage.writing(os.path.join(aside, config.FILE)) as file:
      file.write(config.to_json())
    _write_weights(os.path.join(aside, WEIGHTS), parts)
    if tokenizer_file:
      wordpiece = tokenization.is_wordpiece(tokenizer_file)
      name = VOCABULARY if wordpiece else TOKENIZER
      storage.copy(tokenizer_file, os.path.join(aside, name))
    if labels:
      with storage.writing(os.path.join(aside, LABELS)) as file:
        json.dump(list(labels), file, ensure_ascii=False, indent=2)
        file.write("\n")
    if write_more:
      write_more(aside)
    manifest.write(
      aside,
      kind,
      parameters=parameters,
      files=storage.names(aside),
      counts=counts,
      inputs=inputs,
    )


def _write_weights(prefix: str, parts: Mapping[str, Any]) -> None:
  try:
    tf.train.Checkpoint(**parts).write(prefix)
  except tf.errors.OpError as error:
    raise options.InputError(
      f"to write {prefix}",
      str(error).split("\n", maxsplit=1)[0],
      "see to room and permission there, then start the same command: what was "
      "there before is kept",
    ) from error


def copy(folder: str, target: str) -> None:
  """Copies a model directory; a model directory at `target` is replaced.

  The manifest is copied, and each file that the manifest names.

  Args:
    folder: a complete model directory; any other is an AssertionError.
    target: the path of the copy, which appears there only when it is whole.
  """
  content = manifest.find(folder)
  assert content, "it was just saved"
  with whole_folders.replacing(target, _is_part) as aside:
    for name in (*content["files"], manifest.NAME):
      storage.copy(os.path.join(folder, name), os.path.join(aside, name))


def find(folder: str) -> dict[str, Any] | None:
  """Returns the content of a folder's manifest; None without a manifest.

  The kind of the folder is not checked. If a process was killed while it
  replaced a model directory at `folder`, the replacement is completed first.

  Raises:
    options.InputError: when the manifest is damaged.
  """
  whole_folders.finish(folder, _is_part)
  return manifest.find(folder)


def require_replaceable(folder: str) -> None:
  """Raises InputError for a folder with files of a model but without manifest.

  So no downloaded checkpoint is overwritten, since it has no manifest. A
  missing folder, an empty folder, and a folder whose files are not those of a
  model are accepted.
  """
  parts = list(filter(_is_part, storage.names(folder)))
  if parts and not find(folder):
    raise options.InputError(
      "an --output_dir without a model, or with one of this project, which has "
      f"a {manifest.NAME}",
      f"{', '.join(parts[:3])} in {folder}",
      "name another folder",
    )


def _is_part(name: str) -> bool:
  """Returns whether a model directory may have a file of this name."""
  weights = name.startswith(WEIGHTS) and "/" not in name
  return weights or name in (
    TOKENIZER,
    VOCABULARY,
    LABELS,
    manifest.NAME,
    *NGRAMS,
    *(c.FILE for c in configs.FAMILIES),
  )


def restore(path: str, parts: Mapping[str, Any]) -> None:
  """Restores the weights of `parts` from a model directory or a checkpoint.

  Every variable of the parts must be in the checkpoint. Other content of the
  checkpoint, such as a head or optimizer slots, is ignored.

  Args:
    path: a model directory or a checkpoint's prefix.
    parts: the name under which each part was saved → the layer.

  Raises:
    options.InputError: when there is no checkpoint, when a variable is missing
      in it, or when a variable's shape is another one there.
  """
  prefix = weights_prefix(path)
  try:
    status = tf.train.Checkpoint(**parts).read(plain_paths.plain(prefix))
    status.expect_partial()
    status.assert_existing_objects_matched()
  except UNREADABLE as error:
    raise options.InputError(
      f"a checkpoint at {path} with the weights of this configuration",
      str(error).split("\n", maxsplit=1)[0],
      "give the configuration it was trained with",
    ) from error


def held_names(path: str) -> list[str]:
  """Returns the sorted names of all variables in a checkpoint of any project.

  Raises:
    options.InputError: when the checkpoint is missing or damaged.
  """
  return sorted(held_shapes(path))


def held_shapes(path: str) -> dict[str, tuple[int, ...]]:
  """Returns name → shape of all variables in a checkpoint of any project.

  Raises:
    options.InputError: when the checkpoint is missing or damaged, and when its
      variables claim more bytes than its files have.
  """
  prefix = weights_prefix(path)
  try:
    reader = tf.train.load_checkpoint(plain_paths.plain(prefix))
    shapes = reader.get_variable_to_shape_map()
    kinds = reader.get_variable_to_dtype_map()
  except UNREADABLE as error:
    raise options.InputError(
      f"a whole checkpoint at {path}",
      str(error).split("\n", maxsplit=1)[0],
      "copy it again",
    ) from error
  claimed = sum(
    math.prod(shape) * kinds[name].size
    for name, shape in shapes.items()
    if kinds[name] != tf.string
  )
  folder, stem = os.path.split(prefix)
  sizes = [
    storage.size(os.path.join(folder, name)) or 0
    for name in storage.names(folder)
    if name.startswith(f"{stem}.data-")
  ]
  if claimed > sum(sizes):
    raise options.InputError(
      f"a whole checkpoint at {path}",
      f"{sum(sizes):,} bytes of {claimed:,}",
      "copy it again",
    )
  return {name: tuple(shape) for name, shape in shapes.items()}


_BLOCK = re.compile(r"encoder/groups/\d+/\d+/")
_GROUP_0 = "encoder/groups/0/"
# EncoderBlock.parts() → the layer's place in a block, by attribute names.
_LAYERS = {
  "query": "_attention_layer/_query_dense",
  "key": "_attention_layer/_key_dense",
  "value": "_attention_layer/_value_dense",
  "attention_output": "_attention_layer/_output_dense",
  "attention_norm": "_attention_layer_norm",
  "intermediate": "_intermediate_dense",
  "output": "_output_dense",
  "output_norm": "_output_layer_norm",
}
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def require_fit(
  path: str,
  config: configs.AlbertConfig,
  init_from_group0: bool = False,
  encoders: Sequence[str] = ("encoder",),
) -> None:
  """Raises InputError if a checkpoint's shapes are not those of a config.

  No model is built. Each encoder must have exactly the blocks of the config. A
  weight outside of the blocks may be missing, but may have no other shape.

  Args:
    path: a model directory or a checkpoint of this project.
    config: the config that should describe the checkpoint.
    init_from_group0: whether the checkpoint may lack all groups but the first.
    encoders: the names of the encoders in the checkpoint.

  Raises:
    options.InputError: when a block is missing or not in the config, when a
      weight has another shape, or when the checkpoint is missing or damaged.
  """
  held = held_shapes(path)
  for encoder in encoders:
    shapes = {
      name.removesuffix(_VALUE).replace(f"{encoder}/", "encoder/", 1): shape
      for name, shape in sorted(held.items())
      if name.startswith((f"{encoder}/", "masked_lm/"))
    }
    _require_blocks(path, encoder, shapes, config, init_from_group0)
    expected = _shapes(config)
    for name, shape in shapes.items():
      known = expected.get(_BLOCK.sub(f"{_GROUP_0}0/", name), shape)
      if shape != known:
        raise _unfit(path, f"{name} of the shape {shape}, not {known}")


def _require_blocks(
  path: str,
  encoder: str,
  shapes: Mapping[str, Any],
  config: configs.AlbertConfig,
  init_from_group0: bool,
) -> None:
  """Raises InputError unless an encoder has exactly the blocks of its config.

  Args:
    path: a model directory or a checkpoint of this project.
    encoder: the encoder's name in the checkpoint.
    shapes: weight name → shape. The names begin with encoder/, whatever the
      encoder's own name is.
    config: the config that should describe the encoder.
    init_from_group0: whether the checkpoint may lack all groups but the first.
  """
  there = {match[0] for name in shapes if (match := _BLOCK.match(name))}
  wanted = {
    f"encoder/groups/{group}/{inner}/"
    for group in range(config.num_hidden_groups)
    for inner in range(config.inner_group_num)
  }
  if init_from_group0:
    wanted = {n for n in wanted if n in there or n.startswith(_GROUP_0)}
  if wanted != there:
    first = min(wanted ^ there)
    place = first.replace("encoder", encoder, 1)
    raise _unfit(path, f"{'no' if first in wanted else 'also'} {place}")


def _unfit(path: str, got: str) -> options.InputError:
  return options.InputError(
    f"a checkpoint at {path} with the weights of this configuration",
    got,
    "give the configuration it was trained with",
  )


def _shapes(config: configs.AlbertConfig) -> dict[str, tuple[int, ...]]:
  """Returns weight name → shape, for the encoder that a config describes.

  The names are those in checkpoints of this project. Of the blocks only the
  first is listed, because all have the same shapes. The word embeddings are
  listed twice: checkpoints with the masked-LM head give them another name than
  checkpoints without it.
  """
  encoder = blueprints.Encoder(config)
  embeddings = encoder.embedding_variables()
  layers = {
    "encoder/_norm": {
      part: embeddings[f"LayerNorm/{part}"] for part in ("gamma", "beta")
    },
    "encoder/_words": {"embeddings": encoder.embedding_table},
    "masked_lm": {"embedding_table": encoder.embedding_table},
    "encoder/_positions": {"embeddings": embeddings["position_embeddings"]},
    "encoder/_segments": {"embeddings": embeddings["token_type_embeddings"]},
    "encoder/pooler": vars(encoder.pooler),
    "encoder/projection": vars(encoder.projection)
    if encoder.projection
    else {},
    **{
      f"{_GROUP_0}0/{_LAYERS[name]}": vars(layer)
      for name, layer in encoder.groups[0][0].parts().items()
    },
  }
  return {
    f"{place}/{name}": weight.shape
    for place, weights in layers.items()
    for name, weight in weights.items()
  }


def folder_of(path: str) -> str:
  """Returns the folder that holds a model's config and tokenizer.

  If `path` is a checkpoint prefix or an existing file, the result is the folder
  that contains it; any other path is returned unchanged.
  """
  prefix = FILE_OF_CHECKPOINT.sub("", path)
  is_file = storage.exists(f"{prefix}.index") or storage.exists(path)
  return os.path.dirname(path) or "." if is_file else path


def config(path: str) -> configs.AlbertConfig | None:
  """Returns the config in a model directory or beside a checkpoint.

  The result is None if there is no config file. albert_config.json is preferred
  to bert_config.json.

  Raises:
    options.InputError: when the config is damaged.
  """
  for family in configs.FAMILIES:
    if file := adjacent(folder_of(path), family.FILE):
      return family.from_file(file)
  return None


def require_one_tokenizer(hashes: Mapping[str, str], action: str) -> None:
  """Raises InputError if weights or records have different tokenizers.

  With another tokenizer, the ids mean other pieces.

  Args:
    hashes: path of the weights, records or file → SHA-256 of the tokenizer; a
      hash of "" is unknown and not compared.
    action: the advice of the message.
  """
  known = [(name, value) for name, value in hashes.items() if value]
  for name, value in known[1:]:
    if value != known[0][1]:
      raise options.InputError(
        f"{name} with the tokenizer of {known[0][0]}",
        "another tokenizer.model",
        action,
      )


def step(path: str) -> int:
  """Returns the training step of a model directory or checkpoint prefix.

  The step is the number after ckpt- at the end of the path; without such a
  number it is the manifest's global_step, or 0 without a manifest.
  """
  content = manifest.find(path) or {}
  if named := re.search(r"ckpt-(\d+)$", path):
    return int(named[1])
  return manifest_fields.Counts.of(content.get("counts", {})).global_step or 0


def identity(path: str) -> str:
  """Returns a hash that identifies a model directory or a checkpoint.

  It is a hash of the model directory's manifest, or of the checkpoint's index
  file if there is no manifest.

  Raises:
    options.InputError: when there is neither a manifest nor a checkpoint.
  """
  if manifest.find(path):
    return manifest.identity(path)
  # The index contains the checksum of every tensor in the data files.
  return manifest.identity(weights_prefix(path) + ".index")


def tokenizer_file(folder: str) -> str:
  """Returns the path of a model directory's tokenizer; "" if it has none.

  A SentencePiece model is preferred to vocab.txt.
  """
  names = (TOKENIZER, VOCABULARY)
  return next(filter(None, (adjacent(folder, name) for name in names)), "")


def labels(folder: str) -> list[str]:
  """Returns a classifier's labels, in the order of its outputs.

  Raises:
    options.InputError: when labels.json is not a list of at least one string,
      all distinct.
    FileNotFoundError: when a local labels.json is missing.
  """
  path = os.path.join(folder, LABELS)
  names = json_files.read(path)
  json_files.require_type(names, list[str], f"the labels in {path}")
  again = [name for name, n in collections.Counter(names).items() if n > 1]
  if not names or again:
    raise options.InputError(
      f"different labels in {path}",
      f"{', '.join(map(repr, again[:5]))} more than once" if names else "none",
      "copy it again",
    )
  return list(names)


def find_weights(path: str) -> str:
  """Returns the checkpoint prefix for a path from a flag; "" if there is none.

  A prefix is the path of a checkpoint's files without their extensions. The
  given path may be a prefix; one of a checkpoint's files; a folder with
  model.ckpt, or with a single checkpoint of any name, as google-research
  publishes it; or a SavedModel.

  Raises:
    options.InputError: for a folder with several checkpoints, of which none is
      model.ckpt.
  """
  stem = FILE_OF_CHECKPOINT.sub("", path)
  saved_model = os.path.join(path, VARIABLES, VARIABLES)
  for prefix in (os.path.join(path, WEIGHTS), path, stem, saved_model):
    if storage.exists(f"{prefix}.index"):
      return prefix
  prefixes = [
    name.removesuffix(".index")
    for name in storage.names(path)
    if name.endswith(".index")
  ]
  if len(prefixes) > 1:
    raise options.InputError(
      f"one checkpoint in {path}",
      ", ".join(prefixes[:5]),
      "name one, as FOLDER/NAME without .index",
    )
  return os.path.join(path, prefixes[0]) if prefixes else ""


def weights_prefix(path: str) -> str:
  """Returns the checkpoint prefix for a path from a flag.

  The path may have any of the forms that `find_weights` accepts.

  Raises:
    options.InputError: when there is no checkpoint, or there are several.
  """
  if prefix := find_weights(path):
    return prefix
  raise options.InputError(
    "a model directory or a checkpoint prefix (the path without .index)",
    f"no checkpoint at {path!r}",
    "mend the path",
  )


def adjacent(path: str, name: str) -> str:
  """Returns the path of a file in a folder; "" if the folder lacks the file.

  Args:
    path: the folder.
    name: the name of the file.
  """
  file = os.path.join(path, name)
  return file if storage.exists(file) else ""
