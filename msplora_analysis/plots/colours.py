"""The colours of figures and pages: of scales and of values. Imports no drawing library.

The colours of the scales differ in lightness by 14 steps of CIE L* or more (legible in grey), and by 25 in CIE Lab for
readers with any of the three colour deficiencies (Machado et al. 2009, full severity).
"""

SCALE_COLOURS = {"global": "#0B2F4D", "mid": "#049069", "layer": "#DC9A1D", "total": "#9018A7"}
"""From dark (shared by all layers) to light (one layer's own); `total` in another hue."""
NULL_COLOUR = "#D5D5D5"
"""Background of null ranges."""

MAGNITUDE = "viridis"
"""Colour maps, by matplotlib's names (d3 has the same): singular values,"""
DIVERGENCE = "cividis"
"""KL,"""
DIFFERENCE = "RdBu_r"
"""and KL minus the baseline's: red if the method's layers are further apart."""
