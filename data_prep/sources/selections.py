"""Keeps rows by their fields, by expressions such as `language_score>=0.9`.

An expression is the name of a field, an operator and a JSON value:

    language_score>=0.9
    metadata.quality_warnings==null
    language=="mon"
"""

import contextlib
import dataclasses
import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_prep.base import options

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
  "==": operator.eq,
  "!=": operator.ne,
  ">=": operator.ge,
  "<=": operator.le,
  ">": operator.gt,
  "<": operator.lt,
}
_EXPRESSION = re.compile(r"\s*([^\s<>=!]+)\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*")
_SHOWN = 12  # fields in a message

# Where a field stands: its name, after the names of the fields that it is in.
Place = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Condition:
  """A condition on the value of a field, which a row must meet to be kept.

  Attributes:
    text: the expression.
    field: the name of the field; dots separate the parts of a nested name.
    operator: one of == != >= <= > <.
    value: the JSON value to compare with.
  """

  text: str
  field: str
  operator: str
  value: Any

  def holds(self, actual: Any) -> bool:
    """Returns whether a value of the field meets the condition.

    If the condition's value is a number, a text such as "0.9" counts as a
    number. Values of different kinds (number, text, boolean, null …) are never
    equal: they meet a condition with != and none with ==, >=, <=, > or <.
    """
    if isinstance(actual, str) and _kind(self.value) == "number":
      with contextlib.suppress(ValueError):
        actual = float(actual)
    alike = _kind(actual) == _kind(self.value)
    if self.operator in ("==", "!="):
      equal = alike and actual == self.value
      return equal if self.operator == "==" else not equal
    return alike and _OPERATORS[self.operator](actual, self.value)


def parsed(expression: str) -> Condition:
  """Returns the condition of an expression.

  Raises:
    options.InputError: for a malformed expression, for a value that is not
      JSON, and for >=, <=, > or < with a value that is neither number nor text.
  """
  match = _EXPRESSION.fullmatch(expression)
  try:
    value = json.loads(match[3]) if match else None
  except (ValueError, RecursionError):
    match = None
  if match is None:
    raise options.InputError(
      "--keep to be a field, an operator (== != >= <= > <) and a JSON value",
      repr(expression),
      'write it like language_score>=0.9, lang=="mn" or warnings==null',
    )
  if match[2] not in ("==", "!=") and _kind(value) not in ("number", "text"):
    raise options.InputError(
      f"a number or a text after {match[2]} in --keep",
      repr(expression),
      "compare other values by == or !=",
    )
  return Condition(expression, match[1], match[2], value)


def resolved(name: str, fields: Sequence[Place], flag: str, path: str) -> Place:
  """Returns the place of the one field that a name stands for.

  The name may leave out the beginning of a nested name: `quality_warnings`
  stands for `metadata.quality_warnings`, unless there is a field of this very
  name.

  Args:
    name: the name that a flag gives.
    fields: the places of all fields of a file.
    flag: the flag, for messages.
    path: the path of the file, for messages.

  Raises:
    options.InputError: unless exactly one field has the name.
  """
  names = list(map(".".join, fields))
  matches = [i for i, x in enumerate(names) if x == name] or [
    i for i, x in enumerate(names) if x.endswith(f".{name}")
  ]
  if len(matches) != 1:
    raise options.InputError(
      f"one field {name!r} among the fields of {path}",
      shown([fields[i] for i in matches] or fields),
      f"name the field with {flag}",
    )
  return fields[matches[0]]


def shown(fields: Sequence[Place]) -> str:
  """Returns the names of fields for a message: at most 12, then a count.

  The result is "none" without fields.
  """
  names = ", ".join(repr(".".join(place)) for place in fields[:_SHOWN])
  more = len(fields) - _SHOWN
  return f"{names} and {more} more" if more > 0 else names or "none"


def value_at(row: Mapping[str, Any], place: Place) -> Any:
  """Returns the value of a field of a row; None if the row lacks the field.

  Args:
    row: name → value; a value may itself be such a row.
    place: the names of the fields around the field, and its own name.
  """
  value: Any = row
  for part in place:
    value = value.get(part) if isinstance(value, Mapping) else None
  return value


def _kind(value: Any) -> str:
  """Returns "boolean", "number", "text", or the name of another type."""
  if isinstance(value, bool):
    return "boolean"
  if isinstance(value, int | float):
    return "number"
  return "text" if isinstance(value, str) else type(value).__name__
