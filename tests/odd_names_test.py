"""Tests that names with signs of globs, formats or shells are no patterns."""

import glob
import os
import pathlib
import shlex

import pytest
import tensorflow as tf

from albert_mn.export import exports
from albert_mn.models import model_directory, plain_paths
from albert_mn.runtime import checkpoints
from data_prep.base import options
from data_prep.corpus import corpora, corpus_options
from data_prep.files import documents, manifest, storage
from data_prep.pretraining import pretraining_data
from data_prep.sources import downloads, texts
from data_prep.text import cleaning
from tests import exported, running

# A name, and where a careless glob of it would lead.
NAMES = {
  "e[1]": "e1",
  "e*": "every",
  "e?": "e1",
  "[!x]": "y",
  "[[]": "[",
  "a b": "a",
  "new\nline": "new",
  "%s %d %(x)s": "s",
  "{} {0}": "0",
  "-dash": "dash",
  "back\\slash": "backslash",
  "a'b\"$(c)`;&": "a",
  " space ": "space",
}
ODD = "e[1]*? %s {}\n-$x"


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_there_is_a_name_and_no_glob(
  tmp_path: pathlib.Path, name: str
) -> None:
  for folder in (name, NAMES[name]):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "a.txt").write_text(folder)
    (tmp_path / folder / ".hidden").write_text(folder)
  place = f"{tmp_path}/{name}"
  assert storage.matching(f"{place}/*.txt") == [f"{place}/a.txt"]
  assert storage.matching(f"{place}/a.txt") == [f"{place}/a.txt"]
  assert storage.names(place) == ["a.txt"]
  assert storage.below(place) == [".hidden", "a.txt"]
  # Without the folder, the same text is a glob as before.
  os.rename(place, tmp_path / "gone")
  assert [
    os.path.dirname(path) for path in storage._find(f"{place}/*.txt")
  ] == [os.path.dirname(path) for path in sorted(glob.glob(f"{place}/*.txt"))]


def test_a_file_of_that_very_name_wins_over_the_glob(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.chdir(tmp_path)
  names = ("eval-*.txt", "eval-1.txt", "a,b.txt", "c:2", "c", ".d.txt")
  for name in names:
    pathlib.Path(name).write_text("Сайн уу.\n")
  assert storage.matching("eval-*.txt") == ["eval-*.txt"]
  assert storage.matching("eval-?.txt") == ["eval-*.txt", "eval-1.txt"]
  assert storage.matching("a,b.txt") == ["a,b.txt"]
  assert storage.matching("*.txt") == ["a,b.txt", "eval-*.txt", "eval-1.txt"]
  assert storage.matching(".*.txt") == [".d.txt"]
  assert documents.weighted("c:2") == [documents.Files(("c:2",))]
  assert documents.weighted("c:3") == [documents.Files(("c",), 3.0)]


def _corpus(source: pathlib.Path, out: pathlib.Path) -> dict[str, str]:
  corpora.build(
    corpus_options.Settings(
      corpus_options.Options(
        input_file=str(source), output_dir=str(out), num_workers=1
      ),
      cleaning.Options(),
      texts.Options(),
      downloads.Options(),
    )
  )
  return running.digests(out)


@pytest.mark.parametrize("name", ["e[1]", "e*", "e?", ODD])
def test_a_corpus_leaves_the_folders_alone_that_its_own_would_match(
  tmp_path: pathlib.Path, name: str
) -> None:
  text = tmp_path / f"{name}.txt"
  text.write_text("Монгол Улс нь Төв Азид оршдог.\n\nСайн байна уу, та нар?\n")
  digests = _corpus(text, tmp_path / "e1")
  for _ in range(2):  # the second replaces the first
    assert _corpus(text, tmp_path / name) == digests
  (tmp_path / name / "mine.txt").write_text(
    "files of the user: moved one by one"
  )
  (tmp_path / name / "corpus-00001-of-00002.txt").write_text("stale")
  mine = {"mine.txt", "corpus-mine.txt", "corpus-9.txt"}
  for mine_too in sorted(mine):
    (tmp_path / name / mine_too).write_text("of the user")
  assert _corpus(text, tmp_path / name).keys() == {*digests, *mine}
  assert running.digests(tmp_path / "e1") == digests
  assert {path.name for path in tmp_path.iterdir()} == {"e1", name, text.name}


def _records(
  udhr: pathlib.Path, tokenizer_file: str, out: pathlib.Path
) -> dict[str, str]:
  settings = pretraining_data.Options(
    input_file=str(udhr),
    spm_model_file=tokenizer_file,
    output_dir=str(out),
    max_seq_length=32,
    sentence_pairs_only=True,
    num_workers=1,
  )
  counts = pretraining_data.create(settings)
  told = shlex.split(pretraining_data.googles_flags(settings, counts))[0]
  pattern = told.removeprefix("--input_file=")
  there = sorted(map(str, out.glob("train-*.tfrecord")))
  assert sorted(tf.io.gfile.glob(pattern)) == there
  return running.digests(out)


def test_records_leave_the_folders_alone_that_their_own_would_match(
  udhr: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  first = _records(udhr, tokenizer_file, tmp_path / "e1")
  odd = tmp_path / "e[1]"
  assert _records(udhr, tokenizer_file, odd) == first
  (odd / "train-00007-of-00009.tfrecord").write_text("stale")
  mine = {"mine", "train-old.tfrecord", "eval-2-of-1.tfrecord"}
  for mine_too in sorted(mine):
    (odd / mine_too).write_text("of the user")
  assert _records(udhr, tokenizer_file, odd).keys() == {*first, *mine}
  assert running.digests(tmp_path / "e1") == first


@pytest.mark.parametrize("name", [*NAMES, ODD])
def test_checkpoints_and_models_are_read_back_where_they_were_written(
  tmp_path: pathlib.Path, name: str
) -> None:
  optimizer = tf.Module()
  optimizer.iterations = tf.Variable(0, dtype=tf.int64)
  weight = tf.Variable([1.0, 2.0])
  saved = checkpoints.Checkpoints(
    f"{tmp_path}/{name}", {"optimizer": optimizer, "weight": weight}, 2
  )
  for step in (1, 2, 3):
    optimizer.iterations.assign(step)
    weight.assign([step, step])
    saved.save()
  weight.assign([0, 0])
  assert saved.restore() == 3
  assert list(weight.numpy()) == [3, 3]
  weight.assign([0, 0])
  prefix = saved.prefix(2)
  model_directory.restore(prefix, {"weight": weight})
  assert list(weight.numpy()) == [2, 2]
  assert "weight/.ATTRIBUTES/VARIABLE_VALUE" in (
    model_directory.held_names(prefix)
  )


def test_a_bucket_is_refused_where_tensorflow_would_not_read_it_back() -> None:
  with pytest.raises(options.InputError, match=r"without|no \["):
    checkpoints.Checkpoints("gs://bucket/e[1]", {"optimizer": tf.Module()}, 1)
  assert plain_paths.plain("gs://bucket/e*") == "gs://bucket/e*"


@pytest.mark.parametrize(
  "to",
  [
    "tf1",
    pytest.param("weights", marks=pytest.mark.slow),
    pytest.param("saved_model", marks=pytest.mark.slow),
  ],
)
def test_exports_are_read_back_where_they_were_written(
  tokenizer_file: str, tmp_path: pathlib.Path, to: str
) -> None:
  model = exported.save_classifier(
    tmp_path / ODD / "model", exported.SHAPES["bert"], tokenizer_file
  )
  out = tmp_path / ODD / ODD
  settings = exports.Options(model_dir=model, to=to, output_dir=str(out))
  exports.run(settings)
  exports.run(settings)
  assert manifest.find(str(out))
  assert {path.name for path in (tmp_path / ODD).iterdir()} == {"model", ODD}


@pytest.mark.slow
def test_every_training_goes_on_in_a_folder_with_an_odd_name(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
  programs: running.Programs,
) -> None:
  place = tmp_path / ODD
  records, rows = place / "records", place / "rows[1]"
  _records(udhr, tokenizer_file, records)
  rows.mkdir()
  lines = [f"{'эрх' if i % 2 else 'үүрэг'} {i}\t{i % 2}" for i in range(40)]
  (rows / "train.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
  config = place / "config[1].json"
  config.write_text(exported.SHAPES["bert"].to_json())
  pretraining = (
    "run_pretraining.py",
    f"--input_file={records}/train-*",
    f"--bert_config_file={config}",
    f"--output_dir={place}/run",
    "--do_train",
    "--train_batch_size=4",
    "--num_warmup_steps=1",
    "--save_checkpoints_steps=2",
  )
  for _ in range(2):
    log = programs.succeed(*pretraining, "--num_train_steps=2")
  assert "going on from" in log
  tuning = (
    "run_classifier.py",
    "--task_name=csv",
    "--do_train",
    "--do_predict",
    f"--data_dir={rows}",
    f"--predict_file={rows}/train.tsv",
    f"--init_checkpoint={place}/run/model",
    f"--output_dir={place}/tuned",
    "--train_batch_size=8",
    "--max_seq_length=16",
    "--num_train_epochs=1",
  )
  for _ in range(2):
    programs.succeed(*tuning)
  assert (place / "tuned/model/manifest.json").exists()
