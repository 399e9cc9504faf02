"""Writes a page that shows what a model looked at in a text.

    python -m bert_tweet.visualize --model_dir=run/model \\
      --input_text='Бөхийн барилдаан эхэллээ.' --output_file=attention.html
"""

import dataclasses

from absl import logging

from albert_mn import explanation
from bert_tweet import attention
from data_prep import options, storage


@dataclasses.dataclass(frozen=True)
class Options:
  model_dir: str = options.option(
    "", "the model: a classifier or a pretrained one, a TF 1 checkpoint or a "
    "directory of Hugging Face's",
  )  # fmt: skip
  input_text: str = options.option("", "what it reads")
  input_text_pair: str = options.option("", "the second text of a pair")
  output_file: str = options.option("attention.html", "the page")
  spm_model_file: str = options.option(
    "", "the SentencePiece model, where none lies beside the weights"
  )

  def __post_init__(self) -> None:
    options.require(self, "model_dir", "input_text", "output_file")


def main(settings: Options) -> None:
  """Reads the model, looks, writes."""
  explainer = explanation.Explainer.load(
    settings.model_dir, settings.spm_model_file
  )
  explained = explainer.explain(settings.input_text, settings.input_text_pair)
  with storage.writing(settings.output_file) as file:
    file.write(attention.page(explained))
  if explained.cut:
    logging.info(
      "%d pieces are not in it: the model has room for %d",
      explained.cut,
      len(explained.pieces),
    )
  logging.info("wrote %s: open it in a browser", settings.output_file)


if __name__ == "__main__":
  options.run(main, Options)
