"""Initial weights for --init_checkpoint: one interface for four formats.

It reads weights of four kinds: a model directory or a checkpoint of this
project; a TF 1 checkpoint of google-research/albert or google-research/bert, or
a TF Hub module; a TF 2 checkpoint of tf-models, or a SavedModel; a Hugging Face
directory, or a file of PyTorch weights.

Weights are copied by name, with a table of names in the format's own module.
Every weight of the model's encoder must be present in the checkpoint; each
weight of the checkpoint that is not used is logged.
"""

import dataclasses
import enum
import itertools
import math
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from albert_mn.formats import (
  fast_tokenizers,
  foreign_configs,
  foreign_text,
  huggingface,
  keras_files,
  tf1_checkpoints,
  tf_models_checkpoints,
)
from albert_mn.models import blueprints, configs, encoders, model_directory
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import manifest, storage

# Names in checkpoints of this project begin so; no other project's do.
_OURS = "encoder/groups/"


class Format(enum.Enum):
  """The format of a checkpoint, named after the project that writes it."""

  OURS = "this project"
  TF1 = "google-research, TF 1"
  TF_MODELS = "tf-models, TF 2"
  HUGGING_FACE = "Hugging Face"


# The programs that write TensorFlow checkpoints of other projects.
_PROGRAMS = {
  Format.TF1: foreign_configs.GOOGLE,
  Format.TF_MODELS: foreign_configs.TF_MODELS,
}


def format_of(path: str) -> Format:
  """Returns the format of the weights at a path.

  Raises:
    options.InputError: when there are no weights that can be read, and for
      weights of Keras or KerasHub.
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
  """Returns the format of a TensorFlow checkpoint, by its variables.

  A checkpoint that is not object-based is TF1; its variables are not checked.

  Raises:
    options.InputError: for an object-based checkpoint without an ALBERT or a
      BERT.
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
  """Returns the folder that holds config and tokenizer of the weights."""
  if huggingface.is_weights(path):
    return huggingface.folder_of(path)
  return model_directory.folder_of(path)


def _log(line: str) -> None:
  """Writes a line to the log, at the level INFO."""
  logging.info("%s", line)


def settle_config(
  albert_config_file: str,
  bert_config_file: str,
  path: str,
  init_from_group0: bool = False,
  gelu: str = "auto",
  say: Callable[[str], None] = _log,
) -> configs.AlbertConfig:
  """Returns the config that a flag names, else the config beside the weights.

  Args:
    albert_config_file, bert_config_file: paths, at most one of them; or "".
    path: the weights; "" for none.
    init_from_group0: whether the flag's config and the config beside the
      weights may differ in num_hidden_groups.
    gelu: the value of --gelu: "auto", "tanh" or "erf".
    say: receives a line on each setting that no file states for certain.

  Raises:
    options.InputError: when both flags are given; when there is no config; when
      the flag's config differs from the config beside the weights; when the
      weights have other shapes; when --gelu is given for weights of this
      project or without weights; and for a BERT with init_from_group0.
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
      "--init_from_group0 for an ALBERT",
      "a BERT, which has no groups",
      "leave it out",
    )
  for line in chosen.lines:
    say(line)
  if path:
    require_fit(path, kind, chosen.config, init_from_group0)
  return chosen.config


def require_fit(
  path: str,
  kind: Format,
  config: configs.AlbertConfig,
  init_from_group0: bool = False,
) -> None:
  """Raises InputError unless a config fits the shapes in a checkpoint.

  No model is built for this check.

  Args:
    path, kind: the weights and their format.
    config: the config that should describe the weights.
    init_from_group0: whether the checkpoint may lack all hidden groups but the
      first.

  Raises:
    options.InputError: when an encoder weight is missing, unused or of another
      shape.
  """
  if kind is Format.OURS:
    model_directory.require_fit(path, config, init_from_group0)
    return
  theirs = _NAMES[kind]
  _matched(
    theirs.tables({"encoder": blueprints.Encoder(config)}),
    theirs.read(path)[0],
    theirs.ENCODER,
    init_from_group0,
    not isinstance(config, configs.BertConfig),
  )


def _held_config(
  path: str, kind: Format, gelu: str
) -> foreign_configs.ReadConfig | None:
  """Returns the config in the files beside the weights; None if none is there.

  Args:
    path, kind: the weights and their format.
    gelu: the value of --gelu: "auto", "tanh" or "erf".
  """
  if kind is Format.HUGGING_FACE:
    file = huggingface.config_file(path)
    return huggingface.config(file, gelu) if file else None
  if kind is Format.OURS:
    config = model_directory.config(path)
    return foreign_configs.ReadConfig(config) if config else None
  if file := _config_file(path):
    return _config_of_tensorflow(file, None, kind, gelu)
  return None


def _config_file(path: str) -> str:
  """Returns the path of the config beside a TensorFlow checkpoint, or "".

  The checkpoint is one of another project. In each folder of `_folders` the
  names are tried in this order: albert_config.json, bert_config.json,
  config.json.
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
) -> foreign_configs.ReadConfig | None:
  """Returns the config in the file that a flag names; None without a flag.

  The program that wrote the weights decides how the file is read: for PyTorch
  weights, "gelu" has PyTorch's meaning even in google-research's format.

  Raises:
    options.InputError: when the file has the config of the other family.
  """
  file = albert_config_file or bert_config_file
  if not file:
    return None
  family = configs.AlbertConfig if albert_config_file else configs.BertConfig
  if kind is Format.OURS:
    return foreign_configs.ReadConfig(family.from_file(file))
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
) -> foreign_configs.ReadConfig:
  """Returns the config in a file of google-research's or transformers' format.

  A file of transformers names its own family, which may differ from `family`:
  the caller compares them.

  Args:
    path: the file.
    family: AlbertConfig or BertConfig, if a flag names the family of a file in
      google-research's format; with None the file name or the keys decide.
    kind: the format of the checkpoint.
    gelu: the value of --gelu: "auto", "tanh" or "erf".

  Raises:
    options.InputError: when the file is damaged, or describes an encoder that
      this project does not have.
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
  """Returns whether two configs describe the same model.

  Keys without effect are ignored.

  Args:
    given, held: the configs.
    init_from_group0: whether num_hidden_groups may differ.
  """
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
  """Returns the path of the SentencePiece model or vocab.txt beside weights.

  A file with a known name is taken first, then any other *.model, then
  vocab.txt. If there is only a tokenizer.json, a SentencePiece model or
  vocab.txt is extracted from it. The result is "" if there is no tokenizer.

  Raises:
    options.InputError: when there are several models with unknown names, or
      when no SentencePiece model and no vocab.txt has the ids of
      tokenizer.json.
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
  """Returns the folders to search for config and tokenizer, in this order.

  The first is the folder of the checkpoint, or of the SavedModel that contains
  the checkpoint. The second is `assets` in that folder, for TF Hub modules.
  """
  folder = folder_of(path)
  if os.path.basename(folder) == model_directory.VARIABLES:
    folder = os.path.dirname(folder)
  return [folder, os.path.join(folder, "assets")]


def _tokenizer_files(path: str) -> list[str]:
  """Returns the paths of the tokenizer files beside the weights.

  The result is one file of a known name, or else all files that may be
  tokenizers; [] if there are none.
  """
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
  """Returns a tokenizer's path: a flag's, or else that beside the weights.

  The result is "" without either. A flag's tokenizer is compared with the
  tokenizer beside the weights by `tokenizer_hash`, if that is known.

  Args:
    path: the weights, or "".
    *given: the values of the flags, of which the first counts that is not "".

  Raises:
    options.InputError: when the flag's tokenizer differs from the one beside
      the weights, or without a flag several lie there.
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
) -> foreign_text.ReadSettings:
  """Returns the settings by which texts are normalised before the tokenizer.

  If a manifest lies beside the weights, its settings are returned. Weights of
  this project without a manifest have the default settings; for other weights
  see foreign_text.read.

  Args:
    path: the weights.
    tokenizer: path of the tokenizer.
    config: the config of the weights.
  """
  kind, folder = format_of(path), folder_of(path)
  described = manifest.find(folder)
  if kind is Format.OURS or described:  # ours, or an export of ours
    described = described or {"parameters": {}}
    settings = tokenization.Settings.of(described["parameters"])
    return foreign_text.ReadSettings(settings, manifest.NAME)
  return foreign_text.read(
    folder, tokenizer, type(config), kind is Format.HUGGING_FACE
  )


def tokenizer(
  path: str, config: configs.AlbertConfig, spm_model_file: str = ""
) -> tokenization.Tokenizer:
  """Returns the tokenizer of a model, which prepares texts as in its training.

  Args:
    path: the weights.
    config: their config.
    spm_model_file: the tokenizer file; "" takes the one beside the weights.

  Raises:
    options.InputError: when there is no tokenizer, or when it has more pieces
      than the model.
  """
  file = spm_model_file or tokenizer_file(path)
  if not file:
    raise options.InputError(
      f"a {tokenization.MODEL_NAME} beside the weights in {path!r}",
      "none",
      "give --spm_model_file",
    )
  text = text_settings(path, file, config)
  made = tokenization.Tokenizer.with_settings(file, text.settings)
  if made.vocab_size > config.vocab_size:
    raise options.InputError(
      f"a tokenizer of at most {config.vocab_size} pieces, the model's",
      f"{made.vocab_size} in {file}",
      "give the model's own",
    )
  return made


def tokenizer_hash(path: str) -> str:
  """Returns the SHA-256 of the only tokenizer file beside the weights.

  The result is "" if there is no such file, or if there are several. It is also
  "" for a tokenizer.json alone, because the original tokenizer file is unknown.
  """
  files = _tokenizer_files(path)
  return storage.sha256(files[0]) if len(files) == 1 else ""


def identity(path: str) -> str:
  """Returns a string that identifies the weights in manifests and run.json.

  For Hugging Face's weights the string is the SHA-256 of each file, separated
  by spaces; for a TensorFlow checkpoint see `model_directory.identity`.

  Raises:
    options.InputError: when there are no weights that can be read.
  """
  if format_of(path) is Format.HUGGING_FACE:
    return " ".join(map(storage.sha256, huggingface.files(path)))
  return model_directory.identity(path)


@dataclasses.dataclass(frozen=True)
class Loaded:
  """The result of copying a checkpoint's weights.

  Attributes:
    new: names of the model's parts that the checkpoint lacks.
    left: names of the checkpoint's weights that were not used, and lines on
      skipped entries; for this project's format, names of unused parts.
  """

  new: tuple[str, ...]
  left: tuple[str, ...]


def load(
  path: str, parts: Mapping[str, Any], init_from_group0: bool = False
) -> Loaded:
  """Copies weights into a model; returns the new parts and unused weights.

  The new parts and the unused weights are logged too.

  Args:
    path: weights of any of the formats.
    parts: the parts of a PretrainingModel, or its encoder alone. All weights of
      the encoder must be present. Pooler and heads keep their values if the
      checkpoint lacks them, which is common.
    init_from_group0: whether hidden groups that the checkpoint lacks get the
      weights of its group 0 (google-research/albert's flag).

  Raises:
    options.InputError: when there is no checkpoint or it is damaged, when an
      encoder weight is missing or unused, when a head lacks some of its
      weights, or when a weight has another shape.
  """
  return fill(read(path), parts, init_from_group0)


@dataclasses.dataclass(frozen=True)
class Source:
  """An opened checkpoint.

  Attributes:
    path: the path of the checkpoint.
    kind: the format of the checkpoint.
    arrays: name → array of every weight. The names are those of the format's
      `tables`; weights that `tables` lacks are included. {} for this project's
      format, which TensorFlow restores itself.
    skipped: names of the entries that were not taken, such as a head of an
      unknown kind, or counts of them, such as "25 x adam_m".
  """

  path: str
  kind: Format
  arrays: dict[str, np.ndarray]
  skipped: list[str]


# Format → the module with its names.
_NAMES: dict[Format, Any] = {
  Format.TF1: tf1_checkpoints,
  Format.TF_MODELS: tf_models_checkpoints,
  Format.HUGGING_FACE: huggingface,
}


def read(path: str) -> Source:
  """Opens a checkpoint of any format, and reads its arrays.

  Raises:
    options.InputError: when there is no checkpoint, or it is damaged.
  """
  kind = format_of(path)
  if kind is Format.OURS:
    return Source(path, kind, {}, [])
  return Source(path, kind, *_NAMES[kind].read(path))


def fill(
  source: Source, parts: Mapping[str, Any], init_from_group0: bool = False
) -> Loaded:
  """Copies the weights of an opened checkpoint into a model; logs the result.

  Args:
    source: the result of `read`.
    parts: the parts of a PretrainingModel, or its encoder alone. All weights of
      the encoder must be in the checkpoint; pooler and heads that the
      checkpoint lacks keep their values.
    init_from_group0: whether hidden groups that the checkpoint lacks get the
      weights of its group 0.

  Returns:
    the new parts and the unused weights.

  Raises:
    options.InputError: when an encoder weight is missing or unused, when a head
      lacks some of its weights, or when a weight has another shape.
  """
  path, kind = source.path, source.kind
  if kind is Format.OURS:
    new, left = _load_ours(path, parts, init_from_group0)
  else:
    theirs = _NAMES[kind]
    new, left = _assign(
      theirs.tables(parts),
      source.arrays,
      theirs.ENCODER,
      init_from_group0,
      not isinstance(parts["encoder"].config, configs.BertConfig),
    )
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
  """Restores a checkpoint of this project; returns (new parts, unused parts).

  New parts are the parts of the model that the checkpoint lacks; unused parts
  are the parts of the checkpoint that the model lacks. Both are sorted names.

  Args:
    path: the checkpoint.
    parts: name → layer.
    init_from_group0: whether hidden groups that the checkpoint lacks get the
      weights of its group 0.
  """
  names = model_directory.held_names(path)
  held = {name.split("/")[0] for name in names if "/" in name}
  wanted = {n: p for n, p in parts.items() if n in held or n == "encoder"}
  if init_from_group0:
    _spread_groups(path, names, wanted.pop("encoder"))
  model_directory.restore(path, wanted)
  left = held - parts.keys() - {"save_counter"}
  return sorted(parts.keys() - held), sorted(left)


def _spread_groups(path: str, names: Sequence[str], encoder: Any) -> None:
  """Fills an encoder from a checkpoint of this project with fewer groups.

  Groups that the checkpoint lacks get the weights of group 0.

  Args:
    path: the checkpoint.
    names: the names of all variables in the checkpoint.
    encoder: the encoder layer.
  """
  matches = (re.match(r"encoder/groups/(\d+)/", name) for name in names)
  groups = 1 + max((int(match[1]) for match in matches if match), default=0)
  held = encoders.AlbertEncoder(
    dataclasses.replace(
      encoder.config, num_hidden_layers=groups, num_hidden_groups=groups
    ),
    seed=0,
  )
  model_directory.restore(path, {"encoder": held})
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
  """Copies the arrays of a checkpoint into variables of the same names.

  Args:
    tables: part → name → variable.
    arrays: name → array.
    encoder_begins: prefixes of the encoder's names; arrays with these prefixes
      must all be used.
    init_from_group0: whether variables of missing hidden groups get the arrays
      of group 0.
    has_groups: whether the model is an ALBERT.

  Returns:
    the parts without arrays, and the names of unused arrays.

  Raises:
    options.InputError: when names or shapes do not match; then no variable is
      changed.
  """
  matched = _matched(
    tables, arrays, encoder_begins, init_from_group0, has_groups
  )
  for array_name, variable in matched.pairs:
    variable.assign(arrays[array_name].reshape(variable.shape))
  return matched.new, matched.left


class _Matched(NamedTuple):
  """The weights of a model, and the arrays of a checkpoint, matched by name.

  Attributes:
    pairs: (name of the array, weight) of each weight with an array.
    new: the parts without arrays.
    left: the names of unused arrays.
  """

  pairs: list[tuple[str, Any]]
  new: list[str]
  left: list[str]


def _matched(
  tables: Mapping[str, Mapping[str, Any]],
  arrays: Mapping[str, np.ndarray],
  encoder_begins: tuple[str, ...],
  init_from_group0: bool,
  has_groups: bool,
) -> _Matched:
  """Finds the array of each weight by its name, and compares their shapes.

  A part is new if none of its weights has an array; the encoder must have its
  arrays.

  Args:
    tables: part → name → variable, or blueprints.Weight.
    arrays: name → array.
    encoder_begins: prefixes of the encoder's names; arrays with these prefixes
      must all be used.
    init_from_group0: whether weights of missing hidden groups get the arrays of
      group 0.
    has_groups: whether the model is an ALBERT.

  Raises:
    options.InputError: when the encoder or a part that is not new lacks an
      array, when an array of the encoder is unused, or when a shape differs.
  """
  new, missing = [], []
  pairs: dict[str, tuple[str, Any]] = {}  # name → its array's name, weight
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
  for name, (held, weight) in pairs.items():
    _require_shape(weight.shape, name, arrays[held].shape)
  return _Matched(list(pairs.values()), new, left)


_CONFIGURE = "give the configuration it was trained with"


def _advice(
  missing: Sequence[str],
  unused: Sequence[str],
  arrays: Mapping[str, Any],
  table: Mapping[str, Any],
  has_groups: bool,
) -> str:
  """Returns the advice at the end of the error for names that do not match.

  Args:
    missing: the names of weights that the checkpoint lacks.
    unused: the names of the checkpoint's encoder weights that are not used.
    arrays: name → array of the checkpoint.
    table: name → variable of the encoder.
    has_groups: whether the model is an ALBERT.
  """
  held, wanted = ({_numberless(n) for n in names} for names in (arrays, table))
  shared = held & wanted
  if not shared:
    return "give weights of an ALBERT or a BERT: no name of theirs is there"
  # Another depth changes the numbers in names; another embedding width, the
  # projection.
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
  """Returns a weight's name with every number in the name replaced by 0."""
  return re.sub(r"\d+", "0", name)


def _in_group_0(name: str) -> str:
  """Returns the name of the corresponding weight in hidden group 0.

  `…/group_2/inner_group_1/…` → `…/group_0/inner_group_1/…`.
  """
  return re.sub(r"(group_|groups\.)\d+", r"\g<1>0", name, count=1)


def _require_shape(
  expected: Sequence[int], name: str, shape: Sequence[int]
) -> None:
  """Raises InputError if an array cannot be reshaped to a weight's shape.

  Dimensions may be merged, as heads and d in an attention kernel: other formats
  have [hidden, hidden], this project has [hidden, heads, d].

  Args:
    expected: the shape of the weight.
    name: the name of the weight.
    shape: the shape of the array.
  """
  products = set(itertools.accumulate(expected, operator.mul))
  if (
    math.prod(shape) != math.prod(expected)
    or not set(itertools.accumulate(shape, operator.mul)) <= products
  ):
    raise options.InputError(
      f"{name} of the shape {tuple(expected)}", f"{tuple(shape)}", _CONFIGURE
    )
