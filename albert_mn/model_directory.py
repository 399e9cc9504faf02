"""The model directory: all that is needed to predict, convert or go on.

albert_config.json   the shape, in google-research's format; bert_config.json
model.ckpt.*         the weights, without optimizer slots
tokenizer.model      SentencePiece, with its normalisation inside; or, of a
                     WordPiece model from elsewhere, vocab.txt
labels.json          a classifier's labels, in the order of its outputs
ngrams.*             the TF-IDF baseline that answers beside the network
manifest.json        written last: its presence means whole

It is replaced as a whole (data_prep.whole_folders).
"""

import collections
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from albert_mn import configs, plain_paths
from data_prep import (
  json_files,
  manifest,
  options,
  storage,
  tokenization,
  whole_folders,
)

WEIGHTS, TOKENIZER, VOCABULARY, LABELS = (
  "model.ckpt",
  "tokenizer.model",
  "vocab.txt",
  "labels.json",
)
# Of the baseline that answers beside the network (albert_mn.blend).
NGRAMS = ("ngrams.json", "ngrams.safetensors")
# Where a SavedModel has its checkpoint, of the same name.
VARIABLES = "variables"
# Behind a checkpoint's prefix.
FILE_OF_CHECKPOINT = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")

# What TensorFlow raises for a checkpoint that is damaged or does not fit.
UNREADABLE = (AssertionError, IndexError, ValueError, tf.errors.OpError)


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
  beside: Callable[[str], None] | None = None,
) -> None:
  """Writes a model directory, which appears under its name when it is whole.

  Args:
    folder: where; an earlier model there is replaced in one step, and kept
      where this one cannot be written.
    kind: "pretrained_model" or "classifier".
    config: the encoder's shape.
    parts: name → trackable layer, as `restore` will ask for them.
    tokenizer_file: the SentencePiece model or vocab.txt to copy; "" for none.
    parameters: what decided the content, for the manifest.
    counts: steps, examples … for the manifest.
    inputs: name → identity of what it was made from.
    labels: a classifier's label names.
    beside: writes further files of a model directory into a folder.

  Raises:
    options.InputError, OSError: where it cannot be written.
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
    if beside:
      beside(aside)
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
  """Copies a finished model directory; `target` is replaced as a whole."""
  content = manifest.find(folder)
  assert content, "it was just saved"
  with whole_folders.replacing(target, _is_part) as aside:
    for name in (*content["files"], manifest.NAME):
      storage.copy(os.path.join(folder, name), os.path.join(aside, name))


def find(folder: str) -> dict[str, Any] | None:
  """Returns the manifest of a model directory, or None where there is none.

  Where a process ended while `folder` was replaced, that is completed first.
  """
  whole_folders.finish(folder, _is_part)
  return manifest.find(folder)


def require_replaceable(folder: str) -> None:
  """Refuses a folder with files of a model that this project did not write.

  Raises:
    options.InputError: for one, such as a downloaded checkpoint.
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
  """Says whether a file of this name is one of a model directory."""
  weights = name.startswith(WEIGHTS) and "/" not in name
  return weights or name in (
    TOKENIZER, VOCABULARY, LABELS, manifest.NAME, *NGRAMS,
    *(c.FILE for c in configs.FAMILIES),
  )  # fmt: skip


def restore(path: str, **parts: Any) -> None:
  """Reads the weights of `parts` from a model directory or a checkpoint.

  Every variable of the parts must be there; what the checkpoint holds
  beyond them (a head, optimizer slots) is left over.

  Args:
    path: a model directory or a checkpoint's prefix.
    **parts: the name under which each part was saved → the layer.

  Raises:
    options.InputError: when there is no checkpoint, or it does not fit.
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
  """Returns the names of what a checkpoint holds, ours or another one."""
  try:
    prefix = plain_paths.plain(weights_prefix(path))
    return [name for name, _ in tf.train.list_variables(prefix)]
  except UNREADABLE as error:
    raise options.InputError(
      f"a whole checkpoint at {path}",
      str(error).split("\n", maxsplit=1)[0],
      "copy it again",
    ) from error


def folder_of(path: str) -> str:
  """The folder with config and tokenizer: `path`, or where a prefix lies."""
  prefix = FILE_OF_CHECKPOINT.sub("", path)
  is_file = storage.exists(f"{prefix}.index") or storage.exists(path)
  return os.path.dirname(path) or "." if is_file else path


def config(path: str) -> configs.AlbertConfig | None:
  """Reads the config of a model directory or checkpoint; None for none."""
  for family in configs.FAMILIES:
    if file := adjacent(folder_of(path), family.FILE):
      return family.from_file(file)
  return None


def require_one_tokenizer(hashes: Mapping[str, str], action: str) -> None:
  """Refuses another tokenizer: its ids mean other pieces to the same weights.

  Args:
    hashes: what it is → its tokenizer's sha256; "" for unknown.
    action: what the user should do.

  Raises:
    options.InputError: naming the first two that differ.
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
  """The step of a model directory or a checkpoint prefix; 0 for unknown."""
  content = manifest.find(path) or {}
  if named := re.search(r"ckpt-(\d+)$", path):
    return int(named[1])
  return int(content.get("counts", {}).get("global_step", 0))


def identity(path: str) -> str:
  """The hash that stands for a model directory or a bare checkpoint."""
  if manifest.find(path):
    return manifest.identity(path)
  # The index holds the checksum of every tensor in the data file.
  return manifest.identity(weights_prefix(path) + ".index")


def tokenizer_file(folder: str) -> str:
  """The tokenizer of a model directory, "" where there is none."""
  names = (TOKENIZER, VOCABULARY)
  return next(filter(None, (adjacent(folder, name) for name in names)), "")


def labels(folder: str) -> list[str]:
  """Returns a classifier's labels, in the order of its outputs.

  Raises:
    options.InputError: when labels.json holds no list of different strings.
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
    )  # fmt: skip
  return list(names)


def find_weights(path: str) -> str:
  """Returns the checkpoint prefix that a user's path stands for, or "".

  A prefix; one of its files; a folder with model.ckpt, or with one checkpoint
  of any name, as those that google-research publishes; a SavedModel.

  Raises:
    options.InputError: for a folder with several.
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
  """Returns `find_weights`, which must be there."""
  if prefix := find_weights(path):
    return prefix
  raise options.InputError(
    "a model directory or a checkpoint prefix (the path without .index)",
    f"no checkpoint at {path!r}",
    "mend the path",
  )


def adjacent(path: str, name: str) -> str:
  """The file `name` in a model directory, or "" where there is none."""
  file = os.path.join(path, name)
  return file if storage.exists(file) else ""
