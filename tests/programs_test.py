"""Tests of all programs' flags, and of the path from text to predictions."""

import json
import pathlib
import re

import pytest

from albert_mn.scoring import judgements
from data_prep.files import manifest
from tests import running

PROGRAMS = {
  "build_corpus": ("-m", "data_prep.build_corpus"),
  "train_tokenizer": ("-m", "data_prep.train_tokenizer"),
  "create_pretraining_data": ("-m", "data_prep.create_pretraining_data"),
  "run_pretraining": ("run_pretraining.py",),
  "run_classifier": ("run_classifier.py",),
  "convert_checkpoint": ("-m", "albert_mn.convert_checkpoint"),
  "doctor": ("-m", "albert_mn.doctor"),
  "download_checkpoint": ("-m", "albert_mn.download_checkpoint"),
  "export_model": ("-m", "albert_mn.export_model"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_lists_the_flags_with_their_defaults(
  name: str, programs: running.Programs
) -> None:
  done = programs.run_anew(*PROGRAMS[name], "--help")
  assert done.returncode == 0, done.stderr
  flags = re.findall(r"^\s+--(?:\[no\])?(\w+):", done.stdout, re.MULTILINE)
  assert {"output_dir"} <= set(flags), done.stdout
  assert "(default: " in done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--output_dri=out", "Unknown command line flag 'output_dri'"),
    ("output", "error: expected flags only; got 'output'"),
  ],
)
def test_a_misspelt_flag_ends_with_2(
  name: str, flag: str, message: str, programs: running.Programs
) -> None:
  done = programs.run(*PROGRAMS[name], flag)
  assert done.returncode == 2
  assert message in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_flags_a_program_says_what_it_needs(
  name: str, programs: running.Programs
) -> None:
  assert "expected --" in programs.refuse(*PROGRAMS[name])


SHAPE = {
  "vocab_size": 400,
  "embedding_size": 8,
  "hidden_size": 16,
  "num_hidden_layers": 2,
  "num_attention_heads": 2,
  "intermediate_size": 32,
  "max_position_embeddings": 32,
}


@pytest.fixture(scope="module")
def path(
  programs: running.Programs, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """The folder of a tiny path from raw text to predictions, by the programs."""
  out = tmp_path_factory.mktemp("path")
  (out / "config.json").write_text(json.dumps(SHAPE))
  programs.succeed(
    *PROGRAMS["build_corpus"],
    "--input_file=sample/pretrain/udhr.txt",
    "--section_sentences=8",
    f"--output_dir={out}/corpus",
  )
  programs.succeed(
    *PROGRAMS["train_tokenizer"],
    f"--input_file={out}/corpus/corpus-*.txt",
    "--vocab_size=400",
    f"--output_dir={out}/tokenizer",
  )
  programs.succeed(
    *PROGRAMS["create_pretraining_data"],
    "--max_seq_length=32",
    f"--input_file={out}/corpus/corpus-*.txt",
    "--dupe_factor=2",
    f"--spm_model_file={out}/tokenizer/tokenizer.model",
    "--eval_fraction=0.2",
    f"--output_dir={out}/records",
  )
  programs.succeed(
    *PROGRAMS["run_pretraining"],
    "--do_train",
    "--do_eval",
    f"--input_file={out}/records/train-*",
    f"--eval_input_file={out}/records/eval-*",
    f"--albert_config_file={out}/config.json",
    "--train_batch_size=8",
    "--num_train_steps=6",
    "--num_warmup_steps=2",
    "--nojit_compile",
    f"--output_dir={out}/pretraining",
  )
  programs.succeed(
    *PROGRAMS["run_classifier"],
    "--do_train",
    "--do_eval",
    "--do_predict",
    "--data_dir=sample/sib200",
    "--label_column=category",
    "--predict_file=sample/sib200/dev.tsv",
    "--max_seq_length=32",
    f"--init_checkpoint={out}/pretraining/model",
    "--num_train_epochs=0.2",
    f"--output_dir={out}/classifier",
  )
  return out


def test_the_whole_path_leaves_google_research_alberts_results(
  path: pathlib.Path,
) -> None:
  lines = (path / "pretraining/eval_results.txt").read_text().splitlines()
  values = dict(line.split(" = ") for line in lines)
  assert list(values) == running.EVAL_RESULTS
  assert values["global_step"] == "6"
  loss = float(values["masked_lm_loss"]) + float(values["sentence_order_loss"])
  assert float(values["loss"]) == pytest.approx(loss)
  pairs = manifest.check(str(path / "records"), "pretraining_records")
  total = pairs["counts"]["eval_pairs"]
  right = round(float(values["sentence_order_accuracy"]) * total)
  assert judgements.wilson_interval(right, total) == pytest.approx(
    [float(values[f"sentence_order_accuracy_{end}"]) for end in ("low", "high")]
  )
  # A model that has hardly begun: near the logarithm of 400 pieces.
  assert 5.5 < float(values["masked_lm_loss"]) < 6.5


def test_every_manifest_names_what_its_artefact_was_made_from(
  path: pathlib.Path,
) -> None:
  chain = [
    ("corpus", "corpus", "corpus-00000-of-00001.txt"),
    ("tokenizer", "tokenizer", "tokenizer.model"),
    ("records", "pretraining_records", None),
    ("pretraining/model", "pretrained_model", None),
    ("classifier/model", "classifier", None),
  ]
  before: list[str] = []
  for folder, kind, name in chain:
    described = manifest.check(str(path / folder), kind)
    if before:
      assert before[-1] in described["inputs"].values(), folder
    assert str(path) not in json.dumps(described)
    before.append(
      described["files"][name]["sha256"]
      if name
      else manifest.identity(str(path / folder))
    )


def test_every_row_is_predicted_in_its_order(path: pathlib.Path) -> None:
  lines = (path / "classifier/predictions.tsv").read_text("utf-8").splitlines()
  header, *rows = (line.split("\t") for line in lines)
  source = (running.ROOT / "sample/sib200/dev.tsv").read_text("utf-8")
  texts = [line.split("\t")[2] for line in source.splitlines()[1:]]
  assert [" ".join(row[-1].split()) for row in rows] == [
    " ".join(text.split()) for text in texts
  ]
  labels = header[2:-1]
  for row in rows:
    shares = [float(share) for share in row[2:-1]]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert labels[shares.index(max(shares))] == row[1]


def test_the_report_stands_beside_the_baseline(path: pathlib.Path) -> None:
  report = (path / "classifier/report.txt").read_text()
  assert "This model" in report
  assert "Baseline: TF-IDF" in report
  assert "Its network alone" in report
  assert "better tool" not in report
  assert "What answers in the model directory" in " ".join(report.split())


def test_tensorboard_finds_the_curves(
  path: pathlib.Path, programs: running.Programs
) -> None:
  done = programs.run(
    "-m", "tensorboard.main", "--inspect", f"--logdir={path}/pretraining/events"
  )
  for name in ("masked_lm_loss", "sentence_order_accuracy", "learning_rate"):
    assert name in done.stdout, done.stdout + done.stderr


def test_what_is_nobodys_input_ends_with_70_and_a_traceback(
  programs: running.Programs,
) -> None:
  """So a supervisor can tell errors that may pass from those that will not."""
  program = """
from data_prep.base import options

def main() -> None:
  raise RuntimeError("the TPU worker went away")

options.run(main)
"""
  done = programs.run("-c", program)
  assert done.returncode == 70
  assert "RuntimeError: the TPU worker went away" in done.stderr


def test_ctrl_c_ends_a_program_before_its_objects_are_taken_apart(
  programs: running.Programs,
) -> None:
  """TensorFlow's objects take seconds; functions of atexit still run."""
  program = """
import atexit
from data_prep.base import options

class Slow:
  def __del__(self) -> None:
    print("taken apart")

slow = Slow()
atexit.register(print, "tidied up")

def main() -> None:
  print("working")
  raise KeyboardInterrupt

options.run(main)
"""
  done = programs.run("-c", program)
  assert done.returncode == 130
  assert done.stdout.split("\n") == ["working", "tidied up", ""]
  assert done.stderr == "interrupted: nothing half-written was left\n"
