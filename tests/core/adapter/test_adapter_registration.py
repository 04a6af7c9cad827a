"""PEFT knows the method as one of its own."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import peft
import pytest
from peft import PeftType, get_peft_config
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from msplora_core.adapter import MSPLoraConfig, MSPLoraModel
from msplora_core.adapter.registration import NAME, method_type, register


def test_the_member_behaves_as_those_that_peft_brings() -> None:
    member = method_type(NAME)
    assert member is PeftType.MSPLORA is PeftType("MSPLORA") is PeftType["MSPLORA"]
    assert member == "MSPLORA"
    assert member in list(PeftType)
    assert isinstance(member, PeftType)
    assert repr(member) == "<PeftType.MSPLORA: 'MSPLORA'>"
    assert copy.deepcopy(member) is member
    assert len({member, PeftType.LORA, "MSPLORA"}) == 2


def test_the_registry_holds_its_classes_and_a_second_time_changes_nothing() -> None:
    before = list(PeftType)
    register(NAME, MSPLoraConfig, MSPLoraModel)
    assert list(PeftType) == before
    assert PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.MSPLORA] is MSPLoraConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING["MSPLORA"] is MSPLoraModel
    assert PEFT_TYPE_TO_PREFIX_MAPPING[PeftType.MSPLORA] == "msplora_"
    assert isinstance(get_peft_config({"peft_type": "MSPLORA"}), MSPLoraConfig)


@pytest.mark.parametrize("what", ["member", "configuration"])
def test_a_pickle_opens_in_a_process_that_has_not_loaded_the_package(what: str, tmp_path) -> None:
    value = method_type(NAME) if what == "member" else MSPLoraConfig(ranks=(4, 2, 1))
    (tmp_path / "pickle").write_bytes(pickle.dumps(value))
    code = (
        "import pickle, sys, peft; assert 'msplora_core' not in sys.modules; "
        "value = pickle.load(open(sys.argv[1], 'rb')); print(getattr(value, 'peft_type', value).value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pickle")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "MSPLORA"


def test_no_file_or_function_of_peft_is_replaced() -> None:
    assert peft.PeftModel.from_pretrained.__func__.__module__ == "peft.peft_model"
    assert peft.get_peft_model.__module__.startswith("peft.")
