"""Hugging Face's directories of ALBERT and BERT: config and weights to ours.

Names are those that transformers writes for PyTorch, from its first releases
(gamma, beta, position_ids) to 5.17.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from albert_mn import configs, tensor_files
from data_prep import options, storage

CONFIG, TOKENIZER = "config.json", "spiece.model"

# After the family's name, which is left out, an encoder's weights begin so.
ENCODER = ("embeddings.", "encoder.", "pooler.")
_PREFIXES = ("albert.", "bert.")
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_PROJECTION = "encoder.embedding_hidden_mapping_in"

_FAMILIES: dict[str, type[configs.AlbertConfig]] = {
  "albert": configs.AlbertConfig,
  "bert": configs.BertConfig,
}
# transformers' defaults where they are not google-research's.
_DEFAULTS: dict[str, dict[str, Any]] = {
  "albert": {"hidden_act": "gelu_new"},
  "bert": {"hidden_act": "gelu", "type_vocab_size": 2},
}
# transformers' "gelu" is the exact one; google's "gelu" the tanh form.
_ACTIVATIONS = {
  "gelu": "gelu_erf", "gelu_python": "gelu_erf", "gelu_new": "gelu",
  "gelu_pytorch_tanh": "gelu", "relu": "relu", "tanh": "tanh",
  "linear": "linear",
}  # fmt: skip
# Keys that change nothing about the encoder, whatever they say …
_INERT = {
  "_name_or_path", "_num_labels", "architecture", "architectures",
  "attn_implementation", "bos_token_id", "classifier_dropout",
  "classifier_dropout_prob", "dtype", "eos_token_id", "finetuning_task",
  "gradient_checkpointing", "id2label", "label2id", "language", "model_type",
  "name", "num_labels", "output_attentions", "output_hidden_states",
  "output_past", "pad_token_id", "problem_type", "return_dict",
  "task_specific_params", "tokenizer_class", "torch_dtype", "torchscript",
  "transformers_version", "use_cache",
}  # fmt: skip
# … and those that change nothing at this value.
_INERT_AT = {
  "add_cross_attention": False, "chunk_size_feed_forward": 0,
  "is_decoder": False, "is_encoder_decoder": False,
  "position_embedding_type": "absolute", "pruned_heads": {},
  "tie_word_embeddings": True,
}  # fmt: skip


def config(folder: str) -> configs.AlbertConfig:
  """Converts config.json.

  Raises:
    options.InputError: when the encoder is another one than ours computes.
  """
  path = os.path.join(folder, CONFIG)
  values = _json(path)
  kind = str(values.get("model_type"))
  if kind not in _FAMILIES:
    raise options.InputError(
      f"model_type albert or bert in {path}", repr(kind), "give such a model"
    )
  values = _DEFAULTS[kind] | {
    name: value
    for name, value in values.items()
    if name not in _INERT and _INERT_AT.get(name, ...) != value
  }
  activation = values["hidden_act"]
  if activation not in _ACTIVATIONS:
    raise options.InputError(
      f"hidden_act in {path} to be one of {', '.join(_ACTIVATIONS)}",
      repr(activation),
      "give a model with one of them",
    )
  values["hidden_act"] = _ACTIVATIONS[activation]
  return _FAMILIES[kind].from_dict(values, path)


def _json(path: str) -> dict[str, Any]:
  try:
    return dict(json.loads(storage.read_text(path)))
  except (TypeError, ValueError) as error:
    raise options.InputError(
      f"a JSON object in {path}", str(error), "copy it again"
    ) from error


def files(folder: str) -> list[str]:
  """Returns the paths of the weights: one file, or the shards of an index."""
  for name in ("model.safetensors", "pytorch_model.bin"):
    path = os.path.join(folder, name)
    if storage.exists(path):
      return [path]
    if storage.exists(f"{path}.index.json"):
      shards = _json(f"{path}.index.json").get("weight_map", {})
      # The names come from elsewhere: none may lead out of the folder.
      names = sorted({os.path.basename(shard) for shard in shards.values()})
      return [os.path.join(folder, name) for name in names]
  raise options.InputError(
    f"model.safetensors or pytorch_model.bin in {folder}",
    "neither",
    "save the model with transformers' save_pretrained",
  )


def read(folder: str) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns the weights by their name in `tables`, and what was left out.

  Raises:
    options.InputError: when a file is missing or damaged, or the output
      layer is not tied to the word embeddings.
  """
  found: dict[str, np.ndarray] = {}
  for path in files(folder):
    for name, array in tensor_files.read(path).items():
      found[_renamed(name)] = _turned(name, array)
  skipped = [name for name in _BUFFERS if found.pop(name, None) is not None]
  for place in ("predictions", "cls.predictions"):
    _untie(found, place, folder)
  _drop_idle_projection(found)
  return found, skipped


def _renamed(name: str) -> str:
  for prefix in _PREFIXES:
    name = name.removeprefix(prefix)
  for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
    if name.endswith(old):
      return name.removesuffix(old) + new
  return name


def _turned(name: str, array: np.ndarray) -> np.ndarray:
  """[out, in], as PyTorch has kernels, → [in, out]; embeddings stay."""
  is_table = name.endswith(("embeddings.weight", "decoder.weight"))
  return array if is_table or array.ndim != 2 else array.T


def _untie(found: dict[str, np.ndarray], place: str, folder: str) -> None:
  """Takes away the output layer's second names for weights held elsewhere."""
  bias = found.pop(f"{place}.decoder.bias", None)
  if bias is not None:
    found.setdefault(f"{place}.bias", bias)
  kernel = found.pop(f"{place}.decoder.weight", None)
  twins = {f"{place}.bias": bias, "embeddings.word_embeddings.weight": kernel}
  for name, twin in twins.items():
    if twin is not None and not np.array_equal(twin, found.get(name, [])):
      raise options.InputError(
        f"an output layer in {folder} that is tied to the word embeddings",
        "another one",
        "take the model without its masked-LM head",
      )


def _drop_idle_projection(found: dict[str, np.ndarray]) -> None:
  """Drops an identity: ALBERT has it there at equal widths, google's has not."""
  kernel, bias = (found.get(f"{_PROJECTION}.{n}") for n in ("weight", "bias"))
  if kernel is None or bias is None:
    return
  if np.array_equal(kernel, np.eye(*kernel.shape)) and not bias.any():
    del found[f"{_PROJECTION}.weight"], found[f"{_PROJECTION}.bias"]


def tables(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns name → variable of the encoder, its pooler and the given heads.

  Args:
    parts: as PretrainingModel.parts(); the heads may be left out.
  """
  encoder = parts["encoder"]
  bert = isinstance(encoder.config, configs.BertConfig)
  pooler = "pooler.dense" if bert else "pooler"
  found = {
    "encoder": dict(_encoder(encoder, bert)),
    "pooler": dict(_layer(pooler, encoder.pooler)),
  }
  if head := parts.get("masked_lm"):
    place = "cls.predictions" if bert else "predictions"
    inner = f"{place}.transform" if bert else place
    found["masked_lm"] = {
      **dict(_layer(f"{inner}.dense", head.dense)),
      **dict(_layer(f"{inner}.LayerNorm", head.layer_norm)),
      f"{place}.bias": head.bias,
    }
  if sentence := parts.get("sentence"):
    name = "cls.seq_relationship" if bert else "sop_classifier.classifier"
    found["sentence"] = dict(_layer(name, sentence))
  return found


def _encoder(encoder: Any, bert: bool) -> Iterator[tuple[str, Any]]:
  yield "embeddings.word_embeddings.weight", encoder.embedding_table
  others = encoder.embedding_variables()
  for name in ("position_embeddings", "token_type_embeddings"):
    yield f"embeddings.{name}.weight", others[name]
  yield "embeddings.LayerNorm.weight", others["LayerNorm/gamma"]
  yield "embeddings.LayerNorm.bias", others["LayerNorm/beta"]
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
  """Names the two variables of a dense layer or of a layer norm."""
  is_norm = hasattr(layer, "gamma")
  yield f"{place}.weight", layer.gamma if is_norm else layer.kernel
  yield f"{place}.bias", layer.beta if is_norm else layer.bias
