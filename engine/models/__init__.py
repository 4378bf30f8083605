"""From the name of a pair, model or router to files on this disk, and to loaded models."""
