"""Questions of every task: their fields, their prompts, and where they come from."""
