"""The type of an array of numbers. Nothing else."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
