"""Records, arms and trainers of the benchmarks of pretraining.

An arm is a way to start and to train. pretraining_start compares arms;
pretraining_scaling runs an arm for several sizes and lengths.
"""

import dataclasses
import os
import pathlib

import tensorflow as tf

from albert_mn.models import configs, pretraining
from albert_mn.pretrain import corpus_start, inputs, trainer
from albert_mn.runtime import divergence, optimization, throughput
from data_prep.base import options
from data_prep.encoding import tokenization, tokenizer_training
from data_prep.files import storage
from data_prep.pretraining import pretraining_data

_ROOT = pathlib.Path(__file__).parent.parent
# Files of the shared folder and of the sample whose lines have no order.
_ISOLATED = {
  "common_voice",
  "hiphop_lyrics",
  "lingua",
  "lyrics_tugstugi",
  "ner_v1",
  "sigmorphon",
  "tatoeba",
  "tsendee_headlines",
}
# Share of the pieces that is masked, as in configs/albert_tiny.flags.
_BUDGET = 0.2


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the records, and the sequences of a step."""

  input_file: str = options.option(
    "",
    "Training records with dynamic masks, as glob patterns separated by "
    "commas. By default records are made of the shared texts or of the sample.",
  )
  eval_input_file: str = options.option(
    "",
    "Held-out records. Required with --input_file.",
  )
  vocab_size: int = options.option(
    8000,
    "Number of pieces of the tokenizer, if this program makes the records.",
    minimum=300,
  )
  batch_size: int = options.option(
    32, "Number of sequences in a step.", minimum=1
  )

  def check(self) -> None:
    if bool(self.input_file) != bool(self.eval_input_file):
      raise options.InputError(
        "both --input_file and --eval_input_file, or neither",
        "one of them",
        "give both",
      )


@dataclasses.dataclass(frozen=True)
class Arm:
  """One way to pretrain, compared with the others.

  Attributes:
    name: the name to print.
    initialization: the value of --initialization, "random" or "corpus".
    recipe: optimizer, rates and number of steps.
  """

  name: str
  initialization: str
  recipe: optimization.OptimizerOptions


@dataclasses.dataclass(frozen=True)
class Data:
  """The records and the tokenizer of all runs, and the sequences of a step.

  Attributes:
    training: the training records, which are masked anew at each step.
    held_out: the records for the evaluations.
    tokenizer: the tokenizer of both.
    batch_size: sequences of a step.
  """

  training: inputs.RecordSet
  held_out: inputs.RecordSet
  tokenizer: tokenization.Tokenizer
  batch_size: int

  def config(self, name: str) -> configs.AlbertConfig:
    """Returns a config of the folder configs, with the tokenizer's size."""
    path = str(_ROOT / "configs" / f"{name}.json")
    return dataclasses.replace(
      configs.AlbertConfig.from_file(path),
      vocab_size=self.tokenizer.vocab_size,
    )


# Peak learning rates that suit ALBERT-tiny. LAMB at 0.02 destroys weights from
# corpus statistics (docs/log.md, 2026-11-30).
COUNTED = {"muon": 1e-3, "adamw": 1e-3, "lamb": 2e-3}


def counted(optimizer: str, steps: int, learning_rate: float = 0.0) -> Arm:
  """Returns a recipe that starts from weights computed from corpus statistics.

  Args:
    optimizer: the name of the optimizer.
    steps: number of steps.
    learning_rate: the peak; 0 takes the peak that suits ALBERT-tiny.
  """
  rate = learning_rate or COUNTED[optimizer]
  recipe = optimization.OptimizerOptions(
    optimizer=optimizer,
    learning_rate=rate,
    num_train_steps=steps,
    num_warmup_steps=steps // 20,
  )
  return Arm(f"counted, {optimizer} {rate:g}", "corpus", recipe)


def records_of(settings: Options, folder: str) -> Data:
  """Returns the records that the options name, or makes records in `folder`."""
  train, held_out = settings.input_file, settings.eval_input_file
  if not train:
    _make_records(folder, settings.vocab_size)
    train, held_out = (
      os.path.join(folder, "records", f"{role}-*.tfrecord")
      for role in ("train", "eval")
    )
  training = inputs.masked_anew(inputs.record_set(train), _BUDGET)
  return Data(
    training,
    inputs.record_set(held_out),
    tokenization.Tokenizer.with_settings(
      training.tokenizer_file(),
      tokenization.Settings.of(training.parameters),
    ),
    settings.batch_size,
  )


def _make_records(folder: str, vocab_size: int) -> None:
  """Trains a tokenizer, and writes records of the texts to `folder`/records.

  The texts are those in $ALBERT_MN_SHARED/data/pretrain, or the sample.

  Args:
    folder: the folder for tokenizer and records.
    vocab_size: number of pieces of the tokenizer.
  """
  shared = os.environ.get("ALBERT_MN_SHARED")
  texts = (
    pathlib.Path(shared) / "data" / "pretrain"
    if shared
    else _ROOT / "sample" / "pretrain"
  )
  files = storage.matching(str(texts / "*.txt"))
  isolated = [f for f in files if pathlib.Path(f).stem in _ISOLATED]
  tokenizer = os.path.join(folder, "tokenizer")
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=",".join(files), output_dir=tokenizer, vocab_size=vocab_size
    )
  )
  pretraining_data.create(
    pretraining_data.Options(
      input_file=",".join(f for f in files if f not in isolated),
      isolated_lines_file=",".join(isolated),
      spm_model_file=os.path.join(tokenizer, tokenization.MODEL_NAME),
      output_dir=os.path.join(folder, "records"),
      max_seq_length=64,
      eval_fraction=0.02 if shared else 0.08,
      dupe_factor=2 if shared else 20,
      masking="dynamic",
      pack_sequences=True,
    )
  )


def prepared(
  arm: Arm, data: Data, config: configs.AlbertConfig, seed: int
) -> tuple[pretraining.PretrainingModel, trainer.Trainer]:
  """Returns (a new model with the initial weights of an arm, its trainer).

  The trainer has not trained any step yet.

  Args:
    arm: the initial weights, the optimizer and the rates.
    data: the records.
    config: the shape of the model.
    seed: the random seed.
  """
  model = pretraining.PretrainingModel(config, seed)
  if arm.initialization == "corpus":
    statistics = corpus_start.of_records(
      data.training, data.tokenizer, config, 1
    )
    corpus_start.assign(model, statistics, data.tokenizer.special, seed)
  watch = divergence.Watch()
  optimizer = optimization.create(arm.recipe, False, watch.scale)
  optimizer.build(model.trainable_variables)
  steps = trainer.Trainer(
    trainer.Learner(model, optimizer, watch),
    trainer.Steps(
      arm.recipe.num_train_steps, seed=seed, jit_compile=False, lean=True
    ),
    tf.distribute.get_strategy(),
    inputs.eval_dataset(data.held_out, inputs.Share(64)),
  )
  share = inputs.Share(data.batch_size)
  count = data.training.count()
  steps.train_dataset = inputs.train_dataset(
    data.training, count, share, seed, 0
  )
  steps.meter = throughput.Meter(_work(arm, data))
  return model, steps


def _work(arm: Arm, data: Data) -> throughput.Work:
  """Returns the sequences and positions of a step, for the log of the trainer.

  The number of floating-point operations in the result is 0: it is not needed.
  """
  return throughput.Work(
    steps=arm.recipe.num_train_steps,
    sequences=data.batch_size,
    positions=data.training.shape.max_seq_length,
    filled=None,
    examples=data.training.count(),
    flops=0.0,
    peak=0.0,
    input_seconds=0.0,
  )
