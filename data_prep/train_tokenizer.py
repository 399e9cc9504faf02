"""Trains the SentencePiece model of a corpus.

python -m data_prep.train_tokenizer --input_file='corpus/*' --output_dir=spm
"""

from absl import logging

from data_prep import options, tokenization


def main(settings: tokenization.TrainingOptions) -> None:
  """Trains and says what came of it."""
  figures = tokenization.train(settings)
  logging.info("%s/%s", settings.output_dir, tokenization.MODEL_NAME)
  for name, value in figures.items():
    listed = ", ".join(value) if isinstance(value, list | dict) else value
    logging.info("%s: %s", name.replace("_", " "), listed)


if __name__ == "__main__":
  options.run(main, tokenization.TrainingOptions)
