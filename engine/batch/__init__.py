"""A batch in progress: its texts and slots, what is read for them, and the verification of drafts."""
