"""Tests that diverging runs stop, or go back to earlier weights, exactly."""

import dataclasses
import json
import pathlib
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.pretrain import probe, run_options, training
from albert_mn.runtime import (
  checkpoints,
  distribution,
  divergence,
  optimization,
)
from data_prep.base import options
from data_prep.files import manifest, records
from data_prep.pretraining import pretraining_data
from tests import running

LENGTH = 32


@pytest.fixture(scope="module")
def folder(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """A folder with masked records, a poisoned copy of them, and a config."""
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
  """Copies records; one of each file gets weights that overflow float32.

  It is the 61st record, or the last. All runs below reach it: their 20 steps or
  more take 80 examples. The check before a run looks at 32 records at either
  end of a file.
  """
  target.mkdir()
  files = sorted(source.glob("*.tfrecord"))
  for path in files:
    with path.open("rb") as file:
      examples = list(records.read_framed(file))
    place = min(60, len(examples) - 1)
    spoilt = tf.train.Example.FromString(examples[place])
    weights = spoilt.features.feature[records.MASKED_LM_WEIGHTS].float_list
    weights.value[:] = [3e38] * len(weights.value)
    examples[place] = spoilt.SerializeToString()
    with (target / path.name).open("wb") as file:
      records.write(file, examples)
  content = manifest.find(str(source))
  assert content
  manifest.write(
    str(target),
    content["kind"],
    parameters=content["parameters"],
    files=[path.name for path in files],
    counts=content["counts"],
    inputs=content["inputs"],
  )


def _settings(
  folder: pathlib.Path, output: pathlib.Path, name: str = "poisoned"
) -> run_options.Options:
  return run_options.Options(
    input_file=f"{folder}/{name}/train-*.tfrecord",
    albert_config_file=f"{folder}/config.json",
    output_dir=str(output),
    do_train=True,
    train_batch_size=4,
    save_checkpoints_steps=5,
    iterations_per_loop=5,
    jit_compile=False,  # to compile takes longer than the steps
  )


def _recipe(**more: Any) -> optimization.OptimizerOptions:
  given: dict[str, Any] = dict(
    learning_rate=0.01, num_train_steps=30, num_warmup_steps=2
  )
  return optimization.OptimizerOptions(**(given | more))


def _run(
  settings: run_options.Options, recipe: optimization.OptimizerOptions
) -> None:
  training.run(settings, recipe, distribution.Options(), probe.Options())


def _command(
  settings: run_options.Options, recipe: optimization.OptimizerOptions
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
    int(path.stem.rsplit("-", 1)[1])
    for path in tmp_path.glob("checkpoints/*.index")
  )
  assert saved
  assert max(saved) < step
  named = line.split(": ")[1].split(" is the last good checkpoint")[0]
  for name, value in _weights(pathlib.Path(named)).items():
    assert value.dtype == object or np.isfinite(value).all(), name
  assert "--on_divergence=rollback" in line
  assert "smaller" in line


@pytest.mark.slow
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
  process = running.Logged(*command("killed"), log=tmp_path / "log")
  decided = tmp_path / "killed" / "rollbacks.json"
  later = tmp_path / "killed" / "checkpoints" / "model.ckpt-5.index"
  deadline = time.monotonic() + 120
  while not (decided.exists() and later.exists()):
    assert process.poll() is None, "ended before it could be killed"
    assert time.monotonic() < deadline
    time.sleep(0.002)
  process.kill()
  process.wait()
  log = running.Programs().succeed(*command("killed"))
  assert "going on from" in log
  whole = _weights(tmp_path / "whole/checkpoints/model.ckpt-30")
  killed = _weights(tmp_path / "killed/checkpoints/model.ckpt-30")
  assert whole.keys() == killed.keys()
  assert len(whole) > 20
  for name, value in whole.items():
    np.testing.assert_array_equal(value, killed[name], err_msg=name)
  assert (
    decided.read_bytes() == (tmp_path / "whole/rollbacks.json").read_bytes()
  )


def _looked(
  watch: divergence.Watch, losses: np.ndarray, start: int = 0
) -> list[bool]:
  """Shows a watch losses from step `start` on; returns which may be taken."""

  @tf.function
  def look(step: tf.Tensor, loss: tf.Tensor) -> tf.Tensor:
    return watch.look(step, loss, tf.constant(1.0))

  return [
    bool(look(tf.constant(start + i, tf.int64), tf.constant(loss, tf.float32)))
    for i, loss in enumerate(losses)
  ]


@pytest.mark.slow
def test_two_worker_processes_go_back_as_one(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  command_of_one, command_of_two = (
    _command(
      dataclasses.replace(
        _settings(folder, tmp_path / name), on_divergence="rollback"
      ),
      _recipe(num_train_steps=20),
    )
    for name in ("one", "two")
  )
  running.Programs().succeed(*command_of_one)
  with running.two_workers(*command_of_two) as workers:
    codes = [worker.wait(timeout=240) for worker in workers]
    logs = [worker.said() for worker in workers]
  assert codes == [0, 0], logs
  assert all("rolled back to step 0" in log for log in logs)
  decided = [tmp_path / name / "rollbacks.json" for name in ("one", "two")]
  assert decided[0].read_bytes() == decided[1].read_bytes()
  want, distributed = (
    _weights(path.parent / "checkpoints/model.ckpt-20") for path in decided
  )
  for name, value in want.items():
    if value.dtype != object:
      np.testing.assert_allclose(
        distributed[name], value, rtol=1e-3, atol=1e-5, err_msg=name
      )


@pytest.mark.slow
def test_two_devices_decide_as_one(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  for devices in (1, 2):
    settings = dataclasses.replace(
      _settings(folder, tmp_path / str(devices)), on_divergence="rollback"
    )
    running.Programs().succeed(
      *_command(settings, _recipe(num_train_steps=20)),
      f"--logical_devices={devices}",
    )
  by_one_device, by_two_devices = (
    (tmp_path / name / "rollbacks.json").read_bytes() for name in "12"
  )
  assert by_one_device == by_two_devices


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
  assert "a mean loss near the usual 1.989; got 3.059" in str(caught.value)


EVERY = divergence.INTERVAL


@pytest.mark.parametrize(
  "losses",
  [
    np.linspace(10, 2, 10 * EVERY),
    np.r_[np.full(6 * EVERY, 2.0), [10.0], np.full(2 * EVERY - 1, 2.0)],
    np.r_[np.full(3 * EVERY, 2.0), np.full(EVERY, 5.0)],
  ],
  ids=["a falling loss", "one batch of five times the loss", "too early"],
)
def test_no_spike(losses: np.ndarray) -> None:
  watch = divergence.Watch()
  assert all(_looked(watch, losses))
  watch.heed()


def test_an_absurd_rate_is_seen_as_a_spike_and_tried_again_but_not_for_ever(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  settings = dataclasses.replace(
    _settings(folder, tmp_path, "records"),
    on_divergence="rollback",
    max_rollbacks=1,
    save_checkpoints_steps=100,
    iterations_per_loop=100,
  )
  # A calm of 6 intervals at a rate of 0, then a rise to 20.
  recipe = _recipe(
    num_train_steps=500,
    start_warmup_step=6 * EVERY,
    num_warmup_steps=50,
    learning_rate=20.0,
  )
  with pytest.raises(options.InputError) as caught:
    _run(settings, dataclasses.replace(recipe, optimizer="adamw"))
  line = str(caught.value)
  assert "expected a mean loss near the usual 6." in line, line
  assert f"after 1 rollbacks, {tmp_path}/checkpoints/model.ckpt-300 is" in line
  (entry,) = json.loads((tmp_path / "rollbacks.json").read_text())
  assert (entry["at"], entry["to"], entry["factor"]) == (350, 300, 0.5)
  saved = tmp_path / "checkpoints"
  assert not (saved / "model.ckpt-400.index").exists()


def _guard(
  output: pathlib.Path, weights: list[tf.Variable]
) -> tuple[divergence.Guard, divergence.Watch, tf.Variable]:
  watch = divergence.Watch()
  step = tf.Variable(0, dtype=tf.int64)
  counter = tf.train.Checkpoint(iterations=step)
  saved = checkpoints.Checkpoints(str(output), {"optimizer": counter}, keep=9)
  policy = divergence.Policy(True, 0.5, 9, every=100)
  guard = divergence.Guard(watch, saved, weights, policy, str(output), True)
  return guard, watch, step


def test_what_was_decided_after_the_checkpoint_will_be_decided_again(
  tmp_path: pathlib.Path,
) -> None:
  made = [
    dataclasses.asdict(divergence.Rollback(at, to, 0.5, "бие"))
    for at, to in ((1500, 1000), (1400, 500), (900, 800))
  ]
  (tmp_path / "rollbacks.json").write_text(json.dumps(made))
  guard, watch, _ = _guard(tmp_path, [])
  for step, skipped, scale in (
    (800, 500 + 900 + 100, 0.125),
    (700, 500 + 900, 0.25),
    (400, 0, 1.0),
  ):
    guard.begin(step)
    assert guard.skipped == skipped
    assert float(watch.scale) == scale
  guard.begin(None)
  assert guard.skipped == 0, "of another run, whose checkpoints are gone"


@pytest.mark.parametrize(
  "content", ["{}", "[5]", '[{"at": 9}]', '[{"at": "9"}]', "[", '"a"']
)
def test_rollbacks_that_cannot_be_read_are_one_line(
  content: str, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "rollbacks.json").write_text(content)
  guard, _, _ = _guard(tmp_path, [])
  with pytest.raises(
    options.InputError, match=r"rollbacks\.json.*copy the file"
  ):
    guard.begin(800)


def test_the_run_goes_back_an_interval_at_least_and_never_saves_lost_weights(
  tmp_path: pathlib.Path,
) -> None:
  weight = tf.Variable([1.0, 2.0])
  guard, _, step = _guard(tmp_path, [weight])
  guard.begin(None)
  for number in (100, 150, 200, 300):
    step.assign(number)
    guard.save()
  weight.assign([1.0, np.inf])
  step.assign(301)
  with pytest.raises(divergence.Diverged, match="finite weights"):
    guard.save()
  assert guard.leave() == 300
  diverged = divergence.Diverged(300 + EVERY - 1, "a finite loss", "nan")
  guard.answer(diverged)
  guard.go_back(diverged)
  assert int(step) == 200, "300 is too near"
  names = {path.name for path in (tmp_path / "checkpoints").glob("*.index")}
  assert names == {f"model.ckpt-{n}.index" for n in (0, 100, 150, 200)}
  diverged = divergence.Diverged(200, "a finite loss", "nan")
  guard.answer(diverged)
  guard.go_back(diverged)
  assert int(step) == 100, "150 was saved on a signal"
  assert guard.skipped == 300 + EVERY - 1 - 200 + 100
