"""The methods that can be trained: their names, their settings, and where their spectra come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msplora_core.errors import ParameterError, nearest

_ATTACHING = "msplora_core.training.attaching"


@dataclass(frozen=True)
class Method:
    """A method that `train` and studies accept.

    Args:
        name: value of `--method`.
        title: name in tables and figures.
        line: one-line description with the source.
        spectra: how the singular values of its weight updates are computed; `none: ` and the reason if there are none.
        options: class of its options, as `module:class`: a configuration of PEFT or another dataclass; may be empty.
        settings: the settings of `RunConfig` that only some methods have, by name, each with the option that it sets
            (empty where it sets none).
        values: defaults of the settings.
        fixed: the options that define the method.
        attachment: the class that attaches it to a model, as `module:class`.
    """

    name: str
    title: str
    line: str
    spectra: str = "from the factors"
    options: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    attachment: str = f"{_ATTACHING}.peft_attachment:PeftAttachment"

    @property
    def no_spectra(self) -> str:
        """Why its weight updates have no spectra; empty where they have."""
        return self.spectra.removeprefix("none: ") if self.spectra.startswith("none: ") else ""


_PYRAMID = {"ranks": "ranks", "groups": "groups", "alpha": "lora_alpha", "rslora": "use_rslora",
            "rank_pattern": "rank_pattern", "init": "init_lora_weights", "dropout": "lora_dropout",
            "target_modules": "target_modules"}  # fmt: skip
_LORA = {"rank": "r", **{name: option for name, option in _PYRAMID.items() if name not in ("ranks", "groups")}}
_LYCORIS = {"rank": "r", "alpha": "alpha", "target_modules": "target_modules"}
_LYCORIS_VALUES = {"rank": 8, "alpha": 8}
_LORA_VALUES = {"rank": 8, "alpha": 16, "dropout": 0.05}

_BOTTLENECK: dict[str, Any] = {
    "spectra": "none: the update depends on the input",
    "options": "msplora_core.bottleneck:BottleneckConfig",
    "settings": {"rank": "bottleneck_size", "target_modules": "target_modules"},
    "values": {"rank": 64},
}


def _lora(name: str, title: str, line: str, attachment: str = "peft_attachment:PeftAttachment", **fixed: Any) -> Method:
    settings = {setting: option for setting, option in _LORA.items() if option not in fixed}
    return Method(
        name, title, line, options="peft:LoraConfig", settings=settings, values=_LORA_VALUES, fixed=fixed,
        attachment=f"{_ATTACHING}.{attachment}",
    )  # fmt: skip


METHODS = {
    method.name: method
    for method in (
        Method("msplora", "MSPLoRA", "LoRA in a pyramid of scales (arXiv 2503.21838)", "from the factors, by scale",
               "msplora_core.adapter:MSPLoraConfig", _PYRAMID, {"alpha": 16, "dropout": 0.05}),
        _lora("lora", "LoRA", "low-rank updates (arXiv 2106.09685)"),
        _lora("rslora", "rsLoRA", "LoRA scaled by α/√r (arXiv 2312.03732)", use_rslora=True),
        _lora("dora", "DoRA", "LoRA with trained magnitudes of the weights (arXiv 2402.09353)", use_dora=True),
        replace(
            _lora("pissa", "PiSSA", "LoRA from the leading singular vectors (arXiv 2404.02948)",
                  "pissa_attachment:PissaAttachment", init_lora_weights="pissa"),
            spectra="from the factors and those at the start, of twice the rank",
        ),
        Method("adalora", "AdaLoRA", "LoRA whose ranks are pruned while it trains (arXiv 2303.10512)",
               "from the factors that are left", "peft:AdaLoraConfig",
               {"rank": "target_r", "alpha": "lora_alpha", "dropout": "lora_dropout",
                "target_modules": "target_modules"}, _LORA_VALUES, {"total_step": 2**31},
               attachment=f"{_ATTACHING}.adalora_attachment:AdaLoraAttachment"),
        Method("vera", "VeRA", "vectors around random factors that all layers share (arXiv 2310.11454)",
               options="peft:VeraConfig", values={"rank": 256, "dropout": 0.0},
               settings={"rank": "r", "dropout": "vera_dropout", "target_modules": "target_modules"}),
        Method("lily", "Lily", "factors shared by layers, mixed for each input (arXiv 2407.09946)",
               "none: its mixture depends on the input", "peft:LilyConfig",
               {"rank": "r", "target_modules": "target_modules"}, {"rank": 32}),
        Method("loha", "LoHa", "Hadamard products of low-rank matrices (arXiv 2108.06098)",
               options="peft:LoHaConfig", settings=_LYCORIS, values=_LYCORIS_VALUES),
        Method("lokr", "LoKr", "Kronecker products (arXiv 2309.14859)",
               options="peft:LoKrConfig", settings=_LYCORIS, values=_LYCORIS_VALUES),
        Method("randlora", "RandLoRA", "sums of random products, scaled, of full rank (arXiv 2502.00987)",
               "dense, of ΔW", "peft:RandLoraConfig",
               {"rank": "r", "alpha": "randlora_alpha", "dropout": "randlora_dropout",
                "target_modules": "target_modules"}, {"rank": 32, "alpha": 640, "dropout": 0.0}),
        Method("peft", "PEFT", "any other method of PEFT, by its adapter_config.json in --config",
               "dense, of ΔW, unless it depends on the input", settings={"config": "", "target_modules": ""},
               attachment=f"{_ATTACHING}.configured_attachment:ConfiguredAttachment"),
        Method("full", "full fine-tuning", "all weights", "dense, of W − W₀ of the target modules",
               settings={"target_modules": ""}, attachment=f"{_ATTACHING}.whole_model:FullFineTuning"),
        Method("bitfit", "BitFit", "all biases (arXiv 2106.10199)", "none: it changes no weight matrix",
               attachment=f"{_ATTACHING}.whole_model:BiasTuning"),
        replace(
            _lora("dylora", "DyLoRA", "LoRA at a random rank each step (arXiv 2210.07558)",
                  "lora_attachments:DyLoraAttachment", use_rslora=False, use_dora=False),
            spectra="from the factors; those at each rank by `inspect`",
        ),
        _lora("qlora", "QLoRA", "LoRA on a base model in 4 bits (arXiv 2305.14314), by bitsandbytes",
              "lora_attachments:QLoraAttachment"),
        Method("adapter", "Adapter", "bottlenecks after attention and feed-forward network (arXiv 1902.00751)",
               **_BOTTLENECK, attachment=f"{_ATTACHING}.bottleneck_attachment:BottleneckAttachment"),
        Method("adapterdrop", "AdapterDrop", "the same without the lowest 5/12 of the layers (arXiv 2010.11918)",
               **_BOTTLENECK, attachment=f"{_ATTACHING}.bottleneck_attachment:AdapterDropAttachment"),
    )
}  # fmt: skip
"""All methods by name, in the order of listings."""

METHOD_SETTINGS = frozenset().union(*(method.settings for method in METHODS.values()))
"""The settings of `RunConfig` that not every method has."""


def check_setting(setting: str, methods: Sequence[str]) -> None:
    """Check that a setting is common to all methods, or that one of the given methods has it.

    Args:
        setting: a field of `RunConfig`.
        methods: names in `METHODS`.

    Raises:
        ParameterError: if other methods have it, but none of these; names them.

    Example:
        >>> check_setting("ranks", ["msplora", "lora"])
    """
    having = [method.name for method in METHODS.values() if setting in method.settings]
    if having and not set(having) & set(methods):
        expected = f"a method that has it ({', '.join(having)})"
        raise ParameterError(setting, expected=expected, found=", ".join(methods))


def method_named(name: str) -> Method:
    """Return the method of a name.

    Raises:
        ParameterError: if there is none; names the nearest.

    Example:
        >>> method_named("lora").title
        'LoRA'
    """
    if name not in METHODS:
        hint = nearest(name.lower(), METHODS)
        raise ParameterError("method", expected=f"one of {', '.join(METHODS)}", found=name, hint=hint)
    return METHODS[name]
