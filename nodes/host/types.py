"""The socket types of the pack."""

from comfy_api.latest import io

SCALE_SCHEDULE = io.Custom("SCALE_SCHEDULE")
NOISY_CLASSIFIER = io.Custom("NOISY_CLASSIFIER")
CLEAN_CLASSIFIER = io.Custom("CLEAN_CLASSIFIER")
LABELLED_LATENTS = io.Custom("LABELLED_LATENTS")


def any_classifier(name: str, tooltip: str, optional: bool = False) -> io.Input:
    """A socket for a classifier of noisy latents or of clean pictures."""
    return io.MultiType.Input(name, [NOISY_CLASSIFIER, CLEAN_CLASSIFIER], optional=optional, tooltip=tooltip)


def guiding_classifier() -> io.Input:
    """The socket for the classifier that steers."""
    return any_classifier(
        "classifier",
        "The classifier that judges each step: a noisy one for this model's kind of latents, or one of pictures.",
    )


def vae_input(done: str) -> io.Input:
    """The VAE of a node whose clean judge looks at pictures; done: what is done with one, such as compared."""
    return io.Vae.Input(
        "vae",
        optional=True,
        tooltip=f"Decodes what the model predicts, so that it can be {done} as a picture: the model's own VAE, or a "
        f"small one (taesd and its kin in Load VAE), which is far quicker. Without one only the preview's rough "
        f"colours are {done}.",
    )
