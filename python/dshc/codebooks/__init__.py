"""Codebooks: which codes each class owns.

DSHC (Luo et al., *Deep Supervised Hashing by Classification*) splits every class into sub-classes and gives
each sub-class a fixed code, so that a classifier over sub-classes is a hash function by table look-up. This
package makes the tables and measures them.

* ``cpbc`` (center-point based): L = C*H bits, the center of class i is 1 on its own block of H bits and 0
  elsewhere; its sub-codes are the center and the L codes one flipped bit away. Two centers differ in 2H bits,
  so sub-codes of different classes are at least 2H - 2 apart while those of one class are at most 2 apart:
  classes separate from H = 3 on, and at H = 1 they share codes.
* ``kbc`` (k-means based): the centers are the rounded centroids of a k-means over all 2^L codes, the
  sub-codes those codes within 1 of their center that keep a distance to all other centers. Short codes only.
* ``separated``: centers as far apart as coding theory knows how, for any number of classes and bits, measured
  against its upper bounds. 10 classes in 10 bits are 5 apart, so that their single flips separate.

For a network of several lengths at once :func:`nested_centers` gives centers whose first bits are far apart too.

Where to look: :mod:`.book` the table and its measures (:mod:`.geometry`), :mod:`.factory` the constructions by
name (:mod:`.cpbc`, :mod:`.kbc`, :mod:`.separated`), :mod:`.balls` the sub-codes around centers, :mod:`.extend`
classes added later, :mod:`.nested` several lengths. Of ``separated``: :mod:`.linear` and :mod:`.nonlinear` the codes,
:mod:`.blocks` what they are good for, :mod:`.planner` how they are put together, :mod:`.search` where they do not
suffice, :mod:`.bounds` how far one can get.
"""

from .book import MAX_BITS, Codebook
from .extend import extended
from .factory import build, constructions, default_bits, is_short
from .nested import NestedCenters, nested_centers
from .separated import DEFAULT_STEPS

__all__ = [
    "DEFAULT_STEPS",
    "MAX_BITS",
    "Codebook",
    "NestedCenters",
    "build",
    "constructions",
    "default_bits",
    "extended",
    "is_short",
    "nested_centers",
]
