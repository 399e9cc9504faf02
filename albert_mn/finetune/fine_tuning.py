"""Fine-tuning: epochs, validation, restarts, and the model directory.

Row order and dropout are functions of (seed, step), and every checkpoint holds
the optimizer's slots. So a run that was killed and started again ends with the
same weights as an uninterrupted run.
"""

import abc
import dataclasses
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from albert_mn.finetune import (
  answers,
  best_weights,
  classifier_step,
  layer_rates,
  linear_heads,
)
from albert_mn.formats import initial_weights
from albert_mn.models import configs, model_directory, number_format, pooling
from albert_mn.runtime import checkpoints, optimization, runs
from albert_mn.scoring import degenerate_runs
from albert_mn.tasks import (
  blend,
  classifier,
  ensembles,
  problems,
  tagging,
  task_rows,
)
from data_prep.base import options
from data_prep.classification import classifier_data, classifier_splits
from data_prep.encoding import framing, length_buckets, tokenization
from data_prep.files import manifest_fields, storage

# Number added to the seed for each restart; --num_seeds takes the next seeds.
_RESTART = 1_000_003
# The rows are divided into at least this many parts; each network of an
# ensemble validates on one part.
_FEWEST_PARTS = 10

FITTED, RANDOM = "fitted", "random"  # what a head begins with
# The value of an option that `Recipe.settled` replaces by a number.
_CHOSEN = -1.0
# BERT's rate and width (Devlin et al. 2019, appendix A.3). Narrower encoders
# need larger rates: good were 1e-4 to 3e-4 with 256 units, and 5e-4 to 1e-3
# with 128 units (docs/log.md, 2026-12-01). Random weights need larger rates too
# (guess).
_RATE, _WIDTH, _WIDTH_POWER = 5e-5, 768, 1.5
_RANDOM_RATIO, _LARGEST_RATE = 4.0, 1e-3
# A head above a frozen encoder is a linear model of a few thousand weights, for
# which this rate and this number of steps were good (docs/log.md, 2026-12-01).
_HEAD_RATE, _HEAD_STEPS, _MOST_HEAD_EPOCHS = 1e-2, 4000, 100
# Small sets need more epochs (Mosbach et al. 2021, arXiv 2006.04884, section
# 6).
_FEWEST_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 400, 3, 20


@dataclasses.dataclass(frozen=True)
class Recipe(options.Group):
  """Command-line options of fine-tuning: batches, epochs, rates and so on.

  The names are those of google-research/albert's run_classifier. Where a
  default differs from google-research's, the help text states both.
  """

  max_seq_length: int = options.option(
    framing.USUAL_LENGTH,
    "Number of pieces that the model reads of a text, special pieces "
    "included (google-research/albert: 512). A trained classifier reads "
    "as many as in training, whatever this flag says.",
    minimum=3,
    maximum=framing.LONGEST,
  )
  train_batch_size: int = options.option(
    16,
    "Number of texts in a training step (google-research/albert: 32).",
    minimum=1,
  )
  optimizer: str = options.option(
    "adamw",
    "Algorithm that updates the weights.",
    choices=("adamw", "lamb"),
  )
  learning_rate: float = options.option(
    _CHOSEN,
    "Peak of the learning rate. -1 chooses the rate by the width of the encoder: "
    "5e-5 for 768 units, 2.6e-4 for 256 units, and four times as much from random "
    "weights, at most 1e-3; with --freeze_encoder, if the head is trained in "
    "steps, 1e-2 (google-research/albert: 5e-5).",
    minimum=_CHOSEN,
  )
  num_train_epochs: float = options.option(
    _CHOSEN,
    "Number of passes through the training rows, if --train_step is 0. -1 "
    f"chooses a number that gives {_FEWEST_STEPS} steps, but from "
    f"{_FEWEST_EPOCHS} to {_MOST_EPOCHS} passes; with --freeze_encoder, "
    f"if the head is trained in steps, {_HEAD_STEPS} steps in at most "
    f"{_MOST_HEAD_EPOCHS} passes. "
    "google-research/albert counts steps, with --train_step.",
    minimum=_CHOSEN,
    maximum=1e6,
  )
  warmup_proportion: float = options.option(
    0.1,
    "Share of the training steps in which the learning rate rises from 0, "
    "if --warmup_step is -1.",
    minimum=0.0,
    maximum=1.0,
  )
  train_step: int = options.option(
    0,
    "Number of training steps. 0 trains for --num_train_epochs "
    "(google-research/albert: 1000).",
    minimum=0,
  )
  warmup_step: int = options.option(
    -1,
    "Number of steps in which the learning rate rises from 0. -1 takes "
    "--warmup_proportion of the steps (google-research/albert: 0).",
    minimum=-1,
  )
  random_seed: int = options.option(
    12345,
    "Seed of the initial weights of the head, the order of the rows, and "
    "dropout.",
    minimum=0,
    maximum=options.SEEDS - 1,
  )
  layer_decay: float = options.option(
    1.0,
    "Ratio of the learning rate of a group of layers to the rate of the "
    "next group towards the head. The pooler and the head have the full "
    "rate, the embeddings the lowest. The layers of an ALBERT with one "
    "group count as one (ELECTRA: 0.8; google-research/albert: 1).",
    minimum=0.0,
    maximum=1.0,
  )
  class_weights: str = options.option(
    "none",
    "Weight of the labels in the loss, and in the score that decides "
    "which weights are kept. none: every row weighs 1. balanced: every "
    "label weighs as much as any other, however rare.",
    choices=("none", "balanced"),
  )
  early_stopping_patience: int = options.option(
    0,
    "Number of epochs without a better score on the validation rows after "
    "which training stops. 0 never stops early. If no validation rows are "
    "named, a tenth of the training rows is for validation; evaluation rows "
    "never are.",
    minimum=0,
  )
  calibrate: bool = options.option(
    False,
    "Fit a temperature on the validation rows, and divide all scores by "
    "the temperature, so that probabilities match how often the model is "
    "right (Guo et al. 2017).",
  )
  max_restarts: int = options.option(
    2,
    "Number of times to start again, with another seed, after a training "
    "in which the model learnt nothing at all. A training that moved the "
    "weights too little is not repeated: another seed does not change that.",
    minimum=0,
  )
  gradient_accumulation_steps: int = options.option(
    1,
    "Number of parts into which a batch is divided to save memory. "
    "--train_batch_size must be a multiple of this number.",
    minimum=1,
  )
  precision: str = options.option(
    number_format.FLOAT32,
    "Number format of the layers. bfloat16 is for recent GPUs.",
    choices=number_format.FORMATS,
  )
  freeze_encoder: bool = options.option(
    False,
    "Train the head alone, and leave the encoder as in --init_checkpoint, or "
    "as statistics of the texts initialized the weights. The encoder then reads "
    "every text only once. Unless a rate or a number of epochs is named, or the "
    "labels are entities, L-BFGS finds the best head.",
  )
  head_start: str = options.option(
    FITTED,
    "Weights with which the head begins, if the encoder is trained and does not "
    "begin from random weights. fitted: a linear model, fitted by L-BFGS to the "
    "encoder's vectors of the training rows (Kumar et al. 2022). random: small "
    "random numbers (google-research/albert). The head for entities begins from "
    "random numbers.",
    choices=(FITTED, RANDOM),
  )
  long_text: str = options.option(
    framing.HEAD,
    "What to read of a text with more pieces than --max_seq_length. head: "
    "the beginning. head_tail: a quarter from the beginning, the rest "
    "from the end. windows: everything, in windows that overlap by half; "
    "the scores of the windows are averaged.",
    choices=framing.LONG_TEXTS,
  )
  pooling: str = options.option(
    pooling.CLS,
    "Vector of a text that the head reads. cls: the position of [CLS], through "
    "the pooler of the encoder. mean: the mean over all positions. max: the "
    "largest value of each unit over all positions.",
    choices=pooling.KINDS,
  )
  word_dropout: float = options.option(
    0.0,
    "Share of the words that each training step hides behind [MASK].",
    minimum=0.0,
    under=1.0,
  )
  blend: str = options.option(
    blend.AUTO,
    "Whether the TF-IDF baseline answers too. auto: the model directory "
    "answers with the network, the baseline or the sum of the "
    "log-probabilities of both, whichever has the least loss on the "
    "validation rows; if no validation rows are named, a tenth of at least "
    f"{task_rows.FEWEST_TO_SPARE} training rows is for validation. off: the "
    "network answers alone.",
    choices=blend.MODES,
  )

  def check(self) -> None:
    parts = self.gradient_accumulation_steps
    if self.train_batch_size % parts:
      raise options.InputError(
        "a --train_batch_size that --gradient_accumulation_steps divides",
        f"{self.train_batch_size} and {parts}",
        f"give --train_batch_size={math.ceil(self.train_batch_size / parts) * parts}",
      )
    for name in ("learning_rate", "num_train_epochs"):
      value = getattr(self, name)
      if _CHOSEN < value < 0:
        raise options.InputError(
          f"--{name} of at least 0, or -1",
          f"{value}",
          "give -1 to have it chosen",
        )
    if self.train_step:
      self.warmup_steps(self.train_step)  # raises if the warm-up is too long
    if self.word_dropout and self.freeze_encoder:
      raise options.InputError(
        "one of --word_dropout and --freeze_encoder",
        "both: a frozen encoder reads every text once, with all its words",
        "leave one out",
      )

  @property
  def validates(self) -> bool:
    """Whether early stopping or calibration needs validation rows."""
    return bool(self.early_stopping_patience or self.calibrate)

  def blends(self, label_type: str) -> bool:
    """Returns whether the TF-IDF baseline may be blended with the network.

    That is so with --blend=auto, except for entities.

    Args:
      label_type: the kind of the labels.
    """
    return self.blend == blend.AUTO and label_type != problems.ENTITIES

  def fits_head(self, label_type: str) -> bool:
    """Returns whether the head is fitted by L-BFGS, and not trained in steps.

    That is so with a frozen encoder if neither a rate nor epochs nor steps are
    named, except for entities, whose head reads the vectors of all positions.
    """
    return (
      self.freeze_encoder
      and label_type != problems.ENTITIES
      and self.learning_rate == self.num_train_epochs == _CHOSEN
      and not self.train_step
    )

  def settled(
    self, width: int, rows: int, pretrained: bool, label_type: str
  ) -> "Recipe":
    """Returns the recipe with a learning rate and epochs in place of -1.

    The rate grows as the encoder gets narrower, and is four times as high for
    random weights, at most 1e-3. The epochs are the fewest with 400 steps, but
    from 3 to 20. With a frozen encoder, the rate is 1e-2, and the epochs are
    the fewest with 4,000 steps, but from 3 to 100. A rate or a number of epochs
    other than -1 is kept. A recipe by which the head is fitted has neither, and is
    returned unchanged.

    Args:
      width: the hidden size of the encoder.
      rows: number of training rows.
      pretrained: whether the encoder begins from the weights of a model.
      label_type: the kind of the labels.
    """
    if self.fits_head(label_type):
      return self
    chosen, steps, most = _HEAD_RATE, _HEAD_STEPS, _MOST_HEAD_EPOCHS
    if not self.freeze_encoder:
      chosen = _tuning_rate(width, pretrained)
      steps, most = _FEWEST_STEPS, _MOST_EPOCHS
    rate, epochs = self.learning_rate, self.num_train_epochs
    if rate == _CHOSEN:
      rate = chosen
    if epochs == _CHOSEN:
      enough = math.ceil(steps / self.steps_per_epoch(rows))
      epochs = float(np.clip(enough, _FEWEST_EPOCHS, most))
    return dataclasses.replace(
      self, learning_rate=rate, num_train_epochs=epochs
    )

  def restarted(self, restart: int) -> "Recipe":
    """Returns the same options with the seed of a restart.

    Args:
      restart: number of the restart; 0 keeps the seed.
    """
    return self.reseeded(restart * _RESTART)

  def reseeded(self, number: int) -> "Recipe":
    """Returns the recipe with a number added to the seed.

    Network n of an ensemble, from 0, has the recipe `reseeded(n)`.

    Args:
      number: the number to add, at least 0.
    """
    seed = (self.random_seed + number) % options.SEEDS
    return dataclasses.replace(self, random_seed=seed)

  def steps_per_epoch(self, inputs: int) -> int:
    """Returns the number of steps in an epoch, the padded last batch included.

    Args:
      inputs: number of training inputs; a text in windows is several inputs.
    """
    return math.ceil(inputs / self.train_batch_size)

  def total_steps(self, inputs: int) -> int:
    """Returns the number of training steps, at least 1.

    The number is --train_step; if that is 0, it is the number of steps in all
    epochs, rounded.

    Args:
      inputs: number of training inputs; a text in windows is several inputs.
    """
    by_epochs = round(self.steps_per_epoch(inputs) * self.num_train_epochs)
    return self.train_step or max(1, by_epochs)

  def warmup_steps(self, total: int) -> int:
    """Returns the number of steps in which the learning rate rises.

    The number is --warmup_step; if that is -1, it is --warmup_proportion of
    `total`, rounded down.

    Args:
      total: the number of training steps.

    Raises:
      options.InputError: when --warmup_step is above `total`.
    """
    if self.warmup_step < 0:
      return int(total * self.warmup_proportion)
    if self.warmup_step > total:
      raise options.InputError(
        f"--warmup_step of at most {total}, the number of training steps",
        f"{self.warmup_step}",
        "give a smaller --warmup_step, or train for longer",
      )
    return self.warmup_step


def _tuning_rate(width: int, pretrained: bool) -> float:
  """Returns the learning rate for a training that changes the encoder too.

  Args:
    width: the hidden size of the encoder.
    pretrained: whether the encoder begins from the weights of a model.
  """
  rate = _RATE * (_WIDTH / width) ** _WIDTH_POWER
  rate *= 1 if pretrained else _RANDOM_RATIO
  return float(f"{min(rate, _LARGEST_RATE):.2g}")


@dataclasses.dataclass(frozen=True)
class Start:
  """The model from which a training starts.

  Attributes:
    config: the encoder's shape.
    tokenizer: the tokenizer in `tokenizer_file`.
    tokenizer_file: the file that is copied into the model directory.
    init_checkpoint: the initial weights, in a form that initial_weights reads;
      "" for random weights.
    parameters, inputs: entries for the manifest that tell how the initial
      weights were made.
  """

  config: configs.AlbertConfig
  tokenizer: tokenization.Tokenizer
  tokenizer_file: str
  init_checkpoint: str
  parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Data:
  """The rows of a training, by purpose.

  Attributes:
    train: rows to train on.
    validation: rows whose score decides which weights are kept; may be empty.
    held_out: evaluation rows. The training logs their number and, without
      validation rows, their score; it does not use them otherwise.
    cleaning: how the texts were cleaned, for the manifest; texts to predict are
      cleaned in the same way.
    validation_from_train: whether the validation rows were taken from the training rows.
  """

  train: Sequence[classifier_data.Row]
  validation: Sequence[classifier_data.Row] = ()
  held_out: Sequence[classifier_data.Row] = ()
  cleaning: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  validation_from_train: bool = False

  @property
  def learnable(self) -> list[classifier_data.Row]:
    """All rows from which a model may learn, in the order of their file.

    These are the training rows, and also the validation rows if they were taken
    from the training rows.
    """
    taken = self.validation if self.validation_from_train else ()
    return sorted([*self.train, *taken], key=lambda row: row.line)

  def united(self) -> "Data":
    """Returns the data with all learnable rows as training rows.

    Validation rows from a separate file remain validation rows.
    """
    if not self.validation_from_train:
      return self
    return dataclasses.replace(self, train=self.learnable, validation=())

  def for_networks(self, label_type: str, networks: int) -> list["Data"]:
    """Returns the rows on which each network of an ensemble is trained.

    If the validation rows were taken from the training rows, the networks share
    all these rows, and each network validates on another part of them, a tenth
    or less, and trains on the rest. So most networks learn from each row, and
    the blend is chosen on more rows. Copies of a text are all in one part. In
    other cases, and if there are too few texts, each network gets the same
    rows.

    Args:
      label_type: the kind of the labels; each part gets about the same share of
        each label.
      networks: the number of networks.
    """
    if networks == 1 or not self.validation_from_train:
      return [self] * networks
    rows = self.learnable
    strata = classifier_splits.strata(rows, label_type)
    parts = classifier_splits.parts(rows, strata, max(networks, _FEWEST_PARTS))
    if not all(parts):
      return [self] * networks
    return [
      dataclasses.replace(
        self,
        train=[row for index, row in enumerate(rows) if index not in part],
        validation=[row for index, row in enumerate(rows) if index in part],
      )
      for part in parts[:networks]
    ]

  def fingerprints(self) -> dict[str, str]:
    """Returns "training_rows" and "validation_rows" → hash of these rows.

    Without rows, a name is missing. Manifests and run.json contain the hashes.
    """
    every = {"training_rows": self.train, "validation_rows": self.validation}
    return {
      name: classifier_data.fingerprint(rows)
      for name, rows in every.items()
      if rows
    }


def training_batches(
  examples: problems.Examples, recipe: Recipe, first: int, last: int
) -> Iterator[tuple[int, length_buckets.Batch]]:
  """Yields (step, batch) for the steps from `first` to `last` - 1.

  The batch of a step is a function of (seed, step). Every epoch contains every
  input once.
  """
  per_epoch = recipe.steps_per_epoch(len(examples.encoded))
  for epoch in range(first // per_epoch, math.ceil(last / per_epoch)):
    batches = length_buckets.batches(
      examples.encoded,
      recipe.train_batch_size,
      recipe.max_seq_length,
      examples.pad_id,
      np.random.default_rng([recipe.random_seed, epoch]),
      examples.second_starts,
    )
    for step, batch in enumerate(batches, start=epoch * per_epoch):
      if first <= step < last:
        yield step, batch


def without_words(
  ids: np.ndarray,
  share: float,
  tokenizer: tokenization.Tokenizer,
  draw: np.random.Generator,
) -> np.ndarray:
  """Returns ids in which all pieces of randomly chosen words are [MASK].

  Args:
    ids: int32 [rows, length]; special pieces are kept.
    share: the probability that a word is replaced.
    tokenizer: the tokenizer of the ids.
    draw: random generator that chooses the words.
  """
  special = tokenizer.special.copy()
  special[tokenizer.unk_id] = False
  kept = special[ids]
  words = np.cumsum(tokenizer.word_starts[ids] | kept, axis=1) - 1
  drawn = draw.random(ids.shape) < share
  hidden = np.take_along_axis(drawn, np.maximum(words, 0), axis=1) & ~kept
  return np.where(hidden, np.int32(tokenizer.mask_id), ids)


def train(
  folder: str,
  output_dir: str,
  recipe: Recipe,
  start: Start,
  problem: problems.Problem,
  data: Data,
  networks: int = 1,
) -> None:
  """Fine-tunes, or resumes a training, and writes the model directory.

  Args:
    folder: the model directory.
    output_dir: the run directory, for `checkpoints/` and `run.json`.
    recipe: the options of the training.
    start: the initial model.
    problem: the kind of prediction, made from the training rows.
    data: the rows.
    networks: number of networks to train, with consecutive seeds; the model
      directory answers with the mean of their logits. The run directory of each
      network after the first is `network_N` in `output_dir`.

  Raises:
    options.InputError: when the initial model does not fit, when `output_dir`
      holds a run with other settings, or when the loss is not finite.
  """
  recipe = recipe.settled(
    start.config.hidden_size,
    len(data.train),
    bool(start.init_checkpoint),
    problem.TYPE,
  )
  datasets = data.for_networks(problem.TYPE, networks)
  if datasets[0] is not data:
    data = data.united()
  origin = dict(start.inputs)
  if start.init_checkpoint:
    identity = initial_weights.identity(start.init_checkpoint)
    origin = {"init_checkpoint": identity} | origin
  framer = framing.Framer(
    start.tokenizer,
    recipe.max_seq_length,
    recipe.long_text,
    remembered=sum(map(len, (data.train, data.validation, data.held_out))),
  )
  learnt = [
    _learnt(
      os.path.join(output_dir, *([f"network_{number}"] * bool(number))),
      recipe.reseeded(number),
      start,
      problem,
      rows,
      framer,
      rows.fingerprints() | origin,
    )
    for number, rows in enumerate(datasets)
  ]
  loops = [loop for loop, _, _ in learnt]
  verdict = next(filter(None, (verdict for _, _, verdict in learnt)), None)
  evidence = _evidence(problem, datasets, loops, recipe)
  calibrated = (
    {"temperature": evidence.temperature()} if recipe.calibrate else {}
  )
  tfidf_blend = None
  if recipe.blend != blend.OFF:
    temperature = calibrated.get("temperature", 1.0)
    tfidf_blend = evidence.blended(data.learnable, temperature)
  model_directory.save(
    folder,
    predictor_of(problem).KIND,
    config=start.config,
    parts=ensembles.merged([loop.model.parts() for loop in loops]),
    tokenizer_file=start.tokenizer_file,
    parameters={
      **dataclasses.asdict(recipe),
      **({ensembles.PARAMETER: networks} if networks > 1 else {}),
      **start.parameters,
      **start.tokenizer.settings.parameters(),
      **manifest_fields.Parameters(
        cleaning=dict(data.cleaning),
        text_pair=any(row.text_pair for row in data.train),
      ).stated(),
      **problem.parameters(),
      **calibrated,
      **(tfidf_blend.parameters() if tfidf_blend else {}),
      **(verdict.parameters() if verdict else {}),
    },
    counts={
      **manifest_fields.Counts(global_step=loops[0].step()).stated(),
      "train_rows": len(data.train),
      "validation_rows": evidence.size,
      "held_out_rows": len(data.held_out),
      "restarts": sum(restarts for _, restarts, _ in learnt),
    },
    inputs=data.fingerprints() | origin,
    labels=problem.names,
    write_more=tfidf_blend.write if tfidf_blend else None,
  )


def _evidence(
  problem: problems.Problem,
  datasets: Sequence[Data],
  loops: Sequence["_Training"],
  recipe: Recipe,
) -> answers.Evidence:
  """Returns the rows on which temperature and blend of the networks are fitted.

  They are the validation rows of each network, from which that network did not
  learn. If all networks have the same validation rows, these are used once.

  Args:
    problem: the kind of prediction.
    datasets: the rows of each network.
    loops: the finished training of each network.
    recipe: the options of the training.
  """
  networks = [loop.judge.logits for loop in loops]
  if all(rows is datasets[0] for rows in datasets):
    parts = [
      answers.Unseen(datasets[0].train, datasets[0].validation, networks)
    ]
  else:
    parts = [
      answers.Unseen(rows.train, rows.validation, [network])
      for rows, network in zip(datasets, networks, strict=True)
    ]
  return answers.Evidence(problem, parts, recipe.class_weights == "balanced")


def _learnt(
  output_dir: str,
  recipe: Recipe,
  start: Start,
  problem: problems.Problem,
  data: Data,
  framer: framing.Framer,
  origin: Mapping[str, str],
) -> tuple["_Training", int, degenerate_runs.Verdict | None]:
  """Trains a network, and restarts with other seeds while it learns nothing.

  There are at most --max_restarts restarts. Whether a model has learnt depends
  only on the initial and final weights of a training, so a run that was killed
  restarts in the same way.

  Args:
    output_dir: the run directory, for `checkpoints/` and `run.json`.
    recipe: the options of the training.
    start: the initial model.
    problem: the kind of prediction.
    data: the rows.
    framer: makes inputs from texts.
    origin: entries for run.json that identify the rows and the initial weights.

  Returns:
    the last training, the number of restarts, and the verdict on the last
      training, which is None if the model has learnt.
  """
  for restart in range(recipe.max_restarts + 1):
    attempt = recipe.restarted(restart)
    folder = os.path.join(output_dir, *([f"restart_{restart}"] * bool(restart)))
    settings = _settings(attempt, start, problem) | dict(origin)
    kind = _FittedHead if attempt.fits_head(problem.TYPE) else _Loop
    loop = kind(_Job(folder, attempt, start, problem, data, framer, settings))
    loop.run()
    verdict = loop.verdict()
    if not verdict:
      break
    again = restart < recipe.max_restarts and verdict.another_seed_may_do
    logging.warning(
      "DEGENERATE RUN: %s %s",
      verdict.summary,
      f"Beginning again with seed {recipe.restarted(restart + 1).random_seed}"
      if again
      else "This model is of no use",
    )
    if not again:
      break
  return loop, restart, verdict


def _settings(
  recipe: Recipe, start: Start, problem: problems.Problem
) -> dict[str, Any]:
  """Returns the settings on which the final weights depend, for run.json.

  The caller adds hashes of the rows and the initial weights. A setting without
  effect in this run is None.
  """
  return {
    "init_checkpoint": None,
    "standardised_by": None,
    **dataclasses.asdict(recipe),
    "config": dataclasses.asdict(start.config),
    "tokenizer": storage.sha256(start.tokenizer_file),
    **dataclasses.asdict(start.tokenizer.settings),
    **problem.parameters(),
  }


def _examples(
  framer: framing.Framer,
  recipe: Recipe,
  problem: problems.Problem,
  rows: Sequence[classifier_data.Row],
) -> tuple[framing.Framed, problems.Examples]:
  """Returns (framed inputs of training rows, their Examples).

  The weights in Examples are multiplied by the weights of --class_weights. The
  number of texts that are longer than the model reads is logged.
  """
  framed, examples = problem.examples(framer, rows)
  length = recipe.max_seq_length
  if summary := framed.counts(length).summary(length):
    logging.info("training rows: %s", summary)
  if recipe.class_weights == "balanced":
    weights = examples.weights * problem.weights(examples.targets)
    examples = dataclasses.replace(examples, weights=weights)
  return framed, examples


def problem_of(
  label_type: str, rows: Sequence[classifier_data.Row]
) -> problems.Problem:
  """Returns the problem whose labels are those of the training rows.

  Raises:
    options.InputError: when the rows have too few labels to learn from.
  """
  if label_type == problems.ENTITIES:
    return tagging.Tagging.of(rows)
  return problems.of_rows(label_type, rows)


def predictor_of(problem: problems.Problem) -> type[classifier.Predictor]:
  """Returns TagPredictor for entities, and Predictor for any other problem."""
  if problem.TYPE == problems.ENTITIES:
    return tagging.TagPredictor
  return classifier.Predictor


class _Judge:
  """Scores a fixed set of rows with the current weights of a model in training.

  Args:
    predictor: the predictor of the model in training.
    rows: the rows to score.
    frozen: whether the encoder is frozen; then its outputs are computed once
      and stored.
    balanced: whether the score gives each label the same weight, as the loss
      does. Accuracy would prefer weights that ignore rare labels.

  Attributes:
    targets: the targets of the rows.
    score_name: the name of the score.
  """

  def __init__(
    self,
    predictor: classifier.Predictor,
    rows: Sequence[classifier_data.Row],
    frozen: bool,
    balanced: bool = False,
  ) -> None:
    self._predictor, self._rows, self._balanced = predictor, rows, balanced
    self.score_name = "mean recall" if balanced else predictor.problem.SCORE
    self._texts = [problems.text_of(row) for row in rows]
    self._features = predictor.features(self._texts) if frozen else None
    self.targets = predictor.targets(rows)

  def logits(self) -> np.ndarray:
    """Returns logits of the rows by the current weights, [rows, outputs]."""
    if self._features is None:
      return self._predictor.logits(self._texts)
    model = self._predictor.model
    assert isinstance(model, classifier.Classifier), "trained one by one"
    return model.head(tf.constant(self._features)).numpy()

  def score_and_loss(self) -> tuple[float, float]:
    """Returns (score, mean loss) of the rows with the current weights.

    The score is the mean recall if labels are balanced, else `Problem.SCORE`.
    """
    logits, problem = self.logits(), self._predictor.problem
    loss = problem.mean_loss(logits, self.targets)
    if self._balanced:
      return problem.mean_recall(logits, self.targets), loss
    return self._predictor.score(logits, self._rows), loss


def _initial_model(
  recipe: Recipe, start: Start, problem: problems.Problem
) -> classifier.Classifier:
  """Returns a new classifier with the initial weights of a training.

  The encoder's weights are those of the initial model, if there is one; all
  other weights are random.

  Args:
    recipe: its seed gives the random weights, its pooling the head's input.
    start: the initial model.
    problem: its outputs are the head's.
  """
  model = predictor_of(problem).MODEL(
    start.config,
    len(problem.names),
    recipe.random_seed,
    pooled_by=recipe.pooling,
  )
  if start.init_checkpoint:
    initial_weights.load(start.init_checkpoint, {"encoder": model.encoder})
  return model


@dataclasses.dataclass(frozen=True)
class _Job:
  """All that decides a training.

  Attributes:
    output_dir: the run directory of this training.
    recipe: the options of the training.
    start: the initial model.
    problem: the kind of prediction.
    data: the rows.
    framer: makes inputs from texts.
    settings: the settings for run.json.
  """

  output_dir: str
  recipe: Recipe
  start: Start
  problem: problems.Problem
  data: Data
  framer: framing.Framer
  settings: Mapping[str, Any]


class _Training(abc.ABC):
  """A model, the rows from which it learns, and the judge of its answers.

  Args:
    job: all that decides the training.

  Attributes:
    model: the model; after `run` it has learnt.
    judge: scores the validation rows, or the held-out rows if there are no
      validation rows.

  Raises:
    options.InputError: when the initial weights do not fit.
  """

  def __init__(self, job: _Job) -> None:
    self._job, self._recipe = job, job.recipe
    self.model = _initial_model(job.recipe, job.start, job.problem)
    self._predictor = predictor_of(job.problem)(
      self.model, job.framer, job.problem
    )
    self._framed, self._examples = _examples(
      job.framer, job.recipe, job.problem, job.data.train
    )
    # A tagger's head reads all positions, which take too much memory to store.
    self._stores_vectors = (
      job.recipe.freeze_encoder and job.problem.TYPE != problems.ENTITIES
    )
    self.judge = _Judge(
      self._predictor,
      job.data.validation or job.data.held_out,
      self._stores_vectors,
      job.recipe.class_weights == "balanced",
    )

  @abc.abstractmethod
  def step(self) -> int:
    """Returns the number of training steps taken so far."""

  @abc.abstractmethod
  def run(self) -> None:
    """Trains the model to the end.

    Raises:
      options.InputError: when the mean loss of an epoch is not finite.
    """

  @abc.abstractmethod
  def verdict(self) -> degenerate_runs.Verdict | None:
    """Returns the verdict on a finished training; None if it has learnt."""

  def _vectors(self) -> np.ndarray:
    """Returns the pooled vectors of the training inputs, [inputs, hidden]."""
    return self._predictor.features_of(self._framed)

  def _fit_head(self) -> None:
    """Assigns the head that fits the vectors of the training inputs."""
    kernel, bias = linear_heads.fitted(
      self._job.problem,
      self._vectors(),
      self._examples.targets,
      self._examples.weights,
    )
    self.model.classifier.kernel.assign(kernel)
    self.model.classifier.bias.assign(bias)

  def _remember(self, begun: bool) -> None:
    """Writes run.json.

    Args:
      begun: whether settings in an existing run.json must be the same.

    Raises:
      options.InputError: when run.json holds other settings.
    """
    usual = dataclasses.asdict(tokenization.Settings())
    runs.remember(
      self._job.output_dir, self._job.settings, begun=begun, implied=usual
    )


class _FittedHead(_Training):
  """A training without steps: the encoder stays, and the head is fitted.

  There is no checkpoint: a fit that was killed begins again, and takes seconds.

  Args:
    job: all that decides the training. Its recipe `fits_head`.

  Raises:
    options.InputError: when the run directory holds a run with other settings,
      or the initial weights do not fit.
  """

  def __init__(self, job: _Job) -> None:
    super().__init__(job)
    self._remember(begun=True)

  def step(self) -> int:
    """Returns 0, the number of training steps."""
    return 0

  def run(self) -> None:
    """Fits the head to the vectors of the training rows."""
    self._fit_head()
    score, loss = self.judge.score_and_loss()
    logging.info(
      "the head is fitted to %d inputs; on rows to judge by: loss %.3f, %s %.3f",
      len(self._examples.weights),
      loss,
      self.judge.score_name,
      score,
    )

  def verdict(self) -> None:
    """Returns None: a fit to the optimum needs neither a rate nor luck."""


class _Loop(_Training):
  """A training in steps, with a checkpoint and a log line after each epoch.

  The constructor writes run.json. If the run directory holds a checkpoint of
  the same training, the object restores it, and `run` continues from there.

  Args:
    job: all that decides the training.

  Raises:
    options.InputError: when the run directory holds a run with other settings,
      or the initial weights do not fit.
  """

  def __init__(self, job: _Job) -> None:
    super().__init__(job)
    recipe, data = job.recipe, job.data
    inputs = len(self._examples.encoded)
    self._per_epoch = recipe.steps_per_epoch(inputs)
    self._total = recipe.total_steps(inputs)
    self._optimizer = optimization.create(
      _optimizer_options(recipe, self._total),
      factors=layer_rates.factors(self.model, recipe.layer_decay),
    )
    self._step = classifier_step.Step(
      self.model,
      self._optimizer,
      job.problem,
      recipe.random_seed,
      recipe.gradient_accumulation_steps,
      recipe.freeze_encoder,
      self._vectors() if self._stores_vectors else None,
    )
    parts = {"optimizer": self._optimizer, **self.model.parts()}
    self._best = None
    # A tenth of the rows is too small to tell good epochs apart: without
    # patience, the last weights are kept (docs/log.md, 2026-12-01).
    if data.validation and (
      recipe.early_stopping_patience or not data.validation_from_train
    ):
      self._best = best_weights.Best(
        self.model.trainable_variables, recipe.early_stopping_patience
      )
      parts["best"] = self._best
    self._checkpoints = checkpoints.Checkpoints(job.output_dir, parts, keep=2)
    begun = bool(self._checkpoints.steps())
    self._remember(begun)
    if not begun and self._fits_head_first():
      self._fit_head()
    self._checkpoints.restore()

  def _fits_head_first(self) -> bool:
    """Returns whether the head begins as a linear model of the first vectors."""
    return (
      self._recipe.head_start == FITTED
      and not self._recipe.freeze_encoder
      and bool(self._job.start.init_checkpoint)
      and self._job.problem.TYPE != problems.ENTITIES
    )

  def step(self) -> int:
    """Returns the number of training steps taken so far."""
    return int(self._optimizer.iterations)

  def run(self) -> None:
    """Trains from the restored step to the last step.

    At the end the model gets the weights with the best validation score, if
    such weights are kept; otherwise it keeps its last weights. If the restored
    step is the last, no step is taken.

    Raises:
      options.InputError: when the mean loss of an epoch is not finite.
    """
    first = self.step()
    if first >= self._total or self._stops():
      logging.info("already at step %d: nothing to train", first)
    else:
      self._train(first)
    if self._best:
      self._best.restore()

  def _stops(self) -> bool:
    """Returns whether early stopping ends the training now."""
    return self._best is not None and self._best.stops()

  def _train(self, first: int) -> None:
    """Trains from step `first` to the last step, or until early stopping."""
    logging.info(
      "learning rate %g, %g epochs, batches of %d",
      self._recipe.learning_rate,
      self._recipe.num_train_epochs,
      self._recipe.train_batch_size,
    )
    logging.info(
      "training on %d rows, %d for validation, %d held out: steps %d to %d, "
      "%d an epoch",
      len(self._job.data.train),
      len(self._job.data.validation),
      len(self._job.data.held_out),
      first,
      self._total,
      self._per_epoch,
    )
    began, losses = time.monotonic(), []
    for step, batch in training_batches(
      self._examples, self._recipe, first, self._total
    ):
      if self._recipe.word_dropout:
        batch = self._hidden(batch, step)
      losses.append(float(self._step(batch, self._examples)))
      done = step + 1
      pace = (time.monotonic() - began) / (done - first)
      left = runs.clock(pace * (self._total - done))
      if done - first > 20:  # the first steps include compilation
        logging.log_every_n_seconds(
          logging.INFO, "step %d of %d, %s left", 30, done, self._total, left
        )
      if done % self._per_epoch == 0 or done == self._total:
        self._end_epoch(done, losses, left)
        losses = []
        if self._stops():
          logging.info(
            "no better score in --early_stopping_patience epochs: training ends"
          )
          return

  def _hidden(
    self, batch: length_buckets.Batch, step: int
  ) -> length_buckets.Batch:
    """Returns the batch with the pieces of random words replaced by [MASK].

    The words are a function of (seed, step).
    """
    recipe = self._recipe
    # The three numbers make this random stream differ from that of the row
    # order, whose seed is two numbers.
    draw = np.random.default_rng([recipe.random_seed, step, 1])
    ids = without_words(
      batch.input_ids, recipe.word_dropout, self._job.start.tokenizer, draw
    )
    return dataclasses.replace(batch, input_ids=ids)

  def _end_epoch(self, done: int, losses: Sequence[float], left: str) -> None:
    """Scores the model, saves a checkpoint, and logs the results of an epoch.

    Args:
      done: number of steps taken so far.
      losses: the losses of the epoch's steps.
      left: the estimated time to the end, for the log line.

    Raises:
      options.InputError: when the mean of the losses is not finite.
    """
    loss = sum(losses) / len(losses)
    if not math.isfinite(loss):
      raise options.InputError(
        "a finite loss",
        f"{loss} by step {done}",
        "start again in another --output_dir with a smaller rate, such as "
        f"--learning_rate={self._recipe.learning_rate / 10:.1g}",
      )
    score, judged = self.judge.score_and_loss()
    better = self._best is not None and self._best.take(score, judged)
    self._checkpoints.save()
    logging.info(
      "epoch %.3g of %.3g: loss %.3f; %s: loss %.3f, %s %.3f%s; %s left",
      done / self._per_epoch,
      self._total / self._per_epoch,
      loss,
      "validation" if self._job.data.validation else "evaluation rows",
      judged,
      self.judge.score_name,
      score,
      " (the best so far)" if better else "",
      left,
    )

  def verdict(self) -> degenerate_runs.Verdict | None:
    """Returns the verdict on a finished training; None if the model has learnt.

    None is also the result for a training of fewer than 50 steps or of less
    than an epoch, which is too short to judge, and for a learning rate of 0.
    """
    recipe = self._recipe
    long = self.step() >= max(degenerate_runs.FEWEST_STEPS, self._per_epoch)
    if not (long and recipe.learning_rate):
      return None
    rows = self._job.data.train[
      :: -(-len(self._job.data.train) // degenerate_runs.ROWS)
    ]
    judge = _Judge(self._predictor, rows, frozen=False)
    weights = None
    if recipe.class_weights == "balanced":
      weights = self._job.problem.weights(judge.targets)
    seen = degenerate_runs.finding(
      self._job.problem, judge.logits(), judge.targets, weights
    )
    if not seen:
      return None
    steps = degenerate_runs.Steps(
      recipe.learning_rate, recipe.optimizer, recipe.freeze_encoder
    )
    return degenerate_runs.verdict(seen, self._moved(), steps)

  def _moved(self) -> float:
    """Returns the relative change of the weights: ‖last − initial‖ / ‖initial‖.

    The last weights are compared, not the best. The initial weights are
    computed again, so that a resumed run can compare with them too.
    """
    if self._best:
      self._checkpoints.restore()
    begun, ended = (
      [
        variable.numpy()
        for variable in classifier_step.trained(
          model, self._recipe.freeze_encoder
        )
      ]
      for model in (
        _initial_model(self._recipe, self._job.start, self._job.problem),
        self.model,
      )
    )
    if self._best:
      self._best.restore()
    return degenerate_runs.movement(begun, ended)


def _optimizer_options(
  recipe: Recipe, total_steps: int
) -> optimization.OptimizerOptions:
  """Returns the optimizer's options that follow from a fine-tuning recipe.

  Args:
    recipe: the options of the training, without a value of -1 for rate or
      epochs.
    total_steps: number of training steps.
  """
  return optimization.OptimizerOptions(
    optimizer=recipe.optimizer,
    learning_rate=recipe.learning_rate,
    num_train_steps=total_steps,
    num_warmup_steps=recipe.warmup_steps(total_steps),
  )
