"""Tests that tokenizer.json gives the ids of the file it was made from."""

import base64
import json
import pathlib
import random
from typing import Any

import pytest
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from albert_mn.formats import (
  fast_tokenizers,
  foreign_text,
  huggingface_tokenizer,
)
from albert_mn.models import configs
from data_prep.base import options
from data_prep.encoding import tokenization, tokenizer_training
from data_prep.files import storage
from tests import running, tokenizer_kinds

REFERENCE = pathlib.Path(__file__).parent / "reference"


@pytest.fixture(autouse=True)
def _cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _special(pieces: list[str]) -> list[dict[str, Any]]:
  return [
    {"id": i, "content": piece, "special": True}
    for i, piece in enumerate(pieces)
    if piece in ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]")
  ]


def _of_sentencepiece(model_file: str) -> dict[str, Any]:
  """Returns the tokenizer.json that transformers 5.24 makes for an ALBERT."""
  proto = sentencepiece_model_pb2.ModelProto.FromString(
    pathlib.Path(model_file).read_bytes()
  )
  table = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
  steps: list[dict[str, Any]] = [
    {"type": "Replace", "pattern": {"String": mark}, "content": '"'}
    for mark in ("``", "''")
  ]
  steps.append({"type": "Precompiled", "precompiled_charsmap": table})
  steps.append({"type": "Lowercase"})
  pieces = [piece.piece for piece in proto.pieces]
  return {
    "added_tokens": _special(pieces),
    "normalizer": {"type": "Sequence", "normalizers": steps},
    "model": {
      "type": "Unigram",
      "unk_id": 1,
      "vocab": [[piece.piece, piece.score] for piece in proto.pieces],
      "byte_fallback": False,
    },
  }


def _written(folder: pathlib.Path, content: object) -> str:
  path = folder / "tokenizer.json"
  path.write_text(json.dumps(content), encoding="utf-8")
  return str(path)


@pytest.mark.parametrize("kind", tokenizer_kinds.KINDS)
def test_what_is_written_comes_back_after_others_wrote_it_anew(
  kind: str, tmp_path: pathlib.Path
) -> None:
  file, ours = tokenizer_kinds.KINDS[kind].made(tmp_path / "model")
  huggingface_tokenizer.write(str(tmp_path), ours, file, 128)
  saved = tmp_path / "saved"
  saved.mkdir()
  path = str(saved / "tokenizer.json")
  written = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  written.save(path, pretty=False)
  model_file = fast_tokenizers.extracted(path)
  assert (
    pathlib.Path(model_file).read_bytes() == pathlib.Path(file).read_bytes()
  )
  text = foreign_text.read(str(saved), model_file, configs.AlbertConfig, True)
  assert text.settings == ours.settings
  assert text.reason == "the export's own, in tokenizer.json"


@pytest.mark.parametrize("kind", ["BPE", "cased", "WordPiece"])
def test_tokens_that_were_added_since_are_pieces_behind_the_others(
  kind: str, tmp_path: pathlib.Path
) -> None:
  file, ours = tokenizer_kinds.KINDS[kind].made(tmp_path / "model")
  huggingface_tokenizer.write(str(tmp_path), ours, file, 128)
  path = str(tmp_path / "tokenizer.json")
  content = json.loads(pathlib.Path(path).read_bytes())
  content["added_tokens"].append({"id": ours.vocab_size, "content": "[new]"})
  model_file = fast_tokenizers.extracted(_written(tmp_path, content))
  again = tokenization.Tokenizer.with_settings(model_file, ours.settings)
  assert again.pieces(range(again.vocab_size)) == [
    *ours.pieces(range(ours.vocab_size)),
    "[new]",
  ]
  content["added_tokens"][-1]["id"] += 1
  with pytest.raises(options.InputError, match="ids with gaps"):
    fast_tokenizers.extracted(_written(tmp_path, content))


@pytest.mark.parametrize("kind", ["BPE", "cased", "WordPiece"])
def test_an_export_with_other_pieces_or_a_damaged_file_is_refused(
  kind: str, tmp_path: pathlib.Path
) -> None:
  file, ours = tokenizer_kinds.KINDS[kind].made(tmp_path / "model")
  huggingface_tokenizer.write(str(tmp_path), ours, file, 128)
  written = pathlib.Path(tmp_path / "tokenizer.json").read_bytes()
  content = json.loads(written)
  vocabulary = content["model"]["vocab"]
  del vocabulary[list(vocabulary)[-1] if kind != "cased" else -1]
  with pytest.raises(options.InputError, match="other pieces than those"):
    fast_tokenizers.extracted(_written(tmp_path, content))
  content = json.loads(written)
  step = content["normalizer"]["normalizers"][-1]
  for damaged in (step["content"][:-9], step["content"].replace("A", "B")):
    step["content"] = damaged
    with pytest.raises(options.InputError, match="--spm_model_file"):
      fast_tokenizers.extracted(_written(tmp_path, content))


@pytest.mark.parametrize("kind", ["BPE", "cased", "WordPiece"])
@pytest.mark.parametrize("nested", [False, True])
def test_an_export_with_another_normalizer_is_refused(
  kind: str, nested: bool, tmp_path: pathlib.Path
) -> None:
  file, ours = tokenizer_kinds.KINDS[kind].made(tmp_path / "model")
  huggingface_tokenizer.write(str(tmp_path), ours, file, 128)
  content = json.loads(pathlib.Path(tmp_path / "tokenizer.json").read_bytes())
  lower, normalizer = {"type": "Lowercase"}, content["normalizer"]
  if nested:
    sequence = {"type": "Sequence", "normalizers": [lower, normalizer]}
    content["normalizer"] = sequence
  else:
    normalizer["normalizers"].insert(0, lower)
  with pytest.raises(options.InputError, match="a normalizer with other steps"):
    fast_tokenizers.extracted(_written(tmp_path, content))


def test_a_sentencepiece_model_comes_back_with_its_normalisation(
  tmp_path: pathlib.Path, tokenizer_file: str, udhr: pathlib.Path
) -> None:
  path = _written(tmp_path, _of_sentencepiece(tokenizer_file))
  model_file = fast_tokenizers.extracted(path)
  assert model_file == fast_tokenizers.extracted(path)
  ours = tokenization.Tokenizer(tokenizer_file)
  again = tokenization.Tokenizer(model_file)
  texts = udhr.read_text("utf-8").splitlines()
  texts += ["Саи\u0306н\u00a0 байна  уу", "ХОЁР ё 🙂 abc 2026", "", "a\u200bb"]
  for text, our_ids, ids_again in zip(
    texts, ours.encode(texts), again.encode(texts), strict=True
  ):
    assert our_ids.tolist() == ids_again.tolist(), text
  assert again.special.tolist() == ours.special.tolist()
  assert again.mask_id == ours.mask_id
  assert again.pad_id == ours.pad_id
  read = foreign_text.read(
    str(tmp_path), model_file, configs.AlbertConfig, transformers=True
  )
  assert read.settings == tokenization.Settings(True, replace_quotes=True)


def test_one_line_of_32_000_pieces_is_read(
  tmp_path: pathlib.Path, tokenizer_file: str
) -> None:
  content = _of_sentencepiece(tokenizer_file)
  more = [[f"▁{'үгүүлэл' * 2}{number}", -20.0] for number in range(31_600)]
  content["model"]["vocab"] += more
  path = tmp_path / "tokenizer.json"
  path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
  assert path.stat().st_size > storage.MAX_LINE_BYTES
  tokenizer = tokenization.Tokenizer(fast_tokenizers.extracted(str(path)))
  assert tokenizer.vocab_size == 32_000


def test_a_wordpiece_vocabulary_comes_back_line_by_line(
  tmp_path: pathlib.Path,
) -> None:
  whole = (REFERENCE / "hf_topics" / "vocab.txt").read_text("utf-8")
  pieces = whole.splitlines()
  content = {
    "added_tokens": [
      *_special(pieces),
      {"id": len(pieces), "content": "[new]"},
    ],
    "normalizer": {
      "type": "BertNormalizer",
      "lowercase": True,
      "strip_accents": None,
    },
    "model": {
      "type": "WordPiece",
      "vocab": {p: i for i, p in enumerate(pieces)},
      "max_input_chars_per_word": 64,
    },
  }
  model_file = fast_tokenizers.extracted(_written(tmp_path, content))
  assert pathlib.Path(model_file).read_text("utf-8") == f"{whole}[new]\n"
  text = foreign_text.read(
    str(tmp_path), model_file, configs.BertConfig, transformers=True
  )
  assert text.settings == tokenization.Settings(True, True, longest_word=64)


def test_a_vocabulary_that_is_written_gives_its_ids_and_comes_back(
  tmp_path: pathlib.Path,
) -> None:
  pieces = "[PAD] [UNK] [CLS] [SEP] [MASK] а ##а ς σ ##ς ##σ \ue000 ⹉".split()
  vocabulary = tmp_path / "vocab.txt"
  vocabulary.write_text("\n".join(pieces) + "\n", encoding="utf-8")
  settings = tokenization.Settings(True, True, longest_word=30)
  ours = tokenization.Tokenizer.with_settings(str(vocabulary), settings)
  out = tmp_path / "out"
  out.mkdir()
  huggingface_tokenizer.write(str(out), ours, str(vocabulary), 128)
  path = str(out / "tokenizer.json")
  theirs = tokenizers.Tokenizer.from_file(path)
  for text in (
    "А́Σ\u200b' ΣΑ ΑΣΑ",
    "\ue000 а\ue000",
    "а⹉а",
    "а\U0002b820а",
    "а\x07\tа",
    "а" * 30,
    "а" * 31,
  ):
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ids == ours.encode([text])[0].tolist(), ascii(text)
  again = pathlib.Path(fast_tokenizers.extracted(path))
  assert again.read_text("utf-8") == vocabulary.read_text("utf-8")
  text_settings = foreign_text.read(
    str(out), str(again), configs.BertConfig, True
  )
  assert text_settings.settings == settings


def _trained(
  folder: pathlib.Path, settings: tokenization.Settings, **training: Any
) -> tuple[tokenization.Tokenizer, tokenizers.Tokenizer]:
  """Returns a trained tokenizer, and its tokenizer.json as `tokenizers`'."""
  tokenizer_training.train(
    tokenizer_training.Options(
      input_file=str(running.ROOT / "sample/pretrain/*.txt"),
      output_dir=str(folder / "spm"),
      **training,
    )
  )
  model = str(folder / "spm" / tokenization.MODEL_NAME)
  ours = tokenization.Tokenizer.with_settings(model, settings)
  huggingface_tokenizer.write(str(folder), ours, model, 128)
  path = str(folder / "tokenizer.json")
  return ours, tokenizers.Tokenizer.from_file(path)


@pytest.mark.parametrize(
  ("lower", "strip"), [(True, False), (False, True), (True, True)]
)
def test_letters_are_lowered_and_stripped_as_python_knows_them(
  lower: bool, strip: bool, tmp_path: pathlib.Path
) -> None:
  """A byte piece shows a letter: ㋿, and capitals newer than Python's tables."""
  ours, theirs = _trained(
    tmp_path,
    tokenization.Settings(lower, strip),
    vocab_size=600,
    byte_fallback=True,
  )
  # The first planes, where no letter stands for another one meanwhile.
  letters = [c for c in tokenization.every_letter() if ord(c) < 0x20000]
  texts = ["а".join(letters[i : i + 40]) for i in range(0, len(letters), 40)]
  for text, ids in zip(texts, ours.encode(texts), strict=True):
    their_ids = theirs.encode(text, add_special_tokens=False).ids
    assert their_ids == ids.tolist(), ascii(text)


@pytest.mark.parametrize(
  "more",
  [{}, dict(model_type="bpe"), dict(model_type="bpe", byte_fallback=True)],
)
def test_pieces_of_the_user_are_never_divided(
  more: dict[str, Any], tmp_path: pathlib.Path
) -> None:
  ours, theirs = _trained(
    tmp_path,
    tokenization.Settings(),
    vocab_size=1_000,
    user_defined_symbols="@USER,@USERS,S@L,:-),-)),абв,вг,сайн бай",
    **more,
  )
  parts = [
    "@USER",
    "S@L",
    "@USERS@",
    ":-",
    "-))",
    "абв",
    "вг",
    "а",
    "б",
    "г",
    " ",
    "▁",
    "сайн",
    "байна",
    "＠ＵＳＥＲ",
    "\ufff0",
    "\ufff1",
    *"\U000f0000\U000f0002\U00100000",
  ]
  draw = random.Random(5)
  texts = ["".join(draw.choices(parts, k=9)) for _ in range(500)]
  for text, ids in zip(texts, ours.encode(texts), strict=True):
    encoding = theirs.encode(text, add_special_tokens=False)
    assert encoding.ids == ids.tolist(), ascii(text)
  text = "сайн байна @USERS :-)"
  assert theirs.decode(ours.encode([text])[0].tolist()) == text


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"model": {"type": "BPE"}}, "a model of type BPE"),
    ({"model": {"type": "Unigram"}}, "KeyError"),
    ({"normalizer": {"type": "NFC"}}, "a normalizer with NFC"),
    ({"added_tokens": [{"id": 9999, "content": "x"}]}, "ids with gaps"),
    (
      {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}},
      "base64",
    ),
  ],
)
def test_what_no_file_gives_is_refused(
  tmp_path: pathlib.Path,
  tokenizer_file: str,
  change: dict[str, Any],
  message: str,
) -> None:
  content = _of_sentencepiece(tokenizer_file) | change
  with pytest.raises(options.InputError, match=f"{message}.*--spm_model_file"):
    fast_tokenizers.extracted(_written(tmp_path, content))
