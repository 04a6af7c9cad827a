"""Variants of LoRA training: DyLoRA, and QLoRA on a base model in 4 bits."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from msplora_core.errors import MissingDependencyError
from msplora_core.training.attaching.peft_attachment import PeftAttachment

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import TrainerCallback


class DyLoraAttachment(PeftAttachment):
    """LoRA at a random rank each step (see `RandomRank`), saved as plain LoRA of the full rank."""

    def callbacks(self) -> list[TrainerCallback]:
        from msplora_core.training.random_rank import RandomRank

        return [RandomRank(self.config.seed)]


class QLoraAttachment(PeftAttachment):
    """LoRA on a frozen base model in 4 bits, NF4 with double quantisation (arXiv 2305.14314)."""

    def loading(self) -> dict[str, Any]:
        return four_bits(bf16=self.config.bf16)

    def attach(self, base: Any, steps: int) -> PeftModel:
        from peft import prepare_model_for_kbit_training

        saving = self.config.gradient_checkpointing
        prepare_model_for_kbit_training(base, saving, {"use_reentrant": False})
        for module in base.modules():
            # On CPUs with AVX512-BF16, the first evaluation would repack the weights, which then pass no gradient.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return super().attach(base, steps)


def four_bits(*, bf16: bool) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that load a model in 4 bits; heads keep their precision.

    Args:
        bf16: compute in bfloat16 instead of float32.

    Raises:
        MissingDependencyError: if bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise MissingDependencyError("bitsandbytes", purpose="a base model in 4 bits (qlora)", extra="qlora")
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype="bfloat16" if bf16 else "float32",
            llm_int8_skip_modules=["classifier", "pre_classifier", "score", "lm_head"],  # applies to 4 bits, too
        )
    }
