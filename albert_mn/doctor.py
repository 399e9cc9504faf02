"""Says whether a pretraining run would go well, check by check.

    python -m albert_mn.doctor --do_train --do_eval \\
      --input_file='records/train-*' --eval_input_file='records/eval-*' \\
      --albert_config_file=configs/albert_tiny.json --output_dir=run

The flags are run_pretraining.py's. All checks run that can, and two steps are
taken; nothing is written. Exit code 1 where one failed.
"""

import dataclasses
import os

from albert_mn import checks, distribution, optimization, probe, training
from data_prep import options, storage


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """What to do beyond what pretraining does at its start."""

  full: bool = options.option(
    False, "read every file that a manifest names, and compare its sha256"
  )


def _rehashed(settings: training.Options) -> str:
  patterns = f"{settings.input_file},{settings.eval_input_file}"
  folders = {
    os.path.dirname(path) or "." for path in storage.matching(patterns)
  }
  folders |= {settings.init_checkpoint} - {""}
  return checks.hashes(sorted(folders))


def main(
  settings: training.Options,
  optimizer: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
  more: Options,
) -> None:
  """Prints a line a check."""
  exam = checks.Examination(print)
  recipe = exam.check("recipe", training.settled, settings, optimizer)
  found = exam.check("init_checkpoint", training.localized, settings, devices)
  settings = settings if found is checks.UNKNOWN else found
  work = training.examined(settings, recipe, devices, probing, exam)
  if more.full:
    exam.check("files", _rehashed, settings)
  if settings.do_train:
    exam.check("two steps", training.rehearse, work or checks.UNKNOWN, devices)
  print(f"{exam.failed} failed" if exam.failed else "all is well")
  if exam.failed:
    raise SystemExit(1)


if __name__ == "__main__":
  options.run(
    main,
    training.Options,
    optimization.OptimizerOptions,
    distribution.Options,
    probe.Options,
    Options,
  )
