"""A batch in progress: its rows and slots, what is revealed of both models, and the verification of drafts."""
