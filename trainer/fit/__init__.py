"""From labels and rollouts to a router with its model card."""
