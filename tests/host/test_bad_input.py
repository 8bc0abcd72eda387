"""Bad input gets a sentence that begins with the node's name, and the server goes on."""

import pickle

import pytest
import torch
from graph import Graph, cfg_combine, classifier_guidance, fresh, ksampler, read, schedule
from safetensors.torch import save_file

from devtools.server import PromptFailed, PromptRejected


def refusal(server, build) -> str:
    """The message with which a graph fails, at `/prompt` or while it runs; afterwards the server still works."""
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    g.ProbeRead(latent=build(g, model), nonce=fresh())
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        server.run(g.prompt)
    good = Graph()
    node = good.ProbeRead(latent=good.ProbeLatent(batch=1, channels=4, frames=0, masked=False), nonce=fresh())
    assert read(server.run(good.prompt), node).latent.shape == (1, 4, 16, 16)
    error = caught.value
    return error.exception_message if isinstance(error, PromptFailed) else str(error)


def classifier(g, channels=4, latent_space="", nan_below=-1000.0):
    return g.ProbeClassifier(channels=channels, latent_space=latent_space, nan_below_log_snr=nan_below, nonce=fresh())


def guided(target="cat", **options):
    return lambda g, m: ksampler(g, classifier_guidance(g, m, classifier(g, **options), target, 5.0))


@pytest.mark.parametrize(
    ("build", "sentences"),
    [
        (guided("catt"), ["Classifier Guidance: There is no label 'catt'", "did you mean cat?"]),
        (guided("zebra"), ["There is no label 'zebra'", "cat, dog, bird"]),
        (guided("(cat:heavy)"), ["Classifier Guidance: The weight in '(cat:heavy)'"]),
        (guided(""), ["Classifier Guidance: target is empty: write a label"]),
        (guided(channels=16), ["trained on 16-channel latents, this model has 4 (SD15)"]),
        (guided(latent_space="SDXL"), ["trained on SDXL latents, this model has SD15 latents"]),
        (
            guided(nan_below=-2.0),
            ["Classifier Guidance: ", "gradient is not a finite number at step 1 of 6 (sigma 14.6"],
        ),
        (guided(nan_below=1.0), ["Classifier Guidance: ", "step 1 of 6"]),
    ],
    ids=["near", "unknown", "weight", "empty", "channels", "space", "nan", "nan-early"],
)
def test_classifier_guidance_refuses(server, build, sentences):
    said = refusal(server, build)
    for sentence in sentences:
        assert sentence in said


def scheduled(**values):
    def build(g, m):
        return ksampler(g, cfg_combine(g, m, 5.0, schedule=schedule(g, **values)))

    return build


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            scheduled(shape="keyframes", points="0: 1, half: 2", interpolation="linear"),
            "Scale Schedule: points: 'half' is not a number",
        ),
        (
            scheduled(shape="keyframes", points="0 1", interpolation="linear"),
            "Scale Schedule: points: '0 1' has no colon",
        ),
        (scheduled(shape="values", values="1, two"), "Scale Schedule: values: ' two' is not a number"),
        (scheduled(shape="values", values=" , "), "Scale Schedule: values needs at least one strength"),
        (scheduled(shape="interval", start=0.8, end=0.2), "Scale Schedule: start must come before end"),
        (
            scheduled(shape="interval", axis="sigma", start=0.28, end=5.42),
            "Scale Schedule: start must come before end: sigma falls over a run",
        ),
        (lambda g, m: ksampler(g, cfg_combine(g, m, 5.0, "rescale", rescale=2.0)), "rescale"),
        (
            lambda g, m: ksampler(
                g,
                cfg_combine(g, cfg_combine(g, m, 5.0, "rescale", rescale=0.5), 5.0, "rescale", rescale=0.7),
            ),
            "CFG Combine: the method 'rescale' is already in this model's pipeline",
        ),
        (
            lambda g, m: ksampler(g, m, positive=g.GuidanceKitClassCondition(model=m, label="seven")),
            "Class Condition: this model is not class-conditional",
        ),
        (
            lambda g, m: ksampler(g, m, negative=g.GuidanceKitNullConditionEncoder(kind={"kind": "empty prompt"})),
            "Null-Condition Encoder: 'empty prompt' needs the input clip",
        ),
    ],
)
def test_nodes_refuse(server, build, sentence):
    assert sentence.replace("'  two'", "' two'") in refusal(server, build).replace("'two'", "' two'")


class _Bomb:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


FILES = {
    "pickled.safetensors": (
        lambda path, trace: path.write_bytes(pickle.dumps(_Bomb(trace))),
        "Load Noisy Classifier: 'pickled.safetensors' is not a whole safetensors file",
    ),
    "text.safetensors": (
        lambda path, trace: path.write_text("hello"),
        "Load Noisy Classifier: 'text.safetensors' is not a whole safetensors file",
    ),
    "lora.safetensors": (
        lambda path, trace: save_file({"a": torch.zeros(2)}, path),
        "Load Noisy Classifier: 'lora.safetensors' is a safetensors file but not a noisy classifier",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_loading_a_bad_file_is_refused(server, tmp_path, name):
    (write, sentence), trace = FILES[name], tmp_path / "pickle-was-run"
    folder = server.base / "models" / "noisy_classifiers"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / name, trace)

    def build(g, m):
        loaded = g.GuidanceKitLoadNoisyClassifier(file=name)
        return ksampler(g, classifier_guidance(g, m, loaded, "cat"))

    assert sentence in refusal(server, build)
    assert not trace.exists()


def test_digits_refuse_a_prompt(server):
    def build(g, m):
        empty = g.EmptyLatentImage(width=128, height=128, batch_size=1)
        return ksampler(g, g.GuidanceKitLoadDigitsDemo(), latent=empty)

    assert "Load Digits Demo: this model takes a class, not a prompt" in refusal(server, build)


def test_emoji_refuse_a_prompt(server):
    def build(g, m):
        empty = g.EmptyLatentImage(width=64, height=64, batch_size=1)
        return ksampler(g, g.GuidanceKitLoadEmojiDemo(), latent=empty)

    assert "Load Emoji Demo: this model takes a class, not a prompt" in refusal(server, build)


def test_missing_file_is_refused_before_the_run(server):
    def build(g, m):
        return ksampler(g, classifier_guidance(g, m, g.GuidanceKitLoadNoisyClassifier(file="gone.safetensors"), "cat"))

    assert "there is no file 'gone.safetensors' in models/noisy_classifiers" in refusal(server, build)


def test_the_type_of_an_error_is_no_path(server):
    """ComfyUI shows it above the sentence."""
    g = Graph()
    guided = cfg_combine(g, g.ProbeModel(kind="eps", seed=0, nonce=fresh()), 5.5, "perp_neg", neg_scale=1.0)
    g.ProbeRead(latent=ksampler(g, guided), nonce=fresh())
    with pytest.raises(PromptFailed) as caught:
        server.run(g.prompt)
    assert caught.value.exception_type == "Guidance Kit.GuidanceError"
