"""The browser page, made with gradio from the events of the engine; it never imports torch."""
