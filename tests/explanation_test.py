"""Tests attention against google-research, and attribution by its axioms."""

import json
import pathlib
import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from albert_mn.formats import initial_weights
from albert_mn.inference import explainers, explanation
from albert_mn.models import configs, encoders, model_directory
from albert_mn.tasks import classifier, problems
from bert_tweet import attention, web_pages
from data_prep.base import options
from data_prep.classification import tweets
from data_prep.encoding import framing, tokenization
from data_prep.text import alignment
from tests import running, tokenizer_kinds

REFERENCE = pathlib.Path(__file__).parent / "reference"
TEXT = "Хүн бүр эрх чөлөөтэй, тэгш эрхтэй төрдөг."


@pytest.mark.parametrize(
  "name", ["albert_g1_trained", "albert_g3", "bert_trained"]
)
def test_attention_equals_that_of_google_research(name: str) -> None:
  family = (
    configs.BertConfig if name.startswith("bert") else configs.AlbertConfig
  )
  config = family.from_file(str(REFERENCE / name / "config.json"))
  encoder = encoders.AlbertEncoder(config, seed=0)
  initial_weights.load(
    str(REFERENCE / name / "model.ckpt"), {"encoder": encoder}
  )
  inputs = np.load(REFERENCE / "inputs.npz")
  given = (inputs[x] for x in ("input_ids", "input_mask", "segment_ids"))
  output = encoder(*map(tf.constant, given), with_attentions=True)
  expected = np.load(REFERENCE / name / "outputs.npz")
  real = inputs["input_mask"].astype(bool)
  assert len(output.attentions) == 3
  for layer, weights in enumerate(output.attentions):
    want = expected[f"attn_{layer}"]
    for row in range(4):  # what padding attends to is nobody's business
      np.testing.assert_allclose(
        weights.numpy()[row][:, real[row]], want[row][:, real[row]], atol=1e-5
      )


def _explainer(tokenizer_file: str, **shape: Any) -> explanation.Explainer:
  """Returns an explainer of a classifier with large random weights.

  So no attribution is near 0.
  """
  config = configs.AlbertConfig(
    vocab_size=400,
    embedding_size=16,
    hidden_size=32,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
    initializer_range=0.3,
    **({"num_hidden_layers": 3} | shape),
  )
  model = classifier.Classifier(config, 3, seed=1)
  model.classifier.kernel.assign(tf.random.stateless_normal([32, 3], [1, 2]))
  return explanation.Explainer(
    model.encoder,
    tokenization.Tokenizer(tokenizer_file),
    64,
    model.classifier,
    problems.SingleLabel(("нэг", "хоёр", "гурав")),
  )


@pytest.fixture(scope="module")
def explainer(tokenizer_file: str) -> explanation.Explainer:
  return _explainer(tokenizer_file)


def test_attention_is_the_models_own_and_no_padding_is_in_it(
  explainer: explanation.Explainer, tokenizer_file: str
) -> None:
  explained = explainer.explain(TEXT)
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  (pieces,) = tokenizer.encode([TEXT])
  ids = [tokenizer.cls_id, *pieces, tokenizer.sep_id]
  assert explained.pieces == tokenizer.pieces(ids)
  row = tf.constant([ids])
  output = explainer._encoder(
    row, tf.ones_like(row), tf.zeros_like(row), with_attentions=True
  )
  assert explained.attention.shape == (3, 4, len(ids), len(ids))
  np.testing.assert_allclose(explained.attention.sum(-1), 1, atol=1e-5)
  for layer, expected in zip(
    explained.attention, output.attentions, strict=True
  ):
    np.testing.assert_allclose(layer, expected.numpy()[0], atol=1e-5)


def test_the_second_of_two_equal_blocks_of_a_group_is_shown_too(
  tokenizer_file: str,
) -> None:
  explained = _explainer(tokenizer_file, inner_group_num=2).explain("эрх")
  assert explained.attention.shape[:2] == (6, 4)


def test_the_parts_of_an_attribution_sum_to_what_they_are_parts_of(
  explainer: explanation.Explainer,
) -> None:
  """This is completeness, the paper's proposition 1."""
  answer = explainer.explain(TEXT).answer
  assert answer
  difference = answer.score - answer.baseline_score
  assert abs(difference) > 0.5, "or there is nothing to explain"
  assert abs(answer.attribution.sum() - difference) < 0.01 * max(
    1, abs(difference)
  )
  share = answer.probabilities.max()
  assert answer.score == pytest.approx(np.log(share / (1 - share)), rel=1e-3)
  assert answer.names[answer.probabilities.argmax()] == answer.label


def test_what_is_in_the_baseline_too_is_part_of_nothing(
  explainer: explanation.Explainer,
) -> None:
  """This is the paper's axiom of sensitivity (b)."""
  explained = explainer.explain("эрх", "үүрэг")
  assert explained.answer
  same = np.isin(explained.pieces, ["[CLS]", "[SEP]"])
  assert same.sum() == 3
  assert not explained.answer.attribution[same].any()
  assert explained.answer.attribution[~same].all()


def test_a_pair_has_segments_and_loses_the_end_of_its_longer_text(
  explainer: explanation.Explainer,
) -> None:
  explained = explainer.explain("эрх", "үүрэг " * 60)
  assert explained.pieces[:1] + explained.pieces[-1:] == ["[CLS]", "[SEP]"]
  first = explained.pieces.index("[SEP]")
  assert explained.segments == [0] * (first + 1) + [1] * (63 - first)
  assert len(explained.pieces) == 64
  assert explained.cut > 0
  assert "".join(explained.pieces[1:first]) == "▁эрх"


def test_pieces_are_joined_to_the_words_of_the_text(
  explainer: explanation.Explainer,
) -> None:
  explained = explainer.explain(f"{TEXT} 🙂")
  assert explained.word_texts == [
    "[CLS]",
    "Хүн",
    "бүр",
    "эрх",
    "чөлөөтэй",
    ",",
    "тэгш",
    "эрхтэй",
    "төрдөг",
    ".",
    *explained.word_texts[10:],
  ]
  assert explained.word_texts[10:] == ["🙂", "[SEP]"]
  assert "🙂" in explained.pieces, "a piece that the tokenizer does not know"
  assert len(set(explained.words)) == len(explained.word_texts)
  assert len(explained.pieces) > len(explained.word_texts)


def _viewer(
  tokenizer: tokenization.Tokenizer,
  long_text: str = framing.HEAD,
  clean: Callable[[str], alignment.Traced] = alignment.Traced.of,
) -> explanation.Explainer:
  """Returns an explainer without a classifier, which reads 16 pieces."""
  config = configs.AlbertConfig(
    vocab_size=400,
    embedding_size=8,
    hidden_size=8,
    num_attention_heads=1,
    num_hidden_layers=1,
    intermediate_size=8,
    max_position_embeddings=16,
  )
  encoder = encoders.AlbertEncoder(config, seed=0)
  return explanation.Explainer(
    encoder, tokenizer, 16, clean=clean, long_text=long_text
  )


def test_words_are_apart_where_the_tokenizer_marks_their_ends(
  tmp_path: pathlib.Path,
) -> None:
  path = tokenizer_kinds.foreign(
    tmp_path / "ends",
    treat_whitespace_as_suffix=True,
    model_type="char",
    vocab_size=120,
  )
  viewer = _viewer(tokenization.Tokenizer(path))
  explained = viewer.explain("эм ус, цас")
  assert explained.word_texts == ["[CLS]", "эм", "ус", ",", "цас", "[SEP]"]


def test_a_page_shows_what_was_typed_and_not_what_the_model_reads(
  tokenizer_file: str,
) -> None:
  """An earlier page had Саин for Сайн, and wrong letters behind an …."""
  reader = tokenization.Tokenizer(
    tokenizer_file, do_lower_case=True, strip_accents=True
  )
  explainer = _viewer(reader)
  for words in (
    ["Сайн", "…", "Ё", "Хүн"],
    ["Саи\u0306н", "ЁС", "№", "Хүн"],
  ):
    explained = explainer.explain(" ".join(words))
    assert explained.word_texts == ["[CLS]", *words, "[SEP]"]
    typed = [piece for piece in explained.pieces[1:-1] if piece != "."]
    shown = "".join(typed).replace("▁", " ").replace("No", "")
    assert shown.split() == words


def test_a_page_shows_a_tweet_as_it_was_typed(tokenizer_file: str) -> None:
  """The model reads `@ http` and `баярлалаа` in place of the tweet's words."""
  explainer = _viewer(
    tokenization.Tokenizer(tokenizer_file), clean=tweets.traced
  )
  explained = explainer.explain("Эрх &amp; @bold, https://t.co/x ээээ")
  joined = " ".join(explained.word_texts)
  assert joined == "[CLS] Эрх &amp; @bold , https://t.co/x ээээ [SEP]"
  explained = _viewer(
    tokenization.Tokenizer(tokenizer_file),
    clean=lambda text: tweets.traced(text, "mark"),
  ).explain("sain baina uu")
  assert " ".join(explained.word_texts).endswith("sain baina uu [SEP]")


def test_a_word_of_wordpiece_is_shown_as_it_was_typed(
  tmp_path: pathlib.Path,
) -> None:
  pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] саи ##н ес ? ##тои".split()
  path = tmp_path / "vocab.txt"
  path.write_text("\n".join(pieces) + "\n", encoding="utf-8")
  reader = tokenization.Tokenizer(str(path), True, True)
  explained = _viewer(reader).explain("Сайн ёстой  үг?")
  assert explained.pieces == [
    "[CLS]",
    "Сай",
    "##н",
    "ёс",
    "##той",
    "▁үг",
    "?",
    "[SEP]",
  ]
  assert explained.word_texts == ["[CLS]", "Сайн", "ёстой", "үг", "?", "[SEP]"]


@pytest.mark.parametrize("long_text", framing.LONG_TEXTS)
def test_a_page_is_of_the_pieces_that_a_classifier_reads(
  tokenizer_file: str, long_text: str
) -> None:
  tokenizer = tokenization.Tokenizer(tokenizer_file)
  framer = framing.Framer(tokenizer, 16, long_text)
  explainer = _viewer(tokenizer, long_text)
  words = "эрх тэгш хүн бүр төр нийгэм ажил хөдөлмөр цалин".split()
  for text, pair in (
    (" ".join(words), ""),
    (" ".join(words), " ".join(words[::-1])),
    (" ".join(words[:3]), " ".join(words)),
    ("эрх", "хүн"),
  ):
    framed = framer.frame([(text, pair) if pair else text])
    explained = explainer.explain(text, pair)
    assert explained.pieces == tokenizer.pieces(framed.ids[0])
    assert explained.segments == [
      int(place >= framed.second_starts[0])
      for place in range(len(explained.pieces))
    ]
    assert explained.cut == framed.sizes[0] - len(explained.pieces) + 2 + bool(
      pair
    )
    assert explained.windows == len(framed.ids)
    assert attention.view(explained)["windows"] == len(framed.ids)


def _rows(shape: tuple[int, ...], sharpness: float) -> np.ndarray:
  scores = np.random.default_rng(3).normal(size=shape) * sharpness
  shares = np.exp(scores - scores.max(-1, keepdims=True))
  return (shares / shares.sum(-1, keepdims=True)).astype(np.float32)


def _unpacked(packed: attention.Packed, shape: tuple[int, ...]) -> np.ndarray:
  """Returns attention, float64 of a shape, as a page's script computes it."""
  levels = np.frombuffer(zlib.decompress(packed.levels), np.uint8)
  scales = np.frombuffer(packed.scales, "<u2").reshape(shape[:-1])
  return levels.reshape(shape) / 255 * scales[..., None] / 65_535


@pytest.mark.parametrize("sharpness", [0, 1, 5, 50])
def test_a_packed_number_is_off_by_no_more_than_is_said(
  sharpness: float,
) -> None:
  rows = _rows((2, 3, 40, 40), sharpness)
  packed = attention.pack(rows)
  assert (packed.kept, packed.share) == (0, 1)
  off = np.abs(_unpacked(packed, rows.shape) - rows)
  bound = rows.max(-1, keepdims=True) / 510 + 1 / 131_070
  assert (off <= bound + 1e-9).all()
  assert off.any(), "then it says more than it must"


def test_what_is_too_much_keeps_the_largest_of_each_row() -> None:
  rows = _rows((2, 4, 64, 64), 2)
  packed = attention.pack(rows, limit=6000)
  assert len(packed.levels) <= 6000
  assert 1 < packed.kept < 64
  unpacked = _unpacked(packed, rows.shape)
  kept = (unpacked > 0).sum(-1)
  assert kept.max() == packed.kept
  off = np.abs(unpacked - rows) <= rows.max(-1, keepdims=True) / 500
  best = np.argsort(rows, -1)[..., -packed.kept // 2 :]
  assert np.take_along_axis(off, best, -1).all()
  largest = np.sort(rows, -1)[..., -packed.kept :].sum() / rows.sum()
  assert packed.share == pytest.approx(largest, abs=0.02)


@pytest.mark.slow
def test_a_page_of_512_pieces_12_layers_and_12_heads_stays_below_6_mb(
  explainer: explanation.Explainer,
) -> None:
  """The attention has no structure, which is the worst to compress."""
  explained = explainer.explain(TEXT)
  large = explanation.Explanation(
    ["▁чөлөөтэй"] * 512,
    [*range(512)],
    ["чөлөөтэй"] * 512,
    [0] * 512,
    0,
    1,
    _rows((12, 12, 512, 512), 1.0),
    explained.answer,
  )
  assert len(attention.page(large).encode("utf-8")) < 6_000_000


def test_a_page_runs_its_own_scripts_alone_and_fetches_nothing(
  explainer: explanation.Explainer,
) -> None:
  page = attention.page(explainer.explain("</script><script>alert(1)</script>"))
  assert page.count("<script") == page.count("</script>") == 2
  policy = web_pages.policy_of(page)
  assert "default-src 'none'" in policy
  assert "unsafe" not in policy
  assert "connect-src 'none'" in policy
  outside = set(re.findall(r"https?://[^\s\"']+", page))
  assert outside == {"http://www.w3.org/2000/svg"}, "a namespace is no address"
  for place in ("script-src", "style-src"):
    hashed = re.search(rf"{place} '(sha256-[^']+)'", policy)
    assert hashed, policy
  assert not re.search(r"\son\w+=|javascript:|style=", page.split("<script")[0])


def test_a_page_holds_the_models_numbers(
  explainer: explanation.Explainer,
) -> None:
  explained = explainer.explain(TEXT)
  page = attention.page(explained)
  data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])  # type: ignore[index]
  assert data["pieces"] == explained.pieces
  assert (data["layers"], data["heads"]) == (3, 4)
  assert explained.answer
  np.testing.assert_allclose(
    data["answer"]["attribution"], explained.answer.attribution, atol=5e-5
  )
  assert data["answer"]["label"] == explained.answer.label


def test_a_model_without_a_head_is_shown_without_an_answer(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  config = configs.AlbertConfig(
    vocab_size=400,
    embedding_size=16,
    hidden_size=32,
    num_attention_heads=2,
    num_hidden_layers=1,
    intermediate_size=32,
    max_position_embeddings=32,
  )
  encoder = encoders.AlbertEncoder(config, seed=0)
  model_directory.save(
    str(tmp_path),
    "pretrained_model",
    config=config,
    parts={"encoder": encoder},
    tokenizer_file=tokenizer_file,
    parameters={"do_lower_case": False},
    counts={},
    inputs={},
  )
  explained = explainers.load(str(tmp_path)).explain(TEXT)
  assert explained.answer is None
  assert explained.attention.shape[:2] == (1, 2)
  assert attention.view(explained)["answer"] is None


def test_the_form_of_gelu_can_be_given_for_a_model_from_elsewhere_alone(
  topics: str,
) -> None:
  path = str(REFERENCE / "hf_topics")
  usual, exact, tanh = (
    explainers.load(path, gelu=gelu).explain(TEXT).attention
    for gelu in ("auto", "erf", "tanh")
  )
  np.testing.assert_array_equal(usual, exact)
  assert np.abs(usual - tanh).max() > 1e-7
  with pytest.raises(options.InputError, match="of a model from elsewhere"):
    explainers.load(topics, gelu="tanh")


def test_weights_without_a_tokenizer_ask_for_one(
  tmp_path: pathlib.Path, tokenizer_file: str
) -> None:
  path = str(REFERENCE / "hf_albert")
  with pytest.raises(options.InputError, match="spm_model_file"):
    explainers.load(path)
  with pytest.raises(options.InputError, match="at most 40 pieces"):
    explainers.load(path, tokenizer_file)


def test_visualize_writes_a_page_for_a_classifier(
  programs: running.Programs, topics: str, tmp_path: pathlib.Path
) -> None:
  target = tmp_path / "new/attention.html"
  programs.succeed(
    "-m",
    "bert_tweet.visualize",
    f"--model_dir={topics}",
    "--input_text=хүн бүр эрхтэй",
    f"--output_file={target}",
  )
  assert '"label": "эрх"' in target.read_text("utf-8")


def test_a_folder_that_is_no_model_is_refused() -> None:
  with pytest.raises(options.InputError, match="a model directory"):
    explainers.load("nowhere")
