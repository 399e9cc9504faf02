"""Tests of fine-tuning a tiny classifier: learning, resuming, refusals."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from albert_mn.finetune import classification, fine_tuning
from albert_mn.models import configs, model_directory
from albert_mn.tasks import classifier, problems
from data_prep.base import options
from data_prep.encoding import length_buckets, tokenization
from tests import running

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORDS = {
  "sport": ["бөхийн", "барилдаан", "хоёр", "баг", "тэмцээн", "аварга"],
  "weather": ["цас", "орлоо", "салхи", "шуурга", "бороо", "хүйтэн"],
  "health": ["эмч", "өвчин", "эм", "эмнэлэг", "сувилагч", "даралт"],
}
SHAPE = {
  "vocab_size": 60,
  "embedding_size": 16,
  "hidden_size": 32,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "intermediate_size": 64,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "attention_probs_dropout_prob": 0.1,
  "max_position_embeddings": 64,
  "type_vocab_size": 2,
  # A model this narrow hardly begins to learn from 0.02.
  "initializer_range": 0.2,
}
Settings = tuple[classification.Options, fine_tuning.Recipe]


def _texts(count: int, seed: int) -> list[tuple[str, str]]:
  """Returns (text, label) pairs; a text has 3 to 19 words of its label."""
  rng = np.random.default_rng(seed)
  labels = sorted(WORDS)
  return [
    (
      " ".join(rng.choice(WORDS[labels[i % 3]], rng.integers(3, 20))) + f" {i}",
      labels[i % 3],
    )
    for i in range(count)
  ]


def _tsv(path: pathlib.Path, rows: Sequence[tuple[str, str]]) -> None:
  path.write_text(
    "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows),
    encoding="utf-8",
  )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  return made_folder(tmp_path_factory.mktemp("classification"))


def made_folder(made: pathlib.Path, words: Sequence[str] = ()) -> pathlib.Path:
  """Writes rows, a tokenizer and a config to a folder; returns the folder.

  The files are train.tsv, dev.tsv, test.tsv, spm.model and config.json.

  Args:
    made: the folder.
    words: the words that are pieces; other words are divided.
  """
  size = 50 if words else 60
  _tsv(made / "train.tsv", _texts(90, 0))
  _tsv(made / "dev.tsv", _texts(21, 1))
  _tsv(made / "test.tsv", _texts(10, 2))
  (made / "config.json").write_text(json.dumps({**SHAPE, "vocab_size": size}))
  sentencepiece.SentencePieceTrainer.Train(
    sentence_iterator=iter(text for text, _ in _texts(200, 3)),
    model_prefix=str(made / "spm"),
    vocab_size=size,
    hard_vocab_limit=True,
    pad_id=0,
    unk_id=1,
    bos_id=-1,
    eos_id=-1,
    character_coverage=1.0,
    control_symbols="[CLS],[SEP]",
    user_defined_symbols=",".join(["[MASK]", *words]),
    normalization_rule_name="identity",
    minloglevel=2,
  )
  return made


def _settings(output: pathlib.Path, **flags: object) -> Settings:
  """Returns flags as the two arguments of `classification.run`."""
  flags["output_dir"] = str(output)
  names = fine_tuning.Recipe.__dataclass_fields__
  task = {name: value for name, value in flags.items() if name not in names}
  recipe = {name: value for name, value in flags.items() if name in names}
  return classification.Options(**task), fine_tuning.Recipe(**recipe)  # type: ignore[arg-type]


def _tiny(folder: pathlib.Path, **more: object) -> dict[str, object]:
  """Returns the flags of a short training from random weights, with `more`."""
  return {
    "do_train": True,
    "data_dir": str(folder),
    "spm_model_file": str(folder / "spm.model"),
    "albert_config_file": str(folder / "config.json"),
    "max_seq_length": 64,
    "learning_rate": 2e-3,
    "train_batch_size": 8,
    "num_train_epochs": 4.0,
    **more,
  }


def _flags(**flags: object) -> list[str]:
  return [
    f"--{name}={str(value).lower() if isinstance(value, bool) else value}"
    for name, value in flags.items()
  ]


def _program(*flags: str) -> subprocess.CompletedProcess[str]:
  return running.Programs().run("run_classifier.py", *flags)


@pytest.fixture(scope="module")
def trained(
  folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """The output folder of a run that trained, evaluated and predicted."""
  output = tmp_path_factory.mktemp("run") / "out"
  flags = _tiny(folder, do_eval=True, do_predict=True, num_train_epochs=12.0)
  classification.run(*_settings(output, **flags))
  return output


def test_a_run_learns_and_leaves_every_promised_file(
  trained: pathlib.Path,
) -> None:
  assert {path.name for path in trained.iterdir()} == {
    "checkpoints",
    "confusion_matrix.png",
    "eval_results.txt",
    "model",
    "predictions.tsv",
    "report.html",
    "report.json",
    "report.txt",
    "run.json",
  }
  results = dict(
    line.split(" = ")
    for line in (trained / "eval_results.txt").read_text().splitlines()
  )
  assert set(results) == {"eval_accuracy", "eval_loss", "global_step", "loss"}
  # Each word belongs to one label: three labels by chance would be 0.33.
  assert float(results["eval_accuracy"]) > 0.9
  assert results["global_step"] == str(12 * 12)
  report = (trained / "report.txt").read_text()
  assert "Baseline: TF-IDF + linear SVM, same rows" in report
  assert report.count("95 % interval") == 2


def test_the_model_directory_is_complete_in_itself(
  trained: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  moved = tmp_path / "elsewhere"
  shutil.copytree(trained / "model", moved)
  done = _program(
    "--do_predict",
    f"--init_checkpoint={moved}",
    f"--output_dir={tmp_path}",
    f"--predict_file={folder}/test.tsv",
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert (tmp_path / "predictions.tsv").read_bytes() == (
    trained / "predictions.tsv"
  ).read_bytes()
  head, *rows = (tmp_path / "predictions.tsv").read_text().splitlines()
  assert head == "line\tlabel\thealth\tsport\tweather\ttext"
  assert len(rows) == 10
  assert rows[0].startswith("2\t")
  for row in rows:
    shares = [float(share) for share in row.split("\t")[2:5]]
    assert sum(shares) == pytest.approx(1.0, abs=2e-6)


def test_evaluation_in_another_run_finds_the_same_numbers(
  trained: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  classification.run(
    *_settings(
      tmp_path,
      data_dir=str(folder),
      init_checkpoint=str(trained / "model"),
      do_eval=True,
    )
  )
  for name in ("eval_results.txt", "report.txt"):
    assert (tmp_path / name).read_text() == (trained / name).read_text()


def test_a_prediction_depends_neither_on_neighbours_nor_on_padding(
  trained: pathlib.Path,
) -> None:
  predictor = classifier.Predictor.load(str(trained / "model"))
  texts = [text for text, _ in _texts(21, 1)]
  together = predictor.logits(texts, 32)
  for batch_size in (1, 4):
    np.testing.assert_allclose(
      predictor.logits(texts, batch_size), together, atol=1e-5
    )
  np.testing.assert_allclose(
    predictor.logits(texts[::-1], 8)[::-1], together, atol=1e-5
  )


def test_an_empty_text_and_an_endless_one_are_predicted_too(
  trained: pathlib.Path,
) -> None:
  predictor = classifier.Predictor.load(str(trained / "model"))
  shares = predictor.probabilities(["", "цас " * 500])
  np.testing.assert_allclose(shares.sum(axis=1), 1.0)


def test_the_model_overfits_32_rows_of_random_labels(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  rng = np.random.default_rng(5)
  rows = [(text, str(rng.choice(["0", "1"]))) for text, _ in _texts(32, 4)]
  _tsv(tmp_path / "train.tsv", rows)
  flags = _tiny(
    folder,
    data_dir=str(tmp_path),
    eval_file=str(tmp_path / "train.tsv"),
    task_name="tweetmn",
    do_eval=True,
    num_train_epochs=60.0,
  )
  results = classification.run(*_settings(tmp_path / "out", **flags))
  assert results["tweetmn"] == {"acc": 1.0, "f1": 1.0, "acc_and_f1": 1.0}
  lines = (tmp_path / "out" / "eval_results.txt").read_text().splitlines()
  assert [line.split(" = ")[0] for line in lines] == [
    "eval_loss",
    "global_step",
    "loss",
    "tweetmn",
  ]
  assert lines[3] == "tweetmn = {'acc': 1.0, 'f1': 1.0, 'acc_and_f1': 1.0}"


def _weights(output: pathlib.Path) -> dict[str, np.ndarray]:
  reader = tf.train.load_checkpoint(str(output / "model" / "model.ckpt"))
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if name.endswith("VARIABLE_VALUE") and "save_counter" not in name
  }


def test_training_starts_from_the_given_encoder(
  trained: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  classification.run(
    *_settings(
      tmp_path,
      data_dir=str(folder),
      init_checkpoint=str(trained / "model"),
      do_train=True,
      learning_rate=0.0,
      num_train_epochs=1.0,
      max_seq_length=64,
    )
  )
  before, after = _weights(trained), _weights(tmp_path)
  encoder = [name for name in before if name.startswith("encoder/")]
  assert len(encoder) > 15
  for name in encoder:
    np.testing.assert_array_equal(before[name], after[name], err_msg=name)
  head = "classifier/kernel/.ATTRIBUTES/VARIABLE_VALUE"
  assert not np.array_equal(before[head], after[head])


@pytest.mark.slow
def test_a_run_killed_and_started_again_ends_where_an_uninterrupted_one_does(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  more = {"do_eval": True, "num_train_epochs": 30.0, "adapt_steps": 0}
  flags = _flags(**_tiny(folder, **more))
  done = _program(f"--output_dir={whole}", *flags)
  assert done.returncode == 0, done.stderr[-2000:]
  flags.append(f"--output_dir={killed}")
  process = subprocess.Popen(
    [sys.executable, str(ROOT / "run_classifier.py"), *flags],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  third = killed / "checkpoints" / "model.ckpt-36.index"
  deadline = time.monotonic() + 120
  while not third.exists() and time.monotonic() < deadline:
    assert process.poll() is None, "ended before it could be killed"
    time.sleep(0.002)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert not (killed / "model" / "manifest.json").exists()
  again = _program(*flags)
  assert again.returncode == 0, again.stderr[-2000:]
  assert "steps 0 to 360" not in again.stderr
  expected, resumed = _weights(whole), _weights(killed)
  assert expected.keys() == resumed.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(value, resumed[name], err_msg=name)
  for name in ("eval_results.txt", "report.txt"):
    assert (whole / name).read_text() == (killed / name).read_text()


def test_batches_from_a_step_on_are_those_of_an_unbroken_run(
  folder: pathlib.Path,
) -> None:
  tokenizer = tokenization.Tokenizer(str(folder / "spm.model"))
  encoded, _ = length_buckets.encode(
    tokenizer, [text for text, _ in _texts(50, 0)], 64
  )
  none = np.zeros(50, np.int32)
  examples = problems.Examples(
    encoded, none, none, np.ones(50, np.float32), tokenizer.pad_id
  )
  recipe = fine_tuning.Recipe(max_seq_length=64, train_batch_size=8)

  def rows(first: int, last: int) -> list[tuple[int, tuple[int, ...]]]:
    return [
      (step, tuple(batch.rows))
      for step, batch in fine_tuning.training_batches(
        examples, recipe, first, last
      )
    ]

  whole = rows(0, 20)
  assert [step for step, _ in whole] == list(range(20))
  for step in (1, 6, 7, 13, 19):
    assert rows(step, 20) == whole[step:]
  epochs = [
    [row for _, batch in whole[i : i + 7] for row in batch] for i in (0, 7)
  ]
  assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(50))
  assert epochs[0] != epochs[1]


def test_a_finished_run_trains_nothing_and_writes_the_same_again(
  trained: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  again = tmp_path / "again"
  shutil.copytree(trained, again)
  manifest_before = (trained / "model" / "manifest.json").read_bytes()
  flags = _tiny(folder, num_train_epochs=12.0)
  classification.run(*_settings(again, **flags))
  assert (again / "model" / "manifest.json").read_bytes() == manifest_before


def test_a_run_does_not_resume_as_another_one(
  trained: pathlib.Path, folder: pathlib.Path
) -> None:
  flags = _tiny(folder, num_train_epochs=12.0, random_seed=1)
  with pytest.raises(options.InputError, match="another random_seed"):
    classification.run(*_settings(trained, **flags))


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ({"max_seq_length": 65}, "give --max_seq_length=64"),
    ({"init_checkpoint": "nowhere"}, "no checkpoint at 'nowhere'"),
    ({"albert_config_file": "nowhere"}, "nowhere"),
    ({"spm_model_file": "nowhere"}, "nowhere"),
    ({"spm_model_file": ""}, "expected --spm_model_file"),
    ({"text_column": "body"}, "expected one column 'body'"),
    ({"data_dir": "nowhere"}, "no train.tsv in 'nowhere'"),
    ({"task_name": "tweetmn"}, "expected label 0 or 1"),
    ({"freeze_encoder": True}, "whose encoder is to be frozen"),
    ({"gradient_accumulation_steps": 3}, "give --train_batch_size=9"),
    ({"label_type": "regression"}, "expected a number"),
    ({"label_type": "multi_label"}, "expected a JSON list"),
    ({"do_predict": True, "predict_file": "x.tsv"}, "x.tsv"),
  ],
)
def test_bad_settings_are_refused_before_anything_is_written(
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
  flags: dict[str, object],
  message: str,
) -> None:
  with pytest.raises((options.InputError, OSError)) as caught:
    classification.run(*_settings(tmp_path / "out", **_tiny(folder, **flags)))
  assert message in str(caught.value)
  assert not (tmp_path / "out").exists()


def test_a_vocabulary_that_does_not_match_the_config_is_refused(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "other.json").write_text(json.dumps({**SHAPE, "vocab_size": 99}))
  settings = _settings(
    tmp_path / "out",
    **_tiny(
      folder,
      albert_config_file=str(tmp_path / "other.json"),
    ),
  )
  with pytest.raises(options.InputError) as caught:
    classification.run(*settings)
  assert "expected a config with vocab_size 60" in str(caught.value)


def test_another_tokenizer_than_the_models_is_refused(
  trained: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  wrong_model_file = ROOT / "tests" / "classification_test.py"
  settings = _settings(
    tmp_path / "out",
    **_tiny(
      folder,
      init_checkpoint=str(trained / "model"),
      spm_model_file=str(wrong_model_file),
    ),
  )
  with pytest.raises(options.InputError, match="leave --spm_model_file out"):
    classification.run(*settings)


def test_a_label_that_occurs_once_ends_in_one_clear_line(
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
) -> None:
  _tsv(tmp_path / "train.tsv", [*_texts(30, 0), ("ганц", "lonely")])
  flags = _tiny(folder, data_dir=str(tmp_path), output_dir=tmp_path / "out")
  done = _program(*_flags(**flags))
  assert done.returncode == 1, done.stderr
  assert "label 'lonely' once" in done.stderr
  lines = [line for line in done.stderr.splitlines() if "error" in line]
  assert len(lines) == 1
  assert lines[0].startswith("error: expected at least two")
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "out").exists()


def test_a_label_of_the_evaluation_that_was_not_trained_is_refused(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _tsv(tmp_path / "dev.tsv", [("цас орлоо", "snow")])
  settings = _settings(
    tmp_path / "out",
    **_tiny(
      folder,
      eval_file=str(tmp_path / "dev.tsv"),
    ),
  )
  with pytest.raises(options.InputError, match="'snow' on line 2"):
    classification.run(*settings)


def test_a_pretrained_model_is_no_classifier(
  folder: pathlib.Path, trained: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  model_directory.save(
    str(tmp_path / "model"),
    "pretrained_model",
    config=configs.AlbertConfig.from_file(str(folder / "config.json")),
    parts={},
    tokenizer_file="",
    parameters={},
    counts={},
    inputs={},
  )
  with pytest.raises(options.InputError, match="got a pretrained_model"):
    classifier.Predictor.load(str(tmp_path / "model"))


def test_nothing_to_do_is_refused() -> None:
  with pytest.raises(options.InputError, match="say what to do"):
    classification.Options(output_dir="x")
