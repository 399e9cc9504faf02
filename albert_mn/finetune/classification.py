"""A classification run: reads the rows, trains, evaluates and predicts.

Training writes a model directory. Evaluation and prediction read that
directory, so the report describes the saved model.
"""

import dataclasses
import os

import tensorflow as tf
from absl import logging

from albert_mn.finetune import adaptation, fine_tuning, google_flags
from albert_mn.formats import foreign_configs, initial_weights, remote_weights
from albert_mn.inference import predictions
from albert_mn.models import (
  configs,
  model_directory,
  number_format,
  pooling,
  shipped,
)
from albert_mn.scoring import evaluation
from albert_mn.tasks import (
  classifier,
  ensembles,
  labelled_rows,
  problems,
  tagging,
  task_rows,
)
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import manifest, manifest_fields, ownership

# The value of --init_checkpoint that starts without pretrained weights.
NOTHING = "none"


@dataclasses.dataclass(frozen=True)
class Options(task_rows.Files, google_flags.ClassifierFlags):
  """Command-line options of run_classifier.py: actions, model and results.

  The names are those of google-research/albert's run_classifier.
  """

  do_train: bool = options.option(
    False,
    "Train a classifier on the training rows.",
  )
  do_eval: bool = options.option(
    False,
    "Evaluate the classifier on the evaluation rows, and compare the "
    "result with a baseline without a neural network.",
  )
  do_predict: bool = options.option(
    False,
    "Predict the labels of the rows to predict, and write predictions.tsv.",
  )
  output_dir: str = options.option(
    "",
    "Folder for the trained model, the reports and the predictions. Required.",
  )
  init_checkpoint: str = options.option(
    "",
    "Model to start from: a model directory, the prefix of a checkpoint "
    "(also of checkpoints of google-research and of tf-models), a TF Hub "
    "module, a Hugging Face directory, a file of PyTorch weights, or an archive "
    "of any of these; a local path, gs:// or https://. Without this flag, "
    "--do_train starts "
    "from the model of this repository, pretrained/albert_mn_tiny, if no "
    "flag names a config or a tokenizer; --do_eval and --do_predict use the "
    "classifier in --output_dir. none: --do_train starts from statistics of "
    "the texts (see --adapt_steps). Flags name both a config and a tokenizer, "
    "or neither. With neither, the shape is that of the repository's model, "
    "and so is the tokenizer, unless the texts have some 300,000 words or "
    "more: then a new tokenizer is trained on the texts.",
  )
  spm_model_file: str = options.option(
    "",
    "SentencePiece model that divides texts into pieces. Not needed if "
    "--init_checkpoint contains a tokenizer, as every model directory "
    "does.",
  )
  vocab_file: str = options.option(
    "",
    "File vocab.txt of a WordPiece tokenizer, for BERT models without a "
    "SentencePiece model. Ignored if --spm_model_file is given. Not needed "
    "if --init_checkpoint contains a tokenizer.",
  )
  albert_config_file: str = options.option(
    "",
    "JSON file with the shape of an ALBERT encoder, such as "
    "configs/albert_base.json. Not needed if --init_checkpoint "
    "contains a config, as every model directory does.",
  )
  bert_config_file: str = options.option(
    "",
    "JSON file with the shape of a BERT encoder, to fine-tune BERT and not "
    "ALBERT. Not needed if --init_checkpoint contains a config.",
  )
  gelu: str = foreign_configs.gelu_option()
  do_lower_case: bool = options.option(
    False,
    "Lower-case texts before the tokenizer. Not needed for model "
    "directories, which say whether to lower-case "
    "(google-research/albert: true).",
  )
  eval_batch_size: int = options.option(
    32,
    "Number of texts that an evaluation computes at once "
    "(google-research/albert: 8).",
    minimum=1,
  )
  predict_batch_size: int = options.option(
    32,
    "Number of texts that a prediction computes at once "
    "(google-research/albert: 8).",
    minimum=1,
  )
  predict_labels: int = options.option(
    0,
    "Number of labels that predictions.tsv lists for each row, the "
    "likeliest first. 0, or a number of all labels or more, lists all labels "
    "in a fixed order.",
    minimum=0,
  )
  num_seeds: int = options.option(
    1,
    "Number of trainings, with the seed of --random_seed and the seeds "
    "that follow. The report gives the mean and the standard deviation of "
    "the scores; the model of the first training is kept.",
    minimum=1,
  )
  ensemble: int = options.option(
    1,
    "Number of networks in the model directory, which are trained with "
    "consecutive seeds. The answer is the mean of the networks' logits. With N "
    "networks, training and prediction take N times as long. If validation "
    "rows are taken from the training rows, each network validates on another "
    "tenth.",
    minimum=1,
    maximum=ensembles.MOST,
  )
  compare_start: bool = options.option(
    False,
    "Train a second time, without pretrained weights, into "
    "OUTPUT_DIR/from_nothing, and report how much the pretrained weights "
    "improve the score.",
  )
  repair_normalization: bool = options.option(
    False,
    "Fine-tune, on text that keeps й and ё, a model that was pretrained "
    "on text without these two letters. Pieces that contain й or ё start "
    "untrained.",
  )

  def check(self) -> None:
    if not (self.do_train or self.do_eval or self.do_predict):
      raise options.InputError(
        "--do_train, --do_eval or --do_predict", "none", "say what to do"
      )
    options.require(self, "output_dir")
    if self.num_seeds > 1 and self.ensemble > 1:
      raise options.InputError(
        "one of --num_seeds and --ensemble",
        "both",
        "leave --num_seeds out: the report says how the networks differ",
      )
    if self.compare_start and not (self.do_train and self.do_eval):
      raise options.InputError(
        "--do_train and --do_eval with --compare_start",
        "one of them" if self.do_train or self.do_eval else "neither",
        "give both, or leave --compare_start out",
      )
    hub = self.albert_hub_module_handle
    if self.do_train and hub and not self._named():
      raise options.InputError(
        "a model to train",
        f"--albert_hub_module_handle={hub}",
        "download the TF Hub module, and give the folder as --init_checkpoint",
      )

  def _named(self) -> bool:
    """Returns whether a flag names weights, a config or a tokenizer."""
    return bool(
      self.init_checkpoint not in ("", NOTHING)
      or self.albert_config_file
      or self.bert_config_file
      or self.spm_model_file
      or self.vocab_file
    )

  def chooses_tokenizer(self) -> bool:
    """Returns whether a training may make its own tokenizer from the texts.

    That is so with --init_checkpoint=none, if no flag names a config or a
    tokenizer.
    """
    return self.init_checkpoint == NOTHING and not self._named()

  def settled(self) -> "Options":
    """Returns the options, with the model of this repository if none is named.

    The options are returned unchanged for a run that does not train, and if a
    flag names weights, a config or a tokenizer. With --init_checkpoint=none the
    repository's config and tokenizer are taken without its weights; the value
    "none" becomes "".

    Raises:
      options.InputError: when a model to train is needed, but no flag names one
        and the repository's model is missing.
    """
    given = "" if self.init_checkpoint == NOTHING else self.init_checkpoint
    settings = dataclasses.replace(self, init_checkpoint=given)
    if not self.do_train or self._named():
      return settings
    folder = shipped.model_path()
    if not folder:
      raise options.InputError(
        "a model to train",
        "none",
        "give --init_checkpoint, or --albert_config_file to begin from nothing",
      )
    if self.init_checkpoint == NOTHING:
      return dataclasses.replace(
        settings,
        albert_config_file=os.path.join(folder, configs.AlbertConfig.FILE),
        spm_model_file=model_directory.tokenizer_file(folder),
      )
    logging.info("starting from the model of this repository, %s", folder)
    return dataclasses.replace(settings, init_checkpoint=folder)


def run(
  settings: Options,
  recipe: fine_tuning.Recipe,
  adapting: adaptation.Options | None = None,
) -> dict[str, object]:
  """Trains, evaluates and predicts, as the options demand.

  Args:
    settings: the actions, the rows and the model.
    recipe: the options of the training.
    adapting: the options of the encoder's adaptation to the texts before
      training; None leaves the encoder unchanged.

  Returns:
    the content of eval_results.txt; {} without --do_eval.

  Raises:
    options.InputError: for wrong options or files, and when another program
      writes into the output folder.
  """
  with ownership.owning(settings.output_dir):
    return _run(settings, recipe, adapting)


def _run(
  settings: Options,
  recipe: fine_tuning.Recipe,
  adapting: adaptation.Options | None,
) -> dict[str, object]:
  """Trains, evaluates and predicts in an output folder that is locked already.

  Args:
    settings: the actions, the rows and the model.
    recipe: the options of the training.
    adapting: the options of the encoder's adaptation; None for no adaptation.

  Returns:
    the content of eval_results.txt; {} without --do_eval.
  """
  tf.config.experimental.enable_op_determinism()
  number_format.use(recipe.precision)
  own_tokenizer = settings.chooses_tokenizer()
  settings = settings.settled()
  settings = dataclasses.replace(
    settings, init_checkpoint=remote_weights.local(settings.init_checkpoint)
  )
  # All rows are checked before training starts.
  settings = task_rows.settle(settings, settings.output_dir)
  rows = labelled_rows.Rows()
  if settings.do_train or settings.do_eval:
    validates = settings.do_train and recipe.validates
    blends = settings.do_train and recipe.blends(settings.label_type)
    rows = task_rows.labelled(settings, settings.do_train, validates, blends)
  to_predict = task_rows.to_predict(settings) if settings.do_predict else ()
  reseeded: list[classifier.Predictor] = []
  from_nothing = None
  if settings.do_train:
    folder = os.path.join(settings.output_dir, "model")
    task = _task(settings, recipe, rows, adapting, own_tokenizer=own_tokenizer)
    _train(folder, settings.output_dir, recipe, task, settings.ensemble)
    reseeded = _other_seeds(settings, recipe, task)
    if settings.compare_start:
      from_nothing = _from_nothing(settings, recipe, rows, adapting)
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
      reseeded,
      from_nothing,
    )
  if settings.do_predict:
    predictions.write(
      settings.output_dir,
      predictor,
      to_predict,
      settings.predict_batch_size,
      settings.predict_labels,
    )
  return results


def load(folder: str) -> classifier.Predictor:
  """Returns the predictor of a model directory: a tagger's or a classifier's.

  Raises:
    options.InputError: when the directory is damaged or holds another kind of
      model.
  """
  described = manifest.find(folder) or {}
  if described.get("kind") == tagging.KIND:
    return tagging.TagPredictor.load(folder)
  return classifier.Predictor.load(folder)


def _check_pairs(settings: Options, predictor: classifier.Predictor) -> None:
  """Raises InputError if a model of pairs gets single texts, or vice versa.

  Args:
    settings: the options; --text_pair_column means that the rows are pairs.
    predictor: the model.
  """
  pairs = bool(
    manifest_fields.Parameters.of(predictor.manifest["parameters"]).text_pair
  )
  if pairs != bool(settings.text_pair_column):
    raise options.InputError(
      f"rows of {'two texts' if pairs else 'one text'}, as the model was "
      "trained on",
      f"--text_pair_column={settings.text_pair_column!r}",
      "name the column of the second texts" if pairs else "leave it out",
    )


@dataclasses.dataclass(frozen=True)
class _Task:
  """The problem, the initial model and the rows that all trainings share.

  Attributes:
    problem: the kind of prediction.
    start: the model from which the trainings start.
    data: the rows.
  """

  problem: problems.Problem
  start: fine_tuning.Start
  data: fine_tuning.Data


def _from_nothing(
  settings: Options,
  recipe: fine_tuning.Recipe,
  rows: labelled_rows.Rows,
  adapting: adaptation.Options | None,
) -> classifier.Predictor:
  """Trains the same task without pretrained weights, in `from_nothing`.

  Returns the predictor of the trained model, to compare with the model that
  began with pretrained weights.
  """
  run_folder = os.path.join(settings.output_dir, "from_nothing")
  folder = os.path.join(run_folder, "model")
  own_settings = dataclasses.replace(settings, output_dir=run_folder)
  task = _task(own_settings, recipe, rows, adapting, pretrained=False)
  _train(folder, run_folder, recipe, task, settings.ensemble)
  return load(folder)


def _task(
  settings: Options,
  recipe: fine_tuning.Recipe,
  rows: labelled_rows.Rows,
  adapting: adaptation.Options | None,
  pretrained: bool = True,
  own_tokenizer: bool = False,
) -> _Task:
  """Returns the problem, the initial model and the rows of all trainings.

  Options and rows are checked first. With `adapting`, the initial model is the
  encoder adapted to the texts.

  Args:
    settings: the actions, the rows and the model.
    recipe: the options of the training.
    rows: the labelled rows.
    adapting: the options of the encoder's adaptation; None for no adaptation.
    pretrained: whether to start from the weights of --init_checkpoint.
      Otherwise only its shape and its tokenizer are used.
    own_tokenizer: whether the adaptation trains a tokenizer on the texts, if
      these have 4 MB or more, and uses it in place of the named tokenizer.

  Raises:
    options.InputError: when options, rows and model do not fit each other.
  """
  problem = fine_tuning.problem_of(settings.label_type, rows.train)
  problem.check([*rows.validation, *rows.held_out])
  if settings.compare_start and not settings.init_checkpoint:
    raise options.InputError(
      "pretrained weights with --compare_start",
      "a start from nothing",
      "leave --compare_start out",
    )
  _check_recipe(settings, recipe, problem, adapting)
  start = _start(settings, recipe.max_seq_length)
  if not pretrained:
    start = dataclasses.replace(start, init_checkpoint="")
  data = fine_tuning.Data(
    rows.train,
    rows.validation,
    rows.held_out,
    task_rows.cleaning(settings),
    rows.validation_from_train,
  )
  if adapting:
    start = adaptation.adapted(
      settings.output_dir,
      adapting,
      recipe,
      start,
      # In an ensemble every row is a training row of some network.
      data if settings.ensemble == 1 else data.united(),
      settings.repair_normalization,
      own_tokenizer,
    )
  return _Task(problem, start, data)


def _check_recipe(
  settings: Options,
  recipe: fine_tuning.Recipe,
  problem: problems.Problem,
  adapting: adaptation.Options | None,
) -> None:
  """Raises InputError for training options that contradict each other.

  Contradictions are random weights in a frozen encoder, --calibrate for a
  regression, and --pooling or --long_text=head_tail for entities.
  """
  trained = settings.init_checkpoint or (adapting and adapting.steps(""))
  if recipe.freeze_encoder and not trained:
    raise options.InputError(
      "--init_checkpoint, whose encoder is to be frozen",
      "random weights",
      "give it, or leave --freeze_encoder out",
    )
  if recipe.calibrate and problem.TYPE == problems.REGRESSION:
    raise options.InputError(
      "--calibrate with labels, which have probabilities",
      f"--label_type={problem.TYPE}",
      "leave it out",
    )
  if problem.TYPE == problems.ENTITIES and recipe.pooling != pooling.CLS:
    raise options.InputError(
      "no --pooling for entities, whose head reads every position",
      f"--pooling={recipe.pooling}",
      "leave it out",
    )
  if problem.TYPE == problems.ENTITIES:
    tagging.check(recipe.long_text)


def _other_seeds(
  settings: Options, recipe: fine_tuning.Recipe, task: _Task
) -> list[classifier.Predictor]:
  """Repeats the training with the further seeds that --num_seeds asks for.

  The training with the seed N writes into the folder seed_N. Returns the
  predictors, in the order of the seeds; [] if --num_seeds is 1.
  """
  predictors = []
  for number in range(1, settings.num_seeds):
    seed = (recipe.random_seed + number) % options.SEEDS
    run_folder = os.path.join(settings.output_dir, f"seed_{seed}")
    folder = os.path.join(run_folder, "model")
    again = dataclasses.replace(recipe, random_seed=seed)
    _train(folder, run_folder, again, task)
    predictors.append(load(folder))
  return predictors


def _train(
  folder: str,
  run_folder: str,
  recipe: fine_tuning.Recipe,
  task: _Task,
  networks: int = 1,
) -> None:
  """Trains, or resumes a training, and writes a model directory.

  Args:
    folder: the model directory.
    run_folder: the folder for checkpoints and run.json.
    recipe: the options of the training.
    task: the problem, the initial model and the rows.
    networks: number of networks in the model directory.
  """
  fine_tuning.train(
    folder, run_folder, recipe, task.start, task.problem, task.data, networks
  )


def _trained(settings: Options) -> str:
  """Returns the path of the model that a run without --do_train reads.

  The path is --init_checkpoint, or without that flag `model` in the output
  folder.
  """
  return settings.init_checkpoint or os.path.join(settings.output_dir, "model")


def _start(settings: Options, max_seq_length: int) -> fine_tuning.Start:
  """Returns the config, tokenizer and initial weights of the training.

  The config and the tokenizer come from the flags that name them, or without
  such flags from --init_checkpoint.

  Raises:
    options.InputError: when config or tokenizer is missing, or they do not fit
      each other or --max_seq_length.
  """
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
  """Returns the settings by which a text is normalised before the tokenizer.

  With --init_checkpoint they are the settings with which the model was
  pretrained, changed by --do_lower_case and --repair_normalization; a line is
  logged on them. Without --init_checkpoint, --do_lower_case alone decides: it
  lower-cases texts, and for WordPiece also strips marks.
  """
  given = tokenization.Settings(settings.do_lower_case)
  if not settings.init_checkpoint:
    strip = given.do_lower_case and tokenization.is_wordpiece(tokenizer_file)
    return dataclasses.replace(given, strip_accents=strip)
  text = initial_weights.text_settings(
    settings.init_checkpoint, tokenizer_file, config
  )
  if settings.repair_normalization:
    text = text.repaired()
  logging.info("before the tokenizer: %s", text.described())
  lower = text.settings.do_lower_case or settings.do_lower_case
  return dataclasses.replace(text.settings, do_lower_case=lower)


def _check_fit(start: fine_tuning.Start, max_seq_length: int) -> None:
  """Raises InputError if config, tokenizer and length do not fit each other.

  The config must have the tokenizer's number of pieces. It may have more if the
  tokenizer lies beside --init_checkpoint. The length must be at most the
  config's max_position_embeddings.
  """
  size = start.tokenizer.vocab_size
  # Other projects pad the embedding table with rows that no piece uses.
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
