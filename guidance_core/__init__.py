"""Guidance for diffusion sampling: classifier guidance, classifier-free guidance, schedules, samplers."""

from .cfg import cfg_methods
from .classifier.gradient import log_prob_grad, shift_denoised
from .classifier.noisy import NoisyClassifier
from .classifier.sources import Source, TensorSource
from .classifier.targets import Target, parse_target
from .classifier.term import ClassifierTerm
from .classifier.training import TrainSettings, TrainStep, train_classifier
from .classifier.validation import Validation
from .denoisers import eps_denoiser, flow_denoiser, v_denoiser, x0_denoiser
from .errors import GuidanceError
from .guiders import cfg_guided, classifier_guided, combine
from .null import drop_condition
from .paths import FLOW, VE, VP, Path, change_frame
from .run import Run
from .sampling import SAMPLERS, Step, sample, steps
from .scale import ScaleSchedule
from .schedules import betas, flow_shift, karras, leading, sigmas_from_betas, trailing, zero_terminal_snr
from .shapes import SHAPES

__all__ = [
    "FLOW",
    "SAMPLERS",
    "SHAPES",
    "VE",
    "VP",
    "ClassifierTerm",
    "GuidanceError",
    "NoisyClassifier",
    "Path",
    "Run",
    "ScaleSchedule",
    "Source",
    "Step",
    "Target",
    "TensorSource",
    "TrainSettings",
    "TrainStep",
    "Validation",
    "betas",
    "cfg_guided",
    "cfg_methods",
    "change_frame",
    "classifier_guided",
    "combine",
    "drop_condition",
    "eps_denoiser",
    "flow_denoiser",
    "flow_shift",
    "karras",
    "leading",
    "log_prob_grad",
    "parse_target",
    "sample",
    "shift_denoised",
    "sigmas_from_betas",
    "steps",
    "trailing",
    "train_classifier",
    "v_denoiser",
    "x0_denoiser",
    "zero_terminal_snr",
]
