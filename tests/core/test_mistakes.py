"""What newcomers get wrong is answered in a sentence that says what to write instead."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import guidance_core as gc
from guidance_core import demo

D = demo.load()
NOISE = torch.zeros(2, *D.shape)
SIGMAS = gc.trailing(D.sigmas, 2)
LATENTS, LABELS = torch.zeros(4, 1, 8, 8), [0, 1, 0, 1]


def sampled(denoiser=D.uncond, noise=NOISE, sigmas=SIGMAS, **options):
    return lambda: gc.sample(denoiser, noise, sigmas, **options)


def trained(latents=LATENTS, labels=LABELS, names=("a", "b"), **settings):
    return lambda: next(gc.train_classifier(latents, labels, names, **settings))


def steered(target, classifier=D.classifier, x=NOISE):
    return lambda: gc.classifier_guided(D.uncond, classifier, target)(x, 1.0)


MISTAKES = {
    "numpy noise": (sampled(noise=NOISE.numpy()), "noise must be .* got a numpy array: pass torch.from_numpy"),
    "numpy sigmas": (sampled(sigmas=SIGMAS.numpy()), r"sigmas must be .* pass torch.from_numpy\(sigmas\)"),
    "listed sigmas": (sampled(sigmas=[3.0, 0.0]), r"sigmas must be a torch tensor, got list: pass torch.tensor\(sig"),
    "whole noise": (sampled(noise=NOISE.int()), r"floating numbers, got torch.int32: pass noise.float\(\)"),
    "numpy cond": (lambda: gc.combine(NOISE.numpy(), NOISE, NOISE, 1.0, 4.0), "cond must be .* numpy array"),
    "other shapes": (lambda: gc.combine(NOISE, NOISE[..., :8], NOISE, 1.0, 4.0), r"have one shape.*\[2, 1, 16, 8\]"),
    "no denoiser": (sampled(0.5), r"denoiser must be callable, \(x, sigma\) -> denoised, got 0.5"),
    "denoiser of another shape": (
        sampled(lambda x, s: x[..., :4]),
        r"tensor like x, \[2, 1, 16, 16\].* \[2, 1, 16, 4\]",
    ),
    "denoiser of numpy": (sampled(lambda x, s: x.numpy()), "tensor like x, .* this one gave ndarray"),
    "channels of the demo": (sampled(noise=torch.zeros(2, 4, 16, 16)), r"digits are \[B, 1, 16, 16\], got x \[2, 4,"),
    "channels of a classifier": (
        lambda: gc.classifier_guided(lambda x, s: x, D.classifier, torch.tensor([7]))(torch.zeros(1, 4, 8, 8), 1.0),
        "trained on 1-channel latents and got 4 channels",
    ),
    "listed names as target": (steered(["seven", "one"]), r"parse_target\('seven \| one', classifier.labels\)"),
    "a name as target": (steered("seven"), r"write parse_target\('seven', classifier.labels\)"),
    "a number as target": (steered(7), r"write torch.tensor\(\[7\]\)"),
    "names to parse": (lambda: gc.parse_target(["seven"], D.labels), "written as text, such as 'seven, -three'"),
    "logits of pixels": (steered(torch.tensor([7, 7]), lambda x, s, path: x), r"logits \[2, K\], got \[2, 1, 16, 16\]"),
    "logits of numpy": (
        steered(torch.tensor([7, 7]), lambda x, s, path: x.detach().numpy()),
        r"logits \[2, K\], got ndarray",
    ),
    "numpy latents": (trained(LATENTS.numpy()), r"latents must be .* pass torch.from_numpy\(latents\)"),
    "bytes as latents": (trained(LATENTS.byte()), "got torch.uint8: bytes are pixels: encode them first"),
    "names as labels": (trained(labels=["a", "b"] * 2), r"not names: pass \[label_names.index\(name\) for name in"),
    "a text as names": (trained(names="ab"), r"must be a list of names, got the one text 'ab': write \['ab'\]"),
    "misspelt setting": (trained(stepz=3), "no parameter 'stepz'.* Did you mean 'steps'"),
    "misspelt parameter": (
        lambda: gc.combine(NOISE, NOISE, NOISE, 1.0, 4.0, "rescale", recale=0.5),
        "rescale has no parameter 'recale': it takes rescale. Did you mean 'rescale'",
    ),
    "misspelt method": (lambda: gc.cfg_guided(D.uncond, D.uncond, 4.0, method="recale"), "Did you mean 'rescale'"),
    "misspelt shape": (lambda: gc.ScaleSchedule("cosin"), "Did you mean 'cosine'"),
    "misspelt sampler": (sampled(sampler="eular"), "Did you mean 'euler'"),
    "shape as schedule": (
        lambda: gc.cfg_guided(D.uncond, D.uncond, 4.0, "interval"),
        r"must be a ScaleSchedule, got 'interval': write ScaleSchedule\('interval', start=0.2, end=0.8\)",
    ),
    "name of a path": (sampled(path="flow"), "path must be a NoisePath, such as VE, VP or FLOW"),
    "latents as pictures": (
        lambda: gc.save_images(LATENTS, "a.png"),
        r"\[B, H, W\] or \[B, 3, H, W\].* decode latents",
    ),
    "no pictures": (lambda: gc.save_images(torch.zeros(0, 8, 8), "a.png"), "the batch is empty"),
    "no such folder": (lambda: gc.save_images(NOISE[:, 0], "none/a.png"), "in a folder that exists, got 'none/a.png'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence(mistake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    act, sentence = MISTAKES[mistake]
    with pytest.raises(gc.GuidanceError, match=sentence) as refused:
        act()
    assert str(refused.value)[-1] in ".?" and not list(tmp_path.iterdir())


def test_a_folder_is_no_classifier(tmp_path):
    with pytest.raises(gc.GuidanceError, match="is a folder: name the noisy classifier file in it"):
        gc.NoisyClassifier.load(tmp_path)
    with pytest.raises(gc.GuidanceError, match="a folder has this name. Choose another name"):
        D.classifier.save(tmp_path)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="errors take notes from Python 3.11 on")
def test_an_error_inside_a_callable_of_the_users_own_says_what_it_was_called_with():
    wrong = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 1") as failed:
        gc.log_prob_grad(lambda x, sigma, path: wrong(x), NOISE, 1.0, torch.tensor([7, 7]))
    assert failed.value.__notes__ == ["The classifier was called with x [2, 1, 16, 16], sigma [2] and a path."]


def test_what_judges_says_what_it_is_in_one_line():
    clean = gc.clean_classifier(torch.nn.Flatten(), [f"label {i}" for i in range(9)], to_input=torch.nn.Identity())
    for each, words in ((D.classifier, "10 labels"), (clean, "9 labels"), (D.judge, "right"), (D, "digits")):
        assert "\n" not in repr(each) and len(repr(each)) < 200 and words in repr(each)
    assert repr(clean).startswith("CleanClassifier(9 labels, one a picture: 'label 0', ")
    assert "..., " not in repr(clean) and "Flatten after to_input" in repr(clean)


def test_images_stand_in_rows_as_large_as_can_be_seen(tmp_path):
    images = torch.linspace(0, 1, 3)[:, None, None].expand(3, 16, 16)
    gc.save_images(images, tmp_path / "a.png", columns=2)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (4 + 2 * 100, 4 + 2 * 100, 3)  # six times as large, four pixels between
    assert [int(sheet[y, x, 0]) for y, x in ((50, 50), (50, 150), (150, 50))] == [0, 128, 255]
    gc.save_images(torch.stack([images[0], images[2], images[1]])[None], tmp_path / "b.png")
    assert np.asarray(Image.open(tmp_path / "b.png"))[50, 50].tolist() == [0, 255, 128]
