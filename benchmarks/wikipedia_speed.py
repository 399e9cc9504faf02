r"""Compares the speed of text from a Wikipedia dump with a parser's speed.

    python -m benchmarks.wikipedia_speed \
      --input_file=enwiki-pages-articles.xml.bz2

`data_prep.sources.wikipedia.rendered` and
`mwparserfromhell.parse(text).strip_code()` read the same pages in one process,
page by page in turn, so that other work on the machine slows both. The ratio
does not include the reading of the dump, whose time is printed separately.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import mwparserfromhell

from data_prep.base import options
from data_prep.files import storage
from data_prep.sources import wikipedia


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Options: the dumps, and how much of them to read."""

  input_file: str = options.option(
    "",
    "XML dumps of MediaWiki, as glob patterns separated by commas. Required.",
  )
  max_megabytes: int = options.option(
    20,
    "Number of megabytes of wikitext to read. mwparserfromhell reads about "
    "one megabyte per second.",
    minimum=1,
  )

  def check(self) -> None:
    options.require(self, "input_file")


def main(settings: Options) -> None:
  """Prints the MB of wikitext per CPU second of both parsers, and the ratio."""
  began = time.process_time()
  pages = _pages(settings)
  reading = time.process_time() - began
  ours = library = 0.0
  for page in pages:
    ours += _seconds(wikipedia.rendered, page)
    library += _seconds(_library, page.text)
  megabytes = _megabytes(pages)
  print(f"{len(pages):,} articles, {megabytes:.1f} MB of wikitext")
  print(f"reading the dump     {megabytes / reading:6.2f} MB/s")
  print(f"wikipedia.rendered   {megabytes / ours:6.2f} MB/s")
  print(f"mwparserfromhell     {megabytes / library:6.2f} MB/s")
  print(f"ratio                {library / ours:6.2f}")


def _pages(settings: Options) -> list[wikipedia.Page]:
  """Returns articles of the dumps, max_megabytes of wikitext in total.

  Redirects are left out.

  Raises:
    options.InputError: when the dumps contain no article.
  """
  pages, left = [], settings.max_megabytes * 1e6
  for path in storage.matching(settings.input_file):
    for page in wikipedia.items(path):
      if left > 0 and page.text:
        pages.append(page)
        left -= len(page.text.encode())
  if not pages:
    raise options.InputError(
      "a dump with articles", settings.input_file, "give another dump"
    )
  return pages


def _megabytes(pages: Sequence[wikipedia.Page]) -> float:
  """Returns the size of pages' wikitext in MB."""
  return sum(len(page.text.encode()) for page in pages) / 1e6


def _library(text: str) -> str:
  """Returns the plain text of wikitext by mwparserfromhell's strip_code."""
  return mwparserfromhell.parse(text).strip_code()


def _seconds(function: Callable[[Any], Any], argument: Any) -> float:
  """Returns the CPU seconds that function(argument) takes."""
  began = time.process_time()
  function(argument)
  return time.process_time() - began


if __name__ == "__main__":
  options.run(main, Options)
