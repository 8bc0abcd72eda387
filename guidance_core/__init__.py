"""Guidance for diffusion sampling: classifier guidance, classifier-free guidance, schedules, samplers."""

from . import cfg as cfg
from .cfg import cfg_methods
from .classifier.clean import CleanClassifier, clean_classifier
from .classifier.noisy import NoisyClassifier
from .data.sources import Source, TensorSource
from .denoisers import Denoiser, eps_denoiser, flow_denoiser, v_denoiser, x0_denoiser
from .errors import GuidanceError
from .guiders import cfg_guided, classifier_guided, combine
from .null import drop_condition
from .paths import FLOW, VE, VP, NoisePath, change_frame
from .run import Run
from .sampling import SAMPLERS, Step, sample, steps
from .scale import ScaleSchedule
from .schedules import betas, flow_shift, karras, leading, sigmas_from_betas, trailing, zero_terminal_snr
from .shapes import SHAPES
from .terms.classifier_guidance import ClassifierTerm
from .terms.gradient import Classifier, log_prob_grad, shift_denoised
from .terms.target_text import parse_target
from .terms.targets import Target
from .train.loop import TrainStep, train_classifier
from .train.settings import TrainSettings
from .train.validation import Validation
from .version import __version__ as __version__

__all__ = [
    "FLOW",
    "SAMPLERS",
    "SHAPES",
    "VE",
    "VP",
    "Classifier",
    "ClassifierTerm",
    "CleanClassifier",
    "Denoiser",
    "GuidanceError",
    "NoisyClassifier",
    "NoisePath",
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
    "clean_classifier",
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
