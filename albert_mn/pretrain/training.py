"""A pretraining run: checks, initial weights, training, results.

Record order, masks and dropout are functions of (seed, step). So a run that was
killed and started again gives the same weights as an uninterrupted run.

run_options.py has the options, examination.py the checks, loop.py the loop over
steps, trainer.py one step, outputs.py the files.
"""

import dataclasses

import tensorflow as tf

from albert_mn.formats import initial_weights
from albert_mn.models import pretraining
from albert_mn.pretrain import (
  checks,
  examination,
  initialization,
  inputs,
  loop,
  outputs,
  probe,
  run_options,
  trainer,
)
from albert_mn.runtime import (
  checkpoints,
  distribution,
  divergence,
  learning_rates,
  optimization,
)
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import ownership


def run(
  settings: run_options.Options,
  recipe: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
) -> dict[str, float]:
  """Pretrains and evaluates as the options say; returns the held-out metrics.

  The metrics are those of the last evaluation. The result is {} without
  held-out records, and with --print_schedule, which only prints the learning
  rates.

  Raises:
    options.InputError: for wrong options or files, and when another program
      trains in the output folder. A run that only evaluates does not lock the
      folder.
  """
  recipe = run_options.settled(settings, recipe)
  if settings.print_schedule:
    print(learning_rates.table(recipe))
    return {}
  settings = run_options.localized(settings, devices)
  work = examination.examined(
    settings, recipe, devices, probing, checks.Examination()
  )
  assert work, "the first failure was raised"
  owned = work.chief and settings.do_train
  folders = (settings.output_dir, settings.export_dir) if owned else ()
  with ownership.owning(*folders):
    return _run(work, devices, probing)


def _run(
  work: examination.Run,
  devices: distribution.Options,
  probing: probe.Options,
) -> dict[str, float]:
  """Trains, evaluates and writes results, after all checks have passed.

  Returns the last held-out metrics; {} without held-out records.

  Args:
    work: the checked run.
    devices: the options of the devices.
    probing: the options of the probe.

  Raises:
    options.InputError: when there is nothing to evaluate, when the run was
      begun with other settings, or at a divergence that ends the run.
  """
  parts = _built(work)
  saved = _checkpoints(work, parts)
  if work.training:
    flags = _flags(work.settings, work.recipe, devices, probing)
    outputs.remember(work, devices, flags, begun=bool(saved.steps()))
  guard = _guard(work, parts, saved)
  _start(work, parts, saved, guard)
  looping = loop.Loop(work, parts, guard)
  metrics: dict[str, float] = {}
  if work.training:
    metrics = looping.train()
    outputs.save_model(work, parts.model, parts.step(), "model")
    outputs.export(work)
  elif not parts.step() and not work.settings.init_checkpoint:
    raise options.InputError(
      f"a checkpoint in {work.settings.output_dir}/checkpoints to evaluate",
      "none",
      "train first, or give --init_checkpoint",
    )
  if work.held_out and not metrics:
    metrics = looping.evaluated()
  outputs.write_results(work, parts.step(), metrics)
  distribution.wait_for_all(work.strategy)
  return metrics


def _flags(*groups: options.Group) -> dict[str, object]:
  """Returns option name → value, for all options of several groups."""
  return {
    name: value
    for group in groups
    for name, value in dataclasses.asdict(group).items()
  }


def _built(work: examination.Run) -> loop.Parts:
  """Returns a new model with random weights, and the objects that train it."""
  settings = work.settings
  lean = examination.is_lean(settings, work.strategy)
  with work.strategy.scope():
    model = pretraining.PretrainingModel(
      work.config, settings.random_seed, settings.rematerialize
    )
    watch = divergence.Watch()
    optimizer = optimization.create(
      work.recipe, settings.jit_compile and lean, watch.scale
    )
    optimizer.build(model.trainable_variables)
  steps = _trainer(work, trainer.Learner(model, optimizer, watch), lean)
  return loop.Parts(model, optimizer, watch, steps)


def _trainer(
  work: examination.Run, learner: trainer.Learner, lean: bool
) -> trainer.Trainer:
  """Returns the object that computes training steps and evaluations of a run.

  Args:
    work: the run.
    learner: the model, and the objects that change its weights.
    lean: whether lean.Lean computes the step.
  """
  settings, held_out = work.settings, work.held_out
  path = work.tokenizer_file()
  evaluation = (
    work.strategy.distribute_datasets_from_function(
      lambda context: inputs.eval_dataset(
        held_out, inputs.Share.of(settings.eval_batch_size, context)
      )
    )
    if held_out
    else None
  )
  return trainer.Trainer(
    learner,
    trainer.Steps(
      work.recipe.num_train_steps,
      settings.gradient_accumulation_steps,
      settings.random_seed,
      settings.jit_compile,
      lean,
    ),
    work.strategy,
    evaluation,
    tokenization.Tokenizer(path).characters() if path else None,
  )


def _checkpoints(
  work: examination.Run, parts: loop.Parts
) -> checkpoints.Checkpoints:
  """Returns the object that saves and restores the run's checkpoints.

  A checkpoint holds the weights, the optimizer slots and the watch's variables.
  """
  settings = work.settings
  return checkpoints.Checkpoints(
    settings.output_dir,
    {
      "optimizer": parts.optimizer,
      "watch": parts.watch,
      **parts.model.parts(),
    },
    keep=settings.keep_checkpoint_max,
    writes=work.chief and settings.do_train,
  )


def _guard(
  work: examination.Run, parts: loop.Parts, saved: checkpoints.Checkpoints
) -> divergence.Guard:
  """Returns the object that stops a run or rolls it back at a divergence."""
  return divergence.Guard(
    parts.watch,
    saved,
    parts.model.trainable_variables,
    run_options.policy(work.settings),
    work.settings.output_dir,
    work.chief,
  )


def _start(
  work: examination.Run,
  parts: loop.Parts,
  saved: checkpoints.Checkpoints,
  guard: divergence.Guard,
) -> None:
  """Restores the last checkpoint, or else sets the initial weights.

  Args:
    work: the run.
    parts: the model, and the objects that train it.
    saved: the checkpoints of the run.
    guard: handles divergences.
  """
  with work.strategy.scope():
    begun = saved.restore()
    if begun is None:
      _initialize(work, parts.model)
    if work.settings.do_train:
      guard.begin(begun)


def _initialize(
  work: examination.Run, model: pretraining.PretrainingModel
) -> None:
  """Sets a new model's weights by --init_checkpoint or --initialization=corpus.

  Without either flag the model keeps its random weights.
  """
  settings = work.settings
  if settings.init_checkpoint:
    initial_weights.load(
      settings.init_checkpoint, model.parts(), settings.init_from_group0
    )
  elif settings.initialization == "corpus" and work.training:
    initialization.assign(
      model,
      work.training,
      examination.tokenizer_of(work.training, "--initialization=corpus"),
      settings.random_seed,
      settings.output_dir,
      work.chief,
    )


def rehearse(work: examination.Run) -> str:
  """Takes two training steps on the first records, and writes no files.

  The initial weights are those of --init_checkpoint, or random. Returns the
  loss and the gradient norm as text for a person.

  Raises:
    options.InputError: when a step does not fit in memory, or its loss or
      gradient is not finite.
  """
  parts = _built(work)
  steps = parts.steps
  if work.settings.init_checkpoint:
    with work.strategy.scope():
      _initialize(work, parts.model)
  assert work.training
  loop.feed(work, steps, work.training.count(), 0)
  try:
    with work.training.reading():
      metrics = steps.train(tf.constant(2))
  except divergence.Diverged as diverged:
    raise options.InputError(
      diverged.expected,
      diverged.got,
      "look at the records and --init_checkpoint",
    ) from diverged
  except tf.errors.ResourceExhaustedError as error:
    raise options.InputError(
      "a step that fits in memory",
      error.message.split("\n")[0],
      "lower --train_batch_size, or raise --gradient_accumulation_steps",
    ) from error
  return (
    f"loss {metrics['loss']:.4g}, gradient norm {metrics['gradient_norm']:.3g}"
  )
