"""What configs/*.flags promise, seen on held-out text."""

import collections
import math
import pathlib

import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver

from albert_mn import configs, distribution, history, optimization, training
from data_prep import options, records
from tests import running

RECIPES = sorted((running.ROOT / "configs").glob("*.flags"))

SAMPLE = running.ROOT / "sample" / "pretrain"
VOCABULARY = 4000


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_taken_whole_and_says_where_it_is_from_and_what_it_costs(
  path: pathlib.Path,
) -> None:
  for word in ("Source", "Cost", "Curve"):
    assert f"\n# {word}" in path.read_text("utf-8"), word
  classes = (
    training.Options, optimization.OptimizerOptions, distribution.Options
  )  # fmt: skip
  given = ["--input_file=i", "--eval_input_file=e", "--output_dir=o"]
  options.define(*classes)
  with flagsaver.flagsaver():
    # What is no flag would stay in the list, what is none of ours is refused.
    assert flags.FLAGS(["run", f"--flagfile={path}", *given]) == ["run"]
    settings, recipe, _ = (options.parsed(cls) for cls in classes)
  config = configs.AlbertConfig.from_file(
    str(running.ROOT / settings.albert_config_file)
  )
  assert path.with_suffix(".json").name in settings.albert_config_file
  assert settings.do_train and settings.do_eval
  assert config.vocab_size in (4000, 16_000, 30_000)
  assert 0 < recipe.num_warmup_steps < recipe.num_train_steps


def test_there_is_a_recipe_for_minutes_for_a_day_and_for_a_grant() -> None:
  assert [path.stem for path in RECIPES] == [
    "albert_base", "albert_small", "albert_tiny",
  ]  # fmt: skip


def _masked(folder: pathlib.Path, role: str) -> list[int]:
  """Returns the pieces that are to be guessed."""
  found = []
  for path in sorted(folder.glob(f"{role}-*.tfrecord")):
    for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      features = tf.train.Example.FromString(raw).features.feature
      ids = features[records.MASKED_LM_IDS].int64_list.value
      weights = features[records.MASKED_LM_WEIGHTS].float_list.value
      found += [i for i, w in zip(ids, weights, strict=True) if w]
  return found


def _unigram_loss(folder: pathlib.Path) -> float:
  """Returns the loss of who knows how frequent each piece is, in nats."""
  counts = collections.Counter(_masked(folder, "train"))
  total = counts.total() + VOCABULARY  # one is added to each
  held_out = _masked(folder, "eval")
  return -sum(math.log((counts[i] + 1) / total) for i in held_out) / len(
    held_out
  )


@pytest.mark.slow
def test_the_tiny_recipe_learns_more_than_the_frequencies_of_pieces(
  tmp_path: pathlib.Path,
) -> None:
  must = running.Programs().succeed
  corpus = f"--input_file={tmp_path}/corpus/corpus-*.txt"
  must(
    "-m", "data_prep.build_corpus", "--section_sentences=12",
    f"--input_file={SAMPLE}/wiki_articles.txt,{SAMPLE}/udhr.txt",
    f"--output_dir={tmp_path}/corpus",
  )  # fmt: skip
  must(
    "-m", "data_prep.train_tokenizer", f"--vocab_size={VOCABULARY}", corpus,
    f"--output_dir={tmp_path}/tokenizer",
  )  # fmt: skip
  must(
    "-m", "data_prep.create_pretraining_data", corpus, "--max_seq_length=64",
    "--eval_fraction=0.08", "--dupe_factor=20",
    f"--spm_model_file={tmp_path}/tokenizer/tokenizer.model",
    f"--output_dir={tmp_path}/records",
  )  # fmt: skip
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
  # 0.41 when the flagfile was written.
  assert losses[4] < _unigram_loss(tmp_path / "records") - 0.2, losses
