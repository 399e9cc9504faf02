"""Tests that commands written for google-research/albert work here."""

import dataclasses
import pathlib
import re
from typing import Any

import pytest

from albert_mn.finetune import classification, fine_tuning
from albert_mn.tasks import problems
from data_prep.base import options
from tests import classification_test, option_classes, running

# The flags that the programs of google-research/albert define, at commit
# 4ae12a2 (run_classifier.py) and 0cf7f57 (create_pretraining_data.py).
CLASSIFIER = """
  data_dir albert_config_file task_name vocab_file spm_model_file output_dir
  cached_dir init_checkpoint albert_hub_module_handle do_lower_case
  max_seq_length do_train do_eval do_predict train_batch_size eval_batch_size
  predict_batch_size learning_rate train_step warmup_step
  save_checkpoints_steps keep_checkpoint_max iterations_per_loop use_tpu
  optimizer tpu_name tpu_zone gcp_project master num_tpu_cores
""".split()
RECORDS = """
  input_file output_file vocab_file spm_model_file input_file_mode do_lower_case
  do_whole_word_mask do_permutation favor_shorter_ngram random_next_sentence
  max_seq_length ngram max_predictions_per_seq random_seed dupe_factor
  masked_lm_prob short_seq_prob parallel
""".split()
folder = classification_test.folder  # a fixture


@pytest.mark.parametrize(
  ("program", "names"),
  [
    ("run_classifier", CLASSIFIER),
    ("data_prep.create_pretraining_data", RECORDS),
  ],
)
def test_every_flag_of_google_research_albert_is_known(
  program: str, names: list[str]
) -> None:
  known = {
    options.flag_name(field)
    for cls in option_classes.by_program()[program]
    for field in dataclasses.fields(cls)
  }
  assert set(names) <= known


def _without_effect(program: str) -> dict[str, dataclasses.Field[Any]]:
  return {
    options.flag_name(field): field
    for cls in option_classes.by_program()[program]
    for field in dataclasses.fields(cls)
    if field.metadata["ignored"]
  }


@pytest.mark.parametrize(
  "program",
  ["run_classifier", "run_pretraining", "data_prep.create_pretraining_data"],
)
def test_a_flag_without_effect_says_so_and_what_to_use(program: str) -> None:
  """One line is logged for each flag that is given, also with its default."""
  given = _without_effect(program)
  assert given
  command = [f"{program}.py"] if "." not in program else ["-m", program]
  flags = [f"--{name}={field.default or 0}" for name, field in given.items()]
  done = running.Programs().run(*command, *flags)
  assert done.returncode == 1, "nothing else was asked for"
  said = re.findall(r"--(\w+) is ignored: (.+); (.+)$", done.stderr, re.M)
  assert [name for name, _, _ in said] == list(given)
  assert "is ignored" not in running.Programs().refuse(*command)


def test_a_hub_module_is_not_ignored_where_no_other_model_is_given() -> None:
  with pytest.raises(options.InputError, match="give the folder as --init_che"):
    classification.Options(
      do_train=True, output_dir="out", albert_hub_module_handle="module"
    )
  classification.Options(
    do_train=True,
    output_dir="out",
    albert_hub_module_handle="module",
    init_checkpoint="model",
  )


def test_train_step_and_warmup_step_count_steps_not_epochs() -> None:
  recipe = fine_tuning.Recipe(train_batch_size=8, num_train_epochs=2.0)
  assert (recipe.total_steps(80), recipe.warmup_steps(20)) == (20, 2)
  recipe = dataclasses.replace(recipe, train_step=7, warmup_step=0)
  assert (recipe.total_steps(80), recipe.warmup_steps(7)) == (7, 0)
  assert dataclasses.replace(recipe, warmup_step=7).warmup_steps(7) == 7
  with pytest.raises(options.InputError, match="--warmup_step of at most 7"):
    dataclasses.replace(recipe, warmup_step=8)
  by_epochs = fine_tuning.Recipe(warmup_step=50)
  with pytest.raises(options.InputError, match="--warmup_step of at most 20"):
    by_epochs.warmup_steps(20)


def test_a_classifier_trains_for_as_many_steps_as_train_step_says(
  folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  for steps in (3, 14):  # an epoch has twelve
    out = tmp_path / str(steps)
    flags = classification_test._tiny(
      folder, train_step=steps, warmup_step=2, max_restarts=0
    )
    settings = classification_test._settings(out, **flags)
    classification.run(*settings)
    assert (out / f"checkpoints/model.ckpt-{steps}.index").exists()


@pytest.mark.parametrize(
  ("width", "rows", "pretrained", "rate", "epochs"),
  [
    (768, 60_000, True, 5e-5, 3.0),
    (256, 700, True, 2.6e-4, 10.0),
    (128, 701, True, 7.3e-4, 10.0),
    (256, 1400, False, 1e-3, 5.0),
    (768, 40, False, 2e-4, 20.0),
  ],
)
def test_rate_and_epochs_follow_from_the_encoder_and_the_rows(
  width: int, rows: int, pretrained: bool, rate: float, epochs: float
) -> None:
  circumstances = (width, rows, pretrained, problems.CLASS)
  recipe = fine_tuning.Recipe().settled(*circumstances)
  assert recipe.learning_rate == pytest.approx(rate)
  assert recipe.num_train_epochs == epochs
  given = fine_tuning.Recipe(learning_rate=0.0, num_train_epochs=0.0)
  assert given.settled(*circumstances) == given


def test_other_numbers_below_0_are_refused() -> None:
  with pytest.raises(options.InputError, match="--learning_rate of at least"):
    fine_tuning.Recipe(learning_rate=-0.5)
  with pytest.raises(options.InputError, match="--num_train_epochs of at"):
    fine_tuning.Recipe(num_train_epochs=-0.5)
