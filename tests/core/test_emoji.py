"""The emoji demo: its shipped weights and their cards, its networks, and that guidance steers what it makes."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import guidance_core as gc
from devtools.emoji_pictures import _base, _split
from guidance_core.demo import emoji
from guidance_core.demo.emoji import pictures
from guidance_core.demo.emoji.augment import mixed, turn_hue, vary
from guidance_core.demo.emoji.classes import ATTRIBUTES, LABELS, looks
from guidance_core.demo.emoji.data import Pictures
from guidance_core.demo.emoji.evaluate import Settings, draw, with_cfg, with_classifier
from guidance_core.demo.emoji.fit import Fit, Plan
from guidance_core.demo.emoji.measure import nearest
from guidance_core.demo.emoji.network import Denoiser
from guidance_core.demo.emoji.weights import FOLDER, FORMAT
from guidance_core.files import read_header

SHIPPED = sorted(FOLDER.glob("*.safetensors"))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def d():
    return emoji.load()


def test_weights_are_small_and_half():
    assert sum(file.stat().st_size for file in SHIPPED) <= 12 * 2**20
    for file in SHIPPED:
        assert {tensor.dtype for tensor in read_header(file, "weights", None).tensors.values()} == {"F16"}, file.name


@pytest.mark.parametrize("part", ["vae", "denoiser", "guide", "judge"])
def test_every_card_says_whence_and_under_which_licence(part):
    card = read_header(FOLDER / f"{part}.safetensors", "weights", FORMAT).metadata
    assert card["part"] == part and card["licence"] == card["data_licence"] == "Apache-2.0"
    assert "Noto Emoji" in card["data"]
    assert int(card["steps"]) > 0 and float(card["seconds"]) > 0


def test_noisy_classifiers_say_it_too(d):
    for classifier in (d.classifier, d.attributes):
        assert classifier.card.record.licence == "Apache-2.0" and "Noto Emoji" in classifier.info["data"]


def test_demo_says_what_it_is(d):
    assert d.labels == LABELS and len(LABELS) == 11 and tuple(d.classifier.labels) == LABELS
    assert tuple(d.attributes.labels) == ATTRIBUTES
    torch.testing.assert_close(d.sigmas, gc.sigmas_from_betas(gc.betas("scaled_linear")))


def test_latents_need_their_scale_and_shift(d):
    """Raw latents are not of unit variance; x0 is, and decode takes the scale and the shift back."""
    assert abs(d.scale - 1) > 0.05 and abs(d.shift) > 0.01
    x0 = torch.randn(2, *d.shape, generator=seeded())
    torch.testing.assert_close(d.decode(x0), d.vae.decode(x0 / d.scale + d.shift))
    images = torch.rand(2, 3, 64, 64, generator=seeded())
    torch.testing.assert_close(d.encode(images), (d.vae.encode(images) - d.shift) * d.scale)
    assert d.encode(images).shape == (2, *d.shape)
    assert d.to_image(x0).shape == (2, 3, 64, 64) and d.to_image(x0).min() >= 0


def test_conditions_are_told_apart_and_wrong_ones_refused(d):
    x = torch.randn(2, *d.shape, generator=seeded())
    assert not torch.equal(d.cond([0, 1])(x, 5.0), d.uncond(x, 5.0))
    torch.testing.assert_close(d.cond([0, 1])(x, 5.0)[1:], d.cond(1)(x[1:], 5.0), rtol=1e-4, atol=1e-4)
    with pytest.raises(gc.GuidanceError, match="0 to 10"):
        d.cond(11)
    with pytest.raises(gc.GuidanceError, match="3 labels for 2"):
        d.cond([0, 1, 2])(x, 5.0)


def test_guidance_steers(d):
    """The judge finds the class asked for far more often than by chance (1 in 11), and the same run gives the same."""
    settings = Settings(samples=22, steps=8, sampler="dpmpp_2m", seed=0)

    def accuracy(guided):
        x0, labels = draw(d, guided, settings)
        return x0, float((d.judge(d.to_image(x0)).argmax(1) == labels).float().mean())

    x0, with_cfg_on = accuracy(partial(with_cfg, d, scale=3.0))
    assert with_cfg_on > 0.6
    assert accuracy(partial(with_classifier, d, d.classifier, scale=3.0))[1] > 0.3
    torch.testing.assert_close(draw(d, partial(with_cfg, d, scale=3.0), settings)[0], x0, rtol=0, atol=0)


def test_guide_steers_a_step(d):
    x = 5 * torch.randn(2, *d.shape, generator=seeded())
    plain = d.uncond(x, 5.0)
    guided = gc.classifier_guided(d.uncond, d.guide, torch.tensor([3, 7]), scale=4.0)(x, 5.0)
    assert guided.isfinite().all() and (guided - plain).abs().amax((1, 2, 3)).min() > 1e-4


def test_preview_is_five_rows_of_colours(d):
    card = read_header(FOLDER / "vae.safetensors", "weights", FORMAT).metadata
    assert json.loads(card["preview"]) == d.preview and [len(row) for row in d.preview] == [3] * 5


def test_preview_is_near_the_picture(d):
    """What ComfyUI shows while it samples: the colours of each four pixels, to a tenth."""
    _, x, y = torch.meshgrid(torch.arange(3), torch.arange(64), torch.arange(64), indexing="ij")
    disc = torch.hypot(x - 32.0, y - 32.0) < 24
    colours = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.4, 0.9], [1.0, 0.8, 0.2]])[..., None, None]
    x0 = d.encode(torch.where(disc, colours, 1.0))
    *factors, bias = torch.tensor(d.preview)
    shown = torch.einsum("nchw,cr->nrhw", x0, torch.stack(factors)) + bias[:, None, None]
    wanted = 2 * torch.nn.functional.avg_pool2d(d.to_image(x0), 4) - 1
    assert (shown - wanted).abs().mean() < 0.2


def test_variants_of_an_emoji_are_one():
    waving = ["1F44B", "1F44B-1F3FB", "1F44B-1F3FF"]
    assert len({_base(code) for code in waving}) == 1
    assert _base("1F468-200D-1F373") == _base("1F469-1F3FD-200D-1F373") != _base("1F9D1-200D-1F33E")


def test_split_keeps_variants_together():
    group = torch.arange(40).repeat_interleave(3)
    labels = group % 2
    part = _split(group, labels)
    assert all(len(part[group == g].unique()) == 1 for g in range(40))
    assert part.bincount().tolist() == [48, 54, 18]


def test_classes_are_drawn_by_the_root_of_their_emoji():
    labels = torch.tensor([0] * 6 + [1])
    pictures = Pictures(torch.zeros(7, 3, 64, 64), labels, torch.tensor([0, 0, 0, 1, 2, 3, 4]), labels, labels > 0, ())
    weights = pictures.weights
    torch.testing.assert_close(weights[:6].sum() / weights[6], torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(weights[0] * 3, weights[3])


def test_flags_are_never_mirrored_nor_turned():
    flag = torch.ones(20, 3, 64, 64)
    flag[:, :, 16:48, 4:32] = 0
    varied = vary(flag, torch.full((20,), LABELS.index("flag")), seeded())
    assert (varied[..., :32].mean((1, 2, 3)) < varied[..., 32:].mean((1, 2, 3))).all()
    assert (varied[:, :, 0] > 0.99).all()  # the ground stays white


def test_only_classes_of_any_colour_change_their_hue():
    red = torch.tensor([0.9, 0.1, 0.1]).reshape(1, 3, 1, 1).expand(40, 3, 8, 8)
    hand, heart = (torch.full((40,), LABELS.index(name)) for name in ("hand", "heart"))
    torch.testing.assert_close(turn_hue(red, hand, seeded()), red)
    changed = (turn_hue(red, heart, seeded()) - red).abs().amax((1, 2, 3)) > 0.1
    assert 8 < int(changed.sum()) < 32


def test_looks_tell_round_from_square_and_red_from_blue():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    red, blue = (torch.tensor(c).reshape(3, 1, 1) for c in ([0.9, 0.1, 0.1], [0.1, 0.2, 0.9]))
    disc, square = torch.hypot(x, y) < 0.8, (x.abs() < 0.8) & (y.abs() < 0.8)
    images = torch.stack([torch.where(disc, red, 1.0), torch.where(square, blue, 1.0)])
    assert looks(images).tolist() == [[True, True, False, False, False], [False, False, False, False, True]]


def test_nearest_finds_itself():
    bank = torch.randn(5, 4, 16, 16, generator=seeded())
    distance, which = nearest(bank[[3, 1]] + 0.01, bank)
    assert which.tolist() == [3, 1]
    torch.testing.assert_close(distance, torch.full((2,), 0.01), rtol=0.1, atol=0)


def test_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path):
    plan = Plan(steps=6, learning_rate=1e-2, seed=0, warm_up=2)

    def fit(file):
        torch.manual_seed(0)
        return Fit(nn.Linear(3, 3), plan, tmp_path / file)

    def loss_of(network, generator):
        return network(torch.randn(4, 3, generator=generator)).square().mean()

    whole = fit("whole.safetensors")
    list(whole.run(loss_of))
    first = fit("broken.safetensors")
    for done in first.run(loss_of):
        if done.step == 3:
            break
    first.keep()
    second = fit("broken.safetensors")
    assert second.step == 3
    list(second.run(loss_of))
    torch.testing.assert_close(second.average.weight, whole.average.weight, rtol=0, atol=0)


def test_denoiser_begins_at_zero():
    network = Denoiser()
    x = torch.randn(2, 4, 16, 16, generator=seeded())
    assert (network(x, torch.tensor([1.0, 900.0]), torch.tensor([0, 11])) == 0).all()


def test_the_twenty_pictures_of_one_kind_are_the_vaes_own_size():
    """What the example learns from; each is named, and comes back from the latents much as it was."""
    from PIL import Image

    files = sorted((pictures.FOLDER / pictures.KIND).iterdir())
    assert {file.stem for file in files} == set(pictures.NAMES) and len(files) == 20
    images = torch.stack([torch.from_numpy(np.array(Image.open(file).convert("RGB"))) for file in files])
    shown = images.permute(0, 3, 1, 2) / 255
    d = emoji.load()
    assert shown.shape == (20, 3, 64, 64)
    assert (d.to_image(d.encode(shown)) - shown).abs().mean() < 0.06


def test_mixtures_keep_what_is_in_them():
    """Black and white pictures: the share of white is that of the label, of both kinds of mixture."""
    labels = torch.tensor([0, 1] * 8)
    images = labels.float().reshape(-1, 1, 1, 1).expand(-1, 3, 32, 32).contiguous()
    kinds = set()
    for seed in range(12):
        shown, shares = mixed(images, torch.eye(2)[labels], seeded(seed))
        torch.testing.assert_close(shown.mean((1, 2, 3)), shares[:, 1])
        torch.testing.assert_close(shares.sum(1), torch.ones(16))
        assert (shares[range(16), labels] >= 0.5).all()
        kinds.add(shown.unique().tolist() == [0, 1])
    assert kinds == {True, False}
