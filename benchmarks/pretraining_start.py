"""Compares the loss per CPU time of initial weights and optimizers.

    ALBERT_MN_SHARED=../shared taskset -c 0 python -m benchmarks.pretraining_start

Without --input_file the program makes records of the texts in
$ALBERT_MN_SHARED/data/pretrain, or of the sample. First it trains ALBERT-tiny
by the recipe in use until 2026-11-30: from random weights, by LAMB, for 3,000
steps. Then it trains the same model on the same records from weights computed
from corpus statistics, for far fewer steps: by Muon for each number of
--new_steps, by AdamW and LAMB for the largest number. All runs are evaluated on
the same held-out examples. The CPU time includes the statistics and the tracing
of the graph, and excludes the evaluations.

The last lines state, for each kind of run, at what share of the old recipe's
CPU time the fastest run ended that reached the old recipe's loss.
"""

import dataclasses
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator

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
_STEPS_OF_OLD_RECIPE = 3000


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the records, the model and the length of the runs."""

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
  model: str = options.option(
    "albert_tiny",
    "Name of a config in the folder configs.",
  )
  steps: int = options.option(
    _STEPS_OF_OLD_RECIPE,
    "Number of steps of the old recipe. 0 leaves the old recipe out.",
    minimum=0,
  )
  new_steps: str = options.option(
    "100,200,400",
    "Numbers of steps of the runs from corpus statistics. Each number is a "
    "separate run with a separate schedule. AdamW and LAMB only run for the "
    "largest number.",
  )
  batch_size: int = options.option(
    32, "Number of sequences in a step.", minimum=1
  )
  seeds: int = options.option(
    1, "Number of seeds of each run from corpus statistics.", minimum=1
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
    initialization: "random" or "corpus".
    recipe: optimizer, rates and number of steps.
  """

  name: str
  initialization: str
  recipe: optimization.OptimizerOptions


@dataclasses.dataclass(frozen=True)
class Point:
  """One evaluation of a run.

  Attributes:
    step: number of steps taken.
    seconds: CPU seconds so far, without those of the evaluations.
    loss: held-out masked-LM loss.
  """

  step: int
  seconds: float
  loss: float


@dataclasses.dataclass(frozen=True)
class Data:
  """The records and the tokenizer of all runs.

  Attributes:
    training: the training records, which are masked anew at each step.
    held_out: the records for the evaluations.
    tokenizer: the tokenizer of both.
  """

  training: inputs.RecordSet
  held_out: inputs.RecordSet
  tokenizer: tokenization.Tokenizer


# Peak learning rates that suit ALBERT-tiny. LAMB at 0.02 destroys weights from
# corpus statistics (docs/log.md, 2026-11-30).
_COUNTED = {"muon": 1e-3, "adamw": 1e-3, "lamb": 2e-3}


def old_recipe(steps: int) -> Arm:
  """Returns the recipe of ALBERT-tiny until 2026-11-30: random start, LAMB.

  Args:
    steps: number of steps.
  """
  recipe = optimization.OptimizerOptions(
    optimizer="lamb",
    learning_rate=0.02,
    num_train_steps=steps,
    num_warmup_steps=min(100, steps // 10),
  )
  return Arm("random, lamb 0.02 (old)", "random", recipe)


def counted(optimizer: str, steps: int, learning_rate: float = 0.0) -> Arm:
  """Returns a recipe that starts from weights computed from corpus statistics.

  Args:
    optimizer: the name of the optimizer.
    steps: number of steps.
    learning_rate: the peak; 0 takes the peak that suits ALBERT-tiny.
  """
  rate = learning_rate or _COUNTED[optimizer]
  recipe = optimization.OptimizerOptions(
    optimizer=optimizer,
    learning_rate=rate,
    num_train_steps=steps,
    num_warmup_steps=steps // 20,
  )
  return Arm(f"counted, {optimizer} {rate:g}", "corpus", recipe)


def main(settings: Options) -> None:
  """Prints the losses of all runs, and the ratios of their CPU times."""
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  with tempfile.TemporaryDirectory() as folder:
    data = records_of(settings, folder)
    config = dataclasses.replace(
      configs.AlbertConfig.from_file(
        str(_ROOT / "configs" / f"{settings.model}.json")
      ),
      vocab_size=data.tokenizer.vocab_size,
    )
    print(f"{'run':28} {'seed':>4} {'step':>6} {'CPU-s':>7} {'loss':>7}")
    old = None
    if settings.steps:
      old = list(run(old_recipe(settings.steps), data, config, settings, 0))[-1]
    reached = _new_runs(data, config, settings)
  if old:
    _print_ratios(old, reached)


def _new_runs(
  data: Data, config: configs.AlbertConfig, settings: Options
) -> dict[str, list[Point]]:
  """Trains all arms that start from corpus statistics; returns their ends.

  Returns:
    name of an arm → the last point of each of its runs.
  """
  ends: dict[str, list[Point]] = {}
  lengths = sorted(map(int, settings.new_steps.split(",")))
  for optimizer in _COUNTED:
    for steps in lengths if optimizer == "muon" else lengths[-1:]:
      arm = counted(optimizer, steps)
      for seed in range(settings.seeds):
        *_, last = run(arm, data, config, settings, seed)
        ends.setdefault(arm.name, []).append(last)
  return ends


def _print_ratios(old: Point, ends: dict[str, list[Point]]) -> None:
  """Prints, for each arm, the fastest run that ends at the old recipe's loss.

  If no run ends at that loss or a lower one, "not reached" is printed.

  Args:
    old: the last point of the old recipe.
    ends: name → the last points of the runs of an arm.
  """
  print(f"the old recipe: loss {old.loss:.3f} after {old.seconds:.0f} CPU-s")
  for name, points in ends.items():
    good = [p for p in points if p.loss <= old.loss]
    if not good:
      print(f"{name}: not reached")
      continue
    best = min(good, key=lambda p: p.seconds)
    print(
      f"{name}: loss {best.loss:.3f} after {best.seconds:.0f} CPU-s, "
      f"1/{old.seconds / best.seconds:.1f} of the time "
      "(at least 1/6, aim 1/15)"
    )


def records_of(settings: Options, folder: str) -> Data:
  """Returns the records that the options name, or records made in `folder`."""
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
  )


def _make_records(folder: str, vocab_size: int) -> None:
  """Trains a tokenizer on the texts; writes records to `folder`/records."""
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


def run(
  arm: Arm,
  data: Data,
  config: configs.AlbertConfig,
  settings: Options,
  seed: int,
) -> Iterator[Point]:
  """Trains an arm with a seed; prints and yields a Point at each quarter."""
  total = arm.recipe.num_train_steps
  spent, began = 0.0, time.process_time()
  _model, steps = prepared(arm, data, config, settings, seed)
  step = 0
  for until in sorted({total * quarter // 4 for quarter in (1, 2, 3, 4)}):
    if until > step:
      steps.train(tf.constant(until - step))
      step = until
    spent += time.process_time() - began
    metrics = steps.evaluate(tf.constant(-1))
    point = Point(step, spent, float(metrics["masked_lm_loss"]))
    print(
      f"{arm.name:28} {seed:>4} {step:>6} {spent:>7.1f} {point.loss:>7.3f}",
      flush=True,
    )
    yield point
    began = time.process_time()


def prepared(
  arm: Arm,
  data: Data,
  config: configs.AlbertConfig,
  settings: Options,
  seed: int,
) -> tuple[pretraining.PretrainingModel, trainer.Trainer]:
  """Returns (a model with the initial weights of an arm, its trainer).

  Nothing has been trained yet.
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
  share = inputs.Share(settings.batch_size)
  count = data.training.count()
  steps.train_dataset = inputs.train_dataset(
    data.training, count, share, seed, 0
  )
  steps.meter = throughput.Meter(_work(arm, data, settings))
  return model, steps


def _work(arm: Arm, data: Data, settings: Options) -> throughput.Work:
  """Returns the work of a step for the log; its operations are set to 0."""
  return throughput.Work(
    steps=arm.recipe.num_train_steps,
    sequences=settings.batch_size,
    positions=data.training.shape.max_seq_length,
    filled=None,
    examples=data.training.count(),
    flops=0.0,
    peak=0.0,
    input_seconds=0.0,
  )


if __name__ == "__main__":
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  options.run(main, Options)
