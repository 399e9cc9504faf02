"""Reads and writes ALBERT and BERT models in Hugging Face's format.

These are the config and the weights. The names of the weights are those that
transformers writes for PyTorch, from its first releases (gamma, beta,
position_ids) and forks of them, such as mn-tweet-bert's, to 5.24.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from albert_mn.formats import foreign_configs
from albert_mn.models import configs, encoders, tensor_files
from albert_mn.tasks import problems
from data_prep.base import options
from data_prep.files import json_files, storage

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER = "spiece.model"
TOKENIZER_CONFIG, FAST_TOKENIZER = "tokenizer_config.json", "tokenizer.json"
# File names of weights in safetensors and PyTorch format.
_FILES = (WEIGHTS, "pytorch_model.bin")
# transformers' file names of weights in other formats.
_OTHERS = ("tf_model.h5", "flax_model.msgpack")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_MOST_SHARDS = 1000  # guess: a shard has gigabytes

# Prefixes of the encoder's weights, without the family's name.
ENCODER = ("embeddings.", "encoder.", "pooler.")
_PREFIXES = ("module.", "albert.", "bert.")  # DataParallel's comes first
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
MASKED_LM = ("predictions", "cls.predictions")
_PROJECTION = "encoder.embedding_hidden_mapping_in"

_FAMILIES: dict[str, type[configs.AlbertConfig]] = {
  "albert": configs.AlbertConfig,
  "bert": configs.BertConfig,
}
# transformers' defaults that differ from google-research's.
_DEFAULTS: dict[str, dict[str, Any]] = {
  "albert": {"hidden_act": "gelu_new"},
  "bert": {"hidden_act": "gelu", "type_vocab_size": 2},
}
# transformers' name → our name; "gelu" is missing, because it depends on the
# program that trained the weights.
_ACTIVATIONS = {
  **foreign_configs.SPELLINGS,
  "relu": "relu",
  "tanh": "tanh",
  "linear": "linear",
}
# Our name → transformers' name, if they differ.
_WRITTEN = {"gelu": "gelu_new", "gelu_erf": "gelu"}
# A config with one of these keys was written by transformers.
_MARKS = {"architectures", "model_type", "transformers_version"}
# Keys that have no effect on the encoder at any value …
_INERT = frozenset(
  (
    "_commit_hash _name_or_path _num_labels architecture architectures "
    "attn_implementation bos_token_id chunk_size_feed_forward "
    "classifier_dropout classifier_dropout_prob dtype eos_token_id "
    "finetuning_task gradient_checkpointing id2label label2id language "
    "model_type name num_labels output_attentions output_hidden_states "
    "output_past pad_token_id problem_type return_dict task_specific_params "
    "tie_word_embeddings tokenizer_class torch_dtype torchscript "
    "transformers_version use_cache"
  ).split()
)
# … and keys that have no effect at this value.
_INERT_AT: dict[str, Any] = {
  "add_cross_attention": False,
  "cross_attention_hidden_size": None,
  "is_decoder": False,
  "is_encoder_decoder": False,
  "position_embedding_type": "absolute",
  "pruned_heads": {},
}
# Label type → (end of the name of transformers' class, transformers'
# problem_type).
_HEADS = {
  problems.CLASS: ("ForSequenceClassification", "single_label_classification"),
  problems.MULTI_LABEL: (
    "ForSequenceClassification",
    "multi_label_classification",
  ),
  problems.REGRESSION: ("ForSequenceClassification", "regression"),
  problems.ENTITIES: ("ForTokenClassification", None),
}


def is_weights(path: str) -> bool:
  """Returns whether a path has the ending of PyTorch or safetensors weights."""
  return path.endswith(_WEIGHTS)


def has_weights(folder: str) -> bool:
  """Returns whether a folder has a file of weights with transformers' name.

  Such names are model.safetensors and pytorch_model.bin, or their indices.
  """
  return any(
    storage.exists(os.path.join(folder, f"{name}{ending}"))
    for name in _FILES
    for ending in ("", ".index.json")
  )


def folder_of(path: str) -> str:
  """Returns the folder of a file of weights; a folder is returned unchanged."""
  return os.path.dirname(path) or "." if is_weights(path) else path


def config_file(path: str) -> str:
  """Returns the path of the config beside weights; "" if there is no config.

  Besides config.json, google's file names are accepted: forks of
  pytorch-transformers use them, with transformers' meaning of the keys.
  """
  folder = folder_of(path)
  names = (CONFIG, *(family.FILE for family in configs.FAMILIES))
  paths = (os.path.join(folder, name) for name in names)
  return next(filter(storage.exists, paths), "")


def config(
  path: str,
  gelu: str = "auto",
  programs: foreign_configs.Programs = foreign_configs.PYTORCH,
) -> foreign_configs.ReadConfig:
  """Returns the config of a model of Hugging Face or of PyTorch.

  Keys without effect on the encoder are ignored; missing keys get transformers'
  defaults.

  Args:
    path: a .json file under any name; or the folder, or the weights, beside
      which the config lies.
    gelu: the value of --gelu.
    programs: the programs that wrote the weights.

  Raises:
    options.InputError: when there is no config, or the config describes an
      encoder that this project does not have.
  """
  weights = os.path.dirname(path) if path.endswith(".json") else path
  path = path if path.endswith(".json") else config_file(path)
  if not path:
    raise options.InputError(
      f"{CONFIG} beside the weights",
      "none",
      "give --albert_config_file or --bert_config_file",
    )
  given = json_files.read_object(path)
  kind = str(given.get("model_type") or _kind(given))
  if kind not in _FAMILIES:
    raise options.InputError(
      f"model_type albert or bert in {path}", repr(kind), "give such a model"
    )
  values = _DEFAULTS[kind] | {
    name: value
    for name, value in given.items()
    if name not in _INERT and _INERT_AT.get(name, ...) != value
  }
  values["hidden_act"] = _activation(values["hidden_act"], path, programs)
  converted = _FAMILIES[kind].from_dict(values, path)
  if programs is foreign_configs.PYTORCH and not _MARKS & given.keys():
    programs = foreign_configs.PYTORCH_FORKS
  equal = converted.embedding_size == converted.hidden_size
  if kind == "albert" and equal and _projects(weights):
    converted = dataclasses.replace(converted, embedding_projection=True)
  return foreign_configs.decided(
    converted, given, given.get("hidden_act"), path, programs, gelu
  )


def _activation(
  name: Any, path: str, programs: foreign_configs.Programs
) -> str:
  """Returns this project's name of an activation function of transformers.

  Args:
    name: transformers' name of the activation.
    path: the config, for the message.
    programs: the programs that wrote the weights.

  Raises:
    options.InputError: for an unknown activation.
  """
  known = {"gelu": foreign_configs.GELUS[programs.gelu], **_ACTIVATIONS}
  if not isinstance(name, str) or name not in known:
    raise options.InputError(
      f"hidden_act in {path} to be one of {', '.join(known)}",
      repr(name),
      "give a model with one of them",
    )
  return known[name]


def _projects(path: str) -> bool:
  """Returns whether the weights contain a projection of the embeddings.

  A projection that is the identity does not count. The result is False if there
  are no weights.

  Args:
    path: a folder, or a file of weights.
  """
  if not (is_weights(path) or has_weights(path)):
    return False
  return f"{_PROJECTION}.weight" in read(path)[0]


def is_own_config(path: str) -> bool:
  """Returns whether the config file has a key that only transformers writes.

  Raises:
    options.InputError: when the file is not a JSON object.
  """
  return bool(_MARKS & json_files.read_object(path).keys())


def family_of(path: str) -> type[configs.AlbertConfig]:
  """Returns the class of the config in a file: AlbertConfig or BertConfig.

  If the file has a name of this project, the name decides; otherwise the keys
  in the file do.

  Args:
    path: path of the config.

  Raises:
    options.InputError: when the file is not a JSON object.
  """
  for family in configs.FAMILIES:
    if os.path.basename(path) == family.FILE:
      return family
  return _FAMILIES[_kind(json_files.read_object(path))]


def _kind(values: Mapping[str, Any]) -> str:
  """Returns "albert" or "bert" for a config.json without the key model_type.

  Configs before 2020 have no model_type; the result follows from other keys.

  Args:
    values: the content of config.json.
  """
  of_albert = {"embedding_size", "inner_group_num", "num_hidden_groups"}
  return "albert" if of_albert & values.keys() else "bert"


def labels(folder: str) -> list[str]:
  """Returns the names in id2label of config.json, in the order of their ids.

  The result is [] without config.json or id2label, and for a model that
  classifies no whole texts. Classifiers of pieces or of choices have weights of
  the same names; they are recognised by the class in config.json's
  `architectures`.

  Raises:
    options.InputError: when config.json or its id2label is damaged.
  """
  path = os.path.join(folder, CONFIG)
  values = json_files.read_object(path) if storage.exists(path) else {}
  names = values.get("id2label") or {}
  kinds = values.get("architectures") or []
  if any("ForSequenceClassification" not in str(kind) for kind in kinds):
    return []
  try:
    return [str(names[key]) for key in sorted(names, key=int)]
  except (LookupError, TypeError, ValueError) as error:
    raise options.InputError(
      f"numbered labels as id2label in {path}", str(error), "mend the file"
    ) from error


def label_type(folder: str) -> str:
  """Returns a classifier's label type, by the rules of transformers.

  config.json's problem_type decides. Without it, a single output is a
  regression, and several outputs are the classes of one label.

  Raises:
    options.InputError: for an unknown problem_type.
  """
  path = os.path.join(folder, CONFIG)
  values = json_files.read_object(path) if storage.exists(path) else {}
  given = values.get("problem_type")
  known = {theirs: ours for ours, (_, theirs) in _HEADS.items() if theirs}
  if given and given not in known:
    raise options.InputError(
      f"problem_type in {path} to be one of {', '.join(known)}",
      repr(given),
      "mend the file",
    )
  if given:
    return known[given]
  single_output = len(values.get("id2label") or ()) == 1
  return problems.REGRESSION if single_output else problems.CLASS


def other_head(folder: str) -> str:
  """Returns the class of a model that does not classify whole texts, or "".

  config.json names the class. Such a class is for pieces, choices, or answers
  to questions: an example is BertForTokenClassification. The result is "" for
  any other model.
  """
  path = os.path.join(folder, CONFIG)
  kinds = (
    json_files.read_object(path).get("architectures") or []
    if storage.exists(path)
    else []
  )
  suffixes = (
    "ForTokenClassification",
    "ForMultipleChoice",
    "ForQuestionAnswer",
  )
  return next((str(k) for k in kinds if any(o in str(k) for o in suffixes)), "")


def files(path: str) -> list[str]:
  """Returns the paths of the weights: one file, or the shards of an index.

  In a folder, model.safetensors is preferred to pytorch_model.bin.

  Args:
    path: a folder, or a file of weights.

  Raises:
    options.InputError: when there are no weights, or the index is damaged.
  """
  if is_weights(path):
    return [path]
  folder = path
  for name in _FILES:
    path = os.path.join(folder, name)
    if storage.exists(path):
      return [path]
    if storage.exists(f"{path}.index.json"):
      return [os.path.join(folder, n) for n in shards(f"{path}.index.json")]
  unreadable = [n for n in _OTHERS if storage.exists(os.path.join(folder, n))]
  raise options.InputError(
    f"model.safetensors or pytorch_model.bin in {folder}",
    f"{', '.join(unreadable)} alone" if unreadable else "neither",
    "load it with transformers 4 and from_tf=True or from_flax=True, and save it "
    "with save_pretrained"
    if unreadable
    else "save the model with transformers' save_pretrained",
  )


def shards(index: str) -> list[str]:
  """Returns the file names of the weights that an index lists, sorted.

  Each name occurs once.

  Args:
    index: path of a file such as model.safetensors.index.json.

  Raises:
    options.InputError: when the index is damaged or names too many files, and
      when a name has no ending of weights or leads to another folder.
  """
  table = json_files.read_object(index).get("weight_map")
  json_files.require_type(table, dict[str, str], f"weight_map in {index}")
  names = sorted(set(table.values()))  # type: ignore[union-attr]
  wrong = [n for n in names if os.path.basename(n) != n or not is_weights(n)]
  if wrong or not 0 < len(names) <= _MOST_SHARDS:
    raise options.InputError(
      f"names of 1 to {_MOST_SHARDS} files of weights in {index}",
      repr(wrong[0])[:80] if wrong else f"{len(names)}",
      "do not trust where it comes from" if wrong else "copy it again",
    )
  return names


def read(folder: str) -> tuple[dict[str, np.ndarray], list[str]]:
  """Reads a model's weights; returns them, and the names of skipped entries.

  The weights are name → array. The names are those of `tables`; a weight that
  `tables` does not know has its name in the file, without prefix. Kernels are
  transposed to [in, out]. Two kinds of entries are skipped: position numbers,
  and a masked-LM head that is not tied to the word embeddings. An identity
  projection of the embeddings is left out, and its name is not returned.

  Args:
    folder: a folder, or a file of weights.

  Raises:
    options.InputError: when a file is missing or damaged.
  """
  arrays: dict[str, np.ndarray] = {}
  for path in files(folder):
    for name, array in tensor_files.read(path).items():
      arrays[_renamed(name)] = _turned(name, array)
  skipped = [name for name in BUFFERS if arrays.pop(name, None) is not None]
  for place in MASKED_LM:
    skipped += _untie(arrays, place)
  _drop_idle_projection(arrays)
  return arrays, skipped


def _renamed(name: str) -> str:
  """Returns a weight's name in the form that transformers writes today.

  Prefixes of the model's class are removed, and old endings replaced:
  `bert.encoder.…LayerNorm.gamma` becomes `encoder.…LayerNorm.weight`.
  """
  for prefix in _PREFIXES:
    name = name.removeprefix(prefix)
  for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
    if name.endswith(old):
      return name.removesuffix(old) + new
  return name


def _turned(name: str, array: np.ndarray) -> np.ndarray:
  """Returns a weight with the dimensions of a kernel exchanged.

  PyTorch has kernels [out, in], TensorFlow [in, out]. Embeddings and vectors
  are returned unchanged.

  Args:
    name: the weight's name, which tells whether it is a kernel.
    array: the weight.
  """
  is_table = name.endswith(("embeddings.weight", "decoder.weight"))
  return array if is_table or array.ndim != 2 else array.T


def _untie(arrays: dict[str, np.ndarray], place: str) -> list[str]:
  """Removes a masked-LM head's copies of weights from `arrays`.

  The copies are decoder.weight, which repeats the word embeddings, and
  decoder.bias, which repeats the head's bias. If a copy differs from the weight
  that it should repeat, the head is not tied to the embeddings as it is in this
  project; then all weights of the head are removed.

  Args:
    arrays: name → weight, which this function changes.
    place: prefix of the head's names.

  Returns:
    the names of a removed head; [] if the head is kept.
  """
  bias = arrays.pop(f"{place}.decoder.bias", None)
  if bias is not None:
    arrays.setdefault(f"{place}.bias", bias)
  kernel = arrays.pop(f"{place}.decoder.weight", None)
  twins = {f"{place}.bias": bias, "embeddings.word_embeddings.weight": kernel}
  if all(
    twin is None or np.array_equal(twin, arrays.get(name, []))
    for name, twin in twins.items()
  ):
    return []
  own = sorted(name for name in arrays if name.startswith(f"{place}."))
  for name in own:
    del arrays[name]
  return [f"{place}.decoder.weight", *own]


def _drop_idle_projection(arrays: dict[str, np.ndarray]) -> None:
  """Removes an identity projection of the embeddings from `arrays`, if any.

  transformers' ALBERT has a projection even if the widths are equal; google's
  has none.
  """
  kernel, bias = (arrays.get(f"{_PROJECTION}.{n}") for n in ("weight", "bias"))
  if kernel is None or bias is None:
    return
  if np.array_equal(kernel, np.eye(*kernel.shape)) and not bias.any():
    del arrays[f"{_PROJECTION}.weight"], arrays[f"{_PROJECTION}.bias"]


def write(
  folder: str,
  parts: Mapping[str, Any],
  config: configs.AlbertConfig,
  *,
  problem: problems.Problem | None,
  specials: Mapping[str, int],
) -> None:
  """Writes config.json and model.safetensors in Hugging Face's format.

  Args:
    folder: the folder.
    parts: part → layer; the encoder, and any of the heads "masked_lm",
      "sentence" and "classifier".
    config: the model's shape.
    problem: the meaning of a classifier's or tagger's outputs; None for another
      model. A tagger is written without pooler, as in transformers.
    specials: "pad", "cls" and "sep" → id; {} without a tokenizer.
  """
  kind = _kind_of(config)
  of_pieces = problem is not None and problem.TYPE == problems.ENTITIES
  values = _theirs(config) | {
    "model_type": kind,
    "architectures": [kind.capitalize() + _head(parts, problem)],
    "dtype": "float32",
  }
  if specials:
    values["pad_token_id"] = specials["pad"]
    values["bos_token_id"] = specials["cls"]
    values["eos_token_id"] = specials["sep"]
  if problem:
    values["id2label"] = {str(i): n for i, n in enumerate(problem.names)}
    values["label2id"] = {n: i for i, n in enumerate(problem.names)}
    values["problem_type"] = _HEADS[problem.TYPE][1]
  with storage.writing(os.path.join(folder, CONFIG)) as file:
    json.dump(values, file, ensure_ascii=False, indent=2, sort_keys=True)
    file.write("\n")
  arrays = {
    f"{kind}.{name}" if name.startswith(ENCODER) else name: array
    for name, array in _arrays(parts, config).items()
    if not (of_pieces and name.startswith("pooler."))
  }
  tensor_files.write(os.path.join(folder, WEIGHTS), arrays)


def _kind_of(config: configs.AlbertConfig) -> str:
  """Returns "albert" or "bert", by the class of a config."""
  return next(k for k, c in _FAMILIES.items() if type(config) is c)


def _theirs(config: configs.AlbertConfig) -> dict[str, Any]:
  """Returns a config as keys and values of transformers' config."""
  values = json.loads(config.to_json())
  values = {name: value for name, value in values.items() if name in _SHAPE}
  values["layer_norm_eps"] = config.layer_norm_eps
  values["hidden_act"] = _WRITTEN.get(config.hidden_act, config.hidden_act)
  if _kind_of(config) == "albert":
    values["classifier_dropout_prob"] = config.hidden_dropout_prob
  return values


_SHAPE = {f.name for f in dataclasses.fields(configs.AlbertConfig)} - {
  "inert",
  "embedding_projection",  # transformers always has one
}


def _head(parts: Mapping[str, Any], problem: problems.Problem | None) -> str:
  """Returns the end of the name of transformers' class for a model.

  Examples are "ForPreTraining" and "ForTokenClassification"; a model without
  heads is "Model".

  Args:
    parts: part → layer; the encoder and any heads.
    problem: the meaning of a classifier's or tagger's outputs; None for a model
      without such a head.
  """
  if problem:
    return _HEADS[problem.TYPE][0]
  if "masked_lm" in parts:
    return "ForPreTraining" if "sentence" in parts else "ForMaskedLM"
  return "Model"


def _arrays(
  parts: Mapping[str, Any], config: configs.AlbertConfig
) -> dict[str, np.ndarray]:
  """Returns name in transformers → array of a model's weights.

  Kernels are [out, in]. The names have no prefix such as "bert.". An ALBERT
  without a projection of the embeddings gets an identity.
  """
  arrays = {
    name: _turned(name, encoders.merged_heads(name, variable.numpy()))
    for table in tables(parts).values()
    for name, variable in table.items()
  }
  if _kind_of(config) == "albert" and parts["encoder"].projection is None:
    # transformers' ALBERT has a projection at equal widths too.
    arrays[f"{_PROJECTION}.weight"] = np.eye(
      config.hidden_size, dtype=np.float32
    )
    arrays[f"{_PROJECTION}.bias"] = np.zeros(config.hidden_size, np.float32)
  return arrays


def tables(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns part → name in transformers → variable, of a model's parts.

  The parts are "encoder", "pooler", and those heads that `parts` has.

  Args:
    parts: part → layer; the encoder, and any of the heads "masked_lm",
      "sentence" and "classifier".
  """
  encoder = parts["encoder"]
  bert = isinstance(encoder.config, configs.BertConfig)
  pooler = "pooler.dense" if bert else "pooler"
  by_part = {
    "encoder": dict(_encoder(encoder, bert)),
    "pooler": dict(_layer(pooler, encoder.pooler)),
  }
  if head := parts.get("masked_lm"):
    place = "cls.predictions" if bert else "predictions"
    inner = f"{place}.transform" if bert else place
    by_part["masked_lm"] = {
      **dict(_layer(f"{inner}.dense", head.dense)),
      **dict(_layer(f"{inner}.LayerNorm", head.layer_norm)),
      f"{place}.bias": head.bias,
    }
  if sentence := parts.get("sentence"):
    name = "cls.seq_relationship" if bert else "sop_classifier.classifier"
    by_part["sentence"] = dict(_layer(name, sentence))
  if classifier := parts.get("classifier"):
    by_part["classifier"] = dict(_layer("classifier", classifier))
  return by_part


def _encoder(encoder: Any, bert: bool) -> Iterator[tuple[str, Any]]:
  """Yields (name in transformers, variable) of an encoder without its pooler.

  Args:
    encoder: the encoder layer, or its blueprint.
    bert: whether the names are BERT's; otherwise they are ALBERT's.
  """
  yield "embeddings.word_embeddings.weight", encoder.embedding_table
  embeddings = encoder.embedding_variables()
  for name in ("position_embeddings", "token_type_embeddings"):
    yield f"embeddings.{name}.weight", embeddings[name]
  yield "embeddings.LayerNorm.weight", embeddings["LayerNorm/gamma"]
  yield "embeddings.LayerNorm.bias", embeddings["LayerNorm/beta"]
  if encoder.projection:
    yield from _layer(_PROJECTION, encoder.projection)
  for group, blocks in enumerate(encoder.groups):
    for inner, block in enumerate(blocks):
      place = (
        f"encoder.layer.{group}"
        if bert
        else f"encoder.albert_layer_groups.{group}.albert_layers.{inner}"
      )
      names = _BERTS_BLOCK if bert else _ALBERTS_BLOCK
      for part, layer in block.parts().items():
        yield from _layer(f"{place}.{names[part]}", layer)


# EncoderBlock.parts() → transformers' name.
_ALBERTS_BLOCK = {
  "query": "attention.query",
  "key": "attention.key",
  "value": "attention.value",
  "attention_output": "attention.dense",
  "attention_norm": "attention.LayerNorm",
  "intermediate": "ffn",
  "output": "ffn_output",
  "output_norm": "full_layer_layer_norm",
}
_BERTS_BLOCK = {
  "query": "attention.self.query",
  "key": "attention.self.key",
  "value": "attention.self.value",
  "attention_output": "attention.output.dense",
  "attention_norm": "attention.output.LayerNorm",
  "intermediate": "intermediate.dense",
  "output": "output.dense",
  "output_norm": "output.LayerNorm",
}


def _layer(place: str, layer: Any) -> Iterator[tuple[str, Any]]:
  """Yields (name, variable) for the weights of a dense layer or layer norm.

  Args:
    place: prefix of the names.
    layer: the layer.
  """
  is_norm = hasattr(layer, "gamma")
  yield f"{place}.weight", layer.gamma if is_norm else layer.kernel
  yield f"{place}.bias", layer.beta if is_norm else layer.bias
