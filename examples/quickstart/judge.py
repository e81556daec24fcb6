"""The rule behind the quickstart's data: what makes a good answer to a customer's letter.

``make_data.py`` prefers answers by this rule, and ``evaluate`` uses it as a judge that training
never sees. It reads text only, needs the standard library only, and knows the small world of the
letters: who writes, about which product, with which problem.
"""

from __future__ import annotations

import re

# fmt: off
CUSTOMERS = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ines", "Jon", "Kira", "Liam", "Mona",
    "Nils", "Olga", "Paul", "Rosa", "Sami", "Tara", "Udo", "Vera", "Will", "Yara", "Zoe",
)
AGENTS = ("Alex", "Bea", "Carl", "Dora")
PRODUCTS = (
    "kettle", "lamp", "toaster", "radio", "clock", "heater", "fan", "mixer", "printer", "camera",
    "scale", "phone",
)
# fmt: on

# problem: what customers say of the product; how an answer takes it up; answers that help.
PROBLEMS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "leak": (
        ("leaks", "drips water on my table", "loses water"),
        "leaks",
        ("We will send you a new seal today.", "A new seal is on its way to you."),
    ),
    "late": (
        ("has not arrived yet", "is two weeks late", "never came"),
        "is late",
        ("We will trace your parcel now.", "Our driver is looking for your parcel."),
    ),
    "colour": (
        ("came in the wrong colour", "is green and not blue", "does not have the colour I chose"),
        "has the wrong colour",
        ("We will exchange it for the right colour.", "You can swap the colour in our shop for free."),
    ),
    "bill": (
        ("was charged twice", "is on my bill two times", "cost me twice the price"),
        "was charged twice",
        ("We will pay back the second amount.", "The extra money is back in three days."),
    ),
    "noise": (
        ("makes a loud noise", "hums all night", "is far too loud"),
        "is so loud",
        ("Our technician will visit you this week.", "We will repair it at your home."),
    ),
    "manual": (
        ("came without a manual", "is too hard to set up", "has no manual in the box"),
        "came without a manual",
        ("We will mail you the manual.", "The manual is on our web page."),
    ),
    "broken": (
        ("arrived broken", "has a deep crack", "fell apart on the first day"),
        "is broken",
        ("We will replace it at no cost.", "A new one leaves our store tomorrow."),
    ),
    "praise": (
        ("works very well", "is a real joy", "is the best I ever had"),
        "serves you well",
        ("We will share your kind words with the team.", "The whole team is happy to hear it."),
    ),
}
REGRETS = ("I am sorry that your {product} {clause}.", "We apologise that the {product} {clause}.")
THANKS = ("Thank you for telling us that your {product} {clause}.", "How nice that the {product} {clause}.")
FLAT = ("So the {product} {clause}.", "You say the {product} {clause}.")
RUDE = (
    "That is your own fault.",
    "Stop writing to us.",
    "Only a fool would ask that.",
    "We do not care.",
)
USELESS = (
    "There is nothing we can do.",
    "Our shop opens at nine.",
    "The weather is fine here.",
    "Ask someone else.",
)
CURT = ("Hey,", "Listen,")
GREETINGS = ("Dear {name},", "Hello {name},")
CLOSINGS = ("Kind regards, {agent}", "With best wishes, {agent}")

REMEDY_OF = {remedy: problem for problem, (_, _, remedies) in PROBLEMS.items() for remedy in remedies}
WORDS = (12, 40)  # fewest and most words of a reasonable answer


def score(prompt: str, response: str) -> float:
    """How well ``response`` answers the letter ``prompt``: 0.0 (not at all) to 1.0.

    Five things earn points: a greeting with the customer's name, the right product, the fitting tone
    (regret for a problem, thanks for praise), the one remedy that fits, a polite closing at the very end.
    Rudeness, repetition, other products, a second remedy, sentences that are no use or no sentence of
    this world, and answers far too short or long cost points.

    Raises:
        ValueError: ``prompt`` is no letter of this world.
    """
    name, product, problem = understand(prompt)
    greeting, sentences, closing = dissect(response)
    clause = PROBLEMS[problem][1]
    tone = {
        form.format(product=product, clause=clause) for form in (THANKS if problem == "praise" else REGRETS)
    }
    flat = {form.format(product=product, clause=clause) for form in FLAT}
    remedies = [REMEDY_OF[sentence] for sentence in sentences if sentence in REMEDY_OF]
    named = {word for word in re.findall(r"[a-z]+", response) if word in PRODUCTS}

    points = 0.15 * (greeting == name)
    points += 0.15 * (named == {product})
    points += 0.20 * any(sentence in tone for sentence in sentences)
    points += 0.30 * (remedies == [problem])
    points += 0.20 * closing

    useful = tone | flat | REMEDY_OF.keys()
    points -= 0.30 * sum(response.count(phrase) for phrase in RUDE)
    points -= 0.10 * sum(sentence not in useful and sentence not in RUDE for sentence in sentences)
    points -= 0.20 * (len(sentences) - len(set(sentences)))
    points -= 0.15 * (not WORDS[0] <= len(response.split()) <= WORDS[1])
    return min(max(points, 0.0), 1.0)


def understand(prompt: str) -> tuple[str, str, str]:
    """Customer, product and problem of a letter.

    Raises:
        ValueError: one of them is missing.
    """
    name = next((name for name in CUSTOMERS if re.search(rf"\b{name}\b", prompt)), None)
    product = next((product for product in PRODUCTS if re.search(rf"\b{product}\b", prompt)), None)
    problem = next(
        (key for key, (said, _, _) in PROBLEMS.items() if any(words in prompt for words in said)), None
    )
    if name is None or product is None or problem is None:
        raise ValueError(f"not a letter of this world: {prompt!r}")
    return name, product, problem


def dissect(response: str) -> tuple[str | None, list[str], bool]:
    """Name in the greeting (None without one), sentences between, whether it closes politely at its end."""
    text = response.strip()
    greeting = re.match(rf"(?:(?:Dear|Hello) (\w+),|{'|'.join(CURT)})\s*", text)
    body = text[greeting.end() :] if greeting else text
    closing = re.search(rf"(?:Kind regards|With best wishes), (?:{'|'.join(AGENTS)})$", body)
    body = body[: closing.start()] if closing else body
    sentences = [sentence.strip() for sentence in re.findall(r"[^.!?]+[.!?]?", body) if sentence.strip()]
    return greeting.group(1) if greeting else None, sentences, closing is not None
