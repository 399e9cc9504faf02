"""Tests that replaced folders are whole at every moment, whatever fails.

The bug report "Right where it is silently wrong": best/ was emptied before the
new one was written, so that a full disk cost the best model.
"""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import pytest

from albert_mn.models import configs, model_directory, pretraining
from data_prep.base import options
from data_prep.files import gcs, manifest, storage, whole_folders
from tests import disk_faults, gcs_server

OURS = {"a.txt", "b.txt", "c.txt", manifest.NAME}


def _is_ours(name: str) -> bool:
  return name in OURS


def _replace(folder: str, text: str, names: tuple[str, ...]) -> None:
  with whole_folders.replacing(folder, _is_ours) as aside:
    for name in names:
      with storage.writing(os.path.join(aside, name)) as file:
        file.write(text)
    manifest.write(
      aside,
      "test",
      parameters={"text": text},
      files=names,
      counts={},
      inputs={},
    )


def _old(folder: str) -> None:
  _replace(folder, "old", ("a.txt", "b.txt"))


def _new(folder: str) -> None:
  _replace(folder, "new", ("b.txt", "c.txt"))


def _whole(folder: str) -> str:
  """Returns the name of the set of files in a folder.

  The set must be complete, and no other file may be there.
  """
  content = manifest.check(folder, "test")
  manifest.rehash(folder)
  names = {*content["files"], manifest.NAME}
  assert set(storage.names(folder)) & OURS == names
  return str(content["parameters"]["text"])


def _no_exchange(first: str, second: str) -> None:
  raise OSError("this disk does not know it")


def _never(folder: str, is_ours: Callable[[str], bool]) -> bool:
  return False


# How the new folder comes to its place: by one exchange of names, by two
# renames, or file by file.
WAYS: dict[str, dict[str, Callable[..., object]]] = {
  "exchange": {},
  "renames": {"_exchange": _no_exchange},
  "file by file": {"_can_be_renamed": _never},
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
  for name, function in WAYS[request.param].items():
    monkeypatch.setattr(whole_folders, name, function)
  return str(request.param)


def test_a_new_folder_takes_the_place_of_the_old_one(
  way: str, tmp_path: pathlib.Path
) -> None:
  folder = tmp_path / "run" / "best"
  _old(str(folder))
  assert _whole(str(folder)) == "old"
  _new(str(folder))
  assert _whole(str(folder)) == "new"
  assert [path.name for path in folder.parent.iterdir()] == ["best"]
  assert {path.name for path in folder.iterdir()} == {
    "b.txt",
    "c.txt",
    manifest.NAME,
  }


@pytest.mark.parametrize("once", [True, False])
def test_a_change_of_the_disk_that_fails_costs_the_new_folder_alone(
  way: str, once: bool, tmp_path: pathlib.Path
) -> None:
  """Every change fails once: a full disk, or one that is gone for good."""
  with disk_faults.failing(tmp_path) as faults:
    _old(str(tmp_path / "counted"))
    _new(str(tmp_path / "counted"))
  moments = faults.seen
  assert moments > 10
  for moment in range(moments):
    folder = str(tmp_path / f"{moment}" / "best")
    _old(folder)
    with disk_faults.failing(tmp_path, moment, once) as faults:
      try:
        _new(folder)
      except OSError:
        pass
      else:
        assert moment >= faults.seen or _whole(folder) == "new"
    if way != "exchange":
      # Between renames the next start finishes what was begun.
      whole_folders.finish(folder, _is_ours)
    assert _whole(folder) in ("old", "new")
    _new(folder)
    assert _whole(folder) == "new"
    assert os.listdir(os.path.dirname(folder)) == ["best"]
    shutil.rmtree(os.path.dirname(folder))


def test_a_block_that_fails_leaves_the_old_folder_and_nothing_else(
  way: str, tmp_path: pathlib.Path
) -> None:
  folder = str(tmp_path / "best")
  _old(folder)
  for error in (RuntimeError, KeyboardInterrupt):
    with (
      pytest.raises(error),
      whole_folders.replacing(folder, _is_ours) as aside,
    ):
      (pathlib.Path(aside) / "a.txt").write_text("half")
      manifest.write(
        aside, "test", parameters={}, files=[], counts={}, inputs={}
      )
      raise error
    assert _whole(folder) == "old"
    assert storage.below(str(tmp_path)) == [
      "best/a.txt",
      "best/b.txt",
      "best/manifest.json",
    ]


def test_what_a_killed_process_left_half_written_is_removed(
  way: str, tmp_path: pathlib.Path
) -> None:
  folder = str(tmp_path / "best")
  _old(folder)
  block = whole_folders.replacing(folder, _is_ours)
  aside = block.__enter__()
  (pathlib.Path(aside) / manifest.NAME).write_text("{}")
  shutil.copytree(tmp_path, tmp_path.parent / "killed", dirs_exist_ok=True)
  killed = str(tmp_path.parent / "killed" / "best")
  assert _whole(killed) == "old"
  _new(killed)
  assert _whole(killed) == "new"
  assert os.listdir(os.path.dirname(killed)) == ["best"]
  shutil.rmtree(os.path.dirname(killed))
  block.__exit__(RuntimeError, RuntimeError(), None)


def test_files_of_the_user_stay_beside_the_new_ones(
  tmp_path: pathlib.Path,
) -> None:
  folder = tmp_path / "best"
  _old(str(folder))
  (folder / "notes.txt").write_text("миний тэмдэглэл")
  (folder / "mine").mkdir()
  (folder / "mine" / "a.txt").write_text("a name of ours, but not its place")
  _new(str(folder))
  assert _whole(str(folder)) == "new"
  assert (folder / "notes.txt").read_text() == "миний тэмдэглэл"
  assert (folder / "mine" / "a.txt").exists()
  assert sorted(os.listdir(folder)) == [
    "b.txt",
    "c.txt",
    manifest.NAME,
    "mine",
    "notes.txt",
  ]


def test_the_current_folder_and_links_keep_their_place(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """A shell would stay behind in a folder that was renamed under it."""
  real = tmp_path / "real"
  real.mkdir()
  (tmp_path / "link").symlink_to(real)
  _old(str(tmp_path / "link"))
  _new(str(tmp_path / "link"))
  assert (tmp_path / "link").is_symlink()
  assert _whole(str(real)) == "new"
  monkeypatch.chdir(real)
  number = real.stat().st_ino
  _old(".")
  assert _whole(str(real)) == "old"
  assert real.stat().st_ino == number


def test_the_mode_of_the_folder_stays(way: str, tmp_path: pathlib.Path) -> None:
  folder = tmp_path / "best"
  _old(str(folder))
  folder.chmod(0o750)
  _new(str(folder))
  assert folder.stat().st_mode & 0o777 == 0o750


# The best model, written by TensorFlow.

SHAPE = configs.AlbertConfig(
  vocab_size=300,
  embedding_size=8,
  hidden_size=16,
  num_hidden_layers=1,
  num_attention_heads=2,
  intermediate_size=32,
  max_position_embeddings=16,
)


def _save(folder: pathlib.Path, seed: int) -> None:
  model = pretraining.PretrainingModel(SHAPE, seed)
  model_directory.save(
    str(folder),
    "pretrained_model",
    config=SHAPE,
    parts=model.parts(),
    tokenizer_file="",
    parameters={"seed": seed},
    counts={"global_step": seed},
    inputs={},
  )


def _saved(folder: pathlib.Path) -> int:
  """Returns the seed of the model in a folder, which must be complete."""
  content = manifest.check(str(folder), "pretrained_model")
  manifest.rehash(str(folder))
  model = pretraining.PretrainingModel(SHAPE, 99)
  model_directory.restore(str(folder), model.parts())
  seed = int(content["parameters"]["seed"])
  expected = pretraining.PretrainingModel(SHAPE, seed)
  for weight, expected_weight in zip(
    model.weights, expected.weights, strict=True
  ):
    assert (weight.numpy() == expected_weight.numpy()).all()
  return seed


def test_a_full_disk_keeps_the_best_model(tmp_path: pathlib.Path) -> None:
  best = tmp_path / "best"
  _save(best, 1)
  largest = max(path.stat().st_size for path in best.iterdir())
  for size in (0, 100, 1000, largest // 2, largest - 1):
    with (
      pytest.raises((OSError, options.InputError)),
      disk_faults.full(size),
    ):
      _save(best, 2)
    assert _saved(best) == 1
    assert os.listdir(tmp_path) == ["best"]
  _save(best, 2)
  assert _saved(best) == 2


def test_a_disk_that_fails_at_any_change_keeps_a_whole_model(
  tmp_path: pathlib.Path,
) -> None:
  best = tmp_path / "best"
  _save(best, 1)
  with disk_faults.failing(tmp_path) as faults:
    _save(best, 1)
  for moment in range(faults.seen):
    with (
      disk_faults.failing(tmp_path, moment),
      contextlib.suppress(OSError),
    ):
      _save(best, 2)
    assert _saved(best) in (1, 2)
    _save(best, 1)
    assert _saved(best) == 1


def test_a_model_is_copied_as_a_whole(tmp_path: pathlib.Path) -> None:
  _save(tmp_path / "model", 2)
  _save(tmp_path / "export", 1)
  with pytest.raises(OSError, match="too large"), disk_faults.full(10):
    model_directory.copy(str(tmp_path / "model"), str(tmp_path / "export"))
  assert _saved(tmp_path / "export") == 1
  model_directory.copy(str(tmp_path / "model"), str(tmp_path / "export"))
  assert _saved(tmp_path / "export") == 2


# In a bucket.


@pytest.fixture
def server(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[gcs_server.Front]:
  with gcs_server.running(tmp_path) as front:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    gcs._client.cache_clear()
    yield front
    gcs._client.cache_clear()


def test_a_request_that_fails_costs_the_new_objects_alone(
  server: gcs_server.Front,
) -> None:
  """Each request of the replacement is refused for good, one after another."""
  _old("gs://bucket/counted")
  server.requests = []
  _new("gs://bucket/counted")
  moments = len(server.requests)
  assert _whole("gs://bucket/counted") == "new"
  assert moments > 20
  states = []
  for moment in range(moments):
    folder = f"gs://bucket/{moment}"
    _old(folder)
    server.faults = [""] * moment + ["403"] * 100
    with pytest.raises(options.InputError, match="permission"):
      _new(folder)
    server.faults = []
    whole_folders.finish(folder, _is_ours)
    states.append(_whole(folder))
    assert not storage.below(f"{folder}/{whole_folders.UNFINISHED}")
    _new(folder)
    assert _whole(folder) == "new"
  # The old one up to the moment at which all new objects are there.
  assert states == sorted(states, reverse=True)
  assert set(states) == {
    "old",
    "new",
  }


def test_folders_of_the_user_are_left_alone_whatever_their_names(
  way: str, tmp_path: pathlib.Path
) -> None:
  names = ("best.partial", "best.unfinished", "unfinished", "best/unfinished")
  for name in names:
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / "mine.txt").write_text("mine")
  _new(str(tmp_path / "best"))
  whole_folders.finish(str(tmp_path / "best"), _is_ours)
  with whole_folders.trial(str(tmp_path / "best")) as place:
    pathlib.Path(place, "a").write_text("a")
  assert _whole(str(tmp_path / "best")) == "new"
  for name in names:
    assert (tmp_path / name / "mine.txt").read_text() == "mine"


def test_a_trial_of_a_killed_process_goes_when_the_next_one_begins(
  tmp_path: pathlib.Path,
) -> None:
  (tmp_path / ".best.trial").mkdir()
  (tmp_path / ".best.trial/half").write_text("half")
  with whole_folders.trial(str(tmp_path / "best")) as place:
    assert os.path.dirname(place) == str(tmp_path)
    assert not os.listdir(place)
  assert not list(tmp_path.iterdir())
