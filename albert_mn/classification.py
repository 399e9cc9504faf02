"""A classification task from rows to results: train, evaluate, predict.

Training writes a model directory, and evaluation and prediction read one: what
is reported is what was saved.
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
import tf_keras
from absl import logging

from albert_mn import (
  baseline,
  classifier,
  fine_tuning,
  initial_weights,
  model_directory,
  predictions,
  problems,
  reports,
  task_rows,
)
from data_prep import (
  classifier_data,
  manifest,
  options,
  storage,
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
  do_lower_case: bool = options.option(
    False, "lower-case what the SentencePiece model does not "
    "(google-research/albert: true)"
  )  # fmt: skip
  albert_config_file: str = options.option(
    "", "the encoder's shape, as JSON; a model directory has its own"
  )
  bert_config_file: str = options.option("", "instead, for BERT")
  init_checkpoint: str = options.option(
    "", "what to start from: a model directory, a checkpoint's prefix (a TF 1 "
    "one of google-research too) or a Hugging Face directory; without it "
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
  predict_batch_size: int = options.option(
    32, "texts a batch (google-research/albert: 8)", minimum=1
  )

  def __post_init__(self) -> None:
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
  # Everything that can be wrong with the rows is said before anything runs.
  settings = task_rows.settle(settings, settings.output_dir)
  rows = task_rows.Rows()
  if settings.do_train or settings.do_eval:
    validates = settings.do_train and recipe.validates
    rows = task_rows.labelled(settings, settings.do_train, validates)
  to_predict = task_rows.to_predict(settings) if settings.do_predict else ()
  if settings.do_train:
    folder = os.path.join(settings.output_dir, "model")
    _train(folder, settings, recipe, rows)
  else:
    folder = _trained(settings)
  if not (settings.do_eval or settings.do_predict):
    return {}
  predictor = classifier.Predictor.load(folder)
  results = _evaluate(settings, predictor, rows) if settings.do_eval else {}
  if settings.do_predict:
    _predict(settings, predictor, to_predict)
  return results


def _train(
  folder: str,
  settings: Options,
  recipe: fine_tuning.Recipe,
  rows: task_rows.Rows,
) -> None:
  problem = problems.of_rows(settings.label_type, rows.train)
  problem.targets([*rows.validation, *rows.held_out])  # refuses unknown labels
  start = _start(settings, recipe.max_seq_length)
  data = fine_tuning.Data(rows.train, rows.validation, rows.held_out)
  fine_tuning.train(folder, settings.output_dir, recipe, start, problem, data)


def _trained(settings: Options) -> str:
  """The model directory of a run that does not train."""
  return settings.init_checkpoint or os.path.join(settings.output_dir, "model")


def _start(settings: Options, max_seq_length: int) -> fine_tuning.Start:
  """Finds configuration and tokenizer, by flag or in the model directory."""
  folder = settings.init_checkpoint
  config = initial_weights.settle_config(
    settings.albert_config_file, settings.bert_config_file, folder
  )
  tokenizer_file = settings.spm_model_file or (
    initial_weights.tokenizer_file(folder) if folder else ""
  )
  if not tokenizer_file:
    raise options.InputError(
      "--spm_model_file", f"none, nor a file in {folder!r}", "give it"
    )
  if folder:
    model_directory.require_one_tokenizer(
      {
        folder: initial_weights.tokenizer_hash(folder),
        tokenizer_file: storage.sha256(tokenizer_file),
      },
      "leave --spm_model_file out",
    )
  described = (
    manifest.find(model_directory.folder_of(folder)) if folder else None
  )
  lower = settings.do_lower_case or bool(
    described and described["parameters"].get("do_lower_case")
  )
  start = fine_tuning.Start(
    config,
    tokenization.Tokenizer(tokenizer_file, do_lower_case=lower),
    tokenizer_file,
    lower,
    folder,
  )
  _check_fit(start, max_seq_length)
  return start


def _check_fit(start: fine_tuning.Start, max_seq_length: int) -> None:
  if start.tokenizer.vocab_size != start.config.vocab_size:
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


def _evaluate(
  settings: Options,
  predictor: classifier.Predictor,
  rows: task_rows.Rows,
) -> dict[str, object]:
  """Writes eval_results.txt, report.txt and confusion_matrix.png."""
  classifier_data.check_known_labels(predictor.names, rows.held_out)
  texts = [fine_tuning.text_of(row) for row in rows.held_out]
  truth = [row.label for row in rows.held_out]
  scores = problems.log_softmax(
    predictor.logits(texts, settings.eval_batch_size)
  )
  predicted = [predictor.names[index] for index in scores.argmax(axis=1)]
  right = [predictor.names.index(label) for label in truth]
  loss = -float(scores[np.arange(len(right)), right].mean())
  results = _results(settings.task_name, loss, truth, predicted)
  results["global_step"] = predictor.manifest["counts"]["global_step"]
  out = settings.output_dir
  reports.write_eval_results(os.path.join(out, "eval_results.txt"), results)
  report = reports.write(
    os.path.join(out, "report.txt"),
    truth,
    predicted,
    predictor.names,
    _rival(predictor, rows),
  )
  reports.write_confusion_matrix(
    os.path.join(out, "confusion_matrix.png"), truth, predicted, predictor.names
  )
  logging.info("%s\n\n%s", os.path.join(out, "report.txt"), report)
  return results


def _results(
  task_name: str, loss: float, truth: Sequence[str], predicted: Sequence[str]
) -> dict[str, object]:
  """The lines of eval_results.txt, under the names of the predecessors.

  `loss` is the Estimator's mean over batches there, `eval_loss` the mean over
  rows; here both are the latter.
  """
  accuracy = reports.accuracy(truth, predicted)
  if task_name == "csv":
    return {"eval_accuracy": accuracy, "eval_loss": loss, "loss": loss}
  f1 = reports.positive_f1(truth, predicted)
  tweets = {"acc": accuracy, "f1": f1, "acc_and_f1": (accuracy + f1) / 2}
  return {"eval_loss": loss, "loss": loss, "tweetmn": tweets}


def _rival(
  predictor: classifier.Predictor, rows: task_rows.Rows
) -> list[str] | None:
  """Returns the baseline's labels, trained on the model's training rows."""
  if not rows.train:
    logging.warning("no training rows given: the report has no baseline")
    return None
  trained = predictor.manifest["inputs"].get("training_rows")
  if trained != classifier_data.fingerprint(rows.train):
    logging.warning(
      "the model was trained on other rows than those given: the baseline is "
      "not on the same footing, and evaluation rows may have been trained on"
    )
  return baseline.predictions(
    [row.text for row in rows.train],
    [row.label for row in rows.train],
    [row.text for row in rows.held_out],
  )


def _predict(
  settings: Options,
  predictor: classifier.Predictor,
  rows: Iterable[tuple[int, classifier_data.Row | tables.Bad]],
) -> None:
  """Writes predictions.tsv."""
  predictions.write(
    settings.output_dir, predictor, rows, settings.predict_batch_size
  )
