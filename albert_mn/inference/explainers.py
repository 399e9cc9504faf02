"""Opens a model of any format that can be read, for explanations."""

from albert_mn.formats import initial_weights
from albert_mn.inference import explanation
from albert_mn.models import encoders
from albert_mn.tasks import classifier
from data_prep.files import manifest


def load(
  path: str, spm_model_file: str = "", gelu: str = "auto"
) -> explanation.Explainer:
  """Returns an explainer of any model that `initial_weights` can read.

  Explanations name an answer only for the model directory of a classifier.

  Args:
    path: a model directory, a TF 1 checkpoint or a Hugging Face directory.
    spm_model_file: the SentencePiece model, if there is none beside the
      weights.
    gelu: the value of --gelu: "auto", "tanh" or "erf".

  Raises:
    options.InputError: when there is no model at `path`, when tokenizer and
      model do not fit each other, or when `gelu` is given for a model of this
      project.
  """
  described = manifest.find(path) or {}
  if described.get("kind") == classifier.KIND and gelu == "auto":
    return explanation.Explainer.of(classifier.Predictor.load(path))
  config = initial_weights.settle_config("", "", path, gelu=gelu)
  encoder = encoders.AlbertEncoder(config, seed=0)
  initial_weights.load(path, {"encoder": encoder})
  tokenizer = initial_weights.tokenizer(path, config, spm_model_file)
  return explanation.Explainer(
    encoder, tokenizer, config.max_position_embeddings
  )
