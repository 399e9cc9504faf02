"""Plans a pretraining run: which size, how many steps, and the loss to expect.

The speed of the machine and the hours decide how many sequences each size can
read; albert_mn/runtime/scaling.py predicts its loss. The size with the lowest
expected loss is chosen, or a larger one that reads enough for its weights.
"""

import dataclasses
import math
import shlex

from albert_mn.models import configs
from albert_mn.runtime import scaling, throughput
from data_prep.base import options
from data_prep.files import storage

_CHOSEN = "auto"  # value of --size: the size with the lowest expected loss
SIZES = (
  "albert_tiny",
  "albert_mn_tiny",
  "albert_mini",
  "albert_small",
  "albert_base",
)
_HOUR = 3600.0
# Share of the time that is left for the steps; evaluations and checkpoints take
# the rest (guess).
_SHARE_OF_STEPS = 0.95
# Beyond this many passes more of them are worth next to nothing (Muennighoff et
# al. 2023).
_MOST_EPOCHS = 40
_GOOD_EPOCHS = 4  # up to here a repeated sequence is nearly worth a new one
# Batches grow beyond the measured one so that a run has at most this many steps
# (guess: the recipe of albert_small).
_MOST_STEPS = 40_000
_LARGEST_BATCH = 4096  # that of ALBERT's paper
_FEWEST_STEPS = 20
# Pieces to read for each weight of the layers, from which on a larger size is
# taken whatever the fit of short runs says (Hoffmann et al. 2022, table 3).
_PIECES_A_WEIGHT = 20
_WARMUP_SHARE = 20  # one step in twenty, as in the measured runs


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options of the planner: the time, the text and the machine."""

  hours: float = options.option(
    0.0,
    "Hours that the whole pretraining run may take on this machine. Required.",
    minimum=0.0,
    maximum=1e5,
  )
  words: int = options.option(
    0,
    "Number of words of the training text. Required.",
    minimum=0,
    maximum=10**12,
  )
  vocab_size: int = options.option(
    scaling.VOCAB_SIZE,
    "Number of pieces of the tokenizer.",
    minimum=300,
    maximum=1 << 20,
  )
  flops: float = options.option(
    0.0,
    "Floating-point operations a second that the matrix products of the "
    "machine or accelerator reach. 0 measures this machine in a second.",
    minimum=0.0,
  )
  size: str = options.option(
    _CHOSEN,
    "Config to plan for. auto: the one with the lowest expected loss.",
    choices=(_CHOSEN, *SIZES),
  )
  config_file: str = options.option(
    "",
    "File to write: the JSON config of the chosen size with the vocabulary "
    "size of the tokenizer.",
  )

  def check(self) -> None:
    options.require(self, "hours", "words")


@dataclasses.dataclass(frozen=True)
class Plan:
  """A pretraining run of one size that fits into the given hours.

  Attributes:
    size: name of the config.
    config: the model's shape, with the vocabulary size of the text's tokenizer.
    pace: sequences per second.
    batch: sequences per step.
    steps: number of steps.
    rate: peak learning rate.
    epochs: passes over the text.
    worth: the number of new sequences that are worth as much as all sequences
      that the run reads: a repeated sequence counts less than a new one.
    expected: the predicted loss.
    beyond: sentences on the ways in which the run differs from the measured
      runs.
  """

  size: str
  config: configs.AlbertConfig
  pace: float
  batch: int
  steps: int
  rate: float
  epochs: float
  worth: float
  expected: scaling.Prediction
  beyond: tuple[str, ...]

  @property
  def warmup(self) -> int:
    """The number of warm-up steps."""
    return self.steps // _WARMUP_SHARE

  @property
  def pieces_a_weight(self) -> float:
    """The pieces that the run reads, per weight of the layers.

    A repeated sequence counts less than a new one.
    """
    weights = scaling.applied_weights(self.config)
    return self.worth * scaling.LENGTH / weights


def planned(settings: Options) -> list[Plan]:
  """Returns a plan for each size that --size allows, the best plan first.

  Raises:
    options.InputError: when the time is too short for all of these sizes.
  """
  speed = settings.flops or throughput.matrix_speed()
  sizes = SIZES if settings.size == _CHOSEN else (settings.size,)
  plans = [_plan(size, settings, speed) for size in sizes]
  possible = [plan for plan in plans if plan.steps >= _FEWEST_STEPS]
  if not possible:
    raise options.InputError(
      f"time and text for at least {_FEWEST_STEPS} steps",
      f"--hours={settings.hours:g} and --words={settings.words}, enough for "
      f"{max(plan.steps for plan in plans)}",
      "give more hours, more text or a smaller size",
    )
  best = _best(possible)
  return [best, *(plan for plan in possible if plan != best)]


def _plan(size: str, settings: Options, speed: float) -> Plan:
  """Returns the plan for one size.

  Args:
    size: name of the config.
    settings: the time and the text.
    speed: speed of the machine's matrix products, in FLOPs per second.
  """
  config = scaling.shape(size, settings.vocab_size)
  pace = speed * scaling.share_of_peak(size) / scaling.flops(config, 1)
  unique = scaling.sequences_of(settings.words, settings.vocab_size)
  seconds = settings.hours * _HOUR * _SHARE_OF_STEPS - scaling.PREPARATION
  sequences = int(min(max(0, seconds) * pace, unique * _MOST_EPOCHS))
  batch = _batch(sequences)
  steps = sequences // batch
  worth = scaling.effective(steps * batch, unique)
  return Plan(
    size=size,
    config=config,
    pace=pace,
    batch=batch,
    steps=steps,
    rate=scaling.RATE * math.sqrt(batch / scaling.BATCH),
    epochs=steps * batch / unique,
    worth=worth,
    expected=_expected(config, worth),
    beyond=tuple(_beyond(size, settings, steps * batch)),
  )


def _expected(config: configs.AlbertConfig, worth: float) -> scaling.Prediction:
  """Returns the loss that the fit predicts for a model.

  The loss of a word is assumed not to depend on the vocabulary.

  Args:
    config: the model's shape.
    worth: the number of new sequences that are worth as much as those that the
      model reads.
  """
  measured = scaling.pieces_per_word(scaling.VOCAB_SIZE)
  scale = measured / scaling.pieces_per_word(config.vocab_size)
  return scaling.fit().predict(config, worth).times(scale)


def _best(plans: list[Plan]) -> Plan:
  """Returns the plan to recommend.

  This is the plan with the lowest expected loss, or a plan of a larger size
  that reads enough pieces for its weights: the measured runs were too short to
  show the gain from depth.

  Args:
    plans: the plans of all sizes.
  """
  fitted = min(plans, key=lambda plan: plan.expected.loss)
  enough = [plan for plan in plans if plan.pieces_a_weight >= _PIECES_A_WEIGHT]
  return max(
    [fitted, *enough], key=lambda plan: scaling.applied_weights(plan.config)
  )


def _batch(sequences: int) -> int:
  """Returns the number of sequences per step.

  The measured batch is doubled until the run has at most _MOST_STEPS steps, but
  not beyond _LARGEST_BATCH; then a long run has more steps.

  Args:
    sequences: number of sequences of the whole run.
  """
  batch = scaling.BATCH
  while sequences > batch * _MOST_STEPS and batch < _LARGEST_BATCH:
    batch *= 2
  return batch


def _beyond(size: str, settings: Options, sequences: int) -> list[str]:
  """Returns phrases on the ways in which a run differs from the measured runs.

  Args:
    size: name of the config.
    settings: the time and the text.
    sequences: number of sequences that the run reads.
  """
  reasons = []
  runs = (*scaling.RUNS, scaling.UNSEEN)
  everything = [run.sequences for run in runs]
  measured = [run.sequences for run in runs if run.config == size]
  if not measured:
    reasons.append(f"no run of {size} was measured")
  most, fewest = max(measured or everything), min(measured or everything)
  if sequences > most:
    reasons.append(f"{sequences / most:,.1f} times the longest measured run")
  if sequences < fewest:
    reasons.append("shorter than the shortest measured run")
  if settings.vocab_size != scaling.VOCAB_SIZE:
    reasons.append(
      f"{scaling.VOCAB_SIZE:,} pieces were measured; the loss of a word is "
      f"taken to be the same with {settings.vocab_size:,}"
    )
  if not 0.5 < settings.words / scaling.WORDS < 2:
    reasons.append(f"the measured text had {scaling.WORDS:,} words")
  return reasons


def command(plan: Plan, config_file: str) -> str:
  """Returns the shell command that makes the planned run.

  Args:
    plan: the run.
    config_file: path of its config.
  """
  flags = [
    "--do_train",
    "--do_eval",
    "--input_file=records/train-*",
    "--eval_input_file=records/eval-*",
    f"--albert_config_file={config_file}",
    "--output_dir=run",
    f"--masked_lm_budget={scaling.MASKED}",
    "--initialization=corpus",
    "--optimizer=muon",
    f"--learning_rate={plan.rate:.3g}",
    f"--train_batch_size={plan.batch}",
    f"--num_train_steps={plan.steps}",
    f"--num_warmup_steps={plan.warmup}",
    f"--save_checkpoints_steps={max(1, plan.steps // 4)}",
    "--nojit_compile",
  ]
  return shlex.join(["python", "run_pretraining.py", *flags])


def page(settings: Options, plans: list[Plan]) -> str:
  """Returns the text that the planner prints: a table of plans, and a command.

  The command makes the run of the best plan.

  Args:
    settings: the time and the text.
    plans: the result of `planned`, the best plan first.
  """
  best = plans[0]
  path = settings.config_file or f"configs/{best.size}.json"
  level = f"{scaling.LEVEL:.0%}".replace("%", " %")
  rows = [
    f"{'size':14}{'seq/s':>9}{'batch':>7}{'steps':>11}{'epochs':>8}  "
    f"loss ({level})"
  ]
  rows += [_row(plan) for plan in sorted(plans, key=_place)]
  lines = [
    *rows,
    "",
    f"{best.size}: {best.steps:,} steps of {best.batch} sequences of "
    f"{scaling.LENGTH} pieces, learning rate {best.rate:.3g}, "
    f"{best.epochs:.1f} epochs",
    f"expected masked_lm_loss {best.expected}, {level} of such runs",
    *_reason(plans),
    *(f"extrapolated: {reason}" for reason in best.beyond),
    *_warnings(best, settings),
    _checked(),
    "",
    command(best, path),
  ]
  return "\n".join(lines)


def _place(plan: Plan) -> int:
  """Returns the index of a plan's size in SIZES."""
  return SIZES.index(plan.size)


def _row(plan: Plan) -> str:
  """Returns a plan as a row of the table; * marks an extrapolation.

  A plan is an extrapolation if it is beyond the measured runs in some respect.
  """
  star = " *" if plan.beyond else ""
  return (
    f"{plan.size:14}{plan.pace:>9,.1f}{plan.batch:>7}{plan.steps:>11,}"
    f"{plan.epochs:>8.1f}  "
    f"{plan.expected}{star}"
  )


def _reason(plans: list[Plan]) -> list[str]:
  """Returns lines that explain why the best plan has not the lowest loss.

  The result is [] if it has.

  Args:
    plans: the plans, the best plan first.
  """
  best = plans[0]
  lowest = min(plans, key=lambda plan: plan.expected.loss)
  if best == lowest:
    return []
  return [
    f"taken before {lowest.size}, since it reads {best.pieces_a_weight:.0f} "
    f"pieces for each weight of its layers: from {_PIECES_A_WEIGHT} on the fit "
    "of short runs does not decide"
  ]


def _checked() -> str:
  """Returns a sentence that compares the fit's prediction with a measured run.

  The measured run is UNSEEN, which is not in the fit.
  """
  run = scaling.UNSEEN
  expected = scaling.fit().predict(scaling.shape(run.config), run.sequences)
  return (
    f"the fit is of {len(scaling.RUNS)} runs; of {run.config} with "
    f"{run.steps} steps, which it has not seen, it expects {expected}; measured: "
    f"{run.loss:.2f}"
  )


def _warnings(plan: Plan, settings: Options) -> list[str]:
  """Returns advice to the user on the amount of text and the vocabulary.

  Args:
    plan: the best plan.
    settings: the time and the text.
  """
  lines = []
  if plan.epochs > _GOOD_EPOCHS:
    lines.append(
      f"more text would help: beyond {_GOOD_EPOCHS} epochs a sequence that is "
      "read again is worth less than a new one"
    )
  shipped = scaling.shape(plan.size, 0).vocab_size
  if not settings.config_file and shipped != settings.vocab_size:
    lines.append(
      f"configs/{plan.size}.json has vocab_size {shipped}: --config_file=FILE "
      f"writes it with {settings.vocab_size}"
    )
  return lines


def write_config(plan: Plan, path: str) -> None:
  """Writes the config of a plan as JSON.

  Args:
    plan: the plan.
    path: path of the file.
  """
  with storage.writing(path) as file:
    file.write(plan.config.to_json())
