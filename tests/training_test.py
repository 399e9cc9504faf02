"""Tests of pretraining: order of data, resuming after SIGKILL, evaluation."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.models import model_directory
from albert_mn.pretrain import history, inputs, run_options
from albert_mn.runtime import distribution, optimization
from data_prep.base import options
from tests import running

ROOT = pathlib.Path(__file__).resolve().parents[1]
SENTENCES = (
  "Монгол улсын нийслэл Улаанбаатар хот юм.",
  "Өвлийн улиралд хүйтэн салхи үлээдэг.",
  "Хүүхдүүд сургуульдаа явж хичээлээ хийлээ.",
  "Малчид малаа бэлчээрт гаргаж хариулна.",
  "Тэр өчигдөр шинэ ном уншиж дуусгав.",
  "Хоёр найз голын эрэг дээр сууж ярилцана.",
)


_run = running.Programs().run
_must = running.Programs().succeed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Records, tokenizer and configuration of a model of 16 units."""
  made = tmp_path_factory.mktemp("path")
  rng = np.random.default_rng(0)
  text = "\n\n".join(
    "\n".join(rng.permutation(SENTENCES)) + f"\n{number} дугаар бүлэг дуусав."
    for number in range(60)
  )
  (made / "raw.txt").write_text(text, encoding="utf-8")
  _must(
    "-m",
    "data_prep.build_corpus",
    "--source=text",
    f"--input_file={made}/raw.txt",
    f"--output_dir={made}/corpus",
  )
  _must(
    "-m",
    "data_prep.train_tokenizer",
    "--vocab_size=80",
    f"--input_file={made}/corpus/corpus-*.txt",
    f"--output_dir={made}/tokenizer",
  )
  _must(
    "-m",
    "data_prep.create_pretraining_data",
    "--max_seq_length=48",
    f"--input_file={made}/corpus/corpus-*.txt",
    "--num_shards=3",
    f"--spm_model_file={made}/tokenizer/tokenizer.model",
    f"--output_dir={made}/records",
    "--eval_fraction=0.1",
    "--num_workers=1",
  )
  shape = dict(
    vocab_size=80,
    embedding_size=8,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_act="gelu",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=48,
    type_vocab_size=2,
  )
  (made / "config.json").write_text(json.dumps(shape))
  return made


def _pretraining(
  folder: pathlib.Path, output: pathlib.Path, *more: str
) -> list[str]:
  return [
    str(ROOT / "run_pretraining.py"),
    "--do_train",
    "--do_eval",
    f"--input_file={folder}/records/train-*.tfrecord",
    f"--eval_input_file={folder}/records/eval-*.tfrecord",
    f"--albert_config_file={folder}/config.json",
    f"--output_dir={output}",
    "--train_batch_size=8",
    "--num_train_steps=60",
    "--num_warmup_steps=6",
    "--learning_rate=0.01",
    "--save_checkpoints_steps=10",
    "--iterations_per_loop=10",
    *more,
  ]


def _weights(output: pathlib.Path) -> dict[str, np.ndarray]:
  reader = tf.train.load_checkpoint(str(output / "model" / "model.ckpt"))
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if "OBJECT_GRAPH" not in name
    and name != "save_counter/.ATTRIBUTES/VARIABLE_VALUE"
  }


@pytest.mark.slow
@pytest.mark.parametrize(
  "more",
  [
    (),
    ("--initialization=corpus", "--optimizer=muon", "--muon_rate_ratio=2"),
  ],
  ids=["random_lamb", "corpus_muon"],
)
def test_a_run_killed_and_started_again_ends_where_an_uninterrupted_one_does(
  folder: pathlib.Path, tmp_path: pathlib.Path, more: tuple[str, ...]
) -> None:
  _must(*_pretraining(folder, tmp_path / "whole", *more))
  killed_flags = _pretraining(folder, tmp_path / "killed", *more)
  command = [sys.executable, *killed_flags]
  process = subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  third = tmp_path / "killed" / "checkpoints" / "model.ckpt-30.index"
  deadline = time.monotonic() + 120
  while not third.exists() and time.monotonic() < deadline:
    assert process.poll() is None, "ended before it could be killed"
    time.sleep(0.005)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert not (tmp_path / "killed" / "model" / "manifest.json").exists()
  again = _run(*killed_flags)
  assert again.returncode == 0, again.stderr[-3000:]
  assert "training from step 0" not in again.stderr
  assert "initialization:" not in again.stderr, "the checkpoint has all weights"
  whole, killed = _weights(tmp_path / "whole"), _weights(tmp_path / "killed")
  assert whole.keys() == killed.keys()
  assert len(whole) > 20
  for name, value in whole.items():
    np.testing.assert_array_equal(value, killed[name], err_msg=name)
  results = [
    (tmp_path / name / "eval_results.txt").read_text()
    for name in ("whole", "killed")
  ]
  assert results[0] == results[1]
  names = [line.split(" = ")[0] for line in results[0].splitlines()]
  assert names == running.EVAL_RESULTS
  assert (
    "already at step 60 of 60"
    in _run(*_pretraining(folder, tmp_path / "whole", *more)).stderr
  )


@pytest.mark.slow
def test_a_run_from_counted_statistics_begins_below_random_weights(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  losses = {}
  for name in ("random", "corpus"):
    output = tmp_path / name
    flags = [f"--initialization={name}", "--learning_rate=0"]
    _must(*_pretraining(folder, output, "--num_train_steps=10", *flags))
    curve = history.curves(str(output / "events/eval"))["masked_lm_loss"]
    losses[name] = curve[-1][1]
  # Random weights give each of the 80 pieces about the same probability.
  assert losses["random"] > np.log(80) - 0.2
  assert losses["corpus"] < losses["random"] - 0.3
  saved = tmp_path / "corpus" / "initialization" / "manifest.json"
  assert json.loads(saved.read_text())["kind"] == "initialization"


def test_statistics_need_the_tokenizer_of_the_records(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "records").mkdir()
  for path in (folder / "records").glob("*.tfrecord"):
    (tmp_path / "records" / path.name).write_bytes(path.read_bytes())
  line = running.Programs().refuse(
    *_pretraining(folder, tmp_path / "out", "--initialization=corpus"),
    f"--input_file={tmp_path}/records/train-*.tfrecord",
    f"--eval_input_file={tmp_path}/records/eval-*.tfrecord",
  )
  assert "tokenizer.model" in line
  assert "--initialization=corpus" in line


@pytest.mark.slow
def test_short_rows_come_first_and_long_ones_start_from_their_weights(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _must(
    "-m",
    "data_prep.create_pretraining_data",
    "--max_seq_length=16",
    f"--input_file={folder}/corpus/corpus-*.txt",
    "--num_workers=1",
    f"--spm_model_file={folder}/tokenizer/tokenizer.model",
    f"--output_dir={tmp_path}/records",
    "--eval_fraction=0.1",
  )
  ten = ["--num_train_steps=10", "--num_warmup_steps=2"]
  short = tmp_path / "short"
  _must(
    *_pretraining(
      folder,
      short,
      *ten,
      "--poly_power=0",
      f"--input_file={tmp_path}/records/train-*",
    )
  )
  # At a rate of 0 the second run shows what it began with.
  start = [f"--init_checkpoint={short}/model", "--learning_rate=0"]
  _must(*_pretraining(folder, tmp_path / "long", *ten, *start))
  ends, begins = (
    (run / "eval_results.txt").read_text() for run in (short, tmp_path / "long")
  )
  assert begins == ends
  events = history.curves(str(short / "events/train"))
  assert [rate for _, rate in events["learning_rate"]] == [
    pytest.approx(0.01)
  ]  # constant until its end, for the second run to lower


def _settings(folder: pathlib.Path) -> run_options.Options:
  return run_options.Options(
    input_file=f"{folder}/records/train-*.tfrecord",
    albert_config_file="x",
    output_dir="x",
    do_train=True,
  )


def _rows(dataset: tf.data.Dataset, batches: int) -> list[bytes]:
  return [
    row.tobytes()
    for batch in dataset.take(batches)
    for row in batch["input_ids"].numpy()
  ]


def test_batches_from_a_step_on_are_those_of_an_unbroken_run(
  folder: pathlib.Path,
) -> None:
  settings = _settings(folder)
  record_set = inputs.record_set(settings.input_file)
  count = record_set.count()
  batches = 2 * count // 8 + 2
  whole = _rows(
    inputs.train_dataset(record_set, count, inputs.Share(8), 7, 0), batches
  )
  for step in (1, count // 8, count // 8 + 1, batches - 1):
    rest = _rows(
      inputs.train_dataset(record_set, count, inputs.Share(8), 7, step),
      batches - step,
    )
    assert rest == whole[8 * step :], f"from step {step}"


def test_no_thread_of_tf_data_holds_up_the_end_of_a_run(
  folder: pathlib.Path,
) -> None:
  """A bug report had 13 to 19 s of silence at the end.

  It is "Right where it is silently wrong". Seen with gdb: the iterator's
  destructor waits for the thread that tunes the dataset, which sleeps for up to
  a minute.
  """
  record_set = inputs.record_set(_settings(folder).input_file)
  for dataset in (
    inputs.train_dataset(record_set, record_set.count(), inputs.Share(8), 7, 0),
    inputs.eval_dataset(record_set, inputs.Share(8)),
  ):
    assert dataset.options().autotune.enabled is False


def test_every_epoch_holds_every_record_once(folder: pathlib.Path) -> None:
  settings = _settings(folder)
  record_set = inputs.record_set(settings.input_file)
  count = record_set.count()
  rows = _rows(
    inputs.train_dataset(record_set, count, inputs.Share(1), 7, 0), 4 * count
  )
  epochs = [rows[at : at + count] for at in range(0, 4 * count, count)]
  assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
  orders = {tuple(epoch) for epoch in epochs}
  assert len(orders) > 1, "the files are permuted anew in each epoch"


def test_evaluation_takes_every_record_and_fills_the_last_batch_with_nothing(
  folder: pathlib.Path,
) -> None:
  settings = _settings(folder)
  record_set = inputs.record_set(settings.input_file)
  masked = {
    size: sum(
      float(tf.reduce_sum(batch["masked_lm_weights"]))
      for batch in inputs.eval_dataset(record_set, inputs.Share(size))
    )
    for size in (1, 7, 1000)
  }
  assert masked[1] == masked[7] == masked[1000] > 0
  last = list(inputs.eval_dataset(record_set, inputs.Share(1000)))[-1]
  empty = last["next_sentence_labels"].numpy()[record_set.count() % 1000 :]
  assert set(empty) == {-1}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--max_seq_length=64"], "expected records with --max_seq_length=64"),
    (["--input_file=nothing-*"], "no file at 'nothing-*'"),
    (["--init_checkpoint=nowhere"], "no checkpoint at 'nowhere'"),
    (["--albert_config_file=nowhere"], "nowhere"),
    (["--num_train_stepz=3"], "num_train_stepz"),
    (["--nodo_train", "--nodo_eval"], "--do_train or --do_eval"),
  ],
)
def test_bad_flags_end_in_one_clear_line(
  folder: pathlib.Path, tmp_path: pathlib.Path, flags: list[str], message: str
) -> None:
  done = _run(*_pretraining(folder, tmp_path / "run", *flags))
  assert done.returncode == (2 if "stepz" in flags[0] else 1), done.stderr
  assert message in done.stderr
  assert "Traceback" not in done.stderr
  assert not (tmp_path / "run" / "model").exists()


def test_a_vocabulary_that_does_not_match_the_config_is_refused(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  shape = json.loads((folder / "config.json").read_text())
  (tmp_path / "other.json").write_text(json.dumps({**shape, "vocab_size": 99}))
  done = _run(
    *_pretraining(
      folder, tmp_path / "run", f"--albert_config_file={tmp_path}/other.json"
    )
  )
  assert done.returncode == 1
  assert "error: expected a config with vocab_size 80" in done.stderr


@pytest.mark.slow
def test_a_run_does_not_resume_as_another_one(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  short = ["--num_train_steps=10"]
  _must(*_pretraining(folder, tmp_path / "run", *short))
  done = _run(
    *_pretraining(folder, tmp_path / "run", *short, "--random_seed=1")
  )
  assert done.returncode == 1
  assert "another random_seed (12345 → 1)" in done.stderr
  shape = json.loads((folder / "config.json").read_text())
  (tmp_path / "other.json").write_text(
    json.dumps({**shape, "intermediate_size": 48})
  )
  done = _run(
    *_pretraining(
      folder,
      tmp_path / "run",
      *short,
      f"--albert_config_file={tmp_path}/other.json",
    )
  )
  assert done.returncode == 1
  assert "config.intermediate_size (32 → 48)" in done.stderr


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_a_damaged_checkpoint_is_named(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  run = tmp_path / "run"
  process = subprocess.Popen(
    [sys.executable, *_pretraining(folder, run, "--num_train_steps=50000")],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=running.heed_ctrl_c,
  )
  newest = run / "checkpoints" / "model.ckpt-30.index"
  deadline = time.monotonic() + 120
  while not newest.exists() and time.monotonic() < deadline:
    assert process.poll() is None, "ended before it could be interrupted"
    time.sleep(0.005)
  process.send_signal(signal.SIGINT)
  _, log = process.communicate(timeout=60)
  assert process.returncode == 130, log
  assert "SIGINT: the run is saved after the steps under way" in log
  assert "SIGINT: saved; the same command goes on from step" in log
  # The last line: nothing is awaited after it.
  assert log.rstrip().endswith("interrupted: nothing half-written was left")
  assert "Traceback" not in log
  for data in run.glob("checkpoints/*.data*"):
    os.truncate(data, 1000)
  done = _run(*_pretraining(folder, run, "--num_train_steps=50000"))
  assert done.returncode == 1, done.stderr
  assert "error: expected a whole checkpoint" in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_sigterm_saves_within_seconds_and_the_run_ends_where_it_would_have(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _must(*_pretraining(folder, tmp_path / "whole"))
  command = _pretraining(folder, tmp_path / "run", "--iterations_per_loop=60")
  command = [c for c in command if "save_checkpoints" not in c]
  process = subprocess.Popen(
    [sys.executable, *command, "--save_checkpoints_steps=60"],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert process.stderr is not None
  log = ""
  for line in process.stderr:
    log += line
    if "training from step 0" in line:
      # Before the first step is compiled: the notice is heeded after it.
      time.sleep(1)
      process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=120) == 143, log
  assert "SIGTERM: saved; the same command goes on from step" in log
  (saved,) = (tmp_path / "run/checkpoints").glob("*.index")
  assert 0 < int(saved.stem.rsplit("-", 1)[1]) < 60
  _must(*command, "--save_checkpoints_steps=60")
  whole, stopped = _weights(tmp_path / "whole"), _weights(tmp_path / "run")
  for name, value in whole.items():
    np.testing.assert_array_equal(value, stopped[name], err_msg=name)


@pytest.mark.slow
def test_weights_that_are_lost_are_not_saved(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  line = running.Programs().refuse(
    *_pretraining(folder, tmp_path, "--learning_rate=1e30", "--optimizer=adamw")
  )
  assert "expected a finite" in line
  assert "smaller --learning_rate" in line
  assert not list(tmp_path.glob("checkpoints/*"))


def test_the_step_of_what_is_evaluated_is_in_its_manifest_or_its_name(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / "manifest.json").write_text(
    json.dumps(
      {
        "format_version": 1,
        "kind": "model",
        "files": {},
        "counts": {"global_step": 60},
      }
    )
  )
  assert model_directory.step(str(tmp_path)) == 60
  assert model_directory.step(f"{tmp_path}/checkpoints/model.ckpt-30") == 30
  assert model_directory.step(f"{tmp_path}/elsewhere/model.ckpt") == 0


def test_neither_training_nor_evaluating_is_refused_before_anything_is_read() -> (
  None
):
  with pytest.raises(options.InputError, match="say what to do"):
    run_options.Options()


# As of google-research/albert's last commit to run_pretraining.py, with what
# earlier ones and its README have, and google-research/bert's.
UPSTREAM = """
  albert_config_file bert_config_file input_file output_dir export_dir
  init_checkpoint init_from_group0 max_seq_length max_predictions_per_seq
  do_train do_eval train_batch_size eval_batch_size optimizer learning_rate
  poly_power num_train_steps num_warmup_steps start_warmup_step
  save_checkpoints_steps keep_checkpoint_max iterations_per_loop max_eval_steps
  masked_lm_budget use_tpu tpu_name tpu_zone tpu_job_name gcp_project master
  num_tpu_cores
"""


def test_every_flag_of_google_researchs_programs_is_taken() -> None:
  classes = (
    run_options.Options,
    optimization.OptimizerOptions,
    distribution.Options,
  )
  ours = {field.name for cls in classes for field in dataclasses.fields(cls)}
  assert set(UPSTREAM.split()) - ours == set()


def test_the_schedule_of_a_flagfile_is_printed_and_nothing_is_touched(
  tmp_path: pathlib.Path,
) -> None:
  done = _run(
    "run_pretraining.py",
    "--flagfile=configs/albert_base.flags",
    f"--output_dir={tmp_path}/run",
    "--print_schedule",
  )
  assert done.returncode == 0, done.stderr
  assert "learning rate 0.000622: 0.00176 x √(512 / 4096)" in done.stderr
  assert "3,124     0.0006221  highest\n" in done.stdout
  assert "1,000,000             0\n" in done.stdout
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_scaled_rate_is_remembered_and_the_model_is_exported(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  flags = ["--num_train_steps=10", "--scale_learning_rate"]
  log = _must(
    *_pretraining(
      folder, tmp_path / "run", *flags, f"--export_dir={tmp_path}/out"
    )
  )
  assert "learning rate 0.000442: 0.01 x √(8 / 4096)" in log
  begun = json.loads((tmp_path / "run" / "run.json").read_text())
  assert begun["optimizer"]["learning_rate"] == 0.01 * (8 / 4096) ** 0.5
  model = running.digests(tmp_path / "run" / "model")
  assert running.digests(tmp_path / "out") == model
  done = _run(*_pretraining(folder, tmp_path / "run", *flags[:1]))
  assert "another optimizer.learning_rate (0.000441941" in done.stderr


def test_a_budget_is_refused_where_masks_are_written(
  folder: pathlib.Path,
) -> None:
  record_set = inputs.record_set(f"{folder}/records/train-*.tfrecord")
  with pytest.raises(options.InputError, match=r"written masks in .*train-"):
    inputs.masked_anew(record_set, 0.4)


def test_a_budget_is_the_share_that_is_masked_in_training(
  dynamic_records: pathlib.Path,
) -> None:
  record_set = inputs.record_set(f"{dynamic_records}/train-*.tfrecord")
  for budget in (0.1, 0.4):
    masked = inputs.masked_anew(record_set, budget)
    (batch,) = inputs.train_dataset(
      masked, record_set.count(), inputs.Share(64), 7, 0
    ).take(1)
    pieces = float(tf.reduce_sum(batch["input_mask"]) - 3 * 64)  # no specials
    share = float(tf.reduce_sum(batch["masked_lm_weights"])) / pieces
    assert share == pytest.approx(budget, abs=0.05)
