"""Tests of the checks before a run, and of the program that runs them all."""

import dataclasses
import io
import logging
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.models import configs, pretraining
from albert_mn.pretrain import (
  checks,
  examination,
  inputs,
  probe,
  run_options,
  training,
)
from albert_mn.runtime import distribution, memory, optimization
from data_prep.base import options
from data_prep.encoding import tokenization, tokenizer_training
from data_prep.files import manifest, records, storage
from data_prep.pretraining import pretraining_data
from tests import running

LENGTH = 32
SHAPE = configs.AlbertConfig(
  vocab_size=400,
  embedding_size=8,
  hidden_size=16,
  num_hidden_layers=2,
  num_attention_heads=2,
  intermediate_size=32,
  max_position_embeddings=LENGTH,
)


def _create(
  corpus: pathlib.Path, tokenizer: str, out: pathlib.Path, **more: object
) -> pathlib.Path:
  given: dict[str, Any] = dict(
    max_seq_length=LENGTH,
    dupe_factor=2,
    num_shards=2,
    eval_fraction=0.2,
    num_workers=1,
    input_file=str(corpus),
    spm_model_file=tokenizer,
    output_dir=str(out),
  )
  pretraining_data.create(pretraining_data.Options(**(given | more)))
  return out


@pytest.fixture(scope="module")
def folder(
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """A folder with masked records, and a config that fits them."""
  made = tmp_path_factory.mktemp("doctor")
  _create(udhr, tokenizer_file, made / "records")
  (made / "config.json").write_text(SHAPE.to_json())
  return made


@pytest.fixture
def copied(folder: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
  """A copy of the records, which a test may spoil."""
  return pathlib.Path(shutil.copytree(folder / "records", tmp_path / "records"))


def _found(folder: pathlib.Path, role: str = "train") -> inputs.RecordSet:
  return inputs.record_set(f"{folder}/{role}-*.tfrecord")


def _spoil(
  path: pathlib.Path, place: int, change: Callable[[dict[str, Any]], None]
) -> None:
  """Changes the features of one record of a file of TFRecords.

  Args:
    path: the file.
    place: the index of the record.
    change: changes name → values of the record's features in place.
  """
  with path.open("rb") as file:
    serialized = list(records.read_framed(file))
  example = tf.train.Example.FromString(serialized[place])
  change(example.features.feature)
  serialized[place] = example.SerializeToString()
  with path.open("wb") as file:
    records.write(file, serialized)


def _set(name: str, place: int, value: int) -> Callable[[dict[str, Any]], None]:
  def change(feature: dict[str, Any]) -> None:
    feature[name].int64_list.value[place] = value

  return change


def _weigh(feature: dict[str, Any]) -> None:
  feature[records.MASKED_LM_WEIGHTS].float_list.value[0] = 3e38


@pytest.mark.parametrize("place", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("file", [0, 1])
def test_an_id_out_of_range_is_found_at_both_ends_of_every_file(
  copied: pathlib.Path, file: int, place: int
) -> None:
  record_set = _found(copied)
  checks.values(SHAPE, record_set)
  path = pathlib.Path(record_set.files[file])
  _spoil(path, place, _set(records.INPUT_IDS, 3, 400))
  with pytest.raises(
    options.InputError, match=f"input_ids from 0 to 399 in {path}; got 400"
  ):
    checks.values(SHAPE, record_set)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (_set(records.MASKED_LM_IDS, 0, -1), "masked_lm_ids from 0 to 399"),
    (_set(records.SEGMENT_IDS, 0, 2), "set type_vocab_size"),
    (_set(records.NEXT_SENTENCE_LABELS, 0, 2), "from -1 to 1"),
    (_set(records.MASKED_LM_POSITIONS, 0, LENGTH), "from 0 to 31"),
    (_set(records.INPUT_MASK, 1, 2), "input_mask from 0 to 1"),
    (_weigh, "masked_lm_weights of 0 or 1"),
    (
      lambda feature: feature[records.INPUT_MASK].int64_list.value.__setitem__(
        slice(1, None), [0] * (LENGTH - 1)
      ),
      "inside the sequences",
    ),
    (
      lambda feature: feature[records.INPUT_IDS].int64_list.value.append(1),
      "whole TFRecords of one shape",
    ),
  ],
)
def test_numbers_that_the_model_cannot_take_are_refused(
  copied: pathlib.Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
  record_set = _found(copied)
  _spoil(pathlib.Path(record_set.files[0]), 2, change)
  with pytest.raises(options.InputError, match=message):
    checks.values(SHAPE, record_set)


def test_the_ends_of_a_file_are_its_first_and_last_records(
  folder: pathlib.Path,
) -> None:
  path = sorted((folder / "records").glob("train-*"))[0]
  with path.open("rb") as file:
    every = list(records.read_framed(file))
  for count in (1, 3, len(every), len(every) + 1):
    with path.open("rb") as file:
      ends = records.ends(file, path.stat().st_size, count)
    assert ends[:count] == every[:count]
    assert ends[-1] == every[-1]
    assert set(ends) <= set(every)
  whole = path.read_bytes()
  for damaged, what in (
    (whole[:-1], "cut record"),
    (whole[:-9] + b"?" + whole[-8:], "damaged record"),
    (whole[:20] + b"?" + whole[21:], "damaged record at 0"),
  ):
    cut = path.with_name("cut")
    cut.write_bytes(damaged)
    with cut.open("rb") as file, pytest.raises(ValueError, match=what):
      records.ends(file, len(damaged), 1)
    cut.unlink()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(
  "lengths", [(9, 9, 9), (10, 5_000), (10, 5_000, 10), (5_000, 10), (0, 0, 700)]
)
def test_no_record_of_a_short_file_is_missed_or_repeated(
  lengths: tuple[int, ...], count: int
) -> None:
  every = [bytes([65 + i]) * length for i, length in enumerate(lengths)]
  file = io.BytesIO()
  records.write(file, every)
  size = file.tell()
  file.seek(0)
  ends = records.ends(file, size, count)
  assert ends[:count] == every[:count]
  behind = ends[count:]
  assert behind == every[max(count, len(every) - len(behind)) :]
  assert ends[-1] == every[-1]


def test_the_special_ids_of_another_tokenizer_are_seen_in_the_records(
  copied: pathlib.Path, udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  record_set = _found(copied)
  assert checks.tokenizer(SHAPE, record_set).startswith("[CLS] ")
  right = tokenization.Tokenizer(record_set.tokenizer_file())
  unknown = dataclasses.replace(record_set, tokenizer="")

  def padded_with_text(feature: dict[str, Any]) -> None:
    feature[records.INPUT_MASK].int64_list.value[-1] = 0
    feature[records.INPUT_IDS].int64_list.value[-2:] = [right.sep_id, 77]

  for name, wanted, change in (
    ("CLS", right.cls_id, _set(records.INPUT_IDS, 0, 77)),
    ("padding", right.pad_id, padded_with_text),
  ):
    spoilt = pathlib.Path(shutil.copytree(copied, tmp_path / name))
    _spoil(sorted(spoilt.glob("train-*"))[0], 0, change)
    with pytest.raises(
      options.InputError, match=f"id {wanted} for .?{name}.* got 77"
    ):
      checks.tokenizer(SHAPE, _found(spoilt))
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(udhr), output_dir=str(tmp_path / "other"), vocab_size=401
    )
  )
  shutil.copy(tmp_path / "other" / tokenization.MODEL_NAME, copied)
  with pytest.raises(options.InputError, match="the one that the records' man"):
    checks.tokenizer(SHAPE, record_set)
  with pytest.raises(options.InputError, match="vocab_size 401, as "):
    checks.tokenizer(SHAPE, unknown)


def test_records_of_two_tokenizers_or_two_lengths_are_refused(
  folder: pathlib.Path,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(udhr), output_dir=str(tmp_path / "other"), vocab_size=390
    )
  )
  smaller_model = str(tmp_path / "other" / tokenization.MODEL_NAME)
  _create(udhr, smaller_model, tmp_path / "mixed", eval_fraction=0.0)
  _create(
    udhr,
    tokenizer_file,
    tmp_path / "short",
    eval_fraction=0.0,
    max_seq_length=24,
  )
  for name, message in (
    ("mixed", "expected records of one tokenizer; got others in"),
    ("short", "expected records of one shape.*got 24 pieces"),
  ):
    with pytest.raises(options.InputError, match=message):
      inputs.record_set(
        f"{folder}/records/train-*.tfrecord,{tmp_path}/{name}/*.tfrecord"
      )


def _settings(
  folder: pathlib.Path, output: pathlib.Path, **more: object
) -> run_options.Options:
  given: dict[str, Any] = dict(
    input_file=f"{folder}/records/train-*.tfrecord",
    eval_input_file=f"{folder}/records/eval-*.tfrecord",
    albert_config_file=f"{folder}/config.json",
    output_dir=str(output),
    do_train=True,
    do_eval=True,
    train_batch_size=4,
    eval_batch_size=8,
    jit_compile=False,
  )
  return run_options.Options(**(given | more))


def _examined(
  settings: run_options.Options,
  recipe: Sequence[str] = (),
  devices: distribution.Options | None = None,
) -> tuple[dict[str, str], examination.Run | None]:
  """Runs all checks; returns (name of a check → its line, the run if any)."""
  lines: list[str] = []
  work = examination.examined(
    settings,
    optimization.OptimizerOptions(num_train_steps=4, num_warmup_steps=0),
    devices or distribution.Options(),
    probe.Options(),
    checks.Examination(lines.append),
  )
  return {line[6:].split(":")[0]: line for line in lines}, work


def test_all_checks_run_and_each_failure_says_what_to_do(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  lines, work = _examined(_settings(folder, tmp_path / "run"))
  assert work
  assert all(line.startswith("ok") for line in lines.values()), lines
  assert not (tmp_path / "run").exists()
  (tmp_path / "config.json").write_text(
    dataclasses.replace(
      SHAPE, vocab_size=300, max_position_embeddings=16
    ).to_json()
  )
  lines, work = _examined(
    _settings(
      folder,
      tmp_path / "run",
      albert_config_file=f"{tmp_path}/config.json",
      train_batch_size=9,
      gradient_accumulation_steps=2,
      eval_input_file="nothing-*",
    )
  )
  assert work is None
  wrong = {n for n, line in lines.items() if line.startswith("WRONG")}
  assert wrong == {
    "training vocabulary",
    "training lengths",
    "training tokenizer",
    "training values",
    "held-out records",
    "batches",
  }
  assert "set vocab_size in the config" in lines["training vocabulary"]
  assert lines["one tokenizer"].startswith("-     one tokenizer: not checked")
  assert lines["disk"].startswith("ok")


def test_the_config_comes_with_the_weights_and_its_tokenizer_is_compared(
  folder: pathlib.Path, udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  model = tmp_path / "model"
  part = pretraining.PretrainingModel(SHAPE, 0)
  (model).mkdir()
  (model / SHAPE.FILE).write_text(SHAPE.to_json())
  tf.train.Checkpoint(**part.parts()).write(str(model / "model.ckpt"))
  given = dict(albert_config_file="", init_checkpoint=str(model))
  lines, work = _examined(_settings(folder, tmp_path / "run", **given))
  assert work
  assert work.config == SHAPE, lines
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(udhr), output_dir=str(tmp_path / "other"), vocab_size=390
    )
  )
  shutil.copy(tmp_path / "other" / tokenization.MODEL_NAME, model)
  lines, work = _examined(_settings(folder, tmp_path / "run", **given))
  assert work is None
  assert "another tokenizer.model" in lines["one tokenizer"]


def test_records_without_sentence_pairs_pass_and_are_trained_on(
  folder: pathlib.Path,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  # Sentences of a word: those longer than an example would make pairs.
  words = udhr.read_text(encoding="utf-8").split()[:200]
  (tmp_path / "single.txt").write_text("\n\n".join(words), encoding="utf-8")
  _create(
    tmp_path / "single.txt",
    tokenizer_file,
    tmp_path / "records",
    eval_fraction=0.0,
  )
  shutil.copy(folder / "config.json", tmp_path)
  told, work = _examined(
    _settings(tmp_path, tmp_path / "run", do_eval=False, eval_input_file="")
  )
  assert work
  assert work.training, told
  (batch,) = inputs.train_dataset(
    work.training, work.training.count(), inputs.Share(32), 0, 0
  ).take(1)
  assert set(batch[records.NEXT_SENTENCE_LABELS].numpy()) == {-1}
  said = training.rehearse(work)
  loss = float(said.removeprefix("loss ").split(",")[0])
  assert loss == pytest.approx(np.log(400), abs=0.5), said
  assert not (tmp_path / "run").exists()


def test_fewer_files_than_workers_are_refused(folder: pathlib.Path) -> None:
  record_set = _found(folder / "records")
  assert checks.shards(record_set, 2) == "2 files"
  with pytest.raises(options.InputError, match="--num_shards=3 or more"):
    checks.shards(record_set, 3)


def test_a_tpu_elsewhere_reads_and_writes_on_gs_alone(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.delenv("TPU_NAME", raising=False)
  named = {"input_file": "gs://bucket/a-*,b-*", "output_dir": "gs://bucket/run"}
  local = distribution.Options(distribution="tpu")
  assert checks.paths(local, named) == "2 of 3 on gs://"
  there = distribution.Options(tpu_name="миний-tpu")
  with pytest.raises(
    options.InputError, match="gs:// in --input_file: the TPU"
  ):
    checks.paths(there, named)
  named["input_file"] = "a-*,gs://bucket/b-*"
  with pytest.raises(options.InputError, match="got a-\\*"):
    checks.paths(there, named)
  named["input_file"] = "gs://bucket/a-*,gs://bucket/b-*"
  assert checks.paths(there, named) == "3 of 3 on gs://"


def test_a_tpu_elsewhere_takes_records_whose_masks_are_written(
  folder: pathlib.Path,
  dynamic_records: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  monkeypatch.delenv("TPU_NAME", raising=False)
  there = distribution.Options(tpu_name="миний-pod")
  written = _found(folder / "records")
  made = inputs.record_set(f"{dynamic_records}/train-*.tfrecord")
  checks.masks_reachable(there, written)
  checks.masks_reachable(distribution.Options(distribution="tpu"), made)
  with pytest.raises(options.InputError, match="--masking=static"):
    checks.masks_reachable(there, made)


def test_versions_are_those_of_the_locks_and_two_tensorflows_clash() -> None:
  installed = checks.installed()
  assert "tf-keras" in checks.versions(installed)
  with pytest.raises(options.InputError, match=r"numpy .*as locked; got 1.0"):
    checks.versions(installed | {"numpy": "1.0"})
  with pytest.raises(options.InputError, match="both, which own the same fol"):
    checks.one_tensorflow(
      installed | {"tensorflow-tpu": installed["tensorflow"]}
    )
  tpu = checks.pinned(tpu=True)
  with pytest.raises(options.InputError, match=r"libtpu .*setup.sh --tpu"):
    checks.versions(
      {"tensorflow-tpu": tpu["tensorflow-tpu"], "libtpu": "0.0.52"}
    )


def test_a_version_off_the_lock_is_wrong_for_the_doctor_alone() -> None:
  lines: list[str] = []
  doctor = checks.Examination(lines.append)
  for exam in (checks.Examination(), doctor):
    exam.advise("versions", lambda: checks.versions({"numpy": "1.0"}))
  assert doctor.failed == 1
  assert lines[0].startswith("WRONG versions: expected numpy")


def test_room_for_the_checkpoints_is_asked_for(tmp_path: pathlib.Path) -> None:
  assert " wanted, " in checks.disk(str(tmp_path / "run"), SHAPE, 5)
  with pytest.raises(options.InputError, match="lower --keep_checkpoint_max"):
    checks.disk(str(tmp_path / "run"), SHAPE, 10**9)


def test_a_folder_that_cannot_be_written_in_is_refused(
  tmp_path: pathlib.Path,
) -> None:
  storage.require_writable(str(tmp_path / "not" / "yet"))
  assert not list(tmp_path.iterdir())
  (tmp_path / "file").write_text("сайн байна уу")
  with pytest.raises(options.InputError, match="expected to write in"):
    storage.require_writable(str(tmp_path / "file" / "run"))


@pytest.mark.parametrize(
  "config",
  [
    SHAPE,
    dataclasses.replace(SHAPE, num_hidden_groups=2, inner_group_num=2),
    configs.BertConfig(
      vocab_size=90,
      hidden_size=16,
      num_hidden_layers=2,
      num_attention_heads=2,
      intermediate_size=32,
      max_position_embeddings=20,
    ),
  ],
  ids=["ALBERT", "groups", "BERT"],
)
def test_the_weights_are_counted_from_the_shape(
  config: configs.AlbertConfig,
) -> None:
  model = pretraining.PretrainingModel(config, 0)
  held = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
  assert memory.parameters(config) == held


def test_memory_that_is_not_there_is_wrong_and_not_ok(
  folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """A bug report had the line: ok, 144 GB of 25 GB.

  It is "Right where it is silently wrong".
  """
  monkeypatch.setattr(memory, "machine_bytes", lambda: 900_000_000)
  said: list[str] = []
  exam = checks.Examination(said.append)
  work = examination.examined(
    _settings(folder, tmp_path / "run"),
    optimization.OptimizerOptions(num_train_steps=4, num_warmup_steps=0),
    distribution.Options(),
    probe.Options(),
    exam,
  )
  assert work is None
  assert exam.failed == 1
  (wrong,) = [line for line in said if line.startswith("WRONG")]
  assert (
    "memory: expected a step that fits 900 MB of memory; got about" in wrong
  )
  assert not [
    line for line in said if line.startswith("ok") and "memory" in line
  ]


def test_pretraining_only_warns_of_memory_as_the_estimate_is_rough(
  folder: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  caplog: pytest.LogCaptureFixture,
) -> None:
  monkeypatch.setattr(memory, "machine_bytes", lambda: 900_000_000)
  with caplog.at_level(logging.WARNING):
    work = examination.examined(
      _settings(folder, tmp_path / "run"),
      optimization.OptimizerOptions(num_train_steps=4, num_warmup_steps=0),
      distribution.Options(),
      probe.Options(),
      checks.Examination(),
    )
  assert work
  assert "expected a step that fits 900 MB of memory" in caplog.text


def test_records_longer_than_dropout_can_number_are_refused(
  folder: pathlib.Path,
) -> None:
  record_set = _found(folder / "records")
  long = dataclasses.replace(
    record_set, shape=record_set.shape._replace(max_seq_length=4097)
  )
  config = dataclasses.replace(SHAPE, max_position_embeddings=8192)
  with pytest.raises(options.InputError, match="records of at most 4,096 piec"):
    checks.lengths(config, long)


def test_rehashing_finds_a_changed_byte(copied: pathlib.Path) -> None:
  assert checks.hashes([str(copied)]).endswith("1 folders")
  path = sorted(copied.glob("train-*"))[1]
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  manifest.check(str(copied), "pretraining_records")  # looks at sizes
  with pytest.raises(options.InputError, match=f"{path} with the sha256"):
    checks.hashes([str(copied)])


def _flags(settings: run_options.Options) -> list[str]:
  given = dataclasses.asdict(settings) | {"num_train_steps": 4}
  return [f"--{n}={v}" for n, v in given.items()] + ["--num_warmup_steps=0"]


@pytest.mark.slow
def test_the_program_takes_two_real_steps_and_writes_nothing(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  settings = _settings(folder, tmp_path / "run")
  done = running.Programs().run(
    "-m", "albert_mn.doctor", *_flags(settings), "--full"
  )
  assert done.returncode == 0, done.stdout + done.stderr
  last = done.stdout.splitlines()[-3:]
  assert last[0].startswith("ok    files: ")
  assert last[1].startswith("ok    two steps: loss ")
  assert last[2] == "all is well"
  assert not (tmp_path / "run").exists()


def test_the_program_ends_with_1_and_pretraining_in_one_line(
  folder: pathlib.Path, copied: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _spoil(
    sorted(copied.glob("train-*"))[1], -1, _set(records.INPUT_IDS, 1, 9999)
  )
  settings = _settings(
    folder, tmp_path / "run", input_file=f"{copied}/train-*.tfrecord"
  )
  done = running.Programs().run("-m", "albert_mn.doctor", *_flags(settings))
  assert done.returncode == 1
  assert "Traceback" not in done.stderr
  said = done.stdout.splitlines()
  wrong = [line for line in said if line.startswith("WRONG")]
  # The size changed as well: the manifest's check is an earlier one.
  assert wrong
  assert "expected " in wrong[0]
  assert "; got " in wrong[0]
  line = running.Programs().refuse("run_pretraining.py", *_flags(settings))
  assert wrong[0].split(": ", 1)[1] in line
  assert not (tmp_path / "run").exists()
