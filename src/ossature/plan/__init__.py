"""Will it fit, how fast will it be: what the machine has, what it reaches, and what a model asks of it."""

from ossature.plan.bandwidth import Limits, dot_peaks, measure_limits, read_bandwidth
from ossature.plan.hardware import Hardware, hardware

__all__ = ["Hardware", "Limits", "dot_peaks", "hardware", "measure_limits", "read_bandwidth"]
