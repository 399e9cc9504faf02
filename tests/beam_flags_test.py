"""Tests that flags with which Apache Beam would fetch something are refused."""

import pytest

from data_prep.base import beam_flags, options

_LOCAL = f"--runner={beam_flags.LOCAL_RUNNER}"


@pytest.mark.parametrize(
  "flags",
  [
    "",
    "--direct_num_workers=2",
    "--runner=DirectRunner",
    "--runner DirectRunner --direct_running_mode=multi_processing",
    "--runner=direct",
    "--runner=SwitchingDirectRunner",
    "--runner=apache_beam.runners.direct.direct_runner.DirectRunner",
    "--runner=PrismRunner",
    "--runner=portability.FnApiRunner",
    f"{_LOCAL} --runner=DirectRunner",  # the last one counts
  ],
)
def test_a_runner_must_be_named_that_does_not_download_prism(
  flags: str,
) -> None:
  with pytest.raises(options.InputError, match=r"give --runner=apache_beam\."):
    beam_flags.checked(flags)


@pytest.mark.parametrize(
  "flags",
  [
    "--runner=FlinkRunner --flink_master=m:8081",
    "--runner=SparkRunner",
    "--runner=PortableRunner",
    "--runner=FlinkRunner --flink_job_server_jar=https://a.mn/a.jar",
    "--runner=FlinkRunner --flink_job_server_jar=missing.jar",
    f"{_LOCAL} --requirements_file=r.txt",
    f"{_LOCAL} --extra_package a.whl --extra_package https://a.mn/a.whl",
    f"{_LOCAL} --prism_location=./prism",
    "--runner=DataflowRunner --sdk_location=https://a.mn/beam.tar.gz",
    f"{_LOCAL} --setup_file='setup.py",
    "--runner",
  ],
)
def test_flags_with_which_beam_fetches_are_refused_in_one_line(
  flags: str,
) -> None:
  with pytest.raises(options.InputError, match=r"^expected .*; got .*: \w+"):
    beam_flags.checked(flags)


@pytest.mark.parametrize(
  "flags",
  [
    [_LOCAL, "--direct_num_workers=2"],
    ["--runner=FnApiRunner"],
    ["--runner", "DataflowRunner", "--sdk_location=container"],
    ["--runner=flink", "--job_endpoint=localhost:8099"],
  ],
)
def test_flags_of_runners_that_fetch_nothing_are_passed_on(
  flags: list[str],
) -> None:
  assert beam_flags.checked(" ".join(flags)) == flags


def test_a_jar_of_this_machine_is_passed_on(tmp_path: object) -> None:
  jar = f"{tmp_path}/job server.jar"
  open(jar, "w").close()
  flags = f"--runner=SparkRunner '--spark_job_server_jar={jar}'"
  assert jar in beam_flags.checked(flags)[1]
