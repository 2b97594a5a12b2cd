"""`compare`: the same protocol over several ways of training, and what the differences are worth."""

from .comparison import Comparison, compare
from .design import Arm, Cell, Design

__all__ = ["Arm", "Cell", "Comparison", "Design", "compare"]
