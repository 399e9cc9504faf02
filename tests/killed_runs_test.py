"""Tests that runs killed many times end with the result of an unbroken run."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
import tensorflow as tf

from data_prep.files import gcs, storage
from data_prep.pretraining import pretraining_data
from tests import gcs_server, running

LENGTH = 32
KILLS = 6
STEPS = 200


@pytest.fixture(scope="module")
def folder(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """A folder with records, a config, and `whole`, a run that was not killed."""
  made = tmp_path_factory.mktemp("killed")
  pretraining_data.create(
    pretraining_data.Options(
      input_file=str(udhr),
      spm_model_file=tokenizer_file,
      output_dir=str(made / "records"),
      max_seq_length=LENGTH,
      dupe_factor=4,
      num_shards=2,
      eval_fraction=0.2,
      num_workers=1,
    )
  )
  shape = dict(
    vocab_size=400,
    embedding_size=8,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=LENGTH,
  )
  (made / "config.json").write_text(json.dumps(shape))
  running.Programs().succeed(*_command(str(made), f"{made}/whole"))
  return made


def _command(source: str, output: str) -> list[str]:
  return [
    "run_pretraining.py",
    "--do_train",
    "--do_eval",
    f"--input_file={source}/records/train-*.tfrecord",
    f"--eval_input_file={source}/records/eval-*.tfrecord",
    f"--albert_config_file={source}/config.json",
    f"--output_dir={output}",
    "--train_batch_size=4",
    f"--num_train_steps={STEPS}",
    "--num_warmup_steps=6",
    "--learning_rate=0.01",
    "--save_checkpoints_steps=5",
    "--iterations_per_loop=5",
    "--eval_interval=20",
  ]


def _kill_many_times(
  command: list[str],
  environment: Mapping[str, str],
  newest: Callable[[], object],
  log: pathlib.Path,
  pause: float,
) -> None:
  """Kills a run KILLS times, then lets it end.

  Args:
    command: the command that starts or continues the run.
    environment: environment variables to add to those of this process.
    newest: function that returns the name of the newest checkpoint; a change
      shows that training is under way.
    log: the file that receives the output of the run.
    pause: a kill comes at a random moment in so many seconds after a save.
  """
  moments = random.Random(7)
  for number in range(KILLS + 1):
    with log.open("a", encoding="utf-8") as said:
      process = subprocess.Popen(
        [sys.executable, *command],
        cwd=running.ROOT,
        stderr=said,
        env={**os.environ, **environment},
      )
    if number == KILLS:
      assert process.wait(300) == 0, log.read_text()[-3000:]
      return
    before, deadline = newest(), time.monotonic() + 120
    while newest() == before:
      assert process.poll() is None, log.read_text()[-3000:]
      assert time.monotonic() < deadline, log.read_text()[-3000:]
      time.sleep(0.001)
    time.sleep(moments.uniform(0, pause))
    assert process.poll() is None, "ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _weights(prefix: pathlib.Path) -> dict[str, np.ndarray]:
  reader = tf.train.load_checkpoint(str(prefix))
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if "OBJECT_GRAPH" not in name and "save_counter" not in name
  }


def _must_be_equal(whole: pathlib.Path, killed: pathlib.Path) -> None:
  places = ("checkpoints/model.ckpt-200", "model/model.ckpt", "best/model.ckpt")
  for place in places:
    expected, resumed = _weights(whole / place), _weights(killed / place)
    assert expected.keys() == resumed.keys()
    assert len(expected) > 20
    for name, value in expected.items():
      np.testing.assert_array_equal(value, resumed[name], err_msg=name)
  results = [(run / "eval_results.txt").read_text() for run in (whole, killed)]
  assert results[0] == results[1]


@pytest.mark.slow
def test_a_run_killed_at_many_moments_ends_with_the_same_weights(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  log, output = tmp_path / "log.txt", tmp_path / "killed"
  _kill_many_times(
    _command(str(folder), str(output)),
    {},
    lambda: max(output.glob("checkpoints/*.index"), default=None, key=_step),
    log,
    0.4,
  )
  _must_be_equal(folder / "whole", output)
  assert "damaged" not in log.read_text()
  assert not list(output.glob("checkpoints/damaged*"))


def _step(path: pathlib.Path) -> int:
  return int(path.stem.rsplit("-", 1)[1])


@pytest.fixture
def bucket(
  folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[gcs_server.Front, dict[str, str], pathlib.Path]]:
  """Yields (server with the records, TensorFlow's environment, its folder)."""
  (tmp_path / "served").mkdir()
  with (
    gcs_server.running(tmp_path / "served") as front,
    gcs_server.tensorflow_environment(front, tmp_path) as environment,
  ):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    gcs._client.cache_clear()
    for path in [folder / "config.json", *(folder / "records").iterdir()]:
      storage.copy(str(path), f"gs://bucket/{path.relative_to(folder)}")
    yield front, environment, tmp_path / "served/bucket"
    gcs._client.cache_clear()


@pytest.mark.slow
def test_a_run_on_gs_killed_at_many_moments_ends_with_the_same_weights(
  folder: pathlib.Path,
  bucket: tuple[gcs_server.Front, dict[str, str], pathlib.Path],
  tmp_path: pathlib.Path,
) -> None:
  """The run uses a bucket alone, whose server fails now and then."""
  front, environment, served = bucket
  log, output = tmp_path / "log.txt", served / "run"

  def newest() -> object:
    front.faults = front.faults or [""] * 97 + ["503"]
    indexes = output.glob("checkpoints/*.index")
    return max(indexes, default=None, key=_step)

  _kill_many_times(
    _command("gs://bucket", "gs://bucket/run"), environment, newest, log, 3.0
  )
  _must_be_equal(folder / "whole", output)
  assert "damaged" not in log.read_text()
