"""ALBERT and BERT in plain numpy, computed from another project's arrays.

A conversion is compared with these outputs. To be independent, this code uses
neither the layers nor the tables of names of this project: the formulas are the
papers' (Devlin et al. 2019, Lan et al. 2020), and rules bring the names of
google-research and transformers to one form.
"""

import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from albert_mn.models import configs

# Applied in this order to a name in which dots have replaced the slashes.
_RULES = tuple(
  (re.compile(pattern), new)
  for pattern, new in (
    (r"^bert\.", ""),
    (r"(\.|^)(kernel|gamma|output_weights)$", r"\1weight"),
    (r"(\.|^)(beta|output_bias)$", r"\1bias"),
    (r"_embeddings$", "_embeddings.weight"),
    (r"^(weight|bias)$", r"classifier.\1"),  # run_classifier's output_weights
    (r"^cls\.", ""),
    (r"^predictions\.transform\.", "predictions."),
    (r"^sop_classifier\.classifier\.", "seq_relationship."),
    (r"^pooler\.dense\.", "pooler."),
    # ALBERT's blocks: groups.group.inner, BERT's: layer.number.
    (r"transformer\.group_(\d+)\.inner_group_(\d+)\.", r"block.\1.\2."),
    (r"albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.", r"block.\1.\2."),
    (r"encoder\.layer[._](\d+)\.", r"encoder.block.\1.0."),
    (r"attention_1\.", "attention."),
    (r"attention\.(query|key|value)\.", r"attention.self.\1."),
    (r"attention\.dense\.", "attention.output.dense."),
    (r"attention\.LayerNorm\.", "attention.output.LayerNorm."),
    (r"(\.\d+)\.LayerNorm\.", r"\1.attention.output.LayerNorm."),
    (
      r"(\.\d+)\.(LayerNorm_1|full_layer_layer_norm)\.",
      r"\1.output.LayerNorm.",
    ),
    (
      r"(\.\d+)\.(ffn_1\.intermediate\.output\.dense|ffn_output)\.",
      r"\1.output.dense.",
    ),
    (r"(\.\d+)\.(ffn_1\.intermediate\.dense|ffn)\.", r"\1.intermediate.dense."),
  )
)


def one_form(name: str) -> str:
  """Returns the name of a weight in the form that PlainModel uses.

  `bert/encoder/layer_0/output/dense/kernel` becomes
  `encoder.block.0.0.output.dense.weight`.
  """
  name = name.replace("/", ".")
  for pattern, new in _RULES:
    name = pattern.sub(new, name)
  return name


class PlainModel:
  """A model that computes in float64 from arrays and config, without dropout.

  Args:
    arrays: name → array, with google-research's or transformers' names;
      kernels are [in, out], without a dimension for the heads.
    config: the model's shape.
    of_pieces: whether the classifier reads every position, as a tagger, in
      place of the pooled output.
  """

  def __init__(
    self,
    arrays: Mapping[str, np.ndarray],
    config: configs.AlbertConfig,
    of_pieces: bool = False,
  ) -> None:
    self._of_pieces = of_pieces
    self._arrays = {one_form(name): array for name, array in arrays.items()}
    self._config = config

  def outputs(
    self, input_ids: np.ndarray, input_mask: np.ndarray
  ) -> dict[str, np.ndarray]:
    """Returns the outputs of all parts that have weights, in float64.

    Args:
      input_ids: [batch, length], all of segment 0.
      input_mask: [batch, length], 0 on padding.

    Returns:
      "sequence", [positions without padding, hidden], and, if the model has the
        part, "masked_lm", [the same positions, vocab_size], "pooled", [batch,
        hidden], "sentence", [batch, 2], and "classifier", [batch, labels], or
        [the same positions, labels] for a tagger. All but "sequence" and
        "pooled" are logits.
    """
    sequence = self._encoded(input_ids, input_mask)
    real = sequence[input_mask.astype(bool)]
    outputs = {"sequence": real}
    if self._has("predictions.dense.weight"):
      outputs["masked_lm"] = self._masked_lm(real)
    if self._has("pooler.weight"):
      outputs["pooled"] = np.tanh(self._dense("pooler", sequence[:, 0]))
    for name, place, read in (
      ("sentence", "seq_relationship", outputs.get("pooled")),
      (
        "classifier",
        "classifier",
        real if self._of_pieces else outputs.get("pooled"),
      ),
    ):
      if read is not None and self._has(f"{place}.weight"):
        outputs[name] = self._dense(place, read)
    return outputs

  def _has(self, name: str) -> bool:
    return name in self._arrays

  def _of(self, name: str) -> np.ndarray:
    return self._arrays[name].astype(np.float64)

  def _dense(self, place: str, value: np.ndarray) -> np.ndarray:
    return value @ self._of(f"{place}.weight") + self._of(f"{place}.bias")

  def _norm(self, place: str, value: np.ndarray) -> np.ndarray:
    """Returns the layer norm of `value` (Ba et al. 2016).

    Args:
      place: prefix of the names of the weights.
      value: [..., hidden].
    """
    centred = value - value.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    scaled = centred / np.sqrt(variance + self._config.layer_norm_eps)
    return scaled * self._of(f"{place}.weight") + self._of(f"{place}.bias")

  def _activated(self, value: np.ndarray) -> np.ndarray:
    """Returns the config's activation function of `value`.

    The two forms of gelu are those of Hendrycks and Gimpel 2016.
    """
    kind = self._config.hidden_act
    if kind == "gelu":
      inner = np.sqrt(2 / np.pi) * (value + 0.044715 * value**3)
      return value * 0.5 * (1 + np.tanh(inner))
    if kind == "gelu_erf":
      return value * 0.5 * (1 + tf.math.erf(value / np.sqrt(2)).numpy())
    if kind == "relu":
      return np.maximum(value, 0)
    return np.tanh(value) if kind == "tanh" else value  # "linear"

  def _encoded(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    place, config = "embeddings", self._config
    value = self._of(f"{place}.word_embeddings.weight")[ids]
    value += self._of(f"{place}.position_embeddings.weight")[: ids.shape[1]]
    value += self._of(f"{place}.token_type_embeddings.weight")[0]
    value = self._norm(f"{place}.LayerNorm", value)
    if config.projects_embeddings:
      value = self._dense("encoder.embedding_hidden_mapping_in", value)
    away = np.where(mask[:, None, None, :] > 0, 0.0, -np.inf)
    of_a_group = config.num_hidden_layers // config.num_hidden_groups
    for layer in range(config.num_hidden_layers):
      for inner in range(config.inner_group_num):
        place = f"encoder.block.{layer // of_a_group}.{inner}"
        value = self._block(place, value, away)
    return value

  def _block(
    self, place: str, value: np.ndarray, away: np.ndarray
  ) -> np.ndarray:
    attended = self._attention(f"{place}.attention", value, away)
    attended = self._dense(f"{place}.attention.output.dense", attended)
    value = self._norm(f"{place}.attention.output.LayerNorm", value + attended)
    inner = self._activated(self._dense(f"{place}.intermediate.dense", value))
    outer = self._dense(f"{place}.output.dense", inner)
    return self._norm(f"{place}.output.LayerNorm", value + outer)

  def _attention(
    self, place: str, value: np.ndarray, away: np.ndarray
  ) -> np.ndarray:
    """Returns scaled dot-product attention (Vaswani et al. 2017, sec. 3.2).

    The output projection is not applied.

    Args:
      place: prefix of the names of the weights.
      value: [batch, length, hidden], like the result.
      away: [batch, 1, 1, length], added to the scores: 0, or -inf on padding.
    """
    batch, length, width = value.shape
    heads = self._config.num_attention_heads

    def split(name: str) -> np.ndarray:
      projected = self._dense(f"{place}.self.{name}", value)
      heads_split = projected.reshape(batch, length, heads, width // heads)
      return heads_split.transpose(0, 2, 1, 3)  # [batch, heads, length, d]

    scores = split("query") @ split("key").transpose(0, 1, 3, 2)
    scores = scores / np.sqrt(width // heads) + away
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    together = (weights @ split("value")).transpose(0, 2, 1, 3)
    return together.reshape(batch, length, width)

  def _masked_lm(self, sequence: np.ndarray) -> np.ndarray:
    value = self._activated(self._dense("predictions.dense", sequence))
    value = self._norm("predictions.LayerNorm", value)
    table = self._of("embeddings.word_embeddings.weight")
    return value @ table.T + self._of("predictions.bias")
