"""Tests of blending the network with the TF-IDF baseline, and of its files."""

import dataclasses
import json
import logging
import pathlib
import shutil

import numpy as np
import pytest

from albert_mn.export import exports
from albert_mn.finetune import answers, classification, fine_tuning
from albert_mn.formats import conversion
from albert_mn.inference import explanation
from albert_mn.models import model_directory
from albert_mn.scoring import evaluation
from albert_mn.tasks import (
  baseline,
  blend,
  classifier,
  problems,
  tagging,
  task_rows,
)
from data_prep.base import options
from data_prep.classification import classifier_data
from tests import classification_test as base

NAMES = ("а", "б", "в")


def _signal(
  targets: np.ndarray, strength: float, rng: np.random.Generator
) -> np.ndarray:
  """Returns random scores [rows, 3]; the right ones have `strength` more."""
  noise = rng.normal(size=[len(targets), 3])
  return noise + strength * np.eye(3)[targets]


@pytest.mark.parametrize(
  ("network", "linear", "expected"),
  [
    (2.0, 2.0, blend.BOTH),
    (0.0, 2.0, blend.BASELINE),
    (2.0, 0.0, blend.NETWORK),
  ],
)
def test_those_answer_who_know_something(
  network: float, linear: float, expected: str
) -> None:
  rng = np.random.default_rng(0)
  problem = problems.SingleLabel(NAMES)
  targets = rng.integers(0, 3, 3000).astype(np.int32)
  logits, scores = (
    _signal(targets, part, rng).astype(np.float32) for part in (network, linear)
  )
  factors = blend.chosen(problem, logits, scores, targets, temperature=2.0)
  assert factors.answers == expected
  if expected == blend.BOTH:
    # Of noise with the deviation 1 the log-likelihood is strength · score.
    assert factors.network == pytest.approx(2, abs=0.3)
    assert factors.baseline == pytest.approx(2, abs=0.3)
    best = min(factors.losses[blend.NETWORK], factors.losses[blend.BASELINE])
    assert factors.losses[blend.BOTH] < best - 0.05
    told = factors.logits(logits, scores)
    assert problem.mean_loss(told, targets) == pytest.approx(
      factors.losses[blend.BOTH]
    )
  if expected == blend.NETWORK:  # as if there were no blend
    assert (factors.network, factors.baseline) == (0.5, 0.0)


def test_several_labels_and_numbers_are_summed_too() -> None:
  rng = np.random.default_rng(1)
  several = problems.MultiLabel(NAMES)
  chosen = rng.integers(0, 2, [300, 3]).astype(np.float32)
  logits, scores = (
    (2 * chosen - 1 + rng.normal(size=[300, 3])).astype(np.float32)
    for _ in range(2)
  )
  factors = blend.chosen(several, logits, scores, chosen)
  assert factors.answers == blend.BOTH
  told = factors.logits(logits, scores)
  assert several.score(told, chosen) > several.score(logits, chosen)
  number = problems.Regression()
  values = rng.normal(size=500).astype(np.float32)
  first, second = (
    (values + rng.normal(size=500))[:, None].astype(np.float32)
    for _ in range(2)
  )
  factors = blend.chosen(number, first, second, values)
  # The best linear estimate from two measurements of variance 1 each.
  assert factors.network == pytest.approx(1 / 3, abs=0.06)
  assert factors.baseline == pytest.approx(1 / 3, abs=0.06)


def test_class_weights_weigh_in_the_factors_and_in_the_svm() -> None:
  rng = np.random.default_rng(2)
  problem = problems.SingleLabel(NAMES)
  targets = np.repeat([0, 1, 2], [300, 20, 20]).astype(np.int32)
  # The network knows the common label alone, the baseline the rare ones.
  logits, scores = (rng.normal(size=[340, 3]) for _ in range(2))
  logits[:, 0] += 3 * (targets == 0)
  scores[:, 1:] += 3 * np.eye(3)[targets][:, 1:]
  given = (problem, logits, scores, targets)
  plain = blend.chosen(*given)
  weighed = blend.chosen(*given, weights=problem.weights(targets))
  assert weighed.baseline / weighed.network > plain.baseline / plain.network
  texts = ["цас"] * 8 + ["цас бороо"] * 2
  labels = np.repeat([0, 1], [8, 2]).astype(np.int32)
  two = problems.SingleLabel(NAMES[:2])
  plain_svm, weighed_svm = (
    baseline.fitted(two, texts, labels, balanced) for balanced in (False, True)
  )
  assert plain_svm
  assert weighed_svm
  unseen = ["цас шороо"]
  assert weighed_svm.scores(unseen)[0, 1] > plain_svm.scores(unseen)[0, 1]


def test_where_both_alone_are_right_no_factor_is_endless() -> None:
  targets = np.arange(30, dtype=np.int32) % 3
  sure = np.eye(3, dtype=np.float32)[targets]
  factors = blend.chosen(problems.SingleLabel(NAMES), sure, sure, targets)
  assert 0 < factors.network + factors.baseline <= 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A folder with 260 rows of three fields, and a run on them in `out`."""
  words = [word for field in base.WORDS.values() for word in field]
  made = base.made_folder(tmp_path_factory.mktemp("blend"), words)
  names = sorted(base.WORDS)
  rows = [
    (text, names[i % 3] if i % 7 == 0 else label)
    for i, (text, label) in enumerate(base._texts(260, 0))
  ]
  base._tsv(made / "train.tsv", rows)
  _run(made, made / "out", do_eval=True, do_predict=True)
  return made


def _run(
  folder: pathlib.Path, output: pathlib.Path, **flags: object
) -> dict[str, object]:
  more: dict[str, object] = {"train_step": 12, **flags}
  return classification.run(
    *base._settings(output, **base._tiny(folder, **more))
  )


@pytest.fixture
def predictor(folder: pathlib.Path) -> classifier.Predictor:
  """The run's classifier, whose network and baseline both answer.

  The factors are set here, whatever the run has chosen.
  """
  loaded = classifier.Predictor.load(str(folder / "out" / "model"))
  assert loaded.blend
  factors = dataclasses.replace(loaded.blend.factors, network=0.7, baseline=2.0)
  loaded.blend = dataclasses.replace(loaded.blend, factors=factors)
  return loaded


def _dev(folder: pathlib.Path) -> list[classifier_data.Row]:
  return classifier_data.read(str(folder / "dev.tsv"), "text", "label")


def test_the_report_shows_all_three_and_the_files_hold_them(
  folder: pathlib.Path,
) -> None:
  out = folder / "out"
  text = " ".join((out / "report.txt").read_text("utf-8").split())
  report = json.loads((out / "report.json").read_text("utf-8"))
  assert "Side by side, same rows This model" in text
  assert "What answers in the model directory is" in text
  assert "validation rows (mean loss:" in text
  assert "better tool" not in text
  best = max(report[n]["accuracy"] for n in ("network", "baseline"))
  assert report["model"]["accuracy"] >= best - 0.1
  results = dict(
    line.split(" = ")
    for line in (out / "eval_results.txt").read_text().splitlines()
  )
  for name in ("network", "baseline"):
    accuracy = report[name]["accuracy"]
    assert float(results[f"{name}_accuracy"]) == accuracy
  page = (out / "report.html").read_text("utf-8")
  assert "its network alone" in page
  counts = json.loads((out / "model" / "manifest.json").read_text())["counts"]
  # A tenth was spared; the baseline learnt from it when all was settled.
  assert 200 < counts["train_rows"] < 260 - 10
  assert counts["train_rows"] + counts["validation_rows"] == 260


def test_what_is_predicted_is_what_the_report_judged(
  folder: pathlib.Path,
) -> None:
  predictor = classifier.Predictor.load(str(folder / "out" / "model"))
  rows = _dev(folder)
  judged = evaluation.judge(predictor, rows, 8)
  shares = predictor.probabilities([row.text for row in rows])
  model = judged.voices.model
  assert (model.answers == shares.argmax(axis=1)).all()
  assert model.sure is not None
  np.testing.assert_allclose(model.sure, shares.max(axis=1), atol=1e-5)
  report = json.loads((folder / "out" / "report.json").read_text("utf-8"))
  assert model.scores()["accuracy"] == report["model"]["accuracy"]
  _head, *lines = (folder / "out" / "predictions.tsv").read_text().splitlines()
  texts = [line.split("\t")[-1] for line in lines]
  told = [[float(c) for c in line.split("\t")[2:-1]] for line in lines]
  np.testing.assert_allclose(told, predictor.probabilities(texts), atol=2e-6)


def test_the_answer_is_the_sum_of_log_probabilities(
  folder: pathlib.Path, predictor: classifier.Predictor
) -> None:
  texts = [row.text for row in _dev(folder)]
  assert predictor.blend
  network = problems.log_softmax(predictor.logits(texts))
  scores = problems.log_softmax(predictor.blend.scores(texts))
  expected = np.exp(problems.log_softmax(0.7 * network + 2.0 * scores))
  shares = predictor.probabilities(texts)
  np.testing.assert_allclose(shares, expected, atol=1e-6)
  likeliest = [predictor.names[place] for place in expected.argmax(axis=1)]
  assert predictor.best(texts) == likeliest


def test_a_stored_baseline_scores_as_the_fitted_one_in_the_same_bytes(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  rows = classifier_data.read(str(folder / "train.tsv"), "text", "label")
  problem = problems.of_rows(problems.CLASS, rows)
  texts = list(map(baseline.text_of, rows))
  fitted = baseline.fitted(problem, texts, problem.targets(rows))
  assert fitted
  stored = classifier.Predictor.load(str(folder / "out" / "model")).blend
  assert stored
  new = [row.text for row in _dev(folder)]
  np.testing.assert_allclose(stored.scores(new), fitted.scores(new), atol=1e-6)
  blend.Blend(fitted, stored.factors).write(str(tmp_path))
  for name in model_directory.NGRAMS:
    written = (folder / "out" / "model" / name).read_bytes()
    assert (tmp_path / name).read_bytes() == written


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    ("words", "words in .*ngrams.json to be a list"),
    ("fewer", "idf in .* as finite float32 of the shape"),
    ("torn", "whole tensors in .*ngrams.safetensors"),
    ("nan", "shift in .* as finite float32 of the shape"),
    ("factors", "factors of a blend of at least 0"),
    ("text", "network of blended in a manifest to be a number"),
  ],
)
def test_damaged_files_are_refused_by_name(
  folder: pathlib.Path, tmp_path: pathlib.Path, damage: str, message: str
) -> None:
  copied = tmp_path / "model"
  shutil.copytree(folder / "out" / "model", copied)
  described = json.loads((copied / "manifest.json").read_text())
  parameters = described["parameters"]
  content = json.loads((copied / blend.GRAMS).read_text())
  raw = bytearray((copied / blend.WEIGHTS).read_bytes())
  if damage == "words":
    content["words"][0] = 7
  elif damage == "fewer":
    content["words"].pop()
  elif damage == "torn":
    del raw[-100:]
  elif damage == "nan":  # of the three tensors the shift lies second
    place = len(raw) - 4 * 3 * len(content["words"] + content["parts"])
    raw[place - 4 : place] = np.float32("nan").tobytes()
  elif damage == "factors":
    parameters[blend.PARAMETER] |= {"network": 0, "baseline": 0}
  else:
    parameters[blend.PARAMETER]["network"] = "many"
  (copied / blend.GRAMS).write_text(json.dumps(content), "utf-8")
  (copied / blend.WEIGHTS).write_bytes(raw)
  with pytest.raises(options.InputError, match=message):
    blend.read(str(copied), parameters, 3)


def test_a_model_directory_of_an_earlier_version_answers_as_before(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  copied = tmp_path / "model"
  shutil.copytree(folder / "out" / "model", copied)
  path = copied / "manifest.json"
  described = json.loads(path.read_text())
  del described["parameters"][blend.PARAMETER]
  for name in model_directory.NGRAMS:
    (copied / name).unlink()
    del described["files"][name]
  path.write_text(json.dumps(described))
  predictor = classifier.Predictor.load(str(copied))
  assert predictor.blend is None
  texts = [row.text for row in _dev(folder)]
  np.testing.assert_allclose(
    predictor.probabilities(texts),
    np.exp(problems.log_softmax(predictor.logits(texts))),
    atol=1e-6,
  )


def test_the_explanation_has_pieces_and_ngrams_that_sum_to_the_difference(
  predictor: classifier.Predictor,
) -> None:
  explainer = explanation.Explainer.of(predictor)
  text = "бөхийн барилдаан цас"
  answer = explainer.explain(text).answer
  assert answer
  np.testing.assert_allclose(
    answer.probabilities, predictor.probabilities([text])[0], atol=1e-5
  )
  assert {"барилдаан", "бөхийн барилдаан", "_цас_"} <= answer.grams.keys()
  assert sum(map(abs, answer.grams.values())) > 0.1
  assert answer.attribution.any()
  assert abs(answer.missed) < 0.01 * max(
    1, abs(answer.score - answer.baseline_score)
  )
  largest = [abs(part) for part in answer.grams.values()]
  assert largest[0] == max(largest)


def test_exports_say_that_the_baseline_stays_behind(
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  model = folder / "out" / "model"
  for to, carried in (("tflite", False), ("weights", True)):
    out = tmp_path / to
    exports.run(
      exports.Options(model_dir=str(model), output_dir=str(out), to=to)
    )
    said = capsys.readouterr().out
    card = (out / "README.md").read_text("utf-8")
    assert ("it answers with the network alone" in said) != carried
    assert ("it answers with the network alone" in card) != carried
    results = (folder / "out" / "eval_results.txt").read_text()
    name = "eval_accuracy" if carried else "network_accuracy"
    (value,) = (
      line for line in results.splitlines() if line.startswith(f"{name} =")
    )
    accuracy = float(value.rpartition(" ")[2])
    assert f"      value: {accuracy:.6f}" in card
  original, exported = (
    classifier.Predictor.load(str(path)) for path in (model, out)
  )
  texts = ["цас орлоо", "эмч"]
  np.testing.assert_array_equal(
    original.probabilities(texts), exported.probabilities(texts)
  )


def test_a_blend_is_converted_with_its_network(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  model, out = str(folder / "out" / "model"), str(tmp_path / "converted")
  conversion.run(conversion.Options(init_checkpoint=model, output_dir=out))
  before, after = (classifier.Predictor.load(path) for path in (model, out))
  assert after.blend
  assert before.blend
  assert after.blend.factors == before.blend.factors
  texts = ["цас орлоо", "эмч"]
  np.testing.assert_array_equal(
    after.probabilities(texts), before.probabilities(texts)
  )


@pytest.mark.parametrize(
  ("rows", "mode", "spared"),
  [(260, "auto", True), (260, "off", False), (190, "auto", False)],
)
def test_a_tenth_is_spared_where_there_are_rows_enough(
  tmp_path: pathlib.Path, rows: int, mode: str, spared: bool
) -> None:
  for name, count in (("train", rows), ("dev", 21)):
    base._tsv(tmp_path / f"{name}.tsv", base._texts(count, 0))
  blends = fine_tuning.Recipe(blend=mode).blends(problems.CLASS)
  files = task_rows.Files(data_dir=str(tmp_path))
  rows_read = task_rows.labelled(files, True, False, blends)
  assert rows_read.validation_from_train == spared
  assert len(rows_read.train) + len(rows_read.validation) == rows
  assert bool(rows_read.validation) == spared


def test_a_line_says_why_the_network_answers_alone(
  caplog: pytest.LogCaptureFixture,
) -> None:
  rows = [
    classifier_data.Row(line, "цас орлоо", name)
    for line, name in enumerate(NAMES)
  ]
  problem = problems.of_rows(problems.CLASS, rows)
  unseen = [answers.Unseen(rows, (), [])]  # no network is asked
  with caplog.at_level(logging.INFO, logger="absl"):
    evidence = answers.Evidence(problem, unseen, balanced=False)
    assert evidence.blended(rows, 1.0) is None
  assert "the network answers alone: 0 validation rows are too few" in (
    caplog.text
  )
  entities = tagging.Tagging(("O", "B-LOC", "I-LOC"))
  assert not fine_tuning.Recipe().blends(entities.TYPE)
  with caplog.at_level(logging.INFO, logger="absl"):
    evidence = answers.Evidence(entities, unseen, balanced=False)
    assert evidence.blended(rows, 1.0) is None
  assert "the baseline of entities has no probabilities" in caplog.text


def test_the_blend_is_chosen_on_all_rows_that_some_network_did_not_learn() -> (
  None
):
  rng = np.random.default_rng(3)
  rows = [
    classifier_data.Row(line, text, label)
    for line, (text, label) in enumerate(base._texts(90, 0))
  ]
  problem = problems.of_rows(problems.CLASS, rows)
  logits = _signal(problem.targets(rows), 2.0, rng).astype(np.float32)

  def part(number: int) -> answers.Unseen:
    taken = np.arange(len(rows)) % 3 == number
    return answers.Unseen(
      [row for row, out in zip(rows, taken, strict=True) if not out],
      [row for row, out in zip(rows, taken, strict=True) if out],
      [lambda: logits[taken]],
    )

  parts = [part(number) for number in range(3)]
  beside = answers.Evidence(problem, parts, balanced=False).blended(rows, 1.0)
  assert beside
  scores, targets, networks = [], [], []
  for each in parts:
    texts = [row.text for row in each.train]
    linear = baseline.fitted(problem, texts, problem.targets(each.train))
    assert linear
    scores.append(linear.scores([row.text for row in each.rows]))
    targets.append(problem.targets(each.rows))
    networks.append(each.logits)
  first, second, true = map(np.concatenate, (networks, scores, targets))
  assert beside.factors == blend.chosen(problem, first, second, true)
  assert beside.factors.rows == 90
  # The baseline that answers has learnt from all rows.
  every = baseline.fitted(
    problem, [row.text for row in rows], problem.targets(rows)
  )
  assert every
  np.testing.assert_array_equal(beside.linear.weights, every.weights)


def test_with_too_many_labels_there_is_no_baseline() -> None:
  names = tuple(map(str, range(20_000)))
  problem = problems.SingleLabel(names)
  assert baseline.fitted(problem, ["цас"], np.zeros(1, np.int32)) is None
