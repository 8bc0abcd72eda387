"""An image classifier's folder as it would come from the hub, with random weights: for tests and pictures of nodes."""

import json
from pathlib import Path

import torch

from devtools.launch import prepare

SIDE, MEAN, STD = 32, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
LABELS = ("cat", "dog", "a, bird")
LOUD = 40.0  # times the last layer's random weights, so that it has an opinion


def write_classifier(folder: Path):
    """Write config.json, model.safetensors and preprocessor_config.json; returns the network."""
    prepare()
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=SIDE,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        id2label=dict(enumerate(LABELS)),
        label2id={label: place for place, label in enumerate(LABELS)},
    )
    network = ViTForImageClassification(config).eval().requires_grad_(False)
    network.classifier.weight *= LOUD
    network.save_pretrained(folder)
    said = {"size": {"height": SIDE, "width": SIDE}, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")
    return network
