"""Tests of the differences from an earlier run.json that stop a run.

reference/begun_runs holds run.json as run_pretraining.py and run_classifier.py
wrote it when the rule was made.
"""

import json
import logging
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from albert_mn.finetune import classification, fine_tuning
from albert_mn.pretrain import probe, run_options, training
from albert_mn.runtime import distribution, optimization, runs
from data_prep.base import options

BEGUN = pathlib.Path(__file__).parent / "reference" / "begun_runs"
KINDS = ("pretraining", "classifier")


def _begun(kind: str) -> dict[str, Any]:
  return dict(json.loads((BEGUN / f"{kind}.json").read_text("utf-8")))


def _leaves(settings: dict[str, Any], within: str = "") -> list[str]:
  names = []
  for name, value in settings.items():
    if isinstance(value, dict):
      names += _leaves(value, f"{within}{name}.")
    elif value is not None:
      names.append(within + name)
  return names


def _without(settings: dict[str, Any], leaf: str) -> dict[str, Any]:
  copy = json.loads(json.dumps(settings))
  *above, name = leaf.split(".")
  inner = copy
  for step in above:
    inner = inner[step]
  del inner[name]
  return dict(copy)


def _remember(
  folder: pathlib.Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
  """Continues a run whose run.json is `before`, with the settings `now`."""
  (folder / "run.json").write_text(json.dumps(before))
  runs.remember(
    str(folder), {**runs.deciding(now), "tensorflow": None}, begun=True
  )


@pytest.mark.parametrize("kind", KINDS)
def test_a_flag_added_later_does_not_stop_a_begun_run(
  kind: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  """Each setting in turn counts as one that the earlier version lacked."""
  settings = _begun(kind)
  for leaf in _leaves(runs.deciding(settings)):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "absl"):
      _remember(tmp_path, _without(settings, leaf), settings)
    if leaf == "tensorflow":
      continue
    (record,) = caplog.records
    assert f"does not name {leaf}=" in record.getMessage(), leaf


@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_a_later_version_are_named_in_one_line(
  kind: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  settings = _begun(kind)
  config = {**settings["config"], "rotary": True}
  later = {**settings, "config": config, "warmth": 1.5}
  with caplog.at_level(logging.WARNING, "absl"):
    _remember(tmp_path, later, settings)
  (record,) = caplog.records
  assert "does not know config.rotary, warmth, and" in record.getMessage()


@pytest.mark.parametrize("kind", KINDS)
def test_another_value_still_stops_a_begun_run(
  kind: str, tmp_path: pathlib.Path
) -> None:
  settings = _begun(kind)
  config = {**settings["config"], "hidden_size": 128}
  with pytest.raises(
    options.InputError, match=r"config.hidden_size \(16 → 128"
  ):
    _remember(tmp_path, settings, {**settings, "config": config})


@pytest.mark.parametrize(
  "content",
  [
    "[]",
    '[["config", 1]]',
    "null",
    "5",
    '"a"',
    "{",
    "",
    '{"flags": []}',
    '{"versions": "2.20"}',
  ],
)
def test_a_damaged_run_json_is_one_line(
  content: str, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "run.json").write_text(content)
  with pytest.raises(options.InputError, match=r"run\.json.*: remove the file"):
    runs.remember(str(tmp_path), {"random_seed": 1}, begun=True)


def test_other_settings_of_the_text_still_stop_a_begun_run(
  tmp_path: pathlib.Path,
) -> None:
  """Earlier versions named settings in run.json only if they were unusual."""
  begun = _begun("classifier")
  assert "strip_accents" not in begun
  (tmp_path / "run.json").write_text(json.dumps(begun))
  now = {**runs.deciding(begun), "strip_accents": True}
  with pytest.raises(options.InputError, match=r"strip_accents .False → True"):
    runs.remember(
      str(tmp_path), now, begun=True, implied={"strip_accents": False}
    )


def _added(line: str) -> set[str]:
  """Returns the settings in a log line about settings that run.json lacks."""
  listed = line.split("does not name ")[1].split(": the run goes on")[0]
  return {setting.split("=")[0] for setting in listed.split(", ")}


def _older(
  folder: pathlib.Path, change: Callable[[dict[str, Any]], Any]
) -> None:
  """Gives a run the run.json of an earlier version, after a change.

  The run's own records and its TensorFlow stay in it.
  """
  path = folder / "run.json"
  own = json.loads(path.read_text())
  kind = "pretraining" if "records" in own else "classifier"
  begun = _begun(kind)
  for name in (
    "records",
    "tensorflow",
    "tokenizer",
    "training_rows",
    "config",
    "init_checkpoint",
    "jit_compile",
  ):
    if name in begun:
      begun[name] = own[name]
  change(begun)
  path.write_text(json.dumps(begun))


def test_pretraining_goes_on_with_runs_of_other_versions(
  dynamic_records: pathlib.Path,
  tmp_path: pathlib.Path,
  caplog: pytest.LogCaptureFixture,
) -> None:
  (tmp_path / "config.json").write_text(
    json.dumps(
      {
        n: v
        for n, v in _begun("pretraining")["config"].items()
        if n not in ("inert", "layer_norm_eps")
      }
    )
  )
  run = tmp_path / "run"
  recipe = optimization.OptimizerOptions(
    learning_rate=0.01, num_train_steps=6, num_warmup_steps=2
  )

  def start(**changes: Any) -> None:
    settings = run_options.Options(
      **{
        "input_file": f"{dynamic_records}/train-*.tfrecord",
        "albert_config_file": f"{tmp_path}/config.json",
        "output_dir": str(run),
        "train_batch_size": 4,
        "jit_compile": False,
        "max_eval_steps": 1,
        "do_train": True,
        **changes,
      }
    )
    training.run(settings, recipe, distribution.Options(), probe.Options())

  start()

  def change(begun: dict[str, Any]) -> None:
    del begun["lean_step"], begun["optimizer"]["bias_correction"]
    begun["optimizer"]["nesterov"] = begun["rotary"] = False

  _older(run, change)
  with caplog.at_level(logging.WARNING, "absl"):
    start()
  said = [
    r.getMessage() for r in caplog.records if "run.json" in r.getMessage()
  ]
  assert len(said) == 2
  assert {"lean_step", "optimizer.bias_correction"} <= _added(said[0])
  assert "does not know optimizer.nesterov, rotary, and leaves" in said[1]
  # Evaluation reads the optimizer's options from there.
  _older(run, change)
  held_out = f"{dynamic_records}/eval-*.tfrecord"
  caplog.clear()
  with caplog.at_level(logging.WARNING, "absl"):
    start(do_train=False, do_eval=True, eval_input_file=held_out)
  assert "does not know nesterov, and leaves it out" in caplog.text
  _older(run, lambda begun: begun.update(optimizer=[1]))
  with pytest.raises(
    options.InputError, match=r"optimizer in .*an object; got"
  ):
    start(do_train=False, do_eval=True, eval_input_file=held_out)


def test_a_classification_goes_on_with_runs_of_other_versions(
  topics: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  shutil.copy(pathlib.Path(topics).parents[1] / "train.tsv", tmp_path)

  def start() -> None:
    classification.run(
      classification.Options(
        train_file=f"{tmp_path}/train.tsv",
        init_checkpoint=topics,
        output_dir=f"{tmp_path}/run",
        do_train=True,
      ),
      fine_tuning.Recipe(
        max_seq_length=16,
        train_batch_size=32,
        learning_rate=5e-5,
        num_train_epochs=1.0,
        max_restarts=0,
      ),
    )

  start()

  def change(begun: dict[str, Any]) -> None:
    begun["max_restarts"] = 0
    del begun["layer_decay"], begun["long_text"]
    begun["calibration"] = "beta"

  _older(tmp_path / "run", change)
  with caplog.at_level(logging.WARNING, "absl"):
    start()
  said = [
    r.getMessage() for r in caplog.records if "run.json" in r.getMessage()
  ]
  assert len(said) == 2
  assert {"layer_decay", "long_text"} <= _added(said[0])
  assert "does not know calibration, and leaves it out" in said[1]
