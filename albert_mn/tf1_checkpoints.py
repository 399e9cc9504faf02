"""google-research's TF 1 checkpoints, ALBERT's and BERT's: names to variables."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn import configs, pretraining
from data_prep import options

# What a training checkpoint holds beside weights.
_LEFT_OVER = ("global_step", "/lamb_m", "/lamb_v", "/adam_m", "/adam_v")


def read(path: str) -> dict[str, np.ndarray]:
  """Returns the variables of a checkpoint by name.

  Raises:
    options.InputError: when there is none.
  """
  try:
    reader = tf.train.load_checkpoint(path)
  except (tf.errors.OpError, ValueError) as error:
    raise options.InputError(
      "a TF 1 checkpoint (the path without .index)",
      f"none at {path!r}",
      "mend the path",
    ) from error
  return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def assign(
  model: pretraining.PretrainingModel, arrays: dict[str, np.ndarray]
) -> list[str]:
  """Copies the arrays into the model; returns the names of what is left over.

  Raises:
    options.InputError: when a weight is missing, unused or of another shape.
  """
  table = dict(_table(model))
  left = [n for n in arrays if any(part in n for part in _LEFT_OVER)]
  unused = sorted(set(arrays) - set(table) - set(left))
  missing = sorted(set(table) - set(arrays))
  if unused or missing:
    raise options.InputError(
      "a checkpoint with exactly the weights of this configuration",
      f"missing {missing[:3]}, unused {unused[:3]}",
      "give the configuration it was trained with",
    )
  for name, variable in table.items():
    array = arrays[name]
    if name.endswith("seq_relationship/output_weights"):
      array = array.T  # [2, hidden] there
    if array.size != variable.shape.num_elements():
      raise options.InputError(
        f"{name} with the size of {tuple(variable.shape)}",
        f"{array.shape}",
        "give the configuration it was trained with",
      )
    # Attention kernels are [hidden, hidden] there, [hidden, heads, d] here.
    variable.assign(array.reshape(variable.shape))
  return left


def _table(
  model: pretraining.PretrainingModel,
) -> Iterator[tuple[str, Any]]:
  """Yields upstream's name (modeling.py, run_pretraining.py) and variable."""
  encoder, head = model.encoder, model.masked_lm
  yield "bert/embeddings/word_embeddings", encoder.embedding_table
  yield from _named("bert/embeddings", encoder.embedding_variables())
  if encoder.projection:
    name = "bert/encoder/embedding_hidden_mapping_in"
    yield from _dense(name, encoder.projection)
  for group, blocks in enumerate(encoder.groups):
    for inner, block in enumerate(blocks):
      if isinstance(encoder.config, configs.BertConfig):
        yield from _berts_block(f"bert/encoder/layer_{group}", block)
      else:
        place = f"bert/encoder/transformer/group_{group}/inner_group_{inner}"
        yield from _alberts_block(place, block)
  yield from _dense("bert/pooler/dense", encoder.pooler)
  yield from _dense("cls/predictions/transform/dense", head.dense)
  yield from _norm("cls/predictions/transform/LayerNorm", head.layer_norm)
  yield "cls/predictions/output_bias", head.bias
  yield "cls/seq_relationship/output_weights", model.sentence.kernel
  yield "cls/seq_relationship/output_bias", model.sentence.bias


def _named(place: str, variables: dict[str, Any]) -> Iterator[tuple[str, Any]]:
  for name, variable in variables.items():
    yield f"{place}/{name}", variable


def _dense(place: str, layer: Any) -> Iterator[tuple[str, Any]]:
  yield f"{place}/kernel", layer.kernel
  yield f"{place}/bias", layer.bias


def _norm(place: str, layer: Any) -> Iterator[tuple[str, Any]]:
  yield f"{place}/gamma", layer.gamma
  yield f"{place}/beta", layer.beta


def _alberts_block(place: str, block: Any) -> Iterator[tuple[str, Any]]:
  parts = block.parts()
  attention = f"{place}/attention_1"
  for name in ("query", "key", "value"):
    yield from _dense(f"{attention}/self/{name}", parts[name])
  yield from _dense(f"{attention}/output/dense", parts["attention_output"])
  yield from _norm(f"{place}/LayerNorm", parts["attention_norm"])
  middle = f"{place}/ffn_1/intermediate"
  yield from _dense(f"{middle}/dense", parts["intermediate"])
  yield from _dense(f"{middle}/output/dense", parts["output"])
  yield from _norm(f"{place}/LayerNorm_1", parts["output_norm"])


def _berts_block(place: str, block: Any) -> Iterator[tuple[str, Any]]:
  parts = block.parts()
  for name in ("query", "key", "value"):
    yield from _dense(f"{place}/attention/self/{name}", parts[name])
  attention = f"{place}/attention/output"
  yield from _dense(f"{attention}/dense", parts["attention_output"])
  yield from _norm(f"{attention}/LayerNorm", parts["attention_norm"])
  yield from _dense(f"{place}/intermediate/dense", parts["intermediate"])
  yield from _dense(f"{place}/output/dense", parts["output"])
  yield from _norm(f"{place}/output/LayerNorm", parts["output_norm"])
