"""The pack as ComfyUI sees it: its model folders and its nodes."""

import os

import folder_paths
from comfy_api.latest import ComfyExtension, io

from .cfg_combine import CFGCombine
from .class_condition import ClassCondition
from .classifier_guidance import ClassifierGuidance
from .classifier_sampler import ClassifierGuidanceSampler
from .evaluate_classifier import EvaluateNoisyClassifier
from .guidance_report import GuidanceReport
from .guidance_target import GuidanceTarget
from .history_guidance import HistoryGuidance
from .host.classifier_files import CLASSIFIER_FOLDER
from .image_references import ImageReferences
from .labelled_folder import LabelledFolder
from .labelled_latents import LabelledLatentsNode
from .learn_null import LearnNullCondition
from .load_aesthetic_head import LoadAestheticHead
from .load_classifier import LoadNoisyClassifier
from .load_digits import LoadDigitsDemo
from .load_emoji import LoadEmojiDemo
from .load_image_classifier import LoadImageClassifier
from .null_condition import NULL_FOLDER, NullConditionEncoder
from .save_classifier import SaveNoisyClassifier
from .save_null import SaveNullCondition
from .scale_schedule import ScaleScheduleNode
from .self_guidance import SelfGuidanceNode
from .sweep import GuidanceSweep
from .text_references import TextReferences
from .train_classifier import TrainNoisyClassifier
from .ui import curve_route, kept_texts
from .vary_condition import VaryCondition
from .weaken_model import WeakenModel


class GuidanceKit(ComfyExtension):
    async def on_load(self) -> None:
        for folder in (CLASSIFIER_FOLDER, NULL_FOLDER):
            folder_paths.add_model_folder_path(folder, os.path.join(folder_paths.models_dir, folder))
            folder_paths.folder_names_and_paths[folder][1].update({".safetensors"})
        curve_route.add_route()
        kept_texts.add_route()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            ScaleScheduleNode,
            CFGCombine,
            NullConditionEncoder,
            LearnNullCondition,
            SaveNullCondition,
            ClassifierGuidance,
            ClassifierGuidanceSampler,
            GuidanceSweep,
            GuidanceReport,
            GuidanceTarget,
            LabelledFolder,
            LabelledLatentsNode,
            TrainNoisyClassifier,
            EvaluateNoisyClassifier,
            SaveNoisyClassifier,
            LoadNoisyClassifier,
            LoadImageClassifier,
            ImageReferences,
            TextReferences,
            LoadAestheticHead,
            LoadDigitsDemo,
            LoadEmojiDemo,
            ClassCondition,
            SelfGuidanceNode,
            WeakenModel,
            HistoryGuidance,
            VaryCondition,
        ]
