"""Tests that ensembles answer with the mean of networks, in exports too."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.export import export_graphs, export_source, exports, lite
from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import conversion, initial_weights
from albert_mn.inference import explanation
from albert_mn.models import encoders
from albert_mn.tasks import classifier, ensembles
from data_prep.base import options
from data_prep.classification import classifier_data
from data_prep.files import storage
from tests import classification_test as base

TEXTS = [
  "цас орлоо",
  "эмч өвчин эм эмнэлэг сувилагч",
  "бөхийн барилдаан хоёр баг",
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The output folder of an ensemble of two networks."""
  words = [word for field in base.WORDS.values() for word in field]
  made = base.made_folder(tmp_path_factory.mktemp("ensemble"), words)
  flags = base._tiny(
    made,
    do_eval=True,
    train_step=12,
    ensemble=2,
    pooling="mean",
    random_seed=3,
    max_seq_length=8,
  )
  classification.run(*base._settings(made / "out", **flags))
  return made / "out"


@pytest.fixture(scope="module")
def model_dir(out: pathlib.Path) -> str:
  return str(out / "model")


def _weights(prefix: pathlib.Path) -> dict[str, np.ndarray]:
  reader = tf.train.load_checkpoint(str(prefix))
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if name.startswith(("encoder", "classifier"))
  }


def test_the_answer_is_the_mean_of_networks_with_seeds_that_follow(
  out: pathlib.Path, model_dir: str
) -> None:
  predictor = classifier.Predictor.load(model_dir)
  first, second = ensembles.members(predictor.model)
  alone = [
    classifier.Predictor(network, predictor.framer, predictor.problem)
    for network in (first, second)
  ]
  logits = [part.logits(TEXTS) for part in alone]
  assert np.abs(logits[0] - logits[1]).max() > 0.01
  expected = np.mean(logits, axis=0)
  np.testing.assert_allclose(predictor.logits(TEXTS), expected, atol=1e-5)
  # For one label a text, that is the geometric mean of the probabilities.
  shares = [part.probabilities(TEXTS) for part in alone]
  joint = np.sqrt(shares[0] * shares[1])
  joint /= joint.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(predictor.probabilities(TEXTS), joint, atol=1e-5)
  # The checkpoints of the two runs are what the model directory holds.
  held = _weights(out / "model/model.ckpt")
  for number, run in enumerate((out, out / "network_1")):
    settings = json.loads((run / "run.json").read_text())
    assert settings["random_seed"] == 3 + number
    (index,) = run.glob("checkpoints/*-12.index")
    for name, value in _weights(index.with_suffix("")).items():
      part, slash, rest = name.partition("/")
      if "OPTIMIZER_SLOT" not in name:
        there = held[ensembles.name(part, number) + slash + rest]
        np.testing.assert_array_equal(value, there)


@pytest.mark.slow
def test_networks_learn_from_all_but_another_tenth_each(
  tmp_path: pathlib.Path,
) -> None:
  words = [word for field in base.WORDS.values() for word in field]
  made = base.made_folder(tmp_path, words)
  base._tsv(made / "train.tsv", base._texts(230, 0))
  flags = base._tiny(made, do_eval=True, train_step=8, ensemble=3)
  classification.run(*base._settings(made / "out", **flags))
  folders = [made / "out", *(made / f"out/network_{n}" for n in (1, 2))]
  runs = [json.loads((f / "run.json").read_text("utf-8")) for f in folders]
  for kind in ("training_rows", "validation_rows"):
    assert len({run[kind] for run in runs}) == 3
  described = json.loads((made / "out/model/manifest.json").read_text("utf-8"))
  rows = classifier_data.read(str(made / "train.tsv"), "text", "label")
  everything = classifier_data.fingerprint(rows)
  assert described["inputs"]["training_rows"] == everything
  assert described["counts"]["train_rows"] == 230
  chosen_by = described["counts"]["validation_rows"]
  assert 3 * 20 <= chosen_by <= 3 * 26
  predictor = classifier.Predictor.load(str(made / "out/model"))
  assert predictor.blend
  assert predictor.blend.factors.rows == chosen_by


def test_rows_that_a_file_names_validate_every_network() -> None:
  rows = [
    classifier_data.Row(line, f"цас орлоо {line}", "ab"[line % 2])
    for line in range(60)
  ]
  given = fine_tuning.Data(rows[:40], rows[40:])
  assert given.for_networks("class", 2) == [given, given]
  assert given.united() is given
  spared = fine_tuning.Data(rows[1::2], rows[::2], validation_from_train=True)
  turns = spared.for_networks("class", 2)
  assert spared.united().train == rows
  assert [len(turn.validation) for turn in turns] == [6, 6]
  for turn in turns:
    assert sorted(map(repr, [*turn.train, *turn.validation])) == sorted(
      map(repr, rows)
    )
  few = fine_tuning.Data(rows[:4], rows[4:6], validation_from_train=True)
  assert few.for_networks("class", 2) == [few, few]


def test_the_report_says_how_the_networks_differ(out: pathlib.Path) -> None:
  said = " ".join((out / "report.txt").read_text("utf-8").split())
  assert (
    "An ensemble: the mean of 2 networks answers. Mean ± deviation of 2 "
    "networks alone: accuracy "
  ) in said
  assert " of 21 texts are longer than 8 pieces" in said


def test_contributions_are_those_of_all_networks(model_dir: str) -> None:
  predictor = classifier.Predictor.load(model_dir)
  answer = explanation.Explainer.of(predictor).explain(TEXTS[1]).answer
  assert answer
  np.testing.assert_allclose(
    answer.probabilities, predictor.probabilities(TEXTS)[1], atol=1e-5
  )
  apart = abs(answer.score - answer.baseline_score)
  assert apart > 0.01
  assert abs(answer.missed) < 0.01 * max(1, apart)


@pytest.mark.slow
def test_graphs_and_model_directories_carry_all_networks(
  model_dir: str, tmp_path: pathlib.Path
) -> None:
  expected = classifier.Predictor.load(model_dir).logits(TEXTS)
  for to in ("saved_model", "tflite", "weights"):
    exports.run(
      exports.Options(model_dir=model_dir, output_dir=str(tmp_path / to), to=to)
    )
  served = tf.saved_model.load(str(tmp_path / "saved_model"))
  answers = served.signatures["serving_default"](texts=tf.constant(TEXTS))
  np.testing.assert_allclose(answers["logits"], expected, atol=1e-4)
  runner = lite.LiteClassifier(
    storage.read_bytes(str(tmp_path / "tflite" / lite.NAME))
  )
  _, framer = export_graphs._classifier(
    export_source.opened(model_dir),
    exports.Options(model_dir=model_dir, output_dir="out"),
  )
  logits = export_graphs._answered(
    framer, TEXTS, lambda ids, _: runner.logits(ids)
  )
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  again = classifier.Predictor.load(str(tmp_path / "weights"))
  np.testing.assert_array_equal(again.logits(TEXTS), expected)


@pytest.mark.parametrize("to", ["tf1", "huggingface", "encoder"])
def test_formats_of_one_network_refuse_an_ensemble(
  model_dir: str, tmp_path: pathlib.Path, to: str
) -> None:
  refused = exports.Options(
    model_dir=model_dir, output_dir=str(tmp_path / to), to=to
  )
  with pytest.raises(
    options.InputError, match=f"--to={to}; got an ensemble of 2"
  ):
    exports.run(refused)
  assert not (tmp_path / to).exists()


def test_conversion_refuses_an_ensemble_and_its_first_encoder_can_be_read(
  model_dir: str, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(options.InputError, match="an ensemble of 2 in"):
    conversion.run(
      conversion.Options(
        init_checkpoint=model_dir, output_dir=str(tmp_path / "out")
      )
    )
  predictor = classifier.Predictor.load(model_dir)
  encoder = encoders.AlbertEncoder(predictor.model.encoder.config, seed=9)
  initial_weights.load(model_dir, {"encoder": encoder})
  first, _ = ensembles.members(predictor.model)
  pairs = zip(encoder.variables, first.encoder.variables, strict=True)
  for ours, theirs in pairs:
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("number", [0, 65, 2.0, "2", True])
def test_a_number_of_networks_that_cannot_be_is_refused(number: object) -> None:
  with pytest.raises(options.InputError, match="networks in a manifest"):
    ensembles.size({ensembles.PARAMETER: number})


def test_seeds_and_networks_are_not_mixed(tmp_path: pathlib.Path) -> None:
  with pytest.raises(options.InputError, match="one of --num_seeds"):
    classification.Options(
      do_train=True,
      albert_config_file="c",
      output_dir=str(tmp_path),
      num_seeds=2,
      ensemble=2,
    )
