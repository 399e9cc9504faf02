"""A run: what was begun in its directory, and what asks it to end.

run.json holds what decides where the run ends, and beside it the flags and
versions of the last start. A run that an earlier or a later version began goes
on by the rule of data_prep/json_files.py: settings that run.json does not name,
and settings that this version does not know, are named in one log line each and
stop nothing; a setting with another value does.
"""

import dataclasses
import json
import os
import platform
import signal
from collections.abc import Mapping
from importlib import metadata
from typing import Any, NoReturn, TypeVar

import numpy as np
import sentencepiece
import tensorflow as tf
import tf_keras
from absl import logging

from data_prep import json_files, options, storage

_SETTINGS = "run.json"
# The keys of it that a run may go on without.
_BESIDE = ("flags", "versions")

T = TypeVar("T")


def remember(
  output_dir: str,
  settings: Mapping[str, Any],
  flags: Mapping[str, Any] | None = None,
  *,
  begun: bool,
  writes: bool = True,
  implied: Mapping[str, Any] | None = None,
) -> None:
  """Writes run.json; refuses to go on with a run that was another one.

  Args:
    output_dir: the run directory.
    settings: whatever decides where the run ends, as JSON's values; None for
      what is not there, so that every run names the same settings.
    flags: all that were given or have a default, to be looked up.
    begun: whether there is a checkpoint.
    writes: whether this process writes; of several workers, one does.
    implied: settings that earlier versions left out of run.json where they had
      these values.

  Raises:
    options.InputError: when there is a checkpoint of other settings, or
      run.json is damaged.
  """
  path = os.path.join(output_dir, _SETTINGS)
  now = {**settings, "tensorflow": tf.__version__}
  now |= {"flags": dict(flags or {}), "versions": versions()}
  text = json.dumps(now, indent=2, sort_keys=True) + "\n"
  if begun and storage.exists(path):
    before = {**(implied or {}), **read_settings(output_dir)}
    _require_same(before, json.loads(text), output_dir)
  if writes:
    with storage.writing(path) as file:
      file.write(text)


def _require_same(
  before: Mapping[str, Any], now: Mapping[str, Any], output_dir: str
) -> None:
  """Refuses other settings than a run was begun with.

  Logs those that only one of the two versions knows.
  """
  path = os.path.join(output_dir, _SETTINGS)
  compared = _compared(deciding(before), deciding(now))
  if compared.changed:
    raise options.InputError(
      f"the settings with which {output_dir} was begun",
      f"another {'; '.join(compared.changed)} (see {path})",
      "give the same ones, or another --output_dir; to go on from the "
      "weights alone, give that and --init_checkpoint",
    )
  if compared.added:
    logging.warning(
      "%s does not name %s: the run goes on with these values",
      path,
      ", ".join(compared.added),
    )
  json_files.say_unknown(compared.unknown, path)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what of run.json decides where a run ends."""
  return {n: value for n, value in settings.items() if n not in _BESIDE}


def versions() -> dict[str, str]:
  """Returns what computes: the name of each package → its version."""
  return {
    "python": platform.python_version(),
    "tensorflow": tf.__version__,
    "tf_keras": tf_keras.__version__,
    "numpy": np.__version__,
    "sentencepiece": sentencepiece.__version__,
    "tf-models-official": metadata.version("tf-models-official"),
  }


@dataclasses.dataclass(frozen=True)
class _Compared:
  """Two runs' settings beside each other, each named to its leaf.

  Attributes:
    changed: `optimizer.beta_1 (0 → 1)`, of both with another value.
    added: `optimizer.beta_1=0.9`, of the second alone.
    unknown: `optimizer.beta_1`, of the first alone.
  """

  changed: list[str]
  added: list[str]
  unknown: list[str]


def _compared(
  before: Mapping[str, Any], after: Mapping[str, Any], within: str = ""
) -> _Compared:
  """Compares settings; one that is None is as one that is missing."""
  compared = _Compared([], [], [])
  for name in sorted(before.keys() | after.keys()):
    old, new = before.get(name), after.get(name)
    if isinstance(old, dict) and isinstance(new, dict):
      inner = _compared(old, new, f"{within}{name}.")
      compared.changed.extend(inner.changed)
      compared.added.extend(inner.added)
      compared.unknown.extend(inner.unknown)
    elif name not in after:
      compared.unknown.extend([within + name] if old is not None else [])
    elif name not in before:
      compared.added.extend(
        [f"{within}{name}={new}"] if new is not None else []
      )
    elif old != new:
      compared.changed.append(f"{within}{name} ({old} → {new})")
  return compared


def read_settings(output_dir: str) -> dict[str, Any]:
  """Returns what run.json says a run was begun with; {} where there is none.

  Raises:
    options.InputError: when it is damaged, or is no object of settings.
  """
  path = os.path.join(output_dir, _SETTINGS)
  if not storage.exists(path):
    return {}
  advice = "remove the file"
  settings = json_files.read_object(path, advice)
  for name in _BESIDE:
    if name in settings:
      what = f"{name} in {path}"
      json_files.require_type(settings[name], dict, what, advice)
  return settings


def recipe(cls: type[T], output_dir: str, name: str, otherwise: T) -> T:
  """Returns the options with which a run was begun.

  Args:
    cls: their dataclass.
    output_dir: the run directory.
    name: the setting of run.json that holds them.
    otherwise: what to return where run.json has no such setting.

  Raises:
    options.InputError: when a value is of another type or out of its bounds.
  """
  begun = read_settings(output_dir).get(name)
  if begun is None:
    return otherwise
  place = f"{name} in {os.path.join(output_dir, _SETTINGS)}"
  return json_files.made(cls, begun, place, "remove the file")


class Stopped(Exception):  # noqa: N818  like KeyboardInterrupt, no error
  """Somebody asked the run to end: a person, or a machine that is taken away.

  Args:
    number: the signal's.
  """

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.number = number


class Stop:
  """Notes SIGTERM and SIGINT, to be heeded between steps.

  Within it, as a context, neither ends the process at once.
  """

  def __init__(self) -> None:
    self._number = 0
    self._before: dict[int, Any] = {}

  def __enter__(self) -> "Stop":
    for number in (signal.SIGTERM, signal.SIGINT):
      self._before[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _note(self, number: int, _: Any) -> None:
    """Notes a signal, and says what is done before the process ends."""
    logging.warning(
      "%s: the run is saved after the steps under way, then it ends",
      signal.Signals(number).name,
    )
    self._number = number

  def came(self) -> bool:
    """Says whether a signal came to this process."""
    return bool(self._number)

  def leave(self) -> NoReturn:
    """Raises Stopped, for the signal that came here or to another worker."""
    raise Stopped(self._number or signal.SIGTERM)


def clock(seconds: float) -> str:
  """Returns a span of time as a person reads it: 2h05m, 3m07s."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes_left = divmod(minutes, 60)
  return f"{hours}h{minutes_left:02d}m" if hours else f"{minutes}m{rest:02d}s"
