"""How fast wikitext becomes text, against the parser library alone.

python -m benchmarks.wikipedia_speed --input_file=mnwiki-pages-articles.xml.bz2
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence

import mwparserfromhell

from data_prep import options, storage, wikipedia


@dataclasses.dataclass(frozen=True)
class Options:
  """What to measure on."""

  input_file: str = options.option("", "dumps: globs, by commas")
  pages: int = options.option(500, "how many articles", minimum=1)

  def __post_init__(self) -> None:
    options.require(self, "input_file")


def _seconds(
  function: Callable[[wikipedia.Page], object], pages: Sequence[wikipedia.Page]
) -> float:
  began = time.process_time()
  for page in pages:
    function(page)
  return time.process_time() - began


def main(settings: Options) -> None:
  """Prints MB of wikitext a CPU-second of both, and their ratio."""
  found = itertools.chain.from_iterable(
    map(wikipedia.items, storage.matching(settings.input_file))
  )
  articles = (page for page in found if not page.redirect)
  pages = list(itertools.islice(articles, settings.pages))
  size = sum(len(page.text.encode()) for page in pages) / 1e6
  ours = _seconds(wikipedia.paragraphs, pages)
  alone = _seconds(
    lambda page: mwparserfromhell.parse(page.text).strip_code(), pages
  )
  print(
    f"{len(pages)} articles, {size:.1f} MB: ours {size / ours:.2f} MB/s, "
    f"mwparserfromhell's strip_code {size / alone:.2f} MB/s: "
    f"ratio {alone / ours:.2f}"
  )


if __name__ == "__main__":
  options.run(main, Options)
