"""What the documentation tells a reader to type is what CI runs."""

import dataclasses
import pathlib
import re
from typing import Any

import pytest

from albert_mn import (
  classification,
  distribution,
  exports,
  fine_tuning,
  optimization,
  probe,
  training,
)
from data_prep import (
  cleaning,
  corpora,
  downloads,
  pretraining_data,
  texts,
  tokenizer_training,
)
from tests import running

PAGES = [
  "README.md",
  "README.mn.md",
  "docs/beam.md",
  "docs/export.md",
  "docs/tpu.md",
]

# Command → where CI runs it.
RUN_BY = {
  "./scripts/quickstart.sh": "tests/quickstart_test.py",
  "./scripts/test.sh": ".ci/run",
  "./scripts/setup.sh --beam": "tests/beam_runner_test.py",
  "./scripts/setup.sh --interop": "tests/interop_test.py",
  **{
    line: "tests/exports_test.py"
    for line in (running.ROOT / "docs/export.md")
    .read_text("utf-8")
    .splitlines()
    if line.startswith("python -m albert_mn.export_model ")
  },  # all of the page, whatever they are
  "./scripts/tpu_vm.sh delete": "tests/tpu_scripts_test.py",
}
# Flags of absl, of our scripts, of TensorBoard, Beam, pip, gcloud; those of
# gcloud and tpu_vm.sh are looked at in tests/tpu_scripts_test.py.
ELSEWHERE = set(
  "help slow flagfile logdir beam direct_num_workers direct_running_mode no require "
  "project region temp_location sdk_location sdk_container_image flink_master "
  "environment_type environment_config tpu name type zone spot preemptible "
  "queued delete_when_done flagfile worker command format location uniform "
  "member role recursive dry interop".split()
)
OPTIONS: dict[str, list[Any]] = {
  "data_prep.build_corpus": [
    corpora.Options,
    cleaning.Options,
    texts.Options,
    downloads.Options,
  ],
  "data_prep.train_tokenizer": [tokenizer_training.Options],
  "data_prep.create_pretraining_data": [pretraining_data.Options],
  "albert_mn.export_model": [exports.Options],
  "run_pretraining": [
    training.Options,
    optimization.OptimizerOptions,
    distribution.Options,
    probe.Options,
  ],
  "run_classifier": [classification.Options, fine_tuning.Recipe],
}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_one_that_ci_runs(page: str) -> None:
  text = (running.ROOT / page).read_text("utf-8")
  blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
  commands = [line for block in blocks for line in block.splitlines() if line]
  assert commands
  for command in commands:
    assert command in RUN_BY, f"{command}: run it in a test, name that here"
    where = (running.ROOT / RUN_BY[command]).read_text("utf-8")
    assert pathlib.PurePath(command.split()[0]).name in where


@pytest.mark.parametrize("program", OPTIONS)
def test_the_flags_of_a_programs_example_exist(program: str) -> None:
  path = running.ROOT / (program.replace(".", "/") + ".py")
  used = re.findall(r"--(\w+)", path.read_text("utf-8").split('"""')[1])
  known = {f.name for cls in OPTIONS[program] for f in dataclasses.fields(cls)}
  assert used and set(used) <= known


def test_the_readme_names_every_flag_it_mentions_as_the_programs_do() -> None:
  known = {
    f.name for classes in OPTIONS.values() for cls in classes
    for f in dataclasses.fields(cls)
  }  # fmt: skip
  for page in PAGES:
    used = re.findall(r"--(\w+)", (running.ROOT / page).read_text("utf-8"))
    assert set(used) - ELSEWHERE <= known, page


def test_the_readme_shows_what_the_quickstart_prints() -> None:
  """The frame of its summary; the numbers are those of one run."""
  readme = (running.ROOT / "README.md").read_text("utf-8")
  script = (running.ROOT / "scripts/quickstart.sh").read_text("utf-8")
  summary = script.split("cat <<EOF\n")[1].split("EOF")[0]
  fixed = [line for line in summary.splitlines() if line and "$" not in line]
  assert len(fixed) >= 4
  for line in fixed:
    assert line in readme
