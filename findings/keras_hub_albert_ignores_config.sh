#!/usr/bin/env bash
# keras-hub 0.32.0: an ALBERT from a Hugging Face directory has tanh-GELU,
# whatever hidden_act says, and a random classifier or masked-LM head.
#
# AlbertBackbone.from_preset reads config.json and model.safetensors. The key
# hidden_act is not read: gelu_new, gelu, relu and silu give the same outputs.
# AlbertTextClassifier.from_preset and AlbertMaskedLM.from_preset load the
# encoder, but not `classifier.*` and `predictions.*` of the same file: their
# heads depend on the random seed. Neither is said. Seen on 2026-12-01, an
# ALBERT of 2 layers with 16 units:
#
#   hidden_act gelu_new, gelu, relu, silu    the same outputs to the last bit
#   classifier.bias [5, 0, -5] in the file   logits near 0, others for each seed
#
# In the product: a table in docs/migration.md.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  keras-hub==0.32.0 keras==3.15.1 tensorflow==2.20.0 tensorflow-text==2.20.1 \
  safetensors==0.8.0
cd "$folder"
KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import json
import pathlib

import keras
import keras_hub
import numpy as np
from safetensors import numpy as safetensors_numpy

VOCABULARY, EMBEDDING, UNITS, INNER, LENGTH = 50, 8, 16, 32, 12
LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0."


def random_weights():
  generator = np.random.default_rng(0)

  def normal(*shape):
    return generator.normal(scale=0.3, size=shape).astype(np.float32)

  weights = {
    "albert.embeddings.word_embeddings.weight": normal(VOCABULARY, EMBEDDING),
    "albert.embeddings.position_embeddings.weight": normal(LENGTH, EMBEDDING),
    "albert.embeddings.token_type_embeddings.weight": normal(2, EMBEDDING),
    "classifier.bias": np.array([5, 0, -5], np.float32),
    "predictions.bias": normal(VOCABULARY),
  }
  dense = {
    "albert.encoder.embedding_hidden_mapping_in": (UNITS, EMBEDDING),
    "albert.pooler": (UNITS, UNITS), "classifier": (3, UNITS),
    "predictions.dense": (EMBEDDING, UNITS),
    LAYER + "ffn": (INNER, UNITS), LAYER + "ffn_output": (UNITS, INNER),
  }
  for name in ("query", "key", "value", "dense"):
    dense[f"{LAYER}attention.{name}"] = (UNITS, UNITS)
  for name, shape in dense.items():
    weights[name + ".weight"] = normal(*shape)
    weights.setdefault(name + ".bias", normal(shape[0]))
  norms = {
    "albert.embeddings.LayerNorm": EMBEDDING, "predictions.LayerNorm": EMBEDDING,
    LAYER + "attention.LayerNorm": UNITS,
    LAYER + "full_layer_layer_norm": UNITS,
  }
  for name, size in norms.items():
    weights[name + ".weight"] = np.ones(size, np.float32)
    weights[name + ".bias"] = np.zeros(size, np.float32)
  return weights


def directory(activation):
  path = pathlib.Path(activation)
  path.mkdir()
  config = dict(
      model_type="albert", architectures=["AlbertForSequenceClassification"],
      vocab_size=VOCABULARY, embedding_size=EMBEDDING, hidden_size=UNITS,
      num_hidden_layers=2, num_hidden_groups=1, inner_group_num=1,
      num_attention_heads=2, intermediate_size=INNER, hidden_act=activation,
      hidden_dropout_prob=0, attention_probs_dropout_prob=0, num_labels=3,
      max_position_embeddings=LENGTH, type_vocab_size=2, layer_norm_eps=1e-12)
  (path / "config.json").write_text(json.dumps(config))
  safetensors_numpy.save_file(
      random_weights(), path / "model.safetensors", {"format": "pt"})
  return str(path)


ids = np.array([[2, 7, 8, 9, 3]])
inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids > 0}
outputs = []
for activation in ("gelu_new", "gelu", "relu", "silu"):
  model = keras_hub.models.AlbertBackbone.from_preset(directory(activation))
  outputs.append(np.array(model(inputs)["sequence_output"]))
  print(activation, outputs[-1][0, 0, :3])
  assert np.array_equal(outputs[-1], outputs[0])

classes, words = [], []
for seed in (1, 2):
  keras.utils.set_random_seed(seed)
  model = keras_hub.models.AlbertTextClassifier.from_preset(
      "gelu_new", num_classes=3, preprocessor=None)
  classes.append(np.array(model(inputs))[0])
  model = keras_hub.models.AlbertMaskedLM.from_preset(
      "gelu_new", preprocessor=None)
  words.append(np.array(
      model({**inputs, "mask_positions": np.array([[1]])}))[0, 0])
  print(f"seed {seed}: classifier", classes[-1], "masked LM", words[-1][:3])
assert np.abs(classes).max() < 1, "the file's bias of 5 is read"
assert not np.allclose(*classes) and not np.allclose(*words)
PYTHON
