"""Light: one table that tints everything, so that objects and background belong together."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """How a kind of light colors the world.

    Parameters
    ----------
    name : str
        One of ``vocabulary.LIGHTINGS``.
    sky : tuple of RGB
        Colors of the sky from the zenith to the horizon.
    tint : RGB
        What surfaces are multiplied with.
    lift : RGB
        What the air adds to them.
    haze : RGB
        Color that far things fade to.
    shadow : float
        Strength of cast shadows, 0 to 1.
    reach : float
        How far shadows fall sideways, in heights of the object.
    side : int
        Where the light comes from: -1 left, 1 right.
    """

    name: str
    sky: tuple[RGB, ...]
    tint: RGB
    lift: RGB
    haze: RGB
    shadow: float
    reach: float
    side: int = -1

    def on(self, color: RGB) -> RGB:
        """Return the color of a surface in this light."""
        (red, green, blue), tint, lift = color, self.tint, self.lift
        red, green, blue = red * tint[0] + lift[0], green * tint[1] + lift[1], blue * tint[2] + lift[2]
        return (
            0.0 if red < 0.0 else 255.0 if red > 255.0 else red,
            0.0 if green < 0.0 else 255.0 if green > 255.0 else green,
            0.0 if blue < 0.0 else 255.0 if blue > 255.0 else blue,
        )


_OUTDOORS: dict[str, Light] = {
    "noon": Light(
        "noon",
        ((58, 130, 208), (120, 180, 230), (206, 230, 242)),
        (1.03, 1.0, 0.96),
        (2, 3, 6),
        (196, 220, 236),
        0.42,
        0.35,
    ),
    "sunset": Light(
        "sunset",
        ((84, 84, 152), (222, 128, 118), (255, 200, 122)),
        (1.03, 0.90, 0.80),
        (10, 3, 8),
        (246, 176, 128),
        0.45,
        1.0,
    ),
    "dusk": Light(
        "dusk",
        ((44, 44, 100), (126, 92, 148), (232, 148, 146)),
        (0.76, 0.70, 0.82),
        (11, 7, 20),
        (176, 126, 156),
        0.25,
        0.7,
    ),
    "night": Light(
        "night",
        ((8, 12, 38), (18, 28, 68), (48, 66, 120)),
        (0.47, 0.53, 0.72),
        (5, 9, 26),
        (44, 60, 108),
        0.35,
        0.5,
    ),
    "overcast": Light(
        "overcast",
        ((146, 158, 170), (178, 186, 194), (214, 218, 220)),
        (0.88, 0.90, 0.93),
        (6, 7, 9),
        (202, 208, 212),
        0.22,
        0.1,
    ),
}

_INDOORS: dict[str, Light] = {
    "noon": Light("noon", _OUTDOORS["noon"].sky, (1.02, 1.0, 0.97), (2, 2, 3), (236, 236, 232), 0.34, 0.3),
    "sunset": Light("sunset", _OUTDOORS["sunset"].sky, (1.02, 0.92, 0.82), (6, 2, 4), (244, 200, 160), 0.36, 0.6),
    "night": Light("night", _OUTDOORS["night"].sky, (0.86, 0.72, 0.58), (6, 4, 12), (150, 120, 100), 0.42, 0.25),
}


def light_of(lighting: str, indoor: bool, side: int) -> Light:
    """Return the light of a scene.

    Parameters
    ----------
    lighting : str
        One of ``vocabulary.LIGHTINGS``.
    indoor : bool
    side : int
        -1 where the light comes from the left, 1 from the right.
    """
    light = (_INDOORS if indoor and lighting in _INDOORS else _OUTDOORS)[lighting]
    return Light(**{**vars(light), "side": side})


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Return a color between two; `share` 0 is the first."""
    rest = 1.0 - share
    return (
        first[0] * rest + second[0] * share,
        first[1] * rest + second[1] * share,
        first[2] * rest + second[2] * share,
    )


def lighter(color: RGB, share: float) -> RGB:
    """Return a color mixed with white."""
    return mix(color, (255, 252, 244), share)


def darker(color: RGB, share: float) -> RGB:
    """Return a color mixed with a dark blue, which reads as shade rather than as dirt."""
    return mix(color, (22, 18, 44), share)
