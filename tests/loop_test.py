"""Tests of what the loop of a pretraining run logs."""

import pytest

from albert_mn.pretrain import loop


def test_a_contributors_print_is_seen_and_orbits_lines_are_not(
  capsys: pytest.CaptureFixture[str],
) -> None:
  """orbit prints each line of the log once more, on standard output."""
  with loop._without_orbits_lines():
    exec("print('train | step: 1')", {"__name__": "orbit.controller"})
    print("сайн", "байна уу", flush=True)
    exec("print('орбит')", {"__name__": "orbital.mine"})
  assert capsys.readouterr().out == "сайн байна уу\nорбит\n"
