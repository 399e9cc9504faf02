"""Tests that configs/*.flags reach the losses that they promise."""

import collections
import math
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from albert_mn.finetune import adaptation, classification, fine_tuning
from albert_mn.models import configs
from albert_mn.pretrain import history, run_options
from albert_mn.runtime import distribution, optimization
from data_prep.base import options
from data_prep.files import records
from tests import running

FOLDER = running.ROOT / "configs"
RECIPES = sorted(FOLDER.glob("*.flags"))
# What each program takes, and what a recipe leaves to whoever uses it.
PROGRAMS = {
  "run_pretraining.py": (
    (run_options.Options, optimization.OptimizerOptions, distribution.Options),
    ["--input_file=i", "--eval_input_file=e", "--output_dir=o"],
  ),
  "run_classifier.py": (
    (classification.Options, fine_tuning.Recipe, adaptation.Options),
    ["--data_dir=d", "--init_checkpoint=m", "--output_dir=o"],
  ),
}

SAMPLE = running.ROOT / "sample" / "pretrain"
VOCABULARY = 4000
SPECIAL = {0, 2, 3, 4}  # padding, [CLS], [SEP], [MASK]


def _parsed(path: pathlib.Path) -> list[Any]:
  """Returns the options of the program that the recipe's head runs."""
  head = path.read_text("utf-8")
  called = re.search(rf"python (\S+) --flagfile=configs/{path.name} ", head)
  assert called, "no example"
  classes, given = PROGRAMS[called[1]]
  before = set(flags.FLAGS)
  options.define(*classes)
  try:
    with flagsaver.flagsaver():
      # What is no flag would stay in the list; what is none of its is refused.
      assert flags.FLAGS(["run", f"--flagfile={path}", *given]) == ["run"]
      return [options.parsed(cls) for cls in classes]
  finally:
    for name in set(flags.FLAGS) - before:  # the next program has its own
      delattr(flags.FLAGS, name)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_taken_whole_and_says_where_it_is_from_and_what_it_costs(
  path: pathlib.Path,
) -> None:
  for words in ("Source:", "Cost[:,]", "(Curve|Score)"):
    assert re.search(rf"^# {words}", path.read_text("utf-8"), re.M), words
  settings, *_ = _parsed(path)
  assert settings.do_train
  assert settings.do_eval


def test_there_is_a_recipe_for_minutes_for_a_day_and_for_a_grant() -> None:
  positions = []
  for size, length in (("tiny", 64), ("small", 128), ("base", 512)):
    settings, recipe, _ = _parsed(FOLDER / f"albert_{size}.flags")
    assert settings.albert_config_file == f"configs/albert_{size}.json"
    configs.AlbertConfig.from_file(str(FOLDER / f"albert_{size}.json"))
    steps = recipe.num_train_steps
    assert 0 < recipe.num_warmup_steps < steps / 2
    positions.append(steps * settings.train_batch_size * length)
  # As their heads reckon.
  assert positions == pytest.approx([2.05e6, 328e6, 262e9], rel=0.01)


def _features(folder: pathlib.Path, role: str) -> Iterator[Any]:
  for path in sorted(folder.glob(f"{role}-*.tfrecord")):
    for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      yield tf.train.Example.FromString(raw).features.feature


def _unigram_loss(folder: pathlib.Path) -> float:
  """Returns the held-out loss of a unigram model of the pieces, in nats."""
  counts = collections.Counter(
    piece
    for features in _features(folder, "train")
    for piece in features[records.INPUT_IDS].int64_list.value
    if piece not in SPECIAL
  )
  total = counts.total() + VOCABULARY  # one is added to each
  held_out = [
    piece
    for features in _features(folder, "eval")
    for piece, weight in zip(
      features[records.MASKED_LM_IDS].int64_list.value,
      features[records.MASKED_LM_WEIGHTS].float_list.value,
      strict=True,
    )
    if weight
  ]
  return -sum(math.log((counts[i] + 1) / total) for i in held_out) / len(
    held_out
  )


@pytest.mark.slow
def test_the_tiny_recipe_learns_more_than_the_frequencies_of_pieces(
  tmp_path: pathlib.Path,
) -> None:
  must = running.Programs().succeed
  corpus, sentences = (
    f"{tmp_path}/{name}/corpus-*.txt" for name in ("corpus", "sentences")
  )
  must(
    "-m",
    "data_prep.build_corpus",
    "--section_sentences=12",
    f"--input_file={SAMPLE}/wiki_articles.txt,{SAMPLE}/udhr.txt",
    f"--output_dir={tmp_path}/corpus",
  )
  must(
    "-m",
    "data_prep.build_corpus",
    f"--input_file={SAMPLE}/common_voice.txt",
    f"--output_dir={tmp_path}/sentences",
  )
  must(
    "-m",
    "data_prep.train_tokenizer",
    f"--vocab_size={VOCABULARY}",
    f"--input_file={corpus},{sentences}",
    f"--output_dir={tmp_path}/tokenizer",
  )
  must(
    "-m",
    "data_prep.create_pretraining_data",
    f"--input_file={corpus}",
    f"--isolated_lines_file={sentences}",
    "--max_seq_length=64",
    "--eval_fraction=0.08",
    "--dupe_factor=20",
    "--masking=dynamic",
    "--pack_sequences",
    f"--spm_model_file={tmp_path}/tokenizer/tokenizer.model",
    f"--output_dir={tmp_path}/records",
  )
  must(
    str(running.ROOT / "run_pretraining.py"),
    f"--flagfile={running.ROOT}/configs/albert_tiny.flags",
    f"--input_file={tmp_path}/records/train-*.tfrecord",
    f"--eval_input_file={tmp_path}/records/eval-*.tfrecord",
    f"--output_dir={tmp_path}/run",
  )
  curve = history.curves(str(tmp_path / "run/events/eval"))["masked_lm_loss"]
  assert [step for step, _ in curve] == [200, 400, 600, 800, 1000]
  losses = [loss for _, loss in curve]
  assert losses[0] > losses[4] + 0.1, losses
  # 0.57 when the flagfile was written.
  assert losses[4] < _unigram_loss(tmp_path / "records") - 0.4, losses
  # Whether it knows the order is not asserted: here it was seen at chance.
  results = (tmp_path / "run/eval_results.txt").read_text()
  assert "sentence_order_accuracy_low = 0." in results
