"""Tests that CI runs the commands that the documentation shows."""

import ast
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from albert_mn.export import exports
from albert_mn.finetune import adaptation, classification, fine_tuning
from albert_mn.formats import conversion, remote_weights
from albert_mn.inference import filled_lines
from albert_mn.pretrain import planning, probe, run_options
from albert_mn.runtime import distribution, optimization
from bert_tweet import attention, predictions, server
from data_prep.base import options
from data_prep.classification import classifier_data, classifier_sets, tweets
from data_prep.corpus import corpus_options
from data_prep.encoding import tokenizer_training
from data_prep.pretraining import pretraining_data
from data_prep.sources import downloads, texts
from data_prep.text import cleaning
from tests import running, serving

TWEET_PAGE = "docs/tweet_page.md"
CLASSIFICATION = "docs/classification.md"
PRETRAINING = "docs/pretraining.md"
# Pages of what was: their commands and flags are those of their day.
OF_THE_PAST = {"CHANGELOG.md", "docs/log.md"}
PAGES = sorted(
  {
    path.relative_to(running.ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md")
    for path in running.ROOT.glob(pattern)
  }
  - OF_THE_PAST
)
# Page → the test that takes its commands from it and runs them.
WHOLE = {"docs/migration.md": "tests/migration_test.py"}
# Pages of which the tests below run all commands.
HERE = {TWEET_PAGE, CLASSIFICATION, PRETRAINING}
# A file of tests, and some tests of a file.
PYTEST = re.compile(
  r"\.venv/bin/python -m pytest (tests/\w+_test\.py)(?: -k (\w+))?"
)

# Command → where CI runs it.
RUN_BY = {
  "./scripts/quickstart.sh": "tests/quickstart_test.py",
  "./scripts/test.sh": ".ci/run",
  "./scripts/test.sh --slow": ".ci/run",
  "./scripts/setup.sh": "scripts/quickstart.sh",
  "./scripts/setup.sh --dev": "scripts/test.sh",
  "./scripts/setup.sh --beam": "tests/beam_runner_test.py",
  "./scripts/setup.sh --interop": "tests/interop_test.py",
  **{
    line: "tests/exports_test.py"
    for line in (running.ROOT / "docs/export.md")
    .read_text("utf-8")
    .splitlines()
    if line.startswith("python -m albert_mn.export_model ")
  },  # all of the page, whatever they are
  ".venv/bin/python -m albert_mn.fill_mask --text='Монгол улсын нийслэл [MASK] "
  "хот'": "tests/fill_mask_test.py",
  "./scripts/tpu_vm.sh delete": "tests/tpu_scripts_test.py",
}
# Flags of absl, of our scripts, of doctor, of TensorBoard, Beam, pip, gcloud; those of
# gcloud and tpu_vm.sh are looked at in tests/tpu_scripts_test.py.
ELSEWHERE = set(
  "help slow flagfile logdir beam direct_num_workers direct_running_mode no require "
  "project region temp_location sdk_location sdk_container_image flink_master "
  "flink_job_server_jar spark_job_server_jar job_endpoint "
  "environment_type environment_config tpu name type zone spot preemptible "
  "queued delete_when_done flagfile worker command format location uniform "
  "member role recursive dry data urlencode interop dev v full".split()
)
OPTIONS: dict[str, list[Any]] = {
  "data_prep.build_corpus": [
    corpus_options.Options,
    cleaning.Options,
    texts.Options,
    downloads.Options,
  ],
  "data_prep.create_classifier_data": [
    classifier_sets.Options,
    classifier_data.Columns,
    tweets.Options,
  ],
  "data_prep.train_tokenizer": [tokenizer_training.Options],
  "data_prep.create_pretraining_data": [pretraining_data.Options],
  "albert_mn.export_model": [exports.Options],
  "albert_mn.fill_mask": [filled_lines.Options],
  "albert_mn.plan": [planning.Options],
  "run_pretraining": [
    run_options.Options,
    optimization.OptimizerOptions,
    distribution.Options,
    probe.Options,
  ],
  "run_classifier": [
    classification.Options,
    fine_tuning.Recipe,
    adaptation.Options,
  ],
  "albert_mn.convert_checkpoint": [conversion.Options],
  "albert_mn.download_checkpoint": [remote_weights.Options],
  "bert_tweet.predict": [predictions.Options],
  "bert_tweet.serve": [server.Options],
  "bert_tweet.visualize": [attention.Options],
}


def _commands(page: str) -> list[str]:
  """Returns the lines of a page that a reader is told to type."""
  text = (running.ROOT / page).read_text("utf-8")
  blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
  return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one_that_ci_runs(page: str) -> None:
  if page in WHOLE:
    where = (running.ROOT / WHOLE[page]).read_text("utf-8")
    assert page in where
    assert "in COMMANDS" in where
    return
  for command in _commands(page):
    if page in HERE:
      continue
    if match := PYTEST.fullmatch(command):
      tests = (running.ROOT / match[1]).read_text("utf-8")
      assert re.search(rf"^def test_\w*{match[2] or ''}", tests, re.MULTILINE)
      continue
    assert command in RUN_BY, f"{command}: run it in a test, name that here"
    where = (running.ROOT / RUN_BY[command]).read_text("utf-8")
    assert pathlib.PurePath(command.split()[0]).name in where


def test_the_pages_that_are_there_to_be_typed_have_commands() -> None:
  pages = {
    "CONTRIBUTING.md",
    "README.md",
    "README.mn.md",
    "docs/beam.md",
    "docs/export.md",
    *WHOLE,
    *HERE,
  }
  assert {page for page in PAGES if _commands(page)} >= pages


@pytest.mark.parametrize("program", OPTIONS)
def test_the_flags_of_a_programs_example_exist(program: str) -> None:
  path = running.ROOT / (program.replace(".", "/") + ".py")
  used = re.findall(r"--(\w+)", path.read_text("utf-8").split('"""')[1])
  known = {
    options.flag_name(f)
    for cls in OPTIONS[program]
    for f in dataclasses.fields(cls)
  }
  assert used
  assert set(used) <= known


def test_the_recipes_of_run_classifier_name_flags_that_exist() -> None:
  known = {
    f.name for cls in OPTIONS["run_classifier"] for f in dataclasses.fields(cls)
  }
  for name in ("eduge", "tweetmn"):
    recipe = running.ROOT / f"configs/{name}.flags"
    used = re.findall(r"^--(\w+)", recipe.read_text("utf-8"), re.MULTILINE)
    assert len(used) == 7
    assert set(used) <= known


def test_the_readme_names_every_flag_it_mentions_as_the_programs_do() -> None:
  known = {
    options.flag_name(f)
    for classes in OPTIONS.values()
    for cls in classes
    for f in dataclasses.fields(cls)
  }
  for page in PAGES:
    used = re.findall(r"--(\w+)", (running.ROOT / page).read_text("utf-8"))
    assert set(used) - ELSEWHERE <= known, page


@pytest.mark.slow
def test_every_command_of_the_tweet_page_does_what_the_page_says(
  topics: str, tmp_path: pathlib.Path
) -> None:
  if not shutil.which("curl"):
    pytest.skip("needs curl: apt-get install curl")
  commands = _commands(TWEET_PAGE)
  (serve,) = (c for c in commands if "bert_tweet.serve" in c)
  model = serve.split("--model_dir=")[1].split()[0]

  def run(command: str) -> str:
    for there, here in (
      ("python", sys.executable),
      (model, topics),
      ("runs/quickstart/pretraining/model", topics),
      ("predictions.jsonl", f"{tmp_path}/predictions.jsonl"),
      ("--output_file=", f"--output_file={tmp_path}/"),
      ("http://127.0.0.1:8000", served.url),
    ):
      command = command.replace(there, here)
    done = subprocess.run(
      ["bash", "-c", command],
      cwd=running.ROOT,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

  with serving.serving(topics, tmp_path / "log") as served:
    said = {c: run(c) for c in commands if c != serve}
  answers = [json.loads(said[c]) for c in commands if "/api/" in c]
  assert [sorted(answer)[0] for answer in answers] == [
    "label",
    "predictions",
    "answer",
    "req_count",
  ]
  lines = (tmp_path / "predictions.jsonl").read_text("utf-8").splitlines()
  assert len(lines) == 99
  assert {path.suffix for path in tmp_path.iterdir()} == {"", ".jsonl", ".html"}


def _run_all(page: str, changes: Mapping[str, str]) -> None:
  """Runs the commands of a page in order, with parts of their text replaced."""
  for command in _commands(page):
    for there, here in {"python ": f"{sys.executable} ", **changes}.items():
      command = command.replace(there, here)
    done = subprocess.run(
      ["bash", "-c", command],
      cwd=running.ROOT,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.slow
def test_the_commands_of_your_own_rows_work_one_after_the_other(
  topics: str, tmp_path: pathlib.Path
) -> None:
  """They run with a small model and one epoch, and predict all rows."""
  changes = {
    "runs/quickstart/pretraining/model": topics,
    "runs/mine": f"{tmp_path}/mine",
    "--num_train_epochs=10": "--num_train_epochs=1",
  }
  _run_all(CLASSIFICATION, changes)
  parts = [tmp_path / f"mine/rows/{name}.tsv" for name in ("dev", "test")]
  assert all(60 < len(p.read_text("utf-8").splitlines()) < 80 for p in parts)
  predicted = (tmp_path / "mine/classifier/predictions.tsv").read_text("utf-8")
  assert len(predicted.splitlines()) == 100
  assert (tmp_path / "mine/classifier/report.html").exists()


@pytest.mark.slow
def test_the_commands_of_your_own_text_work_one_after_the_other(
  tmp_path: pathlib.Path,
) -> None:
  """They run with two steps of pretraining, one epoch, and two networks."""
  flags = "albert_mini.flags"
  changes = {
    "runs/words": f"{tmp_path}/words",
    flags: f"{flags} --num_train_steps=2 --num_warmup_steps=1",
    "--ensemble=4": "--ensemble=2 --train_step=20",
  }
  _run_all(PRETRAINING, changes)
  folder = tmp_path / "words"
  corpus = (folder / "sentences/corpus-00000-of-00001.txt").read_text("utf-8")
  rows = (running.ROOT / "sample/sib200/train.tsv").read_text("utf-8")
  assert rows.splitlines()[1].split("\t")[2] in corpus
  described = json.loads(
    (folder / "classifier/model/manifest.json").read_text("utf-8")
  )
  assert described["parameters"]["networks"] == 2
  # Two tenths of the training rows chose the blend, all of them were learnt from.
  assert described["counts"]["train_rows"] == 701
  assert 130 < described["counts"]["validation_rows"] < 150


@pytest.mark.slow
def test_the_python_of_the_readme_tells_labels(
  topics: str, capsys: pytest.CaptureFixture[str]
) -> None:
  text = (running.ROOT / "README.md").read_text("utf-8")
  (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  exec(code.replace("runs/quickstart/classifier/model", topics), {})
  labels, shares = capsys.readouterr().out.split("\n", 1)
  assert set(ast.literal_eval(labels)) <= {"эрх", "үүрэг"}
  assert len(shares.strip().splitlines()) == 2


def test_the_readme_shows_what_the_quickstart_prints() -> None:
  """The words of the summary are compared; its numbers are those of one run."""
  readme = (running.ROOT / "README.md").read_text("utf-8")
  script = (running.ROOT / "scripts/quickstart.sh").read_text("utf-8")
  summary = script.split("cat <<EOF\n")[1].split("EOF")[0]
  fixed = [line for line in summary.splitlines() if line and "$" not in line]
  assert len(fixed) >= 4
  for line in fixed:
    assert line in readme
