"""Guidance for diffusion sampling: classifier guidance, classifier-free guidance, schedules, samplers."""

# A name is imported when it is first asked for, so that --help and __version__ answer without waiting for torch.

import importlib
from typing import TYPE_CHECKING

from .rooms import as_attribute
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import cfg as cfg
    from .cfg import cfg_methods as cfg_methods
    from .classifier.clean import CleanClassifier as CleanClassifier
    from .classifier.clean import clean_classifier as clean_classifier
    from .classifier.noisy import NoisyClassifier as NoisyClassifier
    from .data.sources import Source as Source
    from .data.sources import TensorSource as TensorSource
    from .denoisers import Denoiser as Denoiser
    from .denoisers import eps_denoiser as eps_denoiser
    from .denoisers import flow_denoiser as flow_denoiser
    from .denoisers import v_denoiser as v_denoiser
    from .denoisers import x0_denoiser as x0_denoiser
    from .drawing.images import save_images as save_images
    from .errors import GuidanceError as GuidanceError
    from .guiders import cfg_guided as cfg_guided
    from .guiders import classifier_guided as classifier_guided
    from .guiders import combine as combine
    from .guiders import self_guided as self_guided
    from .guiders import varied as varied
    from .null import drop_condition as drop_condition
    from .paths import FLOW as FLOW
    from .paths import VE as VE
    from .paths import VP as VP
    from .paths import NoisePath as NoisePath
    from .paths import change_frame as change_frame
    from .run import Run as Run
    from .sampling import SAMPLERS as SAMPLERS
    from .sampling import Step as Step
    from .sampling import sample as sample
    from .sampling import steps as steps
    from .scale import ScaleSchedule as ScaleSchedule
    from .schedules import betas as betas
    from .schedules import flow_shift as flow_shift
    from .schedules import karras as karras
    from .schedules import leading as leading
    from .schedules import sigmas_from_betas as sigmas_from_betas
    from .schedules import trailing as trailing
    from .schedules import zero_terminal_snr as zero_terminal_snr
    from .shapes import SHAPES as SHAPES
    from .terms.classifier_guidance import ClassifierTerm as ClassifierTerm
    from .terms.gradient import Classifier as Classifier
    from .terms.gradient import log_prob_grad as log_prob_grad
    from .terms.gradient import shift_denoised as shift_denoised
    from .terms.higs import Higs as Higs
    from .terms.momentum_guidance import MomentumGuidance as MomentumGuidance
    from .terms.self_guidance import SelfGuidance as SelfGuidance
    from .terms.tangential import TangentialGuidance as TangentialGuidance
    from .terms.target_text import parse_target as parse_target
    from .terms.targets import Target as Target
    from .train.loop import TrainStep as TrainStep
    from .train.loop import train_classifier as train_classifier
    from .train.null import learn_null as learn_null
    from .train.settings import TrainSettings as TrainSettings
    from .train.validation import Validation as Validation
    from .variety.cads import Cads as Cads
    from .variety.seed_variance import SeedVariance as SeedVariance

_HOMES = {  # of the names above; a test holds the two lists to one another
    "Cads": "variety.cads",
    "Classifier": "terms.gradient",
    "ClassifierTerm": "terms.classifier_guidance",
    "CleanClassifier": "classifier.clean",
    "Denoiser": "denoisers",
    "FLOW": "paths",
    "GuidanceError": "errors",
    "Higs": "terms.higs",
    "MomentumGuidance": "terms.momentum_guidance",
    "NoisePath": "paths",
    "NoisyClassifier": "classifier.noisy",
    "Run": "run",
    "SAMPLERS": "sampling",
    "SHAPES": "shapes",
    "ScaleSchedule": "scale",
    "SeedVariance": "variety.seed_variance",
    "SelfGuidance": "terms.self_guidance",
    "Source": "data.sources",
    "Step": "sampling",
    "TangentialGuidance": "terms.tangential",
    "Target": "terms.targets",
    "TensorSource": "data.sources",
    "TrainSettings": "train.settings",
    "TrainStep": "train.loop",
    "VE": "paths",
    "VP": "paths",
    "Validation": "train.validation",
    "betas": "schedules",
    "cfg_guided": "guiders",
    "cfg_methods": "cfg",
    "change_frame": "paths",
    "classifier_guided": "guiders",
    "clean_classifier": "classifier.clean",
    "combine": "guiders",
    "drop_condition": "null",
    "eps_denoiser": "denoisers",
    "flow_denoiser": "denoisers",
    "flow_shift": "schedules",
    "karras": "schedules",
    "leading": "schedules",
    "learn_null": "train.null",
    "log_prob_grad": "terms.gradient",
    "parse_target": "terms.target_text",
    "sample": "sampling",
    "save_images": "drawing.images",
    "self_guided": "guiders",
    "shift_denoised": "terms.gradient",
    "sigmas_from_betas": "schedules",
    "steps": "sampling",
    "trailing": "schedules",
    "train_classifier": "train.loop",
    "v_denoiser": "denoisers",
    "varied": "guiders",
    "x0_denoiser": "denoisers",
    "zero_terminal_snr": "schedules",
}

__all__ = list(_HOMES)

if not TYPE_CHECKING:  # a checker would take every name for one that is there

    def __getattr__(name: str) -> object:
        """A public name, or a room of the library, imported now and kept."""
        if name in _HOMES:
            value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
            return globals().setdefault(name, value)
        with as_attribute(__name__, name):
            return importlib.import_module(f".{name}", __name__)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES, "cfg"})
