"""The width of a band that few errors tell leans on the width that series usually have.

The P90 of n errors strays by 1.9 / sqrt(n) of its distance to the median (of a Laplace law, by the
variance of a sample quantile), and a day ahead a week holds seven errors. So the logarithm of a
width is shrunk towards the usual one (James & Stein 1961): calm series get a little room for what
they have not yet met, restless ones are not held for ever to the worst day they had.
"""

from __future__ import annotations

import numpy as np

from forecasting.grid import Floats, Reals

# As many independent errors count half. Widths of series differ by a factor of e, and 1.9 squared
# over that variance is near 4; less, because a fleet is no sample of one kind.
_USUAL_ERRORS = 1.5


def steadied(offset: Reals, middle: Reals, usual: Reals, independent: Reals) -> Floats:
    """Offsets whose distance to the `middle` leans on the `usual` distance [..., quantile].

    `middle` [..., 1] is the median offset, `independent` [...] the number of errors. Where both
    distances are not on the same side (one is 0, or unknown), the offset stays.
    """
    lean = (_USUAL_ERRORS / (independent + _USUAL_ERRORS))[..., None]
    width = offset - middle
    same = width * usual > 0
    own, other = (np.where(same, np.abs(side), 1.0) for side in (width, usual))
    leaning = middle + np.sign(usual) * own ** (1 - lean) * other**lean
    return np.where(same, leaning, offset)
