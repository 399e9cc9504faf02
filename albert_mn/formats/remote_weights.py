"""Download of weights, with config and tokenizer, into a local cache.

  local("gs://bucket/run/model")                     # a model directory
  local("https://host/albert_base_mn.tar.gz")        # an archive of weights
  local("https://host/model/pytorch_model.bin")      # a file of weights
  local("gs://bucket/run/checkpoints/model.ckpt-30") # a checkpoint's prefix
  local("gs://bucket/albert_base")                   # a TF Hub module
  local("albert_base_mn.zip")                        # a local archive

Each call returns a local path that initial_weights reads. A bucket's folder can
be listed. An https:// folder cannot, so the file names come from manifest.json,
or are those of Hugging Face and google-research.
"""

import dataclasses
import os
import posixpath
import re
import shutil
import tempfile

from albert_mn.formats import huggingface, initial_weights
from albert_mn.models import configs, model_directory
from data_prep.base import options
from data_prep.files import (
  archives,
  fetched,
  gcs,
  manifest,
  ownership,
  storage,
)

# Files that may lie beside weights and are needed to use them.
_COMPANIONS = (
  huggingface.CONFIG,
  *(family.FILE for family in configs.FAMILIES),
  model_directory.TOKENIZER,
  huggingface.TOKENIZER,
  model_directory.VOCABULARY,
  huggingface.TOKENIZER_CONFIG,
  huggingface.FAST_TOKENIZER,
  model_directory.LABELS,
)
_SHARDED = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_LARGEST_COMPANION = 256 << 20  # bytes; the largest JSON that is read
_MOST_FILES = 1000  # of a model directory (guess)
# The prefix of the checkpoint in a SavedModel.
_SAVED_WEIGHTS = f"{model_directory.VARIABLES}/{model_directory.VARIABLES}"


@dataclasses.dataclass(frozen=True)
class Options(options.Group):
  """Command-line options: the weights to download, and the folder for them."""

  init_checkpoint: str = options.option(
    "",
    "Address (gs:// or https://) of a model directory, a Hugging Face "
    "directory, the prefix of a checkpoint, a file of weights, or an "
    "archive (.zip, .tar.gz). Required.",
  )
  output_dir: str = options.option(
    "",
    "New folder for a copy of the downloaded files. By default the files "
    "stay in the cache only.",
  )
  sha256: str = options.option(
    "",
    "SHA-256 hash that the downloaded file or archive must have; of a model "
    "directory, the hash of manifest.json, which holds the hashes of the other "
    "files. By default only the hashes in manifest.json are checked: whoever "
    "sends wrong weights can send a wrong manifest.json too.",
  )
  cache_dir: str = options.option(
    "",
    "Folder in which downloaded files stay for later runs. By default the "
    "folder that the environment variable ALBERT_MN_CACHE names, or "
    "albert-mn in XDG_CACHE_HOME.",
  )

  def check(self) -> None:
    options.require(self, "init_checkpoint")
    if not fetched.is_address(self.init_checkpoint):
      raise options.InputError(
        "gs:// or https:// as --init_checkpoint",
        repr(self.init_checkpoint),
        "use the local path as it is",
      )
    if self.output_dir and os.path.exists(self.output_dir):
      raise options.InputError(
        "an --output_dir that is not there yet",
        f"{self.output_dir}",
        "give another",
      )


def fetch(settings: Options) -> None:
  """Downloads the weights; prints the local path for --init_checkpoint.

  Raises:
    options.InputError: when the download fails, or contains no weights.
  """
  path = local(settings.init_checkpoint, settings.cache_dir, settings.sha256)
  kind = initial_weights.format_of(path)
  if settings.output_dir:
    path = _copied(path, settings.output_dir)
  print(f"{kind.value}'s weights at {path}")


def _copied(path: str, folder: str) -> str:
  """Copies the folder of downloaded weights; returns the weights' path there.

  Args:
    path: local path of the weights.
    folder: the copy's folder, which appears only when it is whole.
  """
  source = initial_weights.folder_of(path)
  full = os.path.abspath(folder)
  os.makedirs(os.path.dirname(full), exist_ok=True)
  with (
    ownership.owning(folder),
    tempfile.TemporaryDirectory(
      prefix=f".{os.path.basename(full)}.", dir=os.path.dirname(full)
    ) as place,
  ):
    aside = os.path.join(place, "weights")
    shutil.copytree(source, aside)
    os.rename(aside, full)
  return os.path.normpath(os.path.join(folder, os.path.relpath(path, source)))


def local(path: str, cache_dir: str = "", sha256: str = "") -> str:
  """Returns the local path of weights, after downloading or unpacking them.

  A local path that is no archive is returned unchanged, whether it exists or
  not.

  Args:
    path: a local path or an address of weights.
    cache_dir: folder for downloaded files; "" for the user's cache.
    sha256: expected hash of a single file or archive, or of a folder's
      manifest.json; "" for none.

  Raises:
    options.InputError: when the download fails, or contains no weights.
  """
  cache = fetched.Cache(cache_dir)
  if not fetched.is_address(path):
    if archives.is_archive(path) and os.path.isfile(path):
      return _model_in(cache.unpacked(path), path)
    return path
  if archives.is_archive(path.split("?")[0]):
    archive = cache.file(path, sha256)
    return _model_in(cache.unpacked(archive, compared=bool(sha256)), path)
  if huggingface.is_weights(path.split("?")[0]):
    return _with_companions(cache, path, sha256)
  if path.startswith(gcs.SCHEME):
    return _of_bucket(cache, path, sha256)
  return _of_server(cache, path, sha256)


def _model_in(folder: str, origin: str) -> str:
  """Returns the folder of the only model in an unpacked archive.

  Args:
    folder: the folder of the unpacked files.
    origin: the archive's path or address, for messages.

  Raises:
    options.InputError: when the archive contains no model, or several.
  """
  places = []
  for place, _, _ in sorted(os.walk(folder)):
    above, name = os.path.split(place)
    if name == model_directory.VARIABLES and above in places:
      continue  # part of the SavedModel above
    # A config without weights may belong to another part, as in
    # sentence-transformers' 1_Pooling.
    if huggingface.has_weights(place) or model_directory.find_weights(place):
      places.append(place)
  if len(places) != 1:
    names = [os.path.relpath(place, folder) for place in places]
    raise options.InputError(
      f"one model in {origin}",
      ", ".join(names[:5]) or "none",
      f"unpacked, it lies in {folder}: name the path of one"
      if places
      else "give an archive with a checkpoint",
    )
  return places[0]


def _with_companions(cache: fetched.Cache, address: str, sha256: str) -> str:
  """Downloads a file of weights, with the config and the tokenizer beside it.

  Returns the local path of the weights.

  Args:
    cache: the cache.
    address: address of the file.
    sha256: the hash that the file must have; "" for any.
  """
  name = fetched.name_of(address.split("?")[0])
  files = {name: cache.file(address, sha256)}
  above, _, asked = address.partition("?")
  above = posixpath.dirname(above) + (f"?{asked}" if asked else "")
  files |= _there(cache, above, _COMPANIONS)
  return os.path.join(cache.together(files), name)


def _there(
  cache: fetched.Cache, address: str, names: tuple[str, ...]
) -> dict[str, str]:
  """Downloads those of the named files that exist; returns name → local path.

  Args:
    cache: the cache.
    address: address of the folder.
    names: the file names to try.
  """
  local_paths = {}
  for name in names:
    if path := cache.find(fetched.beside(address, name), _LARGEST_COMPANION):
      local_paths[name] = path
  return local_paths


def _manifest(cache: fetched.Cache, address: str, sha256: str) -> str:
  """Downloads a folder's manifest.json; returns its local path.

  The result is "" if there is none.

  Args:
    cache: the cache.
    address: address of the folder.
    sha256: the hash that the manifest must have; "" for any.

  Raises:
    options.InputError: when a hash is given, but there is no manifest.
  """
  place = fetched.beside(address, manifest.NAME)
  path = cache.find(place, _LARGEST_COMPANION, sha256)
  if sha256 and not path:
    raise options.InputError(
      f"--sha256 of an archive, a file of weights or a {manifest.NAME}",
      f"none of them at {address}",
      "leave it out, or give the address of a file",
    )
  return path


def _of_bucket(cache: fetched.Cache, address: str, sha256: str) -> str:
  """Downloads a folder of a bucket, or a checkpoint with the files beside it.

  Returns the local path of the weights.

  Raises:
    options.InputError: when nothing is at the address, when no weights are
      there, and when a hash is given but there is no manifest.json.
  """
  prefix = model_directory.FILE_OF_CHECKPOINT.sub("", address.rstrip("/"))
  if sha256:
    return _described(cache, prefix, _manifest(cache, prefix, sha256))
  if storage.exists(f"{_module_of(prefix)}/{_SAVED_WEIGHTS}.index"):
    return _saved_model(cache, _module_of(prefix))
  above, name = posixpath.split(prefix)
  if storage.exists(f"{prefix}.index"):
    names = [
      n
      for n in storage.names(above)
      if n.startswith(f"{name}.") or _is_companion(n)
    ]
    folder = _together(cache, above, names)
    return os.path.join(folder, name)
  names = storage.names(prefix)
  if not names:
    raise options.InputError(
      "a folder or a checkpoint in a bucket",
      f"404, nothing at {address}",
      "mend the address",
    )
  folder = (
    _described(cache, prefix, _manifest(cache, prefix, ""))
    if manifest.NAME in names
    else _together(cache, prefix, [n for n in names if _is_part(n)])
  )
  initial_weights.format_of(folder)  # raises if a file is missing
  return folder


def _module_of(path: str) -> str:
  """Returns a path without /variables or /variables/variables at its end.

  For a path inside a SavedModel this is the SavedModel's folder.
  """
  return re.sub(rf"(/{model_directory.VARIABLES}){{1,2}}$", "", path)


def _saved_model(cache: fetched.Cache, folder: str) -> str:
  """Downloads the weights of a SavedModel; returns their local folder.

  In a SavedModel, such as a TF Hub module, the weights are in variables/, and
  config and tokenizer in assets/ or in the module's folder. All are put in one
  local folder, without the graph. Of two files with one name, that of the
  module's folder is taken.
  """
  addresses: dict[str, str] = {}
  for place in (f"{folder}/assets", folder):
    names = filter(_is_companion, storage.names(place))
    addresses |= {name: fetched.beside(place, name) for name in names}
  weights = f"{folder}/{model_directory.VARIABLES}"
  for name in storage.names(weights):
    if model_directory.FILE_OF_CHECKPOINT.search(name):
      addresses[name] = fetched.beside(weights, name)
  return cache.together({n: cache.file(path) for n, path in addresses.items()})


def _is_companion(name: str) -> bool:
  return name in _COMPANIONS or name.endswith(".model")


def _is_part(name: str) -> bool:
  """Returns whether a file name may be that of a file of a model.

  Weights, configs, tokenizers and the like are accepted; records are not.
  """
  return (
    _is_companion(name)
    or huggingface.is_weights(name)
    or name in (*_SHARDED, "checkpoint")
    or bool(model_directory.FILE_OF_CHECKPOINT.search(name))
  )


def _together(cache: fetched.Cache, folder: str, names: list[str]) -> str:
  """Downloads files of one folder into one local folder; returns its path.

  Args:
    cache: the cache.
    folder: address of the folder.
    names: the names of the files.
  """
  return cache.together(
    {name: cache.file(fetched.beside(folder, name)) for name in names}
  )


def _of_server(cache: fetched.Cache, address: str, sha256: str) -> str:
  """Downloads weights behind https://; returns their local path.

  Folders behind https:// cannot be listed, so names are tried: manifest.json,
  Hugging Face's weights, and the address as a checkpoint's prefix.
  """
  if path := _manifest(cache, address, sha256):
    return _described(cache, address, path)
  for name in _SHARDED:
    if index := _there(cache, address, (name,)):
      shards = huggingface.shards(index[name])
      files = index | _there(cache, address, _COMPANIONS)
      for shard in shards:
        files[shard] = cache.file(fetched.beside(address, shard))
      return cache.together(files)
  for name in _WHOLE:
    if whole := _there(cache, address, (name,)):
      return cache.together(whole | _there(cache, address, _COMPANIONS))
  return _prefix_of_server(cache, address)


def _prefix_of_server(cache: fetched.Cache, address: str) -> str:
  """Downloads a checkpoint with as many data files as its index states.

  Returns the local prefix.

  Raises:
    options.InputError: when there is no such checkpoint.
  """
  prefix = model_directory.FILE_OF_CHECKPOINT.sub("", address)
  above, name = posixpath.split(prefix)
  index = f"{name}.index"
  files = _there(cache, above, (index,))
  module = _module_of(address.rstrip("/"))
  if not files and _there(cache, module, ("saved_model.pb",)):
    raise options.InputError(
      "a local path, gs:// or an archive of a SavedModel, such as a TF Hub "
      "module",
      f"its folder {module}; behind https:// none can be listed",
      "give the address of its archive (.tar.gz), or download the folder",
    )
  if not files:
    raise options.InputError(
      f"an archive, {manifest.NAME}, {' or '.join(_WHOLE)} in a folder, or a "
      "checkpoint's prefix",
      f"404 or 403 for each of them at {address}",
      "mend the address, or get access",
    )
  shards = _shards(storage.read_bytes(files[index]))
  for number in range(shards):
    shard = f"{name}.data-{number:05}-of-{shards:05}"
    files[shard] = cache.file(fetched.beside(above, shard))
  files |= _there(cache, above, _COMPANIONS)
  return os.path.join(cache.together(files), name)


def _shards(index: bytes) -> int:
  """Returns the number of data files of a checkpoint, read from its index.

  An index begins with the entry of an empty name: three lengths (0, 0, length
  of the value) and a BundleHeaderProto, whose first field is the number
  (TensorFlow's tensor_bundle.proto). For a damaged index the result is 1:
  TensorFlow will report the damage.
  """
  match = re.match(rb"\0\0.\x08([\x80-\xff]?)([\0-\x7f])", index, re.DOTALL)
  if not match:
    return 1
  low, high = (ord(part) if part else 0 for part in match.groups())
  return (low & 0x7F) + (high << 7) if match[1] else high


def _described(cache: fetched.Cache, address: str, path: str) -> str:
  """Downloads the files of a manifest; returns their local folder.

  Args:
    cache: the cache, which verifies the checksums of the manifest.
    address: address of the folder.
    path: local path of the manifest.

  Raises:
    options.InputError: when the manifest is damaged, names more than 1,000
      files, or has a name that contains a slash.
  """
  try:
    content = manifest.read(path)
  except options.InputError as error:
    raise options.InputError(
      f"a manifest at {address}",
      f"no {error.expected}: {error.got}",
      "name the folder of a model",
    ) from error
  wanted = content["files"]
  if any("/" in name for name in wanted) or len(wanted) > _MOST_FILES:
    raise options.InputError(
      f"names of at most {_MOST_FILES} files in the manifest at {address}",
      f"{len(wanted)}, or one of a folder",
      "do not trust where it comes from",
    )
  files = {
    name: cache.file(fetched.beside(address, name), e["sha256"], e["bytes"])
    for name, e in wanted.items()
  }
  return cache.together({manifest.NAME: path, **files})
