"""A classification task from rows to results: train, evaluate, predict.

Training writes a model directory, and evaluation and prediction read one: what
is reported is what was saved.
"""

import dataclasses
import os
from collections.abc import Iterable

import tensorflow as tf
import tf_keras
from absl import logging

from albert_mn import (
  classifier,
  configs,
  evaluation,
  fine_tuning,
  foreign_configs,
  initial_weights,
  predictions,
  problems,
  remote_weights,
  tagging,
  task_rows,
)
from data_prep import (
  classifier_data,
  manifest,
  options,
  tables,
  tokenization,
)


@dataclasses.dataclass(frozen=True)
class Options(task_rows.Files):
  """What to classify, from which model to start, where the results go.

  The names are those of google-research/albert's run_classifier.
  """

  spm_model_file: str = options.option(
    "", "SentencePiece model; --init_checkpoint=<model directory> has its own"
  )
  vocab_file: str = options.option(
    "", "instead, WordPiece's vocab.txt; likewise"
  )
  do_lower_case: bool = options.option(
    False, "lower-case what the SentencePiece model does not "
    "(google-research/albert: true)"
  )  # fmt: skip
  repair_normalization: bool = options.option(
    False, "train a model that was trained on text without й and ё on intact "
    "text: its pieces with them begin untrained"
  )  # fmt: skip
  albert_config_file: str = options.option(
    "", "the encoder's shape, as JSON; a model directory has its own"
  )
  bert_config_file: str = options.option("", "instead, for BERT")
  gelu: str = foreign_configs.gelu_option()
  init_checkpoint: str = options.option(
    "", "what to start from: a model directory, a checkpoint's prefix (of "
    "google-research and tf-models too), a TF Hub module, a Hugging Face "
    "directory, a file of PyTorch's weights, or an archive of one; local, "
    "gs:// or https://; without it "
    "training starts from nothing; without --do_train, the classifier to use "
    "(default: the one in --output_dir)"
  )  # fmt: skip
  output_dir: str = options.option("", "the run directory")
  do_train: bool = options.option(False, "train")
  do_eval: bool = options.option(False, "evaluate, beside the baseline")
  do_predict: bool = options.option(False, "write predictions.tsv")
  eval_batch_size: int = options.option(
    32, "texts a batch (google-research/albert: 8)", minimum=1
  )
  num_seeds: int = options.option(
    1, "trainings, with --random_seed and the seeds after it; the report gives "
    "mean and deviation, the first one's model is kept", minimum=1,
  )  # fmt: skip
  predict_batch_size: int = options.option(
    32, "texts a batch (google-research/albert: 8)", minimum=1
  )
  predict_labels: int = options.option(
    0, "how many labels of a row stand in predictions.tsv, the likeliest "
    "first; 0: all, in their order", minimum=0,
  )  # fmt: skip

  def check(self) -> None:
    if not (self.do_train or self.do_eval or self.do_predict):
      raise options.InputError(
        "--do_train, --do_eval or --do_predict", "none", "say what to do"
      )
    options.require(self, "output_dir")
    start = (
      self.albert_config_file or self.bert_config_file or self.init_checkpoint
    )
    if self.do_train and not start:
      raise options.InputError(
        "a model to train",
        "none",
        "give --init_checkpoint, or --albert_config_file to begin from nothing",
      )


def run(settings: Options, recipe: fine_tuning.Recipe) -> dict[str, object]:
  """Trains, evaluates, predicts as the flags say; returns the results."""
  tf.config.experimental.enable_op_determinism()
  policy = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
  tf_keras.mixed_precision.set_global_policy(policy[recipe.precision])
  settings = dataclasses.replace(
    settings, init_checkpoint=remote_weights.local(settings.init_checkpoint)
  )
  # Everything that can be wrong with the rows is said before anything runs.
  settings = task_rows.settle(settings, settings.output_dir)
  rows = task_rows.Rows()
  if settings.do_train or settings.do_eval:
    validates = settings.do_train and recipe.validates
    rows = task_rows.labelled(settings, settings.do_train, validates)
  to_predict = task_rows.to_predict(settings) if settings.do_predict else ()
  others: list[classifier.Predictor] = []
  if settings.do_train:
    folder = os.path.join(settings.output_dir, "model")
    _train(folder, settings.output_dir, settings, recipe, rows)
    others = _other_seeds(settings, recipe, rows)
  else:
    folder = _trained(settings)
  if not (settings.do_eval or settings.do_predict):
    return {}
  predictor = load(folder)
  _check_pairs(settings, predictor)
  results = {}
  if settings.do_eval:
    predictor.problem.check(rows.held_out)
    results = evaluation.evaluate(
      settings.output_dir,
      settings.task_name,
      predictor,
      rows,
      settings.eval_batch_size,
      others,
    )
  if settings.do_predict:
    _predict(settings, predictor, to_predict)
  return results


def load(folder: str) -> classifier.Predictor:
  """Reads a model directory of either kind."""
  described = manifest.find(folder) or {}
  if described.get("kind") == tagging.KIND:
    return tagging.TagPredictor.load(folder)
  return classifier.Predictor.load(folder)


def _check_pairs(settings: Options, predictor: classifier.Predictor) -> None:
  pairs = bool(predictor.manifest["parameters"].get("text_pair"))
  if pairs != bool(settings.text_pair_column):
    raise options.InputError(
      f"rows of {'two texts' if pairs else 'one text'}, as the model was "
      "trained on",
      f"--text_pair_column={settings.text_pair_column!r}",
      "name the column of the second texts" if pairs else "leave it out",
    )


def _other_seeds(
  settings: Options, recipe: fine_tuning.Recipe, rows: task_rows.Rows
) -> list[classifier.Predictor]:
  """Trains with the seeds after the first, each in a folder of its own."""
  found = []
  for number in range(1, settings.num_seeds):
    seed = (recipe.random_seed + number) % options.SEEDS
    run_folder = os.path.join(settings.output_dir, f"seed_{seed}")
    folder = os.path.join(run_folder, "model")
    again = dataclasses.replace(recipe, random_seed=seed)
    _train(folder, run_folder, settings, again, rows)
    found.append(load(folder))
  return found


def _train(
  folder: str,
  run_folder: str,
  settings: Options,
  recipe: fine_tuning.Recipe,
  rows: task_rows.Rows,
) -> None:
  problem = fine_tuning.problem_of(settings.label_type, rows.train)
  problem.check([*rows.validation, *rows.held_out])
  if recipe.freeze_encoder and not settings.init_checkpoint:
    raise options.InputError(
      "--init_checkpoint, whose encoder is to be frozen",
      "none",
      "give it, or leave --freeze_encoder out",
    )
  if recipe.calibrate and problem.TYPE == problems.REGRESSION:
    raise options.InputError(
      "--calibrate with labels, which have probabilities",
      f"--label_type={problem.TYPE}",
      "leave it out",
    )
  start = _start(settings, recipe.max_seq_length)
  if problem.TYPE == tagging.ENTITIES:
    tagging.check(start.tokenizer_file, recipe.long_text)
  data = fine_tuning.Data(
    rows.train, rows.validation, rows.held_out, task_rows.cleaning(settings)
  )
  fine_tuning.train(folder, run_folder, recipe, start, problem, data)


def _trained(settings: Options) -> str:
  """The model directory of a run that does not train."""
  return settings.init_checkpoint or os.path.join(settings.output_dir, "model")


def _start(settings: Options, max_seq_length: int) -> fine_tuning.Start:
  """Finds configuration and tokenizer, by flag or in the model directory."""
  folder = settings.init_checkpoint
  config = initial_weights.settle_config(
    settings.albert_config_file,
    settings.bert_config_file,
    folder,
    gelu=settings.gelu,
  )
  if settings.spm_model_file and settings.vocab_file:
    logging.info("--vocab_file is ignored beside --spm_model_file")
  tokenizer_file = initial_weights.settle_tokenizer(
    folder, settings.spm_model_file, settings.vocab_file
  )
  if not tokenizer_file:
    raise options.InputError(
      "--spm_model_file or --vocab_file",
      f"none, nor a file in {folder!r}",
      "give it",
    )
  text = _text(settings, config, tokenizer_file)
  start = fine_tuning.Start(
    config,
    tokenization.Tokenizer.with_settings(tokenizer_file, text),
    tokenizer_file,
    folder,
  )
  _check_fit(start, max_seq_length)
  return start


def _text(
  settings: Options, config: configs.AlbertConfig, tokenizer_file: str
) -> tokenization.Settings:
  """Settles what happens to a text before the tokenizer, and says so."""
  given = tokenization.Settings(settings.do_lower_case)
  if not settings.init_checkpoint:
    strip = given.do_lower_case and tokenization.is_wordpiece(tokenizer_file)
    return dataclasses.replace(given, strip_accents=strip)
  found = initial_weights.text_settings(
    settings.init_checkpoint, tokenizer_file, config
  )
  if settings.repair_normalization:
    found = found.repaired()
  logging.info("before the tokenizer: %s", found.described())
  lower = found.settings.do_lower_case or settings.do_lower_case
  return dataclasses.replace(found.settings, do_lower_case=lower)


def _check_fit(start: fine_tuning.Start, max_seq_length: int) -> None:
  size = start.tokenizer.vocab_size
  # Elsewhere embeddings are filled up with rows that no piece uses.
  brought = start.init_checkpoint and os.path.dirname(
    start.tokenizer_file
  ) == initial_weights.folder_of(start.init_checkpoint)
  if size > start.config.vocab_size or (
    size != start.config.vocab_size and not brought
  ):
    raise options.InputError(
      f"a config with vocab_size {start.tokenizer.vocab_size}, as "
      f"{start.tokenizer_file}",
      f"vocab_size {start.config.vocab_size}",
      "give the config and the tokenizer of one model",
    )
  longest = start.config.max_position_embeddings
  if max_seq_length > longest:
    raise options.InputError(
      f"--max_seq_length of at most max_position_embeddings = {longest}",
      str(max_seq_length),
      f"give --max_seq_length={longest}",
    )


def _predict(
  settings: Options,
  predictor: classifier.Predictor,
  rows: Iterable[tuple[int, classifier_data.Row | tables.Bad]],
) -> None:
  """Writes predictions.tsv."""
  predictions.write(
    settings.output_dir,
    predictor,
    rows,
    settings.predict_batch_size,
    settings.predict_labels,
  )
