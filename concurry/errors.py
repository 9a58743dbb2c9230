"""The errors that concurry raises; the hierarchy is drawn in `concurry.transports.errors`."""

from concurry.transports.errors import *  # noqa: F403
from concurry.transports.errors import __all__ as __all__
