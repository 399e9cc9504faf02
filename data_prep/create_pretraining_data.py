"""Writes pretraining TFRecords from a corpus.

python -m data_prep.create_pretraining_data --input_file='corpus/*.txt' \\
  --spm_model_file=spm/tokenizer.model --output_dir=records
"""

from absl import logging

from data_prep import options, pretraining_data


def main(settings: pretraining_data.Options) -> None:
  """Writes the records and says what they are."""
  counts = pretraining_data.create(settings)
  for role in ("train", "eval"):
    text = counts[f"{role}_pieces"] + counts[f"{role}_cut"]
    logging.info(
      "%s: %d examples of %d documents, %d with a sentence pair; "
      "%.1f %% of the pieces masked, %.1f %% of the positions padding, "
      "%.1f %% of the text cut off at the ends of long examples",
      role,
      counts[f"{role}_examples"],
      counts[f"{role}_documents"],
      counts[f"{role}_pairs"],
      100 * counts[f"{role}_masked"] / max(counts[f"{role}_pieces"], 1),
      100 * counts[f"{role}_padding"] / max(counts[f"{role}_positions"], 1),
      100 * counts[f"{role}_cut"] / max(text, 1),
    )


if __name__ == "__main__":
  options.run(main, pretraining_data.Options)
