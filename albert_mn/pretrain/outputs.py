"""The files that a pretraining run writes: run.json, models, results."""

import dataclasses
import os
from typing import Any

from absl import logging

from albert_mn.formats import initial_weights
from albert_mn.models import model_directory, pretraining
from albert_mn.pretrain import examination
from albert_mn.runtime import distribution, runs
from albert_mn.scoring import reports
from data_prep.encoding import tokenization
from data_prep.files import manifest_fields


def remember(
  work: examination.Run,
  devices: distribution.Options,
  flags: dict[str, Any],
  begun: bool,
) -> None:
  """Writes run.json, after checking that a resumed run has the same settings.

  All processes check; only the chief writes.

  Args:
    work: the run.
    devices: the options of the devices.
    flags: flag → value, stored for a person to look up.
    begun: whether the run already has a checkpoint, and so is resumed.

  Raises:
    options.InputError: when the run was begun with other settings.
  """
  runs.remember(
    work.settings.output_dir,
    _remembered(work, devices),
    flags,
    begun=begun,
    writes=work.chief,
    implied={"initialization": None},
  )


def _remembered(
  work: examination.Run, devices: distribution.Options
) -> dict[str, Any]:
  """Returns the settings on which the final weights depend, for run.json.

  They are the seed, the batch size, the records, the optimizer, the config, the
  initial weights and so on; None for a setting that does not apply.
  """
  settings, training = work.settings, work.training
  assert training is not None
  return {
    "random_seed": settings.random_seed,
    "train_batch_size": settings.train_batch_size,
    "jit_compile": settings.jit_compile,
    "lean_step": settings.lean_step,
    "precision": devices.precision,
    "records": training.identity,
    "masked_lm_budget": settings.masked_lm_budget or None,
    "initialization": (
      None if settings.initialization == "random" else settings.initialization
    ),
    "optimizer": dataclasses.asdict(work.recipe),
    "init_checkpoint": (
      initial_weights.identity(settings.init_checkpoint)
      if settings.init_checkpoint
      else None
    ),
    "config": dataclasses.asdict(work.config),
  }


def keep_best(
  work: examination.Run,
  model: pretraining.PretrainingModel,
  step: int,
  metrics: dict[str, float],
) -> None:
  """Saves the model as best/ if its held-out loss is the lowest so far.

  A best/ of a later step does not count: a resumed run may not have reached
  that step again.

  Args:
    work: the run; a process that is not its chief writes nothing.
    model: the model.
    step: the current step.
    metrics: the held-out metrics of this step.
  """
  if not work.chief:
    return
  best = model_directory.find(os.path.join(work.settings.output_dir, "best"))
  held = manifest_fields.Counts.of(best["counts"] if best else {})
  is_earlier = held.global_step is not None and held.global_step <= step
  is_better = held.loss is not None and held.loss <= metrics["loss"]
  if is_earlier and is_better:
    return
  save_model(work, model, step, "best", metrics["loss"])


def save_model(
  work: examination.Run,
  model: pretraining.PretrainingModel,
  step: int,
  name: str,
  loss: float | None = None,
) -> None:
  """Writes a model directory named `name` in the run directory.

  Args:
    work: the run; a process that is not its chief writes nothing.
    model: the model to save.
    step: the current step.
    name: name of the folder.
    loss: the held-out loss, for the manifest.
  """
  if not work.chief:
    return
  training = work.training
  assert training is not None
  tokenizer = work.tokenizer_file()
  if not tokenizer:
    logging.warning(
      "no tokenizer.model beside the records: the model directory has none"
    )
  model_directory.save(
    os.path.join(work.settings.output_dir, name),
    model_directory.PRETRAINED,
    config=work.config,
    parts=model.parts(),
    tokenizer_file=tokenizer,
    parameters=dict(
      random_seed=work.settings.random_seed,
      **tokenization.Settings.of(training.parameters).parameters(),
    ),
    counts=manifest_fields.Counts(global_step=step, loss=loss).stated(),
    inputs={"records": training.identity} if training.identity else {},
  )


def export(work: examination.Run) -> None:
  """Copies the trained model directory to --export_dir, if the flag is given.

  Only the chief copies.
  """
  settings = work.settings
  if settings.export_dir and work.chief:
    finished = os.path.join(settings.output_dir, "model")
    model_directory.copy(finished, settings.export_dir)


def write_results(
  work: examination.Run, step: int, metrics: dict[str, float]
) -> None:
  """Writes eval_results.txt.

  Args:
    work: the run; a process that is not its chief writes nothing.
    step: the current step; 0 takes the step of --init_checkpoint.
    metrics: the held-out metrics; if they are {}, no file is written.
  """
  if not (metrics and work.chief):
    return
  step = step or model_directory.step(work.settings.init_checkpoint)
  reports.write_eval_results(
    os.path.join(work.settings.output_dir, "eval_results.txt"),
    {"global_step": step, **metrics},
  )
