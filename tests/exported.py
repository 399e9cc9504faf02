"""Makes small models to export, with large random weights."""

import pathlib
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from albert_mn.models import configs, model_directory, pretraining
from albert_mn.tasks import classifier, tagging

LABELS = ("спорт", "улс төр", "эдийн засаг")
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
# Type of the labels → the names of the outputs, and the manifest's parameters.
KINDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
  "class": (LABELS, dict(label_type="class", temperature=2.5)),
  "multi_label": (LABELS, dict(label_type="multi_label", temperature=0.4)),
  "regression": (
    ("value",),
    dict(
      label_type="regression", standardised_by=dict(mean=37.5, deviation=12.25)
    ),
  ),
}
LENGTH = 24
SHAPE: dict[str, Any] = dict(
  vocab_size=400,
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=32,
  max_position_embeddings=32,
  type_vocab_size=2,
)
SHAPES: dict[str, configs.AlbertConfig] = {
  "albert": configs.AlbertConfig(
    embedding_size=8, num_hidden_groups=2, inner_group_num=2, **SHAPE
  ),
  "equal_widths": configs.AlbertConfig(embedding_size=16, **SHAPE),
  "projected": configs.AlbertConfig(
    embedding_size=16, embedding_projection=True, **SHAPE
  ),
  "bert": configs.BertConfig(**SHAPE),
}


def _scatter(model: Any) -> None:
  """Adds normal random numbers of deviation 0.3 to all weights of a model.

  They are the same in each call for models of the same shape.
  """
  for seed, variable in enumerate(model.variables):
    noise = tf.random.stateless_normal(variable.shape, [seed, 7])
    variable.assign_add(0.3 * noise)


def _balance(model: classifier.Classifier) -> None:
  """Scales a head so that every tag is the most probable one somewhere.

  With random weights one tag would be the most probable everywhere.
  """
  ids = tf.range(model.encoder.config.vocab_size)[: 8 * LENGTH]
  ids = tf.reshape(ids, [8, LENGTH])
  hidden = model.encoder(ids, tf.ones_like(ids), 0 * ids).sequence_output
  head = model.classifier
  head.kernel.assign(8 * head.kernel)
  head.bias.assign(-tf.reduce_mean(hidden @ head.kernel, [0, 1]))


def save_classifier(
  folder: pathlib.Path,
  config: configs.AlbertConfig,
  tokenizer_file: str,
  labels: Sequence[str] = LABELS,
  kind: str = classifier.KIND,
  **parameters: Any,
) -> str:
  """Writes the model directory of a classifier; returns its path.

  Args:
    folder: the model directory.
    config: the shape of the encoder.
    tokenizer_file: the tokenizer to copy.
    labels: the names of the outputs.
    kind: the manifest's kind, a classifier's or a tagger's.
    **parameters: further parameters for the manifest, or other values of
      max_seq_length (by default LENGTH) and do_lower_case (False).
  """
  model = classifier.Classifier(config, len(labels), seed=1)
  _scatter(model)
  if kind == tagging.KIND:
    _balance(model)
  model_directory.save(
    str(folder),
    kind,
    config=config,
    parts=model.parts(),
    tokenizer_file=tokenizer_file,
    parameters=dict(max_seq_length=LENGTH, do_lower_case=False) | parameters,
    counts=dict(global_step=12),
    inputs=dict(training_rows="0123456789abcdef0123"),
    labels=labels,
  )
  return str(folder)


def save_tagger(
  folder: pathlib.Path, config: configs.AlbertConfig, tokenizer_file: str
) -> str:
  """Writes the model directory of a tagger; returns its path."""
  return save_classifier(
    folder,
    config,
    tokenizer_file,
    TAGS,
    kind=tagging.KIND,
    label_type="entities",
  )


def save_pretrained(
  folder: pathlib.Path, config: configs.AlbertConfig, tokenizer_file: str
) -> str:
  """Writes the model directory of a pretrained model; returns its path."""
  model = pretraining.PretrainingModel(config, seed=1)
  _scatter(model)
  model_directory.save(
    str(folder),
    "pretrained_model",
    config=config,
    parts=model.parts(),
    tokenizer_file=tokenizer_file,
    parameters=dict(random_seed=1, do_lower_case=False),
    counts=dict(global_step=7),
    inputs={},
  )
  return str(folder)
