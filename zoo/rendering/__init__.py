"""Rendering in NumPy: sprites, and shaded heads from a formula.

Equal arguments give equal bytes on every machine. Three rules make this so:

- Only operations that IEEE 754 rounds correctly (`+ - * / sqrt` and rounding) are used.
  `zoo.rendering.exact` builds the elementary functions from them.
- Sums over an axis are written as loops over elementwise additions. Matrix products, `np.sum` and
  `np.einsum` add in an order that depends on the processor and the library.
- Values are rounded to uint8 once, at the end.
"""

from zoo.rendering import camera, exact, head, light, raster, shapes

__all__ = ["camera", "exact", "head", "light", "raster", "shapes"]
