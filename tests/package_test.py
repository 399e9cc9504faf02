"""Tests of what `pip install .` gives: command, files, version, log lines."""

import ast
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml

from data_prep.base import options, release
from data_prep.files import manifest
from tests import running

_PACKAGES = ("albert_mn", "bert_tweet", "data_prep")
# It makes a table for this repository, and stays there.
_NOT_INSTALLED = "data_prep.learn_letter_runs"


def _text(name: str) -> str:
  return (running.ROOT / name).read_text("utf-8")


def _programs() -> set[str]:
  """Returns the modules of all programs that are for users."""
  paths = [
    path
    for pattern in ("run_*.py", *(f"{package}/*.py" for package in _PACKAGES))
    for path in running.ROOT.glob(pattern)
    if "\n  options.run(" in path.read_text("utf-8")
  ]
  modules = {
    path.relative_to(running.ROOT).with_suffix("").as_posix().replace("/", ".")
    for path in paths
  }
  return modules - {_NOT_INSTALLED}


def _named() -> dict[str, str]:
  """Returns name → module of the programs that albert-mn runs."""
  (table,) = [
    node.value
    for node in ast.parse(_text("albert_mn/command.py")).body
    if isinstance(node, ast.Assign)
    and ast.unparse(node.targets[0]) == "_PROGRAMS"
  ]
  return {name: module for name, (module, _) in ast.literal_eval(table).items()}


def test_the_command_knows_every_program() -> None:
  assert set(_named().values()) == _programs()


def test_the_command_explains_itself_and_refuses_what_it_does_not_know() -> (
  None
):
  program = running.Programs()
  for arguments in ((), ("--help",)):
    done = program.run("-m", "albert_mn.command", *arguments)
    assert done.returncode == 0
    assert all(name in done.stdout for name in _named())
  done = program.run("-m", "albert_mn.command", "pretain", "--help")
  assert done.returncode == 2
  assert re.fullmatch(
    r"error: expected one of build-corpus, .*; got 'pretain': albert-mn --help "
    r"says what each does\n",
    done.stderr,
  )


def test_a_program_run_by_name_says_what_it_says_itself() -> None:
  program = running.Programs()
  by_name = program.run("-m", "albert_mn.command", "train-tokenizer", "--help")
  itself = program.run("-m", "data_prep.train_tokenizer", "--help")
  assert by_name.stdout == itself.stdout
  assert by_name.returncode == 0
  done = program.run("-m", "albert_mn.command", "configs")
  assert done.stdout.strip() == str(running.ROOT / "configs")


def _git(folder: pathlib.Path, *arguments: str) -> str:
  identity = ("-c", "user.name=Т", "-c", "user.email=t@example.org")
  return subprocess.run(
    ["git", *identity, *arguments],
    cwd=folder,
    check=True,
    capture_output=True,
    text=True,
  ).stdout.strip()


def test_the_version_of_a_checkout_has_its_commit(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(release, "ROOT", tmp_path)
  assert release.version() == release.VERSION, "a wheel"
  _git(tmp_path, "init", "--quiet")
  assert release.version() == release.VERSION, "without a commit"
  (tmp_path / "code.py").write_text("1\n")
  _git(tmp_path, "add", "code.py")
  _git(tmp_path, "commit", "--quiet", "--message=a")
  commit = _git(tmp_path, "rev-parse", "HEAD")[:12]
  assert release.version() == f"{release.VERSION}+g{commit}"
  (tmp_path / "code.py").write_text("2\n")
  assert release.version() == f"{release.VERSION}+g{commit}.changed"


@pytest.mark.parametrize(
  ("place", "level", "shown"),
  [
    ("code/data_prep/base/parallel.py", logging.INFO, True),
    ("venv/site-packages/data_prep/base/parallel.py", logging.INFO, True),
    ("venv/site-packages/run_pretraining.py", logging.INFO, True),
    ("venv/site-packages/orbit/controller.py", logging.INFO, False),
    ("venv/site-packages/orbit/controller.py", logging.WARNING, True),
    ("code/.venv/site-packages/orbit/controller.py", logging.INFO, False),
  ],
)
def test_our_lines_are_shown_wherever_the_code_is_and_chatter_is_not(
  place: str, level: int, shown: bool
) -> None:
  record = logging.LogRecord("absl", level, f"/{place}", 1, "x", None, None)
  assert options._ours_or_a_warning(record) == shown


def test_a_folder_that_is_nowhere_has_no_path() -> None:
  assert release.folder("configs") == str(running.ROOT / "configs")
  assert release.folder("folder-that-is-not-there") == ""


def test_the_citation_names_the_version() -> None:
  cited = yaml.safe_load(_text("CITATION.cff"))
  assert cited["version"] == release.VERSION


def test_the_checks_before_a_commit_are_those_of_the_tests() -> None:
  hooks = yaml.safe_load(_text(".pre-commit-config.yaml"))["repos"][0]["hooks"]
  run = [re.sub(r"^\S+ -m | --.*", "", hook["entry"]) for hook in hooks]
  assert run == ["ruff format", "ruff check", "mypy"]
  assert all(f"python -m {name}" in _text("scripts/test.sh") for name in run)


def test_the_forms_for_issues_are_forms() -> None:
  forms = sorted((running.ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
  assert [form.stem for form in forms] == ["config", "fault", "wish"]
  for form in forms[1:]:
    fields = yaml.safe_load(form.read_text("utf-8"))
    assert fields["name"]
    assert fields["description"]
    for part in fields["body"]:
      assert part["type"] in ("input", "textarea")
      assert part["id"]
      assert part["attributes"]["label"]


def test_the_package_needs_what_the_locks_are_made_of() -> None:
  settings = tomllib.loads(_text("pyproject.toml"))
  assert settings["tool"]["setuptools"]["dynamic"]["dependencies"]["file"] == [
    "requirements.in",
    "requirements-models.in",
    "requirements-web.in",
  ]
  build = settings["build-system"]["requires"]
  (ours,) = re.findall(
    r"^setuptools\S*", _text("requirements.in"), re.MULTILINE
  )
  assert build == [ours.replace("<", ">=77,<")]


def _tracked() -> list[str]:
  return (
    subprocess.run(
      ["git", "ls-files", "-z", "-co", "--exclude-standard"],
      cwd=running.ROOT,
      check=True,
      capture_output=True,
      text=True,
    )
    .stdout.strip("\0")
    .split("\0")
  )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The path of a wheel, which is built from a copy of the tree, offline."""
  folder = tmp_path_factory.mktemp("wheel")
  for name in _tracked():
    if (running.ROOT / name).exists():
      (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(running.ROOT / name, folder / "tree" / name)
  subprocess.run(
    [
      sys.executable,
      "-m",
      "pip",
      "wheel",
      "--quiet",
      "--no-deps",
      "--no-index",
      "--no-build-isolation",
      f"--wheel-dir={folder}",
      str(folder / "tree"),
    ],
    check=True,
  )
  (made,) = folder.glob("albert_mn-*.whl")
  return made


@pytest.mark.slow
def test_the_wheel_has_the_code_and_the_files_that_it_reads(
  wheel: pathlib.Path,
) -> None:
  with zipfile.ZipFile(wheel) as archive:
    names = set(archive.namelist())
  expected = {
    name
    for name in _tracked()
    if name.startswith(tuple(f"{package}/" for package in _PACKAGES))
    and not name.endswith("BUILD")
  }
  inside = {name for name in names if name.startswith(_PACKAGES)}
  inside = {name for name in inside if not name.startswith("albert_mn-")}
  assert inside == expected
  assert {"run_classifier.py", "run_pretraining.py"} <= names
  assert not [name for name in names if "test" in name], "no tests inside"


@pytest.fixture(scope="module")
def installed(
  wheel: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """The folder of an environment with the wheel and the packages it needs."""
  folder = tmp_path_factory.mktemp("installed") / "venv"
  subprocess.run(
    [sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True
  )
  (packages,) = folder.glob("lib/python*/site-packages")
  (present,) = {path for path in sys.path if path.endswith("site-packages")}
  (packages / "present.pth").write_text(f"{present}\n")
  subprocess.run(
    [
      sys.executable,
      "-m",
      "pip",
      f"--python={folder}/bin/python",
      "install",
      "--quiet",
      "--no-deps",
      "--no-index",
      str(wheel),
    ],
    check=True,
  )
  return folder / "bin"


def _run(
  program: pathlib.Path, *arguments: str, cwd: pathlib.Path
) -> subprocess.CompletedProcess[str]:
  """Runs a program of the environment away from the tree; requires success."""
  environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
  done = subprocess.run(
    [str(program), *arguments],
    cwd=cwd,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done


@pytest.mark.slow
def test_an_installed_wheel_runs_without_the_tree(
  installed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  albert_mn = installed / "albert-mn"
  told = _run(albert_mn, "--version", cwd=tmp_path).stdout
  assert told == f"{release.VERSION}\n", "it knows no commit"
  raw = running.ROOT / "sample/pretrain/udhr.txt"
  corpus = _run(
    albert_mn,
    "build-corpus",
    f"--input_file={raw}",
    "--output_dir=corpus",
    cwd=tmp_path,
  )
  assert list((tmp_path / "corpus").glob("corpus-*"))
  assert re.search(r"^\d\d:\d\d:\d\d \w", corpus.stderr, re.MULTILINE), (
    "our lines"
  )
  for name in (
    "pretrain",
    "classify",
    "serve",
  ):  # all that they import is there
    page = _run(albert_mn, name, "--help", cwd=tmp_path).stdout
    assert "(default: " in page
  configs = _run(albert_mn, "configs", cwd=tmp_path).stdout.strip()
  shipped = {path.name for path in pathlib.Path(configs).iterdir()}
  assert shipped == {path.name for path in (running.ROOT / "configs").iterdir()}
  assert not pathlib.Path(configs).is_relative_to(running.ROOT)
  code = "from albert_mn.models import shipped; print(shipped.model_path())"
  model = _run(installed / "python", "-c", code, cwd=tmp_path).stdout.strip()
  assert pathlib.Path(model).is_relative_to(installed.parent)
  assert manifest.check(model, "pretrained_model")
  code = (
    "from bert_tweet import web_pages; from data_prep.text import legacy_letters; "
    "print(len(web_pages._read('page.html')), legacy_letters.__file__)"
  )
  read = _run(installed / "python", "-c", code, cwd=tmp_path).stdout
  assert str(installed.parent) in read
