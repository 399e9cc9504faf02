r"""Trains a SentencePiece model on a corpus.

    python -m data_prep.train_tokenizer --input_file='corpus/*' \
      --output_dir=spm --vocab_size=16000 --compare_vocab_sizes=8000,32000
"""

from absl import logging

from data_prep.base import options
from data_prep.encoding import (
  tokenization,
  tokenizer_report,
  tokenizer_training,
)


def main(settings: tokenizer_training.Options) -> None:
  """Trains the tokenizer and logs its report."""
  figures = tokenizer_training.train(settings)
  for line in tokenizer_report.lines(figures):
    logging.info("%s", line)
  logging.info(
    "%s/%s: %d pieces",
    settings.output_dir,
    tokenization.MODEL_NAME,
    settings.vocab_size,
  )


if __name__ == "__main__":
  options.run(main, tokenizer_training.Options)
