"""The encoder and its heads against numbers of google-research's own code."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from albert_mn import configs, pretraining, tf1_checkpoints
from data_prep import options

REFERENCE = pathlib.Path(__file__).parent / "reference"


def _model(name: str) -> pretraining.PretrainingModel:
  family = (
    configs.BertConfig if name.startswith("bert") else configs.AlbertConfig
  )
  path = str(REFERENCE / name / "config.json")
  return pretraining.PretrainingModel(family.from_file(path), 0)


def _features() -> dict[str, tf.Tensor]:
  features = dict(np.load(REFERENCE / "inputs.npz"))
  features["next_sentence_labels"] = features["next_sentence_labels"][:, 0]
  return {name: tf.constant(value) for name, value in features.items()}


@pytest.mark.parametrize(
  "name", ["albert_g1_trained", "albert_g3", "bert_trained"]
)
def test_outputs_equal_those_of_google_research(name: str) -> None:
  model, features = _model(name), _features()
  arrays = tf1_checkpoints.read(str(REFERENCE / name / "model.ckpt"))
  left = tf1_checkpoints.assign(model, arrays)
  assert ("global_step" in left) == name.endswith("_trained")
  expected = np.load(REFERENCE / name / "outputs.npz")
  encoded = model.encoder(
    features["input_ids"], features["input_mask"], features["segment_ids"]
  )
  output = model(features)
  real = features["input_mask"].numpy().astype(bool)
  found = {
    "embedding_output": encoded.embedding_output.numpy(),
    "sequence_output": encoded.sequence_output.numpy(),
    "pooled_output": encoded.pooled_output.numpy(),
    "mlm_logits": output.masked_lm_logits.numpy().reshape(12, -1),
    "sent_logits": output.sentence_logits.numpy(),
    **{f"layer_{i}": v.numpy() for i, v in enumerate(encoded.layer_outputs)},
  }
  for key, value in found.items():
    want = expected[key]
    if value.shape[:2] == real.shape:  # padding is nobody's business
      value, want = value[real], want[real]
    np.testing.assert_allclose(value, want, rtol=1e-4, atol=2e-5, err_msg=key)
  sums = pretraining.losses(output, features)
  np.testing.assert_allclose(
    sums.masked_lm_loss_sum / (sums.masked_lm_count + 1e-5),  # as upstream
    expected["mlm_loss"],
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    sums.sentence_loss_sum / sums.sentence_count,
    expected["sent_loss"],
    rtol=1e-5,
  )


def test_a_renamed_weight_is_an_error_that_names_it() -> None:
  model = _model("albert_g3")
  arrays = tf1_checkpoints.read(str(REFERENCE / "albert_g3" / "model.ckpt"))
  arrays["bert/pooler/dense/kernal"] = arrays.pop("bert/pooler/dense/kernel")
  with pytest.raises(options.InputError, match="kernel.*kernal"):
    tf1_checkpoints.assign(model, arrays)
