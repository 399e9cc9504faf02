"""Tests that checkpoints survive a kill at any moment; damage is noticed."""

import itertools
import logging
import pathlib
import shutil
from collections.abc import Callable

import pytest
import tensorflow as tf

from albert_mn.runtime import checkpoints
from data_prep.base import options


class _Run:
  """A run with one vector of weights, all of which equal the step."""

  def __init__(
    self, folder: pathlib.Path, keep: int = 2, writes: bool = True
  ) -> None:
    optimizer = tf.Module()
    optimizer.iterations = tf.Variable(0, dtype=tf.int64)
    self.weight = tf.Variable(tf.zeros([64]))
    self.step = optimizer.iterations
    self.saved = checkpoints.Checkpoints(
      str(folder), {"optimizer": optimizer, "weight": self.weight}, keep, writes
    )

  def save(self, step: int) -> None:
    self.step.assign(step)
    self.weight.assign(tf.fill([64], float(step)))
    self.saved.save()

  def restore(self) -> int | None:
    step = self.saved.restore()
    assert int(self.step.numpy()) == (step or 0)
    assert (self.weight.numpy() == (step or 0)).all()
    return step


def _names(folder: pathlib.Path) -> set[str]:
  return {path.name for path in (folder / "checkpoints").iterdir()}


@pytest.fixture
def two(tmp_path: pathlib.Path) -> pathlib.Path:
  """The folder of a run with the checkpoints of steps 1 and 2."""
  run = _Run(tmp_path / "run")
  run.save(1)
  run.save(2)
  return tmp_path / "run"


def test_the_newest_are_kept_and_listed_for_tensorflow(
  two: pathlib.Path,
) -> None:
  run = _Run(two)
  assert run.restore() == 2
  run.save(3)
  assert run.saved.steps() == [2, 3]
  newest = tf.train.latest_checkpoint(str(two / "checkpoints"))
  assert newest == run.saved.prefix(3)
  run.saved.discard_after(2)
  assert run.saved.steps() == [2]
  assert _Run(two).restore() == 2


def test_a_kill_between_any_two_changes_of_the_disk_leaves_whole_checkpoints(
  two: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """The disk is looked at before each change: a kill would leave this state."""
  left: list[pathlib.Path] = []

  def leaving(change: Callable[..., None]) -> Callable[..., None]:
    def changed(*given: object, **named: object) -> None:
      left.append(tmp_path / f"left-{len(left)}")
      shutil.copytree(two, left[-1])
      change(*given, **named)

    return changed

  run = _Run(two)
  run.restore()
  with monkeypatch.context() as patched:
    for name in ("rename", "remove", "rmtree"):
      patched.setattr(tf.io.gfile, name, leaving(getattr(tf.io.gfile, name)))
    run.save(3)
    run.saved.discard_after(2)
  restored_steps = []
  for folder in left:
    after = _Run(folder)
    restored_steps.append(after.restore())
    after.save(5)
    assert _Run(folder).restore() == 5
    assert not [name for name in _names(folder) if "damaged" in name]
    assert "unfinished" not in _names(folder) or not list(
      (folder / "checkpoints/unfinished").iterdir()
    )
  # Before step 3 is in its place, after that, and without it again.
  assert [step for step, _ in itertools.groupby(restored_steps)] == [2, 3, 2]


@pytest.mark.parametrize("size", [0, 1, 40, -1])
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_half_a_file_of_the_one_being_written_is_nothing(
  two: pathlib.Path, ending: str, size: int
) -> None:
  source = two / f"checkpoints/model.ckpt-2.{ending}"
  folder = two / "checkpoints/unfinished"
  folder.mkdir(exist_ok=True)
  (folder / f"model.ckpt-3.{ending}").write_bytes(source.read_bytes()[:size])
  run = _Run(two)
  assert run.restore() == 2
  assert run.saved.steps() == [1, 2]
  run.save(3)
  assert _Run(two).restore() == 3


def _cut(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[:-3])


def _empty(path: pathlib.Path) -> None:
  path.write_bytes(b"")


def _flip(path: pathlib.Path) -> None:
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def _remove(path: pathlib.Path) -> None:
  path.unlink()


@pytest.mark.parametrize("damage", [_cut, _empty, _flip, _remove])
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_a_damaged_newest_one_is_set_aside_with_a_warning(
  two: pathlib.Path,
  ending: str,
  damage: Callable[[pathlib.Path], None],
  caplog: pytest.LogCaptureFixture,
) -> None:
  damage(two / f"checkpoints/model.ckpt-2.{ending}")
  with caplog.at_level(logging.WARNING):
    assert _Run(two).restore() == 1
  assert "model.ckpt-2 is damaged" in caplog.text
  assert len([name for name in _names(two) if name.startswith("damaged-")]) == (
    1 if damage is _remove else 2
  )
  assert _Run(two).saved.steps() == [1]


def test_the_second_damaged_one_of_a_step_does_not_replace_the_first(
  two: pathlib.Path,
) -> None:
  index = two / "checkpoints/model.ckpt-2.index"
  _cut(index)
  first = index.read_bytes()
  run = _Run(two)
  run.restore()
  run.save(2)
  _empty(index)
  assert _Run(two).restore() == 1
  assert (index.parent / f"damaged-{index.name}").read_bytes() == first
  assert (index.parent / f"damaged-2-{index.name}").read_bytes() == b""


def test_none_whole_is_refused_and_none_is_moved(two: pathlib.Path) -> None:
  for path in (two / "checkpoints").glob("*.index"):
    _cut(path)
  before = _names(two) - {"unfinished"}
  with pytest.raises(options.InputError, match="2 damaged, the newest of st"):
    _Run(two).restore()
  assert _names(two) == before


def test_who_does_not_write_changes_nothing(two: pathlib.Path) -> None:
  _cut(two / "checkpoints/model.ckpt-2.index")
  before = _names(two)
  run = _Run(two, writes=False)
  assert run.restore() == 1
  run.save(7)
  assert _names(two) == before


def test_a_checkpoint_that_cannot_be_written_costs_no_other(
  two: pathlib.Path,
) -> None:
  run = _Run(two, keep=1)
  run.restore()
  (two / "checkpoints/unfinished").write_text("a file in the way")
  with pytest.raises(options.InputError, match="the older checkpoints are ke"):
    run.save(3)
  assert run.saved.steps() == [1, 2]
