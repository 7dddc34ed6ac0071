"""Optimisers and schedules: specs that build `optax` transformations."""

from train.optim.adafactor import Adafactor as Adafactor
from train.optim.muon import Muon as Muon
from train.optim.muon import Others as Others
from train.optim.noise import GradientNoise as GradientNoise
from train.optim.noise import walk_std as walk_std
from train.optim.optimizers import SGD as SGD
from train.optim.optimizers import AdamW as AdamW
from train.optim.optimizers import Optimizer as Optimizer
from train.optim.optimizers import ParamGroup as ParamGroup
from train.optim.phases import Phase as Phase
from train.optim.phases import Phases as Phases
from train.optim.rules import Rules as Rules
from train.optim.schedules import Constant as Constant
from train.optim.schedules import Cosine as Cosine
from train.optim.schedules import InverseSqrt as InverseSqrt
from train.optim.schedules import Linear as Linear
from train.optim.schedules import OneMinusSqrt as OneMinusSqrt
from train.optim.schedules import Schedule as Schedule
from train.optim.schedules import WarmupStableDecay as WarmupStableDecay
from train.optim.stable_adamw import StableAdamW as StableAdamW
from train.optim.state import state_axes as state_axes
