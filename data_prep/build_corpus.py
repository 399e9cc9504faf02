r"""Cleans raw text into a corpus with one sentence in each line.

    python -m data_prep.build_corpus --source=text --input_file='raw/*.txt' \
      --output_dir=corpus
"""

from absl import logging

from data_prep.base import options
from data_prep.corpus import corpora, corpus_options
from data_prep.sources import downloads, texts
from data_prep.text import cleaning


def main(
  settings: corpus_options.Options,
  rules: cleaning.Options,
  text: texts.Options,
  download: downloads.Options,
) -> None:
  """Builds the corpus and logs its counts."""
  runner = None
  if settings.runner == "beam":
    from data_prep.corpus import beam_corpus

    runner = beam_corpus.run
  stats = corpora.build(
    corpus_options.Settings(settings, rules, text, download), runner
  )
  for name, count in sorted(stats.totals.items()):
    logging.info("%s: %s", name, f"{count:,}")


if __name__ == "__main__":
  options.run(
    main,
    corpus_options.Options,
    cleaning.Options,
    texts.Options,
    downloads.Options,
  )
