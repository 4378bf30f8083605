"""The page's look as far as gradio's theme reaches: colours, system fonts, sizes. The rest is in `assets/page/css`.

Only system fonts: a font from elsewhere would be a request that leaves the machine.
"""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.fonts import Font

# Around Okabe–Ito's blue (#0072B2), so that controls agree with the SLM's sky blue without being taken for it.
_BLUE = gr.themes.Color(
    c50="#eef6fb", c100="#d6eaf6", c200="#aed6ed", c300="#7bbce0", c400="#429ccf", c500="#0072b2",
    c600="#00659e", c700="#005585", c800="#00466d", c900="#013854", c950="#01263a",
)  # fmt: skip
_GREY = gr.themes.Color(
    c50="#f7f8f9", c100="#eef0f2", c200="#dfe3e7", c300="#c5ccd3", c400="#929ca7", c500="#66717d",
    c600="#4d5761", c700="#39424b", c800="#262d34", c900="#191f25", c950="#11161b",
)  # fmt: skip


def theme() -> gr.themes.Base:
    # No `system-ui`: gradio quotes every name but `sans-serif` and its like, and would ask for a font of that name.
    sans = [Font(name) for name in ("Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")]
    mono = [Font(name) for name in ("SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")]
    look = gr.themes.Base(
        primary_hue=_BLUE,
        secondary_hue=_BLUE,
        neutral_hue=_GREY,
        text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_md,
        radius_size=gr.themes.sizes.radius_md,
        font=sans,
        font_mono=mono,
    )
    return look.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_color_dark="*neutral_800",
        block_label_text_weight="600",
        block_title_text_weight="600",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_info_text_size="*text_md",
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        input_border_width="1px",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_color="#87919c",
        input_border_color_dark="*neutral_500",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_hover="*neutral_100",
        checkbox_label_background_fill_hover_dark="*neutral_800",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*neutral_800",
        checkbox_label_text_size="*text_sm",
        button_large_text_size="*text_md",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_600",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
        border_color_primary_dark="*neutral_800",
    )
