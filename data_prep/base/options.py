"""Makes a program's flags from a dataclass, checks them and runs the program.

A program states its options once, in a frozen dataclass that derives from
`Group` and whose fields are made by `option`. `Group` checks every instance,
whether flags, a manifest or other code made it. `define` turns the fields into
absl flags, `parsed` turns the parsed flags into an instance, and `run` is
called by the last line of every program:

    @dataclasses.dataclass(frozen=True)
    class Options(options.Group):  # its docstring heads the options in --help
      input_file: str = options.option("", "Text files, as glob patterns.")

    if __name__ == "__main__":
      options.run(main, Options)

Exit codes: 0 success, 1 bad input (one `error:` line), 2 bad flags, 70 any
other exception (a traceback; trying again may help), 130 Ctrl-C, 143 SIGTERM.
After SIGTERM, pretraining saves a checkpoint, and continues from it when it is
started again.
"""

import atexit
import contextlib
import dataclasses
import errno
import inspect
import logging as py_logging
import math
import os
import pathlib
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging

from data_prep.base import help_pages, shown_text

_LARGEST = (1 << 31) - 1  # of whole numbers, as in TensorFlow's shapes
_TEXTS = tuple[str, ...]  # the type of an option that may be given repeatedly
# Seeds are below this number: scikit-learn takes no larger ones.
SEEDS = 1 << 32
TERMINATED = 143  # 128 + SIGTERM, as shells report it
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
# The system's errors for a file that is open but cannot be written.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# The files and folders of a wheel of this project, below site-packages.
_PACKAGES = (
  "albert_mn",
  "bert_tweet",
  "data_prep",
  "run_classifier.py",
  "run_pretraining.py",
)
_CRASHED = 70  # EX_SOFTWARE of sysexits.h; Python's own 1 is bad input here


_LONGEST_GOT = 500  # letters; `got` may be text of a file, of any length


class InputError(Exception):
  """Raised for input that the program cannot work with.

  The message is one line, `expected …; got …: ACTION`, with escapes for
  invisible characters. It shows at most 500 letters of `got`.

  Args:
    expected: the correct input.
    got: the actual input, with its place.
    action: what the user should do about it, as an imperative.
  """

  def __init__(self, expected: str, got: str, action: str) -> None:
    # One printable line, even if names and files hold control characters.
    shown = got if len(got) <= _LONGEST_GOT else f"{got[:_LONGEST_GOT]}…"
    line = f"expected {expected}; got {shown}: {action}"
    super().__init__(shown_text.printable(line))
    self.expected, self.got, self.action = expected, got, action


@dataclasses.dataclass(frozen=True)
class Group:
  """The base class of options that belong together.

  A subclass is a frozen dataclass. The first line of the docstring of the
  subclass is the heading under which `--help` lists the options.

  Raises:
    InputError: from the constructor, for a value of the wrong type, for a
      number that is not finite or not within the bounds of the option, for a
      text that is not one of the choices, and for what `check` refuses.
  """

  def __post_init__(self) -> None:
    for field, kind in _options(type(self)):
      value = getattr(self, field.name)
      if not _is_valid(kind, field.metadata, value):
        raise InputError(
          f"--{flag_name(field)} to be {_expected(kind, field.metadata)}",
          repr(value),
          "give another value",
        )
    self.check()

  def check(self) -> None:
    """Raises InputError if options contradict each other.

    A subclass overrides it; here it does nothing.
    """


G = TypeVar("G", bound=Group)


def option(
  default: Any,
  help: str,
  *,
  choices: Sequence[str] = (),
  minimum: float | None = None,
  maximum: float | None = None,
  above: float | None = None,
  under: float | None = None,
  ignored: str = "",
) -> Any:
  """Returns a dataclass field that is also a flag.

  Args:
    default: the default; no other place states the default. A field of the type
      `tuple[str, ...]` is a flag that may be given several times.
    help: the text that `--help` prints: a sentence that can be understood
      without the text of any other option.
    choices: the values that a text may have; empty: any text.
    minimum: the smallest value of a number.
    maximum: the largest value of a number. A whole number for which none is
      given must be below 2**31, as TensorFlow's and SentencePiece's must.
    above: a bound that a number must exceed.
    under: a bound that a number must not reach.
    ignored: for an option without effect, the reason and a substitute. A
      program that is given such an option logs one line, and goes on.
  """
  if type(default) is int and maximum is None:
    maximum = _LARGEST
  metadata = dict(
    help=help,
    choices=tuple(choices),
    minimum=minimum,
    maximum=maximum,
    above=above,
    under=under,
    ignored=ignored,
  )
  return dataclasses.field(default=default, metadata=metadata)


def ignored(default: Any, reason: str, minimum: float | None = None) -> Any:
  """Returns an option without effect, for flags that other programs have.

  Args:
    default: the default, whose type is the type of the option.
    reason: why the option has no effect, and what to use in place of it.
    minimum: the smallest value of a number.
  """
  return option(default, f"Ignored: {reason}.", ignored=reason, minimum=minimum)


def is_option(field: dataclasses.Field[Any]) -> bool:
  """Returns whether a field of a dataclass was made by `option`."""
  return "help" in field.metadata


def flag_name(field: dataclasses.Field[Any]) -> str:
  """Returns the name of a field's flag: `from` for the field `from_`."""
  return field.name.rstrip("_")


def require(settings: Group, *names: str) -> None:
  """Raises InputError if one of the named fields is None, "", 0, False or ()."""
  for name in names:
    if not getattr(settings, name):
      raise InputError(f"--{name}", "none", f"give --{name}")


def from_text(cls: type[Group], name: str, text: str) -> Any:
  """Returns the value of an option, converted from text as a flag's is.

  Args:
    cls: the class of the option.
    name: the name of the option's field. Its type is bool, int, float or str.
    text: the value as text.

  Raises:
    ValueError: for text that the flag would refuse; the message says what is
      expected.
  """
  (field_and_kind,) = (pair for pair in _options(cls) if pair[0].name == name)
  return _Parser(*field_and_kind).parse(text)


def _options(cls: type[Group]) -> list[tuple[dataclasses.Field[Any], type]]:
  """Returns (dataclass field, type) of each option of a class, in order."""
  kinds = typing.get_type_hints(cls)
  fields = filter(is_option, dataclasses.fields(cls))
  return [(field, kinds[field.name]) for field in fields]


def _is_valid(kind: Any, limits: Any, value: Any) -> bool:
  """Returns whether a value is allowed for an option.

  Args:
    kind: the type of the option.
    limits: the metadata of its field: choices and bounds.
    value: the value.
  """
  if kind == _TEXTS:
    return isinstance(value, tuple) and all(isinstance(x, str) for x in value)
  if kind in (int, float):
    return _is_number(kind, value) and _is_within(limits, value)
  choices = limits["choices"]
  return isinstance(value, kind) and (not choices or value in choices)


def _is_number(kind: type, value: Any) -> bool:
  """Returns whether a value is a finite number of type `kind`.

  An int counts as a float too; True and False are no numbers.
  """
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  if kind is int and isinstance(value, float):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:  # an int that no float can hold
    return False


def _is_within(limits: Any, value: float) -> bool:
  """Returns whether a number is within the bounds in an option's metadata."""
  return (
    (limits["minimum"] is None or value >= limits["minimum"])
    and (limits["maximum"] is None or value <= limits["maximum"])
    and (limits["above"] is None or value > limits["above"])
    and (limits["under"] is None or value < limits["under"])
  )


def _expected(kind: Any, limits: Any) -> str:
  """Returns the allowed values in words, as "a whole number of at least 1".

  Args:
    kind: the type of the option.
    limits: the metadata of the option's field: choices and bounds.
  """
  if kind == _TEXTS:
    return "a tuple of texts"
  if kind is bool:
    return "true or false"
  if limits["choices"]:
    return "one of " + ", ".join(limits["choices"])
  if kind is str:
    return "text"
  low, high = limits["minimum"], limits["maximum"]
  words = "a whole number" if kind is int else "a finite number"
  if low is not None and high is not None:
    return f"{words} from {low:.16g} to {high:.16g}"
  bounds = {
    "of at least": low,
    "above": limits["above"],
    "of at most": high,
    "below": limits["under"],
  }
  stated = [f"{word} {x:.16g}" for word, x in bounds.items() if x is not None]
  return f"{words} {' and '.join(stated)}".strip()


class _Parser(flags.ArgumentParser[Any]):
  """Turns the text of a flag into the value of an option, and checks it."""

  def __init__(self, field: dataclasses.Field[Any], kind: type) -> None:
    self.field, self._kind = field, kind

  def flag_type(self) -> str:
    """Returns the name of the option's type, such as "int", for `--helpxml`."""
    return self._kind.__name__

  def parse(self, argument: Any) -> Any:
    """Returns the value of the option.

    Raises:
      ValueError: for text that is no valid value of the option.
    """
    value = self._converted(argument) if isinstance(argument, str) else argument
    if not _is_valid(self._kind, self.field.metadata, value):
      raise ValueError(f"expected {_expected(self._kind, self.field.metadata)}")
    return value

  def _converted(self, text: str) -> Any:
    """Returns the value that a text describes; None for invalid text."""
    parsers: dict[type, type[flags.ArgumentParser[Any]]] = {
      bool: flags.BooleanParser,
      int: flags.IntegerParser,
      float: flags.FloatParser,
      str: flags.ArgumentParser,
    }
    try:
      return parsers[self._kind]().parse(text)
    except ValueError:
      return None


def define(*classes: type[Group], into: flags.FlagValues = flags.FLAGS) -> None:
  """Defines one flag for each option of the given classes.

  Args:
    classes: the classes. They may share an option that all of them state with
      the same default, help text and bounds.
    into: the set of flags to which the new flags are added.

  Raises:
    AssertionError: when two classes state an option differently, or a library
      has defined a flag of the same name.
  """
  for cls in classes:
    for field, kind in _options(cls):
      if flag_name(field) not in into:
        flag = _flag(field, kind)
        flags.DEFINE_flag(flag, into, module_name=sys.argv[0])
      parser = into[flag_name(field)].parser
      assert isinstance(parser, _Parser), f"a library has --{field.name} too"
      shared = parser.field
      assert (shared.default, shared.metadata) == (
        field.default,
        field.metadata,
      ), f"two classes state --{field.name} differently"


def _flag(field: dataclasses.Field[Any], kind: Any) -> flags.Flag[Any]:
  """Returns the absl flag of an option with the type `kind`."""
  if kind == _TEXTS:
    return flags.MultiFlag(
      _Parser(field, str),
      flags.ArgumentSerializer(),
      flag_name(field),
      list(typing.cast(tuple[str, ...], field.default)),
      field.metadata["help"],
    )
  return flags.Flag(
    _Parser(field, kind),
    flags.ArgumentSerializer(),
    flag_name(field),
    field.default,
    field.metadata["help"],
    boolean=kind is bool,
  )


def sections(classes: Sequence[type[Group]]) -> list[help_pages.Section]:
  """Returns the sections of a page of help, in the order of the classes.

  The options that a class states itself come before those that the class
  inherits, and have a heading of their own. An option that several classes
  share stands under the first of them. Sections that contain only options
  without effect come last.
  """
  made: list[help_pages.Section] = []
  last: list[help_pages.Section] = []
  seen: set[str] = set()
  for cls in classes:
    for owner in cls.__mro__:
      stated = inspect.get_annotations(owner).keys() - seen
      own = [pair for pair in _options(cls) if pair[0].name in stated]
      seen |= {field.name for field, _ in own}
      if own:
        heading = (inspect.getdoc(owner) or "").partition("\n")[0]
        entries = [_entry(field, kind) for field, kind in own]
        ignored = all(field.metadata["ignored"] for field, _ in own)
        section = help_pages.Section(heading, entries)
        (last if ignored else made).append(section)
  return made + last


def _entry(field: dataclasses.Field[Any], kind: type) -> help_pages.Entry:
  """Returns the entry of an option on a page of help."""
  shown = str(field.default).lower() if kind is bool else field.default
  values = f"default: {'none' if shown in ('', ()) else shown}"
  if kind in (int, float) or field.metadata["choices"]:
    limits = dict(field.metadata)
    if limits["maximum"] == _LARGEST:  # of no interest to a reader
      limits["maximum"] = None
    values += f"; {_expected(kind, limits)}"
  return help_pages.Entry(
    flag_name(field), kind is bool, field.metadata["help"], values
  )


def parsed(cls: type[G]) -> G:
  """Returns an instance of `cls` with the values of the parsed flags.

  Raises:
    InputError: for options that contradict each other.
  """
  values = {
    field.name: flags.FLAGS[flag_name(field)].value
    for field in filter(is_option, dataclasses.fields(cls))
  }
  return cls(
    **{
      name: tuple(value) if isinstance(value, list) else value
      for name, value in values.items()
    }
  )


def run(main: Callable[..., None], *classes: type[Group]) -> None:
  """Parses the flags, calls `main` with one instance of each class, and exits.

  The instances are positional arguments, in the order of `classes`. The
  function does not return; the exit codes are in the docstring of the module.
  """
  define(*classes)
  app.run(
    lambda argv: _guarded(main, classes, argv),
    flags_parser=lambda argv: _parse(classes, argv),
  )


def _parse(classes: Sequence[type[Group]], argv: Sequence[str]) -> list[str]:
  """Parses the flags; returns the program's name and the other arguments.

  A bad flag ends the program with exit code 2.
  """
  usage = sys.modules["__main__"].__doc__ or ""
  help_pages.define_flags(help_pages.page(usage, sections(classes)))
  try:
    return flags.FLAGS(list(argv))
  except flags.Error as error:
    reason = " ".join(str(error).split())
    print(f"error: {reason} (--help lists the flags)", file=sys.stderr)
    raise SystemExit(2) from None


def _guarded(
  main: Callable[..., None], classes: Sequence[type[Group]], argv: Sequence[str]
) -> None:
  """Calls `main` with the options; ends the program if `main` raises an error.

  Args:
    main: the program.
    classes: the classes of its options.
    argv: the program's name; with further arguments the exit code is 2.
  """
  if len(argv) > 1:
    print(
      f"error: expected flags only; got {argv[1]!r}: write --name=value",
      file=sys.stderr,
    )
    raise SystemExit(2)
  logging.use_absl_handler()
  logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))
  handler = logging.get_absl_handler()
  handler.setFormatter(_Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
  handler.addFilter(_ours_or_a_warning)
  _say_ignored(classes)
  try:
    main(*(parsed(cls) for cls in classes))
  except (InputError, OSError) as error:
    _fail(str(error) if isinstance(error, InputError) else _os_error(error))
  except KeyboardInterrupt:
    print("interrupted: nothing half-written was left", file=sys.stderr)
    _leave_at_once(INTERRUPTED)
  except Exception:  # noqa: BLE001  the outermost handler
    traceback.print_exc()
    raise SystemExit(_CRASHED) from None


class _Formatter(py_logging.Formatter):
  """Formats log lines and escapes control characters in them."""

  def format(self, record: py_logging.LogRecord) -> str:
    return shown_text.escaped(super().format(record), kept="\n\t")


def _say_ignored(classes: Sequence[type[Group]]) -> None:
  """Logs one line for each given flag without effect."""
  for cls in classes:
    for field, _ in _options(cls):
      reason, name = field.metadata["ignored"], flag_name(field)
      if reason and flags.FLAGS[name].present:
        logging.warning("--%s is ignored: %s", name, reason)


def _leave_at_once(code: int) -> NoReturn:
  """Ends the process without destroying its objects one by one.

  Their destruction takes TensorFlow seconds, for which a person who pressed
  Ctrl-C would wait. Functions registered with atexit run, so that no child
  process stays.
  """
  atexit._run_exitfuncs()
  logging.flush()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _ours_or_a_warning(record: py_logging.LogRecord) -> bool:
  """Returns whether a log record is shown.

  All records of this project are shown, but of libraries only warnings and
  errors: less severe records are for the libraries' authors, and orbit repeats
  lines of this project. This project's code is in site-packages too, if it was
  installed as a wheel.
  """
  parts = pathlib.PurePath(record.pathname).parts
  if record.levelno >= py_logging.WARNING or "site-packages" not in parts:
    return True
  package = parts[len(parts) - parts[::-1].index("site-packages") :][0]
  return package in _PACKAGES


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
  """Adds a file name to an OSError of a failed write inside the context.

  The system names a file that cannot be opened. It names no file when a write
  fails: on a full disk, above a quota or the largest size of a file, on a
  broken disk. Other errors of the block pass unchanged.

  Args:
    path: the path of the open file, or of the folder of several.

  Raises:
    OSError: the error of a failed write, with `path` as its `filename`.
  """
  try:
    yield
  except OSError as error:
    if error.filename is None and error.errno in _WRITE_ERRORS:
      error.filename = path
    raise


def _os_error(error: OSError) -> str:
  """Returns a message of one line for an OSError, such as a full disk."""
  place = error.filename or "a file"
  reason = os.strerror(error.errno) if error.errno else str(error)
  return shown_text.printable(
    f"expected to read or write {place}; got {reason}: mend that and rerun"
  )


def _fail(message: str) -> None:
  """Prints `error: MESSAGE` to standard error, and exits with 1.

  With --v=1 or more it raises the exception that is being handled, so that
  Python prints a traceback.
  """
  if logging.get_verbosity() > logging.INFO:  # --v=1: the traceback too
    raise  # noqa: PLE0704  re-raises what _guarded is handling
  print(f"error: {message}", file=sys.stderr)
  raise SystemExit(1) from None
