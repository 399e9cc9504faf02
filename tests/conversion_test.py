"""Tests that converted models of every format give the same outputs."""

import dataclasses
import json
import os
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import (
  conversion,
  foreign_text,
  huggingface,
  initial_weights,
)
from albert_mn.models import model_directory, plain_forward, pretraining
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import manifest, storage
from tests import foreign_configs_test, running, tf1_saver

REFERENCE = pathlib.Path(__file__).parent / "reference"
TOPICS = REFERENCE / "hf_topics"  # printed by transformers 5.24


def _converted(
  path: pathlib.Path, folder: pathlib.Path, **flags: Any
) -> pathlib.Path:
  conversion.run(
    conversion.Options(
      init_checkpoint=str(path), output_dir=str(folder), **flags
    )
  )
  return folder


def _config_of(name: str) -> dict[str, str]:
  family = "bert" if "bert_" in name and "albert" not in name else "albert"
  path = REFERENCE / name / "config.json"
  return {f"{family}_config_file": str(path)}


@pytest.mark.parametrize(
  "name", ["albert_g1_trained", "albert_g3", "bert_trained"]
)
def test_a_tf1_checkpoint_gives_google_researchs_numbers_after_conversion(
  name: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
  """The folder alone is given; its checkpoint has the optimizer's weights."""
  folder = _converted(
    REFERENCE / name, tmp_path / "model", from_="tf1", **_config_of(name)
  )
  said = capsys.readouterr().out
  if name.endswith("trained"):
    assert "x adam_m (the optimizer's" in said
  else:
    assert "left over" not in said
  config = model_directory.config(str(folder))
  assert config
  model = pretraining.PretrainingModel(config, 5)
  model_directory.restore(str(folder), model.parts())
  given = dict(np.load(REFERENCE / "inputs.npz"))
  expected = np.load(REFERENCE / name / "outputs.npz")
  output = model({n: tf.constant(v) for n, v in given.items()})
  for logits, key in (
    (output.masked_lm_logits.numpy().reshape(12, -1), "mlm_logits"),
    (output.sentence_logits.numpy(), "sent_logits"),
  ):
    scale = np.abs(expected[key]).max()
    np.testing.assert_allclose(logits, expected[key], atol=1e-5 * scale)
  assert manifest.check(str(folder), "pretrained_model")


@pytest.mark.parametrize("name", ["albert_g3", "bert_trained"])
def test_the_plain_computation_gives_google_researchs_numbers(
  name: str,
) -> None:
  """Conversions are compared with this computation: it must be right."""
  source = initial_weights.read(str(REFERENCE / name))
  config = initial_weights.settle_config(path="", **_both(_config_of(name)))
  given = np.load(REFERENCE / "inputs.npz")
  expected = np.load(REFERENCE / name / "outputs.npz")
  ids, mask = given["input_ids"], given["input_mask"]
  model = plain_forward.PlainModel(source.arrays, config)
  # It reads texts, all of segment 0: the second table's row is put there.
  names = model._arrays
  table = names["embeddings.token_type_embeddings.weight"]
  for row in range(len(ids)):
    kinds = given["segment_ids"][row]
    shifted = names["embeddings.position_embeddings.weight"].copy()
    shifted[: len(kinds)] += table[kinds] - table[0]
    model._arrays = names | {"embeddings.position_embeddings.weight": shifted}
    outputs = model.outputs(ids[row : row + 1], mask[row : row + 1])
    np.testing.assert_allclose(
      outputs["sequence"],
      expected["sequence_output"][row][mask[row].astype(bool)],
      rtol=1e-4,
      atol=2e-5,
    )


def _both(config_flag: dict[str, str]) -> dict[str, Any]:
  return {"albert_config_file": "", "bert_config_file": ""} | config_flag


def test_a_classifier_of_transformers_predicts_here_what_it_did_there(
  tmp_path: pathlib.Path,
) -> None:
  folder = _converted(TOPICS, tmp_path / "model")
  predictor = classifier.Predictor.load(str(folder))
  assert predictor.names == ["спорт", "улс төр", "эдийн засаг"]
  expected = json.loads((TOPICS / "outputs.json").read_text("utf-8"))
  np.testing.assert_allclose(
    predictor.logits(expected["texts"]), expected["logits"], atol=1e-5
  )
  parameters = manifest.check(str(folder), "classifier")["parameters"]
  assert parameters["do_lower_case"]
  assert parameters["strip_accents"]
  assert parameters["longest_word"] == 100, "as transformers has it"
  assert parameters["max_seq_length"] == 24
  assert (folder / "vocab.txt").exists()


def test_a_foreign_wordpiece_model_is_fine_tuned_with_its_normalisation(
  tmp_path: pathlib.Path,
) -> None:
  lines = [f"Сайн хоёр {n}\tа\nуу {n}\tб" for n in range(12)]
  (tmp_path / "train.tsv").write_text(
    "text\tlabel\n" + "\n".join(lines) + "\n", encoding="utf-8"
  )
  classification.run(
    classification.Options(
      train_file=f"{tmp_path}/train.tsv",
      init_checkpoint=str(TOPICS),
      output_dir=f"{tmp_path}/out",
      do_train=True,
    ),
    fine_tuning.Recipe(
      max_seq_length=16, learning_rate=0.0, num_train_epochs=1.0
    ),
  )
  content = manifest.check(f"{tmp_path}/out/model", "classifier")
  assert content["parameters"]["strip_accents"] is True
  predictor = classifier.Predictor.load(f"{tmp_path}/out/model")
  accented, normalized = predictor.logits(["САЙН хоёр", "саин хоер"])
  np.testing.assert_array_equal(accented, normalized)


def _written(
  arrays: dict[str, np.ndarray], folder: pathlib.Path, name: str
) -> None:
  """Writes a TF 1 checkpoint of arrays, and the config of a reference model."""
  tf1_saver.save(arrays, folder / "model.ckpt-900")
  shutil.copy(REFERENCE / name / "config.json", folder / "albert_config.json")


def _fine_tuned(folder: pathlib.Path) -> np.ndarray:
  """Writes a classifier's checkpoint as google-research's run_classifier does.

  Returns the weights of the output layer, [3, 64].
  """
  reader = tf.train.load_checkpoint(str(REFERENCE / "albert_g3/model.ckpt"))
  names = [n for n in reader.get_variable_to_shape_map() if n[:4] != "cls/"]
  arrays = {name: reader.get_tensor(name) for name in names}
  weights = np.random.default_rng(0).normal(size=[3, 64]).astype(np.float32)
  arrays |= {"output_weights": weights, "output_bias": weights[:, 0]}
  _written(arrays, folder, "albert_g3")
  return weights


def test_a_classifier_of_run_classifier_needs_its_labels_and_gives_its_logits(
  tmp_path: pathlib.Path, tokenizer_file: str
) -> None:
  source = tmp_path / "theirs"
  source.mkdir()
  weights = _fine_tuned(source)
  with pytest.raises(options.InputError, match="--labels_file with the 3"):
    _converted(source, tmp_path / "model")
  labels = tmp_path / "labels.txt"
  labels.write_text("спорт\nэдийн засаг\n", encoding="utf-8")
  with pytest.raises(options.InputError, match=r"3 different labels.*got 2"):
    _converted(source, tmp_path / "model", labels_file=str(labels))
  with pytest.raises(options.InputError, match="reads no text"):
    labels.write_text("а\nб\nв\n", encoding="utf-8")
    _converted(source, tmp_path / "model", labels_file=str(labels))
  shutil.copy(tokenizer_file, source / "spm.model")
  labels.write_text('["спорт", "эдийн засаг", "урлаг"]', encoding="utf-8")
  assert not (tmp_path / "model").exists()
  folder = _converted(source, tmp_path / "model", labels_file=str(labels))
  config = model_directory.config(str(folder))
  assert config
  model = classifier.Classifier(config, 3, seed=9)
  model_directory.restore(str(folder), model.parts())
  given = np.load(REFERENCE / "inputs.npz")
  pooled = model.encoder(
    given["input_ids"], given["input_mask"], given["segment_ids"]
  ).pooled_output
  expected = np.load(REFERENCE / "albert_g3" / "outputs.npz")["pooled_output"]
  np.testing.assert_allclose(pooled, expected, atol=2e-5)
  np.testing.assert_allclose(
    model.classifier(pooled), expected @ weights.T + weights[:, 0], atol=1e-3
  )
  content = manifest.check(str(folder), "classifier")
  assert content["counts"]["global_step"] == 900


def test_what_classifies_pieces_is_no_classifier_of_texts(
  tmp_path: pathlib.Path,
) -> None:
  source = tmp_path / "theirs"
  shutil.copytree(TOPICS, source)
  values = json.loads((source / "config.json").read_text("utf-8"))
  values["architectures"] = ["BertForTokenClassification"]
  (source / "config.json").write_text(json.dumps(values))
  folder = _converted(source, tmp_path / "model")
  assert manifest.check(str(folder), "pretrained_model")


def test_a_pickle_of_mn_tweet_bert_keeps_its_own_gelu(
  tmp_path: pathlib.Path,
) -> None:
  """The config has google's name and no model_type; its "gelu" is PyTorch's."""
  theirs = tmp_path / "theirs"
  theirs.mkdir()
  shutil.copy(REFERENCE / "hf_bert/pytorch_model.bin", theirs)
  values = json.loads((REFERENCE / "hf_bert/config.json").read_text())
  values = {n: values[n] for n in foreign_configs_test.SHAPE}
  values["hidden_act"] = "gelu"
  (tmp_path / "given.json").write_text(json.dumps(values))
  given = str(tmp_path / "given.json")
  path = theirs / "pytorch_model.bin"
  folder = _converted(path, tmp_path / "one", bert_config_file=given)
  shutil.copy(given, theirs / "bert_config.json")
  with_own_config = _converted(theirs, tmp_path / "two")
  for converted in (folder, with_own_config):
    config = model_directory.config(str(converted))
    assert config
    assert config.hidden_act == "gelu_erf"
  whole = _converted(REFERENCE / "hf_bert", tmp_path / "three")
  names = ("model.ckpt.data-00000-of-00001", "bert_config.json")
  for name in names:
    assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_outputs_that_differ_leave_nothing_behind(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Two names of a table are exchanged, which the comparison must notice."""
  names = dict(huggingface._BERTS_BLOCK)
  names["query"], names["key"] = names["value"], names["query"]
  names["value"] = huggingface._BERTS_BLOCK["key"]
  monkeypatch.setattr(huggingface, "_BERTS_BLOCK", names)
  with pytest.raises(options.InputError, match=r"within 0.0001 of the source"):
    _converted(REFERENCE / "hf_bert", tmp_path / "model")
  assert list(tmp_path.iterdir()) == []


def test_files_of_a_model_that_is_not_ours_are_left_alone(
  tmp_path: pathlib.Path,
) -> None:
  theirs = tmp_path / "albert_base"
  shutil.copytree(REFERENCE / "albert_g3", theirs)
  before = running.digests(theirs)
  with pytest.raises(options.InputError, match="name another folder"):
    _converted(theirs, theirs)
  assert running.digests(theirs) == before
  assert list(tmp_path.iterdir()) == [theirs]


def test_a_checkpoint_that_is_something_else_than_told_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  with pytest.raises(options.InputError, match=r"TF 1.s weights .* Hugging"):
    _converted(TOPICS, tmp_path / "model", from_="tf1")
  with pytest.raises(options.InputError, match="a classifier's weights"):
    _converted(
      REFERENCE / "hf_bert", tmp_path / "model", labels_file="labels.txt"
    )


def test_another_tokenizer_than_the_one_beside_the_weights_is_refused(
  tmp_path: pathlib.Path, tokenizer_file: str
) -> None:
  source = tmp_path / "theirs"
  source.mkdir()
  _fine_tuned(source)
  (tmp_path / "labels.txt").write_text("а\nб\nв\n", encoding="utf-8")
  for name in ("mn_cased.model", "mn_uncased.model"):
    shutil.copy(tokenizer_file, source / name)
  flags = {"labels_file": f"{tmp_path}/labels.txt"}
  with pytest.raises(options.InputError, match=r"mn_cased.model, mn_uncased"):
    _converted(source, tmp_path / "model", **flags)
  flags["spm_model_file"] = f"{source}/mn_uncased.model"
  _converted(source, tmp_path / "model", **flags)
  (source / "mn_cased.model").unlink()
  (tmp_path / "other.model").write_bytes(b"of another language")
  flags["spm_model_file"] = f"{tmp_path}/other.model"
  with pytest.raises(options.InputError, match="leave --spm_model_file out"):
    _converted(source, tmp_path / "other", **flags)


@pytest.mark.parametrize(
  ("names", "texts", "message"),
  [
    ([], {}, "got no checkpoint at"),
    (["model.safetensors"], {}, "none, nor a config in"),
    (
      ["config.json"],
      {"pytorch_model.bin": ""},
      "whole tensors in .*exhausted",
    ),
    (
      ["config.json"],
      {"model.safetensors.index.json": '{"weight_map": [1]}'},
      "weight_map in .*copy the file again",
    ),
    (
      ["config.json", "model.safetensors"],
      {"tokenizer.json": '{"model": 3}'},
      "a Unigram or WordPiece tokenizer",
    ),
    (
      ["config.json", "model.safetensors", "vocab.txt"],
      {"tokenizer.json": '{"normalizer": {"normalizers": [3]}}'},
      "a normalizer and a model in .*tokenizer.json",
    ),
    (
      ["config.json", "model.safetensors", "vocab.txt"],
      {"tokenizer_config.json": "x"},
      "a JSON object in .*tokenizer_config",
    ),
    (
      ["model.safetensors", "vocab.txt"],
      {"config.json": '{"model_type": "roberta"}'},
      "albert or bert",
    ),
  ],
)
def test_a_folder_in_which_something_is_wrong_is_told_in_one_line(
  tmp_path: pathlib.Path,
  names: list[str],
  texts: dict[str, str],
  message: str,
) -> None:
  source = tmp_path / "theirs"
  source.mkdir()
  for name in names:
    shutil.copy(TOPICS / name, source)
  for name, text in texts.items():
    (source / name).write_text(text)
  with pytest.raises(options.InputError, match=message):
    _converted(source, tmp_path / "model")
  assert not (tmp_path / "model").exists()


def _text(folder: pathlib.Path, tokenizer: str) -> foreign_text.ReadSettings:
  config = initial_weights.settle_config("", "", str(folder))
  return initial_weights.text_settings(str(folder), tokenizer, config)


def test_what_says_how_a_model_wants_its_text(
  tmp_path: pathlib.Path, tokenizer_file: str, digit_comma_file: str
) -> None:
  theirs = tmp_path / "theirs"
  shutil.copytree(REFERENCE / "hf_albert", theirs)

  def settings(**config: object) -> tokenization.Settings:
    (theirs / "tokenizer_config.json").write_text(json.dumps(config))
    return _text(theirs, tokenizer_file).settings

  stripped = tokenization.Settings(True, True, True)
  assert settings() == stripped, "transformers' defaults"
  kept = settings(keep_accents=True, do_lower_case=False)
  assert kept == tokenization.Settings(replace_quotes=True)
  normalizer = {
    "type": "Sequence",
    "normalizers": [{"type": "Precompiled"}, {"type": "Lowercase"}],
  }
  (theirs / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer}))
  assert settings() == tokenization.Settings(True), "tokenizer.json goes first"
  google = tmp_path / "google"
  google.mkdir()
  _fine_tuned(google)
  text = _text(google, tokenizer_file)
  assert text.settings == tokenization.Settings(strip_accents=True)
  assert text.repaired().settings == tokenization.Settings()
  divided = tokenization.Settings(split_digit_commas=True)
  text = _text(google, digit_comma_file)
  assert text.settings == dataclasses.replace(divided, strip_accents=True)
  assert text.repaired().settings == divided
  # transformers 4 made a tokenizer.json in which those pieces are unlikely.
  vocab = [["▁22,", -101.0], ["5,", -101.0]]
  (theirs / "tokenizer.json").write_text(
    json.dumps({"model": {"type": "Unigram", "vocab": vocab}})
  )
  assert settings() == divided


def test_repair_lets_letters_be_that_the_model_was_trained_without(
  tmp_path: pathlib.Path,
  tokenizer_file: str,
  capsys: pytest.CaptureFixture[str],
) -> None:
  source = tmp_path / "theirs"
  source.mkdir()
  reader = tf.train.load_checkpoint(str(REFERENCE / "albert_g3/model.ckpt"))
  names = list(reader.get_variable_to_shape_map())
  _written({n: reader.get_tensor(n) for n in names}, source, "albert_g3")
  shutil.copy(tokenizer_file, source / "30k-mn.model")
  folder = _converted(source, tmp_path / "as_trained")
  assert "--repair_normalization" in capsys.readouterr().out
  parameters = manifest.check(str(folder), "pretrained_model")["parameters"]
  assert parameters["strip_accents"] is True
  text = tokenization.Settings.of(parameters)
  tokenizer = tokenization.Tokenizer.with_settings(
    model_directory.tokenizer_file(str(folder)), text
  )
  bare, intact = (
    tokenization.Tokenizer(tokenizer_file).encode([t])[0].tolist()
    for t in ("хоер саин", "хоёр сайн")
  )
  assert tokenizer.encode(["хоёр сайн"])[0].tolist() == bare != intact
  folder = _converted(source, tmp_path / "repaired", repair_normalization=True)
  parameters = manifest.check(str(folder), "pretrained_model")["parameters"]
  assert "strip_accents" not in parameters


def test_mongolian_berts_uncased_model_is_lower_cased_and_keeps_its_letters() -> (
  None
):
  shared = os.environ.get("ALBERT_MN_SHARED")
  if not shared:
    pytest.skip("ALBERT_MN_SHARED is unset: no foreign models here")
  for name, lower in (("mn_uncased", True), ("mn_cased", False)):
    text = initial_weights.text_settings(
      str(REFERENCE / "bert_trained"),
      f"{shared}/data/spm/{name}.model",
      initial_weights.settle_config(
        path="", **_both(_config_of("bert_trained"))
      ),
    )
    assert text.settings == tokenization.Settings(lower), name


def test_labels_may_be_one_long_line_of_json_or_hold_separators(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "labels"
  names = [f"{'шошго' * 20}{number}" for number in range(8_000)]
  path.write_text("\ufeff" + json.dumps(names, ensure_ascii=False), "utf-8")
  assert path.stat().st_size > storage.MAX_LINE_BYTES
  assert conversion.read_labels(str(path)) == names
  path.write_bytes("\ufeffa\u2028b\r\n\r\nc".encode())
  assert conversion.read_labels(str(path)) == ["a\u2028b", "c"]
