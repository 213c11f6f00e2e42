"""Five captions for every scene, in the style of COCO and with a closed vocabulary."""

from __future__ import annotations

import numpy as np

from neurorecon.simulation.scene import DETAILS, Scene, SceneObject

#: Words for a kind, the usual one first; `kind` itself where it is a common noun.
_NOUNS: dict[str, tuple[str, ...]] = {
    "man": ("man", "person", "guy"),
    "woman": ("woman", "person", "lady"),
    "child": ("child", "kid"),
    "man face": ("man", "man"),
    "woman face": ("woman", "woman"),
    "child face": ("child", "kid"),
    "house": ("house", "home"),
    "church": ("church",),
    "barn": ("barn", "farm building"),
    "skyscraper": ("skyscraper", "tall building"),
    "cat": ("cat", "kitty"),
    "dog": ("dog", "puppy"),
    "car": ("car", "automobile"),
    "boat": ("sail boat", "boat"),
    "airplane": ("airplane", "plane"),
    "bicycle": ("bicycle", "bike"),
    "pine": ("pine tree", "fir tree"),
    "palm": ("palm tree", "palm"),
    "cup": ("cup", "coffee mug"),
}

#: Names of the parts of people and rooms that have the object's color.
_WEAR = {"man": "shirt", "woman": "clothes", "child": "shirt"}

_ROOM_PART = {"bedroom": "walls", "kitchen": "cabinets", "living room": "walls", "bathroom": "tiles"}

_IN_ROOM = {
    "bedroom": "a bed and a window",
    "kitchen": "a stove and a refrigerator",
    "living room": "a couch and a table",
    "bathroom": "a bathtub and a mirror",
}

#: Where things are.
_PLACES: dict[str, tuple[str, ...]] = {
    "meadow": ("in a green field", "on the grass", "in a meadow"),
    "beach": ("on the beach", "on the sand by the sea", "at the beach"),
    "street": ("on a city street", "in the street", "on a road in front of buildings"),
    "city square": ("in a city square", "in the city", "on a plaza with buildings behind"),
    "snow": ("in the snow", "on a snowy field", "in a snowy landscape"),
    "desert": ("in the desert", "on the desert sand", "in a dry desert"),
    "lake": ("on a lake", "on the water", "at a lake with mountains"),
    "forest": ("in a forest", "in the woods", "among the trees"),
    "sky": ("in the sky", "above the clouds", "high in the air"),
    "underwater": ("under water", "in the ocean", "in the sea"),
    "room": ("in a room", "inside a home", "indoors"),
    "table": ("on a wooden table", "on a table", "on top of a table"),
    "workshop": ("on a wooden workbench", "on a wooden board", "on a wood surface"),
}

_OVER = {
    "meadow": "over a green field",
    "beach": "over the beach",
    "snow": "over the snow",
    "lake": "over a lake",
}

#: When it is.
_TIMES = {
    "noon": ("on a sunny day", "in bright sunlight", "on a clear day"),
    "sunset": ("at sunset", "in the evening sun", "as the sun goes down"),
    "dusk": ("at dusk", "in the evening", "under a purple sky"),
    "night": ("at night", "in the dark", "under the stars"),
    "overcast": ("on a cloudy day", "under a gray sky", "on a gray day"),
}

_TIMES_INDOORS = {
    "noon": ("in daylight", "in bright light"),
    "sunset": ("in warm light", "in the evening"),
    "night": ("at night", "in lamp light"),
}

_STILL = {
    "person": "standing",
    "animal": "standing",
    "vehicle": "parked",
    "building": "standing",
    "plant": "growing",
    "tool": "lying",
}

_STILL_KIND = {
    "cat": "sitting",
    "bird": "flying",
    "fish": "swimming",
    "boat": "floating",
    "airplane": "flying",
    "cup": "standing",
    "umbrella": "standing",
}

_MOVING = {
    "person": "walking",
    "animal": "walking",
    "vehicle": "driving",
    "tool": "sliding",
    "face": "moving",
}

_MOVING_KIND = {
    "bird": "flying",
    "fish": "swimming",
    "boat": "sailing",
    "airplane": "flying",
    "bicycle": "rolling",
    "horse": "trotting",
    "dog": "running",
}


def captions(scene: Scene) -> list[str]:
    """Return five different sentences about a scene.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    list of str
        Plain ASCII. The first names kind,
        color and place; the others leave out or add what annotators do: light,
        other objects, motion.
    """
    teller = _Teller(scene)
    if scene.category == "room":
        found = teller.room()
    elif scene.category == "face":
        found = teller.face()
    else:
        found = teller.thing()
    sentences: list[str] = []
    for sentence in found:
        sentence = " ".join(sentence.split())
        sentence = sentence[0].upper() + sentence[1:] + "."
        if sentence not in sentences:
            sentences.append(sentence)
    return sentences[:5]


def article(noun: str) -> str:
    """Return a noun with ``a`` or ``an``."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


class _Teller:
    """Words for one scene, chosen by its seed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.main = scene.main
        key = np.random.SeedSequence([scene.seed, scene.index, DETAILS[scene.kind], 1234])
        self.random = np.random.default_rng(key)
        times = _TIMES_INDOORS if scene.indoor else _TIMES
        shuffled = self.random.permutation
        self.times = [times[scene.lighting][n] for n in shuffled(len(times[scene.lighting]))]
        places = _PLACES[scene.setting]
        self.places = [places[n] for n in shuffled(len(places))]
        if self.main.kind == "bird" and scene.setting in _OVER:
            self.places = [_OVER[scene.setting]] * 3
        if scene.setting == "room" and self.main.category != "room":
            room = next(item for item in scene.objects if item.category == "room")
            self.places = [f"in {article(room.kind)}", *self.places]
        others = [item for item in scene.objects[1:] if item.category != "room" and item.visible > 0.35]
        self.others = sorted(others, key=lambda item: -item.size)[:2]

    def noun(self, item: SceneObject, plain: bool = True) -> str:
        """Return a word for an object; the usual one, or one of its other names."""
        names = _NOUNS.get(item.kind, (item.kind,))
        return names[0] if plain else names[-1]

    def phrase(self, item: SceneObject, plain: bool = True) -> str:
        """Return an object with article and color."""
        noun = self.noun(item, plain)
        if item.kind in _WEAR:
            return f"{self.one(noun, item)} in {article_free(item)}"
        if item.kind == "scissors":
            return f"a pair of {item.color} scissors"
        if item.kind == "pine":
            return self.one(noun, item)
        return self.one(f"{item.color} {noun}", item)

    def one(self, noun: str, item: SceneObject) -> str:
        """Return a noun with its article, or with `another` where the main object is of the same kind."""
        if item is not self.main and item.kind == self.main.kind:
            return f"another {noun}"
        return article(noun)

    def action(self) -> str:
        """Return a phrase for the action of the main object."""
        main = self.main
        if main.velocity != (0.0, 0.0):
            verb = _MOVING_KIND.get(main.kind, _MOVING.get(main.category, "moving"))
            if self.scene.setting == "workshop":
                return verb
            return f"{verb} to the {'right' if main.velocity[0] > 0 else 'left'}"
        return _STILL_KIND.get(main.kind, _STILL.get(main.category, "standing"))

    def beside(self) -> str:
        """Return a phrase for the other objects, or an empty string."""
        if not self.others:
            return ""
        return "with " + " and ".join(self.phrase(item) for item in self.others)

    def camera(self) -> str:
        """Return a phrase for the motion of the camera, or an empty string."""
        pan, _, zoom = self.scene.camera
        if pan:
            return f"while the camera pans {'right' if pan > 0 else 'left'}"
        if zoom:
            return f"while the camera {'moves closer' if zoom > 0 else 'moves away'}"
        return ""

    def where(self, number: int) -> str:
        """Return a phrase for the place."""
        return self.places[number % len(self.places)]

    def when(self, number: int) -> str:
        """Return a phrase for the light."""
        return self.times[number % len(self.times)]

    def thing(self) -> list[str]:
        """Return sentences about people, animals, buildings, vehicles, plants and tools."""
        what, other = self.phrase(self.main), self.phrase(self.main, plain=False)
        act = self.action()
        near = self.beside()
        return [
            f"{what} {act} {self.where(0)}",
            f"{other} {self.where(1)} {self.when(0)} {near}",
            f"there is {what} {near or act} {self.where(2)}",
            f"{self.image()} of {what} {self.where(1)} {self.camera()}",
            f"{other} is {act} {self.where(0)} {self.when(1)} {self.camera() if near else ''}",
            f"a view of {what} {self.when(0)}",
            f"{what} is seen {self.where(2)}",
        ]

    def image(self) -> str:
        """Return a phrase for the kind of stimulus."""
        if self.scene.kind == "video":
            return "a short video"
        return "a picture" if self.random.random() < 0.5 else "a photo"

    def face(self) -> list[str]:
        """Return sentences about portraits."""
        noun = self.noun(self.main)
        hair = f"{self.main.color} hair"
        act = "moving" if self.main.velocity != (0.0, 0.0) else "smiling"
        close = "a close up video" if self.scene.kind == "video" else "a close up"
        return [
            f"a portrait of {article(noun)} with {hair} {self.where(0)}",
            f"the face of {article(noun)} with {hair} {self.when(0)} {self.camera()}",
            f"{article(noun)} with {hair} is looking at the camera {self.where(1)}",
            f"{close} of {article(self.noun(self.main, plain=False))} {self.where(0)} {self.when(1)}",
            f"a head shot of a {act} {noun} with {hair}",
        ]

    def room(self) -> list[str]:
        """Return sentences about rooms."""
        room, color = self.main.kind, self.main.color
        part, holds = _ROOM_PART[room], _IN_ROOM[room]
        near = self.beside()
        return [
            f"{article(room)} with {color} {part}",
            f"{article(f'{color} {room}')} with {holds} {self.when(0)}",
            f"the inside of {article(room)} {near or 'with ' + holds}",
            f"{self.image()} of {article(f'{color} {room}')} {self.camera() or near}",
            f"there is {holds} in this {room} {self.when(1)}",
        ]


def article_free(item: SceneObject) -> str:
    """Return what a person wears, with its color."""
    wear = _WEAR[item.kind]
    return f"{item.color} {wear}" if wear == "clothes" else article(f"{item.color} {wear}")
