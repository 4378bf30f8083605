"""The page's server: gradio behind the guard, checks of its calls, and the few parts of gradio that are replaced."""
