"""TF 1 checkpoints of google-research's ALBERT and BERT, read and written.

TF Hub modules have the same names, or the same names below `module/`.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from albert_mn.models import configs, encoders, model_directory, plain_paths
from data_prep.base import options

# Prefix of the encoder's weights.
_SCOPE = "bert/"
ENCODER = (_SCOPE,)
_WORDS = "embeddings/word_embeddings"
# Last part of the names of entries that are no weights: google's optimizers.
SLOTS = {"global_step", "lamb_m", "lamb_v", "adam_m", "adam_v"}
# The variables of tf.train's optimizers.
SLOTS |= {"Adam", "Adam_1", "beta1_power", "beta2_power"}
# Weights of shape [labels, hidden] in google-research, [hidden, labels] here.
_TURNED = ("cls/seq_relationship/output_weights", "output_weights")


def read(path: str) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns the weights of a checkpoint, and lines on skipped entries.

  The weights are a dict by the names that `tables` gives; output weights of
  classifier and sentence head are transposed to [hidden, labels]. A line such
  as "25 x adam_m" counts the entries of an optimizer.

  Raises:
    options.InputError: when the checkpoint is damaged.
  """
  names = model_directory.held_names(path)
  slots = collections.Counter(_last(name) for name in names)
  weights = [name for name in names if _last(name) not in SLOTS]
  scope = _scope(weights)
  try:
    prefix = plain_paths.plain(model_directory.weights_prefix(path))
    reader = tf.train.load_checkpoint(prefix)
    arrays = {name: reader.get_tensor(name) for name in weights}
  except model_directory.UNREADABLE as error:
    raise options.InputError(
      f"a whole TF 1 checkpoint at {path}",
      str(error).split("\n", maxsplit=1)[0],
      "copy it again",
    ) from error
  arrays = {_upstreams_name(name, scope): a for name, a in arrays.items()}
  arrays |= {n: arrays[n].T for n in _TURNED if n in arrays}
  skipped = [f"{slots[n]} x {n}" for n in sorted(SLOTS) if slots[n]]
  return arrays, skipped


def _scope(names: Sequence[str]) -> str:
  """Returns the name prefix of the only encoder, such as `module/bert/`.

  google-research's own prefix is `bert/`. A TF Hub module loaded in a graph,
  and programs with a scope of their own, put another scope before it. The
  result is `bert/` if there is no encoder, or several.

  Args:
    names: the names of all weights.
  """
  scopes = [
    name.removesuffix(_WORDS) for name in names if name.endswith(_WORDS)
  ]
  return scopes[0] if len(scopes) == 1 else _SCOPE


def _upstreams_name(name: str, scope: str) -> str:
  """Returns the name of a weight in google-research's run_pretraining.py.

  With the scope `module/bert/`, `module/bert/pooler/dense/bias` becomes
  `bert/pooler/dense/bias`, and `module/cls/predictions/output_bias` becomes
  `cls/predictions/output_bias`.

  Args:
    name: the name in the checkpoint.
    scope: the result of `_scope`.
  """
  if not scope:
    inside = name.startswith(("embeddings/", "encoder/", "pooler/"))
    return f"{_SCOPE}{name}" if inside else name
  if name.startswith(scope):
    return _SCOPE + name.removeprefix(scope)
  outer = scope.rstrip("/").rpartition("/")[0]
  return name.removeprefix(f"{outer}/") if outer else name


def write(
  path: str,
  parts: Mapping[str, Any],
  config: configs.AlbertConfig,
  of_pieces: bool = False,
) -> None:
  """Writes a checkpoint that google-research's init_checkpoint reads.

  Args:
    path: the checkpoint's prefix.
    parts: part → layer; the encoder, and any of the heads "masked_lm",
      "sentence" and "classifier".
    config: the model's shape.
    of_pieces: whether the classifier reads every position. If so, no pooler is
      written; readers recognise a tagger by this.

  Raises:
    options.InputError: for a model that google-research's code cannot compute:
      one with the exact gelu, with a layer_norm_eps other than 1e-12, or with a
      projection of embeddings that are as wide as the layers.
  """
  if config.hidden_act == "gelu_erf":
    raise options.InputError(
      "a hidden_act that google-research's code computes: its gelu is the tanh "
      "form",
      "gelu_erf, the exact form, whose outputs would come out otherwise there",
      "export it as huggingface",
    )
  if config.layer_norm_eps != 1e-12:
    raise options.InputError(
      "a layer_norm_eps of 1e-12, which stands in google-research's code",
      f"{config.layer_norm_eps}",
      "export it as huggingface",
    )
  if config.embedding_projection:
    raise options.InputError(
      "no projection of embeddings that are as wide as the layers, as in "
      "google-research's code",
      "one, of a model of transformers'",
      "export it as huggingface",
    )
  arrays = {
    name: _upstreams_shape(name, variable.numpy())
    for part, table in tables(parts).items()
    for name, variable in table.items()
    if not (of_pieces and part == "pooler")
  }
  names = sorted(arrays)
  tf.raw_ops.SaveV2(
    prefix=path,
    tensor_names=names,
    shape_and_slices=[""] * len(names),
    tensors=[arrays[name] for name in names],
  )


def _upstreams_shape(name: str, array: np.ndarray) -> np.ndarray:
  """Returns a weight in the shape of google-research's code.

  Output weights of a head become [labels, hidden]; the heads of attention
  weights are merged.
  """
  return array.T if name in _TURNED else encoders.merged_heads(name, array)


def _last(name: str) -> str:
  """Returns the part of a name after the last slash."""
  return name.rsplit("/", 1)[-1]


def tables(
  parts: Mapping[str, Any], by_group: bool = False
) -> dict[str, dict[str, Any]]:
  """Returns part → google's name → variable, of a model's parts.

  The parts are "encoder", "pooler", and those heads that `parts` has. The names
  are those of google-research's modeling.py, run_pretraining.py and
  run_classifier.py.

  Args:
    parts: part → layer; the encoder, and any of the heads "masked_lm",
      "sentence" and "classifier".
    by_group: whether BERT's layers have names of ALBERT's groups.
  """
  encoder = parts["encoder"]
  bert = isinstance(encoder.config, configs.BertConfig) and not by_group
  by_part = {
    "encoder": dict(_encoder(encoder, bert)),
    "pooler": dict(_dense("bert/pooler/dense", encoder.pooler)),
  }
  if head := parts.get("masked_lm"):
    by_part["masked_lm"] = {
      **dict(_dense("cls/predictions/transform/dense", head.dense)),
      **dict(_norm("cls/predictions/transform/LayerNorm", head.layer_norm)),
      "cls/predictions/output_bias": head.bias,
    }
  if sentence := parts.get("sentence"):
    by_part["sentence"] = {
      "cls/seq_relationship/output_weights": sentence.kernel,
      "cls/seq_relationship/output_bias": sentence.bias,
    }
  if classifier := parts.get("classifier"):
    by_part["classifier"] = {
      "output_weights": classifier.kernel,
      "output_bias": classifier.bias,
    }
  return by_part


def _encoder(encoder: Any, bert: bool) -> Iterator[tuple[str, Any]]:
  """Yields (google's name, variable) of an encoder without its pooler.

  Args:
    encoder: the encoder layer, or its blueprint.
    bert: whether the names are BERT's; otherwise they are ALBERT's.
  """
  yield "bert/embeddings/word_embeddings", encoder.embedding_table
  yield from _named("bert/embeddings", encoder.embedding_variables())
  if encoder.projection:
    name = "bert/encoder/embedding_hidden_mapping_in"
    yield from _dense(name, encoder.projection)
  for group, blocks in enumerate(encoder.groups):
    for inner, block in enumerate(blocks):
      if bert:
        yield from _berts_block(f"bert/encoder/layer_{group}", block)
      else:
        place = f"bert/encoder/transformer/group_{group}/inner_group_{inner}"
        yield from _alberts_block(place, block)


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
