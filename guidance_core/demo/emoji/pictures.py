"""Twenty flags of upright stripes, the pictures of the example that learns from few.

`python -m guidance_core.demo.emoji.pictures` writes the folder anew, from the emoji that the demo was trained on.
"""

from pathlib import Path

from .data import load_pictures

FOLDER = Path(__file__).parent / "pictures"
KIND = "upright stripes"
NAMES = (
    *("fr", "flag-ad", "flag-af", "flag-bb", "flag-be", "flag-ca", "flag-ci", "flag-cm", "flag-gn", "flag-gt"),
    *("flag-ie", "flag-md", "flag-ml", "flag-mn", "flag-mx", "flag-ng", "flag-pe", "flag-ro", "flag-sn", "flag-td"),
)
"""As the emoji package calls them."""


def main() -> None:
    from PIL import Image

    pictures = load_pictures()
    folder = FOLDER / KIND
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        pixels = pictures.images[pictures.names.index(name)].permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).quantize(64).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
