"""Openings of children's stories, one a line: prompts for ``stratagem fit data=self``.

python examples/story_openings.py > openings.txt
stratagem fit lm=PATH data=self path=openings.txt latents.z.K=4
"""

from itertools import product

WHO = (
    "a little girl named Lily",
    "a boy named Tim",
    "a small brown dog",
    "an old man with a hat",
    "a cat named Kitty",
    "a big green frog",
    "a girl named Sue",
    "a little bird",
    "two friends, Tom and Anna",
    "a funny clown",
)
WHERE = ("the park", "the forest", "a big house", "the garden", "the sea", "a farm")
OPENINGS = (
    "Once upon a time, there was {who} near {where}.",
    "One day, {who} went to {where} and",
    "There once was {who} who loved {where}.",
    "In {where}, {who} saw something",
)


def openings() -> list[str]:
    """Every opening with every hero and place."""
    return [text.format(who=who, where=where) for text, who, where in product(OPENINGS, WHO, WHERE)]


if __name__ == "__main__":
    print("\n".join(openings()))
