"""Tests the encoder and its heads against outputs of google-research's code."""

import dataclasses
import json
import logging
import pathlib
import shutil
import tarfile
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.formats import conversion, initial_weights, tf1_checkpoints
from albert_mn.models import configs, model_directory, pretraining
from data_prep.base import options
from tests import tf1_saver

REFERENCE = pathlib.Path(__file__).parent / "reference"


def _model(name: str) -> pretraining.PretrainingModel:
  family = (
    configs.BertConfig if name.startswith("bert") else configs.AlbertConfig
  )
  path = str(REFERENCE / name / "config.json")
  return pretraining.PretrainingModel(family.from_file(path), 0)


def _features() -> dict[str, tf.Tensor]:
  features = dict(np.load(REFERENCE / "inputs.npz"))
  features["next_sentence_labels"] = features["next_sentence_labels"][:, 0]
  return {name: tf.constant(value) for name, value in features.items()}


@pytest.mark.parametrize(
  "name", ["albert_g1_trained", "albert_g3", "bert_trained"]
)
def test_outputs_equal_those_of_google_research(
  name: str, caplog: pytest.LogCaptureFixture
) -> None:
  model, features = _model(name), _features()
  with caplog.at_level(logging.INFO, "absl"):
    initial_weights.load(str(REFERENCE / name / "model.ckpt"), model.parts())
  slots = {"albert_g1_trained": 32, "albert_g3": 0, "bert_trained": 62}[name]
  left = f"{slots} x adam_m, {slots} x adam_v, 1 x global_step"
  assert f"new: none; left over: {left if slots else 'none'}" in caplog.text
  expected = np.load(REFERENCE / name / "outputs.npz")
  encoded = model.encoder(
    features["input_ids"], features["input_mask"], features["segment_ids"]
  )
  output = model(features)
  real = features["input_mask"].numpy().astype(bool)
  arrays = {
    "embedding_output": encoded.embedding_output.numpy(),
    "sequence_output": encoded.sequence_output.numpy(),
    "pooled_output": encoded.pooled_output.numpy(),
    "mlm_logits": output.masked_lm_logits.numpy().reshape(12, -1),
    "sent_logits": output.sentence_logits.numpy(),
    **{f"layer_{i}": v.numpy() for i, v in enumerate(encoded.layer_outputs)},
  }
  for key, value in arrays.items():
    want = expected[key]
    if value.shape[:2] == real.shape:  # padding is nobody's business
      value, want = value[real], want[real]
    np.testing.assert_allclose(value, want, rtol=1e-4, atol=2e-5, err_msg=key)
  sums = pretraining.losses(output, features)
  np.testing.assert_allclose(
    sums.masked_lm_loss_sum / (sums.masked_lm_count + 1e-5),  # as upstream
    expected["mlm_loss"],
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    sums.sentence_loss_sum / sums.sentence_count,
    expected["sent_loss"],
    rtol=1e-5,
  )


def _written(
  arrays: dict[str, np.ndarray], folder: pathlib.Path, config: str
) -> str:
  """Writes a TF 1 checkpoint and its config; returns its prefix."""
  shutil.copy(REFERENCE / config / "config.json", folder / "albert_config.json")
  return tf1_saver.save(arrays, folder / "model.ckpt-30")


def _arrays(name: str) -> dict[str, np.ndarray]:
  """Returns name → array of a reference checkpoint, as it is stored."""
  reader = tf.train.load_checkpoint(str(REFERENCE / name / "model.ckpt"))
  return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def test_a_renamed_weight_is_an_error_that_names_it(
  tmp_path: pathlib.Path,
) -> None:
  arrays = _arrays("albert_g3")
  arrays["bert/pooler/dense/kernal"] = arrays.pop("bert/pooler/dense/kernel")
  path = _written(arrays, tmp_path, "albert_g3")
  with pytest.raises(options.InputError, match=r"kernel.*kernal"):
    initial_weights.load(path, _model("albert_g3").parts())


def test_a_transposed_weight_is_an_error_though_its_size_is_right(
  tmp_path: pathlib.Path,
) -> None:
  arrays = _arrays("albert_g3")
  name = "bert/encoder/embedding_hidden_mapping_in/kernel"
  arrays[name] = arrays[name].T.copy()
  path = _written(arrays, tmp_path, "albert_g3")
  with pytest.raises(options.InputError, match=rf"{name} of .*\(64, 32\)"):
    initial_weights.load(path, _model("albert_g3").parts())


def test_a_fine_tuned_checkpoint_brings_the_encoder_and_its_head_is_left_over(
  tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  arrays = {n: a for n, a in _arrays("albert_g3").items() if n[:4] != "cls/"}
  arrays["output_weights"] = np.ones([9, 64], np.float32)
  path = _written(arrays, tmp_path, "albert_g3")
  model = _model("albert_g3")
  before = model.sentence.kernel.numpy()
  with caplog.at_level(logging.INFO, "absl"):
    initial_weights.load(path, model.parts())
  assert "new: masked_lm, sentence; left over: output_weights" in caplog.text
  np.testing.assert_array_equal(before, model.sentence.kernel.numpy())


def test_init_from_group0_fills_the_groups_that_the_checkpoint_lacks(
  tmp_path: pathlib.Path,
) -> None:
  """As in upstream's get_assignment_map_from_checkpoint, own weights win."""
  arrays = _arrays("albert_g3")
  for name in [n for n in arrays if "/group_2/" in n]:
    del arrays[name]
  path = _written(arrays, tmp_path, "albert_g3")
  model = _model("albert_g3")
  with pytest.raises(options.InputError, match="give --init_from_group0, or"):
    initial_weights.load(path, model.parts())
  initial_weights.load(path, model.parts(), init_from_group0=True)
  filled = tf1_checkpoints.tables(model.parts())["encoder"]
  place = "bert/encoder/transformer/group_{}/inner_group_0/{}"
  for part in ("ffn_1/intermediate/dense/kernel", "LayerNorm_1/beta"):
    for group, source in enumerate((0, 1, 0)):
      np.testing.assert_array_equal(
        filled[place.format(group, part)].numpy(),
        arrays[place.format(source, part)],
      )


def test_a_config_is_found_beside_a_prefix_and_may_have_more_groups(
  tmp_path: pathlib.Path,
) -> None:
  path = _written(_arrays("albert_g1_trained"), tmp_path, "albert_g1_trained")
  given = str(REFERENCE / "albert_g3" / "config.json")
  assert initial_weights.settle_config("", "", path).num_hidden_groups == 1
  with pytest.raises(options.InputError, match="the config of"):
    initial_weights.settle_config(given, "", path)
  settled = initial_weights.settle_config(given, "", path, True)
  assert settled.num_hidden_groups == 3
  bare = tmp_path / "bare"
  bare.mkdir()
  path = tf1_saver.save(_arrays("albert_g3"), bare / "model.ckpt")
  with pytest.raises(options.InputError, match="none, nor a config in"):
    initial_weights.settle_config("", "", path)


@pytest.mark.parametrize("name", ["albert_g3", "bert_trained"])
@pytest.mark.parametrize("own", [False, True])
def test_a_config_json_beside_a_checkpoint_is_the_last_that_is_looked_for(
  name: str, own: bool, tmp_path: pathlib.Path
) -> None:
  """A config.json has Google's form or that of transformers.

  google-research/albert 87, transformers 2022.
  """
  family = configs.BertConfig if "bert_" in name[:5] else configs.AlbertConfig
  for suffix in ("index", "data-00000-of-00001"):
    shutil.copy(REFERENCE / name / f"model.ckpt.{suffix}", tmp_path)
  values = json.loads((REFERENCE / name / "config.json").read_text("utf-8"))
  own_values = {
    "model_type": family.FAMILY.lower(),
    "transformers_version": "4.1",
    "architectures": ["BertModel"],
    "id2label": {"0": "а"},
  }
  path = str(tmp_path / "model.ckpt")
  right = family.from_file(str(REFERENCE / name / "config.json"))
  text = json.dumps(values | own_values if own else values)
  (tmp_path / "config.json").write_text(text)
  config = initial_weights.settle_config("", "", path)
  # "gelu" is google's there too, as the weights are.
  assert dataclasses.replace(config, inert=()) == (
    dataclasses.replace(right, inert=())
  )
  changed_text = json.dumps(values | {"initializer_range": 0.5})
  for file in reversed(configs.FAMILIES):  # albert_config.json goes first
    if file is family:
      (tmp_path / file.FILE).write_text(changed_text)
      config = initial_weights.settle_config("", "", path)
      assert config.initializer_range == 0.5
    elif family is configs.BertConfig:
      (tmp_path / file.FILE).write_text('{"vocab_size": 5}')
      with pytest.raises(options.InputError, match="exactly the weights of th"):
        initial_weights.settle_config("", "", path)


def _numbers(name: str, path: str) -> None:
  """Requires a model that begins from a path to give google's outputs."""
  model, features = _model(name), _features()
  initial_weights.load(path, model.parts())
  expected = np.load(REFERENCE / name / "outputs.npz")
  output = model(features)
  for logits, key in (
    (output.masked_lm_logits.numpy().reshape(12, -1), "mlm_logits"),
    (output.sentence_logits.numpy(), "sent_logits"),
  ):
    scale = np.abs(expected[key]).max()
    np.testing.assert_allclose(logits, expected[key], atol=1e-5 * scale)


@pytest.mark.parametrize("scope", ["", "module/"])
@pytest.mark.parametrize(
  "name", ["albert_g1_trained", "albert_g3", "bert_trained"]
)
def test_a_module_of_tf_hub_gives_google_researchs_numbers(
  name: str, scope: str, tmp_path: pathlib.Path
) -> None:
  """TF Hub's names: google-research/albert 87 and 22, transformers 2022."""
  arrays = {
    f"{scope}{key}": array
    for key, array in _arrays(name).items()
    if key.split("/")[-1] not in tf1_checkpoints.SLOTS
  }
  content = (REFERENCE / name / "config.json").read_bytes()
  bert = name.startswith("bert")
  assets = {
    "bert_config.json" if bert else "albert_config.json": content,
    "vocab.txt" if bert else "30k-clean.model": b"[PAD]\n",
    "30k-clean.vocab": b"",
  }
  path = tf1_saver.save_module(arrays, tmp_path / "module", assets)
  for place in (path, f"{path}/variables", f"{path}/variables/variables"):
    assert initial_weights.format_of(place) is initial_weights.Format.TF1
    config = initial_weights.settle_config("", "", place)
    assert config == _model(name).encoder.config
    tokenizer_file = pathlib.Path(initial_weights.tokenizer_file(place))
    assert tokenizer_file.parent.name == "assets"
    _numbers(name, place)


@pytest.mark.parametrize("name", ["albert_g3", "bert_trained"])
def test_the_scope_of_another_program_is_no_other_configuration(
  name: str, tmp_path: pathlib.Path
) -> None:
  """One checkpoint's names begin with a module's scope, one's do not.

  The first is of a program that loads a module in its graph.
  """
  arrays = _arrays(name)
  for scope, bert in (("module/", "bert/"), ("model/x/", "albert/"), ("", "")):
    folder = tmp_path / f"in {scope}{bert}".replace("/", "_")
    folder.mkdir()
    renamed = {
      scope + (bert + key[5:] if key.startswith("bert/") else key): array
      for key, array in arrays.items()
    }
    path = tf1_saver.save(renamed, folder / "model.ckpt-7")
    _numbers(name, path)


def test_a_module_becomes_a_model_directory_from_an_archive_too(
  tmp_path: pathlib.Path,
  tokenizer_file: str,
  capsys: pytest.CaptureFixture[str],
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.setenv("ALBERT_MN_CACHE", str(tmp_path / "cache"))
  arrays = {f"module/{n}": a for n, a in _arrays("albert_g3").items()}
  assets = {
    "albert_config.json": (REFERENCE / "albert_g3/config.json").read_bytes(),
    "30k-clean.model": pathlib.Path(tokenizer_file).read_bytes(),
  }
  tf1_saver.save_module(arrays, tmp_path / "module", assets)
  archive = tmp_path / "albert_base_2.tar.gz"
  with tarfile.open(archive, "w:gz") as packed:
    packed.add(tmp_path / "module", ".")
  for source, folder in ((tmp_path / "module", "a"), (archive, "b")):
    conversion.run(
      conversion.Options(
        from_="tf1",
        init_checkpoint=str(source),
        output_dir=f"{tmp_path}/{folder}",
      )
    )
    said = capsys.readouterr().out
    assert "ALBERT of google-research, TF 1" in said
    assert "assets/30k-clean.model" in said
    assert "activation: the tanh form of gelu, as google-research" in said
    config = model_directory.config(f"{tmp_path}/{folder}")
    assert config
    model = pretraining.PretrainingModel(config, 0)
    model_directory.restore(f"{tmp_path}/{folder}", model.parts())
    original = _model("albert_g3")
    initial_weights.load(str(REFERENCE / "albert_g3"), original.parts())
    for variable, expected in zip(
      model.variables, original.variables, strict=True
    ):
      np.testing.assert_array_equal(variable, expected)


@pytest.mark.parametrize(
  ("rename", "message"),
  [
    # Of a changed google-research/albert under Keras (transformers 10774).
    (
      lambda n: n.replace(
        "group_0/inner_group_0/LayerNorm/",
        "group_0_1/layer_1/inner_group_0/layer_normalization_3/",
      ),
      "another program wrote these names, and no configuration helps",
    ),
    (lambda n: f"x{n.replace('/', '_')}", "no name of theirs is there"),
  ],
)
def test_names_of_other_programs_are_no_other_configuration(
  rename: Callable[[str], str], message: str, tmp_path: pathlib.Path
) -> None:
  arrays = {rename(n): a for n, a in _arrays("albert_g3").items()}
  path = _written(arrays, tmp_path, "albert_g3")
  with pytest.raises(options.InputError, match=message):
    initial_weights.load(path, _model("albert_g3").parts())


def test_a_config_of_the_other_family_or_depth_is_said(
  tmp_path: pathlib.Path,
) -> None:
  path = _written(_arrays("albert_g3"), tmp_path, "albert_g3")
  with pytest.raises(
    options.InputError, match="where that is of the other fam"
  ):
    initial_weights.load(path, _model("bert_trained").parts())
  path = _written(_arrays("albert_g3"), tmp_path, "albert_g3")
  with pytest.raises(
    options.InputError, match=": give the configuration it was"
  ):
    initial_weights.load(path, _model("albert_g1_trained").parts())
