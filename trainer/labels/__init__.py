"""What is asked of the models for training: answers, preference labels, and rollouts."""
