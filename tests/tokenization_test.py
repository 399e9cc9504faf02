"""The tokenizer: Mongolian letters stay, bytes repeat, limits are named."""

import json
import os
import pathlib

import numpy as np
import pytest
import sentencepiece

from data_prep import options, tokenization


def _train(
  corpus: pathlib.Path, folder: pathlib.Path, **more: object
) -> tokenization.Tokenizer:
  settings = dict(input_file=str(corpus), output_dir=str(folder)) | more
  tokenization.train(tokenization.TrainingOptions(**settings))  # type: ignore[arg-type]
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
    "tokenizer.model", "tokenizer.vocab", "report.json", "manifest.json",
  }  # fmt: skip
  for name, content in first.items():
    assert str(tmp_path).encode() not in content, name


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_the_special_pieces_have_their_places_and_none_is_dead(
  udhr: pathlib.Path, tmp_path: pathlib.Path, model_type: str
) -> None:
  tokenizer = _train(udhr, tmp_path, vocab_size=300, model_type=model_type)
  assert tokenizer.vocab_size == 300
  assert tokenizer.pieces(range(5)) == [
    "<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]",
  ]  # fmt: skip
  assert tokenizer.special[:5].all() and not tokenizer.special[5:].any()
  assert tokenizer.unreachable() == []
  report = json.loads((tmp_path / "report.json").read_text())
  assert report["unknown_share"] < 0.001
  assert 1 < report["pieces_per_word"] < 6


def test_the_report_counts_what_the_model_does(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  tokenizer = _train(udhr, tmp_path, vocab_size=300)
  text = ["Хүн бүр эрх чөлөөтэй.", "Хүн"]
  found = tokenization.report(tokenizer, text)
  pieces = [p for ids in tokenizer.encode(text) for p in tokenizer.pieces(ids)]
  assert found["words"] == 5
  assert found["pieces_per_word"] == round(len(pieces) / 5, 4)
  assert found["characters_per_piece"] == round(21 / len(pieces), 4)
  assert found["unknown_share"] == 0
  assert found["used_share"] == round(len(set(pieces)) / 295, 4)
  assert len(found["longest_pieces"]) == 10
  assert len(found["longest_pieces"][0]) >= len(found["longest_pieces"][-1])
  assert set(found["rarest_pieces"].values()) == {0}


def test_a_user_defined_symbol_is_one_piece_and_one_word(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  tokenizer = _train(
    udhr, tmp_path, vocab_size=300, user_defined_symbols="@ХЭРЭГЛЭГЧ,@ХОЛБООС"
  )
  (ids,) = tokenizer.encode(["хүн@ХЭРЭГЛЭГЧ эрх@ХОЛБООС"])
  pieces = tokenizer.pieces(ids)
  for symbol in ("@ХЭРЭГЛЭГЧ", "@ХОЛБООС"):
    assert pieces.count(symbol) == 1
    assert tokenizer.word_starts[ids[pieces.index(symbol)]]
  assert tokenizer.unreachable() == []


@pytest.mark.parametrize("symbols", ["@А,@А", "[MASK]", "@А,<pad>"])
def test_a_symbol_that_is_there_already_is_refused(symbols: str) -> None:
  with pytest.raises(options.InputError, match="--user_defined_symbols"):
    tokenization.TrainingOptions(
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


@pytest.mark.parametrize(
  ("size", "message"),
  [(50_000, r"--vocab_size of at most \d+"), (20, r"of more than \d+")],
)
def test_a_vocabulary_the_corpus_cannot_fill_is_refused_with_the_limit(
  udhr: pathlib.Path, tmp_path: pathlib.Path, size: int, message: str
) -> None:
  with pytest.raises(options.InputError, match=message):
    _train(udhr, tmp_path / "out", vocab_size=size)
  assert not (tmp_path / "out").exists()


def test_the_named_limit_is_one_that_trains(
  udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(options.InputError) as refused:
    _train(udhr, tmp_path, vocab_size=50_000)
  most = int(refused.value.expected.split("at most ")[1].split()[0])
  assert _train(udhr, tmp_path, vocab_size=most).vocab_size == most


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
  text = "Хоёр найз сайн ярилцав."
  assert ours.encode([text])[0].tolist() == processor.encode(text)
