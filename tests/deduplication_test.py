"""Tests of dropping repeated documents, and sentences of evaluation sets."""

import random

import pytest

from data_prep.base import options
from data_prep.corpus import copies_on_disk, corpus_options, deduplication
from data_prep.text import similarity
from tests import likeness

FIVE = similarity.Runs(5)


def _seen_documents(
  threshold: float, documents: list[list[str]]
) -> list[str | None]:
  signatures = deduplication.signatures(documents, threshold)
  verdicts = deduplication.verdicts(signatures, threshold)
  with copies_on_disk.Duplicates(threshold, None, 1 << 24) as duplicates:
    duplicates.add(signatures)
    assert list(duplicates.verdicts()) == verdicts
  return verdicts


def _seen(threshold: float, *texts: str) -> list[str | None]:
  return _seen_documents(threshold, [[text] for text in texts])


def test_copies_and_near_copies_are_seen_and_the_first_one_stays() -> None:
  words = [f"үг{number}" for number in range(200)]
  text, reordered = " ".join(words), " ".join(reversed(words))
  near = " ".join([*words[:100], "шинэ", *words[100:]])
  far = " ".join(words[:100] + [f"өөр{number}" for number in range(100)])
  assert _seen(0.8, text, reordered, text, near, far) == [
    None,
    None,
    "exact duplicate",
    "near duplicate",
    None,
  ]
  assert _seen(0.0, text, near) == [None, None]


@pytest.mark.parametrize(
  ("threshold", "words"),
  [(t, 60) for t in (0.5, 0.55, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99, 1.0)]
  + [(t, n) for t in (0.5, 0.8, 0.99) for n in (16, 300)]
  + [(0.8, 1500)],
)
def test_near_duplicates_are_those_whose_runs_of_five_words_say_so(
  threshold: float, words: int
) -> None:
  """At least 98 % are dropped 0.05 above the threshold, at most 1 % 0.05 below.

  In ekzhu/datasketch 105, 140, 200 and 243, the candidates of an LSH index were
  taken for near duplicates. Of 200 pairs at a threshold of 0.8, 143 were
  dropped at a similarity of 0.859 and 23 at 0.700; a threshold of 0.99 was an
  error.
  """
  chance = random.Random(f"{threshold} {words}")
  for change in (likeness.tail_changed, likeness.words_changed):
    above, below = [], []
    for _ in range(200):
      text = likeness.words(chance, words)
      above.append((text, change(chance, text, FIVE, min(1, threshold + 0.05))))
      below.append((text, change(chance, text, FIVE, threshold - 0.05, True)))
    for pairs, least, most in ((above, 196, 200), (below, 0, 2)):
      documents = [
        [" ".join(text[:cut]), " ".join(text[cut:])]
        for pair in pairs
        for cut, text in enumerate(pair, start=8)
      ]
      seen = _seen_documents(threshold, documents)
      assert seen[::2] == [None] * 200
      assert least <= seen[1::2].count("near duplicate") <= most, change


@pytest.mark.parametrize("words", [1, 3, 5, 6, 9])
def test_the_shortest_documents_are_compared_exactly(words: int) -> None:
  text = [f"үг{number}" for number in range(words)]
  same, changed = " ".join(text).upper(), " ".join([*text[:-1], "өөр"])
  runs = max(1, words - 4)
  similarity = (runs - 1) / (runs + 1)  # the last run is another one
  assert _seen(1.0, " ".join(text), same, changed) == [
    None,
    "near duplicate",
    None,
  ]
  if similarity:
    assert _seen(similarity, " ".join(text), changed)[1]
    assert not _seen(similarity + 0.01, " ".join(text), changed)[1]


def test_of_a_chain_of_copies_those_stay_of_which_no_copy_was_kept() -> None:
  words = [f"үг{number}" for number in range(104)]
  chain = [
    " ".join([*words[begin:], *(f"өөр{n}" for n in range(begin))])
    for begin in (0, 20, 40, 60)
  ]
  # Neighbours share 80 of 120 runs, the next but one 60 of 140.
  assert _seen(0.6, *chain) == [None, "near duplicate", None, "near duplicate"]
  # The same copies, the middle first: it stands for both of its neighbours.
  assert _seen(0.6, chain[1], chain[0], chain[2], chain[3]) == [
    None,
    "near duplicate",
    "near duplicate",
    None,
  ]


def test_documents_from_one_template_stay_unless_they_are_copies() -> None:
  chance = random.Random(0)
  template = likeness.words(chance, 60)
  texts = []
  for _ in range(300):  # 56 runs in common, about a third of all
    text = " ".join([*template, *likeness.words(chance, 54)])
    texts += [text, f"{text} өөр"]
  assert _seen(0.8, *texts) == [None, "near duplicate"] * 300


def test_a_signature_does_not_depend_on_the_documents_beside_it() -> None:
  chance = random.Random(0)
  documents = [
    [" ".join(likeness.words(chance, n)) for n in (3, length)]
    for length in (1, 9, 300, 5000, 2)
  ]
  together = deduplication.signatures(documents, 0.8)
  alone = deduplication.Signatures.concatenated(
    [deduplication.signatures([document], 0.8) for document in documents]
  )
  assert (alone.digests == together.digests).all()
  assert (alone.keys == together.keys).all()
  assert (alone.runs.hashes == together.runs.hashes).all()
  assert (alone.runs.sizes == together.runs.sizes).all()
  for threshold in (0, 0.8):
    assert len(deduplication.signatures([], threshold)) == 0


@pytest.mark.parametrize("threshold", [-0.5, 1e-9, 0.04, 1.01, float("nan")])
def test_a_threshold_that_cannot_be_served_is_refused(threshold: float) -> None:
  with pytest.raises(options.InputError, match="near_duplicates"):
    corpus_options.Options(output_dir="corpus", near_duplicates=threshold)


def test_sentences_of_an_evaluation_set_are_known_again() -> None:
  held = deduplication.Evaluation(
    [
      "Өнөөдөр Улаанбаатар хотод цас орж, салхи шуурга болно гэж мэдээллээ.",
      "Энэ бол хамгийн богино.",
      "Тийм.",
    ]
  )
  assert held.holds(
    "Тэд өнөөдөр улаанбаатар хотод цас орж салхи шуурга болно гэлээ."
  )
  assert held.holds("энэ бол хамгийн богино")
  assert not held.holds("Өнөөдөр Улаанбаатар хотод цас орсонгүй.")
  assert not held.holds("Тийм.")
