"""Whether a text gives the right answer: one grader for the trainer, which knows the question, and the page."""

from engine.grading.answer import RULE, Family, Gradable, final_answer, grade, grade_arithmetic, is_right

__all__ = ["RULE", "Family", "Gradable", "final_answer", "grade", "grade_arithmetic", "is_right"]
