"""Cleans raw text into a corpus: one sentence a line.

python -m data_prep.build_corpus --source=text --input_file='raw/*.txt' \\
  --output_dir=corpus
"""

from absl import logging

from data_prep import corpora, options, texts


def main(settings: corpora.Options, text: texts.Options) -> None:
  """Builds the corpus and says what it holds."""
  for name, count in sorted(corpora.build(settings, text).items()):
    logging.info("%s: %s", name, f"{count:,}")


if __name__ == "__main__":
  options.run(main, corpora.Options, texts.Options)
