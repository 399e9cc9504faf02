r"""Writes an HTML page with the attention of a model on a text.

    python -m bert_tweet.visualize --model_dir=run/model \
      --input_text='Бөхийн барилдаан эхэллээ.' --output_file=attention.html
"""

from absl import logging

from albert_mn.inference import explainers
from bert_tweet import attention
from data_prep.base import options
from data_prep.files import storage


def main(settings: attention.Options) -> None:
  """Reads the model, explains the text, and writes the page.

  Parts of the text that the page does not show are logged.
  """
  explainer = explainers.load(
    settings.model_dir, settings.spm_model_file, settings.gelu
  )
  explained = explainer.explain(settings.input_text, settings.input_text_pair)
  with storage.writing(settings.output_file) as file:
    file.write(attention.page(explained))
  if explained.windows > 1:
    logging.info(
      "the page shows the first of %d windows; a prediction is the mean of all",
      explained.windows,
    )
  elif explained.cut:
    logging.info(
      "%d pieces are left out: the model reads at most %d",
      explained.cut,
      len(explained.pieces),
    )
  logging.info("wrote %s: open it in a browser", settings.output_file)


if __name__ == "__main__":
  options.run(main, attention.Options)
