"""`from concurry.utils.progress import ProgressBar`, as older code has it; the bar is `concurry.progress`."""

from concurry.progress import ProgressBar

__all__ = ["ProgressBar"]
