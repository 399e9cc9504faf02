"""Tests of the tokenizer: Mongolian letters, equal bytes, clear errors."""

import json
import os
import pathlib

import numpy as np
import pytest
import sentencepiece

from data_prep.base import options
from data_prep.encoding import (
  tokenization,
  tokenizer_report,
  tokenizer_training,
)
from tests import running

SAMPLE = str(running.ROOT / "sample/morphemes/sigmorphon2022.tsv")
WIKIPEDIA = running.ROOT / "sample/pretrain/wiki_articles.txt"


def _train(
  corpus: pathlib.Path, folder: pathlib.Path, **more: object
) -> tokenization.Tokenizer:
  settings = dict(input_file=str(corpus), output_dir=str(folder)) | more
  tokenizer_training.train(tokenizer_training.Options(**settings))  # type: ignore[arg-type]
  return tokenization.Tokenizer(str(folder / tokenization.MODEL_NAME))


def test_training_twice_gives_the_same_bytes(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  for name in ("one", "two"):
    _train(udhr, tmp_path / name, vocab_size=300)
  first, second = (
    {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
    for name in ("one", "two")
  )
  assert first == second
  assert set(first) == {
    "tokenizer.model",
    "tokenizer.vocab",
    "report.json",
    "manifest.json",
  }
  for name, content in first.items():
    assert str(tmp_path).encode() not in content, name


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_the_special_pieces_have_their_places_and_none_is_dead(
  udhr: pathlib.Path, tmp_path: pathlib.Path, model_type: str
) -> None:
  tokenizer = _train(udhr, tmp_path, vocab_size=300, model_type=model_type)
  assert tokenizer.vocab_size == 300
  assert tokenizer.pieces(range(5)) == [
    "<pad>",
    "<unk>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
  ]
  assert tokenizer.special[:5].all()
  assert not tokenizer.special[5:].any()
  assert tokenizer.unreachable() == []
  report = json.loads((tmp_path / "report.json").read_text())
  assert report["unknown_share"] < 0.001
  assert 1 < report["pieces_per_word"] < 6


def test_the_report_counts_what_the_model_does(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  tokenizer = _train(udhr, tmp_path, vocab_size=300)
  text = ["Хүн бүр эрх чөлөөтэй.", "Хүн"]
  figures = tokenizer_report.figures(tokenizer, dict.fromkeys(text, 1))
  pieces = [p for ids in tokenizer.encode(text) for p in tokenizer.pieces(ids)]
  assert figures["words"] == 5
  assert figures["pieces_per_word"] == round(len(pieces) / 5, 4)
  assert figures["characters_per_piece"] == round(21 / len(pieces), 4)
  assert figures["unknown_share"] == 0
  assert figures["used_share"] == round(len(set(pieces)) / 295, 4)
  assert len(figures["longest_pieces"]) == 10
  assert len(figures["longest_pieces"][0]) >= len(figures["longest_pieces"][-1])
  assert set(figures["rarest_pieces"].values()) == {0}


def test_pieces_used_less_than_100_times_are_rare(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  tokenizer = _train(udhr, tmp_path, vocab_size=300)
  (first,) = tokenizer.encode(["эрх"])
  for times, rare in ((99, 295), (100, 295 - len(set(first.tolist())))):
    figures = tokenizer_report.figures(tokenizer, {"эрх": times})
    assert figures["rare_pieces"] == rare


def test_the_report_compares_sizes_without_changing_the_model(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _train(udhr, tmp_path / "alone", vocab_size=300, morphemes_file=SAMPLE)
  _train(udhr, tmp_path / "other", vocab_size=400, morphemes_file=SAMPLE)
  _train(
    udhr,
    tmp_path / "both",
    vocab_size=300,
    morphemes_file=SAMPLE,
    compare_vocab_sizes="400,200,300",
  )
  alone, larger, both = (
    json.loads((tmp_path / name / "report.json").read_text("utf-8"))
    for name in ("alone", "other", "both")
  )
  del larger["sentences"]
  least, most = both.pop("compared")
  assert least["vocab_size"] == 200
  assert most == larger
  assert both == alone
  assert (tmp_path / "both/tokenizer.model").read_bytes() == (
    tmp_path / "alone/tokenizer.model"
  ).read_bytes()


def test_the_table_has_a_column_for_each_size(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  _train(
    udhr,
    tmp_path,
    vocab_size=400,
    compare_vocab_sizes="300,500",
    morphemes_file=SAMPLE,
  )
  report = json.loads((tmp_path / "report.json").read_text("utf-8"))
  rows = tokenizer_report.lines(report)
  cells = {row[:32].strip(): row[32:].split() for row in rows[:-2]}
  assert cells["pieces"] == ["300", "400", "500"]
  assert cells["unreachable pieces"] == ["0", "0", "0"]
  assert cells["embedding, ALBERT's 128 wide"] == ["38,400", "51,200", "64,000"]
  assert cells["embedding, BERT's 768 wide"][0] == "230,400"
  assert cells["morphemes: F1"][1] == f"{report['morphemes']['f1']:.3f}"
  assert len({len(row) for row in rows[:-2]}) == 1
  del report["morphemes"], report["compared"]
  assert not any("morph" in row for row in tokenizer_report.lines(report))


@pytest.mark.parametrize(
  "sizes", ["8000;16000", "7", "-300", "8k", "nan", "inf", "9" * 5000]
)
def test_sizes_to_compare_that_are_none_are_refused(sizes: str) -> None:
  with pytest.raises(options.InputError, match="--compare_vocab_sizes of 8"):
    tokenizer_training.Options(
      input_file="a", output_dir="b", compare_vocab_sizes=sizes
    )


def test_pieces_agree_with_morphemes_better_than_chance(
  tmp_path: pathlib.Path,
) -> None:
  _train(WIKIPEDIA, tmp_path, vocab_size=4000, morphemes_file=SAMPLE)
  report = json.loads((tmp_path / "report.json").read_text("utf-8"))
  scores = report["morphemes"]
  assert scores["words"] == 2280
  assert scores["left_out"] == 0
  for figure in ("precision", "recall", "f1", "exact_share"):
    assert scores["at_random"][figure] < scores[figure] < 1, figure


@pytest.mark.parametrize("lower", [False, True])
def test_segments_are_the_text_as_it_was_given(
  udhr: pathlib.Path, tmp_path: pathlib.Path, lower: bool
) -> None:
  tokenizer = _train(
    udhr, tmp_path, vocab_size=500, byte_fallback=True, do_lower_case=lower
  )
  words = ["Хөвсгөлийн", "ᠮᠣᠩ", "Саи\u0306н"]
  assert ["".join(parts) for parts in tokenizer.segment(words)] == words
  assert len(tokenizer.segment(words)[0]) > 1


def test_a_sample_is_even_of_the_size_asked_for_and_the_seeds_own(
  tmp_path: pathlib.Path,
) -> None:
  corpus = tmp_path / "corpus.txt"
  corpus.write_text(
    "".join(f"Өгүүлбэр {i}.\n\n" for i in range(1000)), encoding="utf-8"
  )

  def draw(size: int, seed: int) -> list[str]:
    settings = tokenizer_training.Options(
      input_file=str(corpus),
      output_dir="b",
      input_sentence_size=size,
      random_seed=seed,
    )
    sample = tokenizer_training.sample(settings)
    assert list(sample) == list(sample)
    assert len(list(sample)) == sample.size
    return list(sample)

  everything = draw(0, 1)
  assert len(everything) == len(draw(5000, 1)) == 1000
  counts = np.zeros(10)
  for seed in range(40):
    drawn = draw(100, seed)
    assert len(set(drawn)) == 100
    assert set(drawn) <= set(everything)
    for sentence in drawn:
      counts[everything.index(sentence) // 100] += 1
  # 400 a tenth expected, with a standard deviation of 18.
  assert abs(counts - 400).max() < 5 * 18
  assert draw(100, 1) != draw(100, 2)


def test_another_seed_samples_another_model(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  for name, seed in (("one", 1), ("same", 1), ("two", 2)):
    _train(
      udhr,
      tmp_path / name,
      vocab_size=200,
      input_sentence_size=40,
      random_seed=seed,
    )
  first, same, reseeded = (
    (tmp_path / name / "tokenizer.model").read_bytes()
    for name in ("one", "same", "two")
  )
  assert first == same != reseeded
  report = json.loads((tmp_path / "one/report.json").read_text("utf-8"))
  assert report["sentences"] == 40


def test_sentences_too_long_for_sentencepiece_are_left_out(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  long = tmp_path / "long.txt"
  long.write_text("урт " * 20_000 + "\n", encoding="utf-8")
  with pytest.raises(options.InputError, match=r"got 1 in .*, all longer"):
    _train(long, tmp_path / "none")
  _train(udhr, tmp_path / "without", vocab_size=300)
  both = tmp_path / "both.txt"
  both.write_bytes(long.read_bytes() + udhr.read_bytes())
  _train(both, tmp_path / "with", vocab_size=300)
  assert (tmp_path / "with/tokenizer.model").read_bytes() == (
    tmp_path / "without/tokenizer.model"
  ).read_bytes()


@pytest.mark.parametrize("lower", [False, True])
def test_a_user_defined_symbol_is_one_piece_and_one_word(
  udhr: pathlib.Path, tmp_path: pathlib.Path, lower: bool
) -> None:
  tokenizer = _train(
    udhr,
    tmp_path,
    vocab_size=300,
    user_defined_symbols="@ХЭРЭГЛЭГЧ,@ХОЛБООС",
    do_lower_case=lower,
  )
  (ids,) = tokenizer.encode(["хүн@ХЭРЭГЛЭГЧ эрх@ХОЛБООС"])
  pieces = tokenizer.pieces(ids)
  for symbol in ("@ХЭРЭГЛЭГЧ", "@ХОЛБООС"):
    assert pieces.count(symbol) == 1
    assert tokenizer.word_starts[ids[pieces.index(symbol)]]
  assert tokenizer.unreachable() == []


def test_letters_of_a_symbol_are_not_learnt_in_lower_case(
  tmp_path: pathlib.Path,
) -> None:
  text = tmp_path / "symbols.txt"
  words = "нэг хоёр гурав дөрөв тав зургаа долоо найм ес арав".split()
  lines = [f"Энэ мэдээг [URL] хаягаас уншина уу {word}" for word in words]
  text.write_text("\n".join(lines * 9), encoding="utf-8")
  tokenizer = _train(
    text,
    tmp_path,
    vocab_size=36,
    user_defined_symbols="[URL]",
    do_lower_case=True,
  )
  pieces = tokenizer.pieces(range(tokenizer.vocab_size))
  assert "[URL]" in pieces
  assert not {"u", "r", "l", "[", "]"} & set(pieces)


@pytest.mark.parametrize("symbols", ["@А,@А", "[MASK]", "@А,<pad>"])
def test_a_symbol_that_is_there_already_is_refused(symbols: str) -> None:
  with pytest.raises(options.InputError, match="--user_defined_symbols"):
    tokenizer_training.Options(
      input_file="a", output_dir="b", user_defined_symbols=symbols
    )


def test_an_uncased_model_lower_cases_by_itself(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  tokenizer = _train(udhr, tmp_path, vocab_size=200, do_lower_case=True)
  upper, lower, apart = tokenizer.encode(
    ["САЙН ӨДӨР ЁСТОЙ", "сайн өдөр ёстой", "Саи\u0306н өдөр Ёстой"]
  )
  np.testing.assert_array_equal(upper, lower)
  np.testing.assert_array_equal(apart, lower)
  assert tokenizer.decode(upper.tolist()) == "сайн өдөр ёстой"


def test_byte_fallback_spells_what_it_never_saw(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  tokenizer = _train(udhr, tmp_path, vocab_size=500, byte_fallback=True)
  (ids,) = tokenizer.encode(["ᠮᠣᠩᠭᠣᠯ 😀"])
  assert tokenizer.unk_id not in ids
  assert tokenizer.decode(ids.tolist()) == "ᠮᠣᠩᠭᠣᠯ 😀"


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize(
  ("size", "message"),
  [(50_000, r"--vocab_size of at most \d+"), (20, r"of at least \d+")],
)
def test_a_vocabulary_the_corpus_cannot_fill_is_refused_with_the_limit(
  udhr: pathlib.Path,
  tmp_path: pathlib.Path,
  size: int,
  message: str,
  model_type: str,
) -> None:
  with pytest.raises(options.InputError, match=message):
    _train(udhr, tmp_path / "out", vocab_size=size, model_type=model_type)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  "more",
  [{}, {"model_type": "bpe"}, {"byte_fallback": True}, {"do_lower_case": True}],
  ids=str,
)
def test_the_named_limits_are_ones_that_train(
  udhr: pathlib.Path, tmp_path: pathlib.Path, more: dict[str, object]
) -> None:
  with pytest.raises(options.InputError) as refused:
    _train(udhr, tmp_path, vocab_size=50_000, **more)
  most = int(refused.value.expected.split("at most ")[1].split()[0])
  with pytest.raises(options.InputError) as refused:
    _train(udhr, tmp_path, vocab_size=8, **more)
  least = int(refused.value.expected.split("at least ")[1].split(",")[0])
  for size in (least, most):
    assert _train(udhr, tmp_path, vocab_size=size, **more).vocab_size == size


def test_a_size_to_compare_that_the_corpus_cannot_fill_is_named_as_such(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(
    options.InputError, match=r"--compare_vocab_sizes of at most \d+"
  ):
    _train(udhr, tmp_path / "out", vocab_size=300, compare_vocab_sizes="50000")
  assert not (tmp_path / "out").exists()


def test_an_empty_corpus_is_refused(tmp_path: pathlib.Path) -> None:
  (tmp_path / "empty.txt").write_text("\n\n")
  with pytest.raises(options.InputError, match="got none in"):
    _train(tmp_path / "empty.txt", tmp_path / "out")


def test_a_model_without_the_special_pieces_is_refused(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  sentencepiece.SentencePieceTrainer.train(
    input=str(udhr),
    model_prefix=str(tmp_path / "plain"),
    vocab_size=300,
    minloglevel=2,
  )
  with pytest.raises(options.InputError, match="expected a piece <pad>"):
    tokenization.Tokenizer(str(tmp_path / "plain.model"))


@pytest.mark.parametrize("name", ["mn_cased.model", "mn_uncased.model"])
def test_models_from_elsewhere_work_with_their_own_special_ids(
  name: str,
) -> None:
  shared = os.environ.get("ALBERT_MN_SHARED")
  if not shared:
    pytest.skip("ALBERT_MN_SHARED is unset: no foreign models here")
  path = os.path.join(shared, "data", "spm", name)
  processor = sentencepiece.SentencePieceProcessor(model_file=path)
  ours = tokenization.Tokenizer(path)
  assert processor.id_to_piece(ours.cls_id) == "[CLS]"
  assert processor.id_to_piece(ours.sep_id) == "[SEP]"
  assert processor.id_to_piece(ours.mask_id) == "[MASK]"
  assert processor.id_to_piece(ours.pad_id) in ("<pad>", "[PAD]")
  assert ours.unreachable() == []
  text = "Хоёр найз сайн ярилцав."
  assert ours.encode([text])[0].tolist() == processor.encode(text)


def test_a_digit_and_a_comma_come_apart_as_in_google_research_albert(
  digit_comma_file: str,
) -> None:
  as_trained, divided = (
    tokenization.Tokenizer(digit_comma_file, split_digit_commas=on)
    for on in (False, True)
  )
  text = "Он 22, 2022,5, уу, 1,"
  ids = as_trained.encode([text])[0]
  pieces = as_trained.pieces(ids)
  assert "▁22," in pieces
  assert "5," in pieces
  assert "22" in pieces
  want = []
  for piece in pieces:
    # "5," stands inside of a word, so that its "5" begins none.
    want += {"▁22,": ["▁22", ","], "5,": ["5", ","]}.get(piece, [piece])
  divided_ids = divided.encode([text])[0]
  assert divided.pieces(divided_ids) == want
  for tokenizer in (as_trained, divided):
    stretches = tokenizer.segment([text])[0]
    assert "".join(stretches) == text
    assert len(stretches) == len(tokenizer.encode([text])[0])
  assert divided.pieces(divided.inside("22,", True)) == ["▁22", ","]
  assert divided.decode(divided_ids) == as_trained.decode(ids)


def test_a_model_whose_pieces_are_not_utf8_is_refused(
  tokenizer_file: str, tmp_path: pathlib.Path
) -> None:
  raw = pathlib.Path(tokenizer_file).read_bytes()
  path = tmp_path / "tokenizer.model"
  path.write_bytes(raw.replace("▁".encode(), b"\xff\xfe\xfd"))
  with pytest.raises(options.InputError, match="a SentencePiece model at"):
    tokenization.Tokenizer(str(path))
