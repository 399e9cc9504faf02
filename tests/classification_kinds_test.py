"""Tests of pairs, multi-label, regression, entities, early stopping, seeds."""

import json
import logging
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import tf_keras
from sklearn import metrics

from albert_mn.finetune import classification
from albert_mn.inference import predictions
from albert_mn.runtime import checkpoints
from albert_mn.scoring import degenerate_runs, evaluation
from albert_mn.tasks import classifier, problems, tagging
from data_prep.base import options
from data_prep.classification import classifier_data, classifier_sets, eduge
from tests import classification_test as base
from tests import eduge_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  words = [word for field in base.WORDS.values() for word in field]
  return base.made_folder(tmp_path_factory.mktemp("kinds"), words)


def _run(
  folder: pathlib.Path, output: pathlib.Path, **flags: object
) -> dict[str, Any]:
  return classification.run(
    *base._settings(output, **base._tiny(folder, **flags))
  )


def _jsonl(path: pathlib.Path, rows: Sequence[Mapping[str, object]]) -> None:
  lines = [json.dumps(row, ensure_ascii=False) for row in rows]
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _words(rng: np.random.Generator, label: str, count: int) -> str:
  return " ".join(rng.choice(base.WORDS[label], count))


def _several(count: int, seed: int) -> list[dict[str, object]]:
  """Returns rows with words of none to three fields, and the fields as tags."""
  rng = np.random.default_rng(seed)
  rows: list[dict[str, object]] = []
  for _ in range(count):
    names = [name for name in sorted(base.WORDS) if rng.random() < 0.5]
    parts = [_words(rng, name, int(rng.integers(2, 9))) for name in names]
    rows.append({"body": " ".join(parts) or "үг", "tags": names})
  return rows


@pytest.fixture(scope="module")
def several(
  folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, pathlib.Path]:
  """The folder of multi-label rows, and the output folder of a run on them.

  The rows are JSON lines; two test rows are bad. The model reads long texts in
  windows.
  """
  rows = tmp_path_factory.mktemp("several")
  _jsonl(rows / "train.jsonl", _several(120, 0))
  _jsonl(rows / "dev.jsonl", _several(30, 1))
  test: list[dict[str, object]] = _several(5, 2)
  _jsonl(rows / "test.jsonl", [*test[:2], {"tags": 7}, *test[2:]])
  with (rows / "test.jsonl").open("a") as file:
    file.write("{broken\n")
  out = rows / "out"
  _run(
    folder,
    out,
    data_dir=str(rows),
    text_column="body",
    label_column="tags",
    label_type="multi_label",
    max_seq_length=24,
    long_text="windows",
    do_eval=True,
    do_predict=True,
    num_train_epochs=25.0,
    calibrate=True,
    early_stopping_patience=8,
  )
  return rows, out


def test_several_labels_are_learnt_from_long_texts(
  several: tuple[pathlib.Path, pathlib.Path],
) -> None:
  _, out = several
  report = json.loads((out / "report.json").read_text())
  assert report["model"]["micro_f1"] > 0.8
  assert report["faults"] == []
  assert "micro avg" in (out / "report.txt").read_text()
  assert not (out / "confusion_matrix.png").exists()
  predictor = classifier.Predictor.load(str(out / "model"))
  parameters = predictor.manifest["parameters"]
  assert parameters["temperature"] == predictor.temperature != 1.0
  assert predictor.manifest["counts"]["validation_rows"] > 5
  text = "цас орлоо " * 40 + "эмч өвчин эм " * 40
  shares = dict(
    zip(predictor.names, predictor.probabilities([text])[0], strict=True)
  )
  assert shares["weather"] > 0.5
  assert shares["health"] > 0.5 > shares["sport"]


def test_bad_rows_keep_their_place_and_are_told(
  several: tuple[pathlib.Path, pathlib.Path],
) -> None:
  _, out = several
  head, *rows = (out / "predictions.tsv").read_text().splitlines()
  assert head.split("\t") == [
    "line",
    "label",
    "health",
    "sport",
    "weather",
    "text",
  ]
  assert [row.split("\t")[0] for row in rows] == list("1234567")
  for row in rows:
    line, label, *shares, text = row.split("\t")
    if line in "37":
      assert not any((label, *shares, text))
    else:
      assert json.loads(label) == [
        name
        for name, share in zip(sorted(base.WORDS), shares, strict=True)
        if float(share) > 0.5
      ]
  bad = (out / "bad_rows.tsv").read_text().splitlines()
  assert bad[0] == "line\treason"
  assert [line.split("\t")[0] for line in bad[1:]] == ["3", "7"]
  assert "body" in bad[1]


def test_predictions_in_small_chunks_are_the_same(
  folder: pathlib.Path,
  several: tuple[pathlib.Path, pathlib.Path],
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  rows, out = several
  monkeypatch.setattr(problems, "rows_at_once", lambda outputs: 3)
  classification.run(
    *base._settings(
      tmp_path,
      do_predict=True,
      init_checkpoint=str(out / "model"),
      predict_file=str(rows / "test.jsonl"),
      text_column="body",
    )
  )
  for name in ("predictions.tsv", "bad_rows.tsv"):
    assert (tmp_path / name).read_text() == (out / name).read_text()


def test_the_likeliest_labels_alone_are_written_if_wanted(
  several: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
  rows, out = several
  classification.run(
    *base._settings(
      tmp_path,
      do_predict=True,
      init_checkpoint=str(out / "model"),
      predict_file=str(rows / "test.jsonl"),
      text_column="body",
      predict_labels=2,
    )
  )
  (head, *few), (names, *all_) = (
    [
      line.split("\t")
      for line in (folder / "predictions.tsv").read_text().splitlines()
    ]
    for folder in (tmp_path, out)
  )
  assert head == [
    "line",
    "label",
    "label_1",
    "probability_1",
    "label_2",
    "probability_2",
    "text",
  ]
  for short, whole in zip(few, all_, strict=True):
    assert (short[:2], short[-1]) == (whole[:2], whole[-1])
    shares = dict(zip(names[2:-1], whole[2:-1], strict=True))
    told = dict(zip(short[2:-1:2], short[3:-1:2], strict=True))
    if whole[1]:
      best = sorted(shares.values(), reverse=True)[:2]
      assert list(told.values()) == best
      assert all(shares[name] == share for name, share in told.items())
    else:
      assert set(short[2:]) == {""}


def test_rows_judged_in_small_chunks_score_the_same(
  several: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
  folder, out = several
  predictor = classifier.Predictor.load(str(out / "model"))
  columns = classifier_data.Columns("body", "tags", label_type="multi_label")
  path = str(folder / "dev.jsonl")
  rows = [
    row
    for _, row in classifier_data.stream(path, columns, labelled=True)
    if isinstance(row, classifier_data.Row)
  ]
  whole, loss = evaluation.judge(predictor, rows, 8)
  assert whole.network is not None
  assert whole.rival is not None
  monkeypatch.setattr(problems, "rows_at_once", lambda outputs: 7)
  pieces, again = evaluation.judge(predictor, rows, 8)
  assert len(pieces.model.truth) == len(rows) == 30
  assert again == pytest.approx(loss)
  for part, voice in zip(pieces, whole, strict=True):
    assert part
    assert voice
    assert part.scores() == pytest.approx(voice.scores())
  assert pieces.model.sure == pytest.approx(whole.model.sure, abs=1e-5)


def test_a_prediction_that_dies_half_way_leaves_what_was_there(
  several: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path
) -> None:
  _, out = several
  (tmp_path / "predictions.tsv").write_text("older")
  predictor = classifier.Predictor.load(str(out / "model"))

  def rows() -> Iterator[tuple[int, classifier_data.Row]]:
    yield from [(n, classifier_data.Row(n, "цас")) for n in range(2100)]
    raise OSError("the disk went away")

  with pytest.raises(OSError, match="went away"):
    predictions.write(str(tmp_path), predictor, rows(), 64)
  assert [p.name for p in tmp_path.iterdir()] == ["predictions.tsv"]
  assert (tmp_path / "predictions.tsv").read_text() == "older"


def test_labels_named_as_columns_or_apart_by_white_space_have_own_columns(
  folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  """The labels are like those of a bug report.

  It is "Right where it is silently wrong".
  """
  names = ["text", "label", "цас  их", "цас их", "Цас их", "line", "text (2)"]
  rows = [
    {"text": f"цас орлоо {i}", "label": n} for n in names for i in "12345"
  ]
  _jsonl(tmp_path / "train.jsonl", rows)
  _jsonl(tmp_path / "dev.jsonl", rows[::5])
  _jsonl(tmp_path / "test.jsonl", rows[::5])
  with caplog.at_level(logging.WARNING):
    _run(
      folder,
      tmp_path / "out",
      data_dir=str(tmp_path),
      do_predict=True,
      num_train_epochs=1.0,
    )
  assert "(6 rows), 'цас  их' (6 rows), 'цас их' (6 rows)" in caplog.text
  head, *lines = (
    (tmp_path / "out" / "predictions.tsv").read_text("utf-8").splitlines()
  )
  columns = head.split("\t")
  assert columns == [
    "line",
    "label",
    "label (2)",
    "line (2)",
    "text (3)",
    "text (2)",
    "Цас их",
    "цас их",
    "цас их (2)",
    "text",
  ]
  shown = [
    "label",
    "line",
    "text",
    "text (2)",
    "Цас их",
    "цас их",
    "цас их (2)",
  ]
  for line in lines:
    _, label, *shares, _ = line.split("\t")
    assert label == shown[int(np.argmax(np.array(shares, float)))]


def test_a_list_of_labels_keeps_its_white_space_in_a_cell() -> None:
  names = ("цас  их", "цас\u00a0их", "цас их", "a\tb", " \u3000 ")
  told = predictions.answer_text(problems.MultiLabel(names), np.ones(5))
  assert json.loads(" ".join(told.split())) == list(names)
  plain = problems.MultiLabel(("цас их", "бороо"))
  assert predictions.answer_text(plain, np.ones(2)) == '["цас их", "бороо"]'


def test_a_label_spelt_otherwise_than_a_trained_one_is_refused_with_that_one(
  tmp_path: pathlib.Path,
) -> None:
  problem = problems.SingleLabel(("Мэдээ", "спорт"))
  with pytest.raises(options.InputError, match=r"if it means 'Мэдээ', write"):
    problem.check([classifier_data.Row(2, "а", label="мэдээ")])
  with pytest.raises(options.InputError, match=r"or remove it$"):
    problem.check([classifier_data.Row(2, "а", label="улс төр")])
  entities = tagging.Tagging(("O", "B-LOC", "I-LOC"))
  with pytest.raises(options.InputError, match=r"if it means 'LOC', write"):
    entities.check([classifier_data.Row(2, "аб", entities=((0, 2, "Loc"),))])


def test_a_model_of_single_texts_refuses_pairs(
  folder: pathlib.Path,
  several: tuple[pathlib.Path, pathlib.Path],
  tmp_path: pathlib.Path,
) -> None:
  rows, out = several
  with pytest.raises(options.InputError, match="rows of one text"):
    classification.run(
      *base._settings(
        tmp_path,
        do_predict=True,
        init_checkpoint=str(out / "model"),
        predict_file=str(rows / "test.jsonl"),
        text_column="body",
        text_pair_column="tags",
      )
    )


def _pairs(path: pathlib.Path, count: int, seed: int) -> None:
  """Writes rows of two texts and 10 × the weather words in the second."""
  rng, lines = np.random.default_rng(seed), ["one\tother\tscore"]
  for _ in range(count):
    wanted = int(rng.integers(0, 7))
    second = (
      _words(rng, "weather", wanted) + " " + _words(rng, "sport", 7 - wanted)
    )
    first = _words(rng, "weather", int(rng.integers(1, 7)))
    lines.append(f"{first}\t{second.strip()}\t{wanted * 10}")
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_numbers_are_learnt_from_pairs_by_a_frozen_encoder_too(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _pairs(tmp_path / "train.tsv", 150, 0)
  _pairs(tmp_path / "dev.tsv", 30, 1)
  flags = dict(
    data_dir=str(tmp_path),
    text_column="one",
    text_pair_column="other",
    label_column="score",
    label_type="regression",
    do_eval=True,
    do_predict=True,
    predict_file=str(tmp_path / "dev.tsv"),
  )
  results = _run(folder, tmp_path / "out", num_train_epochs=20.0, **flags)
  assert results["eval_pearson"] > 0.9
  report = json.loads((tmp_path / "out/report.json").read_text())
  assert report["faults"] == []
  assert results["eval_mean_squared_error"] < 100  # their variance is 400
  assert "TF-IDF + ridge" in (tmp_path / "out" / "report.txt").read_text()
  head, *rows = (tmp_path / "out" / "predictions.tsv").read_text().splitlines()
  assert head == "line\tlabel\tvalue\ttext"
  assert len(rows) == 30
  frozen = _run(
    folder,
    tmp_path / "frozen",
    freeze_encoder=True,
    **flags,
    init_checkpoint=str(tmp_path / "out" / "model"),
    spm_model_file="",
    albert_config_file="",
    num_train_epochs=20.0,
    learning_rate=0.02,
  )
  assert frozen["eval_pearson"] > 0.9
  before, after = (
    base._weights(tmp_path / "out"),
    base._weights(tmp_path / "frozen"),
  )
  for name, value in before.items():
    if name.startswith("encoder/"):
      np.testing.assert_array_equal(value, after[name], err_msg=name)


def test_what_one_row_cannot_tell_is_null_in_the_report(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _pairs(tmp_path / "train.tsv", 20, 0)
  _pairs(tmp_path / "dev.tsv", 1, 1)
  _run(
    folder,
    tmp_path / "out",
    data_dir=str(tmp_path),
    text_column="other",
    label_column="score",
    label_type="regression",
    do_eval=True,
    num_train_epochs=1.0,
  )
  report = json.loads(
    (tmp_path / "out" / "report.json").read_text(),
    parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
  )
  assert report["model"]["pearson"] is None
  assert report["model"]["mean_absolute_error"] > 0


def test_numbers_have_no_temperature(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _pairs(tmp_path / "train.tsv", 20, 0)
  with pytest.raises(options.InputError, match="label_type=regression"):
    _run(
      folder,
      tmp_path / "out",
      data_dir=str(tmp_path),
      text_column="other",
      label_column="score",
      label_type="regression",
      calibrate=True,
    )


def _sentences(count: int, seed: int) -> list[dict[str, object]]:
  """Returns rows with entities: weather words are LOC, two health words PER."""
  rng = np.random.default_rng(seed)
  rows: list[dict[str, object]] = []
  for _ in range(count):
    text = _words(rng, "sport", 1)
    labels: list[object] = []
    for _ in range(int(rng.integers(1, 4))):
      name, size, kind = [("weather", 1, "LOC"), ("health", 2, "PER")][
        int(rng.integers(2))
      ]
      words, start = _words(rng, name, size), len(text) + 1
      labels.append([start, start + len(words), kind])
      text = f"{text} {words} {_words(rng, 'sport', 1)}"
    rows.append({"text": text, "labels": labels})
  return rows


_TAGGER: dict[str, Any] = dict(
  task_name="ner",
  do_eval=True,
  do_predict=True,
  num_train_epochs=25.0,
  gradient_accumulation_steps=2,
)


@pytest.fixture(scope="module")
def ner(
  folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """A folder with rows of entities, and a run of a tagger on them in `out`."""
  made = tmp_path_factory.mktemp("ner")
  _jsonl(made / "all.jsonl", _sentences(200, 0))
  first, *rest = _sentences(4, 1)
  first["text"] = f"\u2003 \t{first['text']} "
  _jsonl(made / "new.jsonl", [first, *rest, {"text": ""}])
  _run(
    folder,
    made / "out",
    train_file=str(made / "all.jsonl"),
    data_dir="",
    predict_file=str(made / "new.jsonl"),
    **_TAGGER,
  )
  return made


def _texts_of(path: pathlib.Path) -> list[str]:
  return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_entities_are_learnt_and_found(ner: pathlib.Path) -> None:
  report = json.loads((ner / "out" / "report.json").read_text())
  assert report["model"]["micro_f1"] > 0.6
  assert report["faults"] == []
  assert [row["label"] for row in report["labels"]] == ["LOC", "PER"]
  text = (ner / "out" / "report.txt").read_text()
  assert "found again by their words" in text
  lines = (ner / "out" / "predictions.jsonl").read_text().splitlines()
  *rows, last = map(json.loads, lines)
  assert [row["line"] for row in rows] == [1, 2, 3, 4]
  assert last == {"line": 5, "error": last["error"]}
  for row, given in zip(rows, _texts_of(ner / "new.jsonl"), strict=False):
    assert row["text"] == given.rstrip(), "places are those of the file"
    for entity in row["entities"]:
      assert row["text"][entity["start"] : entity["end"]] == entity["text"]
      assert entity["text"].strip() == entity["text"] != ""
      assert 0.3 < entity["probability"] <= 1


def test_a_tagger_is_no_classifier_and_the_reverse(
  ner: pathlib.Path, several: tuple[pathlib.Path, pathlib.Path]
) -> None:
  with pytest.raises(options.InputError, match="got a tagger"):
    classifier.Predictor.load(str(ner / "out" / "model"))
  with pytest.raises(options.InputError, match="got a classifier"):
    tagging.TagPredictor.load(str(several[1] / "model"))


@pytest.mark.slow
def test_a_tagger_reads_words_of_wordpiece_too(
  folder: pathlib.Path, ner: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  config = json.loads((folder / "config.json").read_text())
  words = [word for field in base.WORDS.values() for word in field]
  pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
  pieces += [f"[unused{i}]" for i in range(config["vocab_size"] - len(pieces))]
  (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
  _run(
    folder,
    tmp_path / "out",
    data_dir=str(ner / "out/rows"),
    spm_model_file="",
    vocab_file=str(tmp_path / "vocab.txt"),
    predict_file=str(ner / "new.jsonl"),
    label_column="labels",
    **_TAGGER,
  )
  report = json.loads((tmp_path / "out" / "report.json").read_text())
  assert report["model"]["micro_f1"] > 0.6


def test_seeds_are_reported_with_their_deviation(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _run(
    folder,
    tmp_path / "out",
    do_eval=True,
    num_seeds=2,
    num_train_epochs=2.0,
    class_weights="balanced",
    layer_decay=0.8,
    max_restarts=0,
  )
  report = json.loads((tmp_path / "out" / "report.json").read_text())
  accuracies = [seed["accuracy"] for seed in report["seeds"]]
  assert len(accuracies) == 2
  text = " ".join((tmp_path / "out" / "report.txt").read_text().split())
  assert (
    f"accuracy {np.mean(accuracies):.3f} ± {np.std(accuracies, ddof=1):.3f}"
    in text
  )
  assert (tmp_path / "out" / "seed_12346" / "model" / "manifest.json").exists()


def test_eduge_goes_from_its_file_to_a_report_without_copies(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  path = tmp_path / "eduge.csv.gz"
  eduge_rows.write(path, 1000, eduge_rows.labels(1000))
  chosen = classifier_sets.Options(
    source="eduge",
    split="predecessor",
    input_file=str(path),
    output_dir=str(tmp_path / "rows"),
  )
  classifier_sets.build(chosen, classifier_data.Columns())
  _run(
    folder,
    tmp_path / "out",
    task_name="eduge",
    data_dir=str(tmp_path / "rows"),
    do_eval=True,
    num_train_epochs=1.0,
    max_seq_length=32,
    train_batch_size=32,
    long_text="head_tail",
    max_restarts=0,
  )
  report = json.loads((tmp_path / "out" / "report.json").read_text())
  names = {row["label"] for row in report["labels"]}
  assert names == set(eduge.SUPPORTS)
  assert sum(row["support"] for row in report["labels"]) == report["rows"]
  assert 0 < report["near_copies"] < 20
  assert "without_near_copies" in report
  assert "baseline" in report
  text = " ".join((tmp_path / "out" / "report.txt").read_text().split())
  assert f"{report['near_copies']} of {report['rows']} rows have a near" in text
  assert "texts are longer than 32 pieces" in text


def test_class_weights_weigh_in_the_choice_of_the_best_weights_too(
  folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  rng = np.random.default_rng(0)
  for name, count in (("train", 40), ("validation", 20), ("dev", 20)):
    rows = [
      (
        _words(rng, "sport" if number % 10 else "health", 5),
        str(number % 10 > 0),
      )
      for number in range(count)
    ]
    base._tsv(tmp_path / f"{name}.tsv", rows)
  with caplog.at_level("INFO", logger="absl"):
    _run(
      folder,
      tmp_path / "out",
      data_dir=str(tmp_path),
      num_train_epochs=1.0,
      class_weights="balanced",
      early_stopping_patience=1,
      learning_rate=0.0,
      blend="off",
    )
  predictor = classification.load(str(tmp_path / "out" / "model"))
  path = str(tmp_path / "validation.tsv")
  judged = classifier_data.read(path, "text", "label")
  recall = metrics.balanced_accuracy_score(
    [row.label for row in judged], predictor.best([r.text for r in judged])
  )
  assert f"mean recall {recall:.3f} (the best so far)" in caplog.text


@pytest.mark.slow
def test_bfloat16_is_fine_tuned_with_float32_weights(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  try:
    results = _run(
      folder,
      tmp_path / "out",
      do_eval=True,
      precision="bfloat16",
      num_train_epochs=6.0,
      max_seq_length=24,
    )
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")
  assert results["eval_accuracy"] > 0.8
  predictor = classifier.Predictor.load(str(tmp_path / "out" / "model"))
  assert isinstance(predictor.model, classifier.Classifier)
  kinds = {v.dtype.name for v in predictor.model.trainable_variables}
  assert kinds == {"float32"}
  rows = classifier_data.read(str(folder / "dev.tsv"), "text", "label")
  answers = predictor.best([row.text for row in rows])
  right = np.mean(
    [a == row.label for a, row in zip(answers, rows, strict=True)]
  )
  assert right == pytest.approx(results["eval_accuracy"], abs=0.1)


def _unlearnable(folder: pathlib.Path) -> None:
  """Writes rows whose labels are random: 85 % are "often"."""
  rng = np.random.default_rng(0)
  rows = [
    (text, "often" if rng.random() < 0.85 else "seldom")
    for text, _ in base._texts(60, 0)
  ]
  base._tsv(folder / "train.tsv", rows)
  base._tsv(folder / "dev.tsv", rows[:9])


def _verdict(output: pathlib.Path) -> dict[str, str]:
  described = json.loads((output / "model/manifest.json").read_text())
  return described["parameters"].get("learnt_nothing", {})


def test_a_run_that_diverged_is_begun_again_with_another_seed(
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  caplog: pytest.LogCaptureFixture,
) -> None:
  caplog.set_level("INFO", logger="absl")
  monkeypatch.setattr(degenerate_runs, "FEWEST_STEPS", 10)
  _unlearnable(tmp_path)
  flags = dict(
    data_dir=str(tmp_path),
    learning_rate=0.2,
    num_train_epochs=3.0,
    max_restarts=1,
    random_seed=options.SEEDS - 1,
  )
  _run(folder, tmp_path / "out", **flags)
  assert caplog.text.count("DEGENERATE RUN: one answer for all") == 2
  assert "Beginning again with seed 1000002\n" in caplog.text
  assert "This model is of no use" in caplog.text
  assert (tmp_path / "out" / "restart_1" / "checkpoints").is_dir()
  described = json.loads((tmp_path / "out/model/manifest.json").read_text())
  assert described["counts"]["restarts"] == 1
  assert _verdict(tmp_path / "out")["cause"] == degenerate_runs.DIVERGED
  # Started again, it finds both finished.
  shutil.rmtree(tmp_path / "out" / "model")
  caplog.clear()
  _run(folder, tmp_path / "out", **flags)
  assert caplog.text.count("nothing to train") == 2
  again = json.loads((tmp_path / "out/model/manifest.json").read_text())
  assert again == described


def test_a_run_that_learnt_too_little_is_named_in_the_report(
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  caplog: pytest.LogCaptureFixture,
) -> None:
  monkeypatch.setattr(degenerate_runs, "FEWEST_STEPS", 10)
  _run(
    folder,
    tmp_path / "out",
    learning_rate=2e-6,
    num_train_epochs=1.0,
    do_eval=True,
  )
  assert caplog.text.count("DEGENERATE RUN: ") == 1, "another seed will not do"
  described = json.loads((tmp_path / "out/model/manifest.json").read_text())
  assert described["counts"]["restarts"] == 0
  assert _verdict(tmp_path / "out")["cause"] == degenerate_runs.TOO_LITTLE
  for name in ("report.txt", "report.html", "report.json"):
    text = " ".join((tmp_path / "out" / name).read_text("utf-8").split())
    assert "The training with seed 12345 learnt nothing" in text, name
    assert "give --learning_rate=0.001, or more" in text, name


@pytest.mark.slow
def test_early_stopping_and_a_death_between_epochs_change_nothing(
  folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  rng = np.random.default_rng(3)
  labels = rng.choice(["one", "other"], 60)
  texts = [text for text, _ in base._texts(60, 0)]
  base._tsv(tmp_path / "train.tsv", list(zip(texts, labels, strict=True)))
  flags = dict(
    data_dir=str(tmp_path),
    early_stopping_patience=3,
    num_train_epochs=30.0,
    calibrate=True,
  )
  _run(folder, tmp_path / "whole", **flags)
  save, saved = checkpoints.Checkpoints.save, []

  def dies(self: checkpoints.Checkpoints) -> None:
    save(self)
    saved.append(1)
    if len(saved) in (2, 4):
      raise KeyboardInterrupt

  monkeypatch.setattr(checkpoints.Checkpoints, "save", dies)
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      _run(folder, tmp_path / "killed", **flags)
  _run(folder, tmp_path / "killed", **flags)
  whole, killed = (
    json.loads((tmp_path / name / "model/manifest.json").read_text())
    for name in ("whole", "killed")
  )
  assert killed["counts"] == whole["counts"]
  assert killed["parameters"] == whole["parameters"]
  # It stopped early, and not with the last weights.
  assert whole["counts"]["global_step"] < 30 * 6
  expected, resumed = (
    base._weights(tmp_path / name) for name in ("whole", "killed")
  )
  for name, value in expected.items():
    np.testing.assert_array_equal(value, resumed[name], err_msg=name)
