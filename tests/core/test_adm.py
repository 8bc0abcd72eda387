"""ADM's classifiers: a functional reference straight from the names of the weights, and their import."""

import math
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import guidance_core as gc
from guidance_core.classifier.adm import AdmEncoder
from guidance_core.classifier.adm_import import import_adm

SIZE, WIDTH, HEADS = 16, 32, 16  # channels a head
PUBLISHED = {  # image size: multipliers, depth, millions of weights as in the paper's table of models
    64: ([1, 2, 3, 4], 4, 65),
    128: ([1, 1, 2, 3, 4], 2, 43),
    256: ([1, 1, 2, 2, 4, 4], 2, 54),
    512: ([0.5, 1, 1, 2, 2, 4, 4], 2, 54),
}


def shapes(multipliers=(1, 2, 2), depth=2, attended=(1, 2), width=WIDTH, size=SIZE, classes=7):
    """Names and shapes of a checkpoint's weights, written down from the layout of the published ones."""
    found = {}

    def layer(name, *shape):
        found[f"{name}.weight"] = shape
        found[f"{name}.bias"] = shape[:1]

    def block(name, channels, out):
        layer(f"{name}.in_layers.0", channels)
        layer(f"{name}.in_layers.2", out, channels, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * out, 4 * width)
        layer(f"{name}.out_layers.0", out)
        layer(f"{name}.out_layers.3", out, out, 3, 3)
        if channels != out:
            layer(f"{name}.skip_connection", out, channels, 1, 1)

    def attention(name, channels):
        layer(f"{name}.norm", channels)
        layer(f"{name}.qkv", 3 * channels, channels, 1)
        layer(f"{name}.proj_out", channels, channels, 1)

    layer("time_embed.0", 4 * width, width)
    layer("time_embed.2", 4 * width, 4 * width)
    channels = int(multipliers[0] * width)
    layer("input_blocks.0.0", channels, 3, 3, 3)
    n = 1
    for level, multiplier in enumerate(multipliers):
        for _ in range(depth):
            block(f"input_blocks.{n}.0", channels, int(multiplier * width))
            channels = int(multiplier * width)
            if level in attended:
                attention(f"input_blocks.{n}.1", channels)
            n += 1
        if level < len(multipliers) - 1:
            block(f"input_blocks.{n}.0", channels, channels)
            n += 1
    block("middle_block.0", channels, channels)
    attention("middle_block.1", channels)
    block("middle_block.2", channels, channels)
    layer("out.0", channels)
    found["out.2.positional_embedding"] = (channels, (size >> (len(multipliers) - 1)) ** 2 + 1)
    layer("out.2.qkv_proj", 3 * channels, channels, 1)
    layer("out.2.c_proj", classes, channels, 1)
    return found


def random_state(seed=0, **layout):
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(**layout).items():
        fan = math.prod(shape[1:]) if len(shape) > 1 else 10
        state[name] = torch.randn(shape, generator=g) * 1.5 / fan**0.5 + (
            name.endswith(".0.weight") and len(shape) == 1
        )
    return state


def reference(state, x, t, halving=(3, 6), head=HEADS):
    """The published network as a function of its weights: x [B, 3, S, S] in the VP frame, t [B] its step."""

    def dense(name, v):
        return v @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def conv(name, v, padding=0):
        return F.conv2d(v, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    def pointwise(name, v):
        return torch.einsum("oc,bcn->bon", state[f"{name}.weight"][:, :, 0], v) + state[f"{name}.bias"][:, None]

    def norm(name, v):
        b, c = v.shape[:2]
        groups = v.reshape(b, 32, -1)
        groups = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, keepdim=True, unbiased=False) + 1e-5).sqrt()
        shape = (c, *[1] * (v.ndim - 2))
        return groups.reshape(v.shape) * state[f"{name}.weight"].reshape(shape) + state[f"{name}.bias"].reshape(shape)

    def silu(v):
        return v * torch.sigmoid(v)

    def halve(v):
        return (v[:, :, ::2, ::2] + v[:, :, 1::2, ::2] + v[:, :, ::2, 1::2] + v[:, :, 1::2, 1::2]) / 4

    def block(name, v, emb, down=False):
        h = silu(norm(f"{name}.in_layers.0", v))
        if down:
            h, v = halve(h), halve(v)
        h = conv(f"{name}.in_layers.2", h, padding=1)
        scale, shift = dense(f"{name}.emb_layers.1", silu(emb))[:, :, None, None].chunk(2, 1)
        h = silu(norm(f"{name}.out_layers.0", h) * (1 + scale) + shift)
        h = conv(f"{name}.out_layers.3", h, padding=1)
        return h + (conv(f"{name}.skip_connection", v) if f"{name}.skip_connection.weight" in state else v)

    def attend(q, k, v):  # each [B, channels of one head, positions]
        weight = torch.einsum("bct,bcs->bts", q, k) / q.shape[1] ** 0.5
        return torch.einsum("bts,bcs->bct", weight.softmax(2), v)

    def attention(name, v):
        flat = v.flatten(2)
        qkv = pointwise(f"{name}.qkv", norm(f"{name}.norm", flat))
        per_head = qkv.split(3 * head, 1)  # q, k, v of the first head, then of the second, ...
        h = torch.cat([attend(*part.split(head, 1)) for part in per_head], 1)
        return (flat + pointwise(f"{name}.proj_out", h)).reshape(v.shape)

    half = WIDTH // 2
    angles = t.to(x)[:, None] * torch.tensor([10000 ** (-i / half) for i in range(half)], dtype=x.dtype)
    emb = dense("time_embed.2", silu(dense("time_embed.0", torch.cat([angles.cos(), angles.sin()], 1))))
    h = conv("input_blocks.0.0", x, padding=1)
    n = 1
    while f"input_blocks.{n}.0.in_layers.0.weight" in state:
        h = block(f"input_blocks.{n}.0", h, emb, down=n in halving)
        if f"input_blocks.{n}.1.qkv.weight" in state:
            h = attention(f"input_blocks.{n}.1", h)
        n += 1
    h = block("middle_block.2", attention("middle_block.1", block("middle_block.0", h, emb)), emb)
    h = silu(norm("out.0", h)).flatten(2)
    h = torch.cat([h.mean(2, keepdim=True), h], 2) + state["out.2.positional_embedding"]
    q, k, v = pointwise("out.2.qkv_proj", h).chunk(3, 1)  # here all heads' q first
    heads = zip(q.split(head, 1), k.split(head, 1), v.split(head, 1), strict=True)
    return pointwise("out.2.c_proj", torch.cat([attend(*parts) for parts in heads], 1))[:, :, 0]


def abars(schedule):
    """alpha-bar of every training step, as the published code has it."""
    if schedule == "linear":
        return np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    f = [math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(1001)]
    return np.cumprod([1 - min(1 - b / a, 0.999) for a, b in zip(f, f[1:], strict=False)])


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    file = tmp_path_factory.mktemp("adm") / "16x16_classifier.pt"
    torch.save(state, file)
    return file


@pytest.fixture(scope="module", params=["linear", "cosine"])
def imported(request, checkpoint):
    return import_adm(checkpoint, schedule=request.param, head_channels=HEADS)


STEPS = torch.tensor([0, 1, 250, 731, 990, 999])


def test_every_name_is_that_of_the_checkpoint(imported, state):
    ours = imported.network.state_dict()
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name], state[name]) for name in state)


def test_logits_and_gradient_are_those_of_the_published_network(imported, state, randn):
    """At the noise levels of its training steps, from the VE frame, in single precision."""
    abar = torch.tensor(abars(imported.parameters["schedule"]))[STEPS]
    x = randn(len(STEPS), 3, SIZE, SIZE)
    leaf = x.clone().requires_grad_()
    exact = {name: weight.double() for name, weight in state.items()}
    want = reference(exact, leaf, STEPS)
    assert float(want.detach().std()) > 0.1
    labels = torch.arange(len(STEPS)) % 7
    (slope,) = torch.autograd.grad(want.log_softmax(1)[range(len(STEPS)), labels].sum(), leaf)
    sigma = ((1 - abar) / abar).sqrt()
    x_ve = x * (1 + sigma**2).sqrt()[:, None, None, None]
    torch.testing.assert_close(imported(x_ve.float(), sigma.float()).double(), want.detach(), rtol=1e-5, atol=1e-5)
    grad, _ = gc.log_prob_grad(imported, x_ve.float(), sigma.float(), labels)
    grad_vp = grad.double() * (1 + sigma**2).sqrt()[:, None, None, None]  # the chain rule of the frame
    torch.testing.assert_close(grad_vp, slope, rtol=1e-5, atol=1e-5)


def test_each_training_step_is_exactly_that_step(imported):
    abar = torch.tensor(abars(imported.parameters["schedule"]))
    for path in (gc.VE, gc.FLOW):
        sigma = path.sigma_at(torch.log(abar / (1 - abar))).float()
        steps = imported.network.step_at(path.log_snr(sigma))[5:-1]  # the first few flow sigmas round in float32
        assert torch.equal(steps, torch.arange(5.0, 999.0))


def test_steps_between_and_beyond(imported):
    abar = abars(imported.parameters["schedule"])
    levels = torch.tensor(np.log(abar / (1 - abar)))
    middles = (levels[1:] + levels[:-1]) / 2
    torch.testing.assert_close(imported.network.step_at(middles), torch.arange(999) + 0.5)
    assert imported.network.step_at(torch.tensor([99.0, -99.0])).tolist() == [0.0, 999.0]
    assert imported.log_snr_range == pytest.approx((float(levels[-1]), float(levels[0])))


def test_between_two_steps_it_is_asked_in_between(imported, state, randn):
    x = randn(1, 3, SIZE, SIZE)
    middle = imported.network.step_at(torch.tensor([0.123], dtype=torch.float64))
    want = reference({name: weight.double() for name, weight in state.items()}, x, middle)
    assert middle % 1 != 0
    sigma = gc.VP.sigma_at(0.123)
    torch.testing.assert_close(imported(x.float(), sigma.float(), gc.VP).double(), want, rtol=1e-4, atol=1e-4)


def test_batch_mates_do_not_matter(imported, randn):
    x, sigma = randn(3, 3, SIZE, SIZE, dtype=torch.float32), torch.tensor([0.1, 1.0, 9.0])
    together = imported(x, sigma)
    for i in range(3):
        torch.testing.assert_close(imported(x[i : i + 1], sigma[i : i + 1]), together[i : i + 1], rtol=1e-4, atol=1e-5)


def test_it_is_stored_in_our_format(imported, tmp_path, randn):
    imported.save(tmp_path / "adm.safetensors")
    loaded = gc.NoisyClassifier.load(tmp_path / "adm.safetensors")
    assert loaded.card == imported.card
    assert (loaded.architecture, loaded.latent_space, loaded.channels) == ("adm_encoder", "pixels", 3)
    x = randn(2, 3, SIZE, SIZE, dtype=torch.float32)
    assert torch.equal(loaded(x, 2.0), imported(x, 2.0))
    with torch.inference_mode():
        fresh = gc.NoisyClassifier.load(tmp_path / "adm.safetensors")
        gc.log_prob_grad(fresh, x, 2.0, torch.tensor([0, 6]))


def test_labels_are_numbered_or_given(checkpoint):
    assert import_adm(checkpoint, head_channels=HEADS).labels == [f"class {i}" for i in range(7)]
    names = ["crane", "kite", "crane", "hen", "owl", "wren", "crane"]
    labels = import_adm(checkpoint, names, head_channels=HEADS).labels
    assert labels == ["crane", "kite", "crane (2)", "hen", "owl", "wren", "crane (6)"]
    with pytest.raises(gc.GuidanceError, match="has 7 classes and was given 2 labels"):
        import_adm(checkpoint, ["a", "b"], head_channels=HEADS)


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_architectures_are_recognised(size, tmp_path):
    """From shapes alone: their weights would be hundreds of megabytes."""
    from guidance_core.classifier.adm_import import _readings

    multipliers, depth, millions = PUBLISHED[size]
    attended = [level for level in range(len(multipliers)) if size >> level in (32, 16, 8)]
    layout = shapes(multipliers, depth, attended, 128, size, 1000)
    assert round(sum(map(math.prod, layout.values())) / 1e6) == millions
    (parameters,) = _readings(layout, 64, "a file")
    assert (parameters["image_size"], parameters["multipliers"], parameters["depth"]) == (size, multipliers, depth)
    assert parameters["attention"] == [32, 16, 8]


def test_the_schedule_of_the_64_pixel_model_is_its_own(tmp_path):
    torch.save(random_state(multipliers=(1, 1, 1, 1), depth=1, attended=(1, 2, 3), size=64), tmp_path / "64.pt")
    assert import_adm(tmp_path / "64.pt", head_channels=HEADS).parameters["schedule"] == "cosine"


def test_other_sizes_are_linear(checkpoint):
    assert import_adm(checkpoint, head_channels=HEADS).parameters["schedule"] == "linear"
    with pytest.raises(gc.GuidanceError, match="no ADM noise schedule 'sigmoid'; choose one of linear, cosine"):
        import_adm(checkpoint, head_channels=HEADS, schedule="sigmoid")


def test_weights_that_fit_two_sizes_need_a_word(tmp_path):
    """Six blocks of one width without attention are three levels of one block, two of two, or one of five."""
    torch.save(random_state(multipliers=(1, 1), depth=2, attended=()), tmp_path / "either.pt")
    with pytest.raises(gc.GuidanceError, match="fit pictures of 8, 16, 32 pixels: say the image size"):
        import_adm(tmp_path / "either.pt", head_channels=HEADS)
    assert import_adm(tmp_path / "either.pt", head_channels=HEADS, image_size=32).parameters["depth"] == 1
    with pytest.raises(gc.GuidanceError, match="fit no encoder with an attention pool for 64 pixels"):
        import_adm(tmp_path / "either.pt", head_channels=HEADS, image_size=64)


def test_other_sizes_and_video_are_refused(imported, randn):
    with pytest.raises(gc.GuidanceError, match="made for pictures of 16 x 16 pixels and got 8 x 16"):
        imported(randn(1, 3, 8, 16, dtype=torch.float32), 1.0)
    with pytest.raises(gc.GuidanceError, match="got 2 x 16 x 16"):
        imported(randn(1, 3, 2, 16, 16, dtype=torch.float32), 1.0)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the file was executed",))


def hostile(kind, file, state):
    if kind == "bomb":
        torch.save(state | {"extra": Bomb()}, file)
    elif kind == "bare pickle":
        file.write_bytes(pickle.dumps(Bomb()))
    elif kind == "truncated":
        torch.save(state, file)
        file.write_bytes(file.read_bytes()[:-5000])
    elif kind == "compressed":
        torch.save(state, file)
        with zipfile.ZipFile(file) as old:
            entries = {entry.filename: old.read(entry) for entry in old.infolist()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
            for name, data in entries.items():
                new.writestr(name, data)
    elif kind == "views of one number":
        torch.save({name: torch.zeros(()).expand(tensor.shape) for name, tensor in state.items()}, file)
    elif kind == "not finite":
        torch.save(state | {"out.0.bias": torch.full_like(state["out.0.bias"], math.inf)}, file)
    else:
        torch.save(
            {
                "a list": [state],
                "a number": state | {"step": 3},
                "integers": {name: tensor.long() for name, tensor in state.items()},
                "a unet": {name.replace("input", "output"): tensor for name, tensor in state.items()},
                "one missing": {name: tensor for name, tensor in state.items() if name != "out.0.bias"},
                "one too many": state | {"out.3.bias": torch.zeros(1)},
                "names without numbers": state | {"input_blocks.x": torch.zeros(1)},
                "a hole": {name.replace("blocks.2.", "blocks.99."): tensor for name, tensor in state.items()},
                "scalars": {name: torch.zeros(()) for name in state},
                "nothing": {},
            }[kind],
            file,
        )


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("bomb", "holds weights alone .*What would have to be executed is not loaded"),
        ("bare pickle", "holds weights alone"),
        ("truncated", "holds weights alone"),
        ("compressed", "its archive is compressed"),
        ("views of one number", "declares more weights than it holds"),
        ("not finite", "'out.0.bias' are not all finite"),
        ("a list", "not a table of weights by name"),
        ("a number", "not a table of weights by name"),
        ("integers", "not a table of weights by name"),
        ("a unet", "is not one of ADM's classifiers"),
        ("one missing", "is not one of ADM's classifiers"),
        ("one too many", "is not one of ADM's classifiers"),
        ("names without numbers", "is not one of ADM's classifiers"),
        ("a hole", "is not one of ADM's classifiers"),
        ("scalars", "is not one of ADM's classifiers"),
        ("nothing", "is not one of ADM's classifiers"),
    ],
)
def test_other_checkpoints_are_refused(kind, sentence, state, tmp_path):
    hostile(kind, tmp_path / "bad.pt", state)
    with pytest.raises(gc.GuidanceError, match=sentence):
        import_adm(tmp_path / "bad.pt", head_channels=HEADS)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(gc.GuidanceError, match="There is no file 'none.pt' in"):
        import_adm(tmp_path / "none.pt")


@pytest.mark.parametrize(
    "change",
    [{"schedule": "none"}, {"steps": 1}, {"depth": 0}, {"image_size": 18}, {"width": 33}, {"head_channels": 48}],
)
def test_parameters_that_build_no_network(change, tmp_path):
    parameters = {
        "channels": 3, "classes": 7, "image_size": 16, "width": 32, "multipliers": [1, 2, 2], "depth": 1,
        "attention": [8], "head_channels": 16,
    }  # fmt: skip
    AdmEncoder(**parameters)
    with pytest.raises(ValueError):
        AdmEncoder(**parameters | change)
