"""What a text is worth, to the trainer and the page: whether it is right, or how much of it is the LLM's own text."""

from engine.grading.agreement import agreement
from engine.grading.answer import RULE, Family, Gradable, grade, is_right

__all__ = ["RULE", "Family", "Gradable", "agreement", "grade", "is_right"]
