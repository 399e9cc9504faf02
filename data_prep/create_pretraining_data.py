r"""Turns a corpus into TFRecords with masked examples for pretraining.

    python -m data_prep.create_pretraining_data --input_file='corpus/*.txt' \
      --spm_model_file=spm/tokenizer.model --output_dir=records
"""

import functools

from absl import logging

from data_prep.base import options
from data_prep.pretraining import pretraining_data


def main(settings: pretraining_data.Options) -> None:
  """Writes the records; logs their counts."""
  runner = None
  if settings.runner == "beam":
    from data_prep.pretraining import beam_runner

    runner = functools.partial(beam_runner.run, settings.beam_options)
  counts = pretraining_data.create(settings, runner)
  for role in ("train", "eval"):
    if not counts[f"{role}_documents"]:
      continue
    logging.info("%s", pretraining_data.labels_line(role, settings, counts))

    def percent(part: str, whole: str, role: str = role) -> float:
      return 100 * counts[f"{role}_{part}"] / max(counts[f"{role}_{whole}"], 1)

    logging.info(
      "%s: %d examples of %d documents; "
      "%.1f %% of the pieces masked, %.1f %% of the masked words as a whole, "
      "%.1f %% of the positions padding, "
      "%.2f %% of the text's pieces in no example",
      role,
      counts[f"{role}_examples"],
      counts[f"{role}_documents"],
      percent("masked", "pieces"),
      percent("whole_words", "masked_words"),
      percent("padding", "positions"),
      percent("cut", "text_pieces"),
    )
  if alike := counts["train_documents_like_held_out"]:
    logging.info("%d documents are versions of held-out ones: left out", alike)
  logging.info(
    "google-research/albert reads the set with %s",
    pretraining_data.googles_flags(settings, counts),
  )


if __name__ == "__main__":
  options.run(main, pretraining_data.Options)
