"""Tests that every regular expression and every cleaner takes linear time.

New code is measured without being named here: the regular expressions are those
of all modules, the rules and sources those of their registries.
"""

import collections
import dataclasses
import functools
import importlib
import io
import pathlib
import pkgutil
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from data_prep.base import shown_text
from data_prep.classification import tweets
from data_prep.corpus import corpus_options, preparation
from data_prep.sources import downloads, epub, texts, wikipedia
from data_prep.text import (
  alignment,
  cleaning,
  legacy_letters,
  morphemes,
  normalization,
  quality,
  sentences,
  typesetting,
)
from tests import running
from tests.hostile import shapes

pytestmark = pytest.mark.slow

_PACKAGES = ("data_prep", "albert_mn", "bert_tweet")
# Characters of the largest text, and seconds; what takes less is not measured
# again. At this size quadratic work of a regular expression takes 2 to 100 ms,
# linear work some 0.1 ms.
_SIZE, _SUSPECT = 2048, 1e-3
# The same for a cleaner, which has more to do for each character.
_CLEANERS_SIZE, _CLEANERS_SUSPECT = 4096, 15e-3
# Twice the text may take so many times longer: linear work doubles, quadratic
# work takes four times as long, and the rest is room for noise.
_MOST = 3.0
_ROUNDS = 6  # of measuring the three sizes


def _seconds(work: Callable[[str], object], text: str) -> float:
  """Returns the CPU time of the work on a text, in seconds."""
  begin = time.process_time()
  work(text)
  return time.process_time() - begin


def _growth(
  work: Callable[[str], object],
  make: Callable[[int], str],
  size: int = _SIZE,
  suspect: float = _SUSPECT,
) -> float:
  """Returns the growth of time when a text doubles; 0 if it is fast enough.

  It is the smaller growth of two: from n to 2n and from 2n to 4n characters.
  The three sizes are measured in turn, so that other work slows all of them, and
  the lowest time of each counts.

  Args:
    work: the function to measure.
    make: makes a text of a size.
    size: 4n, the size of the largest text.
    suspect: seconds; if the largest text takes less, the time is linear.
  """
  large = make(size)
  if _seconds(work, large) < suspect:
    return 0.0
  made = (make(size // 4), make(size // 2), large)
  rounds = [[_seconds(work, text) for text in made] for _ in range(_ROUNDS)]
  small, half, whole = (min(times) for times in zip(*rounds, strict=True))
  return min(whole / half, half / small) if whole >= suspect else 0.0


def _modules() -> Iterator[tuple[str, str]]:
  """Yields the name and the source of each module of our packages."""
  for package in _PACKAGES:
    folder = str(running.ROOT / package)
    for module in pkgutil.walk_packages([folder], f"{package}."):
      if not module.ispkg:
        path = module.name.replace(".", "/") + ".py"
        source = pathlib.Path(running.ROOT, path).read_text("utf-8")
        yield module.name, source


def _patterns(
  value: object, name: str
) -> Iterator[tuple[str, re.Pattern[str]]]:
  """Yields the patterns in a value of a module, also those in collections.

  Args:
    value: the value.
    name: the name of the value.
  """
  if isinstance(value, re.Pattern):
    yield name, value
  elif isinstance(value, dict):
    for inner in value.values():
      yield from _patterns(inner, name)
  elif isinstance(value, (list, tuple)):
    for inner in value:
      yield from _patterns(inner, name)


def _literals(source: str) -> Iterator[re.Pattern[str]]:
  """Yields the patterns that are written in calls such as re.search("a+", x)."""
  for match in re.finditer(
    r"\bre\.(?:search|match|fullmatch|sub|split|findall|finditer)\(\s*"
    r"r?(?P<pattern>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')\s*,",
    source,
  ):
    yield re.compile(match["pattern"][1:-1])


def _collected() -> dict[tuple[str, str], re.Pattern[str]]:
  """Returns (module, name of the pattern) → pattern, of all modules."""
  made = {}
  for name, source in _modules():
    for variable, value in vars(importlib.import_module(name)).items():
      for path, pattern in _patterns(value, variable):
        made[name, path, pattern.pattern] = pattern
    for pattern in _literals(source):
      made[name, "", pattern.pattern] = pattern
  return {
    (module, path or str(text)): pattern
    for (module, path, text), pattern in made.items()
  }


def _search(pattern: re.Pattern[Any], text: str | bytes) -> None:
  """Searches for all matches."""
  collections.deque(pattern.finditer(text), maxlen=0)


def _of_bytes(work: Callable[[Any], object], text: str) -> None:
  """Calls a function of bytes with the bytes of a text."""
  work(text.encode())


def _is_anchored(name: str, source: str) -> bool:
  """Returns whether a pattern is only used by match and fullmatch.

  A search begins again at each letter; match and fullmatch do not.
  """
  # A collection's patterns are used by the name that a loop gives them.
  loops = re.findall(rf"for (\w+)(?:, \w+)* in {re.escape(name)}\b", source)
  uses = {
    use
    for variable in (name, *loops)
    for use in re.findall(rf"\b{re.escape(variable)}\b(?:\.(\w+))?", source)
  }
  searches = {"search", "sub", "subn", "split", "findall", "finditer"}
  return bool(uses & {"match", "fullmatch"}) and not uses & searches


def test_every_regular_expression_takes_linear_time() -> None:
  sources = dict(_modules())
  everything = "\n".join(sources.values())
  patterns = _collected()
  assert len(patterns) > 120, "the search for regular expressions is broken"
  slow, measured = [], 0
  for (module, name), pattern in patterns.items():
    works: dict[str, Callable[[str], object]] = {
      "match": pattern.match,
      "fullmatch": pattern.fullmatch,
    }
    private = name.startswith("_")
    if not _is_anchored(name, sources[module] if private else everything):
      works["search"] = functools.partial(_search, pattern)
    if isinstance(pattern.pattern, bytes):
      works = {
        way: functools.partial(_of_bytes, work) for way, work in works.items()
      }
    for way, work in works.items():
      for shape in shapes.names(seed=0, pairs=10):
        measured += 1
        growth = _growth(work, functools.partial(shapes.text, shape, ends=1))
        if growth > _MOST:
          slow.append(f"{module}.{name} {way} {shape}: {growth:.1f}")
  print(f"{len(patterns)} regular expressions, {measured} measurements")
  assert not slow, "\n".join(slow)


@pytest.mark.parametrize(
  ("pattern", "unit"),
  [
    (r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "_"),
    (r"[a-z6']*[a-z][a-z6']*", "6"),
    (r"\s+$", " "),
    (r"<span\b[^<>]*\bdisplay:\s*none\b[^<>]*>", "display:none "),
  ],
)
def test_what_is_quadratic_is_seen(pattern: str, unit: str) -> None:
  begin = "<span " if pattern.startswith("<") else ""
  growth = _growth(
    lambda text: re.findall(pattern, f"{begin}{text}ь"),
    lambda size: shapes.text((unit, unit), 2 * size),
  )
  assert growth > _MOST


def _book(text: str) -> object:
  """Returns an e-book with a text as its page."""
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr(
      "META-INF/container.xml", '<a><rootfile full-path="o.opf"/></a>'
    )
    archive.writestr(
      "o.opf",
      '<package><item id="p" href="p.html"/><itemref idref="p"/></package>',
    )
    page = f"<html><body><p>{text}</p></body></html>"
    archive.writestr("p.html", page.encode("utf-8", "replace"))
  return epub.Book("а.epub", buffer.getvalue())


# What a source's reader yields for a file that holds a text.
_ITEMS: dict[str, Callable[[str], object]] = {
  "text": lambda text: tuple(text.split("\n")),
  "news": lambda text: (text,),
  "wikipedia": lambda text: wikipedia.Page("Гол", text),
  "epub": _book,
}


def _settings(source: str, **changed: Any) -> corpus_options.Settings:
  """Returns the settings of a corpus, with all rules of cleaning switched on."""
  rules: dict[str, Any] = {
    field.name: True
    for field in dataclasses.fields(cleaning.Options)
    if field.type in (bool, "bool")
  }
  return corpus_options.Settings(
    corpus_options.Options(
      source=source, output_dir="out", repair_legacy_letters=True, **changed
    ),
    cleaning.Options(**rules, quality_rules=",".join(quality.NAMES)),
    texts.Options(),
    downloads.Options(),
  )


def _source(source: str) -> Callable[[str], object]:
  """Returns a function that prepares a text as a source does."""
  settings = _settings(source, near_duplicates=0.8)
  return lambda text: preparation.prepared(
    ("", [_ITEMS[source](text)]), settings
  )


def _of_rule(rule: quality.Rule) -> Callable[[str], object]:
  return lambda text: rule.measure(quality.Text(text.split("\n")))


_CLEANERS: dict[str, Callable[[str], object]] = {
  **{f"source {name}": _source(name) for name in preparation.SOURCES},
  **{
    f"tweets {how}": functools.partial(tweets.clean, latin_mongolian=how)
    for how in ("keep", "mark", "transliterate")
  },
  "normalization": lambda text: normalization.normalize(text, True),
  "normalization traced": lambda text: normalization.traced(
    alignment.Traced.of(text)
  ),
  "sentences": sentences.split,
  "legacy letters": legacy_letters.repair,
  "typesetting": lambda text: typesetting.paragraphs(
    text.split("\n"), typesetting.words([text])
  ),
  "morphemes": lambda text: morphemes.laid_on(text, [text[::2], text]),
  "printable": shown_text.printable,
  "markdown": shown_text.markdown,
  "cell": shown_text.cell,
  "scrub": cleaning.scrub,
  "markup": quality.without_markup,
  **{f"rule {rule.name}": _of_rule(rule) for rule in quality.RULES},
  **{f"rule {rule.name}": rule.drops for rule in quality.LINE_RULES},
}


@pytest.mark.parametrize("name", _CLEANERS)
def test_every_cleaner_takes_linear_time(name: str) -> None:
  clean = _CLEANERS[name]
  slow = []
  drawn = shapes.names(seed=1, pairs=10)
  for number, shape in enumerate(drawn):
    for ends in range(4) if name == "source wikipedia" else (number % 2,):
      growth = _growth(
        clean,
        functools.partial(shapes.text, shape, ends=ends),
        _CLEANERS_SIZE,
        _CLEANERS_SUSPECT,
      )
      if growth > _MOST:
        slow.append(f"{shape}, ends {ends}: {growth:.1f}")
  assert not slow, f"{name}:\n" + "\n".join(slow)
