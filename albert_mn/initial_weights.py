"""What --init_checkpoint takes: five formats, and one door to them.

A model directory of ours; a checkpoint of ours, from a run's checkpoints/ too;
a TF 1 checkpoint of google-research/albert or google-research/bert, or a TF Hub
module of one; a TF 2 checkpoint of tf-models, or a SavedModel of one; a
directory of Hugging Face's, or a file of PyTorch's.
Weights by name are copied by a table of the format's own file, and none is
overlooked: each weight of the encoder must be there, and what is not taken is
logged with the reason.
"""

import dataclasses
import enum
import itertools
import math
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from albert_mn import (
  configs,
  encoders,
  fast_tokenizers,
  foreign_configs,
  foreign_text,
  huggingface,
  keras_files,
  model_directory,
  tf1_checkpoints,
  tf_models_checkpoints,
)
from data_prep import manifest, options, storage, tokenization

# How names begin in a checkpoint of ours: no other project has groups there.
_OURS = "encoder/groups/"


class Format(enum.Enum):
  """Who wrote it."""

  OURS = "this project"
  TF1 = "google-research, TF 1"
  TF_MODELS = "tf-models, TF 2"
  HUGGING_FACE = "Hugging Face"


# Who wrote a checkpoint of TensorFlow's from elsewhere.
_PROGRAMS = {
  Format.TF1: foreign_configs.GOOGLE,
  Format.TF_MODELS: foreign_configs.TF_MODELS,
}


def format_of(path: str) -> Format:
  """Finds out what a path holds.

  Raises:
    options.InputError: when it is nothing that can be started from.
  """
  keras_files.refuse(path)
  if huggingface.is_weights(path) and storage.exists(path):
    return Format.HUGGING_FACE
  if model_directory.find_weights(path):
    return _format_of_tensorflow(path)
  if huggingface.config_file(path) or huggingface.has_weights(path):
    return Format.HUGGING_FACE
  raise options.InputError(
    "a model directory, a checkpoint's prefix (the path without .index), a "
    "SavedModel or TF Hub module, a Hugging Face directory (with config.json) "
    "or a file of PyTorch's weights",
    f"no checkpoint at {path!r}",
    "mend the path",
  )


def _format_of_tensorflow(path: str) -> Format:
  """Tells checkpoints of TensorFlow's apart by what they hold.

  Raises:
    options.InputError: for a checkpoint of something else.
  """
  names = model_directory.held_names(path)
  if tf_models_checkpoints.OBJECTS not in names:
    return Format.TF1
  if any(name.startswith(_OURS) for name in names):
    return Format.OURS
  if tf_models_checkpoints.holds_encoder(path):
    return Format.TF_MODELS
  parts = sorted({name.split("/")[0] for name in names if "/" in name})
  raise options.InputError(
    "weights of this project, of google-research, tf-models or Hugging Face",
    f"an object-based checkpoint that holds {', '.join(parts[:5]) or 'nothing'} "
    f"at {path!r}",
    "give a checkpoint with an ALBERT or a BERT; of an export of this project, "
    "the model directory that it was made of",
  )


def folder_of(path: str) -> str:
  """The folder in which config and tokenizer lie."""
  if huggingface.is_weights(path):
    return huggingface.folder_of(path)
  return model_directory.folder_of(path)


def _log(line: str) -> None:
  logging.info("%s", line)


def settle_config(
  albert_config_file: str,
  bert_config_file: str,
  path: str,
  init_from_group0: bool = False,
  gelu: str = "auto",
  say: Callable[[str], None] = _log,
) -> configs.AlbertConfig:
  """Reads the config that the flags name, or takes that beside the weights.

  Args:
    albert_config_file, bert_config_file: "" for none; at most one.
    path: what to start from, or "".
    init_from_group0: whether the two may differ in num_hidden_groups.
    gelu: of `foreign_configs.gelu_option`.
    say: is called with a line for each thing that no file says for certain.

  Raises:
    options.InputError: when there is none, or two that differ.
  """
  flags = "--albert_config_file or --bert_config_file"
  if albert_config_file and bert_config_file:
    raise options.InputError(flags, "both", "leave one out")
  kind = format_of(path) if path else Format.OURS
  if gelu != "auto" and kind is Format.OURS:
    raise options.InputError(
      "--gelu for --init_checkpoint of a model from elsewhere",
      f"--gelu={gelu} for {path or 'no --init_checkpoint'}",
      "leave it out: hidden_act says gelu or gelu_erf in a config of ours",
    )
  held = _held_config(path, kind, gelu) if path else None
  given = _given_config(albert_config_file, bert_config_file, kind, gelu)
  if given and held and not _same(given.config, held.config, init_from_group0):
    raise options.InputError(
      f"the config of {path}",
      f"another one in {albert_config_file or bert_config_file}",
      "leave the config out: the weights bring theirs",
    )
  chosen = given or held
  if not chosen:
    raise options.InputError(
      flags, f"none, nor a config in {path!r}", "give one"
    )
  if init_from_group0 and isinstance(chosen.config, configs.BertConfig):
    raise options.InputError(
      "--init_from_group0 for an ALBERT", "a BERT, which has no groups",
      "leave it out",
    )  # fmt: skip
  for line in chosen.lines:
    say(line)
  return chosen.config


def _held_config(
  path: str, kind: Format, gelu: str
) -> foreign_configs.Found | None:
  """Reads the config beside weights; None where there is none."""
  if kind is Format.HUGGING_FACE:
    file = huggingface.config_file(path)
    return huggingface.config(file, gelu) if file else None
  if kind is Format.OURS:
    config = model_directory.config(path)
    return foreign_configs.Found(config) if config else None
  if file := _config_file(path):
    return _config_of_tensorflow(file, None, kind, gelu)
  return None


def _config_file(path: str) -> str:
  """Returns the config of a TensorFlow checkpoint from elsewhere, "" for none.

  In each folder of `_folders` the names go in this order: albert_config.json,
  bert_config.json, config.json.
  """
  names = (*(family.FILE for family in configs.FAMILIES), huggingface.CONFIG)
  paths = (
    model_directory.adjacent(folder, name)
    for folder in _folders(path)
    for name in names
  )
  return next(filter(None, paths), "")


def _given_config(
  albert_config_file: str, bert_config_file: str, kind: Format, gelu: str
) -> foreign_configs.Found | None:
  """Reads the config that a flag names, as those who wrote the weights do.

  PyTorch's "gelu" is not google's, though the file be google's.
  """
  file = albert_config_file or bert_config_file
  if not file:
    return None
  family = configs.AlbertConfig if albert_config_file else configs.BertConfig
  if kind is Format.OURS:
    return foreign_configs.Found(family.from_file(file))
  if kind is Format.HUGGING_FACE:
    given = huggingface.config(file, gelu)
  else:
    given = _config_of_tensorflow(file, family, kind, gelu)
  if type(given.config) is not family:
    raise options.InputError(
      f"an {family.FAMILY}'s config in {file}",
      f"a {given.config.FAMILY}'s",
      "give it with the other of --albert_config_file and --bert_config_file",
    )
  return given


def _config_of_tensorflow(
  path: str,
  family: type[configs.AlbertConfig] | None,
  kind: Format,
  gelu: str,
) -> foreign_configs.Found:
  """Reads a config of google-research's format, or of transformers'.

  Args:
    path: the file.
    family: what the user says that it is; None to tell by its name or keys.
    kind: of the checkpoint.
    gelu: of `foreign_configs.gelu_option`.
  """
  programs = _PROGRAMS[kind]
  if huggingface.is_own_config(path):
    return huggingface.config(path, gelu, programs)
  family = family or huggingface.family_of(path)
  return foreign_configs.of_google(path, family, programs, gelu)


def _same(
  given: configs.AlbertConfig,
  held: configs.AlbertConfig,
  init_from_group0: bool,
) -> bool:
  """Compares what decides the model: keys that change nothing do not."""
  free = {"inert"} | ({"num_hidden_groups"} if init_from_group0 else set())
  given_values, held_values = (
    dataclasses.asdict(given),
    dataclasses.asdict(held),
  )
  same = all(
    given_values[name] == held_values[name]
    for name in given_values.keys() - free
  )
  return type(given) is type(held) and same


def tokenizer_file(path: str) -> str:
  """The SentencePiece model or vocab.txt beside the weights, "" for none.

  Where there is a tokenizer.json alone, what it was made from.

  Raises:
    options.InputError: when there are several of other names.
  """
  files = _tokenizer_files(path)
  if len(files) > 1:
    raise options.InputError(
      f"one SentencePiece model in {folder_of(path)}",
      ", ".join(map(os.path.basename, files)),
      "give --spm_model_file",
    )
  if files:
    return files[0]
  fast = model_directory.adjacent(_folders(path)[0], huggingface.FAST_TOKENIZER)
  return fast_tokenizers.extracted(fast) if fast else ""


def _folders(path: str) -> list[str]:
  """Returns where a checkpoint's config and tokenizer may lie, in this order.

  Beside it; of a SavedModel, such as a TF Hub module, also in its assets/.
  """
  folder = folder_of(path)
  if os.path.basename(folder) == model_directory.VARIABLES:
    folder = os.path.dirname(folder)
  return [folder, os.path.join(folder, "assets")]


def _tokenizer_files(path: str) -> list[str]:
  """Returns the tokenizers beside weights: of the likeliest name, or all."""
  for folder in _folders(path):
    if files := _tokenizers_in(folder):
      return files
  return []


def _tokenizers_in(folder: str) -> list[str]:
  for name in (model_directory.TOKENIZER, huggingface.TOKENIZER):
    if known := model_directory.adjacent(folder, name):
      return [known]
  models = [n for n in storage.names(folder) if n.endswith(".model")]
  if models:
    return [os.path.join(folder, name) for name in models]
  words = model_directory.adjacent(folder, model_directory.VOCABULARY)
  return [words] if words else []


def settle_tokenizer(path: str, *given: str) -> str:
  """Returns the tokenizer that a flag names, or that beside the weights.

  Args:
    path: the weights, or "".
    *given: what the flags say, "" for nothing.

  Raises:
    options.InputError: when the two differ, or there are several.
  """
  named = next(filter(None, given), "")
  if not named or not path:
    return named or (tokenizer_file(path) if path else "")
  model_directory.require_one_tokenizer(
    {path: tokenizer_hash(path), named: storage.sha256(named)},
    "leave --spm_model_file out",
  )
  return named


def text_settings(
  path: str, tokenizer: str, config: configs.AlbertConfig
) -> foreign_text.Found:
  """Says what is to be done to a text before the tokenizer.

  Args:
    path: the weights.
    tokenizer: its file.
    config: of the weights.
  """
  kind, folder = format_of(path), folder_of(path)
  described = manifest.find(folder)
  if kind is Format.OURS or described:  # ours, or an export of ours
    described = described or {"parameters": {}}
    settings = tokenization.Settings.of(described["parameters"])
    return foreign_text.Found(settings, manifest.NAME)
  return foreign_text.read(
    folder, tokenizer, type(config), kind is Format.HUGGING_FACE
  )


def tokenizer_hash(path: str) -> str:
  """The sha256 of the one tokenizer beside weights, "" where there is none.

  That of a tokenizer.json is not known: it may come from any file.
  """
  files = _tokenizer_files(path)
  return storage.sha256(files[0]) if len(files) == 1 else ""


def identity(path: str) -> str:
  """What stands for the weights in manifests and in run.json."""
  if format_of(path) is Format.HUGGING_FACE:
    return " ".join(map(storage.sha256, huggingface.files(path)))
  return model_directory.identity(path)


@dataclasses.dataclass(frozen=True)
class Loaded:
  """What became of a checkpoint's content.

  Attributes:
    new: parts of which it has nothing.
    left: what it has beyond the parts.
  """

  new: tuple[str, ...]
  left: tuple[str, ...]


def load(
  path: str, parts: Mapping[str, Any], init_from_group0: bool = False
) -> Loaded:
  """Copies weights into a model; logs what stays new and what is left over.

  Args:
    path: any of the four.
    parts: PretrainingModel's, or its encoder alone. The encoder's weights
      must all be there; pooler and heads stay as they are where the file has
      nothing of them, as models without them are common.
    init_from_group0: hidden groups that the file lacks begin as its group 0
      (google-research/albert's flag).

  Raises:
    options.InputError: when a weight is missing, unused or of another shape.
  """
  return fill(read(path), parts, init_from_group0)


@dataclasses.dataclass(frozen=True)
class Source:
  """What to start from, opened.

  Attributes:
    path, kind: what it is.
    arrays: by the names of its format's `tables`; {} for ours, of which
      TensorFlow reads what it needs.
    skipped: names of what is no weight there.
  """

  path: str
  kind: Format
  arrays: dict[str, np.ndarray]
  skipped: list[str]


# Format → the file with its names.
_NAMES: dict[Format, Any] = {
  Format.TF1: tf1_checkpoints,
  Format.TF_MODELS: tf_models_checkpoints,
  Format.HUGGING_FACE: huggingface,
}


def read(path: str) -> Source:
  """Opens a checkpoint of any format.

  Raises:
    options.InputError: when it is none, or damaged.
  """
  kind = format_of(path)
  if kind is Format.OURS:
    return Source(path, kind, {}, [])
  return Source(path, kind, *_NAMES[kind].read(path))


def fill(
  source: Source, parts: Mapping[str, Any], init_from_group0: bool = False
) -> Loaded:
  """As `load`, from what was read."""
  path, kind = source.path, source.kind
  if kind is Format.OURS:
    new, left = _load_ours(path, parts, init_from_group0)
  else:
    theirs = _NAMES[kind]
    new, left = _assign(
      theirs.tables(parts), source.arrays, theirs.ENCODER, init_from_group0,
      not isinstance(parts["encoder"].config, configs.BertConfig),
    )  # fmt: skip
    left += source.skipped
  logging.info(
    "weights from %s (%s); new: %s; left over: %s",
    path,
    kind.value,
    ", ".join(new) or "none",
    ", ".join(left) or "none",
  )
  return Loaded(tuple(new), tuple(left))


def _load_ours(
  path: str, parts: Mapping[str, Any], init_from_group0: bool
) -> tuple[list[str], list[str]]:
  names = model_directory.held_names(path)
  held = {name.split("/")[0] for name in names if "/" in name}
  wanted = {n: p for n, p in parts.items() if n in held or n == "encoder"}
  if init_from_group0:
    _spread_groups(path, names, wanted.pop("encoder"))
  model_directory.restore(path, **wanted)
  left = held - parts.keys() - {"save_counter"}
  return sorted(parts.keys() - held), sorted(left)


def _spread_groups(path: str, names: Sequence[str], encoder: Any) -> None:
  """Fills an encoder from a checkpoint of ours that has fewer groups."""
  matches = (re.match(r"encoder/groups/(\d+)/", name) for name in names)
  groups = 1 + max((int(match[1]) for match in matches if match), default=0)
  held = encoders.AlbertEncoder(
    dataclasses.replace(
      encoder.config, num_hidden_layers=groups, num_hidden_groups=groups
    ),
    seed=0,
  )
  model_directory.restore(path, encoder=held)
  arrays = {v.name: v.numpy() for v in held.variables}
  table = {v.name: v for v in encoder.variables}
  _assign({"encoder": table}, arrays, ("",), True, True)


def _assign(
  tables: Mapping[str, Mapping[str, Any]],
  arrays: Mapping[str, np.ndarray],
  encoder_begins: tuple[str, ...],
  init_from_group0: bool,
  has_groups: bool,
) -> tuple[list[str], list[str]]:
  """Copies arrays into variables by name.

  Args:
    tables: part → name → variable.
    arrays: by the same names.
    encoder_begins: how the names of an encoder's weights begin: no such
      array may be left over.
    init_from_group0: whether a group may stand in for others.
    has_groups: whether the model is an ALBERT.

  Returns:
    The parts of which there is nothing, and the names that are left over.
  """
  new, missing = [], []
  pairs: dict[str, tuple[str, Any]] = {}  # name → its array's name, variable
  for part, table in tables.items():
    source = {
      name: _in_group_0(name)
      if init_from_group0 and name not in arrays
      else name
      for name in table
    }
    absent = [name for name, held in source.items() if held not in arrays]
    if part != "encoder" and len(absent) == len(table):
      new.append(part)
      continue
    missing += absent
    pairs |= {name: (source[name], table[name]) for name in table}
  left = sorted(arrays.keys() - {held for held, _ in pairs.values()})
  unused = [name for name in left if name.startswith(encoder_begins)]
  if missing or unused:
    raise options.InputError(
      "a checkpoint with exactly the weights of this configuration",
      f"missing {missing[:3]}, unused {unused[:3]}",
      _advice(missing, unused, arrays, tables["encoder"], has_groups),
    )
  for name, (held, variable) in pairs.items():
    _fill(variable, name, arrays[held])
  return new, left


_CONFIGURE = "give the configuration it was trained with"


def _advice(
  missing: Sequence[str],
  unused: Sequence[str],
  arrays: Mapping[str, Any],
  table: Mapping[str, Any],
  has_groups: bool,
) -> str:
  """Says what to do where names do not fit.

  Args:
    missing, unused: names of a table, and of an encoder in the checkpoint.
    arrays: all that the checkpoint has, by name.
    table: the encoder's.
    has_groups: whether the model is an ALBERT.
  """
  held, wanted = ({_numberless(n) for n in names} for names in (arrays, table))
  shared = held & wanted
  if not shared:
    return "give weights of an ALBERT or a BERT: no name of theirs is there"
  # Depth changes the numbers in names; the embeddings' width, a projection.
  if any(
    _numberless(name) not in shared and "embedding_hidden_mapping" not in name
    for name in (*missing, *unused)
  ):
    return (
      f"{_CONFIGURE} where that is of the other family, ALBERT or BERT; "
      "otherwise another program wrote these names, and no configuration helps"
    )
  grouped = all(_in_group_0(name) in arrays for name in missing)
  if has_groups and missing and grouped and not unused:
    return "give --init_from_group0, or the configuration it was trained with"
  return _CONFIGURE


def _numberless(name: str) -> str:
  return re.sub(r"\d+", "0", name)


def _in_group_0(name: str) -> str:
  """`…/group_2/inner_group_1/…` → `…/group_0/inner_group_1/…`, as others."""
  return re.sub(r"(group_|groups\.)\d+", r"\g<1>0", name, count=1)


def _fill(variable: Any, name: str, array: np.ndarray) -> None:
  """Assigns an array that has the shape, with heads and width joined or not.

  Attention kernels are [hidden, hidden] elsewhere, [hidden, heads, d] here.
  """
  joined = set(itertools.accumulate(variable.shape, operator.mul))
  if (
    array.size != math.prod(variable.shape)
    or not set(itertools.accumulate(array.shape, operator.mul)) <= joined
  ):
    raise options.InputError(
      f"{name} of the shape {tuple(variable.shape)}",
      f"{array.shape}",
      _CONFIGURE,
    )
  variable.assign(array.reshape(variable.shape))
