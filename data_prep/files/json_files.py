"""Reads JSON files: those of any version of this project, and foreign ones.

The rule for files of this project, whichever version wrote them: a missing
field has its default; a field that this version does not know is left out and
named in one log line; a value of a wrong type ends in an InputError.
"""

import dataclasses
import json
import math
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from absl import logging

from data_prep.base import options
from data_prep.files import storage

T = TypeVar("T")

_LARGEST = (
  sys.float_info.max
)  # JSON's whole numbers have no limit; a larger one fits no float

# The tokenizer.json of a million pieces is half as large.
_MOST_BYTES = 256 << 20

_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # a surrogate, or both of a pair

_WORDS = {
  bool: "true or false",
  int: "a whole number",
  float: "a number",
  str: "a string",
  dict: "an object",
  list: "a list",
}


def read(path: str, action: str = "copy it again") -> Any:
  """Returns the content of a JSON file.

  Args:
    path: the file, in UTF-8, with or without a byte order mark.
    action: what the user should do about a damaged file.

  Raises:
    options.InputError: when the file is a device or a pipe, is larger than 256
      MB, or is not JSON that `parsed` accepts; for half of a surrogate pair in
      a string; and when the path is a missing object in a bucket.
    FileNotFoundError: when a local file is missing.
  """
  return _read(path, f"JSON in {path}", action)


def read_object(path: str, action: str = "copy it again") -> dict[str, Any]:
  """Returns the content of a JSON file that must be an object.

  Args:
    path: the file, in UTF-8, with or without a byte order mark.
    action: what the user should do about a damaged file.

  Raises:
    options.InputError: when the file is damaged, is too large or is a device,
      when an object in a bucket is missing, or when the JSON is not an object.
    FileNotFoundError: when a local file is missing.
  """
  expected = f"a JSON object in {path}"
  content = _read(path, expected, action)
  if not isinstance(content, dict):
    raise options.InputError(expected, shown(content), action)
  return content


def _read(path: str, expected: str, action: str) -> Any:
  """Returns the content of a JSON file of at most _MOST_BYTES.

  Args:
    path: the file.
    expected: the expected content in words, for messages.
    action: what the user should do about a damaged file.

  Raises:
    options.InputError: when the file is a device or a pipe, is larger, or is
      not JSON.
  """
  if storage.is_special(path):
    raise options.InputError(expected, "no regular file", action)
  with storage.reading(path) as file:
    raw = file.read(_MOST_BYTES + 1)
  if len(raw) > _MOST_BYTES:
    raise options.InputError(
      expected, f"more than {_MOST_BYTES >> 20} MB", action
    )
  try:
    text = raw.decode("utf-8-sig")
    value = parsed(text)
    if _HALF.search(text):
      _refuse_halves(value)
    return value
  except ValueError as error:
    raise options.InputError(expected, str(error), action) from error


def parsed(text: str | bytes) -> Any:
  """Returns the value of a JSON text.

  Raises:
    ValueError: for text that is not JSON, for NaN and Infinity, for decimal
      numbers that no float can hold (1e999), and for lists or objects that are
      nested too deeply for Python.
  """
  try:
    return json.loads(text, parse_constant=_finite, parse_float=_finite)
  except RecursionError as error:
    raise ValueError("lists or objects nested too deeply") from error


def _refuse_halves(value: Any) -> None:
  r"""Raises ValueError for a lone surrogate such as \ud800 in a JSON value.

  UTF-8 cannot encode half of a surrogate pair. A value that is nested too deeply
  for Python raises ValueError too.
  """
  try:
    json.dumps(value, ensure_ascii=False).encode("utf-8")
  except UnicodeEncodeError as error:
    half = ascii(error.object[error.start])
    raise ValueError(f"half of a character, {half}") from error
  except RecursionError as error:
    raise ValueError("lists or objects nested too deeply") from error


def _finite(text: str) -> float:
  """Returns the number in a text; raises ValueError if it is not finite."""
  value = float(text)
  if not math.isfinite(value):
    short = text if len(text) <= 40 else f"{text[:39]}…"
    raise ValueError(f"{short}, which is no finite number")
  return value


def read_note(path: str, hint: Any) -> Any | None:
  """Returns the content of a JSON file that only saves work, such as a cache's.

  The result is None if the file is missing or invalid, or its content has
  another type than `hint`: the caller then does the work again.

  Args:
    path: the path of the file.
    hint: the expected type of the content, as in `require_type`.
  """
  try:
    content = read(path)
    require_type(content, hint, path)
  except (FileNotFoundError, options.InputError):
    return None
  return content


def require_type(
  value: Any, hint: Any, what: str, action: str = "copy the file again"
) -> None:
  """Raises InputError unless a value has the given type.

  Args:
    value: as the json module reads it.
    hint: a type such as `int`, `float | None` or `tuple[str, ...]`, which a
      list of strings has. Every whole number is a float too. True and False are
      no numbers, and infinity and NaN are no floats.
    what: the value's name and place, for the message.
    action: what the user should do.

  Raises:
    options.InputError: when the value is of another type.
  """
  if not _is_of(value, hint):
    raise options.InputError(
      f"{what} to be {_type_text(hint)}", shown(value), action
    )


def _is_of(value: Any, hint: Any) -> bool:
  """Returns whether a value of JSON has the type `hint` of `require_type`."""
  kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
  if kind is Any:
    return True
  if kind in (types.UnionType, typing.Union):
    return any(_is_of(value, part) for part in inner)
  if kind in (list, tuple):
    parts = [part for part in inner if part is not Ellipsis] or [Any]
    return isinstance(value, list | tuple) and all(
      _is_of(item, parts[0]) for item in value
    )
  if kind is dict and inner:
    return isinstance(value, dict) and all(
      _is_of(item, inner[1]) for item in value.values()
    )
  if kind is float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -_LARGEST <= value <= _LARGEST
  if kind is int:
    return isinstance(value, int) and not isinstance(value, bool)
  return isinstance(value, kind)


def _type_text(hint: Any) -> str:
  """Returns a type in words, such as "a whole number or null"."""
  kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
  if kind in (types.UnionType, typing.Union):
    return " or ".join(map(_type_text, inner))
  if kind is type(None):
    return "null"
  return _WORDS.get(list if kind is tuple else kind, "of its usual type")


def shown(value: Any) -> str:
  """Returns the JSON of a value for a message, cut to at most 80 characters."""
  try:
    text = json.dumps(value, ensure_ascii=False)
  except RecursionError:  # reading allows a little more depth
    text = "lists or objects nested too deeply"
  return text if len(text) <= 80 else f"{text[:79]}…"


def made(
  cls: type[T], values: Any, origin: str, action: str = "copy the file again"
) -> T:
  """Returns cls(**values): a dataclass instance made from a JSON object.

  An earlier version of this project may have written the object. A field that
  is missing in the object has the default of the class. Names in the object
  that are no fields of the class are left out, and one log line names them.

  Args:
    cls: the dataclass.
    values: the object, as the json module reads it: a dict from field names to
      values. A list becomes a tuple where the field is a tuple.
    origin: the name of the object in messages: `optimizer in runs/a/run.json`.
    action: what the user should do about wrong values.

  Raises:
    options.InputError: when `values` is no object, a value is of another type
      or out of its bounds, or a field without a default is missing.
  """
  require_type(values, dict, origin, action)
  fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
  hints = typing.get_type_hints(cls)
  kept = {name: value for name, value in values.items() if name in fields}
  say_unknown(values.keys() - fields.keys(), origin)
  for name, value in kept.items():
    require_type(value, hints[name], f"{name} of {origin}", action)
    if isinstance(value, list) and typing.get_origin(hints[name]) is tuple:
      kept[name] = tuple(value)
  missing = [
    name
    for name, field in fields.items()
    if name not in kept
    and field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
  ]
  if missing:
    raise options.InputError(
      f"{', '.join(missing)} in {origin}", shown(values), action
    )
  return cls(**kept)


def say_unknown(names: typing.Collection[str], origin: str) -> None:
  """Logs one warning that names fields that this version does not know.

  Args:
    names: the names of the fields; nothing is logged if there are none.
    origin: the object that contains the fields.
  """
  if names:
    logging.warning(
      "%s: this version does not know %s, and leaves it out",
      origin,
      ", ".join(sorted(names)),
    )


def known(cls: Any, values: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the values whose names are fields of a dataclass.

  Use the function for an object that contains the fields of several
  dataclasses, such as a manifest's parameters.

  Args:
    cls: the dataclass.
    values: name → value.
  """
  names = {field.name for field in dataclasses.fields(cls)}
  return {name: value for name, value in values.items() if name in names}
