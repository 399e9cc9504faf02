"""Evaluates the parser functions of MediaWiki that depend only on arguments.

  evaluate("#if", ["1", "тийм", "үгүй"])  # "тийм"
  evaluate("#expr", ["2015 - 1990"])  # "25"

Functions that depend on the date, on other pages or on the wiki are not
evaluated. Manual: www.mediawiki.org/wiki/Help:Extension:ParserFunctions. An
argument may contain characters of UNKNOWN, which mark unknown text, such as the
output of a template.
"""

import ast
import html
import math
import operator
import re
from collections.abc import Callable, Sequence

UNKNOWN = "[\U000f0000-\U0010fffd]"  # characters of Unicode's private planes
_LONGEST_EXPRESSION = 100  # characters; longer ones are not evaluated


def evaluate(name: str, arguments: Sequence[str]) -> str | None:
  """Returns the output of a parser function.

  The result is None for a function that is not evaluated here, and for an
  output that depends on unknown text.

  Args:
    name: in lower case, without the colon.
    arguments: the text after the colon, then the texts after each pipe; at
      least one.
  """
  function = _FUNCTIONS.get(name)
  try:
    return function([x.strip() for x in arguments]) if function else None
  except _UnknownError:
    return None


class _UnknownError(Exception):
  """Raised when the result depends on unknown text."""


def _known(text: str) -> str:
  """Returns a text unchanged if all of it is known.

  Raises:
    _UnknownError: for a text with a character of UNKNOWN.
  """
  if _ANY_UNKNOWN.search(text):
    raise _UnknownError
  return text


_ANY_UNKNOWN = re.compile(UNKNOWN)


def knows(name: str) -> bool:
  """Returns whether `evaluate` knows a function, by its name in lower case."""
  return name in _FUNCTIONS


# Functions that depend on more than their arguments, or on the language.
_DEPENDING = frozenset(
  """
  plural gender grammar int ns nse fullurl canonicalurl localurl filepath
  urlencode anchorencode padleft padright pagesize pagesincategory
  numberingroup protectionlevel bidi special
  """.split()
)


def depends(name: str) -> bool:
  """Returns whether a parser function needs more than its arguments.

  #invoke does not count, because each module is a function of its own.

  Args:
    name: in lower case.
  """
  return name in _DEPENDING or (name[:1] == "#" and name != "#invoke")


def _at(arguments: Sequence[str], place: int) -> str:
  """Returns the argument with the index `place`; "" if there are too few."""
  return arguments[place] if place < len(arguments) else ""


def _if(arguments: Sequence[str]) -> str | None:
  """Returns the output of #if: the second argument if the first is not "".

  Otherwise the output is the third argument. A missing argument is "".

  Raises:
    _UnknownError: when the first argument has unknown text.
  """
  return _at(arguments, 1 if _known(arguments[0]) else 2)


def _ifeq(arguments: Sequence[str]) -> str | None:
  """Returns the output of #ifeq: the third argument if the first two are equal.

  Otherwise the output is the fourth argument. Numbers are compared by value.
  """
  equal = _comparable(arguments[0]) == _comparable(_at(arguments, 1))
  return _at(arguments, 2 if equal else 3)


def _comparable(text: str) -> str | float:
  """Returns the form in which #ifeq and #switch compare a text.

  A number becomes a float; any other text is returned unchanged.

  Raises:
    _UnknownError: for a text that is not known.
  """
  return float(text) if _NUMBER.fullmatch(_known(text)) else text


_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def _switch(arguments: Sequence[str]) -> str | None:
  """Returns the output of #switch: the value of the case that matches.

  The first argument is compared with each case in turn, numbers by value. A
  case without a value takes the value of the next case that has one. If no case
  matches, the result is the last argument if it has no "=", else the value of
  #default, else "".
  """
  default, matched = "", False
  wanted = _comparable(arguments[0]) if len(arguments) > 1 else ""
  for case in arguments[1:]:
    key, equals, value = (part.strip() for part in case.partition("="))
    matched = matched or _comparable(key) == wanted
    if equals and matched:
      return value
    if equals and key == "#default":
      default = value
  last = arguments[-1] if len(arguments) > 1 else ""
  return default if "=" in last else last


def _ifexpr(arguments: Sequence[str]) -> str | None:
  """Returns the output of #ifexpr, whose first argument is an expression.

  The output is the second argument if the value is not 0, and the third if the
  value is 0 or the expression is empty; a missing argument is "". The result is
  None for an expression without a value, such as 1/0 or a word.
  """
  value = _value(arguments[0]) if arguments[0] else 0.0
  return None if value is None else _at(arguments, 1 if value else 2)


def _expr(arguments: Sequence[str]) -> str | None:
  """Returns the output of #expr; None if the expression is not arithmetic.

  The number has at most 14 significant digits. The result is also None for a
  number that needs an exponent.
  """
  value = _value(arguments[0])
  if value is None or abs(value) >= 1e14:
    return None
  shown = f"{value:.14g}"
  return None if "e" in shown else shown


_OPERATORS: dict[type, Callable[[float, float], float]] = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
  ast.Lt: operator.lt,
  ast.Gt: operator.gt,
  ast.LtE: operator.le,
  ast.GtE: operator.ge,
  ast.Eq: operator.eq,
  ast.NotEq: operator.ne,
}
_ARITHMETIC = re.compile(r"(?:[\d.+*/()<>= −-]|!=|\bdiv\b)+")
_ROUND = re.compile(r"(?P<value>.+?)\bround\s*(?P<digits>\d{1,2})", re.DOTALL)
_EQUALS = re.compile(r"(?<![<>!=])=(?!=)")


def _value(text: str) -> float | None:
  """Returns the value of an arithmetic expression; None for any other text.

  A comparison has the value 1 or 0. The result is also None for an expression
  that is too long or has no value, such as 1/0.
  """
  text = html.unescape(text) if len(text) <= 6 * _LONGEST_EXPRESSION else text
  if len(text) > _LONGEST_EXPRESSION:
    return None
  if rounded := _ROUND.fullmatch(text):
    value = _value(rounded["value"])
    if value is None:
      return None
    scale = 10.0 ** int(rounded["digits"])  # halves go away from zero
    return math.copysign(math.floor(abs(value) * scale + 0.5) / scale, value)
  if not _ARITHMETIC.fullmatch(text):
    return None
  if "**" in text or "//" in text:
    return None
  text = text.replace("−", "-").replace("div", "/").replace("<>", "!=")
  try:
    tree = ast.parse(_EQUALS.sub("==", text).strip(), mode="eval")
    return _number(tree.body)
  except (SyntaxError, ArithmeticError, ValueError, RecursionError):
    return None


def _number(node: ast.expr) -> float:
  """Returns the value of a part of an expression.

  Raises:
    ValueError: for anything but arithmetic and a single comparison.
    ArithmeticError: for a division by zero, or a number that is too large.
  """
  match node:
    case ast.Constant(value=int() | float() as value):
      return float(value)
    case ast.UnaryOp(op=ast.USub(), operand=operand):
      return -_number(operand)
    case ast.UnaryOp(op=ast.UAdd(), operand=operand):
      return _number(operand)
    case ast.BinOp(left=left, op=sign, right=right):
      return _applied(sign, left, right)
    case ast.Compare(left=left, ops=[sign], comparators=[right]):
      return _applied(sign, left, right)
  raise ValueError("no arithmetic")


def _applied(sign: ast.AST, left: ast.expr, right: ast.expr) -> float:
  """Returns the value of the expression `left sign right`.

  Args:
    sign: the operator, a node of Python's ast.
    left, right: the operands.

  Raises:
    ValueError: for an operator that is not in _OPERATORS, and for operands that
      are not arithmetic.
    ArithmeticError: for a division by zero, or a number that is too large.
  """
  if type(sign) not in _OPERATORS:
    raise ValueError("no arithmetic")
  return float(_OPERATORS[type(sign)](_number(left), _number(right)))


def _nothing(_arguments: Sequence[str]) -> str | None:
  """Returns "": the output of a parser function that shows nothing."""
  return ""


def _first(arguments: Sequence[str]) -> str | None:
  """Returns the first argument, as formatnum and #formatdate are rendered."""
  return arguments[0]


def _tag(arguments: Sequence[str]) -> str | None:
  """Returns "" for {{#tag:ref|…}}, which shows no text; None for other tags."""
  return "" if arguments[0].lower() in ("ref", "references") else None


_FUNCTIONS: dict[str, Callable[[Sequence[str]], str | None]] = {
  "#if": _if,
  "#ifeq": _ifeq,
  "#switch": _switch,
  "#expr": _expr,
  "#ifexpr": _ifexpr,
  "#tag": _tag,
  "lc": lambda arguments: arguments[0].lower(),
  "uc": lambda arguments: arguments[0].upper(),
  "lcfirst": lambda arguments: arguments[0][:1].lower() + arguments[0][1:],
  "ucfirst": lambda arguments: arguments[0][:1].upper() + arguments[0][1:],
  "formatnum": _first,
  "#formatdate": _first,
  "#dateformat": _first,
  "defaultsort": _nothing,
  "displaytitle": _nothing,
  "#coordinates": _nothing,
}
