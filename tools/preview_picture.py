"""The picture that other sites show of a link to the page, and the page's icon, as `python -m tools.preview_picture`.

Drawn with Pillow and the font that it brings, so that neither a browser nor a font of this machine is needed.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "page" / "header"
WIDTH, HEIGHT = 1200, 630
"""What sites that show previews ask for."""

SCALE = 2
"""Drawn larger, then made smaller: edges become smooth."""

GROUND, PAPER, INK, SOFT, LINE = "#f7f8f9", "#ffffff", "#191f25", "#4d5761", "#dfe3e7"
SLM, LLM = ("#d4ebf9", "#0b6fa8"), ("#f7e2b8", "#b87900")  # ground and line of each author, as on the page

TEXT = "Two models write one *text. The small one writes what is *safe, the *large one what is *critical."
"""A star before what is drawn as the large model's."""


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, in pixels of the finished picture."""
    return ImageFont.load_default(size * SCALE)


def bold(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int) -> None:
    """A title; the font has no bold of its own."""
    draw.text(place, text, INK, font(size), stroke_width=SCALE, stroke_fill=INK)


def card(draw: ImageDraw.ImageDraw, left: int, top: int, right: int, bottom: int) -> None:
    """A panel of the page."""
    box = [each * SCALE for each in (left, top, right, bottom)]
    draw.rounded_rectangle(box, 18 * SCALE, PAPER, LINE, 2 * SCALE)


def tokens(draw: ImageDraw.ImageDraw, left: int, top: int, right: int, size: int) -> None:
    """The text, every token coloured by its author, and the LLM's underlined."""
    x, y, gap = left * SCALE, top * SCALE, 10 * SCALE
    for word in TEXT.split():
        text, author = word.removeprefix("*"), int(word.startswith("*"))
        width = draw.textlength(text, font(size)) + 12 * SCALE
        if x + width > right * SCALE:
            x, y = left * SCALE, y + (size + 34) * SCALE
        ground, line = (SLM, LLM)[author]
        bottom = y + (size + 18) * SCALE
        draw.rounded_rectangle((x, y, x + width, bottom), 6 * SCALE, ground)
        if author:
            draw.rectangle((x, bottom - 4 * SCALE, x + width, bottom), line)
        draw.text((x + 6 * SCALE, y + 5 * SCALE), text, INK, font(size))
        x += width + gap


def dial(draw: ImageDraw.ImageDraw, left: int, y: int, right: int, at: float) -> None:
    """The threshold's slider."""
    middle, line, radius = left + at * (right - left), 5, 17
    draw.rounded_rectangle([v * SCALE for v in (left, y - line, right, y + line)], line * SCALE, LINE)
    draw.rounded_rectangle([v * SCALE for v in (left, y - line, middle, y + line)], line * SCALE, "#0072b2")
    circle = [v * SCALE for v in (middle - radius, y - radius, middle + radius, y + radius)]
    draw.ellipse(circle, "#ffffff", "#0072b2", 5 * SCALE)


def preview() -> Image.Image:
    """The picture beside a link."""
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), GROUND)
    draw = ImageDraw.Draw(image)
    bold(draw, (72 * SCALE, 56 * SCALE), "CITER Playground", 62)
    draw.text((74 * SCALE, 142 * SCALE), "Who writes the next token? You set it, and see it.", SOFT, font(33))
    card(draw, 64, 216, WIDTH - 64, 574)
    tokens(draw, 100, 244, WIDTH - 96, 45)
    draw.text((100 * SCALE, 512 * SCALE), "threshold", SOFT, font(28))
    dial(draw, 256, 530, WIDTH - 104, 0.62)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def icon(size: int = 128) -> Image.Image:
    """Two tokens, one of each author."""
    large = 4 * size
    image = Image.new("RGBA", (large, large))
    draw, unit = ImageDraw.Draw(image), large / 16
    draw.rounded_rectangle((unit, 2 * unit, 15 * unit, 7.2 * unit), 1.6 * unit, "#56b4e9")
    draw.rounded_rectangle((unit, 8.8 * unit, 15 * unit, 14 * unit), 1.6 * unit, "#e69f00")
    draw.rectangle((unit * 2.4, 12.2 * unit, 13.6 * unit, 12.9 * unit), "#5c3c00")
    return image.resize((size, size), Image.Resampling.LANCZOS)


def main() -> None:
    """Writes both."""
    preview().quantize(128, dither=Image.Dither.NONE).save(FOLDER / "preview.png", optimize=True)
    icon().save(FOLDER / "favicon.png", optimize=True)


if __name__ == "__main__":
    main()
