"""The labels of a rendered picture: which part of a clothed person each pixel shows."""

from enum import IntEnum


class BodyPart(IntEnum):
    """What a pixel shows. The numbers are in the shards of training pictures; they stay."""

    BACKGROUND = 0
    SKIN = 1  # face, ears and neck
    HAIR = 2
    TOP = 3
    TROUSERS = 4
    SHOES = 5
    HANDS = 6
    EYES = 7
    SKIRT = 8
