"""Checks Apache Beam's flags: they must name a runner that fetches nothing.

Without a runner, and with DirectRunner, Beam downloads a program, Prism, and
runs it. FlinkRunner and SparkRunner download a .jar file unless the flags name
a .jar file. `checked` refuses such flags before any work begins, and does not
import Apache Beam.
"""

import argparse
import dataclasses
import os
import shlex
from typing import NoReturn

from data_prep.base import options

# Runs a pipeline in processes of this machine, and fetches nothing.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"

# Full name of a runner → the flags of which a user must give one, so that the
# runner fetches nothing. Beam knows the runners by their last names too.
_RUNNERS = {
  LOCAL_RUNNER: (),
  "apache_beam.runners.dataflow.dataflow_runner.DataflowRunner": (),
  "apache_beam.runners.portability.flink_runner.FlinkRunner": (
    "flink_job_server_jar",
    "job_endpoint",
  ),
  "apache_beam.runners.portability.spark_runner.SparkRunner": (
    "spark_job_server_jar",
    "job_endpoint",
  ),
  "apache_beam.runners.portability.portable_runner.PortableRunner": (
    "job_endpoint",
  ),
}
_NEEDED = sorted({name for names in _RUNNERS.values() for name in names})
# Flags with which Beam downloads packages or programs, whatever their value.
_FETCHING = (
  "prism_location",
  "prism_beam_version_override",
  "requirements_file",
  "setup_file",
  "beam_services",
  "prebuild_sdk_container_engine",
)
# Flags whose value is a file that Beam downloads if the value is an address.
_FILES = (
  "extra_package",
  "extra_packages",
  "flink_job_server_jar",
  "sdk_location",
  "spark_job_server_jar",
)


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Where the work is done: on this machine, or on Apache Beam."""

  num_workers: int = options.option(
    0,
    "Number of processes. 0 starts one process for each core. The output "
    "does not depend on this number.",
    minimum=0,
  )
  runner: str = options.option(
    "local",
    "What computes. local: the cores of this machine. beam: Apache Beam, "
    "with the options in --beam_options.",
    choices=("local", "beam"),
  )
  beam_options: str = options.option(
    "",
    "Options of Apache Beam for --runner=beam, separated by spaces, such "
    "as '--runner=DataflowRunner --project=P'. A runner must be named.",
  )

  def check(self) -> None:
    if self.runner == "beam":
      checked(self.beam_options)


class _Parser(argparse.ArgumentParser):
  """An argparse parser that raises options.InputError for a malformed flag."""

  def error(self, message: str) -> NoReturn:
    raise options.InputError("flags of Apache Beam", message, "mend the flag")


def checked(beam_options: str) -> list[str]:
  """Returns the flags of Apache Beam as a list.

  Args:
    beam_options: the flags, separated by spaces, with quotes as in a shell.

  Raises:
    options.InputError: when no runner is named, or when Beam would fetch a
      program or packages with these flags.
  """
  try:
    flags = shlex.split(beam_options)
  except ValueError as error:
    raise options.InputError(
      "flags of Apache Beam, with quotes in pairs",
      f"{beam_options!r} ({error})",
      "mend the quotes",
    ) from error
  given = _values(flags)
  _require_runner((given["runner"] or [""])[-1], given)
  for name in _FETCHING:
    if given[name]:
      raise _fetches(f"--{name}", "leave it out: workers get it in a container")
  for name in _FILES:
    for value in given[name]:
      if "://" in value:
        raise _fetches(f"--{name}={value}", "give a local file")
  return flags


def _values(flags: list[str]) -> dict[str, list[str]]:
  """Returns name → values in order, for each flag that this module checks.

  A flag that is not given has no values.

  Args:
    flags: all flags, as on a command line.
  """
  parser = _Parser(allow_abbrev=False, add_help=False)
  for name in {"runner", *_NEEDED, *_FETCHING, *_FILES}:
    parser.add_argument(f"--{name}", action="append", default=[])
  return vars(parser.parse_known_args(flags)[0])


def _require_runner(runner: str, given: dict[str, list[str]]) -> None:
  """Raises InputError unless a runner is named that fetches nothing.

  Args:
    runner: the value of Beam's flag --runner; "" without the flag.
    given: name of a flag → its values, as `_values` returns them.
  """
  known = {name.lower(): name for name in _RUNNERS}
  known |= {name.rpartition(".")[2]: full for name, full in known.items()}
  full = known.get(runner.lower()) or known.get(f"{runner.lower()}runner")
  if full is None:
    raise options.InputError(
      "a --runner of Apache Beam that fetches no program, in --beam_options",
      f"--runner={runner}" if runner else "none",
      f"for this machine give --runner={LOCAL_RUNNER}",
    )
  needed = _RUNNERS[full]
  if needed and not any(given[name] for name in needed):
    raise options.InputError(
      f"{' or '.join(f'--{name}' for name in needed)} in --beam_options",
      f"--runner={runner} alone, which fetches a program",
      "give a local file or a running job server",
    )
  for jar in given[needed[0]] if needed and needed[0].endswith("jar") else ():
    if "://" not in jar and not os.path.isfile(jar):
      raise options.InputError("a local .jar file", jar, "mend the path")


def _fetches(flag: str, action: str) -> options.InputError:
  return options.InputError(
    "flags of Apache Beam with which it fetches nothing", flag, action
  )
