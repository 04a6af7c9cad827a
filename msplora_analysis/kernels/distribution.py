"""A spectrum as a distribution, and checks of the input of kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from msplora_core.errors import ParameterError


def spectral_distribution(sigma: ArrayLike) -> NDArray[np.float64]:
    """Return a spectrum as a distribution: p_k = σ_k / Σ_m σ_m (Eq. 10 of arXiv 2503.21838).

    Args:
        sigma: (..., M) singular values, any real dtype, any magnitude, any order. NaN in a spectrum makes its result
            NaN: remove padding first.

    Returns:
        (..., M) float64 shares of 1, descending; NaN for a zero spectrum, which has no distribution.

    Raises:
        ParameterError: if there are no singular values, or one is negative, infinite or not a number.

    Example:
        >>> spectral_distribution([3.0, 1.0])
        array([0.75, 0.25])
        >>> spectral_distribution([[1e300, 1e300], [0, 0]])
        array([[0.5, 0.5],
               [nan, nan]])
    """
    relative = relative_to_largest(sigma)
    result: NDArray[np.float64] = relative / relative.sum(axis=-1, keepdims=True)
    return result


def relative_to_largest(sigma: ArrayLike, name: str = "sigma") -> NDArray[np.float64]:
    """Return checked singular values in descending order, divided by the largest, so that no sum or square overflows.

    Args:
        sigma: (..., M), any real dtype.
        name: of the caller's parameter, for the message.

    Returns:
        (..., M) float64, descending from 1; NaN for a spectrum that is zero or holds NaN.

    Raises:
        ParameterError: if there are no singular values, or one is negative, infinite or not a number.
    """
    values = real_numbers(sigma, name)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ParameterError(name, expected="shape (..., M), M at least 1", found=values.shape)
    if (values < 0).any() or np.isinf(values).any():
        wrong = values[(values < 0) | np.isinf(values)][0]
        raise ParameterError(name, expected="singular values: finite, at least 0", found=float(wrong))
    if (values[..., 1:] > values[..., :-1]).any():
        values = np.sort(values, axis=-1)[..., ::-1]
    largest = values.max(axis=-1, keepdims=True)  # NaN if a value is
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = values / largest
        return result


def real_numbers(sigma: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return a copy as float64.

    Raises:
        ParameterError: if the values are not real numbers.
    """
    try:
        values = np.asarray(sigma)
        if values.dtype.kind == "c":
            raise TypeError("complex numbers")
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            name, expected="real numbers in an array, all rows equally long", found=str(error)
        ) from None
