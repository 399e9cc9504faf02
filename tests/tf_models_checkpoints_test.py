"""Tests that tf-models' own checkpoints give the same outputs here."""

import logging
import os
import pathlib
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.modeling import tf_utils
from official.nlp.configs import encoders as encoder_configs
from official.nlp.modeling import layers, models, networks
from official.nlp.tools import export_tfhub_lib
from tensorflow.core.protobuf import trackable_object_graph_pb2

from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import (
  conversion,
  initial_weights,
  tf_models_checkpoints,
)
from albert_mn.models import configs, model_directory, pretraining
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.files import manifest
from tests import running

REFERENCE = pathlib.Path(__file__).parent / "reference"
WIDTH, HEADS, LAYERS, PIECES, LENGTH = 16, 4, 3, 60, 20
SHAPE: dict[str, Any] = {
  "vocab_size": PIECES,
  "hidden_size": WIDTH,
  "num_hidden_layers": LAYERS,
  "num_attention_heads": HEADS,
  "intermediate_size": 24,
  "max_position_embeddings": LENGTH,
  "type_vocab_size": 2,
}
Save = Callable[[Any, str], None]


def _sizes(**more: Any) -> dict[str, Any]:
  """Returns the shape of the encoders under tf-models' names, with `more`."""
  return {
    "vocab_size": PIECES,
    "hidden_size": WIDTH,
    "num_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 24,
    "max_sequence_length": LENGTH,
    "type_vocab_size": 2,
    "dict_outputs": True,
    **more,
  }


def _scaffold(shared: bool = False) -> Any:
  initializer = tf_keras.initializers.TruncatedNormal(stddev=0.02)
  block = dict(
    num_attention_heads=HEADS,
    inner_dim=24,
    inner_activation=tf_utils.get_activation("gelu"),
  )
  shared_block = layers.TransformerEncoderBlock(**block) if shared else None
  return networks.EncoderScaffold(
    pooled_output_dim=WIDTH,
    embedding_cfg=dict(
      vocab_size=PIECES,
      type_vocab_size=2,
      hidden_size=WIDTH,
      seq_length=None,
      max_seq_length=LENGTH,
      initializer=initializer,
      dropout_rate=0.1,
    ),
    num_hidden_instances=LAYERS,
    hidden_cls=shared_block or layers.TransformerEncoderBlock,
    hidden_cfg=None if shared else block,
    dict_outputs=True,
  )


def _v2() -> Any:
  encoder = networks.BertEncoderV2(**_sizes())
  encoder(encoder.inputs)
  return encoder


# What makes the encoder → the family of its config, and the rest of the shape.
ENCODERS: dict[
  str, tuple[Callable[[], Any], type[configs.AlbertConfig], dict[str, Any]]
] = {
  "BertEncoder": (
    lambda: networks.BertEncoder(**_sizes()),
    configs.BertConfig,
    {},
  ),
  "BertEncoderV2": (_v2, configs.BertConfig, {}),
  "EncoderScaffold": (_scaffold, configs.BertConfig, {}),
  "AlbertEncoder": (
    lambda: networks.AlbertEncoder(**_sizes(embedding_width=8)),
    configs.AlbertConfig,
    {"embedding_size": 8},
  ),
  "AlbertEncoder of one width": (
    lambda: networks.AlbertEncoder(**_sizes(embedding_width=WIDTH)),
    configs.AlbertConfig,
    {"embedding_size": WIDTH},
  ),
  "a shared block": (
    lambda: _scaffold(True),
    configs.AlbertConfig,
    {"embedding_size": WIDTH},
  ),
  "a factorised BERT": (
    lambda: networks.BertEncoder(**_sizes(embedding_width=8)),
    configs.AlbertConfig,
    {"embedding_size": 8, "num_hidden_groups": LAYERS},
  ),
}


def _drawn(model: Any, seed: int = 0) -> Any:
  """Sets all weights of a model to random numbers; returns the model.

  Biases and layer norms are set too, so that a mistake in any of them shows.
  """
  draw = np.random.default_rng(seed)
  for variable in model.trainable_variables:
    about = 1.0 if "gamma" in variable.name else 0.0
    variable.assign(about + draw.normal(size=variable.shape, scale=0.3))
  return model


def _inputs() -> dict[str, np.ndarray]:
  draw = np.random.default_rng(1)
  mask = np.array([[1] * 12, [1] * 7 + [0] * 5], np.int32)
  return {
    "input_word_ids": draw.integers(0, PIECES, mask.shape).astype(np.int32),
    "input_mask": mask,
    "input_type_ids": np.array([[0] * 5 + [1] * 7] * 2, np.int32),
  }


def _config(folder: pathlib.Path, kind: str) -> configs.AlbertConfig:
  """Writes google's config of an encoder beside its checkpoint; returns it."""
  _, family, more = ENCODERS[kind]
  config = family.from_dict({**SHAPE, **more, "hidden_act": "gelu"}, "here")
  (folder / family.FILE).write_text(config.to_json())
  return config


def _pretrainer(encoder: Any, heads: bool = True) -> Any:
  head = layers.ClassificationHead(WIDTH, 2, name="next_sentence")
  model = models.BertPretrainerV2(
    encoder,
    mlm_activation=tf_utils.get_activation("gelu"),
    classification_heads=[head] if heads else [],
  )
  model(model.inputs)
  return model


def _same(
  path: str, config: configs.AlbertConfig, expected: Mapping[str, Any]
) -> None:
  """Requires a checkpoint, loaded here, to give the outputs of tf-models."""
  given = _inputs()
  ids, mask, kinds = (tf.constant(value) for value in given.values())
  model = pretraining.PretrainingModel(config, 5)
  initial_weights.load(path, model.parts())
  encoded = model.encoder(ids, mask, kinds)
  real = given["input_mask"].astype(bool)
  every = tf.constant(np.tile(np.arange(12, dtype=np.int32), [2, 1]))
  outputs = {
    "sequence_output": encoded.sequence_output.numpy()[real],
    "pooled_output": encoded.pooled_output.numpy(),
    "mlm_logits": model.masked_lm(encoded.sequence_output, every).numpy()[real],
    "next_sentence": model.sentence(encoded.pooled_output).numpy(),
  }
  for name, value in expected.items():
    if name in outputs:
      want = np.asarray(value)
      want = want[real] if want.shape[:2] == real.shape else want
      np.testing.assert_allclose(
        outputs[name], want, rtol=1e-5, atol=1e-5, err_msg=name
      )


@pytest.mark.parametrize("kind", ENCODERS)
def test_each_encoder_of_tf_models_gives_its_outputs_here(
  kind: str, tmp_path: pathlib.Path
) -> None:
  encoder = _drawn(ENCODERS[kind][0]())
  tf.train.Checkpoint(encoder=encoder).save(f"{tmp_path}/ckpt")
  config = _config(tmp_path, kind)
  outputs = encoder(_inputs(), training=False)
  assert {"sequence_output", "pooled_output"} <= outputs.keys()
  settled = initial_weights.settle_config("", "", str(tmp_path))
  assert settled == config
  _same(str(tmp_path), config, outputs)


def _trained(model: Any) -> Any:
  """Takes a step of Adam; returns the optimizer, which now has variables."""
  optimizer = tf_keras.optimizers.legacy.Adam(0.0)
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(model(_inputs())["sequence_output"] ** 2)
  variables = model.trainable_variables
  gradients = tape.gradient(loss, variables)
  optimizer.apply_gradients(
    (g, v) for g, v in zip(gradients, variables, strict=True) if g is not None
  )
  return optimizer


SAVES: dict[str, Save] = {
  "model=": lambda model, path: tf.train.Checkpoint(
    model=model.encoder_network
  ).write(path),
  "model=, encoder=": lambda model, path: tf.train.Checkpoint(
    model=model, encoder=model.encoder_network
  ).write(path),
  "checkpoint_items": lambda model, path: tf.train.Checkpoint(
    **model.checkpoint_items
  ).write(path),
  "a trainer's": lambda model, path: tf.train.Checkpoint(
    model=model,
    optimizer=_trained(model),
    global_step=tf.Variable(7),
    **model.checkpoint_items,
  ).write(path),
  "save_weights": lambda model, path: model.save_weights(path),
  "its own name": lambda model, path: tf.train.Checkpoint(
    pretrainer=model
  ).write(path),
}


@pytest.mark.parametrize("way", SAVES)
@pytest.mark.parametrize("kind", ["AlbertEncoder", "BertEncoderV2"])
def test_each_way_to_save_gives_the_same_outputs(
  kind: str,
  way: str,
  tmp_path: pathlib.Path,
  caplog: pytest.LogCaptureFixture,
) -> None:
  model = _drawn(_pretrainer(ENCODERS[kind][0](), heads=False))
  SAVES[way](model, f"{tmp_path}/bert_model.ckpt")
  config = _config(tmp_path, kind)
  positions = np.tile(np.arange(12, dtype=np.int32), [2, 1])
  outputs = dict(model({**_inputs(), "masked_lm_positions": positions}))
  with_head = way != "model="
  if not with_head:
    del outputs["mlm_logits"]
  with caplog.at_level(logging.INFO, "absl"):
    _same(f"{tmp_path}/bert_model.ckpt", config, outputs)
  assert f"new: {'sentence' if with_head else 'masked_lm, sentence'};" in (
    caplog.text
  )
  assert ("x optimizer" in caplog.text) == (way == "a trainer's")


@pytest.mark.parametrize(
  "way", ["model=, encoder=", "a trainer's", "save_weights"]
)
def test_a_head_with_a_pooler_of_its_own_brings_it(
  way: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  """BertPretrainerV2 never trains the encoder's own pooler."""
  model = _drawn(_pretrainer(ENCODERS["BertEncoder"][0]()))
  SAVES[way](model, f"{tmp_path}/bert_model.ckpt")
  config = _config(tmp_path, "BertEncoder")
  positions = np.tile(np.arange(12, dtype=np.int32), [2, 1])
  outputs = dict(model({**_inputs(), "masked_lm_positions": positions}))
  del outputs["pooled_output"]
  assert "next_sentence" in outputs
  with caplog.at_level(logging.INFO, "absl"):
    _same(str(tmp_path), config, outputs)
  step = "global_step, " if way == "a trainer's" else ""
  assert f"new: none; left over: {step}2 x pooler_transform" in caplog.text


def test_a_classifier_of_tf_models_predicts_here_what_it_did_there(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  pieces = (REFERENCE / "hf_topics/vocab.txt").read_text("utf-8").split("\n")
  for own in (True, False):
    folder = tmp_path / f"own_{own}"
    folder.mkdir()
    encoder = networks.BertEncoder(**_sizes(vocab_size=len(pieces)))
    model = _drawn(
      models.BertClassifier(encoder, 3, use_encoder_pooler=not own), 3
    )
    tf.train.Checkpoint(
      model=model, **model.checkpoint_items if own else {}
    ).save(f"{folder}/ckpt")
    (folder / "vocab.txt").write_text("\n".join(pieces), "utf-8")
    config = configs.BertConfig.from_dict(
      {**SHAPE, "vocab_size": len(pieces)}, "here"
    )
    (folder / "bert_config.json").write_text(config.to_json())
    (folder / "labels.json").write_text('["а", "б", "в"]', "utf-8")
    conversion.run(
      conversion.Options(
        from_="tf_models",
        init_checkpoint=str(folder),
        max_seq_length=LENGTH,
        output_dir=str(folder / "model"),
      )
    )
    said = capsys.readouterr().out
    assert ("2 x pooler_transform (of the encoder alone" in said) == own
    predictor = classifier.Predictor.load(str(folder / "model"))
    texts = ["сайн байна уу", "улс төр", "эдийн засаг өсөв"]
    framed = predictor.framer.frame(texts)
    for text, ids in zip(texts, framed.ids, strict=True):
      row = np.array([ids], np.int32)
      expected = model(
        {
          "input_word_ids": row,
          "input_mask": np.ones_like(row),
          "input_type_ids": np.zeros_like(row),
        }
      )
      np.testing.assert_allclose(
        predictor.logits([text]), expected, rtol=1e-5, atol=1e-5
      )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BertEncoder", "AlbertEncoder"])
def test_a_module_that_tf_models_exports_for_tf_hub_comes_in(
  kind: str, tmp_path: pathlib.Path, tokenizer_file: str
) -> None:
  """The SavedModel has keys such as variables/0, and its words as assets."""
  sizes = {**_sizes(), "max_position_embeddings": LENGTH}
  del sizes["max_sequence_length"], sizes["dict_outputs"]
  if kind == "BertEncoder":
    own = encoder_configs.EncoderConfig(
      type="bert", bert=encoder_configs.BertEncoderConfig(**sizes)
    )
  else:
    sizes["embedding_width"] = 8
    own = encoder_configs.EncoderConfig(
      type="albert", albert=encoder_configs.AlbertEncoderConfig(**sizes)
    )
  model = models.BertPretrainerV2(
    encoder_configs.build_encoder(own),
    mlm_activation=tf_utils.get_activation("gelu"),
  )
  model(model.inputs)
  _drawn(model)
  # The export draws weights; tests before may have asked for determinism.
  tf.random.set_seed(1)
  tf.train.Checkpoint(**model.checkpoint_items).save(f"{tmp_path}/ckpt")
  (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "utf-8")
  export_tfhub_lib.export_model(
    f"{tmp_path}/module",
    encoder_config=own,
    with_mlm=True,
    model_checkpoint_path=f"{tmp_path}/ckpt-1",
    do_lower_case=False,
    **(
      {"vocab_file": f"{tmp_path}/vocab.txt"}
      if kind == "BertEncoder"
      else {"sp_model_file": tokenizer_file}
    ),
  )
  path = tmp_path / "module"
  with pytest.raises(options.InputError, match="none, nor a config in"):
    initial_weights.settle_config("", "", str(path))
  config = _config(path, kind)
  assert initial_weights.settle_config("", "", str(path)) == config
  positions = np.tile(np.arange(12, dtype=np.int32), [2, 1])
  outputs = model({**_inputs(), "masked_lm_positions": positions})
  for name in ("", "/variables/variables"):
    _same(f"{path}{name}", config, outputs)
    held = initial_weights.tokenizer_file(f"{path}{name}")
    assert os.path.dirname(held) == f"{path}/assets"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["albert_g1_trained", "bert_trained"])
def test_what_tf_models_converted_of_google_gives_googles_numbers(
  name: str, tmp_path: pathlib.Path
) -> None:
  """google's TF 1 checkpoint goes through tf-models' own converter."""
  family = "bert" if name.startswith("bert") else "albert"
  subprocess.run(
    [
      sys.executable,
      "-m",
      f"official.nlp.tools.tf2_{family}_encoder_checkpoint_converter",
      f"--{family}_config_file={REFERENCE / name / 'config.json'}",
      f"--checkpoint_to_convert={REFERENCE / name / 'model.ckpt'}",
      f"--converted_checkpoint_path={tmp_path}/{family}_model.ckpt",
      "--converted_model=pretrainer",
    ],
    check=True,
    capture_output=True,
    cwd=running.ROOT,
  )
  text = (REFERENCE / name / "config.json").read_text("utf-8")
  (tmp_path / f"{family}_config.json").write_text(text)
  conversion.run(
    conversion.Options(
      init_checkpoint=str(tmp_path), output_dir=f"{tmp_path}/model"
    )
  )
  config = model_directory.config(f"{tmp_path}/model")
  assert config
  model = pretraining.PretrainingModel(config, 5)
  initial_weights.load(f"{tmp_path}/model", model.parts())
  given = dict(np.load(REFERENCE / "inputs.npz"))
  expected = np.load(REFERENCE / name / "outputs.npz")
  encoded = model.encoder(
    *(tf.constant(given[n]) for n in ("input_ids", "input_mask", "segment_ids"))
  )
  output = model({n: tf.constant(v) for n, v in given.items()})
  for outputs, key in (
    (encoded.pooled_output.numpy(), "pooled_output"),
    (output.masked_lm_logits.numpy().reshape(12, -1), "mlm_logits"),
  ):
    scale = np.abs(expected[key]).max()
    np.testing.assert_allclose(outputs, expected[key], atol=1e-5 * scale)
  content = manifest.check(f"{tmp_path}/model", "pretrained_model")
  assert content["parameters"]["from"] == "tf-models, TF 2"


def _of_2020(encoder: Any) -> tf.Module:
  """Returns an encoder's layers under the names of tf-models in 2020.

  Attention's last layer belonged to the block then, and the encoder named none
  of its layers but the embeddings.
  """
  older = tf.Module()
  older._embedding_layer = encoder._embedding_layer
  first, *middle, pooler = [
    layer for layer in encoder.layers if layer.trainable_variables
  ]
  blocks = [layer for layer in middle if hasattr(layer, "_attention_layer")]
  for layer in blocks:
    block, block._attention_layer = tf.Module(), tf.Module()
    attention = layer._attention_layer
    for name in ("_query_dense", "_key_dense", "_value_dense"):
      setattr(block._attention_layer, name, getattr(attention, name))
    block._attention_output_dense = attention._output_dense
    for name in (
      "_attention_layer_norm",
      "_intermediate_dense",
      "_output_dense",
      "_output_layer_norm",
    ):
      setattr(block, name, getattr(layer, name))
    middle[middle.index(layer)] = block
  for place, layer in enumerate([first, *middle, pooler]):
    setattr(older, f"layer_with_weights-{place}", layer)
  return older


@pytest.mark.parametrize("kind", ["BertEncoder", "AlbertEncoder"])
def test_the_attributes_of_2020_are_known_too(
  kind: str, tmp_path: pathlib.Path
) -> None:
  encoder = _drawn(ENCODERS[kind][0]())
  tf.train.Checkpoint(model=_of_2020(encoder)).write(
    f"{tmp_path}/bert_model.ckpt"
  )
  config = _config(tmp_path, kind)
  _same(str(tmp_path), config, encoder(_inputs(), training=False))


def _saved(folder: pathlib.Path, kind: str = "BertEncoder") -> str:
  encoder = _drawn(ENCODERS[kind][0]())
  tf.train.Checkpoint(encoder=encoder).write(f"{folder}/bert_model.ckpt")
  _config(folder, kind)
  return f"{folder}/bert_model.ckpt"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_attention_heads": 2}, "query/kernel of the shape .*give the config"),
    ({"num_hidden_layers": 2}, "unused .*group_2.*give the configuration"),
    ({"num_hidden_layers": 4}, "missing .*group_3.*give the configuration"),
    ({"vocab_size": 59}, "word_embeddings of the shape .*give the config"),
  ],
)
def test_a_config_of_another_shape_is_named_by_the_weight(
  changes: dict[str, int], message: str, tmp_path: pathlib.Path
) -> None:
  path = _saved(tmp_path)
  config = configs.BertConfig.from_dict({**SHAPE, **changes}, "here")
  model = pretraining.PretrainingModel(config, 0)
  with pytest.raises(options.InputError, match=message):
    initial_weights.load(path, model.parts())


def test_an_alberts_group_fills_the_others_on_request(
  tmp_path: pathlib.Path,
) -> None:
  path = _saved(tmp_path, "AlbertEncoder")
  config = configs.AlbertConfig.from_dict(
    {**SHAPE, "embedding_size": 8, "num_hidden_groups": LAYERS}, "here"
  )
  model = pretraining.PretrainingModel(config, 0)
  with pytest.raises(options.InputError, match="give --init_from_group0, or"):
    initial_weights.load(path, model.parts())
  initial_weights.load(path, model.parts(), init_from_group0=True)
  first, *filled = model.encoder.groups
  for group in filled:
    pairs = zip(group[0].get_weights(), first[0].get_weights(), strict=True)
    for weights, expected in pairs:
      np.testing.assert_array_equal(weights, expected)


def test_two_encoders_and_a_damaged_checkpoint_are_one_line(
  tmp_path: pathlib.Path,
) -> None:
  left, right = (networks.BertEncoder(**_sizes()) for _ in "ab")
  tf.train.Checkpoint(left=left, right=right).write(f"{tmp_path}/two")
  with pytest.raises(options.InputError, match=r"one encoder in .*; got 2"):
    initial_weights.read(f"{tmp_path}/two")
  path = pathlib.Path(f"{_saved(tmp_path)}.data-00000-of-00001")
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(options.InputError, match=r"whole .*copy it again"):
    initial_weights.read(f"{tmp_path}/bert_model.ckpt")


def _changed(draw: random.Random, raw: bytes) -> bytes:
  """Returns the bytes of an object graph with random faults."""
  if draw.random() < 0.5:
    changed = bytearray(raw)
    for _ in range(draw.randrange(1, 4)):
      changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)
  graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(raw)
  for _ in range(draw.randrange(1, 5)):
    node = draw.choice(graph.nodes)
    for edge in node.children[:1]:
      edge.node_id = draw.choice([0, -1, 10**6, len(graph.nodes) - 1])
      edge.local_name = draw.choice(
        [
          edge.local_name,
          "",
          "embeddings",
          "²",
          "layer_with_weights-" + "9" * 5000,
        ]
      )
    for attribute in node.attributes[:1]:
      attribute.checkpoint_key = draw.choice([attribute.checkpoint_key, "none"])
  return bytes(graph.SerializeToString())


def test_generated_graphs_of_objects_are_read_or_end_in_one_line(
  tmp_path: pathlib.Path,
) -> None:
  draw = random.Random(5)
  tf.train.Checkpoint(encoder=_v2()).write(f"{tmp_path}/whole")
  reader = tf.train.load_checkpoint(f"{tmp_path}/whole")
  tensors = {
    n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()
  }
  path, refused = f"{tmp_path}/model.ckpt", 0
  for _ in range(120):
    raw = _changed(draw, tensors[tf_models_checkpoints.OBJECTS])
    changed = tensors | {tf_models_checkpoints.OBJECTS: tf.constant(raw)}
    tf.raw_ops.SaveV2(
      prefix=path,
      tensor_names=list(changed),
      shape_and_slices=[""] * len(changed),
      tensors=list(changed.values()),
    )
    try:
      initial_weights.read(path)
    except options.InputError as error:
      refused += 1
      assert "\n" not in str(error)
  assert refused > 60


def test_a_graph_of_too_many_objects_is_refused(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = _saved(tmp_path)
  monkeypatch.setattr(tf_models_checkpoints, "_MOST_EDGES", 10)
  with pytest.raises(
    options.InputError, match=r"a graph of .* objects and .* ed"
  ):
    initial_weights.read(path)


def test_an_object_based_checkpoint_of_something_else_says_what_it_is(
  tmp_path: pathlib.Path,
) -> None:
  tf.train.Checkpoint(dense=tf.Variable([1.0])).write(f"{tmp_path}/model.ckpt")
  with pytest.raises(options.InputError) as caught:
    initial_weights.format_of(f"{tmp_path}/model.ckpt")
  assert "an object-based checkpoint that holds dense" in str(caught.value)
  assert "configuration" not in str(caught.value)


def test_a_classifier_begins_from_a_checkpoint_of_tf_models(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  _saved(tmp_path)
  pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"абвгдеё"]
  pieces += [f"##{letter}" for letter in "абвгдеё"]
  (tmp_path / "vocab.txt").write_text("\n".join(pieces), "utf-8")
  rows = "".join(f"аб {n}\tнэг\nвг {n}\tхоёр\n" for n in range(6))
  (tmp_path / "train.tsv").write_text(f"text\tlabel\n{rows}", "utf-8")
  with caplog.at_level(logging.INFO, "absl"):
    classification.run(
      classification.Options(
        train_file=f"{tmp_path}/train.tsv",
        do_train=True,
        init_checkpoint=f"{tmp_path}/bert_model.ckpt",
        output_dir=f"{tmp_path}/out",
      ),
      fine_tuning.Recipe(
        max_seq_length=16, num_train_epochs=1.0, learning_rate=0.0
      ),
    )
  assert "as tf-models compute the 'gelu' of bert_config.json" in caplog.text
  config = model_directory.config(f"{tmp_path}/out/model")
  assert config
  model = pretraining.PretrainingModel(config, 0)
  initial_weights.load(f"{tmp_path}/out/model", {"encoder": model.encoder})
  expected = ENCODERS["BertEncoder"][0]()
  _drawn(expected)
  np.testing.assert_array_equal(
    model.encoder.embedding_table, expected.get_embedding_table()
  )
