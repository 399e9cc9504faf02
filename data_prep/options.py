"""How a program gets its options and says what is wrong with them.

A program states its options once, as a frozen dataclass whose fields are
made by `option`. `define` turns the fields into absl flags, `parsed` turns
the parsed flags into an instance, and `run` is what every program's last
line calls:

    @dataclasses.dataclass(frozen=True)
    class Options:
      input_file: str = options.option("", "text files, as globs")

    if __name__ == "__main__":
      options.run(main, Options)

Exit codes: 0 success, 1 bad input (one `error:` line), 2 bad flags, 70 any
other exception (a traceback; trying again may help), 130 Ctrl-C, 143 SIGTERM in
pretraining, which is saved and goes on when it is started again.
"""

import dataclasses
import logging as py_logging
import os
import pathlib
import sys
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from absl import app, flags, logging

T = TypeVar("T")

TERMINATED = 143  # 128 + SIGTERM, as shells report it
_CRASHED = 70  # EX_SOFTWARE of sysexits.h; Python's own 1 is bad input here


class InputError(Exception):
  """Something the user gave is not what the program can work with.

  Args:
    expected: what would have been right.
    got: what was found, with its place.
    action: what to do about it, as an imperative.
  """

  def __init__(self, expected: str, got: str, action: str):
    super().__init__(f"expected {expected}; got {got}: {action}")
    self.expected, self.got, self.action = expected, got, action


def option(
  default: Any,
  help: str,
  *,
  choices: Sequence[str] = (),
  minimum: float | None = None,
  maximum: float | None = None,
) -> Any:
  """Returns a dataclass field that is also a flag.

  Args:
    default: the one place where the default is stated.
    help: what `--help` prints.
    choices: the values a string option may take; none means any.
    minimum: the smallest value a numeric option may take.
    maximum: the largest one.
  """
  metadata = dict(help=help, choices=choices, minimum=minimum, maximum=maximum)
  return dataclasses.field(default=default, metadata=metadata)


def require(settings: Any, *names: str) -> None:
  """Refuses settings in which one of the named options was not given."""
  for name in names:
    if not getattr(settings, name):
      raise InputError(f"--{name}", "none", f"give --{name}")


def define(*classes: type) -> None:
  """Defines one flag for each option field of the given dataclasses.

  A field whose name is a flag already (two classes sharing an option) is
  defined once.
  """
  for cls in classes:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
      name = flag_name(field)
      if "help" in field.metadata and name not in flags.FLAGS:
        _define_one(field, hints[field.name])
        # Without this, `--help` lists only the flags of the program's module.
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def flag_name(field: dataclasses.Field) -> str:
  """The flag of a field: --from is `from_`, as Python keeps the word."""
  return field.name.rstrip("_")


def _define_one(field: dataclasses.Field, hint: Any) -> None:
  kind = _without_none(hint)
  meta, name = field.metadata, flag_name(field)
  default: Any = field.default
  limits = dict(lower_bound=meta["minimum"], upper_bound=meta["maximum"])
  if kind is bool:
    flags.DEFINE_bool(name, default, meta["help"])
  elif kind is int:
    flags.DEFINE_integer(name, default, meta["help"], **limits)
  elif kind is float:
    flags.DEFINE_float(name, default, meta["help"], **limits)
  elif meta["choices"]:
    flags.DEFINE_enum(name, default, meta["choices"], meta["help"])
  else:
    flags.DEFINE_string(name, default, meta["help"])


def _without_none(hint: Any) -> Any:
  """The `int` of `int | None`."""
  if isinstance(hint, types.UnionType):
    return next(a for a in typing.get_args(hint) if a is not type(None))
  return hint


def parsed(cls: type[T]) -> T:
  """Returns an instance of `cls` with the values of the parsed flags."""
  return cls(
    **{
      field.name: flags.FLAGS[flag_name(field)].value
      for field in dataclasses.fields(cls)  # type: ignore[arg-type]
      if "help" in field.metadata
    }
  )


def run(main: Callable[..., None], *classes: type) -> None:
  """Parses the flags, calls `main` with one instance a class, and exits."""
  define(*classes)
  app.run(lambda argv: _guarded(main, classes, argv), flags_parser=_parse)


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    return app.parse_flags_with_usage(list(argv))
  except SystemExit as exit_:
    # absl leaves with 1 on a bad flag; here 1 means bad input. `--help` also
    # comes this way, and a person who asked for help made no mistake.
    asked = any(a.lstrip("-") in ("h", "help", "helpfull") for a in argv[1:])
    raise SystemExit(0 if asked else (2 if exit_.code else 0)) from None


def _guarded(
  main: Callable[..., None], classes: Sequence[type], argv: Sequence[str]
) -> None:
  if len(argv) > 1:
    print(
      f"error: expected flags only; got {argv[1]!r}: write --name=value",
      file=sys.stderr,
    )
    raise SystemExit(2)
  logging.use_absl_handler()
  logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))
  handler = logging.get_absl_handler()
  handler.setFormatter(
    py_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
  )
  handler.addFilter(_ours_or_a_warning)
  try:
    main(*(parsed(cls) for cls in classes))
  except (InputError, OSError) as error:
    _fail(str(error) if isinstance(error, InputError) else _os_error(error))
  except KeyboardInterrupt:
    # 130 is what shells report for a program ended by Ctrl-C.
    print("interrupted: nothing half-written was left", file=sys.stderr)
    raise SystemExit(130) from None
  except Exception:  # noqa: BLE001  the last door; what else could it be?
    traceback.print_exc()
    raise SystemExit(_CRASHED) from None


def _ours_or_a_warning(record: py_logging.LogRecord) -> bool:
  """What libraries merely tell is for their authors; orbit repeats our lines."""
  return (
    record.levelno >= py_logging.WARNING
    or "site-packages" not in pathlib.PurePath(record.pathname).parts
  )


def _os_error(error: OSError) -> str:
  """One line for what the system refused: no permission, a full disk …"""
  place = error.filename or "a file"
  reason = os.strerror(error.errno) if error.errno else str(error)
  return f"expected to read or write {place}; got {reason}: mend that and rerun"


def _fail(message: str) -> None:
  if logging.get_verbosity() > logging.INFO:  # --v=1: the traceback too
    raise  # noqa: PLE0704  re-raises what _guarded is handling
  print("error: " + " ".join(message.split("\n")), file=sys.stderr)
  raise SystemExit(1) from None
