"""A run: what was begun in its directory, and what asks it to end.

run.json holds what decides where the run ends, and beside it the flags and
versions of the last start.
"""

import json
import os
import platform
import signal
from collections.abc import Mapping
from importlib import metadata
from typing import Any, NoReturn

import numpy as np
import sentencepiece
import tensorflow as tf
import tf_keras

from data_prep import options, storage

_SETTINGS = "run.json"
# The keys of it that a run may go on without.
_BESIDE = ("flags", "versions")


def remember(
  output_dir: str,
  settings: Mapping[str, Any],
  flags: Mapping[str, Any] | None = None,
  *,
  begun: bool,
  writes: bool = True,
) -> None:
  """Writes run.json; refuses to go on with a run that was another one.

  Args:
    output_dir: the run directory.
    settings: whatever decides where the run ends, as JSON's values.
    flags: all that were given or have a default, to be looked up.
    begun: whether there is a checkpoint.
    writes: whether this process writes; of several workers, one does.

  Raises:
    options.InputError: when there is a checkpoint of other settings.
  """
  path = os.path.join(output_dir, _SETTINGS)
  now = {**settings, "tensorflow": tf.__version__}
  now |= {"flags": dict(flags or {}), "versions": versions()}
  text = json.dumps(now, indent=2, sort_keys=True) + "\n"
  if begun and storage.exists(path):
    before, after = read_settings(output_dir), json.loads(text)
    changed = _differences(deciding(before), deciding(after))
    if changed:
      raise options.InputError(
        f"the settings with which {output_dir} was begun",
        f"another {'; '.join(changed)} (see {path})",
        "give the same ones, or another --output_dir; to go on from the "
        "weights alone, give that and --init_checkpoint",
      )
  if writes:
    with storage.writing(path) as file:
      file.write(text)


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


def _differences(
  before: Mapping[str, Any], after: Mapping[str, Any], within: str = ""
) -> list[str]:
  """Names the settings that differ, to their leaves: `optimizer.beta_1 0 → 1`."""
  found = []
  for name in sorted(before.keys() | after.keys()):
    old, new = before.get(name), after.get(name)
    if isinstance(old, dict) and isinstance(new, dict):
      found += _differences(old, new, f"{within}{name}.")
    elif old != new:
      found.append(f"{within}{name} ({old} → {new})")
  return found


def read_settings(output_dir: str) -> dict[str, Any]:
  """Returns what run.json says a run was begun with; {} where there is none."""
  path = os.path.join(output_dir, _SETTINGS)
  if not storage.exists(path):
    return {}
  try:
    return dict(json.loads(storage.read_text(path)))
  except (json.JSONDecodeError, TypeError, ValueError) as error:
    raise options.InputError(
      f"the settings of a run in {path}", str(error), "remove the file"
    ) from error


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
