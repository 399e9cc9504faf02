"""Tests of pooling the positions of a text, here and in exports."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.export import export_graphs, export_source, exports, lite
from albert_mn.finetune import classification, fine_tuning
from albert_mn.formats import conversion
from albert_mn.inference import explanation
from albert_mn.models import pooling
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.encoding import tokenization
from data_prep.files import storage
from tests import classification_test as base

TEXTS = [
  "цас орлоо",
  "эмч өвчин эм эмнэлэг сувилагч",
  "бөхийн барилдаан хоёр баг",
]


def _plain(kind: str, hidden: np.ndarray, size: int) -> np.ndarray:
  """Returns the pooled vector of a text, computed in numpy.

  Args:
    kind: the kind of pooling.
    hidden: the vectors of the text's positions.
    size: number of pieces of the text; later positions are padding.
  """
  real = hidden[:size]
  return real.mean(axis=0) if kind == pooling.MEAN else real.max(axis=0)


@pytest.mark.parametrize("kind", [pooling.MEAN, pooling.MAX])
def test_real_positions_count_and_padding_does_not(kind: str) -> None:
  rng = np.random.default_rng(0)
  hidden = rng.normal(size=[3, 7, 5]).astype(np.float32) - 2  # all below 0
  mask = np.zeros([3, 7], np.int32)
  for row, size in enumerate((7, 4, 1)):
    mask[row, :size] = 1
    hidden[row, size:] = 99
  vectors = pooling.vector(kind, tf.constant(hidden), tf.constant(mask), tf.abs)
  for row, size in enumerate((7, 4, 1)):
    expected = _plain(kind, hidden[row], size)
    np.testing.assert_allclose(vectors[row], expected, rtol=1e-5)
  nothing = pooling.vector(kind, hidden, np.zeros_like(mask), tf.abs)
  assert np.isfinite(nothing).all(), "a row that fills up a batch"


def test_cls_goes_through_the_pooler() -> None:
  hidden = np.array([[[-1.0, 2.0], [5.0, 5.0]]], np.float32)
  vector = pooling.vector(
    pooling.CLS, tf.constant(hidden), tf.ones([1, 2], tf.int32), tf.abs
  )
  np.testing.assert_array_equal(vector, [[1.0, 2.0]])


@pytest.fixture(scope="module", params=[pooling.MEAN, pooling.MAX])
def model_dir(
  request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
  words = [word for field in base.WORDS.values() for word in field]
  made = base.made_folder(tmp_path_factory.mktemp("pooling"), words)
  flags = base._tiny(
    made, train_step=12, pooling=request.param, word_dropout=0.2
  )
  classification.run(*base._settings(made / "out", **flags))
  return str(made / "out" / "model")


def test_a_model_directory_knows_what_its_head_reads(model_dir: str) -> None:
  predictor = classifier.Predictor.load(model_dir)
  kind = predictor.manifest["parameters"]["pooling"]
  assert predictor.model.pooled_by == kind
  framed = predictor.framer.frame(TEXTS)
  assert isinstance(predictor.model, classifier.Classifier)
  head = predictor.model.classifier
  for ids, logits in zip(framed.ids, predictor.logits(TEXTS), strict=True):
    row = tf.constant(ids[None])
    hidden = predictor.model.encoder(
      row, tf.ones_like(row), tf.zeros_like(row)
    ).sequence_output.numpy()[0]
    vector = _plain(kind, hidden, len(ids))
    expected = vector @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)
  answer = explanation.Explainer.of(predictor).explain(TEXTS[1]).answer
  assert answer
  assert abs(answer.missed) < 0.01 * max(
    1, abs(answer.score - answer.baseline_score)
  )
  np.testing.assert_allclose(
    answer.probabilities, predictor.probabilities(TEXTS)[1], atol=1e-5
  )


def test_graphs_carry_it_and_files_of_weights_for_others_are_refused(
  model_dir: str, tmp_path: pathlib.Path
) -> None:
  predictor = classifier.Predictor.load(model_dir)
  expected = predictor.logits(TEXTS)
  for to in ("saved_model", "tflite"):
    exports.run(
      exports.Options(model_dir=model_dir, output_dir=str(tmp_path / to), to=to)
    )
  served = tf.saved_model.load(str(tmp_path / "saved_model"))
  answers = served.signatures["serving_default"](texts=tf.constant(TEXTS))
  np.testing.assert_allclose(answers["logits"], expected, atol=1e-4)
  runner = lite.LiteClassifier(
    storage.read_bytes(str(tmp_path / "tflite" / lite.NAME))
  )
  source = export_source.opened(model_dir)
  _, framer = export_graphs._classifier(
    source, exports.Options(model_dir=model_dir, output_dir="out")
  )
  logits = export_graphs._answered(
    framer, TEXTS, lambda ids, _: runner.logits(ids)
  )
  np.testing.assert_allclose(logits, expected, atol=1e-4)
  for to in ("tf1", "huggingface"):
    refused = exports.Options(
      model_dir=model_dir, output_dir=str(tmp_path / to), to=to
    )
    with pytest.raises(options.InputError, match=f"for --to={to}, whose heads"):
      exports.run(refused)
    assert not (tmp_path / to).exists()


def test_what_is_converted_keeps_what_its_head_reads(
  model_dir: str, tmp_path: pathlib.Path
) -> None:
  out = str(tmp_path / "converted")
  conversion.run(conversion.Options(init_checkpoint=model_dir, output_dir=out))
  before, after = (classifier.Predictor.load(path) for path in (model_dir, out))
  np.testing.assert_allclose(
    after.logits(TEXTS), before.logits(TEXTS), atol=1e-6
  )


def test_entities_have_no_vector_and_frozen_encoders_hide_no_words(
  tmp_path: pathlib.Path,
) -> None:
  row = '{"text": "Баянгол дүүрэг", "labels": [[0, 14, "LOC"]]}\n'
  (tmp_path / "rows.jsonl").write_text(row * 3, "utf-8")
  words = [word for field in base.WORDS.values() for word in field]
  made = base.made_folder(tmp_path, words)
  flags = base._tiny(
    made,
    data_dir="",
    train_file=str(tmp_path / "rows.jsonl"),
    eval_file=str(tmp_path / "rows.jsonl"),
    task_name="ner",
    pooling="mean",
  )
  with pytest.raises(options.InputError, match="no --pooling for entities"):
    classification.run(*base._settings(tmp_path / "out", **flags))
  with pytest.raises(options.InputError, match="--freeze_encoder"):
    fine_tuning.Recipe(word_dropout=0.1, freeze_encoder=True)


def test_whole_words_are_hidden_and_nothing_else(tokenizer_file: str) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  text = "Хүн бүр эрх чөлөөтэй, тэгш эрхтэй төрдөг."
  (pieces,) = tokenizer.encode([text])
  row = [tokenizer.cls_id, *pieces, tokenizer.sep_id, tokenizer.pad_id]
  ids = np.tile(np.array(row, np.int32), [400, 1])
  hidden = fine_tuning.without_words(
    ids, 0.3, tokenizer, np.random.default_rng(0)
  )
  assert hidden.dtype == np.int32
  assert (hidden[:, [0, -2, -1]] == ids[:, [0, -2, -1]]).all()
  is_hidden = hidden == tokenizer.mask_id
  assert (hidden[~is_hidden] == ids[~is_hidden]).all()
  starts = tokenizer.word_starts[ids[0]]
  for place in range(2, len(row) - 2):
    if not starts[place]:  # the rest of a word goes with its beginning
      assert (is_hidden[:, place] == is_hidden[:, place - 1]).all()
  shares = is_hidden[:, np.flatnonzero(starts)].mean(axis=0)
  np.testing.assert_allclose(shares, 0.3, atol=0.09)
  again = fine_tuning.without_words(
    ids, 0.3, tokenizer, np.random.default_rng(0)
  )
  assert (again == hidden).all()
