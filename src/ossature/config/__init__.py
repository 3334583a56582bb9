"""What `config.json` and `generation_config.json` say, checked once and frozen.

Every key keeps its published name. A key that cannot change the numbers is accepted, any other unknown key is reported
in one line, and a missing, mistyped or impossible value raises `ConfigError`.
"""

from ossature.config.generation import GenerationConfig
from ossature.config.model import ModelConfig
from ossature.config.rope import RopeScaling
from ossature.config.spellings import FULL, SLIDING, Layout

__all__ = ["FULL", "SLIDING", "GenerationConfig", "Layout", "ModelConfig", "RopeScaling"]
