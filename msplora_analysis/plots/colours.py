"""The colours of figures and pages: of scales and of values. Imports no drawing library.

The colours of the scales differ in lightness by 14 steps of CIE L* or more (legible in grey), and by 25 in CIE Lab for
readers with any of the three colour deficiencies (Machado et al. 2009, full severity).
"""

SCALE_COLOURS = {"global": "#0B2F4D", "mid": "#049069", "layer": "#DC9A1D", "total": "#9018A7"}
"""From dark (shared by all layers) to light (one layer's own); `total` in another hue."""
NULL_COLOUR = "#D5D5D5"
"""Background of null ranges."""

PAIR_COLOURS = {"global-mid": "#56B4E9", "global-layer": "#D55E00", "mid-layer": "#000000"}
"""Of what two scales have in common."""
DISTINCT = ["#0072B2", "#D55E00", "#56B4E9", "#CC79A7", "#009E73", "#E69F00", "#999999"]
"""For methods and whatever else is no scale: those of Okabe and Ito, far from the colours of scales first."""

MAGNITUDE = "viridis"
"""Colour maps, by matplotlib's names (d3 has the same): singular values,"""
DIVERGENCE = "cividis"
"""KL,"""
DIFFERENCE = "RdBu_r"
"""and KL minus the baseline's: red if the method's layers are further apart."""
ALL_LAYERS_ALIKE = 0.05
"""Nats. Colour scales of KL reach at least to this value, so that small differences look small."""
