"""Adapters on the hub: which names mean it, and what is fetched."""

from fnmatch import fnmatch

import pytest

from msplora_core.errors import AdapterFileError, MissingDependencyError, ParameterError
from msplora_core.formats import local_path, read_adapter
from msplora_core.formats.hub import FETCHED, NOT_FETCHED

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def no_network(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["owner/name", "no/such/folder", "adapter", "https://hub/owner/name"])
def test_a_name_without_the_prefix_is_a_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdapterFileError, match="found no such file or folder; an adapter on the hub is named hf://own"):
        local_path(name)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["hf://name", "hf://", "hf://a/b/c", "hf://../x", "hf://a/b@", "hf://a b/c"])
def test_malformed_ids(name):
    with pytest.raises(AdapterFileError, match="expected hf://owner/name or hf://owner/name@revision, found hf://"):
        local_path(name)


def test_fetching(tmp_path, monkeypatch):
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(AdapterFileError, match=r"expected an adapter's files .*, found none of them on the hub"):
        local_path("hf://owner/name")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert local_path("hf://owner/name@v1.0") == tmp_path
    assert (asked["name"], asked["revision"]) == ("owner/name", "v1.0")
    assert (asked["allow_patterns"], asked["ignore_patterns"]) == (FETCHED, NOT_FETCHED)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r'fetching hf://owner/name needs .*pip install "msplora\[hub\]"'):
        local_path("hf://owner/name")


@pytest.mark.usefixtures("no_network")
def test_without_a_network():
    with pytest.raises(AdapterFileError, match=r"hf://owner/name: .* on the hub, found ConnectionError: no network"):
        local_path("hf://owner/name")


def test_a_base_model_is_never_fetched(tmp_path):
    with pytest.raises(ParameterError, match="base: expected a folder or file on this disk, found hf://owner/model"):
        read_adapter(tmp_path, base="hf://owner/model")


@pytest.mark.parametrize(
    ("name", "fetched"),
    [
        ("adapter_config.json", True),
        ("adapter_model.safetensors", True),
        ("adapter_model.bin", True),
        ("checkpoint-12/adapter_model.safetensors", True),
        ("checkpoint-12/trainer_state.json", True),
        ("models/adapter_model.safetensors", True),
        ("pytorch_lora_weights.safetensors", True),
        ("my-lora-v2.safetensors", True),
        ("model.safetensors", False),
        ("model-00001-of-00030.safetensors", False),
        ("lora-merged/model-00001-of-00030.safetensors", False),
        ("lora/model.safetensors", False),
        ("pytorch_model.bin", False),
        ("unet/diffusion_pytorch_model.safetensors", False),
        ("flux1-dev.safetensors", False),
        ("tokenizer.json", False),
        ("checkpoint-12/optimizer.bin", False),
    ],
)
def test_which_files_are_fetched(name, fetched):
    allowed = any(fnmatch(name, pattern) for pattern in FETCHED)
    assert (allowed and not any(fnmatch(name, pattern) for pattern in NOT_FETCHED)) == fetched
