r"""Checks, before a pretraining run, whether the run can succeed.

    python -m albert_mn.doctor --do_train --do_eval \
      --input_file='records/train-*' --eval_input_file='records/eval-*' \
      --albert_config_file=configs/albert_tiny.json --output_dir=run

The flags are those of run_pretraining.py. The program runs every check that
is possible and takes two training steps, but writes nothing. The exit code is
1 if a check fails.
"""

import dataclasses
import os

from albert_mn.pretrain import checks, examination, probe, run_options, training
from albert_mn.runtime import distribution, optimization
from data_prep.base import options, shown_text
from data_prep.files import storage


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options that the doctor adds to run_pretraining.py's."""

  full: bool = options.option(
    False,
    "Also read every file that a manifest names, and compare the SHA-256 "
    "hash of the file.",
  )


def _rehashed(settings: run_options.Options) -> str:
  """Compares record files and the initial model with the hashes in manifests.

  Returns a line for the report: how many bytes in how many folders agree.

  Raises:
    options.InputError: when a file is missing or differs from its manifest.
  """
  patterns = f"{settings.input_file},{settings.eval_input_file}"
  folders = {
    os.path.dirname(path) or "." for path in storage.matching(patterns)
  }
  folders |= {settings.init_checkpoint} - {""}
  return checks.hashes(sorted(folders))


def main(
  settings: run_options.Options,
  optimizer: optimization.OptimizerOptions,
  devices: distribution.Options,
  probing: probe.Options,
  more: Options,
) -> None:
  """Prints one line for each check; exits with code 1 if a check fails.

  Args:
    settings, optimizer, devices, probing: the options of run_pretraining.py.
    more: the options that only the doctor has.
  """
  exam = checks.Examination(lambda line: print(shown_text.printable(line)))
  recipe = exam.check(
    "recipe", lambda: run_options.settled(settings, optimizer)
  )
  localized = exam.check(
    "init_checkpoint", lambda: run_options.localized(settings, devices)
  )
  reached = localized.otherwise(settings)
  work = examination.examined(
    reached, recipe.otherwise(optimizer), devices, probing, exam
  )
  if more.full:
    exam.check("files", lambda: _rehashed(reached))
  if settings.do_train:
    known = checks.Checked((work,) if work else ())
    exam.check("two steps", lambda: training.rehearse(known.value))
  print(f"{exam.failed} failed" if exam.failed else "all is well")
  if exam.failed:
    raise SystemExit(1)


if __name__ == "__main__":
  options.run(
    main,
    run_options.Options,
    optimization.OptimizerOptions,
    distribution.Options,
    probe.Options,
    Options,
  )
