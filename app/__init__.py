"""The browser page. Knows gradio, plotly's figure format and the engine's events; never torch."""
