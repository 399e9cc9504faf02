"""Tests that losses agree: one device, two, batches in parts, two processes."""

import json
import pathlib
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.models import configs, pretraining
from albert_mn.pretrain import inputs
from albert_mn.runtime import distribution, divergence
from data_prep.base import options
from data_prep.files import manifest
from tests import conftest, running

STEPS = 10


@pytest.fixture(scope="module")
def folder(dynamic_records: pathlib.Path) -> pathlib.Path:
  """The folder of records that are masked in training, and of their config."""
  shape = dict(
    vocab_size=400,
    embedding_size=16,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=conftest.DYNAMIC_LENGTH,
  )
  (dynamic_records.parent / "config.json").write_text(json.dumps(shape))
  return dynamic_records


def _flags(folder: pathlib.Path, output: pathlib.Path) -> list[str]:
  return [
    str(running.ROOT / "run_pretraining.py"),
    "--do_train",
    "--do_eval",
    f"--input_file={folder}/train-*.tfrecord",
    f"--eval_input_file={folder}/eval-*.tfrecord",
    f"--albert_config_file={folder.parent}/config.json",
    f"--output_dir={output}",
    "--train_batch_size=8",
    f"--num_train_steps={STEPS}",
    "--num_warmup_steps=2",
    "--learning_rate=0.01",
    "--iterations_per_loop=1",
    "--save_checkpoints_steps=100",
    "--eval_batch_size=8",
  ]


def _curve(output: pathlib.Path) -> list[float]:
  """Returns the training losses, by ascending step, from the event files."""
  losses = {}
  for path in sorted((output / "events/train").glob("events*")):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        if value.tag == "loss":
          losses[event.step] = float(tf.make_ndarray(value.tensor))
  return [losses[step] for step in sorted(losses)]


def _results(output: pathlib.Path) -> dict[str, float]:
  lines = (output / "eval_results.txt").read_text().splitlines()
  return {k: float(v) for k, v in (line.split(" = ") for line in lines)}


@pytest.fixture(scope="module")
def alone(
  folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """The output folder of a run on one device, with undivided batches."""
  output = tmp_path_factory.mktemp("alone")
  running.Programs().succeed(*_flags(folder, output))
  return output


@pytest.mark.parametrize(
  "more",
  [
    ["--logical_devices=2"],
    *(
      pytest.param(flags, marks=pytest.mark.slow)
      for flags in (
        ["--gradient_accumulation_steps=4"],
        ["--logical_devices=2", "--gradient_accumulation_steps=2"],
        ["--rematerialize"],
      )
    ),
  ],
)
def test_the_losses_are_those_of_one_device(
  folder: pathlib.Path,
  alone: pathlib.Path,
  tmp_path: pathlib.Path,
  more: list[str],
) -> None:
  running.Programs().succeed(*_flags(folder, tmp_path), *more)
  want, losses = _curve(alone), _curve(tmp_path)
  assert len(want) == STEPS
  assert want[0] > want[-1]
  np.testing.assert_allclose(losses, want, rtol=1e-5)
  results = _results(tmp_path)
  for name, value in _results(alone).items():
    assert results[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.slow
def test_muon_from_counted_weights_has_the_losses_of_one_device(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  """The run is made on two devices, and in two processes."""
  flags = ("--initialization=corpus", "--optimizer=muon")
  alone, devices, processes = (tmp_path / name for name in "abc")
  running.Programs().succeed(*_flags(folder, alone), *flags)
  running.Programs().succeed(
    *_flags(folder, devices), *flags, "--logical_devices=2"
  )
  with running.two_workers(*_flags(folder, processes), *flags) as workers:
    codes = [worker.wait(timeout=240) for worker in workers]
    logs = [worker.said() for worker in workers]
  assert codes == [0, 0], logs
  want = _curve(alone)
  assert len(want) == STEPS
  assert want[0] > want[-1]
  np.testing.assert_allclose(_curve(devices), want, rtol=1e-5)
  np.testing.assert_allclose(_curve(processes), want, rtol=1e-5)


@pytest.mark.slow
def test_two_worker_processes_have_the_losses_of_one_device(
  folder: pathlib.Path, alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  with running.two_workers(*_flags(folder, tmp_path)) as workers:
    codes = [worker.wait(timeout=240) for worker in workers]
    logs = [worker.said() for worker in workers]
  assert codes == [0, 0], logs
  assert "multi_worker: 2 devices" in logs[0]
  np.testing.assert_allclose(_curve(tmp_path), _curve(alone), rtol=1e-5)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == sorted(path.name for path in alone.iterdir())


@pytest.mark.slow
def test_a_signal_to_one_worker_ends_all_of_them_saved(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  with running.two_workers(
    *_flags(folder, tmp_path), "--num_train_steps=100000"
  ) as workers:
    while " step 3 of " not in workers[0].said():
      assert workers[0].poll() is None, workers[0].said()
      time.sleep(0.05)
    workers[1].send_signal(signal.SIGTERM)
    codes = [worker.wait(60) for worker in workers]
    log = workers[0].said()
  assert codes == [143, 143], log
  assert "goes on from step" in log
  (saved,) = (tmp_path / "checkpoints").glob("*.index")
  assert int(saved.stem.rpartition("-")[2]) >= 3


@pytest.mark.slow
def test_bfloat16_trains_with_float32_weights_and_nearly_the_same_loss(
  folder: pathlib.Path, alone: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  running.Programs().succeed(*_flags(folder, tmp_path), "--precision=bfloat16")
  want, losses = _curve(alone), _curve(tmp_path)
  np.testing.assert_allclose(losses, want, rtol=0.05)
  assert losses != want
  reader = tf.train.load_checkpoint(str(tmp_path / "model/model.ckpt"))
  kinds = {
    kind
    for name, kind in reader.get_variable_to_dtype_map().items()
    if "VARIABLE_VALUE" in name and "save_counter" not in name
  }
  assert kinds == {tf.float32}


def test_parts_of_a_batch_are_its_rows_in_order(folder: pathlib.Path) -> None:
  record_set = inputs.record_set(f"{folder}/train-*.tfrecord")
  whole = next(
    iter(
      inputs.train_dataset(
        record_set, record_set.count(), inputs.Share(8), 3, 5
      )
    )
  )
  parts = [
    part
    for first in (0, 2)
    for part in inputs.train_dataset(
      record_set, record_set.count(), inputs.Share(8, 4, first, 2), 3, 5
    ).take(2)
  ]
  for name, value in whole.items():
    joined = np.concatenate([part[name] for part in parts])
    np.testing.assert_array_equal(joined, value, err_msg=name)


def test_a_damaged_record_is_named_when_training_comes_to_it(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  damaged = tmp_path / "records"
  shutil.copytree(folder, damaged)
  made = manifest.find(str(folder))
  assert made
  for path in damaged.glob("*.tfrecord"):  # both ends are read at the start
    path.write_bytes(path.read_bytes() * 4)
  manifest.write(
    str(damaged),
    made["kind"],
    parameters=made["parameters"],
    files=list(made["files"]),
    inputs=made["inputs"],
    counts={name: 4 * number for name, number in made["counts"].items()},
  )
  for path in damaged.glob("train-*"):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 - 20] ^= 1
    path.write_bytes(content)
  (damaged.parent / "config.json").write_bytes(
    (folder.parent / "config.json").read_bytes()
  )
  line = running.Programs().refuse(
    *_flags(damaged, tmp_path / "out"), "--num_train_steps=1000"
  )
  assert f"expected whole TFRecords in {damaged}" in line
  assert "copy them again" in line


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--eval_input_file={folder}/train-*"], "expected evaluation records"),
    (["--logical_devices=3"], "expected a batch that 3 devices can share"),
    (["--gradient_accumulation_steps=3"], "give a divisor of it"),
    (["--bert_config_file=x"], "got both: leave one out"),
  ],
)
def test_devices_and_records_that_do_not_fit_end_in_one_clear_line(
  folder: pathlib.Path, tmp_path: pathlib.Path, flags: list[str], message: str
) -> None:
  flags = [flag.format(folder=folder) for flag in flags]
  line = running.Programs().refuse(*_flags(folder, tmp_path), *flags)
  assert message in line


@pytest.mark.parametrize("name", ["lamb", "muon"])
def test_the_whole_step_compiles_with_static_shapes(name: str) -> None:
  """A TPU needs forward, backward and optimizer in one program."""
  from albert_mn.models import encoders
  from albert_mn.runtime import optimization

  config = configs.AlbertConfig(
    vocab_size=50,
    embedding_size=8,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
    hidden_dropout_prob=0.1,
  )
  model = pretraining.PretrainingModel(config, 0)
  recipe = optimization.OptimizerOptions(optimizer=name)
  optimizer = optimization.create(recipe)
  optimizer.build(model.trainable_variables)
  features = {
    "input_ids": tf.ones([4, 16], tf.int32),
    "input_mask": tf.ones([4, 16], tf.int32),
    "segment_ids": tf.zeros([4, 16], tf.int32),
    "masked_lm_positions": tf.ones([4, 2], tf.int32),
    "masked_lm_ids": tf.ones([4, 2], tf.int32),
    "masked_lm_weights": tf.ones([4, 2]),
    "next_sentence_labels": tf.zeros([4], tf.int32),
  }

  @tf.function(jit_compile=True)
  def step() -> tf.Tensor:
    seeds = encoders.example_seeds(
      1, tf.cast(optimizer.iterations, tf.int32), tf.range(4)
    )
    with tf.GradientTape() as tape:
      sums = pretraining.losses(model(features, seeds), features)
      loss = sums.masked_lm_loss_sum / sums.masked_lm_count
    gradients = tape.gradient(
      loss, model.trainable_variables, unconnected_gradients="zero"
    )
    optimizer.apply_gradients(
      zip(
        map(tf.convert_to_tensor, gradients),
        model.trainable_variables,
        strict=True,
      )
    )
    return loss

  first = float(step())
  assert float(step()) != first
  graph = step.get_concrete_function().graph
  unknown = [
    tensor.name
    for op in graph.get_operations()
    for tensor in op.outputs
    if tensor.dtype.is_floating and not tensor.shape.is_fully_defined()
  ]
  assert not unknown


def test_auto_takes_what_the_environment_names(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.delenv("TF_CONFIG", raising=False)
  assert distribution.Options().kind() == "one_device"
  assert distribution.Options(logical_devices=2).kind() == "mirrored"
  assert distribution.Options(use_tpu=True).kind() == "tpu"
  two = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}
  monkeypatch.setenv("TF_CONFIG", json.dumps(two))
  assert distribution.Options().kind() == "multi_worker"
  for damaged in ("{", "[" * 100_000, "1" * 5_000):
    monkeypatch.setenv("TF_CONFIG", damaged)
    with pytest.raises(options.InputError, match=re.escape("in TF_CONFIG")):
      distribution.Options().kind()


@pytest.mark.parametrize("parts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_tpus_part_of_the_step_compiles_whole_and_masks_are_made_outside(
  folder: pathlib.Path, parts: int
) -> None:
  """TPUStrategy compiles the share of one device: counts, sums, optimizer.

  The masks of these records are made in numpy, by the input pipeline of the
  host: the program sees static shapes.
  """
  from albert_mn.pretrain import trainer
  from albert_mn.runtime import optimization

  config = configs.AlbertConfig.from_file(f"{folder.parent}/config.json")
  model = pretraining.PretrainingModel(config, 0)
  watch = divergence.Watch()
  optimizer = optimization.create(
    optimization.OptimizerOptions(num_train_steps=9, num_warmup_steps=2),
    scale=watch.scale,
  )
  optimizer.build(model.trainable_variables)
  steps = trainer.Trainer(
    trainer.Learner(model, optimizer, watch),
    trainer.Steps(9, parts, seed=5),
    tf.distribute.get_strategy(),
  )
  record_set = inputs.record_set(f"{folder}/train-*.tfrecord")
  assert not record_set.shape.max_predictions_per_seq
  dataset = inputs.train_dataset(
    record_set, record_set.count(), inputs.Share(8), 5, 0
  )
  for spec in dataset.element_spec.values():
    assert spec.shape.is_fully_defined()
  whole = tf.function(
    lambda batch: steps._replica_step(dict(batch)), jit_compile=True
  )
  before = [tf.identity(v) for v in model.trainable_variables]
  for batch in dataset.take(2):
    whole(batch)
  assert int(optimizer.iterations) == 2
  moved = [
    bool(tf.reduce_any(value != old))
    for value, old in zip(model.trainable_variables, before, strict=True)
  ]
  assert all(moved)
  graph = whole.get_concrete_function(batch).graph
  operations = {op.type for op in graph.get_operations()}
  assert not {"PyFunc", "EagerPyFunc", "PyFuncStateless"} & operations
