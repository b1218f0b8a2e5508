"""Training of priors from a folder of volumes."""

from medrecon.training.loop import train
from medrecon.training.settings import Intensity, TrainingSettings

__all__ = ["Intensity", "TrainingSettings", "train"]
