#!/usr/bin/env bash
# tensorflow-text 2.20.1: FastSentencepieceTokenizer reads only unigram and
# character models rightly, and says nothing of the others.
#
# FastSentencepieceTokenizer, the form of the SentencePiece tokenizer that
# TFLite can run, takes any SentencePiece model without an error. The ids of a
# unigram and of a character model are those of sentencepiece. A BPE model is
# divided as if its merge ranks were log-probabilities; with byte_fallback an
# unknown letter becomes <unk> in place of its bytes; a model with
# treat_whitespace_as_suffix gets its space before the text in place of after
# the text. tensorflow_text.SentencepieceTokenizer has the ids of sentencepiece
# for each of the five. Seen on 2026-12-01, ten Mongolian sentences:
#
#   model            fast: texts with other ids    SentencepieceTokenizer
#   unigram          0 of 10                       0
#   char             0 of 10                       0
#   bpe              9 of 10                       0
#   byte_fallback    1 of 10 (the one with ң)      0
#   suffix           10 of 10                      0
#
# In the product: exports use SentencepieceTokenizer, and a TFLite export takes
# ids.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  tensorflow==2.20.0 tensorflow-text==2.20.1 sentencepiece==0.2.3
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import io

import sentencepiece
import tensorflow_text

# Universal Declaration of Human Rights, and a line with a letter not in it.
SENTENCES = """
Хүн бүр төрж мэндлэхдээ эрх чөлөөтэй, адилхан нэр төртэй байдаг.
Хүн бүр арьс өнгө, хэл, шашнаараа ялгаварлагдах ёсгүй.
Хүн бүр амьд явах, эрх чөлөөтэй байх эрхтэй.
Хэнийг ч боолчлон эзэмших, албадан зарцлахыг хориглоно.
Хэнийг ч эрүүдэн шүүх, хүнлэг бусаар шийтгэхийг хориглоно.
Хүн бүр хуулийн өмнө адил тэгш бөгөөд хуулиар хамгаалуулах эрхтэй.
Хэнийг ч дур мэдэн баривчлах, саатуулахыг хориглоно.
Хүн бүр үзэл бодолтой байх, түүнийгээ илэрхийлэх эрхтэй.
Хүн бүр сурч боловсрох эрхтэй.
""".split("\n")[1:-1]
KINDS = {
  "unigram": ({}, 0),
  "char": ({"model_type": "char", "vocab_size": 50}, 0),
  "bpe": ({"model_type": "bpe"}, 9),
  "byte_fallback": ({"byte_fallback": True, "vocab_size": 340}, 1),
  "suffix": ({"treat_whitespace_as_suffix": True}, 10),
}
texts = [*SENTENCES, "Жүңдүхүн бичиг"]
for kind, (settings, expected) in KINDS.items():
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(SENTENCES * 20), model_writer=model,
      minloglevel=2, hard_vocab_limit=False, **{"vocab_size": 100, **settings})
  processor = sentencepiece.SentencePieceProcessor(
      model_proto=model.getvalue())
  fast = tensorflow_text.FastSentencepieceTokenizer(model.getvalue(), False)
  plain = tensorflow_text.SentencepieceTokenizer(model.getvalue())
  ids = [processor.encode(text) for text in texts]
  different = sum(
      a != b for a, b in zip(ids, fast.tokenize(texts).to_list()))
  different_plain = sum(
      a != b for a, b in zip(ids, plain.tokenize(texts).to_list()))
  print(f"{kind}: fast {different} of {len(texts)}, plain {different_plain}")
  assert (different, different_plain) == (expected, 0), kind
PYTHON
