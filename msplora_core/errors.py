"""The exceptions of this toolkit.

    MSPLoraError
    ├── ParameterError          a parameter has an invalid value (also a ValueError)
    ├── FileError               a file or folder is missing, damaged, or of an unknown or newer format
    │   ├── DataFileError       task data
    │   ├── RunDirectoryError   a run directory or a snapshot in it
    │   │   └── LockedRunError  another process trains the run
    │   ├── StudyFileError      a study file, or a study's record
    │   └── AdapterFileError    an adapter
    ├── UnsupportedAdapterError an adapter without spectra: its update depends on the input, or is not a weight update
    ├── ComparisonError         two runs that cannot be compared
    ├── TrainingError           a run that cannot continue
    │   └── DivergenceError     its loss or its weights are not finite
    └── MissingDependencyError  an optional package is needed here (also an ImportError)

Every message is one line that names the thing, what was expected, what was found and how to fix it.
The command line prints it and ends with exit code 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from os import PathLike
from typing import Any


class MSPLoraError(Exception):
    """Base class of the errors that this toolkit raises.

    Args:
        message: converted to one printable line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle an error without its constructor, so that other processes can return it with all attributes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[MSPLoraError], args: tuple[Any, ...], fields: dict[str, Any]) -> MSPLoraError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class ParameterError(MSPLoraError, ValueError):
    """A parameter has an invalid value.

    Args:
        name: the parameter, as the caller wrote it.
        expected: the allowed values.
        found: the received value.
        hint: how to fix it, if that does not follow from `expected`.

    Example:
        >>> raise ParameterError("groups", expected="at most 6, the number of layers", found=9)
        Traceback (most recent call last):
        msplora_core.errors.ParameterError: groups: expected at most 6, the number of layers, found 9
    """

    def __init__(self, name: str, *, expected: str, found: object, hint: str = "") -> None:
        super().__init__(f"{name}: expected {expected}, found {_shown(found)}{_hinted(hint)}")
        self.name, self.expected, self.found, self.hint = name, expected, found, hint


class FileError(MSPLoraError):
    """A file or folder is missing, damaged, or of an unknown or newer format.

    Args:
        path: the file or folder.
        key: the place in it: a tensor's name, a field, a line; empty for the whole file.
        expected: what belongs there.
        found: what is there.
        hint: how to fix it.

    Example:
        >>> raise FileError("mrpc/run.json", key="version", expected="at most 1", found=7, hint="update msplora")
        Traceback (most recent call last):
        msplora_core.errors.FileError: mrpc/run.json: version: expected at most 1, found 7; update msplora
    """

    def __init__(
        self, path: str | PathLike[str], *, expected: str, found: object, key: str = "", hint: str = ""
    ) -> None:
        where = f"{path}: {_shown(key)}" if key else f"{path}"
        super().__init__(f"{where}: expected {expected}, found {_shown(found)}{_hinted(hint)}")
        self.path, self.key, self.expected, self.found, self.hint = path, key, expected, found, hint


class DataFileError(FileError):
    """Task data is missing or malformed."""


class RunDirectoryError(FileError):
    """A run directory, or a snapshot in it, cannot be read or written."""


class LockedRunError(RunDirectoryError):
    """Another process trains the run."""


class StudyFileError(FileError):
    """A study file is invalid, or a study's record cannot be read."""


class AdapterFileError(FileError):
    """An adapter cannot be read."""


class UnsupportedAdapterError(MSPLoraError):
    """The update depends on the input, or is not a weight update, so it has no spectrum."""


class ComparisonError(MSPLoraError):
    """Two runs cannot be compared."""


class TrainingError(MSPLoraError):
    """A training run cannot continue; its records are kept."""


class DivergenceError(TrainingError):
    """The loss or the weights of a training run are not finite."""


class MissingDependencyError(MSPLoraError, ImportError):
    """An optional package is needed.

    Args:
        package: the missing package.
        purpose: what needs it.
        extra: the extra of this project that installs it.

    Example:
        >>> raise MissingDependencyError("torch", purpose="reading a .bin file", extra="train")
        Traceback (most recent call last):
        msplora_core.errors.MissingDependencyError: reading a .bin file needs torch: pip install "msplora[train]"
    """

    def __init__(self, package: str, *, purpose: str, extra: str) -> None:
        super().__init__(f'{purpose} needs {package}: pip install "msplora[{extra}]"')
        self.package, self.purpose, self.extra = package, purpose, extra


TRAINING_PACKAGES = frozenset({"torch", "transformers", "peft", "accelerate", "datasets", "sklearn"})
"""Packages that the extra `train` installs."""


def training_needs(error: ModuleNotFoundError, purpose: str) -> MissingDependencyError:
    """Return the error for a missing package of the extra `train`, from the error of its import.

    Raises:
        ModuleNotFoundError: the given error, if another package is missing.
    """
    if error.name not in TRAINING_PACKAGES:
        raise error
    return MissingDependencyError(error.name, purpose=purpose, extra="train")


def _shown(value: object) -> str:
    """A value as one printable line of at most 200 characters."""
    text = one_line(value if isinstance(value, str) else repr(value))
    return text if len(text) <= 200 else text[:197] + "..."


def one_line(text: str) -> str:
    """Return a text from an untrusted file as one line without control characters, which could steer a terminal."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(char if char.isprintable() else "?" for char in line)


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint with the known name nearest to an unknown one; `otherwise` if none is near.

    Example:
        >>> nearest("use_dorra", ["use_dora", "r"]), nearest("x", ["use_dora"])
        ('the nearest is use_dora', '')
    """
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"the nearest is {near[0]}" if near else otherwise


def _hinted(hint: str) -> str:
    return f"; {hint}" if hint else ""
