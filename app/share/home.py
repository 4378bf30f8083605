"""The project's address, to which the header and exported texts link, and the preview of it that other sites show.

Gradio's template for the page names gradio, its site and a picture from there; ours takes the place of that. The
picture is made by `tools/preview_picture.py` and comes from the page itself.
"""

from __future__ import annotations

import os
import re
from functools import cache

from gradio import routes
from jinja2 import ChoiceLoader, DictLoader

from app.components import ASSETS, SCRIPTS_PATH

PAPER = "https://arxiv.org/abs/2502.01976"

TITLE = "CITER Playground"
DESCRIPTION = (
    "A small and a large language model write one text together, every token coloured by its author. "
    "Drag the threshold and see who writes, what the text becomes, and what it costs."
)

FAVICON = ASSETS / "header/favicon.png"

_TEMPLATE = "frontend/index.html"
_ROOT = "{{ config['root'] }}"  # as the browser reached it: sites that show a preview need a whole address
_PICTURE = f"{_ROOT}/{SCRIPTS_PATH}/header/preview.png"
_OWN = f"""<meta name="description" content="{DESCRIPTION}" />
		<meta property="og:type" content="website" />
		<meta property="og:site_name" content="{TITLE}" />
		<meta property="og:title" content="{TITLE}" />
		<meta property="og:description" content="{DESCRIPTION}" />
		<meta property="og:url" content="{_ROOT}/" />
		<meta property="og:image" content="{_PICTURE}" />
		<meta property="og:image:width" content="1200" />
		<meta property="og:image:height" content="630" />
		<meta property="og:image:alt" content="A text whose tokens are coloured by the model that wrote them" />
		<meta name="twitter:card" content="summary_large_image" />
"""


def home_address() -> str:
    """The project's home: on a Space that Space's page, elsewhere empty."""
    space = os.environ.get("SPACE_ID", "")
    return f"https://huggingface.co/spaces/{space}" if re.fullmatch(r"[\w.-]+/[\w.-]+", space) else ""


@cache  # gradio has one template for all pages of a process
def use_own_preview() -> None:
    """Puts title, description and picture of this project where gradio's template has gradio's."""
    environment = routes.templates.env
    loader = environment.loader
    assert loader is not None
    source, *_ = loader.get_source(environment, _TEMPLATE)
    foreign = r"<meta\s+(?:property=\"og:|name=\"twitter:)[^>]*>\s*"
    own = re.sub(foreign, "", source).replace("<head>", f"<head>\n\t\t{_OWN}", 1)
    environment.loader = ChoiceLoader([DictLoader({_TEMPLATE: own}), loader])
