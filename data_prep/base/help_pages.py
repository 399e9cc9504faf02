"""The pages that `--help` and `--helpfull` print.

absl lists flags in alphabetical order. These pages list the options of a
program in the order in which the program states them, with a heading for each
group.
"""

import dataclasses
import io
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

_WIDTH = 80
# Values with which --help does not ask for help; with any other value it does.
_NO = ("false", "f", "no", "n", "0")


@dataclasses.dataclass(frozen=True)
class Entry:
  """One option on a page.

  Attributes:
    name: the name of the flag.
    boolean: whether --noNAME is a flag too.
    text: what the option does.
    values: the default and the possible values.
  """

  name: str
  boolean: bool
  text: str
  values: str

  def lines(self) -> list[str]:
    """Returns the lines of the page that describe the option."""
    negation = "[no]" if self.boolean else ""
    return [
      *_wrapped(f"--{negation}{self.name}: {self.text}", "  "),
      *_wrapped(f"({self.values})", "    "),
    ]


@dataclasses.dataclass(frozen=True)
class Section:
  """The options of a page that stand under one heading.

  Attributes:
    heading: the text of the heading; a final full stop is not shown.
    entries: the options, in their order.
  """

  heading: str
  entries: Sequence[Entry]

  def lines(self) -> list[str]:
    """Returns the lines of the page: a blank line, the heading, the options."""
    options = [line for entry in self.entries for line in entry.lines()]
    return ["", f"{self.heading.rstrip('.')}:", *options]


def page(usage: str, sections: Sequence[Section]) -> str:
  """Returns the page of `--help` as text.

  Args:
    usage: what the program does: the docstring of its file.
    sections: the options.
  """
  lines = [line for section in sections for line in section.lines()]
  more = "--helpfull lists the flags of the libraries too, such as --flagfile."
  return "\n".join([usage.strip(), *lines, "", more, ""])


def define_flags(short: str) -> None:
  """Defines --help (-h), --helpshort (-?), --helpfull and --helpxml.

  Each of these flags prints its page and ends the program with exit code 0.
  They take the place of absl's own flags, which exit with 1.

  Args:
    short: the page of --help and --helpshort, with which --helpfull begins.
  """
  app.define_help_flags()  # once defined, absl does not define them again
  program = "Print the options of this program."
  everything = "Print the options of this program and the flags of libraries."
  for name, letter, about, text in (
    ("help", "h", program, lambda: short),
    ("helpshort", "?", program, lambda: short),
    ("helpfull", None, everything, lambda: short + _libraries()),
    ("helpxml", None, "Print all flags as XML.", _xml),
  ):
    flag = _HelpFlag(name, letter, about, text)
    flags.DEFINE_flag(flag, module_name=app.__name__)


class _HelpFlag(flags.BooleanFlag):
  """A flag that prints a text to the standard output and ends the program."""

  def __init__(
    self, name: str, letter: str | None, about: str, text: Callable[[], str]
  ) -> None:
    self._text = text
    super().__init__(name, False, about, short_name=letter, allow_override=True)

  def parse(self, argument: Any) -> None:
    """Prints the text and exits with code 0; a value in _NO does nothing.

    _NO holds false, f, no, n and 0, as in --help=false.
    """
    if str(argument).lower() not in _NO:
      sys.stdout.write(self._text())
      sys.stdout.flush()
      raise SystemExit(0)


def _libraries() -> str:
  """Returns absl's help for the flags of all modules except the program.

  These are the flags of libraries. The modules are in alphabetical order.
  """
  modules = sorted(set(flags.FLAGS.flags_by_module_dict()) - {sys.argv[0]})
  return "".join(f"{flags.FLAGS.module_help(module)}\n" for module in modules)


def _xml() -> str:
  """Returns the XML of `--helpxml`: the flags of all modules, as absl does."""
  text = io.StringIO()
  flags.FLAGS.write_help_in_xml_format(text)
  return text.getvalue()


def _wrapped(text: str, indent: str) -> list[str]:
  """Wraps a text into lines of at most _WIDTH (80) columns; returns the lines.

  The first line begins with `indent`, the next lines with four spaces more.
  Only a line of a single long word may be longer than _WIDTH.
  """
  return textwrap.wrap(
    text,
    _WIDTH,
    initial_indent=indent,
    subsequent_indent=indent + "    ",
    break_long_words=False,
    break_on_hyphens=False,
  )
