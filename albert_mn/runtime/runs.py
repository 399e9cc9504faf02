"""The run directory's record, run.json, and the signals that end a run.

run.json holds the settings on which the final weights depend, and beside them
the flags and versions of the last start. A run of an earlier or later version
may be resumed (data_prep/files/json_files.py): a setting that only run.json or
only this version knows is logged; a setting with another value is an error.
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

from data_prep.base import options, release
from data_prep.files import json_files, storage

_SETTINGS = "run.json"
# Keys of run.json that may differ when a run resumes.
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
  """Writes run.json, after checking that a resumed run has the same settings.

  The version of TensorFlow counts as a setting.

  Args:
    output_dir: the run directory.
    settings: all settings on which the final weights depend, as JSON values;
      None for a setting that does not apply, so that all runs have the same
      keys.
    flags: flag → value, given or default; stored for a person to look up.
    begun: whether the run already has a checkpoint, and so resumes.
    writes: whether this process writes the file; of several workers, one does.
    implied: settings that earlier versions left out of run.json when they had
      these values.

  Raises:
    options.InputError: when the run resumes, and run.json has other settings or
      is damaged.
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
  """Raises InputError if a setting that decides the weights has another value.

  "flags" and "versions" are not compared. Settings that only one of the two versions of this project knows are logged.

  Args:
    before: the settings in run.json.
    now: the settings of this start.
    output_dir: the run directory, for messages.
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
  """Returns the settings on which the final weights depend.

  These are all settings but "flags" and "versions".

  Args:
    settings: the content of run.json.
  """
  return {n: value for n, value in settings.items() if n not in _BESIDE}


def versions() -> dict[str, str]:
  """Returns name → version, of Python and the packages that affect the results.

  The version of this project includes the commit, if it runs from a checkout.
  """
  return {
    "albert-mn": release.version(),
    "python": platform.python_version(),
    "tensorflow": tf.__version__,
    "tf_keras": tf_keras.__version__,
    "numpy": np.__version__,
    "sentencepiece": sentencepiece.__version__,
    "tf-models-official": metadata.version("tf-models-official"),
  }


@dataclasses.dataclass(frozen=True)
class _Compared:
  """The differences between two runs' settings, with dotted names.

  Attributes:
    changed: settings with different values, as `optimizer.beta_1 (0 → 1)`.
    added: settings of the second run only, as `optimizer.beta_1=0.9`.
    unknown: settings of the first run only, as `optimizer.beta_1`.
  """

  changed: list[str]
  added: list[str]
  unknown: list[str]


def _compared(
  before: Mapping[str, Any], after: Mapping[str, Any], within: str = ""
) -> _Compared:
  """Returns the differences between two runs' settings.

  A setting that is None on one side and missing on the other is no difference.
  A setting that is None on one side and has a value on the other is in
  `changed`.

  Args:
    before, after: settings, which may be nested.
    within: prefix of the names in the result, such as "optimizer.".
  """
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
  """Returns the content of run.json; {} if there is no such file.

  Raises:
    options.InputError: when run.json is damaged, or is not a JSON object.
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


def recorded(cls: type[T], output_dir: str, name: str, otherwise: T) -> T:
  """Returns options of an earlier start of a run, as run.json records them.

  Args:
    cls: the dataclass of the options.
    output_dir: the run directory.
    name: the setting of run.json that holds the options.
    otherwise: the result if run.json has no such setting.

  Raises:
    options.InputError: when a value has another type or is out of bounds.
  """
  begun = read_settings(output_dir).get(name)
  if begun is None:
    return otherwise
  place = f"{name} in {os.path.join(output_dir, _SETTINGS)}"
  return json_files.made(cls, begun, place, "remove the file")


class Stopped(Exception):  # noqa: N818  like KeyboardInterrupt, no error
  """Raised when a signal from a person or a preempted machine ends the run.

  Args:
    number: the number of the signal.
  """

  def __init__(self, number: int) -> None:
    super().__init__(signal.Signals(number).name)
    self.number = number


class Stop:
  """Records SIGTERM and SIGINT, which the run handles between steps.

  As a context manager, it keeps both signals from ending the process at once.
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
    """Handles a signal: records it, and logs that the run will save and end.

    Args:
      number: the number of the signal.
    """
    logging.warning(
      "%s: the run is saved after the steps under way, then it ends",
      signal.Signals(number).name,
    )
    self._number = number

  def came(self) -> bool:
    """Returns whether this process has received one of the two signals."""
    return bool(self._number)

  def leave(self) -> NoReturn:
    """Raises Stopped with the signal of this process.

    Without a signal, because another worker got one, the signal is SIGTERM.
    """
    raise Stopped(self._number or signal.SIGTERM)


def clock(seconds: float) -> str:
  """Returns a duration as 2h05m or, below an hour, as 3m07s."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes_left = divmod(minutes, 60)
  return f"{hours}h{minutes_left:02d}m" if hours else f"{minutes}m{rest:02d}s"
