"""Tests that one program at a time owns an output folder, until it ends."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from albert_mn.export import exports
from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import conversion
from albert_mn.models import model_directory
from albert_mn.pretrain import probe, run_options, training
from albert_mn.runtime import distribution, optimization
from data_prep.base import options
from data_prep.classification import classifier_data, classifier_sets
from data_prep.corpus import corpora, corpus_options
from data_prep.encoding import tokenizer_training
from data_prep.files import ownership, whole_folders
from data_prep.pretraining import pretraining_data
from data_prep.sources import downloads, texts
from data_prep.text import cleaning
from tests import exported, running

_HOLD = """
import sys
from data_prep.files import ownership
with ownership.owning(sys.argv[1]):
  print("ready", flush=True)
  sys.stdin.read()
"""


def _holder(folder: object) -> subprocess.Popen[str]:
  """Starts a process that owns a folder until its input ends."""
  process = subprocess.Popen(
    [sys.executable, "-c", _HOLD, str(folder)],
    cwd=running.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout
  assert process.stdout.readline() == "ready\n"
  return process


@pytest.fixture(scope="module")
def held(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[pathlib.Path, subprocess.Popen[str]]]:
  """A folder, and the process that owns it."""
  folder = tmp_path_factory.mktemp("held") / "out"
  process = _holder(folder)
  yield folder, process
  process.communicate()


def _corpus(out: str) -> None:
  corpora.build(
    corpus_options.Settings(
      corpus_options.Options(input_file="x", output_dir=out),
      cleaning.Options(),
      texts.Options(),
      downloads.Options(),
    )
  )


def _records(out: str, **more: Any) -> None:
  pretraining_data.create(
    pretraining_data.Options(
      **{"input_file": "x", "spm_model_file": "x", "output_dir": out, **more}
    )
  )


PROGRAMS: dict[str, Callable[[str], object]] = {
  "build_corpus": _corpus,
  "train_tokenizer": lambda out: tokenizer_training.train(
    tokenizer_training.Options(input_file="x", output_dir=out)
  ),
  "create_pretraining_data": _records,
  "--output_file": lambda out: _records("", output_file=f"{out}/a,{out}/b"),
  "create_classifier_data": lambda out: classifier_sets.build(
    classifier_sets.Options(input_file="x", output_dir=out),
    classifier_data.Columns(),
  ),
  "run_classifier": lambda out: classification.run(
    classification.Options(
      do_train=True, data_dir="x", init_checkpoint="x", output_dir=out
    ),
    fine_tuning.Recipe(),
  ),
  "export_model": lambda out: exports.run(
    exports.Options(model_dir="x", to="tf1", output_dir=out)
  ),
  "convert_checkpoint": lambda out: conversion.run(
    conversion.Options(init_checkpoint="x", output_dir=out)
  ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_second_program_ends_in_one_line_that_names_the_first(
  held: tuple[pathlib.Path, subprocess.Popen[str]], name: str
) -> None:
  folder, process = held
  with pytest.raises(options.InputError) as refused:
    PROGRAMS[name](str(folder))
  assert str(refused.value) == (
    f"expected {folder} for this program alone; got -c, process {process.pid} "
    f"on {socket.gethostname()}, which writes there: let it end, or give "
    "another folder"
  )
  assert not folder.exists()


def _pretraining(records: pathlib.Path, out: object) -> run_options.Options:
  config = records.parent / "config.json"
  config.write_text(exported.SHAPES["albert"].to_json())
  return run_options.Options(
    do_train=True,
    input_file=f"{records}/train-*",
    albert_config_file=str(config),
    output_dir=str(out),
    train_batch_size=4,
  )


def test_a_second_pretraining_leaves_the_first_alone(
  held: tuple[pathlib.Path, subprocess.Popen[str]],
  dynamic_records: pathlib.Path,
) -> None:
  folder, process = held
  with pytest.raises(options.InputError, match=f"process {process.pid} on"):
    training.run(
      _pretraining(dynamic_records, folder),
      optimization.OptimizerOptions(num_train_steps=1, num_warmup_steps=0),
      distribution.Options(),
      probe.Options(),
    )
  assert not folder.exists()


def test_a_folder_is_free_when_its_owner_is_killed(
  tmp_path: pathlib.Path,
) -> None:
  process = _holder(tmp_path / "deep/out")
  with (
    pytest.raises(options.InputError, match="alone"),
    ownership.owning(str(tmp_path / "deep/out")),
  ):
    pass
  process.kill()
  process.communicate()
  lock = tmp_path / "deep/.out.lock"
  assert f'"pid": {process.pid}' in lock.read_text()  # left, but free
  with ownership.owning(str(tmp_path / "deep/out")):
    assert f'"pid": {os.getpid()}' in lock.read_text()
  assert not lock.exists()


def test_an_end_of_any_kind_leaves_nothing_behind(
  tmp_path: pathlib.Path,
) -> None:
  for _ in range(2):
    with (
      pytest.raises(KeyError),
      ownership.owning(str(tmp_path / "a/b/c"), "", str(tmp_path / "d")),
    ):
      raise KeyError
    assert not list(tmp_path.iterdir())
  process = _holder(tmp_path / "out")
  process.send_signal(signal.SIGINT)
  process.communicate()
  assert not list(tmp_path.iterdir())


def test_a_folder_has_one_owner_whatever_it_is_called(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  (tmp_path / "out").mkdir()
  (tmp_path / "link").symlink_to("out")
  monkeypatch.chdir(tmp_path)
  for name in ("out", "./out/", "link", f"{tmp_path}/x/../out"):
    with (
      ownership.owning("out"),
      pytest.raises(options.InputError, match=f"process {os.getpid()} on"),
      ownership.owning(name),
    ):
      pass
  with ownership.owning("out"), ownership.owning("other", "out/below", "out1"):
    pass
  assert sorted(os.listdir()) == ["link", "out"]


@pytest.mark.parametrize(
  ("first", "second", "refused"),
  [
    ("run", "run/best", True),
    ("run", "run/a/b/c", True),
    ("run/best", "run", True),
    ("run/best", "run/last", False),
    ("run/best", "running", False),
  ],
)
def test_no_program_writes_in_a_folder_of_anothers_folder(
  tmp_path: pathlib.Path, first: str, second: str, refused: bool
) -> None:
  process = _holder(tmp_path / first)
  named = re.escape(f"expected {tmp_path / first} for this program alone")
  expected = (
    pytest.raises(options.InputError, match=named)
    if refused
    else contextlib.nullcontext()
  )
  with expected, ownership.owning(str(tmp_path / second)):
    pass
  process.communicate()
  with ownership.owning(str(tmp_path / second)):
    pass
  assert not list(tmp_path.iterdir())


def test_a_lock_that_has_no_room_beside_the_folder_lies_in_it(
  tmp_path: pathlib.Path,
) -> None:
  out = tmp_path / "out"
  out.mkdir()
  (tmp_path / ".out.lock").mkdir()  # as where one may not write
  process = _holder(out)
  with (
    pytest.raises(options.InputError, match=f"process {process.pid} on"),
    ownership.owning(str(out)),
  ):
    pass
  process.communicate()
  assert not list(out.iterdir())


def test_the_lock_holds_while_the_folder_is_exchanged(
  tmp_path: pathlib.Path,
) -> None:
  out = tmp_path / "out"
  for content in ("old", "new"):
    with ownership.owning(str(out)):
      with whole_folders.replacing(str(out), "a".__eq__) as folder:
        pathlib.Path(folder, "a").write_text(content)
      with (
        pytest.raises(options.InputError, match="alone"),
        ownership.owning(str(out)),
      ):
        pass
  assert (out / "a").read_text() == "new"
  assert list(tmp_path.iterdir()) == [out]


def test_a_reader_leaves_what_another_process_is_writing(
  tmp_path: pathlib.Path,
) -> None:
  run = tmp_path / "run"
  unfinished = [run / ".best.unfinished/a", run / "best/.unfinished/b"]
  for path in unfinished:
    path.parent.mkdir(parents=True)
    path.write_text("half")
  process = _holder(run)
  assert model_directory.find(str(run / "best")) is None
  assert all(path.exists() for path in unfinished)
  process.kill()
  process.communicate()
  assert model_directory.find(str(run / "best")) is None
  assert not any(path.exists() for path in unfinished)


def test_two_programs_at_once_give_one_whole_set(
  udhr: pathlib.Path, tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  flags = [
    sys.executable,
    "-m",
    "data_prep.create_pretraining_data",
    f"--input_file={udhr}",
    f"--spm_model_file={tokenizer_file}",
    "--max_seq_length=32",
    "--dupe_factor=40",
    "--num_workers=1",
  ]
  out = tmp_path / "out"

  def started() -> subprocess.Popen[str]:
    return subprocess.Popen(
      [*flags, f"--output_dir={out}"],
      cwd=running.ROOT,
      stderr=subprocess.PIPE,
      text=True,
    )

  first = started()
  lock = tmp_path / ".out.lock"
  while not (lock.exists() and str(first.pid) in lock.read_text()):
    assert first.poll() is None
    time.sleep(0.01)
  first.send_signal(signal.SIGSTOP)  # until the second program has ended
  log = (second := started()).communicate()[1]
  first.send_signal(signal.SIGCONT)
  first_log = first.communicate()[1]
  assert (first.returncode, second.returncode) == (0, 1), (first_log, log)
  errors = [line for line in log.splitlines() if line.startswith("error: ")]
  assert "Traceback" not in log
  assert re.search(
    f"got create_pretraining_data, process {first.pid} on", "".join(errors)
  )
  whole = running.digests(out)
  (again := started()).communicate()
  assert again.returncode == 0
  assert running.digests(out) == whole
  assert list(tmp_path.iterdir()) == [out]
