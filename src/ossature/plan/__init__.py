"""Will it fit, how fast will it be: what the machine has, what it reaches, and what a model asks of it."""

from ossature.plan.bandwidth import Limits, dot_peaks, measure_limits, read_bandwidth
from ossature.plan.benchmark import BenchReport, Workload, bench
from ossature.plan.hardware import Hardware, hardware
from ossature.plan.speed import DecodeSpeed, Effort, PrefillSpeed, measure_decode, measure_prefill
from ossature.plan.traffic import Traffic, decode_traffic, expected_experts, prefill_operations

__all__ = [
    "BenchReport",
    "DecodeSpeed",
    "Effort",
    "Hardware",
    "Limits",
    "PrefillSpeed",
    "Traffic",
    "Workload",
    "bench",
    "decode_traffic",
    "dot_peaks",
    "expected_experts",
    "hardware",
    "measure_decode",
    "measure_limits",
    "measure_prefill",
    "prefill_operations",
    "read_bandwidth",
]
