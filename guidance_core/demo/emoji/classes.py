"""Which emoji belong to which of eleven classes, and the attributes that a picture has beside its class."""

import torch
from torch import Tensor

LABELS = ("animal", "building", "clock", "face", "flag", "food", "hand", "heart", "person", "plant", "vehicle")
ATTRIBUTES = ("smiling", "round", "red", "yellow", "green", "blue")

_SUBCATEGORIES = {
    "animal": "animal-amphibian animal-bird animal-bug animal-mammal animal-marine animal-reptile monkey-face",
    "building": "place-building place-religious",
    "clock": "time",
    "face": "face-affection face-concerned face-glasses face-hand face-hat face-negative face-neutral-skeptical"
    " face-sleepy face-smiling face-tongue face-unwell",
    "flag": "country-flag subdivision-flag",
    "food": "food-fruit food-vegetable food-prepared food-sweet food-asian drink",
    "hand": "hand-fingers-open hand-fingers-partial hand-single-finger hand-fingers-closed hands hand-prop",
    "heart": "heart",
    "person": "person person-role person-gesture",
    "plant": "plant-flower plant-other",
    "vehicle": "transport-ground transport-air transport-water",
}
CLASS_OF = {name: label for label, names in _SUBCATEGORIES.items() for name in names.split()}

_NOT_AT_A_GLANCE = (
    "feather feet wing shell spider_web coral microbe classical_building bricks rock wood hut house_buildings "
    "derelict_house_building stadium construction_site building_construction hourglass hourglass_flowing_sand skull "
    "skull_and_crossbones love_letter kiss selfie rosette lotus mushroom nest_with_eggs empty_nest potted_plant "
    "leafless_tree busstop fuelpump rotating_light traffic_light vertical_traffic_light octagonal_sign construction "
    "motorway railway_track oil_drum wheel manual_wheelchair motorized_wheelchair roller_skate seat anchor ring_buoy "
    "statue_of_liberty metro parachute satellite small_airplane airplane_departure airplane_arriving heart_decoration "
    "white_flower baby_bottle canned_food dotted_line_face face_in_clouds speaking_head_in_silhouette ice_cube salt "
    "beverage_box bubble_tea"
)
LEFT_OUT = frozenset(_NOT_AT_A_GLANCE.split())
"""Names of emoji of these subcategories that are not what their class says, or not to be told at a glance."""

_SMILING = ("smil", "grin", "laugh", "joy", "happy", "yum", "blush", "heart_eyes", "star-struck", "hugging")
_HUES = {"red": (-20, 20), "yellow": (36, 70), "green": (75, 165), "blue": (180, 260)}  # degrees


def smiles(short_names: list[str]) -> bool:
    """Whether one of an emoji's names speaks of a smile."""
    return any(word in name for name in short_names for word in _SMILING)


def drawn(images: Tensor) -> Tensor:
    """Where images [N, 3, H, W] in [0, 1] are not the white ground: bool [N, H, W]."""
    return images.amin(1) < 0.93


def looks(images: Tensor) -> Tensor:
    """Every attribute that the pixels of images [N, 3, H, W] in [0, 1] tell: bool [N, 5], round and four colours."""
    mask = drawn(images)
    area = mask.sum((1, 2)).clamp(min=1)
    height, width = mask.any(2).sum(1), mask.any(1).sum(1)
    fill = area / (torch.pi / 4 * height * width).clamp(min=1)
    round_ = (fill > 0.94) & (fill < 1.06) & ((height / width.clamp(min=1)).log().abs() < 0.12)
    hue, saturation = hues(images)
    coloured = mask & (saturation > 0.3) & (images.amax(1) > 0.3)
    shares = [coloured & (((hue - low) % 360) <= high - low) for low, high in _HUES.values()]
    return torch.stack([round_, *[share.sum((1, 2)) / area > 0.5 for share in shares]], 1)


def hues(images: Tensor) -> tuple[Tensor, Tensor]:
    """(hue in degrees, saturation in [0, 1]) of images [N, 3, H, W], each [N, H, W]."""
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    hue = torch.rad2deg(torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue))
    return hue, (high - low) / high.clamp(min=1e-6)
