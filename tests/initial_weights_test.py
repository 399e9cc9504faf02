"""Tests of the models that --init_checkpoint takes, in both programs."""

import dataclasses
import json
import logging
import pathlib
import struct

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import huggingface, initial_weights
from albert_mn.models import configs, model_directory, pretraining
from albert_mn.pretrain import checks, examination, probe, run_options, training
from albert_mn.runtime import distribution, optimization
from data_prep.base import options

CONFIG = configs.AlbertConfig(
  vocab_size=400,
  embedding_size=8,
  hidden_size=16,
  num_hidden_layers=4,
  num_hidden_groups=2,
  inner_group_num=2,
  num_attention_heads=2,
  intermediate_size=32,
  max_position_embeddings=32,
)


def _model(seed: int, groups: int = 2) -> pretraining.PretrainingModel:
  config = dataclasses.replace(CONFIG, num_hidden_groups=groups)
  return pretraining.PretrainingModel(config, seed)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A run directory with a checkpoint and a model directory of `_model(1)`."""
  run = tmp_path_factory.mktemp("run")
  model = _model(1)
  model_directory.save(
    str(run / "model"),
    "pretrained_model",
    config=CONFIG,
    parts=model.parts(),
    tokenizer_file="",
    parameters={},
    counts={"global_step": 30},
    inputs={},
  )
  optimizer = optimization.create(optimization.OptimizerOptions())
  optimizer.build(model.trainable_variables)
  tf.train.Checkpoint(optimizer=optimizer, **model.parts()).write(
    f"{run}/checkpoints/model.ckpt-30"
  )
  return run


def _equal(
  model: pretraining.PretrainingModel,
  expected_model: pretraining.PretrainingModel,
) -> None:
  pairs = zip(model.variables, expected_model.variables, strict=True)
  for variable, expected in pairs:
    np.testing.assert_array_equal(variable, expected, err_msg=variable.name)


@pytest.mark.parametrize(
  "place", ["model", "model/model.ckpt", "checkpoints/model.ckpt-30"]
)
def test_a_model_directory_or_a_checkpoint_gives_all_its_weights(
  saved: pathlib.Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
  model = _model(2)
  with caplog.at_level(logging.INFO, "absl"):
    initial_weights.load(str(saved / place), model.parts())
  _equal(model, _model(1))
  left = "optimizer" if place.startswith("checkpoints") else "none"
  assert f"(this project); new: none; left over: {left}" in caplog.text


def test_a_prefix_in_a_model_directory_finds_the_config_beside_it(
  saved: pathlib.Path,
) -> None:
  config = initial_weights.settle_config("", "", f"{saved}/model/model.ckpt")
  assert config == CONFIG
  with pytest.raises(options.InputError, match="none, nor a config"):
    initial_weights.settle_config("", "", f"{saved}/checkpoints/model.ckpt-30")


def test_init_from_group0_unties_the_groups_of_our_own_checkpoint(
  saved: pathlib.Path,
) -> None:
  path = str(saved / "checkpoints/model.ckpt-30")
  held, untied = _model(1), _model(2, groups=4)
  with pytest.raises(options.InputError, match="the weights of this config"):
    initial_weights.load(path, _model(2, groups=4).parts())
  initial_weights.load(path, untied.parts(), init_from_group0=True)
  for group, source in enumerate((0, 1, 0, 0)):
    for inner in range(2):
      pairs = zip(
        untied.encoder.groups[group][inner].get_weights(),
        held.encoder.groups[source][inner].get_weights(),
        strict=True,
      )
      for weights, expected in pairs:
        np.testing.assert_array_equal(weights, expected)
  for part in ("embedding_table", "projection", "pooler"):
    weights, expected = (
      np.concatenate(
        [np.ravel(v) for v in getattr(value, "variables", [value])]
      )
      for value in (getattr(m.encoder, part) for m in (untied, held))
    )
    np.testing.assert_array_equal(weights, expected, err_msg=part)
  np.testing.assert_array_equal(untied.sentence.kernel, held.sentence.kernel)


def test_groups_of_a_bert_are_refused(tmp_path: pathlib.Path) -> None:
  (tmp_path / "bert.json").write_text(configs.BertConfig(400).to_json())
  with pytest.raises(options.InputError, match="a BERT, which has no groups"):
    initial_weights.settle_config("", f"{tmp_path}/bert.json", "", True)


def _hugging_face(folder: pathlib.Path, tokenizer_file: str) -> None:
  """Writes `_model(1)` as transformers' save_pretrained does."""
  values = json.loads(CONFIG.to_json()) | {"model_type": "albert"}
  (folder / "config.json").write_text(
    json.dumps(values | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-12})
  )
  header, data = {}, b""
  for table in huggingface.tables(_model(1).parts()).values():
    for name, variable in table.items():
      array = variable.numpy()
      if "embeddings." not in name and name.endswith("weight"):
        width = (
          len(array) if "attention.dense" not in name else CONFIG.hidden_size
        )
        array = array.reshape([width, -1]).T if array.ndim > 1 else array
      array = array.ravel() if name.endswith("bias") else array
      places = [len(data), len(data) + array.nbytes]
      data += np.ascontiguousarray(array).tobytes()
      header[
        f"albert.{name}" if name.startswith(huggingface.ENCODER) else name
      ] = dict(dtype="F32", shape=array.shape, data_offsets=places)
  text = json.dumps(header).encode()
  (folder / "model.safetensors").write_bytes(
    struct.pack("<Q", len(text)) + text + data
  )
  (folder / "tokenizer_config.json").write_text(
    '{"keep_accents": true, "do_lower_case": false}'
  )
  (folder / "spiece.model").write_bytes(
    pathlib.Path(tokenizer_file).read_bytes()
  )


def test_a_classifier_begins_from_a_hugging_face_directory_and_its_tokenizer(
  tmp_path: pathlib.Path, tokenizer_file: str
) -> None:
  theirs = tmp_path / "theirs"
  theirs.mkdir()
  _hugging_face(theirs, tokenizer_file)
  model = _model(2)
  initial_weights.load(str(theirs), model.parts())
  _equal(model, _model(1))
  rows = [("Өнөөдөр дулаан байна", "цаг агаар"), ("Баг хожлоо", "спорт")]
  (tmp_path / "train.tsv").write_text(
    "text\tlabel\n"
    + "".join(
      f"{text} {n}\t{label}\n" for n in range(12) for text, label in rows
    ),
    encoding="utf-8",
  )
  classification.run(
    classification.Options(
      train_file=f"{tmp_path}/train.tsv",
      init_checkpoint=str(theirs),
      output_dir=f"{tmp_path}/out",
      do_train=True,
    ),
    fine_tuning.Recipe(
      max_seq_length=16, learning_rate=0.0, num_train_epochs=1.0
    ),
  )
  ours = tmp_path / "out" / "model"
  model = _model(2)
  initial_weights.load(str(ours), {"encoder": model.encoder})
  np.testing.assert_array_equal(
    model.encoder.embedding_table, _model(1).encoder.embedding_table
  )
  spiece = (theirs / "spiece.model").read_bytes()
  assert (ours / "tokenizer.model").read_bytes() == spiece


def test_pretraining_goes_on_from_a_hugging_face_directory_of_its_tokenizer(
  tmp_path: pathlib.Path,
  tokenizer_file: str,
  dynamic_records: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  _hugging_face(tmp_path, tokenizer_file)
  settings = run_options.Options(
    input_file=f"{dynamic_records}/train-*.tfrecord",
    do_train=True,
    init_checkpoint=str(tmp_path),
    output_dir=f"{tmp_path}/run",
    train_batch_size=2,
    jit_compile=False,
  )
  recipe = optimization.OptimizerOptions(
    learning_rate=0.0, num_train_steps=1, num_warmup_steps=0
  )
  training.run(settings, recipe, distribution.Options(), probe.Options())
  model = _model(2)
  initial_weights.load(f"{tmp_path}/run/model", model.parts())
  _equal(model, _model(1))
  with monkeypatch.context() as patched:  # a run that goes on has its weights
    patched.setattr(initial_weights, "load", lambda *_: pytest.fail("read"))
    training.run(settings, recipe, distribution.Options(), probe.Options())
  (tmp_path / "tokenizer_config.json").write_text(
    '{"keep_accents": false, "do_lower_case": false}'
  )
  in_new_folder = dataclasses.replace(settings, output_dir=f"{tmp_path}/other")
  given = (recipe, distribution.Options(), probe.Options())
  with pytest.raises(options.InputError, match=r"--strip_accents.*--repair_no"):
    training.run(in_new_folder, *given)
  repaired = dataclasses.replace(in_new_folder, repair_normalization=True)
  assert examination.examined(repaired, *given, checks.Examination())
  (tmp_path / "spiece.model").write_bytes(b"of another language")
  settings = dataclasses.replace(settings, output_dir=f"{tmp_path}/other")
  with pytest.raises(options.InputError, match="with the tokenizer of"):
    training.run(settings, recipe, distribution.Options(), probe.Options())
