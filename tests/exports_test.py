"""Tests that exports give the model's ids and outputs, or are not written."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from albert_mn.export import (
  export_graphs,
  export_source,
  exports,
  lite,
  serving,
)
from albert_mn.formats import (
  conversion,
  foreign_text,
  huggingface_tokenizer,
  initial_weights,
  tf1_checkpoints,
)
from albert_mn.inference import predictions
from albert_mn.models import configs, pretraining, tensor_files
from albert_mn.tasks import classifier, problems, tagging
from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.encoding import tokenization
from data_prep.files import manifest, storage
from tests import exported, running, troublesome_texts

REFERENCE = pathlib.Path(__file__).parent / "reference"


def _export(model_dir: str, to: str, out: pathlib.Path, **more: Any) -> str:
  exports.run(
    exports.Options(model_dir=model_dir, to=to, output_dir=str(out), **more)
  )
  return str(out)


@pytest.fixture(scope="module")
def classifier_dir(
  tokenizer_file: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
  folder = tmp_path_factory.mktemp("run") / "model"
  return exported.save_classifier(
    folder, exported.SHAPES["albert"], tokenizer_file
  )


@pytest.fixture(scope="module")
def pretrained_dir(
  tokenizer_file: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
  folder = tmp_path_factory.mktemp("pretraining") / "model"
  return exported.save_pretrained(
    folder, exported.SHAPES["albert"], tokenizer_file
  )


def _weights(folder: str) -> dict[str, np.ndarray]:
  source = export_source.opened(folder)
  return {
    f"{part}{i}": variable.numpy()
    for part, layer in source.parts.items()
    for i, variable in enumerate(layer.variables)
  }


def _assert_equal(
  arrays: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
  assert arrays.keys() == expected.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_weights_alone_keep_all_but_the_optimizer(
  pretrained_dir: str, tmp_path: pathlib.Path
) -> None:
  out = _export(pretrained_dir, "weights", tmp_path / "out")
  _assert_equal(_weights(out), _weights(pretrained_dir))
  assert set(export_source.opened(out).parts) == {
    "encoder",
    "masked_lm",
    "sentence",
  }


@pytest.mark.parametrize("to", ["tf1", "huggingface"])
@pytest.mark.parametrize(
  ("kind", "shape"),
  [
    ("classifier", "albert"),
    ("pretrained", "bert"),
    *(
      pytest.param(kind, shape, marks=pytest.mark.slow)
      for kind, shape in (
        ("classifier", "bert"),
        ("classifier", "equal_widths"),
        ("pretrained", "albert"),
        ("pretrained", "equal_widths"),
      )
    ),
  ],
)
def test_there_and_back_changes_no_bit(
  to: str, shape: str, kind: str, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  save = {
    "classifier": exported.save_classifier,
    "pretrained": exported.save_pretrained,
  }[kind]
  folder = save(tmp_path / "model", exported.SHAPES[shape], tokenizer_file)
  out = _export(folder, to, tmp_path / "out")
  more: dict[str, Any] = (
    {} if to == "huggingface" else {"labels_file": f"{out}/labels.json"}
  )
  conversion.run(
    conversion.Options(
      init_checkpoint=out,
      output_dir=str(tmp_path / "back"),
      **(more if kind == "classifier" else {}),
    )
  )
  _assert_equal(_weights(str(tmp_path / "back")), _weights(folder))
  source, back = (
    export_source.opened(folder),
    export_source.opened(str(tmp_path / "back")),
  )
  assert (source.config, source.labels) == (back.config, back.labels)
  texts = [*foreign_text.SENTENCES, "саи\u0306н  ХОЁР \u200bА\u0301"]
  for ids, ids_back in zip(
    source.tokenizer().encode(texts),
    back.tokenizer().encode(texts),
    strict=True,
  ):
    assert ids.tolist() == ids_back.tolist()


@pytest.mark.parametrize(
  "name", ["albert_g1_trained", "albert_g3", "bert_trained"]
)
def test_tf1_names_and_values_are_google_researchs(
  name: str, tmp_path: pathlib.Path
) -> None:
  """A checkpoint of google-research that is loaded and exported is the same."""
  theirs = str(REFERENCE / name / "model.ckpt")
  kind = "bert" if name.startswith("bert") else "albert"
  file = str(REFERENCE / name / "config.json")
  config = initial_weights.settle_config(
    file if kind == "albert" else "", file if kind == "bert" else "", theirs
  )
  model = pretraining.PretrainingModel(config, 0)
  initial_weights.load(theirs, model.parts())
  prefix = str(tmp_path / "model.ckpt")
  tf1_checkpoints.write(prefix, model.parts(), config)
  expected = {
    n: tf.train.load_variable(theirs, n)
    for n, _ in tf.train.list_variables(theirs)
    if n.rsplit("/", 1)[-1] not in tf1_checkpoints.SLOTS
  }
  written = {
    n: tf.train.load_variable(prefix, n)
    for n, _ in tf.train.list_variables(prefix)
  }
  _assert_equal(written, expected)


def _alone(code: str, *arguments: str) -> Any:
  """Runs code that cannot import this project; returns the JSON it prints."""
  done = subprocess.run(
    [sys.executable, "-I", "-c", code, *arguments],
    cwd="/",
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout)


_SERVE = """
import json, sys
import tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
served = model.signatures["serving_default"]
texts = json.loads(sys.argv[2])
found = {n: v.numpy().tolist() for n, v in served(texts=tf.constant(texts)).items()}
found["labels"] = [label.decode() for label in found["labels"]]
names = model.signatures["label_names"]()["label_names"].numpy()
found["names"] = [name.decode() for name in names]
assert not any(m.startswith(("albert_mn", "data_prep", "official")) for m in sys.modules)
print(json.dumps(found))
"""
_TEXTS = troublesome_texts.FEW


@pytest.mark.parametrize(
  "pieces",
  ["SentencePiece", pytest.param("WordPiece", marks=pytest.mark.slow)],
)
def test_a_saved_model_needs_tensorflow_and_tensorflow_text_alone(
  pieces: str, classifier_dir: str, tmp_path: pathlib.Path
) -> None:
  if pieces == "WordPiece":
    classifier_dir = _of_wordpiece(tmp_path / "model")
  out = _export(classifier_dir, "saved_model", tmp_path / "out")
  outputs = _alone(_SERVE, out, json.dumps(_TEXTS))
  predictor = classifier.Predictor.load(classifier_dir)
  assert outputs["names"] == list(exported.LABELS)
  assert outputs["labels"] == predictor.best(_TEXTS)
  assert len(set(outputs["labels"])) > 1, "a test that any label would pass"
  np.testing.assert_allclose(
    outputs["probabilities"], predictor.probabilities(_TEXTS), atol=1e-5
  )
  np.testing.assert_allclose(
    outputs["logits"], predictor.logits(_TEXTS), atol=1e-4
  )


def _of_wordpiece(folder: pathlib.Path) -> str:
  """Writes a classifier with uncased WordPiece; returns its path."""
  known = json.loads((REFERENCE / "wordpiece.json").read_text("utf-8"))
  vocabulary = folder.parent / "vocab.txt"
  vocabulary.write_text("\n".join(known["vocabulary"]) + "\n", "utf-8")
  return exported.save_classifier(
    folder,
    exported.SHAPES["bert"],
    str(vocabulary),
    do_lower_case=True,
    strip_accents=True,
  )


def _saved(kind: str, folder: pathlib.Path, tokenizer_file: str) -> str:
  """Writes a classifier of one of exported.KINDS; returns its path."""
  labels, parameters = exported.KINDS[kind]
  shape = exported.SHAPES["albert"]
  return exported.save_classifier(
    folder, shape, tokenizer_file, labels, **parameters
  )


_SLOW = pytest.mark.slow
_OTHERS = ("tflite", "tflite_int8", "huggingface", "tf1")
_KINDS = (
  "multi_label",
  *(pytest.param(k, marks=pytest.mark.slow) for k in ("class", "regression")),
)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_saved_model_answers_as_its_kind_does(
  kind: str, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  folder = _saved(kind, tmp_path / "model", tokenizer_file)
  out = _export(folder, "saved_model", tmp_path / "out")
  served = tf.saved_model.load(out).signatures["serving_default"]
  outputs = {
    name: value.numpy()
    for name, value in served(texts=tf.constant(_TEXTS)).items()
  }
  predictor = classifier.Predictor.load(folder)
  shares = predictor.probabilities(_TEXTS)
  if kind == "regression":
    assert set(outputs) == {"values"}
    np.testing.assert_allclose(outputs["values"], shares[:, 0], rtol=1e-5)
    return
  np.testing.assert_allclose(outputs["probabilities"], shares, atol=1e-5)
  told = [predictions.answer_text(predictor.problem, row) for row in shares]
  names = np.char.decode(outputs["labels"].astype("S"), "utf-8")
  if kind == "multi_label":
    assert [[n for n in row if n] for row in names] == list(
      map(json.loads, told)
    )
    assert len(set(told)) > 1, "a test that any answer would pass"
  else:
    assert names.tolist() == told


@pytest.mark.parametrize(
  "to",
  ["saved_model", *(pytest.param(to, marks=_SLOW) for to in _OTHERS)],
)
def test_pairs_are_read_as_their_predictor_reads_them(
  to: str, tokenizer_file: str, tmp_path: pathlib.Path, capsys: Any
) -> None:
  folder = exported.save_classifier(
    tmp_path / "model", exported.SHAPES["bert"], tokenizer_file, text_pair=True
  )
  rows = tmp_path / "rows.jsonl"
  rows.write_text(
    "".join(
      json.dumps(dict(zip(("text", "pair", "label"), row, strict=True))) + "\n"
      for row in zip(_TEXTS, _TEXTS[::-1], exported.LABELS * 9, strict=False)
      if all(map(str.strip, row))
    )
  )
  more = dict(eval_file=str(rows), text_pair_column="pair")
  lite = to.startswith("tflite")
  out = _export(folder, to, tmp_path / "out", **(more if lite else {}))
  pairs = [
    (a, b) if b else a for a, b in zip(_TEXTS, _TEXTS[::-1], strict=True)
  ]
  expected = classifier.Predictor.load(folder).logits(pairs)
  if to == "saved_model":
    served = tf.saved_model.load(out).signatures["serving_default"]
    logits = served(
      texts=tf.constant(_TEXTS), text_pairs=tf.constant(_TEXTS[::-1])
    )["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-4)
  elif lite:
    assert re.search(
      r"accuracy on \d+ rows of rows.jsonl", capsys.readouterr().out
    )
  else:
    conversion.run(
      conversion.Options(init_checkpoint=out, output_dir=str(tmp_path / "back"))
    )
    back = classifier.Predictor.load(str(tmp_path / "back"))
    assert back.manifest["parameters"]["text_pair"]
    np.testing.assert_allclose(back.logits(pairs), expected, atol=1e-4)
  told = (tmp_path / "out/README.md").read_text("utf-8")
  how = {"saved_model": "text_pairs=tf", "huggingface": '"text_pair": "'}
  assert how.get(to, "Segment ids" if lite else "of google-research") in told


@pytest.mark.parametrize(
  "long_text",
  [
    "windows",
    pytest.param("head_tail", marks=pytest.mark.slow),
  ],
)
def test_a_saved_model_reads_long_texts_as_its_predictor(
  long_text: str, tokenizer_file: str, tmp_path: pathlib.Path, capsys: Any
) -> None:
  folder = exported.save_classifier(
    tmp_path / "model",
    exported.SHAPES["bert"],
    tokenizer_file,
    long_text=long_text,
  )
  out = _export(folder, "saved_model", tmp_path / "out")
  served = tf.saved_model.load(out).signatures["serving_default"]
  logits = served(texts=tf.constant(_TEXTS))["logits"]
  expected = classifier.Predictor.load(folder).logits(_TEXTS)
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  told = {
    "windows": "windows of 22 pieces, one every 11, the last up to the end",
    "head_tail": "the first 5 and the last 17 pieces",
  }[long_text]
  assert told in capsys.readouterr().out
  described = manifest.check(out, exports.KIND)
  assert told in described["parameters"]["long_texts"]
  assert told in (tmp_path / "out/README.md").read_text("utf-8")


@pytest.mark.parametrize(
  ("kind", "to"),
  [
    ("regression", "huggingface"),
    *(
      pytest.param(kind, to, marks=pytest.mark.slow)
      for kind, to in (
        ("class", "huggingface"),
        ("multi_label", "huggingface"),
        ("regression", "tf1"),
        ("multi_label", "tf1"),
      )
    ),
  ],
)
def test_what_leaves_has_the_manifests_numbers_in_its_head(
  kind: str, to: str, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  """An export that is converted back gives the answers of the model.

  So its head has the temperature and the unit of the manifest.
  """
  folder = _saved(kind, tmp_path / "model", tokenizer_file)
  before = classifier.Predictor.load(folder).probabilities(_TEXTS)
  out = _export(folder, to, tmp_path / "out")
  conversion.run(
    conversion.Options(
      init_checkpoint=out,
      output_dir=str(tmp_path / "back"),
      max_seq_length=exported.LENGTH,
    )
  )
  after = classifier.Predictor.load(str(tmp_path / "back"))
  assert exported.KINDS[kind][1]["label_type"] == after.problem.TYPE
  np.testing.assert_allclose(
    after.probabilities(_TEXTS), before, rtol=1e-5, atol=1e-6
  )


def test_one_output_without_a_problem_type_is_a_number_as_in_transformers(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  folder = _saved("regression", tmp_path / "model", tokenizer_file)
  out = _export(folder, "huggingface", tmp_path / "out")
  config = json.loads(storage.read_text(f"{out}/config.json"))
  del config["problem_type"]
  (tmp_path / "out/config.json").write_text(json.dumps(config), "utf-8")
  (tmp_path / "out/manifest.json").unlink()
  back = str(tmp_path / "back")
  conversion.run(conversion.Options(init_checkpoint=out, output_dir=back))
  np.testing.assert_allclose(
    classifier.Predictor.load(back).probabilities(_TEXTS[:1]),
    classifier.Predictor.load(folder).probabilities(_TEXTS[:1]),
    rtol=1e-5,
  )


_ENCODE = """
import json, sys
import tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
found = model(tf.constant(json.loads(sys.argv[2])))
signature = model.signatures["serving_default"](texts=tf.constant(json.loads(sys.argv[2])))
apart = tf.reduce_max(tf.abs(signature["pooled_output"] - found["default"]))
assert apart < 1e-6, apart  # grappler fuses the two graphs differently
assert signature["encoder_outputs"].shape[0] == len(found["encoder_outputs"])
assert set(found) == {"pooled_output", "sequence_output", "encoder_outputs", "default"}
assert (found["encoder_outputs"][-1].numpy() == found["sequence_output"].numpy()).all()
ids = tf.constant([[2, 9, 3]], tf.int32)
width = model.signatures["ids"].structured_input_signature[1]["input_word_ids"].shape[1]
ids = tf.pad(ids, [[0, 0], [0, width - 3]])
again = model(dict(zip(sys.argv[3:], [ids, tf.minimum(ids, 1), 0 * ids])))
print(json.dumps([found["pooled_output"].numpy().tolist(), again["default"].numpy().tolist()]))
"""


@pytest.mark.slow
def test_an_encoder_takes_strings_and_ids_as_tf_hubs_do(
  pretrained_dir: str, tmp_path: pathlib.Path
) -> None:
  out = _export(pretrained_dir, "encoder", tmp_path / "out", max_seq_length=16)
  of_texts, of_ids = _alone(
    _ENCODE, out, json.dumps(_TEXTS[:2]), *serving.ENCODER_INPUTS
  )
  source = export_source.opened(pretrained_dir)
  pieces = source.tokenizer().encode(_TEXTS[:1])[0]
  for ids, pooled in (([2, *pieces, 3], of_texts[0]), ([2, 9, 3], of_ids[0])):
    row = np.array([ids], np.int32)
    given = (row, np.ones_like(row), np.zeros_like(row))
    expected = source.parts["encoder"](*given).pooled_output[0]
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


def test_a_pretrained_model_without_a_tokenizer_exports_an_encoder_of_ids(
  tmp_path: pathlib.Path,
) -> None:
  folder = exported.save_pretrained(
    tmp_path / "model", exported.SHAPES["bert"], ""
  )
  _export(folder, "encoder", tmp_path / "out", max_seq_length=8)
  _export(folder, "huggingface", tmp_path / "hf")
  assert "not known" in (tmp_path / "out/README.md").read_text("utf-8")


_ROWS = {
  "class": [exported.LABELS[i % 3] for i in range(5)],
  "multi_label": ["спорт", "спорт,улс төр", "", "эдийн засаг", "улс төр"],
  "regression": ["1.5", "-2", "30", "4e1", "5"],
}


@pytest.mark.parametrize(
  ("to", "kind"),
  [
    ("tflite", "regression"),
    ("tflite_int8", "multi_label"),
    pytest.param("tflite_int8", "class", marks=pytest.mark.slow),
  ],
)
def test_tflite_has_no_flex_and_says_how_well_it_agrees(
  to: str, kind: str, tokenizer_file: str, tmp_path: pathlib.Path, capsys: Any
) -> None:
  model_dir = _saved(kind, tmp_path / "model", tokenizer_file)
  rows = tmp_path / "rows.tsv"
  texts = [t.strip() for t in _TEXTS if t.strip()]
  lines = map("\t".join, zip(texts, _ROWS[kind], strict=True))
  rows.write_text("\n".join(["text\tlabel", *lines]) + "\n", "utf-8")
  out = _export(
    model_dir,
    to,
    tmp_path / "out",
    batch_size=4,
    eval_file=str(rows),
    label_separator=",",
  )
  told = capsys.readouterr().out
  predictor = classifier.Predictor.load(model_dir)
  columns = classifier_data.Columns(label_type=kind, label_separator=",")
  read = classifier_data.read_rows(str(rows), columns)
  score = predictor.score(predictor.logits([row.text for row in read]), read)
  assert "real sentences: " in told
  assert f"{predictor.problem.SCORE} on 5 rows of rows.tsv: " in told
  assert f", the original's {score:.4f}; " in told
  made = tf.lite.Interpreter(f"{out}/{lite.NAME}")
  names = {op["op_name"] for op in made._get_ops_details()}
  assert not [n for n in names if "Flex" in n or n == "CUSTOM"], names
  assert made.get_input_details()[0]["shape"].tolist() == [4, exported.LENGTH]
  for name in ("tokenizer.model", "labels.json"):
    assert storage.sha256(f"{out}/{name}") == storage.sha256(
      f"{model_dir}/{name}"
    )
  if to == "tflite_int8":
    types = {t["dtype"] for t in made.get_tensor_details()}
    assert np.int8 in types


def test_a_quantized_model_that_answers_otherwise_is_warned_of(
  caplog: pytest.LogCaptureFixture,
) -> None:
  problem = problems.SingleLabel(("а", "б"))
  expected = np.eye(2)[[0, 1] * 5]
  one_other = np.concatenate([expected[1:2], expected[1:]])
  export_graphs.warn_of_disagreement(problem, one_other, expected)
  assert not caplog.text
  two_others = np.concatenate([expected[1:2], expected[:1], expected[2:]])
  export_graphs.warn_of_disagreement(problem, two_others, expected)
  assert "8-bit weights change 20 % of the answers" in caplog.text


def test_an_export_that_gives_other_outputs_leaves_nothing(
  classifier_dir: str, tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
  """The file of each kind of export is damaged after it was written."""
  whole = tensor_files.write

  def damaged(path: str, tensors: Any) -> None:
    whole(path, {n: a + 0.01 * ("ffn.weight" in n) for n, a in tensors.items()})

  monkeypatch.setattr(tensor_files, "write", damaged)
  with pytest.raises(options.InputError, match=r"within 0.0001 of the model"):
    _export(classifier_dir, "huggingface", tmp_path / "out")
  assert not list(tmp_path.iterdir())


def test_an_earlier_export_is_replaced_and_another_folder_is_not(
  classifier_dir: str, tmp_path: pathlib.Path
) -> None:
  out = tmp_path / "out"
  _export(classifier_dir, "tflite", out)
  _export(classifier_dir, "tf1", out)
  assert not (out / lite.NAME).exists()
  described = manifest.check(str(out), exports.KIND)
  assert described["parameters"]["to"] == "tf1"
  assert described["inputs"]["model"] == manifest.identity(classifier_dir)
  assert [p.name for p in tmp_path.iterdir()] == ["out"]
  mine = tmp_path / "mine"
  mine.mkdir()
  (mine / "thesis.txt").write_text("x")
  with pytest.raises(options.InputError, match="new, empty, or an earlier"):
    _export(classifier_dir, "tf1", mine)
  assert [p.name for p in mine.iterdir()] == ["thesis.txt"]
  model = tmp_path / "model"
  shutil.copytree(classifier_dir, model)
  with pytest.raises(options.InputError, match="a folder of kind 'classifier'"):
    _export(classifier_dir, "tf1", model)
  assert sorted(p.name for p in model.iterdir()) == sorted(
    p.name for p in pathlib.Path(classifier_dir).iterdir()
  )


@pytest.mark.parametrize("to", ["saved_model", "tflite"])
def test_a_pretrained_model_is_no_classifier(
  to: str, pretrained_dir: str, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(
    options.InputError, match="give a classifier, or --to=encoder"
  ):
    _export(pretrained_dir, to, tmp_path / "out")
  assert not list(tmp_path.iterdir())


def test_what_an_export_cannot_read_is_refused_or_said(
  tokenizer_file: str, tmp_path: pathlib.Path, capsys: Any
) -> None:
  shape = exported.SHAPES["bert"]
  tagger = exported.save_tagger(tmp_path / "tagger", shape, tokenizer_file)
  for to in ("saved_model", "tflite"):
    with pytest.raises(options.InputError, match="export it as huggingface"):
      _export(tagger, to, tmp_path / "out")
  tweets = exported.save_classifier(
    tmp_path / "tweets",
    shape,
    tokenizer_file,
    cleaning=dict(latin_mongolian=False),
    long_text="windows",
  )
  _export(tweets, "huggingface", tmp_path / "out")
  told = capsys.readouterr().out
  assert (
    "cleaned as tweets (data_prep.classification.tweets), which is not in the"
    in told
  )
  assert "the beginning alone is read by others' programs" in told


def test_a_tagger_goes_out_as_weights_and_as_tf1_without_a_pooler(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  folder = exported.save_tagger(
    tmp_path / "model", exported.SHAPES["albert"], tokenizer_file
  )
  out = _export(folder, "weights", tmp_path / "weights")
  ours = tagging.TagPredictor.load(folder)
  again = tagging.TagPredictor.load(out)
  assert again.entities(_TEXTS) == ours.entities(_TEXTS)
  assert (
    len({entity.type for row in ours.entities(_TEXTS) for entity in row}) > 1
  )
  out = _export(folder, "tf1", tmp_path / "tf1")
  names = [n for n, _ in tf.train.list_variables(f"{out}/model.ckpt")]
  assert "output_weights" in names
  assert not [n for n in names if "pooler" in n], "readers know it by that"


def test_google_researchs_code_gets_no_model_that_it_computes_otherwise(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  config = configs.BertConfig(**exported.SHAPE, hidden_act="gelu_erf")
  folder = exported.save_classifier(tmp_path / "model", config, tokenizer_file)
  with pytest.raises(options.InputError) as refused:
    _export(folder, "tf1", tmp_path / "out")
  assert "its gelu is the tanh form; got gelu_erf" in str(refused.value)
  assert "1e-12" not in str(refused.value), "that is as it should be"


def test_where_ids_may_be_others_is_said(
  digit_comma_file: str, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  limits = huggingface_tokenizer.limits
  ours = tokenization.Tokenizer(digit_comma_file)
  assert limits(ours) == [] == export_source.ties(ours)
  divided = tokenization.Tokenizer(digit_comma_file, split_digit_commas=True)
  (line,) = limits(divided)
  assert "where a comma follows a digit" in line
  proto = sentencepiece_model_pb2.ModelProto.FromString(
    pathlib.Path(tokenizer_file).read_bytes()
  )
  proto.pieces[-1].score += 1e-4
  altered = tmp_path / "unrounded.model"
  altered.write_bytes(proto.SerializeToString())
  (line,) = export_source.ties(tokenization.Tokenizer(str(altered)))
  assert "equally likely" in line
  assert export_source.ties(tokenization.Tokenizer(tokenizer_file)) == []
  proto.pieces[-1].score = -9
  proto.pieces[-1].type = proto.pieces[-1].USER_DEFINED
  altered.write_bytes(proto.SerializeToString())
  users = tokenization.Tokenizer(str(altered))
  assert "not exact" in export_source.ties(users)[0]
  proto.pieces[-1].piece = "▁▁"
  altered.write_bytes(proto.SerializeToString())
  spaces = tokenization.Tokenizer(str(altered))
  with pytest.raises(options.InputError, match="user that are spaces"):
    huggingface_tokenizer.write(str(tmp_path), spaces, str(altered), 64)


def _commands() -> list[str]:
  page = (running.ROOT / "docs/export.md").read_text("utf-8")
  return re.findall(
    r"^python (-m albert_mn.export_model .*)$", page, re.MULTILINE
  )


@pytest.mark.slow
@pytest.mark.parametrize("command", _commands())
def test_the_commands_of_docs_export_do_what_they_say(
  command: str,
  programs: running.Programs,
  tmp_path: pathlib.Path,
  classifier_dir: str,
) -> None:
  (tmp_path / "data.md").write_text("Сургалтын өгөгдөл: CC BY 4.0.\n", "utf-8")
  for ours, here in (
    ("run/model", classifier_dir),
    ("=export", f"={tmp_path}/export"),
    ("=card", f"={tmp_path}/export"),
    ("=data.md", f"={tmp_path}/data.md"),
  ):
    command = command.replace(ours, here)
  programs.succeed(*command.split())
  card = (tmp_path / "export/README.md").read_text("utf-8")
  assert card.startswith("---\nlanguage: mn\n")
  if "--model_card" in command:
    assert "CC BY 4.0" in card
    assert 'license: "apache-2.0"' in card
    assert os.listdir(tmp_path / "export") == ["README.md"]
  else:
    assert manifest.find(str(tmp_path / "export"))


@pytest.mark.slow
def test_the_program_refuses_in_one_line(
  programs: running.Programs, tmp_path: pathlib.Path, classifier_dir: str
) -> None:
  run = ("-m", "albert_mn.export_model", f"--output_dir={tmp_path}/out")
  assert "finished classifier" in programs.refuse(
    *run, f"--model_dir={tmp_path}"
  )
  refused = programs.refuse(
    *run, f"--model_dir={classifier_dir}", "--max_seq_length=33"
  )
  assert "max_position_embeddings = 32" in refused
  assert not (tmp_path / "out").exists()
