"""Tests of the quickstart, which is also killed and run again."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

from tests import running

SCRIPT = running.ROOT / "scripts" / "quickstart.sh"
# The budget is the only difference from what the README prints.
BUDGET = {**os.environ, "PRETRAINING_STEPS": "20", "EPOCHS": "1"}


def _content(folder: pathlib.Path) -> dict[str, bytes]:
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for name in ("corpus", "task_texts", "tokenizer", "records")
    for path in sorted((folder / name).iterdir())
  }


@pytest.mark.slow
def test_the_quickstart_survives_a_kill_and_says_where_everything_lies(
  tmp_path: pathlib.Path,
) -> None:
  out = tmp_path / "run"
  process = subprocess.Popen(
    [SCRIPT, out],
    env=BUDGET,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )
  deadline = time.monotonic() + 300
  while not (out / "pretraining").exists():
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.05)
  before = _content(out)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  outputs = [
    subprocess.run(
      [SCRIPT, out],
      env=BUDGET,
      capture_output=True,
      text=True,
      check=True,
      timeout=600,
    ).stdout
    for _ in range(2)
  ]
  assert _content(out) == before
  for output in outputs:
    for line in (
      "  masked_lm_accuracy       0.",
      "  masked_lm_loss           ",
      "  sentence_order_accuracy  0.",
      "precision    recall  f1-score   support",
      "Baseline: TF-IDF",
      "Where things lie",
      "What to try next",
      "What you hold now",
      "  its networks alone      0.",
      "  its TF-IDF baseline     0.",
      "  the model directory     0.",
      "  What answers in the model directory is",
    ):
      assert line in output, output
    for folder in (
      "corpus",
      "task_texts",
      "tokenizer",
      "records",
      "classifier/model",
    ):
      assert f"{out}/{folder}" in output
      assert (out / folder / "manifest.json").exists()
