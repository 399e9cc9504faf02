"""A classification task from rows to results: train, evaluate, predict.

Training writes a model directory, and evaluation and prediction read one: what
is reported is what was saved.
"""

import collections
import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from albert_mn import (
  baseline,
  classifier,
  configs,
  fine_tuning,
  initial_weights,
  remote_weights,
  reports,
)
from data_prep import (
  classifier_data,
  options,
  storage,
  tokenization,
)


@dataclasses.dataclass(frozen=True)
class Options:
  """What to classify, from which model to start, where the results go.

  The names are those of google-research/albert's run_classifier.
  """

  task_name: str = options.option(
    "csv",
    "csv: any .csv or .tsv by column name; tweetmn: text and label 0 or 1",
    choices=("csv", "tweetmn"),
  )
  data_dir: str = options.option(
    "", "a folder with train.tsv and, where there are, dev.tsv, test.tsv"
  )
  train_file: str = options.option("", "training rows, instead of --data_dir")
  eval_file: str = options.option(
    "", "rows to evaluate on; without any, a tenth of the training rows is "
    "held out by the hash of the text"
  )  # fmt: skip
  predict_file: str = options.option("", "rows to predict")
  text_column: str = options.option("text", "header of the texts (csv)")
  label_column: str = options.option("label", "header of the labels (csv)")
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
  init_checkpoint: str = options.option(
    "", "what to start from: a model directory, a checkpoint's prefix (a TF 1 "
    "one of google-research too), a Hugging Face directory or a file of "
    "PyTorch's weights; local, gs:// or https://; without it "
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


@dataclasses.dataclass(frozen=True)
class Rows:
  """The labelled rows of a run; `held_out` may be all there is."""

  train: list[classifier_data.Row]
  held_out: list[classifier_data.Row]


def run(settings: Options, recipe: fine_tuning.Recipe) -> dict[str, object]:
  """Trains, evaluates, predicts as the flags say; returns the results."""
  tf.config.experimental.enable_op_determinism()
  settings = dataclasses.replace(
    settings, init_checkpoint=remote_weights.local(settings.init_checkpoint)
  )
  # Everything that can be wrong with the rows is said before anything runs.
  rows = _labelled_rows(settings)
  to_predict = _rows_to_predict(settings) if settings.do_predict else []
  if settings.do_train:
    folder = os.path.join(settings.output_dir, "model")
    start = _start(settings, recipe.max_seq_length)
    fine_tuning.train(
      folder, settings.output_dir, recipe, start, rows.train, rows.held_out
    )
  else:
    folder = _trained(settings)
  if not (settings.do_eval or settings.do_predict):
    return {}
  predictor = classifier.Predictor.load(folder)
  results = _evaluate(settings, predictor, rows) if settings.do_eval else {}
  if settings.do_predict:
    _predict(settings, predictor, to_predict)
  return results


def _trained(settings: Options) -> str:
  """The model directory of a run that does not train."""
  return settings.init_checkpoint or os.path.join(settings.output_dir, "model")


def _labelled_rows(settings: Options) -> Rows:
  """Reads and checks what training and evaluation need."""
  if not (settings.do_train or settings.do_eval):
    return Rows([], [])
  train_file = settings.train_file or _in_data_dir(settings, "train")
  eval_file = settings.eval_file or _in_data_dir(settings, "dev")
  if not train_file and (settings.do_train or not eval_file):
    raise options.InputError(
      "training rows" if settings.do_train else "rows to evaluate on",
      f"no train.tsv in {settings.data_dir!r}" if settings.data_dir else "none",
      "give --data_dir, or --train_file and --eval_file",
    )
  train = _read(settings, train_file) if train_file else []
  if train:
    classifier_data.check_several_labels(train)
  if not eval_file:
    return Rows(*classifier_data.split(train))
  held_out = _read(settings, eval_file)
  if train:
    _check_given_split(train, held_out)
  return Rows(train, held_out)


def _in_data_dir(settings: Options, name: str) -> str:
  """The file `name`.tsv or .csv of --data_dir, or ""."""
  for suffix in (".tsv", ".csv"):
    path = os.path.join(settings.data_dir, name + suffix)
    if settings.data_dir and storage.exists(path):
      return path
  return ""


def _read(settings: Options, path: str) -> list[classifier_data.Row]:
  if settings.task_name == "tweetmn":
    return classifier_data.read_tweets(path)
  return classifier_data.read(path, settings.text_column, settings.label_column)


def _check_given_split(
  train: Sequence[classifier_data.Row],
  held_out: Sequence[classifier_data.Row],
) -> None:
  classifier_data.check_known_labels(
    classifier_data.label_names(train), held_out
  )
  counts = collections.Counter(row.label for row in train)
  once = sorted(name for name, count in counts.items() if count == 1)
  if once:
    logging.warning(
      "labels with a single training row, hardly learnable: %s", once
    )
  seen = {classifier_data.text_key(row.text) for row in train}
  copies = sum(classifier_data.text_key(row.text) in seen for row in held_out)
  if copies:
    logging.warning(
      "%d of %d evaluation texts are also training texts: the score flatters",
      copies,
      len(held_out),
    )


def _rows_to_predict(settings: Options) -> list[classifier_data.Row]:
  path = settings.predict_file or _in_data_dir(settings, "test")
  if not path:
    raise options.InputError(
      "rows to predict",
      "none",
      "give --predict_file, or test.tsv in --data_dir",
    )
  if settings.task_name == "tweetmn":
    return classifier_data.read_tweet_texts(path)
  return classifier_data.read_texts(path, settings.text_column)


def _start(settings: Options, max_seq_length: int) -> fine_tuning.Start:
  """Finds configuration and tokenizer, by flag or in the model directory."""
  folder = settings.init_checkpoint
  config = initial_weights.settle_config(
    settings.albert_config_file, settings.bert_config_file, folder
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


def _evaluate(
  settings: Options, predictor: classifier.Predictor, rows: Rows
) -> dict[str, object]:
  """Writes eval_results.txt, report.txt and confusion_matrix.png."""
  classifier_data.check_known_labels(predictor.names, rows.held_out)
  texts = [row.text for row in rows.held_out]
  truth = [row.label for row in rows.held_out]
  predictor.report_cut(texts)
  scores = classifier.log_softmax(
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


def _rival(predictor: classifier.Predictor, rows: Rows) -> list[str] | None:
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
  rows: Sequence[classifier_data.Row],
) -> None:
  """Writes predictions.tsv."""
  texts = [row.text for row in rows]
  predictor.report_cut(texts)
  path = os.path.join(settings.output_dir, "predictions.tsv")
  reports.write_predictions(
    path,
    [row.line for row in rows],
    texts,
    predictor.names,
    predictor.probabilities(texts, settings.predict_batch_size),
  )
  logging.info("%d predictions in %s", len(texts), path)
