"""What tests of Tune share: four questions with their answers, and eighty more."""

QUESTIONS = [
    ("Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?", "26"),
    ("Mia has 12 shells. Mia finds 7 more. A friend brings 5. How many shells are there now?", "24"),
    ("Tom has 30 apples. Tom gives away 8. Tom finds 4 more. How many apples are there now?", "26"),
    ("Ann has $40. Ann earns $25. Ann spends $6. How much money is it now?", "59"),
]
CSV = "prompt,answer\n" + "\n".join(f"{prompt},{answer}" for prompt, answer in QUESTIONS)
MANY = "\n".join(QUESTIONS[0][0].replace("20", str(n)) for n in range(20, 100))
