"""Draw the method of each system as a diagram: ``python docs/method_figures.py`` writes ``docs/images/method-*.svg``.

From left to right: the voxels that are read, the decoder, the target, and what is generated from the targets. Colors
work on light and dark pages.
"""

from html import escape
from pathlib import Path

#: Rows of (voxels, decoder, target), stages of the generation, and which targets each stage uses.
SYSTEMS = {
    "brain-diffuser": (
        [
            ("all voxels", "ridge", "VDVAE latents"),
            ("all voxels", "ridge per token", "CLIP vision tokens"),
            ("all voxels", "ridge per token", "CLIP text tokens"),
        ],
        [("VDVAE: blurry image", [0]), ("Versatile Diffusion: image", [1, 2])],
    ),
    "takagi": (
        [("early", "ridge, single trials", "z: autoencoder latents"), ("ventral", "ridge, single trials", "c: text")],
        [("Autoencoder: blurry image", [0]), ("Stable Diffusion: image", [1])],
    ),
    "mind-diffuser": (
        [
            ("LVC", "ridge", "z: autoencoder latents"),
            ("all voxels", "ridge", "c: text, 15 tokens"),
            ("all voxels", "ridge", "Z_CLIP: six blocks"),
        ],
        [("Stable Diffusion from z, c", [0, 1]), ("Pull toward Z_CLIP: image", [2])],
    ),
    "gru-two-stage": (
        [
            ("all voxels, in chunks", "bidirectional GRU", "first VDVAE latents"),
            ("all voxels", "ridge per token", "CLIP vision tokens"),
            ("all voxels", "ridge per token", "CLIP text tokens"),
        ],
        [("VDVAE: blurry image", [0]), ("Versatile Diffusion: image", [1, 2])],
    ),
    "mind-animator": (
        [
            ("all voxels", "network, InfoNCE", "text, 20 tokens"),
            ("all voxels", "perceptron", "first frame latents"),
            ("all voxels", "transformer or ridge", "motion"),
        ],
        [("All frame latents", [1, 2]), ("Frame-aware diffusion: video", [0])],
    ),
    "linear-pixels": ([("all voxels", "ridge", "pixels")], [("Clip to [0, 1]: image", [0])]),
}

LEFT = (12, 172, 352, 560)
WIDTH, HEIGHT, STEP = 148, 40, 62
STYLE = "font-family:system-ui,sans-serif;font-size:13px"
FILLS = {"voxels": "#d9e6f2", "decoder": "#fde8c8", "target": "#d8efdc", "stage": "#eadcf4"}


def box(x: float, y: float, width: float, text: str, kind: str) -> str:
    """Return a box with a line of text."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="7" fill="{FILLS[kind]}" stroke="#777"/>'
        f'<text x="{x + width / 2}" y="{y + HEIGHT / 2 + 4.5}" text-anchor="middle" fill="#111">{escape(text)}</text>'
    )


def arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    """Return an arrow from one point to another."""
    return f'<path d="M{x0} {y0} C{x0 + 16} {y0} {x1 - 24} {y1} {x1 - 7} {y1}" marker-end="url(#head)"/>'


def diagram(name: str) -> str:
    """Return the SVG of a system."""
    rows, stages = SYSTEMS[name]
    lines = max(len(rows), len(stages))
    tops = [14 + STEP * (row + (lines - len(rows)) / 2) for row in range(len(rows))]
    places = [14 + STEP * (row + (lines - len(stages)) / 2) for row in range(len(stages))]
    boxes, arrows = [], []
    for top, (voxels, decoder, target) in zip(tops, rows, strict=True):
        widths = (WIDTH, WIDTH + 16, WIDTH + 20)
        for x, width, text, kind in zip(LEFT, widths, (voxels, decoder, target), FILLS, strict=False):
            boxes.append(box(x, top, width, text, kind))
        middle = top + HEIGHT / 2
        arrows += [
            arrow(LEFT[0] + widths[0], middle, LEFT[1], middle),
            arrow(LEFT[1] + widths[1], middle, LEFT[2], middle),
        ]
    for number, (top, (text, used)) in enumerate(zip(places, stages, strict=True)):
        boxes.append(box(LEFT[3], top, 200, text, "stage"))
        for row in used:
            arrows.append(arrow(LEFT[2] + WIDTH + 20, tops[row] + HEIGHT / 2, LEFT[3], top + HEIGHT / 2))
        if number:
            arrows.append(f'<path d="M660 {places[number - 1] + HEIGHT} V{top - 7}" marker-end="url(#head)"/>')
    height = 28 + STEP * lines - (STEP - HEIGHT)
    head = (
        '<marker id="head" markerWidth="8" markerHeight="8" refX="2" refY="4" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#777"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 772 {height:g}" width="772" style="{STYLE}" role="img">'
        f"<title>{escape(name)}: voxels, decoders, targets, generation</title><defs>{head}</defs>"
        f'<g fill="none" stroke="#777" stroke-width="1.5">{"".join(arrows)}</g>{"".join(boxes)}</svg>\n'
    )


if __name__ == "__main__":
    for system in SYSTEMS:
        file = Path(__file__).parent / "images" / f"method-{system}.svg"
        file.write_text(diagram(system), encoding="utf-8")
