"""Runs that go wrong: stopped with good weights, or gone back from, exactly."""

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

from albert_mn import (
  distribution,
  divergence,
  optimization,
  probe,
  training,
)
from data_prep import manifest, options, pretraining_data, records
from tests import running

LENGTH = 32


@pytest.fixture(scope="module")
def folder(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """Records of written masks, a poisoned copy of them, a small config."""
  made = tmp_path_factory.mktemp("diverging")
  pretraining_data.create(
    pretraining_data.Options(
      input_file=str(udhr),
      spm_model_file=tokenizer_file,
      output_dir=str(made / "records"),
      max_seq_length=LENGTH,
      dupe_factor=4,
      num_shards=2,
      num_workers=1,
    )
  )
  _poison(made / "records", made / "poisoned")
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
  return made


def _poison(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies records; in the middle of each file one weighs beyond float32."""
  target.mkdir()
  files = sorted(source.glob("*.tfrecord"))
  for path in files:
    with path.open("rb") as file:
      found = list(records.read_framed(file))
    middle = tf.train.Example.FromString(found[len(found) // 2])
    weights = middle.features.feature[records.MASKED_LM_WEIGHTS].float_list
    weights.value[:] = [3e38] * len(weights.value)
    found[len(found) // 2] = middle.SerializeToString()
    with (target / path.name).open("wb") as file:
      records.write(file, found)
  content = manifest.find(str(source))
  assert content
  manifest.write(
    str(target), content["kind"], parameters=content["parameters"],
    files=[path.name for path in files], counts=content["counts"],
    inputs=content["inputs"],
  )  # fmt: skip


def _settings(
  folder: pathlib.Path, output: pathlib.Path, name: str = "poisoned"
) -> training.Options:
  return training.Options(
    input_file=f"{folder}/{name}/train-*.tfrecord",
    albert_config_file=f"{folder}/config.json",
    output_dir=str(output),
    do_train=True,
    train_batch_size=4,
    save_checkpoints_steps=5,
    iterations_per_loop=5,
    jit_compile=False,  # to compile takes longer than the steps
  )


def _recipe(**more: float) -> optimization.OptimizerOptions:
  given = dict(learning_rate=0.01, num_train_steps=30, num_warmup_steps=2)
  return optimization.OptimizerOptions(**(given | more))


def _run(
  settings: training.Options, recipe: optimization.OptimizerOptions
) -> None:
  training.run(settings, recipe, distribution.Options(), probe.Options())


def _command(
  settings: training.Options, recipe: optimization.OptimizerOptions
) -> list[str]:
  given = dataclasses.asdict(settings) | dataclasses.asdict(recipe)
  flags = [f"--{name}={value}" for name, value in given.items()]
  return ["run_pretraining.py", *flags]


def _weights(prefix: pathlib.Path) -> dict[str, np.ndarray]:
  reader = tf.train.load_checkpoint(str(prefix))
  return {
    name: reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if "OBJECT_GRAPH" not in name and "save_counter" not in name
  }


def test_a_run_that_diverges_stops_with_its_weights_and_names_a_checkpoint(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(options.InputError) as caught:
    _run(_settings(folder, tmp_path), _recipe())
  line = str(caught.value)
  assert "expected a finite loss; got" in line, line
  step = int(line.split(" in step ")[1].split(":")[0])
  saved = sorted(
    int(path.stem.rsplit("-", 1)[1]) for path in tmp_path.glob("checkpoints/*.index")
  )  # fmt: skip
  assert saved and max(saved) < step
  named = line.split(": ")[1].split(" is the last good checkpoint")[0]
  for name, value in _weights(pathlib.Path(named)).items():
    assert value.dtype == object or np.isfinite(value).all(), name
  assert "--on_divergence=rollback" in line and "smaller" in line


def test_a_run_goes_back_past_bad_records_the_same_way_when_it_is_killed(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  def command(output: str) -> list[str]:
    settings = _settings(folder, tmp_path / output)
    return _command(
      dataclasses.replace(settings, on_divergence="rollback"), _recipe()
    )

  log = running.Programs().succeed(*command("whole"))
  assert "DIVERGED: expected a finite loss; got nan" in log
  assert "rolled back to step 0 (1 of at most 5 times)" in log
  assert "learning rate is 0.5 of the schedule's" in log
  process = subprocess.Popen(
    [sys.executable, *command("killed")],
    cwd=running.ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  decided = tmp_path / "killed" / "rollbacks.json"
  later = tmp_path / "killed" / "checkpoints" / "model.ckpt-5.index"
  deadline = time.monotonic() + 120
  while not (decided.exists() and later.exists()):
    assert process.poll() is None, "ended before it could be killed"
    assert time.monotonic() < deadline
    time.sleep(0.002)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  log = running.Programs().succeed(*command("killed"))
  assert "going on from" in log
  whole = _weights(tmp_path / "whole/checkpoints/model.ckpt-30")
  killed = _weights(tmp_path / "killed/checkpoints/model.ckpt-30")
  assert whole.keys() == killed.keys() and len(whole) > 20
  for name, value in whole.items():
    np.testing.assert_array_equal(value, killed[name], err_msg=name)
  assert (
    decided.read_bytes() == (tmp_path / "whole/rollbacks.json").read_bytes()
  )


def _looked(
  watch: divergence.Watch, losses: np.ndarray, start: int = 0
) -> list[bool]:
  """Gives a watch losses, from a step on; says which steps may be taken."""

  @tf.function
  def look(step: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
    return watch.look(step, loss, tf.constant(1.0))

  return [
    bool(look(tf.constant(start + i, tf.int64), tf.constant(loss, tf.float32)))
    for i, loss in enumerate(losses)
  ]


def test_a_spike_is_the_mean_of_an_interval_far_above_the_last_ones() -> None:
  every = divergence.INTERVAL
  rng = np.random.default_rng(0)
  calm = 2.0 + rng.normal(0, 0.3, 8 * every)
  watch = divergence.Watch()
  assert all(_looked(watch, calm)), "noise is none"
  high = 3.0 + rng.normal(0, 0.3, every)
  assert _looked(watch, high, len(calm)) == [True] * (every - 1) + [False]
  assert float(watch.scale) == 0, "no step changes weights from here on"
  assert not any(_looked(watch, calm[:3], len(calm) + every))
  with pytest.raises(divergence.Diverged) as caught:
    watch.heed()
  assert caught.value.at == 9 * every
  assert "a mean loss near the usual 2.0" in str(caught.value)


@pytest.mark.parametrize(
  "losses",
  [
    np.linspace(10, 2, 10 * divergence.INTERVAL),
    np.r_[np.full(6 * divergence.INTERVAL, 2.0), [50.0], np.full(100, 2.0)][
      : 8 * divergence.INTERVAL
    ]
    * np.where(np.arange(8 * divergence.INTERVAL) < 1e9, 1, 1),
    np.r_[
      np.full(3 * divergence.INTERVAL, 2.0), np.full(divergence.INTERVAL, 5.0)
    ],
  ],
  ids=["a falling loss", "a batch of 25 times the loss", "too early to say"],
)
def test_no_spike(losses: np.ndarray) -> None:
  watch = divergence.Watch()
  allowed = _looked(watch, losses)
  assert all(allowed)
  watch.heed()
