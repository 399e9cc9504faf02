"""Tests that flags fill the gaps in other projects' configs."""

import dataclasses
import json
import logging
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import (
  conversion,
  foreign_configs,
  huggingface,
  initial_weights,
)
from albert_mn.models import (
  configs,
  encoders,
  model_directory,
  plain_forward,
  pretraining,
)
from albert_mn.pretrain import run_options
from data_prep.base import options

REFERENCE = pathlib.Path(__file__).parent / "reference"
TOPICS = REFERENCE / "hf_topics"
SHAPE = (
  "hidden_size",
  "num_hidden_layers",
  "num_attention_heads",
  "vocab_size",
  "intermediate_size",
  "max_position_embeddings",
  "type_vocab_size",
)


def _fork(folder: pathlib.Path, **more: Any) -> pathlib.Path:
  """Writes PyTorch weights with google's config, as mn-tweet-bert has them."""
  folder.mkdir()
  shutil.copy(REFERENCE / "mn_tweet_bert.bin", folder / "pytorch_model.bin")
  shutil.copy(TOPICS / "vocab.txt", folder)
  values = json.loads((TOPICS / "config.json").read_text("utf-8"))
  values = {n: values[n] for n in SHAPE} | {"hidden_act": "gelu"} | more
  kept = {name: value for name, value in values.items() if value is not ...}
  (folder / "bert_config.json").write_text(json.dumps(kept))
  (folder / "labels.txt").write_text("а\nб\nв\n", "utf-8")
  return folder


def _convert(source: pathlib.Path, target: pathlib.Path, **flags: Any) -> None:
  conversion.run(
    conversion.Options(
      init_checkpoint=str(source),
      output_dir=str(target),
      labels_file=str(source / "labels.txt"),
      **flags,
    )
  )


def test_googles_gelu_beside_a_pytorch_file_is_one_line_with_its_flag(
  tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  source = _fork(tmp_path / "tweets")
  _convert(source, tmp_path / "erf")
  said = capsys.readouterr().out
  (line,) = (x for x in said.splitlines() if x.startswith("activation: "))
  assert line == (
    "activation: the exact form of gelu, with erf, as PyTorch's programs "
    "compute the 'gelu' of bert_config.json (google's own compute the other); "
    "--gelu=tanh takes the tanh form of gelu"
  )
  assert "layer_norm_eps: 1e-12, the default, as bert_config.json names" in said
  _convert(source, tmp_path / "tanh", gelu="tanh")
  said = capsys.readouterr().out
  assert "activation: the tanh form of gelu, by --gelu, beside" in said
  for name, act in (("erf", "gelu_erf"), ("tanh", "gelu")):
    config = model_directory.config(str(tmp_path / name))
    assert config
    assert config.hidden_act == act


def test_the_flag_changes_the_numbers_to_those_of_the_other_form(
  tmp_path: pathlib.Path,
) -> None:
  """A tanh model that was taken for the exact form was 1.2e-03 off."""
  source = _fork(tmp_path / "tweets")
  arrays, _ = huggingface.read(str(source))
  ids = np.arange(12, dtype=np.int32).reshape(2, 6)
  mask = np.ones_like(ids)
  vectors = {}
  for gelu, act in (
    ("auto", "gelu_erf"),
    ("erf", "gelu_erf"),
    ("tanh", "gelu"),
  ):
    config = initial_weights.settle_config("", "", str(source), gelu=gelu)
    encoder = encoders.AlbertEncoder(config, 0)
    initial_weights.load(str(source), {"encoder": encoder})
    output = encoder(tf.constant(ids), tf.constant(mask), np.zeros_like(ids))
    vectors[gelu] = output.sequence_output.numpy().reshape(12, -1)
    right = dataclasses.replace(config, hidden_act=act)
    plain = plain_forward.PlainModel(arrays, right).outputs(ids, mask)
    np.testing.assert_allclose(vectors[gelu], plain["sequence"], atol=1e-5)
  assert np.abs(vectors["auto"] - vectors["tanh"]).max() > 5e-5


_X = np.linspace(-4, 4, 81)
_TANH = 0.5 * _X * (1 + np.tanh(np.sqrt(2 / np.pi) * (_X + 0.044715 * _X**3)))
_ERF = 0.5 * _X * (1 + tf.math.erf(_X / np.sqrt(2)).numpy())


@pytest.mark.parametrize(
  ("written", "expected"),
  [
    ("gelu", _ERF),
    ("gelu_python", _ERF),
    ("gelu_new", _TANH),
    ("gelu_fast", _TANH),
    ("gelu_pytorch_tanh", _TANH),
    ("gelu_python_tanh", _TANH),
    ("gelu_accurate", _TANH),
  ],
)
def test_each_spelling_of_transformers_is_computed_as_there_and_said(
  written: str, expected: np.ndarray, tmp_path: pathlib.Path
) -> None:
  """The names are those of transformers 5.24's ACT2FN."""
  values = json.loads((TOPICS / "config.json").read_text("utf-8"))
  path = tmp_path / "config.json"
  path.write_text(json.dumps(values | {"hidden_act": written}))
  settled = huggingface.config(str(path))
  activation = encoders.activation(settled.config)
  np.testing.assert_allclose(
    activation(tf.constant(_X, tf.float32)), expected, atol=1e-6
  )
  (line,) = settled.lines
  assert f"{written!r}" in line
  assert "--gelu=" in line
  for gelu, act in foreign_configs.GELUS.items():
    forced = huggingface.config(str(path), gelu)
    assert forced.config.hidden_act == act
    assert "by --gelu, beside config.json" in forced.lines[0]


@pytest.mark.parametrize("act", ["relu", "tanh", "linear"])
def test_another_activation_needs_no_line_and_the_flag_leaves_it(
  act: str, tmp_path: pathlib.Path
) -> None:
  values = json.loads((TOPICS / "config.json").read_text("utf-8"))
  path = tmp_path / "config.json"
  path.write_text(json.dumps(values | {"hidden_act": act}))
  settled = huggingface.config(str(path), "tanh")
  assert settled.config.hidden_act == act
  assert not settled.lines


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("layer_norm_eps", "1e-12"),
    ("num_attention_heads", "64"),
    ("num_hidden_layers", "12"),
    ("num_hidden_groups", "1"),
    ("inner_group_num", "1"),
    ("embedding_size", "128"),
    ("hidden_dropout_prob", "0.0"),
  ],
)
def test_what_a_config_of_transformers_leaves_out_is_said_in_one_line(
  name: str, value: str, tmp_path: pathlib.Path
) -> None:
  values = json.loads((REFERENCE / "hf_albert/config.json").read_text("utf-8"))
  values |= {"hidden_size": 64, "hidden_act": "relu"}
  path = tmp_path / "config.json"
  path.write_text(json.dumps(values))
  assert not huggingface.config(str(path)).lines
  values.pop(name, None)
  path.write_text(json.dumps(values))
  assert huggingface.config(str(path)).lines == (
    f"{name}: {value}, the default, as config.json names none; write another "
    "one there",
  )


@pytest.mark.parametrize(
  ("family", "written", "act"),
  [
    (configs.AlbertConfig, "gelu", "gelu"),
    (configs.AlbertConfig, "GELU", "gelu"),
    (configs.AlbertConfig, "Relu", "relu"),
    (configs.AlbertConfig, "", "linear"),
    (configs.AlbertConfig, None, "linear"),
    (configs.AlbertConfig, "gelu_new", "gelu"),
    (configs.BertConfig, "gelu_python", "gelu_erf"),
    (configs.BertConfig, ..., "gelu"),
  ],
)
def test_googles_names_of_activations_heed_no_case(
  family: type[configs.AlbertConfig],
  written: Any,
  act: str,
  tmp_path: pathlib.Path,
) -> None:
  values = {"vocab_size": 9, "hidden_act": written}
  values = {n: v for n, v in values.items() if v is not ...}
  path = tmp_path / family.FILE
  path.write_text(json.dumps(values))
  settled = foreign_configs.of_google(str(path), family, foreign_configs.GOOGLE)
  assert settled.config.hidden_act == act


@pytest.mark.parametrize("written", [5, False, ["gelu"], {}, "silu", "swish"])
def test_an_activation_that_google_does_not_know_is_refused(
  written: Any, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "albert_config.json"
  path.write_text(json.dumps({"vocab_size": 9, "hidden_act": written}))
  with pytest.raises(options.InputError, match="hidden_act"):
    foreign_configs.of_google(
      str(path), configs.AlbertConfig, foreign_configs.GOOGLE
    )


def test_googles_bert_is_said_to_have_computed_both_forms(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  """The gelu of google-research/bert was exact before commit bee6030.

  CyberZHG/keras-bert 129.
  """
  folder = tmp_path / "bert"
  shutil.copytree(REFERENCE / "bert_trained", folder)
  (folder / "config.json").rename(folder / "bert_config.json")
  with caplog.at_level(logging.INFO, "absl"):
    config = initial_weights.settle_config("", "", str(folder))
  assert config.hidden_act == "gelu"
  assert "(those of 2018 computed the other); --gelu=erf takes" in caplog.text
  config = initial_weights.settle_config("", "", str(folder), gelu="erf")
  assert config.hidden_act == "gelu_erf"


def test_the_flag_is_refused_where_the_config_is_ours(
  topics: str, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(
    options.InputError, match=r"--gelu=erf for .*: leave it out"
  ):
    initial_weights.settle_config("", "", topics, gelu="erf")
  (tmp_path / "albert.json").write_text('{"vocab_size": 9}')
  with pytest.raises(options.InputError, match="--gelu=tanh for no --init"):
    initial_weights.settle_config(
      f"{tmp_path}/albert.json", "", "", gelu="tanh"
    )


def test_the_programs_take_the_flag_and_log_the_line(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  source = _fork(tmp_path / "tweets")
  rows = "".join(f"сайн {n}\tа\nмуу {n}\tб\n" for n in range(6))
  (tmp_path / "train.tsv").write_text(f"text\tlabel\n{rows}", "utf-8")
  with caplog.at_level(logging.INFO, "absl"):
    classification.run(
      classification.Options(
        train_file=f"{tmp_path}/train.tsv",
        init_checkpoint=str(source),
        output_dir=f"{tmp_path}/out",
        do_train=True,
        gelu="tanh",
      ),
      fine_tuning.Recipe(max_seq_length=16, num_train_epochs=1.0),
    )
  assert "activation: the tanh form of gelu, by --gelu" in caplog.text
  config = model_directory.config(f"{tmp_path}/out/model")
  assert config
  assert config.hidden_act == "gelu"
  assert {f.name for f in dataclasses.fields(run_options.Options)} >= {"gelu"}
  model = pretraining.PretrainingModel(config, 0)
  initial_weights.load(f"{tmp_path}/out/model", {"encoder": model.encoder})
