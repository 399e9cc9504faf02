"""Tests of the pages of `--help`: clear texts, in the order of the classes."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from data_prep.base import options
from tests import option_classes, running

PROGRAMS = option_classes.by_program()
# A program that starts fast, without TensorFlow.
FAST = ("-m", "data_prep.train_tokenizer")
# Words that point to another text, which a reader may not have seen.
POINTERS = (
  "likewise ditto its it they them their theirs above below instead former "
  "latter same aforementioned"
).split()

per_program = pytest.mark.parametrize("program", PROGRAMS)


def _fields(cls: type[Any]) -> list[dataclasses.Field[Any]]:
  return list(filter(options.is_option, dataclasses.fields(cls)))


def _texts() -> Iterator[tuple[str, dataclasses.Field[Any]]]:
  """Yields (module and flag, field) of each option once."""
  for cls in option_classes.every():
    for field in _fields(cls):
      yield f"{cls.__module__}: --{options.flag_name(field)}", field


def _flags_of(program: str) -> set[str]:
  classes = PROGRAMS[program]
  return {options.flag_name(f) for cls in classes for f in _fields(cls)}


@pytest.mark.parametrize(
  "form",
  [
    "--help",
    "-help",
    "-h",
    "-?",
    "--helpshort",
    "--helpfull",
    "-helpfull",
    "--help=true",
    "--help=1",
    "--help=vocab_size",
    "--helpshort=true",
    "--helpxml",
  ],
)
def test_every_way_to_ask_for_help_ends_with_0(form: str) -> None:
  done = running.Programs().run(*FAST, form)
  assert (done.returncode, done.stderr) == (0, "")
  assert "vocab_size" in done.stdout
  libraries = form.lstrip("-") in ("helpfull", "helpxml")
  assert ("verbosity" in done.stdout) is libraries


def test_help_that_is_not_wanted_is_not_given() -> None:
  for form in ("--help=false", "--nohelp", "--nohelpfull"):
    done = running.Programs().run(*FAST, form)
    assert done.returncode == 1
    assert "expected --input_file" in done.stderr


def test_the_page_is_in_the_order_of_the_classes() -> None:
  done = running.Programs().run("-m", "data_prep.create_classifier_data", "-h")
  listed = re.findall(r"^  --(?:\[no\])?(\w+): ", done.stdout, re.MULTILINE)
  classes = PROGRAMS["data_prep.create_classifier_data"]
  assert listed == [options.flag_name(f) for c in classes for f in _fields(c)]
  assert max(map(len, done.stdout.splitlines())) <= 80
  starts = [
    done.stdout.index(f"\n{(inspect.getdoc(cls) or '').split('.')[0]}:\n")
    for cls in classes
  ]
  assert starts == sorted(starts)
  assert done.stdout.startswith("Splits labelled rows into frozen")
  assert "(default: 0.1; a finite number from 0 to 0.9)" in done.stdout
  assert "(default: hash; one of hash, predecessor)" in done.stdout


@per_program
def test_each_option_of_a_program_stands_once_on_the_page(program: str) -> None:
  sections = options.sections(PROGRAMS[program])
  listed = [entry.name for section in sections for entry in section.entries]
  assert len(listed) == len(set(listed))
  assert set(listed) == _flags_of(program)
  headings = [section.heading for section in sections]
  assert all(headings)
  assert len(headings) == len(set(headings))


@per_program
def test_what_a_class_states_itself_comes_before_what_it_inherits(
  program: str,
) -> None:
  place = {
    entry.name: number
    for number, entry in enumerate(
      entry
      for section in options.sections(PROGRAMS[program])
      for entry in section.entries
    )
  }
  for cls in PROGRAMS[program]:
    own = [options.flag_name(f) for f in _fields(cls)]
    for owner in cls.__mro__:
      names = [n.rstrip("_") for n in inspect.get_annotations(owner)]
      stated = [place[name] for name in names if name in own]
      assert stated == sorted(stated), owner
    basic = [n.rstrip("_") for n in inspect.get_annotations(cls)]
    rest = [place[name] for name in own if name not in basic]
    assert max(place[name] for name in basic) < min(rest, default=10**6)


def test_every_text_is_a_sentence_that_can_be_read_alone() -> None:
  wrong = []
  for name, field in _texts():
    text = field.metadata["help"]
    words = re.findall(r"[\w'-]+", text.lower())
    if not re.fullmatch(r"[A-Z].*\.", text, re.DOTALL) or len(words) < 4:
      wrong.append(f"{name} is no sentence: {text}")
    wrong += [f"{name} says {word!r}" for word in POINTERS if word in words]
  assert not wrong, "\n".join(wrong)


def test_no_two_options_of_a_program_have_one_text() -> None:
  for program, classes in PROGRAMS.items():
    texts = [
      f.metadata["help"]
      for cls in classes
      for f in _fields(cls)
      if not f.metadata["ignored"]
    ]
    assert len(texts) == len(set(texts)), program


@per_program
def test_the_flags_that_a_text_names_exist(program: str) -> None:
  names = {name.rpartition(".")[2]: name for name in PROGRAMS}
  for cls in PROGRAMS[program]:
    for field in _fields(cls):
      text = field.metadata["help"]
      known = _flags_of(program).union(
        *(_flags_of(full) for short, full in names.items() if short in text)
      )
      if "beam" in text.lower():
        text = text.split("such as")[0]  # then come flags of Beam
      for flag in re.findall(r"--(\w+)", text):
        assert flag in known or flag.removeprefix("no") in known, field.name


def test_the_default_of_google_research_is_told_where_another_one_holds() -> (
  None
):
  """The defaults are those of google-research's commit 4ae12a2."""
  theirs: dict[str, dict[str, object]] = {
    "run_pretraining": {
      "do_train": "true",
      "max_seq_length": 512,
      "save_checkpoints_steps": 5000,
      "max_predictions_per_seq": 20,
      "iterations_per_loop": 1000,
      "max_eval_steps": 100,
      "num_tpu_cores": 8,
      "bias_correction": "false",
    },
    "run_classifier": {
      "do_lower_case": "true",
      "max_seq_length": 512,
      "eval_batch_size": 8,
      "predict_batch_size": 8,
      "train_step": 1000,
      "warmup_step": 0,
    },
    "data_prep.create_pretraining_data": {
      "do_lower_case": "true",
      "max_predictions_per_seq": 20,
      "dupe_factor": 40,
    },
  }
  for program, defaults in theirs.items():
    texts = {
      options.flag_name(f): f.metadata["help"]
      for cls in PROGRAMS[program]
      for f in _fields(cls)
    }
    for name, default in defaults.items():
      assert f"(google-research/albert: {default}" in texts[name], name
